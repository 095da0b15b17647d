//! What is said to every browser that looks: windows as they are judged, sounds, states. Sounds and
//! states of the present are remembered, so that whoever comes later knows them. With nobody looking,
//! windows cost nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::broadcast;

use crate::signal::{
    ClassScore, Event, EventId, NodeHealth, Phase, SourceName, SourceStatus, Timestamp,
};

/// Windows that wait for a slow reader; the oldest go, and it is told how many. Ten seconds of three
/// sources.
const WINDOWS_MAX: usize = 64;
/// Everything else that waits. A reader that is further behind is sent away, and comes back to the
/// present.
const NEWS_MAX: usize = 1_024;
/// Sounds that are on at the same time; more are not remembered.
const ON_MAX: usize = 4_096;

/// A message as it goes out: the name of its kind, and JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub kind: &'static str,
    pub json: Arc<str>,
}

/// A judged window.
#[derive(Debug, Clone, Serialize)]
pub struct LiveWindow {
    pub source: SourceName,
    pub at: Timestamp,
    pub level_dbfs: Option<f32>,
    /// The columns since the window before, or all when somebody has just come; base64, each from
    /// the lowest band up.
    pub columns: String,
    pub top: Vec<ClassScore>,
}

#[derive(Default)]
struct Present {
    statuses: BTreeMap<SourceName, SourceStatus>,
    health: Option<NodeHealth>,
    on: BTreeMap<EventId, Event>,
}

/// The hub between the daemon and the browsers.
pub struct Live {
    windows: broadcast::Sender<Said>,
    news: broadcast::Sender<Said>,
    present: Mutex<Present>,
    readers: AtomicU32,
    joined: AtomicU64,
}

/// One browser's end.
pub struct Reader {
    live: Arc<Live>,
    pub windows: broadcast::Receiver<Said>,
    pub news: broadcast::Receiver<Said>,
    /// What is so at the beginning.
    pub present: Vec<Said>,
}

impl Default for Live {
    fn default() -> Self {
        let (windows, _) = broadcast::channel(WINDOWS_MAX);
        let (news, _) = broadcast::channel(NEWS_MAX);
        let (readers, joined) = (AtomicU32::new(0), AtomicU64::new(0));
        Self { windows, news, present: Mutex::default(), readers, joined }
    }
}

impl Live {
    /// Whether anybody looks, so that windows are worth being made.
    pub fn is_watched(&self) -> bool {
        self.readers.load(Ordering::Relaxed) > 0
    }

    /// How many have come so far: when this has changed, a whole window is of use.
    pub fn joined(&self) -> u64 {
        self.joined.load(Ordering::Relaxed)
    }

    /// Says what was in a window.
    pub fn window(&self, window: &LiveWindow) {
        // Nobody may be there any more.
        let _ = self.windows.send(said("window", window));
    }

    /// Says that a sound began or ended.
    pub fn sound(&self, event: &Event) {
        let mut present = self.lock();
        match event.phase {
            Phase::Start if present.on.len() < ON_MAX => {
                present.on.insert(event.id, event.clone());
            }
            Phase::Start => {}
            Phase::End => drop(present.on.remove(&event.id)),
            Phase::Update => return,
        }
        self.tell("sound", event);
    }

    /// Says how a source is. What only counts up is for those that come later.
    pub fn status(&self, status: &SourceStatus) {
        let mut present = self.lock();
        present.statuses.insert(Arc::clone(&status.source), status.clone());
        self.tell("status", status);
    }

    /// Says how the listener is.
    pub fn health(&self, health: &NodeHealth) {
        let mut present = self.lock();
        present.health = Some(health.clone());
        self.tell("health", health);
    }

    /// A new reader; at most `readers_max` at a time.
    pub fn read(self: &Arc<Self>, readers_max: u32) -> Option<Reader> {
        let free = |readers: u32| (readers < readers_max).then_some(readers + 1);
        self.readers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        // Under the lock, so that nothing is said between the present and what follows it.
        let present = self.lock();
        let mut first: Vec<Said> =
            present.statuses.values().map(|status| said("status", status)).collect();
        first.extend(present.health.as_ref().map(|health| said("health", health)));
        first.extend(present.on.values().map(|event| said("sound", event)));
        let (windows, news) = (self.windows.subscribe(), self.news.subscribe());
        self.joined.fetch_add(1, Ordering::Relaxed);
        drop(present);
        Some(Reader { live: Arc::clone(self), windows, news, present: first })
    }

    fn tell<T: Serialize>(&self, kind: &'static str, what: &T) {
        if self.news.receiver_count() > 0 {
            // Nobody may be there any more.
            let _ = self.news.send(said(kind, what));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.live.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

fn said<T: Serialize>(kind: &'static str, what: &T) -> Said {
    // Plain structs of text and finite numbers always serialise.
    Said { kind, json: serde_json::to_string(what).unwrap_or_default().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: EventId, phase: Phase) -> Event {
        let at = Timestamp::from_nanos(7_000_000_000);
        Event {
            id,
            phase,
            node: "n".into(),
            source: "door".into(),
            class: "siren".into(),
            start: at,
            end: (phase == Phase::End).then_some(at),
            score_peak: 0.9,
            score_mean: 0.8,
            level_dbfs: -20.0,
            model: "m".into(),
        }
    }

    #[test]
    fn whoever_comes_later_knows_what_is_on() {
        let live = Arc::new(Live::default());
        let (first, second) = (EventId::new(), EventId::new());
        live.sound(&event(first, Phase::Start));
        live.sound(&event(second, Phase::Start));
        live.sound(&event(first, Phase::End));
        live.health(&NodeHealth::default());
        let mut reader = live.read(1).unwrap();
        let kinds: Vec<&str> = reader.present.iter().map(|said| said.kind).collect();
        assert_eq!(kinds, ["health", "sound"]);
        assert!(reader.present[1].json.contains(&second.to_string()));
        live.sound(&event(second, Phase::Update));
        live.sound(&event(second, Phase::End));
        let heard = reader.news.try_recv().unwrap();
        assert!(heard.json.contains("\"phase\":\"end\""), "{}", heard.json);
        assert!(reader.news.try_recv().is_err());
    }

    #[test]
    fn readers_are_counted_and_a_slow_one_loses_the_oldest_windows() {
        let live = Arc::new(Live::default());
        assert!(!live.is_watched());
        let mut reader = live.read(1).unwrap();
        assert!(live.is_watched() && live.read(1).is_none());
        let window = LiveWindow {
            source: "door".into(),
            at: Timestamp::from_nanos(0),
            level_dbfs: None,
            columns: String::new(),
            top: Vec::new(),
        };
        (0..WINDOWS_MAX + 5).for_each(|_| live.window(&window));
        let lagged = broadcast::error::TryRecvError::Lagged(5);
        assert_eq!(reader.windows.try_recv(), Err(lagged));
        assert!(reader.windows.try_recv().is_ok());
        drop(reader);
        assert!(!live.is_watched() && live.read(1).is_some());
    }
}
