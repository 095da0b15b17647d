//! Where takes are put: a folder for the label, with numbers that go on from what is there.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cli::output;

/// The folder of one label.
pub struct Shelf {
    folder: PathBuf,
    label: String,
    next: u64,
}

impl Shelf {
    /// Looks at what is there. The folder is only made for the first take.
    pub fn new(out: &Path, label: &str) -> anyhow::Result<Self> {
        let folder = out.join(label);
        let shown = folder.display();
        let mut next = 1;
        match std::fs::read_dir(&folder) {
            Ok(entries) => {
                for entry in entries {
                    let path = entry.with_context(|| format!("{shown}"))?.path();
                    next = next.max(number(&path, label).map_or(0, |number| number + 1));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("{shown}")),
        }
        Ok(Self { label: label.to_owned(), next, folder })
    }

    /// The folder of the takes.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts a file under the next number; its name.
    pub fn put(&mut self, wav: &[u8]) -> anyhow::Result<String> {
        let folder = &self.folder;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{} can't be made", folder.display()))?;
        let name = format!("{}-{:03}.wav", self.label, self.next);
        output::write_file(&folder.join(&name), wav, false)?;
        self.next += 1;
        Ok(name)
    }
}

/// The number in `LABEL-NUMBER.ending`, whatever the ending.
fn number(path: &Path, label: &str) -> Option<u64> {
    let digits = path.file_stem()?.to_str()?.strip_prefix(label)?.strip_prefix('-')?;
    digits.parse().ok().filter(|&number: &u64| number < u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_and_nothing_is_overwritten() {
        let out = tempfile::tempdir().unwrap();
        assert_eq!(Shelf::new(out.path(), "bell").unwrap().put(b"1").unwrap(), "bell-001.wav");
        let folder = out.path().join("bell");
        for name in ["bell-1000.flac", "bell-x.wav", "doorbell-2000.wav", "notes.txt"] {
            std::fs::write(folder.join(name), b"mine").unwrap();
        }
        let mut shelf = Shelf::new(out.path(), "bell").unwrap();
        assert_eq!(shelf.put(b"2").unwrap(), "bell-1001.wav");
        // Somebody else was faster.
        std::fs::write(folder.join("bell-1002.wav"), b"mine").unwrap();
        assert!(shelf.put(b"3").unwrap_err().to_string().contains("exists already"));
        assert_eq!(std::fs::read(folder.join("bell-1002.wav")).unwrap(), b"mine");
    }

    #[test]
    fn no_folder_is_made_before_the_first_take() {
        let out = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(out.path(), "bell").unwrap();
        assert!(!shelf.folder().exists());
    }
}
