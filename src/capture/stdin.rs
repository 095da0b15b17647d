//! Raw PCM on standard input as a source.
//!
//! It is not paced here: samples are taken as they come, and while the ring is full the reader
//! waits, so that the pipe holds its writer back and nothing is lost. While the source is switched
//! off, what comes is read and thrown away, so that switching it on again is live. The end of the
//! input ends the source; a partial last frame is ignored.

use std::io::{ErrorKind, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::feeder::{Feeder, feeder};
use super::pcm::PcmDecoder;
use super::settings::{Pace, PcmFormat};
use super::source::{Habits, Health, OpenError, Opened, new_feed};

const READ_BYTES: usize = 16 * 1_024;

/// A pipe can not be opened again, so a stall is borne.
pub(super) const HABITS: Habits = Habits {
    first_retry: Duration::from_millis(250),
    longest_retry: Duration::from_secs(5),
    patience: None,
    silence_is_mute: false,
};

/// One input for good: the reader outlives each opening, because a blocked read can not be undone.
pub(super) struct PcmInput {
    format: PcmFormat,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Taken by the reading thread when it starts.
    reader: Option<Box<dyn Read + Send>>,
    /// Who gets the samples; nobody while switched off.
    feeder: Option<Feeder>,
    ended: Option<Health>,
}

impl PcmInput {
    /// Standard input. There is one in a process, so use one such source.
    pub(super) fn stdin(format: PcmFormat) -> Self {
        Self::new(format, Box::new(std::io::stdin()))
    }

    /// Any reader.
    pub(super) fn new(format: PcmFormat, reader: Box<dyn Read + Send>) -> Self {
        let state = State { reader: Some(reader), feeder: None, ended: None };
        Self { format, state: Arc::new(Mutex::new(state)) }
    }

    /// Begins to hand samples over.
    pub(super) fn open(&self) -> Result<Opened, OpenError> {
        let format = self.format;
        let (producer, feed) = new_feed(format.sample_rate_hz, format.channels, Pace::RealTime);
        let (mut feeder, handle) = feeder(producer);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ended) = &state.ended {
            feeder.end(ended.clone());
        } else {
            state.feeder = Some(feeder);
        }
        if let Some(reader) = state.reader.take() {
            let shared = Arc::clone(&self.state);
            thread::Builder::new()
                .name("capture-stdin".to_owned())
                .spawn(move || read(reader, format, &shared))
                .map_err(|error| {
                    OpenError::Hopeless(format!("no thread to read input: {error}"))
                })?;
        }
        Ok(Opened { feed, stream: Box::new(handle) })
    }
}

fn read(mut reader: Box<dyn Read + Send>, format: PcmFormat, state: &Mutex<State>) {
    // Decoding goes on while nobody listens, to stay on the frame boundary.
    let mut decoder = PcmDecoder::new(format);
    let mut bytes = vec![0; READ_BYTES];
    let mut samples = Vec::new();
    let ended = loop {
        match reader.read(&mut bytes) {
            Ok(0) => break Health::Finished,
            Ok(count) => {
                samples.clear();
                decoder.decode(bytes.get(..count).unwrap_or_default(), &mut samples);
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                if state.feeder.as_mut().is_some_and(|feeder| !feeder.push(&samples)) {
                    state.feeder = None;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => break Health::Hopeless(format!("the input can not be read: {error}")),
        }
    };
    if decoder.bad_samples() > 0 {
        let bad = decoder.bad_samples();
        tracing::warn!("input: {bad} samples were NaN or infinite; heard as silence");
    }
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.ended = Some(ended.clone());
    if let Some(mut feeder) = state.feeder.take() {
        feeder.end(ended);
    }
}
