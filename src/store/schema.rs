//! The tables, and how an older database becomes a present one.

use rusqlite::{Connection, Transaction};

use super::database::StoreError;

/// Each entry brings a database from the version of its index to the next.
const MIGRATIONS: [&str; 1] = [FIRST];

/// Times are nanoseconds since 1970 in UTC. `heard_ns` is how far an event was heard to last;
/// `end_ns` is null while it is on. `revision` counts up with each change of any event. `outbox`
/// holds messages that the broker has not acknowledged, oldest first.
const FIRST: &str = "
CREATE TABLE source (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE model (
    id INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    first_used_ns INTEGER NOT NULL
) STRICT;
CREATE TABLE event (
    id TEXT PRIMARY KEY,
    node TEXT NOT NULL,
    source INTEGER NOT NULL REFERENCES source,
    class TEXT NOT NULL,
    start_ns INTEGER NOT NULL,
    heard_ns INTEGER NOT NULL,
    end_ns INTEGER,
    score_peak REAL NOT NULL,
    score_mean REAL NOT NULL,
    level_dbfs REAL NOT NULL,
    model INTEGER NOT NULL REFERENCES model,
    ending TEXT,
    clip TEXT,
    revision INTEGER NOT NULL
) STRICT;
CREATE INDEX event_start ON event (start_ns);
CREATE INDEX event_revision ON event (revision);
CREATE INDEX event_open ON event (id) WHERE end_ns IS NULL;
CREATE TABLE outbox (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    event TEXT NOT NULL,
    message TEXT NOT NULL
) STRICT;
CREATE INDEX outbox_event ON outbox (event);
CREATE TABLE daily (
    day TEXT NOT NULL,
    source INTEGER NOT NULL REFERENCES source,
    class TEXT NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (day, source, class)
) STRICT, WITHOUT ROWID;
CREATE TABLE counter (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// The version that this program writes.
pub(super) const VERSION: usize = MIGRATIONS.len();

/// Brings a database to [`VERSION`], each step whole or not at all. Messages of a new one are numbered
/// from `first` on, so that no two databases of a listener use the same numbers.
///
/// # Errors
/// [`StoreError::Newer`] when it is beyond that already.
pub(super) fn migrate(connection: &mut Connection, first: i64) -> Result<(), StoreError> {
    let found = version(connection)?;
    if found > VERSION {
        return Err(StoreError::Newer { found, known: VERSION });
    }
    for (number, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        let step = connection.transaction()?;
        step.execute_batch(migration)?;
        if number == 0 {
            step.execute("INSERT INTO sqlite_sequence VALUES ('outbox', ?1)", [first - 1])?;
        }
        set_version(&step, number + 1)?;
        step.commit()?;
    }
    Ok(())
}

fn version(connection: &Connection) -> Result<usize, StoreError> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? as usize)
}

fn set_version(step: &Transaction<'_>, version: usize) -> Result<(), StoreError> {
    Ok(step.pragma_update(None, "user_version", version as u32)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_migrated_once_and_a_newer_one_is_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, 1).unwrap();
        assert_eq!(version(&connection).unwrap(), VERSION);
        connection.execute("INSERT INTO counter VALUES ('x', 3)", []).unwrap();
        migrate(&mut connection, 1).unwrap();
        let kept: i64 =
            connection.query_row("SELECT value FROM counter", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, 3);
        connection.pragma_update(None, "user_version", VERSION as u32 + 1).unwrap();
        let error = migrate(&mut connection, 1).unwrap_err();
        assert!(matches!(error, StoreError::Newer { found, .. } if found == VERSION + 1));
    }
}
