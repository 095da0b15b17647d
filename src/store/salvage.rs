//! What can still be read in a damaged database: the messages that the broker has not got.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;

use super::database::Database;
use crate::signal::Event;

/// The newest `max` messages of a damaged database, oldest first, as far as they can be read: from the
/// back up to the damage, and from the front up to it. Nothing is changed.
pub fn salvaged_messages(path: &Path, max: usize) -> Vec<Event> {
    let mut found = BTreeMap::new();
    if let Ok(database) = Database::read(path) {
        for order in ["ASC", "DESC"] {
            // What can't be read ends the walk, and is what was expected.
            let _ = walk(&database.connection, order, max, &mut found);
        }
    }
    let older = found.len().saturating_sub(max);
    found.into_values().skip(older).collect()
}

fn walk(
    connection: &Connection,
    order: &str,
    max: usize,
    found: &mut BTreeMap<i64, Event>,
) -> Result<(), rusqlite::Error> {
    let query =
        format!("SELECT sequence, message FROM outbox ORDER BY sequence {order} LIMIT {max}");
    let mut statement = connection.prepare(&query)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (sequence, message): (i64, String) = (row.get(0)?, row.get(1)?);
        if let Ok(event) = serde_json::from_str(&message) {
            found.insert(sequence, event);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{database, event};
    use super::*;
    use crate::signal::{EventId, Phase};

    #[test]
    fn messages_around_the_damage_are_found_and_noise_has_none() {
        let (folder, mut database) = database();
        let path = folder.path().join("hearken.db");
        let starts: Vec<Event> =
            (0..400).map(|n| event(EventId::new(), Phase::Start, n, None)).collect();
        database.record(&starts, true).unwrap();
        database.settle();
        assert_eq!(salvaged_messages(&path, 1_000), starts);
        assert_eq!(salvaged_messages(&path, 3), starts[397..]);
        drop(database);
        // A piece in the middle of a page that holds some of them becomes noise.
        let mut bytes = std::fs::read(&path).unwrap();
        let id = starts[200].id.to_string();
        let message = |window: &[u8]| window.starts_with(b"{") && window.ends_with(id.as_bytes());
        let at = bytes.windows(7 + id.len()).position(message).unwrap();
        let page = at / 4_096 * 4_096;
        bytes[page..page + 2_048].fill(0xFF);
        std::fs::write(&path, &bytes).unwrap();
        let found = salvaged_messages(&path, 1_000);
        assert!((300..400).contains(&found.len()), "{} of 400", found.len());
        assert_eq!((found.first(), found.last()), (starts.first(), starts.last()));
        std::fs::write(&path, vec![7; 9_000]).unwrap();
        assert_eq!(salvaged_messages(&path, 1_000), []);
        assert_eq!(salvaged_messages(&folder.path().join("none"), 9), []);
    }
}
