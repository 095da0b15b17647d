//! What the dashboard asks of the program around it. The daemon answers; the dashboard knows HTTP and
//! nothing of sound, files or rules.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::signal::{SourceStatus, Timestamp};

/// Why something that was asked for is not given: a sentence for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The question makes no sense; it has to be asked differently.
    #[error("{0}")]
    Bad(String),
    /// The file is nothing that can be worked with.
    #[error("{0}")]
    Unsupported(String),
    /// More than can be worked on here.
    #[error("{0}")]
    TooLarge(String),
    /// Not now: something else has to be done first, or mended.
    #[error("{0}")]
    Unavailable(String),
}

/// What is known, and what can be done. Called from threads that may wait; several at a time.
pub trait House: Send + Sync + 'static {
    /// How the listener is; `null` until it has looked around once.
    fn status(&self) -> Value;
    /// The numbers behind `/metrics`.
    fn figures(&self) -> Figures;
    /// The model's classes, and how its images are to be shown.
    fn model(&self) -> Value;
    /// The rules in force.
    fn rules(&self) -> Value;
    /// What other thresholds would have done.
    ///
    /// # Errors
    /// For a class or a source that there isn't, and thresholds that make no sense.
    fn preview(&self, question: Preview) -> Result<Value, Refused>;
    /// Events, newest first.
    ///
    /// # Errors
    /// Without a store that can be read.
    fn events(&self, question: EventQuestion) -> Result<Value, Refused>;
    /// One event.
    ///
    /// # Errors
    /// When there is none, or no store that can be read.
    fn event(&self, id: &str) -> Result<Value, Refused>;
    /// How many events began in each hour.
    ///
    /// # Errors
    /// Without a store that can be read.
    fn hours(&self, question: EventQuestion) -> Result<Value, Refused>;
    /// The sound of an event as FLAC.
    ///
    /// # Errors
    /// When none was kept.
    fn clip(&self, id: &str) -> Result<Vec<u8>, Refused>;
    /// What the network saw of that sound, as PNG.
    ///
    /// # Errors
    /// When none was kept.
    fn clip_image(&self, id: &str) -> Result<Vec<u8>, Refused>;
    /// Listens to a source, or stops.
    ///
    /// # Errors
    /// When there is no such source, or too much to do.
    fn listen(&self, source: &str, on: bool) -> Result<(), Refused>;
    /// Says what is heard in an audio file.
    ///
    /// # Errors
    /// When it is none.
    fn classify(&self, file: Vec<u8>) -> Result<Value, Refused>;
    /// Takes the shift of colours off a photo.
    ///
    /// # Errors
    /// When it is none.
    fn correct(&self, file: Vec<u8>) -> Result<CorrectedPhoto, Refused>;
    /// The alerts and what became of them.
    fn alerts(&self) -> Value;
    /// Takes the actions of an alert, as a test.
    ///
    /// # Errors
    /// When there is no such alert.
    fn test_alert(&self, name: &str) -> Result<Value, Refused>;
}

/// Thresholds to try on the scores of the last hour. What is left out is as it is in force.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preview {
    pub class: String,
    pub source: Option<String>,
    pub on: Option<f32>,
    pub off: Option<f32>,
    pub hits: Option<u32>,
    #[serde(rename = "of")]
    pub windows: Option<u32>,
    pub at_once: Option<f32>,
}

/// Which events are wanted; what is left out is no condition.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventQuestion {
    pub class: Option<String>,
    pub source: Option<String>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub min_score: Option<f32>,
    /// The id of an event: those after it in the list.
    pub before: Option<String>,
    pub limit: Option<u32>,
}

/// A photo as it comes back.
#[derive(Debug, Clone, PartialEq)]
pub struct CorrectedPhoto {
    /// A photo that is left alone comes back as it was sent.
    pub bytes: Vec<u8>,
    /// What was taken off red, green and blue, or would have been: levels of 255.
    pub shift: Option<[f64; 3]>,
    pub is_changed: bool,
    /// Such as `image/jpeg`.
    pub mime: &'static str,
}

/// A distribution: how many values were up to each bound.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distribution {
    /// Upper bounds in seconds, and how many values lie under each and over the one before.
    pub buckets: Vec<(f64, u64)>,
    /// Values over the last bound.
    pub over: u64,
    pub sum_s: f64,
}

/// The numbers of one alert. Counters only grow.
#[derive(Debug, Clone, Default)]
pub struct AlertFigures {
    pub name: String,
    pub notices: u64,
    pub held_back: u64,
    /// Actions that failed, or were not even tried.
    pub failures: u64,
}

/// The numbers of the whole program. Counters only grow.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    pub version: String,
    pub started_unix_s: f64,
    pub sources: Vec<SourceStatus>,
    pub degraded: bool,
    pub queued_messages: u64,
    pub refused_messages: u64,
    pub dropped_messages: u64,
    pub delivered_messages: u64,
    pub broker_connected: Option<bool>,
    pub broker_reconnects: u64,
    pub ignored_commands: u64,
    pub unkept_events: u64,
    pub restarts: u64,
    /// Events by source and class.
    pub events: BTreeMap<(String, String), u64>,
    pub alerts: Vec<AlertFigures>,
    /// Events that came too fast for the alerts to look at.
    pub alert_lost_events: u64,
    /// How long the network took for a window.
    pub inference: Distribution,
    /// From the start of a sound, as it was estimated, to its being told.
    pub latency: Distribution,
}
