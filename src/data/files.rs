//! Folders searched for audio files, in the order of their names.

use std::path::{Path, PathBuf};

use super::columns::DatasetError;

/// Endings of what is taken from a folder, in lower case.
pub const AUDIO_ENDINGS: [&str; 9] =
    ["wav", "wave", "flac", "mp3", "ogg", "oga", "aif", "aiff", "aifc"];

/// Folders within folders deeper than this are not searched.
const DEPTH_MAX: usize = 32;

/// The audio files in a folder and in all folders within.
///
/// # Errors
/// When a folder can't be read, or there is none among its files.
pub fn audio_files(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let (mut files, mut failed) = (Vec::new(), None);
    search(folder, &|path| has_ending(path, &AUDIO_ENDINGS), &mut files, &mut |path, error| {
        failed.get_or_insert(DatasetError::Unreadable { path: path.to_owned(), error });
    });
    match failed {
        Some(error) => Err(error),
        None if files.is_empty() => Err(DatasetError::NoAudio { path: folder.to_owned() }),
        None => Ok(files),
    }
}

/// Whether the file's name ends in one of these, whatever the case.
pub fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| endings.contains(&ending.as_str()))
}

/// Adds the files that are `wanted` and stand in a folder or in the folders within; a folder that
/// can't be read is `refused`. Links to folders are not followed: they may lead in circles.
pub fn search(
    folder: &Path,
    wanted: &dyn Fn(&Path) -> bool,
    files: &mut Vec<PathBuf>,
    refused: &mut dyn FnMut(&Path, std::io::Error),
) {
    descend(folder, 0, wanted, files, refused);
}

fn descend(
    folder: &Path,
    depth: usize,
    wanted: &dyn Fn(&Path) -> bool,
    files: &mut Vec<PathBuf>,
    refused: &mut dyn FnMut(&Path, std::io::Error),
) {
    let entries = match entries(folder) {
        Ok(entries) => entries,
        Err(error) => return refused(folder, error),
    };
    for entry in entries {
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && depth < DEPTH_MAX {
            descend(&path, depth + 1, wanted, files, refused);
        } else if wanted(&path) && path.is_file() {
            files.push(path);
        }
    }
}

/// What stands in a folder, in the order of names.
pub(super) fn entries(folder: &Path) -> std::io::Result<Vec<std::fs::DirEntry>> {
    let mut entries =
        std::fs::read_dir(folder)?.collect::<std::io::Result<Vec<std::fs::DirEntry>>>()?;
    entries.sort_by_key(std::fs::DirEntry::path);
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audio_is_found_in_order_and_by_its_ending() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        for name in ["c.WAV", "b/x.ogg", "a.flac", "b/notes.txt", "picture.png"] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let names: Vec<String> = audio_files(folder.path())
            .unwrap()
            .iter()
            .map(|path| path.strip_prefix(folder.path()).unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["a.flac", "b/x.ogg", "c.WAV"]);
    }

    #[test]
    fn a_folder_without_audio_and_no_folder_at_all_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let error = audio_files(folder.path()).unwrap_err();
        assert!(matches!(error, DatasetError::NoAudio { .. }), "{error}");
        let error = audio_files(&folder.path().join("none")).unwrap_err();
        assert!(matches!(error, DatasetError::Unreadable { .. }), "{error}");
    }
}
