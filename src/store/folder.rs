//! The state folder: where it is, who may see it, and that one daemon alone writes to it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The state folder of the system service.
const SERVICE_FOLDER: &str = "/var/lib/hearken";

/// Why a state folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(
        "the state folder {} is used by another hearken (process {holder}); give this one another \
         store.folder", folder.display()
    )]
    Taken { folder: PathBuf, holder: String },
    #[error("the state folder {} can't be used: {error}", folder.display())]
    Unusable { folder: PathBuf, error: io::Error },
}

/// Held as long as the daemon runs; the kernel lets go of it with the process.
pub struct FolderLock {
    _file: File,
}

/// Makes the folder, for its owner alone, if there is none.
///
/// # Errors
/// When that is not allowed, or something else is in its place.
pub fn prepare_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

impl FolderLock {
    /// Takes the folder, which is made if there is none.
    ///
    /// # Errors
    /// When another process has it, or nothing can be written there.
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let unusable = |error| LockError::Unusable { folder: folder.to_owned(), error };
        prepare_folder(folder).map_err(unusable)?;
        let path = folder.join("hearken.lock");
        let mut options = fs::OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(0o600);
        let mut file = options.open(&path).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
                return Err(LockError::Taken { folder: folder.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        // Only for the message above; a full disk is no reason not to listen.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

/// Where commands look for a daemon's state when nobody says where: the user's own folder, or else
/// the service's.
pub fn found_folder(own: &Path) -> PathBuf {
    let service = Path::new(SERVICE_FOLDER);
    let has_state = |folder: &Path| folder.join("hearken.db").exists();
    if !has_state(own) && has_state(service) { service.to_owned() } else { own.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn one_process_has_a_folder_and_others_are_told_which() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("a/b");
        let lock = FolderLock::take(&folder).unwrap();
        let mode = fs::metadata(&folder).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700);
        let second = FolderLock::take(&folder).err().unwrap().to_string();
        assert!(second.contains(&std::process::id().to_string()), "{second}");
        drop(lock);
        FolderLock::take(&folder).unwrap();
        fs::write(base.path().join("file"), "").unwrap();
        let error = FolderLock::take(&base.path().join("file")).err().unwrap();
        assert!(matches!(error, LockError::Unusable { .. }), "{error}");
    }
}
