//! The words the stages speak to each other: time, source states, scores, events, reports and
//! commands. Nothing here opens, waits or decides anything.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of a source, as written in the configuration and in topics. Lower-case ASCII letters,
/// digits, `-` and `_`; 1 to 64 characters (`config` checks it).
pub type SourceName = Arc<str>;

/// A point in time: nanoseconds since 1970-01-01T00:00:00Z. Shown as RFC 3339 in UTC with
/// milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From nanoseconds since the Unix epoch.
    pub fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    pub fn as_nanos(self) -> i64 {
        self.0
    }

    /// The wall clock. Pure modules take times as arguments and never call this.
    pub fn now() -> Self {
        let now = jiff::Timestamp::now().as_nanosecond();
        Self(i64::try_from(now).unwrap_or(i64::MAX))
    }

    /// This time moved by `seconds`, which may be negative.
    pub fn plus_seconds(self, seconds: f64) -> Self {
        Self(self.0.saturating_add((seconds * 1e9) as i64))
    }

    /// Seconds from `earlier` to this time; negative when `earlier` is later.
    pub fn seconds_since(self, earlier: Timestamp) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1e9
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "{}ns", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = NotATime;

    /// From RFC 3339 text.
    fn from_str(text: &str) -> Result<Self, NotATime> {
        let time: jiff::Timestamp = text.parse().map_err(|_| NotATime)?;
        i64::try_from(time.as_nanosecond()).map(Self).map_err(|_| NotATime)
    }
}

/// Text that is no time in RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time as in 2026-05-01T18:00:00Z")]
pub struct NotATime;

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a source stands. `capture::faults` holds the one function that moves between these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceState {
    /// Being opened; no samples yet.
    Opening,
    /// Samples arrive.
    Running,
    /// Samples arrive, but all of them are exactly zero: a muted or dead microphone.
    Muted,
    /// Open, but no sample has arrived for a second.
    Stalled,
    /// It ended or failed, and is about to be reopened.
    Lost,
    /// Waiting before the next attempt to open it.
    BackingOff,
    /// Gave up: only a changed configuration can help.
    Failed,
    /// A finite source (a file, standard input) was heard to its end.
    Ended,
    /// Switched off by command.
    Off,
}

impl SourceState {
    /// The word used in JSON, on the terminal and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Running => "running",
            Self::Muted => "muted",
            Self::Stalled => "stalled",
            Self::Lost => "lost",
            Self::BackingOff => "backing_off",
            Self::Failed => "failed",
            Self::Ended => "ended",
            Self::Off => "off",
        }
    }

    /// Whether samples are expected, so that classified windows must follow.
    pub fn is_hearing(self) -> bool {
        matches!(self, Self::Running | Self::Muted)
    }
}

/// What is known of a source: the payload of its retained `status` topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    pub source: SourceName,
    pub state: SourceState,
    /// When this state began.
    pub since: Timestamp,
    /// Why, in words for a person: the device's own error, the exit status of a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Level of the newest audio (half a second by default) in dBFS (a full-scale sine is -3.01),
    /// absent while not hearing.
    pub level_dbfs: Option<f32>,
    /// Frames that the ring had no room for, since the start.
    pub lost_samples: u64,
    /// Interruptions in the audio, since the start: overruns and reopenings.
    pub gaps: u64,
    /// Windows replaced by newer ones before the network had time for them, since the start.
    pub dropped_windows: u64,
    /// Windows the network has judged, since the start.
    pub classified_windows: u64,
}

/// Which part of a sound an event message tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Start,
    /// It is still on: kept, so that a crash does not lose how long it was, and told to nobody.
    Update,
    End,
}

/// A sound that began or ended: the payload of the `event` topic. The start and the end of one
/// sound carry the same `id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub id: EventId,
    pub phase: Phase,
    pub node: Arc<str>,
    pub source: SourceName,
    pub class: Arc<str>,
    pub start: Timestamp,
    /// Absent in the start message; in an update how far it was heard.
    pub end: Option<Timestamp>,
    /// Highest score so far, 0 to 1.
    pub score_peak: f32,
    /// Mean score of the windows over the off-threshold so far, 0 to 1.
    pub score_mean: f32,
    /// Highest level in those windows, in dBFS.
    pub level_dbfs: f32,
    /// Digest of the model that heard it.
    pub model: Arc<str>,
}

/// A UUIDv7: unique, and ordered by the time it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(uuid::Uuid);

impl EventId {
    /// A new identifier stamped with the present time.
    pub fn new() -> Self {
        Self(uuid::Uuid::now_v7())
    }
}

impl Default for EventId {
    fn default() -> Self {
        Self::new()
    }
}

impl FromStr for EventId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A class and its score, 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    pub class: Arc<str>,
    pub score: f32,
}

/// How the listener as a whole is: the payload of its retained `health` topic. Counters only grow.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeHealth {
    /// Something does not work as it should: see `problems`.
    pub degraded: bool,
    /// In words for a person.
    pub problems: Vec<String>,
    /// Event messages that the broker has not acknowledged.
    pub queued_messages: u64,
    /// Of these, those that the broker refused and that are tried again.
    pub refused_messages: u64,
    /// Event messages given up because the queue was full.
    pub dropped_messages: u64,
    /// Events that could not be kept in the store.
    pub unkept_events: u64,
    /// Stages that were begun anew after a fault.
    pub restarts: u64,
}

/// What the listening side tells the sinks (terminal, MQTT).
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    Event(Event),
    Status(SourceStatus),
    Health(NodeHealth),
    Level {
        source: SourceName,
        at: Timestamp,
        dbfs: f32,
    },
    Scores {
        source: SourceName,
        at: Timestamp,
        top: Vec<ClassScore>,
    },
    /// What an alert says, on a topic of its own.
    Notice {
        topic: Arc<str>,
        payload: Vec<u8>,
        retain: bool,
    },
}

/// What a sink may ask of the listening side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Listen to this source, or stop listening to it.
    Listen { source: SourceName, on: bool },
}
