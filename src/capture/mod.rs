//! Capture: sources of audio, each owned by one thread that opens it, watches it and opens it
//! again. Every origin (device, file, standard input, command) ends in the same lock-free ring.
//!
//! What runs in the sound system's real-time thread is [`callback`]; what decides about states is
//! [`faults`]; what may block (opening, closing, reading) has threads of its own.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::ring;
use crate::signal::{SourceName, SourceState, Timestamp};

mod backoff;
pub mod callback;
mod command;
pub mod decode;
mod device;
pub mod faults;
mod feeder;
mod file;
mod owner;
mod pcm;
pub mod settings;
mod source;
mod stdin;
#[cfg(test)]
mod tests;

pub use device::{DeviceError, DeviceInfo, InputConfig, devices};

use file::Tape;
use owner::{Control, Outlets, Owner};
use settings::{Origin, Pace, SourceSettings};
use source::{Habits, Open};

/// How long [`Capture::stop`] waits at most.
const STOP_WITHIN: Duration = Duration::from_millis(950);

/// A freshly opened stream, for the analysis to read. A new one comes after each reopening, and
/// replaces the one before; its sample rate and channels may be others.
pub struct Feed {
    pub sample_rate_hz: u32,
    /// 1 to 32.
    pub channels: u16,
    /// About four seconds of audio. Drained for good when the source has ended.
    pub audio: ring::Consumer,
    /// [`Pace::Fast`] comes as fast as it is read.
    pub pace: Pace,
    /// The time of the first sample, as well as it is known.
    pub opened_at: Timestamp,
}

/// A source came into another state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    pub source: SourceName,
    pub state: SourceState,
    pub since: Timestamp,
    /// Why, in words for a person.
    pub detail: Option<String>,
}

/// A source under the care of its thread. Dropping it ends the thread without waiting for it.
pub struct Capture {
    control: Sender<Control>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

/// Starts the thread that owns one source for good. It begins by opening it; every change of state
/// is sent to `states` (beginning with `Opening`), every opened stream to `feeds`. Neither send
/// ever waits: with a channel that stays full, old news gives way to new. Give both room for at
/// least one.
///
/// # Errors
/// When no thread can be started. A source that can not be opened is no error here: it is reported
/// as a state.
pub fn start(
    settings: SourceSettings,
    feeds: Sender<Feed>,
    states: Sender<StateChange>,
) -> io::Result<Capture> {
    let (control, orders) = unbounded();
    let (alive, ended) = bounded::<()>(0);
    let (open, habits) = opener(settings.origin);
    let owner = Owner::new(settings.name, open, habits, orders, Outlets { feeds, states });
    thread::Builder::new().name("capture".to_owned()).spawn(move || {
        owner.run();
        drop(alive);
    })?;
    Ok(Capture { control, ended })
}

impl Capture {
    /// Listens, or closes the stream and stays `Off`. A file starts from its beginning again.
    pub fn listen(&self, on: bool) {
        // A thread that has ended has said so through its states.
        let _ = self.control.send(Control::Listen(on));
    }

    /// Closes the source. Returns within a second, even where the sound system does not let go.
    pub fn stop(self) {
        let _ = self.control.send(Control::Stop);
        let _ = self.ended.recv_timeout(STOP_WITHIN);
    }
}

fn opener(origin: Origin) -> (Open, Habits) {
    match origin {
        Origin::Device(select) => (Arc::new(move || device::open(&select)), device::HABITS),
        Origin::File { path, pace, repeat } => {
            let tape = Tape::File(path);
            (Arc::new(move || file::open(&tape, pace, repeat)), file::HABITS)
        }
        Origin::Recording => {
            (Arc::new(|| file::open(&Tape::Recording, Pace::RealTime, true)), file::HABITS)
        }
        Origin::Stdin(format) => {
            let input = stdin::PcmInput::stdin(format);
            (Arc::new(move || input.open()), stdin::HABITS)
        }
        Origin::Command { argv, format } => {
            (Arc::new(move || command::open(&argv, format)), command::HABITS)
        }
    }
}
