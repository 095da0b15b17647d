//! Paths to files: folders are searched, in the order of their names.

use std::path::{Path, PathBuf};

use crate::cli::{Outcome, output};

/// Endings of what is taken from a folder; a file named by itself is taken whatever its name.
const ENDINGS: [&str; 10] =
    ["wav", "wave", "flac", "mp3", "ogg", "oga", "aif", "aiff", "aifc", "png"];
/// Folders within folders deeper than this are not searched: a link may lead in circles.
const DEPTH_MAX: usize = 32;

/// The files behind `paths`. What can't be read is said, and makes the outcome a partial one.
pub fn files(paths: &[PathBuf]) -> (Vec<PathBuf>, Outcome) {
    let mut files = Vec::new();
    let mut outcome = Outcome::Done;
    for path in paths {
        let found = if path.is_dir() {
            let before = files.len();
            search(path, 0, &mut files).map(|()| files.len() > before)
        } else {
            files.push(path.clone());
            Ok(true)
        };
        match found {
            Ok(true) => {}
            Ok(false) => {
                output::complain(&format!("{}: no audio file in this folder", path.display()));
                outcome = Outcome::SomeFailed;
            }
            Err(error) => {
                output::complain(&format!("{}: {error}", path.display()));
                outcome = Outcome::SomeFailed;
            }
        }
    }
    (files, outcome)
}

fn search(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            if depth < DEPTH_MAX {
                search(&entry, depth + 1, files)?;
            }
        } else if is_known(&entry) {
            files.push(entry);
        }
    }
    Ok(())
}

fn is_known(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}
