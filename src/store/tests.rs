//! What the store's tests share.

use super::Database;
use crate::signal::{Event, EventId, Phase, Timestamp};

/// A new database, and the folder that it lies in.
pub(super) fn database() -> (tempfile::TempDir, Database) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&folder.path().join("hearken.db")).unwrap().database;
    (folder, database)
}

/// A dog or a siren, by its start.
pub(super) fn event(id: EventId, phase: Phase, start_s: i64, end_s: Option<i64>) -> Event {
    let at = |seconds: i64| Timestamp::from_nanos(seconds * 1_000_000_000);
    Event {
        id,
        phase,
        node: "attic".into(),
        source: "door".into(),
        class: if start_s % 2 == 0 { "dog" } else { "siren" }.into(),
        start: at(start_s),
        end: end_s.map(at),
        score_peak: 0.5 + start_s as f32 / 1000.0,
        score_mean: 0.5,
        level_dbfs: -20.0,
        model: "m".into(),
    }
}
