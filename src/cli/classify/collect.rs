//! Paths to files: folders are searched, in the order of their names.

use std::path::{Path, PathBuf};

use crate::cli::{Outcome, output};
use crate::data::files::{AUDIO_ENDINGS, has_ending, search};

/// The files behind `paths`: from a folder what its name says is audio or a picture, and a file
/// named by itself whatever its name. What can't be read is said, and makes the outcome a partial
/// one.
pub fn files(paths: &[PathBuf]) -> (Vec<PathBuf>, Outcome) {
    let wanted = |path: &Path| has_ending(path, &AUDIO_ENDINGS) || has_ending(path, &["png"]);
    let mut files = Vec::new();
    let mut outcome = Outcome::Done;
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        let mut problems = Vec::new();
        search(path, &wanted, &mut files, &mut |folder, error| {
            problems.push(format!("{}: {error}", folder.display()));
        });
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
