//! An audio file as a source: in real time against the clock, or as fast as it is listened to;
//! once, or over and over without a gap.
//!
//! While the ring is full a file waits, at either pace: nothing of it is ever lost. A file that is
//! missing is tried again; one that is not audio has failed for good. A damaged one is heard as far
//! as it goes. A silent stretch is part of the recording and never means "muted".

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::decode::{AudioFile, DecodeError};
use super::feeder::{self, Feeder};
use super::settings::Pace;
use super::source::{Habits, Health, OpenError, Opened, new_feed};

/// Between two hand-overs in real time.
const TICK: Duration = Duration::from_millis(20);

/// A file that has fallen this far behind the clock (the machine slept, the analysis was stuck)
/// starts a new count rather than rush through what it missed.
const BEHIND_MAX: Duration = Duration::from_secs(2);

/// Files are looked for again every few seconds.
pub(super) const HABITS: Habits = Habits {
    first_retry: Duration::from_millis(250),
    longest_retry: Duration::from_secs(5),
    patience: None,
    silence_is_mute: false,
};

/// What is played.
#[derive(Debug, Clone)]
pub(super) enum Tape {
    File(PathBuf),
    /// The recording in this program.
    Recording,
}

impl Tape {
    fn open(&self) -> Result<AudioFile, DecodeError> {
        match self {
            Self::File(path) => AudioFile::open(path),
            Self::Recording => AudioFile::open_recording(),
        }
    }
}

impl fmt::Display for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Recording => f.write_str("the recording in this program"),
        }
    }
}

/// Opens the file and starts the thread that plays it.
pub(super) fn open(tape: &Tape, pace: Pace, repeat: bool) -> Result<Opened, OpenError> {
    let file = tape.open().map_err(|error| {
        if error.may_heal() {
            OpenError::Retry(error.to_string())
        } else {
            OpenError::Hopeless(error.to_string())
        }
    })?;
    let (producer, feed) = new_feed(file.sample_rate_hz(), file.channels(), pace);
    let player = Player {
        tape: tape.clone(),
        samples_per_frame: usize::from(file.channels()),
        pacer: match pace {
            Pace::RealTime => Some(Pacer::new(file.sample_rate_hz(), Instant::now())),
            Pace::Fast => None,
        },
        complained: false,
    };
    let stream =
        feeder::spawn("capture-file", producer, move |feeder| player.play(feeder, file, repeat))
            .map_err(|error| OpenError::Retry(format!("no thread to read the file: {error}")))?;
    Ok(Opened { feed, stream: Box::new(stream) })
}

/// The count of frames that are due: always against the start, so that errors do not add up.
#[derive(Debug)]
struct Pacer {
    sample_rate_hz: u32,
    start: Instant,
    sent_frames: u64,
}

impl Pacer {
    fn new(sample_rate_hz: u32, start: Instant) -> Self {
        Self { sample_rate_hz, start, sent_frames: 0 }
    }

    /// Frames that should have been sent by now and were not.
    fn due_frames(&mut self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.start);
        let rate = u128::from(self.sample_rate_hz);
        let total = elapsed.as_nanos() * rate / 1_000_000_000;
        let due = u64::try_from(total).unwrap_or(u64::MAX).saturating_sub(self.sent_frames);
        let most = (BEHIND_MAX.as_nanos() * rate / 1_000_000_000) as u64;
        if due > most {
            (self.start, self.sent_frames) = (now, 0);
            return 0;
        }
        due
    }

    fn sent(&mut self, frames: u64) {
        self.sent_frames += frames;
    }
}

struct Player {
    tape: Tape,
    samples_per_frame: usize,
    /// `None` goes as fast as there is room.
    pacer: Option<Pacer>,
    /// A damaged file in a loop is complained of once.
    complained: bool,
}

/// How one pass through the file ended.
enum Pass {
    Complete { frames: u64 },
    Stopped,
    Failed(DecodeError),
}

impl Player {
    fn play(mut self, feeder: &mut Feeder, first: AudioFile, repeat: bool) -> Health {
        let (rate, channels) = (first.sample_rate_hz(), first.channels());
        let mut file = first;
        loop {
            match self.pass(feeder, &mut file) {
                Pass::Stopped => return Health::Finished,
                Pass::Failed(error) => return Health::Broken(error.to_string()),
                Pass::Complete { frames: 0 } => {
                    let tape = &self.tape;
                    return Health::Hopeless(format!("{tape}: not one sample could be decoded"));
                }
                Pass::Complete { .. } if !repeat => return Health::Finished,
                Pass::Complete { .. } => {}
            }
            file = match self.tape.open() {
                Ok(file) if (file.sample_rate_hz(), file.channels()) == (rate, channels) => file,
                Ok(_) => {
                    let tape = &self.tape;
                    return Health::Broken(format!(
                        "{tape}: was replaced by one of another layout"
                    ));
                }
                Err(error) => return Health::Broken(error.to_string()),
            };
        }
    }

    fn pass(&mut self, feeder: &mut Feeder, file: &mut AudioFile) -> Pass {
        let mut block = Vec::new();
        loop {
            block.clear();
            match file.next_block(&mut block) {
                Ok(0) => break,
                Ok(_) if self.send(feeder, &block) => {}
                Ok(_) => return Pass::Stopped,
                Err(error @ DecodeError::Io { .. }) => return Pass::Failed(error),
                Err(error) => self.complain(&error.to_string()),
            }
        }
        if file.bad_samples() > 0 {
            let (tape, bad) = (&self.tape, file.bad_samples());
            self.complain(&format!("{tape}: {bad} samples are NaN or infinite; heard as silence"));
        }
        Pass::Complete { frames: file.decoded_frames() }
    }

    /// Sends a block when it is due. False when the source was closed.
    fn send(&mut self, feeder: &mut Feeder, block: &[f32]) -> bool {
        let Some(pacer) = &mut self.pacer else {
            return feeder.push(block);
        };
        let mut rest = block;
        while !rest.is_empty() {
            let due = usize::try_from(pacer.due_frames(Instant::now())).unwrap_or(usize::MAX);
            let (head, tail) =
                rest.split_at(due.saturating_mul(self.samples_per_frame).min(rest.len()));
            if !feeder.push(head) {
                return false;
            }
            pacer.sent((head.len() / self.samples_per_frame) as u64);
            rest = tail;
            if !rest.is_empty() && !feeder.pause(TICK) {
                return false;
            }
        }
        true
    }

    fn complain(&mut self, problem: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!("{problem}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pacer_sends_exactly_the_rate_however_it_is_asked() {
        let start = Instant::now();
        let mut pacer = Pacer::new(44_100, start);
        let mut sent = 0;
        // Uneven steps of 7 to 43 ms up to exactly 60 s.
        let mut at_ms = 0u64;
        while at_ms < 60_000 {
            at_ms = (at_ms + 7 + at_ms % 37).min(60_000);
            let due = pacer.due_frames(start + Duration::from_millis(at_ms));
            pacer.sent(due);
            sent += due;
        }
        assert_eq!(sent, 60 * 44_100);
    }

    #[test]
    fn the_pacer_does_not_rush_after_a_long_sleep() {
        let start = Instant::now();
        let mut pacer = Pacer::new(48_000, start);
        assert_eq!(pacer.due_frames(start + Duration::from_secs(1)), 48_000);
        pacer.sent(48_000);
        let woken = start + Duration::from_secs(3_600);
        assert_eq!(pacer.due_frames(woken), 0);
        assert_eq!(pacer.due_frames(woken + Duration::from_millis(10)), 480);
    }
}
