//! What is old goes: by age, and by the size of the database.

use super::database::{Database, StoreError};
use super::settings::StoreSettings;
use crate::signal::Timestamp;

const DAY_S: f64 = 86_400.0;
/// Of an over-full database, so much of the events goes at once, so that it is not done over again
/// with each event.
const SHARE: i64 = 10;

impl Database {
    /// Deletes ended events beyond the settings, oldest first; those whose messages wait only
    /// for the size's sake. Counts by day stay. Returns how many went, and their clips.
    ///
    /// # Errors
    /// When the database can't be used.
    pub fn retire(
        &mut self,
        settings: &StoreSettings,
        now: Timestamp,
    ) -> Result<(usize, Vec<String>), StoreError> {
        let before = now.plus_seconds(-DAY_S * f64::from(settings.keep_days)).as_nanos();
        let waits = "EXISTS (SELECT 1 FROM outbox WHERE outbox.event = event.id)";
        let old = format!("end_ns < {before} AND NOT {waits}");
        let (mut deleted, mut clips) = self.delete(&old)?;
        while self.used_bytes()? > settings.size_max_bytes {
            let oldest = format!(
                "id IN (SELECT id FROM event WHERE end_ns IS NOT NULL ORDER BY start_ns \
                 LIMIT (SELECT 1 + count(*) / {SHARE} FROM event))"
            );
            let (more, their_clips) = self.delete(&oldest)?;
            if more == 0 {
                break;
            }
            deleted += more;
            clips.extend(their_clips);
        }
        if deleted > 0 {
            self.connection.execute_batch("PRAGMA incremental_vacuum")?;
        }
        Ok((deleted, clips))
    }

    fn delete(&mut self, condition: &str) -> Result<(usize, Vec<String>), StoreError> {
        let step = self.connection.transaction()?;
        let clips = {
            let query = format!("SELECT clip FROM event WHERE clip IS NOT NULL AND {condition}");
            let mut statement = step.prepare(&query)?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect::<Result<Vec<String>, _>>()?
        };
        let deleted = step.execute(&format!("DELETE FROM event WHERE {condition}"), [])?;
        step.execute(
            "DELETE FROM outbox WHERE NOT EXISTS (SELECT 1 FROM event WHERE id = outbox.event)",
            [],
        )?;
        step.commit()?;
        Ok((deleted, clips))
    }

    /// Bytes in use within the database.
    fn used_bytes(&self) -> Result<u64, StoreError> {
        let pragma = |name: &str| -> Result<u64, StoreError> {
            let value: i64 = self.connection.pragma_query_value(None, name, |row| row.get(0))?;
            Ok(value.unsigned_abs())
        };
        let pages = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
        Ok(pages * pragma("page_size")?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::events::EventFilter;
    use super::super::tests::{database, event};
    use super::*;
    use crate::signal::{Event, EventId, Phase};

    fn settings(keep_days: u32, size_max_bytes: u64) -> StoreSettings {
        StoreSettings { enabled: true, folder: "".into(), keep_days, size_max_bytes }
    }

    fn ended(start_s: i64) -> Event {
        event(EventId::new(), Phase::End, start_s, Some(start_s + 1))
    }

    #[test]
    fn old_events_go_but_not_those_that_wait_or_are_on() {
        let (_folder, mut database) = database();
        let day = 86_400;
        database.record(&[ended(0), ended(3 * day)], false).unwrap();
        database.record(&[ended(day)], true).unwrap();
        database.record(&[event(EventId::new(), Phase::Start, 5, None)], false).unwrap();
        let clip = database.events(&EventFilter::default(), 9).unwrap()[0].id.clone();
        database.note_clip(&clip, "x.flac").unwrap();
        let now = Timestamp::from_nanos(4 * day * 1_000_000_000);
        let gone = database.retire(&settings(2, 1 << 30), now).unwrap();
        assert_eq!(gone, (1, vec!["x.flac".to_owned()]));
        let rows = database.events(&EventFilter::default(), 9).unwrap();
        let starts: Vec<f64> =
            rows.iter().map(|row| row.start.seconds_since(Timestamp::from_nanos(0))).collect();
        assert_eq!(starts, [5.0, 86_400.0, 259_200.0]);
        assert_eq!(database.daily().unwrap().iter().map(|row| row.3).sum::<i64>(), 4);
    }

    #[test]
    fn the_database_stays_within_its_size_and_keeps_the_newest() {
        let (folder, mut database) = database();
        let limit = 400_000;
        for block in 0..40 {
            let events: Vec<Event> = (0..100).map(|n| ended(block * 100 + n)).collect();
            database.record(&events, true).unwrap();
            database.retire(&settings(36_500, limit), Timestamp::from_nanos(0)).unwrap();
            assert!(database.used_bytes().unwrap() <= limit);
        }
        database.settle();
        let bytes = std::fs::metadata(folder.path().join("hearken.db")).unwrap().len();
        assert!(bytes <= limit + 200_000, "{bytes}");
        let rows = database.events(&EventFilter::default(), 10_000).unwrap();
        assert!(rows.len() > 300, "{}", rows.len());
        let newest = rows.last().unwrap().start;
        assert_eq!(newest, Timestamp::from_nanos(3_999 * 1_000_000_000));
    }
}
