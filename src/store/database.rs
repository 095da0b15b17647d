//! The database's file: opened, checked, and when it is damaged moved aside for a new one.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::schema;
use crate::signal::Timestamp;

/// How long another process (`hearken events`) may keep a write waiting.
const BUSY: Duration = Duration::from_secs(2);
/// The write-ahead log is copied back into the database beyond so many pages of 4 KiB.
const CHECKPOINT_PAGES: u32 = 250;
/// Memory for pages that were used: more than a commit touches. It fills as the database grows, and
/// then stays.
const CACHE_KIB: i32 = 512;
/// What SQLite keeps beside a database.
const COMPANIONS: [&str; 3] = ["", "-wal", "-shm"];

/// Why the store can't be used, named for what happens next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is no database, or parts of it are not what was written: it is moved aside.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// Written by a later version, which must be used to read it.
    #[error(
        "the database has version {found}, and this program knows versions up to {known}: use a \
         newer hearken, or move the file away"
    )]
    Newer { found: usize, known: usize },
    /// A full or read-only disk, missing permission, a file that is locked: it may pass.
    #[error("the database can't be used: {0}")]
    Unavailable(String),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let damaged = [ErrorCode::DatabaseCorrupt, ErrorCode::NotADatabase];
        match error.sqlite_error_code() {
            Some(code) if damaged.contains(&code) => Self::Damaged(error.to_string()),
            // What is in a column is not what we write there.
            None if matches!(error, rusqlite::Error::FromSqlConversionFailure(..)) => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

/// An open database.
pub struct Database {
    pub(super) connection: Connection,
    path: PathBuf,
    /// Device and number of the file that was opened.
    identity: (u64, u64),
}

/// A database, and what had to be done for it.
pub struct Opened {
    pub database: Database,
    /// Where a damaged one went, and what was wrong with it.
    pub moved_aside: Option<(PathBuf, String)>,
}

impl Database {
    /// Opens the database for writing and creates it if there is none. A damaged one is moved
    /// aside, and a new one begun.
    ///
    /// # Errors
    /// When there can't be one at all.
    pub fn open(path: &Path) -> Result<Opened, StoreError> {
        match Self::open_checked(path) {
            Ok(database) => Ok(Opened { database, moved_aside: None }),
            Err(StoreError::Damaged(why)) => {
                let aside = move_aside(path)?;
                let database = Self::open_checked(path)?;
                Ok(Opened { database, moved_aside: Some((aside, why)) })
            }
            Err(error) => Err(error),
        }
    }

    fn open_checked(path: &Path) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path)?;
        let unavailable = |error: std::io::Error| StoreError::Unavailable(error.to_string());
        // What was heard in a home is nobody else's business.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(unavailable)?;
        connection.busy_timeout(BUSY)?;
        // Before the first table: space is given back as events are deleted.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A commit is on the disk, not on its way there.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        check(&connection)?;
        schema::migrate(&mut connection, Timestamp::now().as_nanos() / 1000)?;
        let identity = identity(path)
            .ok_or_else(|| StoreError::Unavailable(format!("{} has gone again", path.display())))?;
        Ok(Self { connection, path: path.to_owned(), identity })
    }

    /// Opens a database that is there, for reading alone.
    ///
    /// # Errors
    /// When there is none, or it can't be read; nothing is changed.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let missing = || StoreError::Unavailable(format!("there is no {}", path.display()));
        let identity = identity(path).ok_or_else(missing)?;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        Ok(Self { connection, path: path.to_owned(), identity })
    }

    /// Whether its tables have been made; not in the first moments of a new one.
    pub fn has_tables(&self) -> bool {
        let version = self.connection.pragma_query_value(None, "user_version", |row| row.get(0));
        version.is_ok_and(|version: i64| version > 0)
    }

    /// Whether the file at its path is still the one that was opened; not when the folder was
    /// removed, or another disk lies over it.
    pub fn is_in_place(&self) -> bool {
        identity(&self.path) == Some(self.identity)
    }

    /// Copies the write-ahead log back, so that the database is one file again.
    pub fn settle(&self) {
        // If it can't be done now, the next opening does it.
        let _ = self.connection.pragma_update(None, "wal_checkpoint", "TRUNCATE");
    }
}

fn check(connection: &Connection) -> Result<(), StoreError> {
    let found: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(StoreError::Damaged(found)) }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Gives a database and its companions another name. Returns the new one.
fn move_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let at = Timestamp::now().to_string().replace([':', '.'], "-");
    let named = |suffix: &str, companion: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        name.push(companion);
        PathBuf::from(name)
    };
    let suffix = format!(".damaged-{at}");
    for companion in COMPANIONS {
        let from = named("", companion);
        if from.exists() {
            fs::rename(&from, named(&suffix, companion))
                .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        }
    }
    Ok(named(&suffix, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_database_is_private_and_knows_when_it_has_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hearken.db");
        let opened = Database::open(&path).unwrap();
        assert!(opened.moved_aside.is_none());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(opened.database.is_in_place());
        fs::rename(&path, folder.path().join("away")).unwrap();
        assert!(!opened.database.is_in_place());
        fs::write(&path, "").unwrap();
        assert!(!opened.database.is_in_place());
    }

    #[test]
    fn noise_is_moved_aside_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hearken.db");
        let mut random = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(20_000).collect();
        fs::write(&path, &noise).unwrap();
        let opened = Database::open(&path).unwrap();
        let (aside, why) = opened.moved_aside.unwrap();
        assert_eq!(fs::read(aside).unwrap(), noise);
        assert!(why.contains("not a database"), "{why}");
        drop(opened.database);
        assert!(Database::open(&path).unwrap().moved_aside.is_none());
    }

    #[test]
    fn damage_at_any_place_never_panics_and_never_stops_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let good = folder.path().join("good.db");
        drop(Database::open(&good).unwrap());
        let bytes = fs::read(&good).unwrap();
        let mut random = fastrand::Rng::with_seed(5);
        for case in 0..60 {
            let path = folder.path().join(format!("{case}.db"));
            let mut damaged = bytes.clone();
            if case % 2 == 0 {
                damaged.truncate(random.usize(0..bytes.len()));
            } else {
                let at = random.usize(0..bytes.len() - 600);
                damaged[at..at + 600].iter_mut().for_each(|byte| *byte = random.u8(..));
            }
            fs::write(&path, damaged).unwrap();
            let opened = Database::open(&path).unwrap();
            let one: i64 =
                opened.database.connection.query_row("SELECT 1", [], |row| row.get(0)).unwrap();
            assert_eq!(one, 1);
        }
    }

    #[test]
    fn a_newer_database_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hearken.db");
        let database = Database::open(&path).unwrap().database;
        database.connection.pragma_update(None, "user_version", 99).unwrap();
        drop(database);
        let error = Database::open(&path).err().unwrap();
        assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
        assert_eq!(entries(folder.path()), ["hearken.db"]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_no_reason_to_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone/hearken.db");
        assert!(matches!(Database::open(&path).err(), Some(StoreError::Unavailable(_))));
        assert!(matches!(Database::read(&path).err(), Some(StoreError::Unavailable(_))));
    }
}
