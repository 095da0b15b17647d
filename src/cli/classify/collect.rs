//! Paths to files: folders are searched, in the order of their names.

use std::path::{Path, PathBuf};

use crate::cli::{Outcome, output};

/// Endings of what is taken from a folder; a file named by itself is taken whatever its name.
const ENDINGS: [&str; 10] =
    ["wav", "wave", "flac", "mp3", "ogg", "oga", "aif", "aiff", "aifc", "png"];
/// Folders within folders deeper than this are not searched.
const DEPTH_MAX: usize = 32;

/// The files behind `paths`. What can't be read is said, and makes the outcome a partial one.
pub fn files(paths: &[PathBuf]) -> (Vec<PathBuf>, Outcome) {
    let mut files = Vec::new();
    let mut outcome = Outcome::Done;
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        let mut problems = Vec::new();
        search(path, 0, &mut files, &mut problems);
        if files.len() == before && problems.is_empty() {
            problems.push(format!("{}: no audio file in this folder", path.display()));
        }
        for problem in problems {
            output::complain(&problem);
            outcome = Outcome::SomeFailed;
        }
    }
    (files, outcome)
}

/// Searches a folder. Links to folders are not followed: they may lead in circles.
fn search(folder: &Path, depth: usize, files: &mut Vec<PathBuf>, problems: &mut Vec<String>) {
    let entries: std::io::Result<Vec<std::fs::DirEntry>> =
        std::fs::read_dir(folder).and_then(Iterator::collect);
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(error) => return problems.push(format!("{}: {error}", folder.display())),
    };
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && depth < DEPTH_MAX {
            search(&path, depth + 1, files, problems);
        } else if is_known(&path) && path.is_file() {
            files.push(path);
        }
    }
}

fn is_known(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}
