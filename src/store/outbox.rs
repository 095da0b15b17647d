//! The messages that the broker has not acknowledged: kept with their events, in one commit, and
//! deleted when they have arrived, or when there are too many.

use rusqlite::{Connection, params};

use super::database::{Database, StoreError};
use crate::signal::Event;

/// Name of the counter of messages that were given up.
const DROPPED: &str = "dropped_messages";

/// A message that is to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// Under which it is kept.
    pub sequence: i64,
    pub event: Event,
}

impl Database {
    /// The oldest `limit` messages that were not acknowledged, in the order they were kept. One that
    /// can't be read is deleted and counted.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn pending(&mut self, limit: usize) -> Result<Vec<Pending>, StoreError> {
        let query = "SELECT sequence, message FROM outbox ORDER BY sequence LIMIT ?1";
        let found = {
            let mut statement = self.connection.prepare(query)?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement.query_map([limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<Result<Vec<(i64, String)>, _>>()?
        };
        let mut pending = Vec::with_capacity(found.len());
        let mut unreadable = Vec::new();
        for (sequence, message) in found {
            match serde_json::from_str(&message) {
                Ok(event) => pending.push(Pending { sequence, event }),
                Err(_) => unreadable.push(sequence),
            }
        }
        self.settle_messages(&[], &unreadable)?;
        Ok(pending)
    }

    /// Deletes messages that arrived, and those that were given up, which are counted.
    ///
    /// # Errors
    /// When nothing was committed.
    pub fn settle_messages(&mut self, arrived: &[i64], dropped: &[i64]) -> Result<(), StoreError> {
        if arrived.is_empty() && dropped.is_empty() {
            return Ok(());
        }
        let step = self.connection.transaction()?;
        for sequence in arrived.iter().chain(dropped) {
            step.execute("DELETE FROM outbox WHERE sequence = ?1", [sequence])?;
        }
        add(&step, DROPPED, dropped.len())?;
        step.commit()?;
        Ok(())
    }

    /// Deletes the oldest messages beyond `max`, and counts them. Returns how many there were.
    ///
    /// # Errors
    /// When nothing was committed.
    pub fn limit_messages(&mut self, max: usize) -> Result<usize, StoreError> {
        let step = self.connection.transaction()?;
        let change = "DELETE FROM outbox WHERE sequence IN \
            (SELECT sequence FROM outbox ORDER BY sequence DESC LIMIT -1 OFFSET ?1)";
        let dropped = step.execute(change, [i64::try_from(max).unwrap_or(i64::MAX)])?;
        add(&step, DROPPED, dropped)?;
        step.commit()?;
        Ok(dropped)
    }

    /// Messages that were given up since the database was made.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn dropped_messages(&self) -> Result<i64, StoreError> {
        let query = "SELECT coalesce(sum(value), 0) FROM counter WHERE name = ?1";
        Ok(self.connection.query_row(query, [DROPPED], |row| row.get(0))?)
    }
}

/// Keeps a message; the number is that of its place.
pub(super) fn keep(connection: &Connection, event: &Event) -> Result<i64, StoreError> {
    let message =
        serde_json::to_string(event).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let change = "INSERT INTO outbox (event, message) VALUES (?1, ?2)";
    connection.execute(change, params![event.id.to_string(), message])?;
    Ok(connection.last_insert_rowid())
}

fn add(connection: &Connection, name: &str, count: usize) -> Result<(), StoreError> {
    if count > 0 {
        let change = "INSERT INTO counter VALUES (?1, ?2) \
            ON CONFLICT (name) DO UPDATE SET value = value + excluded.value";
        connection.execute(change, params![name, i64::try_from(count).unwrap_or(i64::MAX)])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::events::EventFilter;
    use super::super::tests::{database, event};
    use super::*;
    use crate::signal::{EventId, Phase};

    #[test]
    fn messages_stay_until_they_arrive_and_in_order() {
        let (folder, mut database) = database();
        let events: Vec<Event> =
            (0..5).map(|start| event(EventId::new(), Phase::Start, start, None)).collect();
        database.record(&events, true).unwrap();
        drop(database);
        let path = folder.path().join("hearken.db");
        let mut database = Database::open(&path).unwrap().database;
        let pending = database.pending(100).unwrap();
        let first = pending[0].sequence;
        let numbers = |pending: &[Pending]| -> Vec<i64> {
            pending.iter().map(|kept| kept.sequence - first).collect()
        };
        assert_eq!(numbers(&pending), [0, 1, 2, 3, 4]);
        assert_eq!(pending.iter().map(|p| p.event.clone()).collect::<Vec<_>>(), events);
        database.settle_messages(&[first, first + 2], &[first + 1]).unwrap();
        let left = numbers(&database.pending(100).unwrap());
        assert_eq!((left, database.dropped_messages().unwrap()), (vec![3, 4], 1));
        let rows = database.events(&EventFilter::default(), 10).unwrap();
        let delivered: Vec<bool> = rows.iter().map(|row| row.delivered).collect();
        assert_eq!(delivered, [true, true, true, false, false]);
        // A number is never given twice, even after everything has arrived.
        database.settle_messages(&[first + 3, first + 4], &[]).unwrap();
        let next = database.record(&[event(EventId::new(), Phase::Start, 9, None)], true).unwrap();
        assert_eq!(next, [Some(first + 5)]);
    }

    #[test]
    fn too_many_messages_go_oldest_first_and_are_counted() {
        let (_folder, mut database) = database();
        let events: Vec<Event> =
            (0..9).map(|start| event(EventId::new(), Phase::Start, start, None)).collect();
        database.record(&events, true).unwrap();
        assert_eq!(database.limit_messages(6).unwrap(), 3);
        assert_eq!(database.limit_messages(6).unwrap(), 0);
        assert_eq!(database.pending(2).unwrap()[0].event, events[3]);
        assert_eq!(database.dropped_messages().unwrap(), 3);
    }

    #[test]
    fn a_message_that_is_none_is_not_in_the_way() {
        let (_folder, mut database) = database();
        database.record(&[event(EventId::new(), Phase::Start, 1, None)], true).unwrap();
        database.connection.execute("UPDATE outbox SET message = '{\"id\": 3}'", []).unwrap();
        assert_eq!(database.pending(10).unwrap(), []);
        assert_eq!(database.dropped_messages().unwrap(), 1);
    }
}
