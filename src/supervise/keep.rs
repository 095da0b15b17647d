//! The store's thread: each event is committed, and only then told. What the broker has got is
//! crossed off; what is old goes. A store that can't be used is said loudly, and events are then told
//! all the same.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::clip::ClipNote;
use crate::publish::Settled;
use crate::signal::{Event, Phase, Timestamp};
use crate::store::settings::StoreSettings;
use crate::store::{Database, Opened, StoreError, prepare_folder, salvaged_messages};

/// How long a store that could not be used is left alone.
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// How often old events are looked for.
const RETIRE_EVERY: Duration = Duration::from_secs(3_600);
/// How often it is looked whether the file is still where it was.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Events that wait for a store that can't be used; beyond it the oldest are not kept.
const WAITING_MAX: usize = 10_000;

/// How the store is doing, for others to see. Counters only grow.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoreHealth {
    /// Why nothing can be kept at present.
    pub problem: Option<String>,
    /// What happened to the database earlier in this run: it was damaged, or taken away.
    pub mishap: Option<String>,
    /// Events that wait to be kept.
    pub waiting: usize,
    /// Events that were not kept.
    pub unkept: u64,
}

/// [`StoreHealth`] shared with the supervisor.
#[derive(Clone, Default)]
pub struct SharedHealth(Arc<Mutex<StoreHealth>>);

impl SharedHealth {
    /// A copy.
    pub fn get(&self) -> StoreHealth {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, StoreHealth> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The store, whether it can be used or not.
pub struct Keeper {
    settings: StoreSettings,
    /// The folder of clips, which go with their events.
    clips: Option<PathBuf>,
    /// Whether messages are kept until they arrive, and how many.
    outbox_max: Option<usize>,
    health: SharedHealth,
    database: Option<Database>,
    retry_at: Instant,
    retire_at: Instant,
    look_at: Instant,
    /// Told already, but not kept.
    waiting: VecDeque<Event>,
    /// What an earlier process left to be told, once that is known.
    left_behind: Option<Vec<Kept>>,
    /// A damaged database whose messages have yet to be taken over.
    to_salvage: Option<PathBuf>,
}

/// An event that may be told now, and the number under which its message is kept.
pub type Kept = (Event, Option<i64>);

impl Keeper {
    /// Not open yet. `outbox_max`: how many messages are kept for the broker, `None` without one.
    pub fn new(
        settings: StoreSettings,
        clips: Option<PathBuf>,
        outbox_max: Option<usize>,
        health: SharedHealth,
    ) -> Self {
        let now = Instant::now();
        Self {
            settings,
            clips,
            outbox_max,
            health,
            database: None,
            retry_at: now,
            retire_at: now,
            look_at: now,
            waiting: VecDeque::new(),
            left_behind: None,
            to_salvage: None,
        }
    }

    /// What an earlier process left to be told, oldest first: each start before its end, also of
    /// events that it could not end itself. Comes once, as soon as the store can be used.
    pub fn take_left_behind(&mut self) -> Vec<Kept> {
        self.left_behind.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Looks for what an earlier process left, before anything of this one is in the database.
    fn look_behind(&mut self) {
        if self.left_behind.is_some() {
            return;
        }
        let left = self.using(|database, outbox_max| {
            let closed = database.close_left_open(outbox_max.is_some())?;
            let Some(max) = outbox_max else { return Ok((closed, 0, Vec::new())) };
            let dropped = database.limit_messages(max)?;
            Ok((closed, dropped, database.pending(max)?))
        });
        let Some((closed, dropped, pending)) = left else { return };
        if closed > 0 {
            tracing::warn!(
                "{closed} events were left open by an earlier run; they end when they were last heard"
            );
        }
        if dropped > 0 {
            tracing::error!(
                "{dropped} messages for the broker were given up: mqtt.queue_events_max is less than waited"
            );
        }
        if !pending.is_empty() {
            tracing::info!("{} messages of an earlier run have yet to be told", pending.len());
        }
        let kept = pending.into_iter().map(|kept| (kept.event, Some(kept.sequence)));
        self.left_behind = Some(kept.collect());
    }

    /// Commits events. They come back to be told, whether it worked or not.
    pub fn keep(&mut self, events: Vec<Event>) -> Vec<Kept> {
        if !self.settings.enabled || events.is_empty() {
            return events.into_iter().map(|event| (event, None)).collect();
        }
        self.look_after(Instant::now());
        let outbox = self.outbox_max.is_some();
        let kept = self.using(|database, _| database.record(&events, outbox));
        match kept {
            Some(sequences) => {
                for event in events.iter().filter(|event| event.phase != Phase::Update) {
                    tracing::debug!(id = %event.id, phase = ?event.phase, "kept");
                }
                events.into_iter().zip(sequences).collect()
            }
            None => {
                self.wait(&events);
                events.into_iter().map(|event| (event, None)).collect()
            }
        }
    }

    /// Crosses off what has arrived. False: it is to be told to the store again.
    pub fn settle(&mut self, settled: &Settled) -> bool {
        let Settled { arrived, dropped } = settled;
        if arrived.is_empty() && dropped.is_empty() {
            return true;
        }
        self.using(|database, _| database.settle_messages(arrived, dropped)).is_some()
    }

    /// Notes what became of a clip.
    pub fn note_clip(&mut self, note: &ClipNote) {
        // Without a database, the file is there all the same.
        self.using(|database, _| match note {
            ClipNote::Kept { id, file } => database.note_clip(&id.to_string(), file),
            ClipNote::Gone { file } => database.forget_clip(file),
        });
    }

    /// What is due: opening what could not be opened, keeping what could not be kept, deleting what
    /// is old.
    pub fn look_after(&mut self, now: Instant) {
        if !self.settings.enabled {
            return;
        }
        if now >= self.look_at {
            self.look_at = now + LOOK_EVERY;
            if self.database.as_ref().is_some_and(|database| !database.is_in_place()) {
                let what = "the database was taken away; another one is begun";
                self.mishap(what.to_owned());
                self.database = None;
                self.retry_at = now;
            }
        }
        if self.database.is_none() && now >= self.retry_at {
            self.open();
        }
        if self.database.is_some() && !self.waiting.is_empty() {
            self.catch_up();
        }
        if self.database.is_some() && now >= self.retire_at {
            self.retire_at = now + RETIRE_EVERY;
            self.retire();
        }
    }

    /// The last thing to do.
    pub fn end(self) {
        let left = self.waiting.len();
        if left > 0 {
            tracing::error!("{left} events could not be kept in the store");
        }
        if let Some(database) = self.database {
            database.settle();
        }
    }

    fn open(&mut self) {
        let opened = prepare_folder(&self.settings.folder)
            .map_err(|error| StoreError::Unavailable(error.to_string()))
            .and_then(|()| Database::open(&self.settings.database()));
        match opened {
            Ok(Opened { database, moved_aside }) => {
                self.database = Some(database);
                if let Some((aside, why)) = moved_aside {
                    let name = aside.display();
                    self.mishap(format!(
                        "the database was damaged ({why}); it is kept as {name}, and a new one is begun"
                    ));
                    self.to_salvage = Some(aside);
                }
                if self.health.lock().problem.take().is_some() {
                    tracing::info!("the store can be used again");
                }
                self.salvage();
                self.look_behind();
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Takes over what a damaged database had yet to tell, once. What this process has heard itself is
    /// in memory anyhow.
    fn salvage(&mut self) {
        let Some(aside) = self.to_salvage.clone() else { return };
        if let Some(max) = self.outbox_max.filter(|_| self.left_behind.is_none()) {
            let messages = salvaged_messages(&aside, max);
            if self.using(|database, _| database.record(&messages, true)).is_none() {
                // To be tried again at the next opening.
                return;
            }
            let count = messages.len();
            tracing::warn!("{count} messages in it could still be read, and will be told");
        }
        self.to_salvage = None;
    }

    /// Does something with the database; `None` when that did not work, which was said.
    fn using<T>(
        &mut self,
        work: impl FnOnce(&mut Database, Option<usize>) -> Result<T, StoreError>,
    ) -> Option<T> {
        let done = work(self.database.as_mut()?, self.outbox_max);
        done.map_err(|error| self.fail(&error)).ok()
    }

    /// Lets go of the database, to open it again later. A damaged one is opened at once, which
    /// moves it aside.
    fn fail(&mut self, error: &StoreError) {
        self.database = None;
        let wait =
            if matches!(error, StoreError::Damaged(_)) { Duration::ZERO } else { RETRY_EVERY };
        self.retry_at = Instant::now() + wait;
        let folder = self.settings.folder.display();
        let problem = format!("{error} (store.folder = {folder})");
        let mut health = self.health.lock();
        if health.problem.as_ref() != Some(&problem) {
            tracing::error!("events are told, but not kept: {problem}");
        }
        health.problem = Some(problem);
    }

    fn mishap(&self, what: String) {
        tracing::error!("{what}");
        self.health.lock().mishap = Some(what);
    }

    fn wait(&mut self, events: &[Event]) {
        for event in events {
            // That a sound goes on replaces what was said of it before: a long one takes no more
            // room than a short one.
            let is_old = |old: &Event| old.phase == Phase::Update && old.id == event.id;
            self.waiting.retain(|old| !is_old(old));
            self.waiting.push_back(event.clone());
        }
        let over = self.waiting.len().saturating_sub(WAITING_MAX);
        let lost = self.waiting.drain(..over).filter(|event| event.phase != Phase::Update).count();
        let mut health = self.health.lock();
        health.unkept += lost as u64;
        health.waiting = self.waiting.len();
    }

    /// Keeps what was told while there was no store. The broker's part is in memory already.
    fn catch_up(&mut self) {
        let events: Vec<Event> = self.waiting.iter().cloned().collect();
        if self.using(|database, _| database.record(&events, false)).is_some() {
            tracing::info!("{} events that had to wait are kept now", events.len());
            self.waiting.clear();
        }
        self.health.lock().waiting = self.waiting.len();
    }

    fn retire(&mut self) {
        let settings = self.settings.clone();
        let gone = self.using(|database, _| database.retire(&settings, Timestamp::now()));
        let Some((deleted, clips)) = gone.filter(|(deleted, _)| *deleted > 0) else { return };
        tracing::info!("{deleted} old events were deleted");
        if let Some(folder) = &self.clips {
            // One that is gone already is what is wanted.
            clips.iter().for_each(|clip| drop(std::fs::remove_file(folder.join(clip))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::EventId;

    fn event(id: EventId, phase: Phase) -> Event {
        let at = Timestamp::now();
        Event {
            id,
            phase,
            node: "n".into(),
            source: "s".into(),
            class: "dog".into(),
            start: at,
            end: (phase != Phase::Start).then_some(at),
            score_peak: 0.9,
            score_mean: 0.9,
            level_dbfs: -20.0,
            model: "m".into(),
        }
    }

    fn keeper(folder: &std::path::Path) -> Keeper {
        let settings = StoreSettings {
            enabled: true,
            folder: folder.to_owned(),
            keep_days: 9,
            size_max_bytes: 1 << 30,
        };
        Keeper::new(settings, None, Some(100), SharedHealth::default())
    }

    #[test]
    fn what_was_left_behind_is_told_also_when_the_store_comes_late() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("state");
        let mut earlier = keeper(&folder);
        let old = EventId::new();
        assert!(earlier.keep(vec![event(old, Phase::Start)])[0].1.is_some());
        drop(earlier);
        // The folder is not there when the next process starts.
        let away = base.path().join("away");
        std::fs::rename(&folder, &away).unwrap();
        std::fs::write(&folder, "").unwrap();
        let mut keeper = keeper(&folder);
        let new = EventId::new();
        assert_eq!(keeper.keep(vec![event(new, Phase::Start)])[0].1, None);
        assert_eq!(keeper.take_left_behind(), []);
        std::fs::remove_file(&folder).unwrap();
        std::fs::rename(&away, &folder).unwrap();
        keeper.look_after(Instant::now() + RETRY_EVERY);
        let left = keeper.take_left_behind();
        let phases: Vec<_> = left.iter().map(|(event, _)| (event.id, event.phase)).collect();
        assert_eq!(phases, [(old, Phase::Start), (old, Phase::End)]);
        assert_eq!(keeper.take_left_behind(), []);
        // The event of this process is kept, and still on.
        let rows = Database::read(&folder.join("hearken.db")).unwrap();
        let rows = rows.events(&crate::store::EventFilter::default(), 9).unwrap();
        let ends: Vec<bool> = rows.iter().map(|row| row.end.is_some()).collect();
        assert_eq!(ends, [true, false]);
    }

    #[test]
    fn a_long_sound_does_not_push_others_out() {
        let base = tempfile::tempdir().unwrap();
        let blocked = base.path().join("file");
        std::fs::write(&blocked, "").unwrap();
        let mut keeper = keeper(&blocked);
        let (long, short) = (EventId::new(), EventId::new());
        keeper.keep(vec![event(short, Phase::Start), event(long, Phase::Start)]);
        for _ in 0..100 {
            keeper.keep(vec![event(long, Phase::Update)]);
        }
        keeper.keep(vec![event(long, Phase::End)]);
        let waiting: Vec<_> = keeper.waiting.iter().map(|e| (e.id, e.phase)).collect();
        let expected = [(short, Phase::Start), (long, Phase::Start), (long, Phase::End)];
        assert_eq!((waiting.as_slice(), keeper.health.get().unkept), (&expected[..], 0));
    }
}
