//! Events in the database: written as they begin, go on and end; read for people.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params, params_from_iter};
use serde::Serialize;

use super::database::{Database, StoreError};
use crate::signal::{Event, Phase, Timestamp};

/// What of the events is wanted. An empty list is no condition.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    pub classes: Vec<String>,
    pub sources: Vec<String>,
    /// Those that were on at this time or later.
    pub since: Option<Timestamp>,
    /// Those that began before.
    pub until: Option<Timestamp>,
    /// Those whose best score is at least this, 0 to 1.
    pub score_min: Option<f32>,
    /// Those that come before this one, by its id, in the order of their starts.
    pub before: Option<String>,
    /// Those that were changed after this revision, in the order of their changes.
    pub after: Option<i64>,
}

/// An event as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventRow {
    pub id: String,
    pub node: String,
    pub source: String,
    pub class: String,
    pub start: Timestamp,
    /// Absent while it is on.
    pub end: Option<Timestamp>,
    /// How far it was heard to last.
    pub heard: Timestamp,
    pub score_peak: f32,
    pub score_mean: f32,
    pub level_dbfs: f32,
    /// Digest of the model that heard it.
    pub model: String,
    /// Why it ended: `sound` when the sound did (or its source), `restart` when the process ended
    /// without a word, and the end is the last that was heard of it.
    pub ending: Option<String>,
    /// The recording of it, if one was kept, relative to the folder of clips.
    pub clip: Option<String>,
    /// Whether the broker has acknowledged all its messages, or none is to be told.
    pub delivered: bool,
    #[serde(skip)]
    pub revision: i64,
}

const HOUR_NS: i64 = 3_600_000_000_000;

const COLUMNS: &str = "event.id, node, source.name, class, start_ns, end_ns, heard_ns, score_peak, \
    score_mean, level_dbfs, model.digest, ending, clip, revision, \
    NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.event = event.id)";

impl Database {
    /// Commits events, all or none. With `outbox`, starts and ends are kept to be told as well; the
    /// numbers under which they are kept come back, in order, `None` for what is not to be told.
    ///
    /// # Errors
    /// When nothing was committed.
    pub fn record(
        &mut self,
        events: &[Event],
        outbox: bool,
    ) -> Result<Vec<Option<i64>>, StoreError> {
        let step = self.connection.transaction()?;
        let mut sequences = Vec::with_capacity(events.len());
        for event in events {
            write(&step, event, "sound")?;
            let told = outbox && event.phase != Phase::Update;
            sequences.push(if told { Some(super::outbox::keep(&step, event)?) } else { None });
        }
        step.commit()?;
        Ok(sequences)
    }

    /// Ends what an earlier process left open, with the last time it was heard, and keeps the ends
    /// to be told. Returns how many there were.
    ///
    /// # Errors
    /// When nothing was committed.
    pub fn close_left_open(&mut self, outbox: bool) -> Result<usize, StoreError> {
        let step = self.connection.transaction()?;
        let open = rows(&step, "WHERE end_ns IS NULL ORDER BY start_ns", &[])?;
        for row in &open {
            let event = row.ended();
            write(&step, &event, "restart")?;
            if outbox {
                super::outbox::keep(&step, &event)?;
            }
        }
        step.commit()?;
        Ok(open.len())
    }

    /// Notes the recording of an event.
    ///
    /// # Errors
    /// When it was not committed.
    pub fn note_clip(&mut self, id: &str, clip: &str) -> Result<(), StoreError> {
        let change = "UPDATE event SET clip = ?2, revision = (SELECT max(revision) + 1 FROM event) \
            WHERE id = ?1";
        self.connection.execute(change, params![id, clip])?;
        Ok(())
    }

    /// Notes that a recording is gone.
    ///
    /// # Errors
    /// When it was not committed.
    pub fn forget_clip(&mut self, clip: &str) -> Result<(), StoreError> {
        self.connection.execute("UPDATE event SET clip = NULL WHERE clip = ?1", [clip])?;
        Ok(())
    }

    /// The newest `limit` events that the filter lets through, oldest first; with
    /// [`EventFilter::after`] the first `limit` changes.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn events(&self, filter: &EventFilter, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        let (condition, values) = filter.condition();
        let order =
            if filter.after.is_some() { "revision" } else { "start_ns DESC, revision DESC" };
        let tail = format!("{condition} ORDER BY {order} LIMIT {limit}");
        let mut found = rows(&self.connection, &tail, &values)?;
        if filter.after.is_none() {
            found.reverse();
        }
        Ok(found)
    }

    /// One event.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn event(&self, id: &str) -> Result<Option<EventRow>, StoreError> {
        let found = rows(&self.connection, "WHERE event.id = ?", &[id.to_owned().into()])?;
        Ok(found.into_iter().next())
    }

    /// How many of the events that the filter lets through began in each hour (UTC), oldest first;
    /// hours without any are left out.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn hours(&self, filter: &EventFilter) -> Result<Vec<(Timestamp, i64)>, StoreError> {
        let (condition, values) = filter.condition();
        let query = format!(
            "SELECT start_ns / {HOUR_NS} AS hour, count(*) FROM event \
             JOIN source ON source.id = event.source {condition} GROUP BY hour ORDER BY hour"
        );
        let mut statement = self.connection.prepare(&query)?;
        let found = statement.query_map(params_from_iter(values), |row| {
            let hour: i64 = row.get(0)?;
            Ok((Timestamp::from_nanos(hour.saturating_mul(HOUR_NS)), row.get(1)?))
        })?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// The number of the latest change.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn revision(&self) -> Result<i64, StoreError> {
        let query = "SELECT coalesce(max(revision), 0) FROM event";
        Ok(self.connection.query_row(query, [], |row| row.get(0))?)
    }

    /// Events by day (UTC), source and class, oldest first. Kept longer than the events.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn daily(&self) -> Result<Vec<(String, String, String, i64)>, StoreError> {
        let query = "SELECT day, source.name, class, events FROM daily \
            JOIN source ON source.id = daily.source ORDER BY day, source.name, class";
        let mut statement = self.connection.prepare(query)?;
        let found = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        Ok(found.collect::<Result<_, _>>()?)
    }
}

impl EventFilter {
    /// As SQL and its values.
    fn condition(&self) -> (String, Vec<Value>) {
        let mut parts = Vec::new();
        let mut values: Vec<Value> = Vec::new();
        for (column, wanted) in [("class", &self.classes), ("source.name", &self.sources)] {
            if !wanted.is_empty() {
                parts.push(format!("{column} IN ({})", vec!["?"; wanted.len()].join(", ")));
                values.extend(wanted.iter().cloned().map(Value::from));
            }
        }
        let mut compare = |part: &str, value: Option<Value>| {
            if let Some(value) = value {
                parts.push(part.to_owned());
                values.push(value);
            }
        };
        let since = self.since.map(|time| time.as_nanos().into());
        compare("coalesce(end_ns, 9223372036854775807) >= ?", since);
        compare("start_ns < ?", self.until.map(|time| time.as_nanos().into()));
        compare("score_peak >= ?", self.score_min.map(|score| f64::from(score).into()));
        compare(
            "(start_ns, revision) < (SELECT start_ns, revision FROM event WHERE id = ?)",
            self.before.clone().map(Value::from),
        );
        compare("revision > ?", self.after.map(Value::from));
        let condition =
            if parts.is_empty() { String::new() } else { format!("WHERE {}", parts.join(" AND ")) };
        (condition, values)
    }
}

impl EventRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let time = |index| row.get(index).map(Timestamp::from_nanos);
        Ok(Self {
            id: row.get(0)?,
            node: row.get(1)?,
            source: row.get(2)?,
            class: row.get(3)?,
            start: time(4)?,
            end: row.get::<_, Option<i64>>(5)?.map(Timestamp::from_nanos),
            heard: time(6)?,
            score_peak: row.get(7)?,
            score_mean: row.get(8)?,
            level_dbfs: row.get(9)?,
            model: row.get(10)?,
            ending: row.get(11)?,
            clip: row.get(12)?,
            revision: row.get(13)?,
            delivered: row.get(14)?,
        })
    }

    /// The message of its end, at the last time it was heard.
    fn ended(&self) -> Event {
        Event {
            id: self.id.parse().unwrap_or_default(),
            phase: Phase::End,
            node: self.node.as_str().into(),
            source: self.source.as_str().into(),
            class: self.class.as_str().into(),
            start: self.start,
            end: Some(self.heard),
            score_peak: self.score_peak,
            score_mean: self.score_mean,
            level_dbfs: self.level_dbfs,
            model: self.model.as_str().into(),
        }
    }
}

fn rows(
    connection: &Connection,
    tail: &str,
    values: &[Value],
) -> Result<Vec<EventRow>, StoreError> {
    let query = format!(
        "SELECT {COLUMNS} FROM event JOIN source ON source.id = event.source \
         JOIN model ON model.id = event.model {tail}"
    );
    let mut statement = connection.prepare(&query)?;
    let found = statement.query_map(params_from_iter(values), EventRow::read)?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Writes what is known of an event now, over what was known before. An end without a start, which
/// another database has, is an event as well.
fn write(connection: &Connection, event: &Event, ending: &str) -> Result<(), StoreError> {
    let source = source_number(connection, &event.source)?;
    let model = model_number(connection, event)?;
    let heard = event.end.unwrap_or(event.start).max(event.start);
    let end = (event.phase == Phase::End).then_some(heard.as_nanos());
    let change = "INSERT INTO event (id, node, source, class, start_ns, heard_ns, end_ns, score_peak, \
            score_mean, level_dbfs, model, ending, revision) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, \
            (SELECT coalesce(max(revision), 0) + 1 FROM event)) \
        ON CONFLICT (id) DO UPDATE SET heard_ns = excluded.heard_ns, end_ns = coalesce(excluded.end_ns, end_ns), \
            score_peak = excluded.score_peak, score_mean = excluded.score_mean, \
            level_dbfs = excluded.level_dbfs, ending = coalesce(excluded.ending, ending), \
            revision = excluded.revision";
    let id = event.id.to_string();
    let is_known: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM event WHERE id = ?1)",
        [&id],
        |row| row.get(0),
    )?;
    connection.execute(
        change,
        params![
            id,
            &*event.node,
            source,
            &*event.class,
            event.start.as_nanos(),
            heard.as_nanos(),
            end,
            event.score_peak,
            event.score_mean,
            event.level_dbfs,
            model,
            end.map(|_| ending),
        ],
    )?;
    if !is_known {
        count(connection, event, source)?;
    }
    Ok(())
}

/// One more of its class on its day.
fn count(connection: &Connection, event: &Event, source: i64) -> Result<(), StoreError> {
    let start = event.start.to_string();
    let day = start.get(..10).unwrap_or_default();
    let change = "INSERT INTO daily VALUES (?1, ?2, ?3, 1) \
        ON CONFLICT (day, source, class) DO UPDATE SET events = events + 1";
    connection.execute(change, params![day, source, &*event.class])?;
    Ok(())
}

/// The number of a source, which gets one if it has none.
fn source_number(connection: &Connection, name: &str) -> Result<i64, StoreError> {
    connection.execute("INSERT OR IGNORE INTO source (name) VALUES (?1)", [name])?;
    let query = "SELECT id FROM source WHERE name = ?1";
    Ok(connection.query_row(query, [name], |row| row.get(0))?)
}

/// The number of a model, which gets one if it has none.
fn model_number(connection: &Connection, event: &Event) -> Result<i64, StoreError> {
    let change = "INSERT OR IGNORE INTO model (digest, first_used_ns) VALUES (?1, ?2)";
    connection.execute(change, params![&*event.model, event.start.as_nanos()])?;
    let query = "SELECT id FROM model WHERE digest = ?1";
    Ok(connection.query_row(query, [&*event.model], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{database, event};
    use super::*;
    use crate::signal::EventId;

    #[test]
    fn an_event_is_one_row_through_its_life() {
        let (_folder, mut database) = database();
        let id = EventId::new();
        let states = [(Phase::Start, None), (Phase::Update, Some(14)), (Phase::End, Some(15))];
        let mut sequences = Vec::new();
        for (phase, end) in states {
            sequences.extend(database.record(&[event(id, phase, 10, end)], true).unwrap());
            let rows = database.events(&EventFilter::default(), 10).unwrap();
            assert_eq!(rows.len(), 1);
            let seconds = rows[0].heard.seconds_since(rows[0].start);
            assert_eq!(seconds, end.map_or(0.0, |end| (end - 10) as f64));
            assert_eq!(rows[0].end.is_some(), phase == Phase::End);
            assert_eq!(rows[0].ending.as_deref(), (phase == Phase::End).then_some("sound"));
            assert!(!rows[0].delivered);
        }
        let first = sequences[0].unwrap();
        assert_eq!(sequences, [Some(first), None, Some(first + 1)]);
        let daily = database.daily().unwrap();
        assert_eq!(daily, [("1970-01-01".to_owned(), "door".to_owned(), "dog".to_owned(), 1)]);
        database.note_clip(&id.to_string(), "a.flac").unwrap();
        let row = database.events(&EventFilter::default(), 1).unwrap().remove(0);
        assert_eq!((row.clip.as_deref(), row.revision), (Some("a.flac"), 4));
        database.forget_clip("a.flac").unwrap();
        assert_eq!(database.events(&EventFilter::default(), 1).unwrap()[0].clip, None);
    }

    #[test]
    fn filters_choose_and_changes_are_followed() {
        let (_folder, mut database) = database();
        for start in 0..100 {
            let events = [
                event(EventId::new(), Phase::Start, start, None),
                event(EventId::new(), Phase::End, start, Some(start + 3)),
            ];
            database.record(&events, false).unwrap();
        }
        let count = |filter: &EventFilter| database.events(filter, 1000).unwrap().len();
        let at = |seconds: i64| Some(Timestamp::from_nanos(seconds * 1_000_000_000));
        assert_eq!(count(&EventFilter::default()), 200);
        let dogs = EventFilter { classes: vec!["dog".to_owned()], ..EventFilter::default() };
        assert_eq!(count(&dogs), 100);
        let none = EventFilter { sources: vec!["yard".to_owned()], ..EventFilter::default() };
        assert_eq!(count(&none), 0);
        // On at 90 or later: all that never ended, and those that ended at 90 or later.
        let since = EventFilter { since: at(90), ..EventFilter::default() };
        assert_eq!(count(&since), 100 + 13);
        let until = EventFilter { until: at(10), ..EventFilter::default() };
        assert_eq!(count(&until), 20);
        let sure = EventFilter { score_min: Some(0.59), ..EventFilter::default() };
        assert_eq!(count(&sure), 20);
        let all = database.events(&EventFilter::default(), 1000).unwrap();
        let before = EventFilter { before: Some(all[150].id.clone()), ..EventFilter::default() };
        assert_eq!(database.events(&before, 4).unwrap(), all[146..150]);
        assert_eq!(database.event(&all[7].id).unwrap().as_ref(), Some(&all[7]));
        assert_eq!(database.event("other").unwrap(), None);
        assert_eq!(database.hours(&EventFilter::default()).unwrap(), [(at(0).unwrap(), 200)]);
        assert_eq!(database.hours(&dogs).unwrap(), [(at(0).unwrap(), 100)]);
        let newest = database.events(&EventFilter::default(), 3).unwrap();
        assert!(newest.iter().all(|row| row.start >= at(98).unwrap()));
        let before = database.revision().unwrap();
        let after = EventFilter { after: Some(before), ..EventFilter::default() };
        assert_eq!(count(&after), 0);
        let id = newest[0].id.parse().unwrap();
        let changed = event(id, Phase::End, 98, Some(120));
        database.record(&[changed], false).unwrap();
        assert_eq!(database.events(&after, 10).unwrap()[0].id, newest[0].id);
    }

    #[test]
    fn what_a_crash_left_open_ends_when_it_was_last_heard() {
        let (_folder, mut database) = database();
        let id = EventId::new();
        database.record(&[event(id, Phase::Start, 10, None)], true).unwrap();
        database.record(&[event(id, Phase::Update, 10, Some(17))], true).unwrap();
        let ended = EventId::new();
        database.record(&[event(ended, Phase::End, 11, Some(12))], true).unwrap();
        assert_eq!(database.close_left_open(true).unwrap(), 1);
        assert_eq!(database.close_left_open(true).unwrap(), 0);
        let rows = database.events(&EventFilter::default(), 10).unwrap();
        assert_eq!(rows[0].end, Some(Timestamp::from_nanos(17_000_000_000)));
        assert_eq!(rows[0].ending.as_deref(), Some("restart"));
        let pending = database.pending(10).unwrap();
        let phases: Vec<_> = pending.iter().map(|p| (p.event.id, p.event.phase)).collect();
        assert_eq!(phases, [(id, Phase::Start), (ended, Phase::End), (id, Phase::End)]);
    }
}
