//! How much is kept, and where.

use std::path::PathBuf;

/// The store's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// False: events are published, but not kept beyond the process.
    pub enabled: bool,
    /// The state folder: the database, the socket and, by default, the clips.
    pub folder: PathBuf,
    /// Events that ended longer ago are deleted.
    pub keep_days: u32,
    /// The oldest events are deleted when the database grows beyond this.
    pub size_max_bytes: u64,
}

impl StoreSettings {
    /// The database's file.
    pub fn database(&self) -> PathBuf {
        self.folder.join("hearken.db")
    }

    /// Where the daemon can be asked.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("hearken.sock")
    }
}

/// Classes of which no sound is kept unless the configuration says otherwise: voices.
pub const NEVER_RECORD: [&str; 6] =
    ["speech", "conversation", "singing", "laughing", "crying_baby", "children_playing"];

/// Which sounds are kept, and how many.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipSettings {
    pub folder: PathBuf,
    /// Seconds kept before an event's start and after its end.
    pub before_s: f32,
    pub after_s: f32,
    /// Of a longer event, so much from its beginning is kept.
    pub length_max_s: f32,
    /// The oldest clips are deleted beyond this.
    pub size_max_bytes: u64,
    /// Classes of which clips are kept; empty: all but those of `never_record`.
    pub classes: Vec<String>,
    /// Classes of which none are kept, whatever `classes` says.
    pub never_record: Vec<String>,
}

impl ClipSettings {
    /// Whether sounds of a class are kept.
    pub fn keeps(&self, class: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|name| name == class);
        !named(&self.never_record) && (self.classes.is_empty() || named(&self.classes))
    }
}
