//! What the owner thread knows of any source: how to open it, how it is doing, and what to expect
//! of it.

use std::sync::Arc;
use std::time::Duration;

use super::Feed;
use super::settings::Pace;
use crate::ring::{self, Consumer, Producer};
use crate::signal::Timestamp;

/// Audio that a ring holds.
const RING_SECONDS: u32 = 4;

/// Samples that a ring holds at most (16 MiB), however many channels there are.
const RING_SAMPLES_MAX: usize = 4 * 1_024 * 1_024;

/// How an open source is doing, apart from its samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Health {
    Flowing,
    /// It has samples, and waits until the analysis has made room for them.
    WaitingForRoom,
    /// The last sample was handed over.
    Finished,
    /// It failed; opening it again may help.
    Broken(String),
    /// It failed, and will fail again.
    Hopeless(String),
}

/// An open source. Dropping it closes it, which may block: never on the owner thread.
pub(super) trait Stream: Send {
    fn health(&mut self) -> Health;
}

/// What opening a source gives.
pub(super) struct Opened {
    pub(super) feed: Feed,
    pub(super) stream: Box<dyn Stream>,
}

/// Why a source can not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// Another attempt may succeed.
    #[error("{0}")]
    Retry(String),
    /// Only a changed configuration can help.
    #[error("{0}")]
    Hopeless(String),
}

/// Opens a source anew. May block: never called on the owner thread.
pub(super) type Open = Arc<dyn Fn() -> Result<Opened, OpenError> + Send + Sync>;

/// What is normal for a kind of source.
#[derive(Debug, Clone)]
pub(super) struct Habits {
    pub(super) first_retry: Duration,
    pub(super) longest_retry: Duration,
    /// A stall this long ends the stream; `None` bears any.
    pub(super) patience: Option<Duration>,
    /// Whether digital silence means a dead microphone. A file may well be silent.
    pub(super) silence_is_mute: bool,
}

/// A ring of about four seconds, and the feed that reads it.
pub(super) fn new_feed(sample_rate_hz: u32, channels: u16, pace: Pace) -> (Producer, Feed) {
    let wanted = sample_rate_hz.saturating_mul(RING_SECONDS) as usize;
    let capacity_frames = wanted.min(RING_SAMPLES_MAX / usize::from(channels.max(1)));
    let (producer, audio): (Producer, Consumer) = ring::ring(channels, capacity_frames);
    let feed = Feed { sample_rate_hz, channels, audio, pace, opened_at: Timestamp::now() };
    (producer, feed)
}
