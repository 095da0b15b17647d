//! Takes from a microphone, by the same capture as the daemon's, but without its patience: a
//! person is waiting, so a microphone that fails ends the command.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use crossbeam_channel::{Receiver, TryRecvError, bounded};

use super::session::{Layout, Session};
use crate::capture::{self, Feed, StateChange};
use crate::cli::{Outcome, Usage};
use crate::config::{self, Environment, Overrides, Source, SourceFlags};
use crate::signal::SourceState;
use crate::spectrogram::ChannelChoice;

/// Between two looks at a microphone that has nothing new.
const POLL: Duration = Duration::from_millis(20);
/// State changes that may wait to be looked at.
const STATES_MAX: usize = 64;

/// The microphone can't be opened, or has gone.
#[derive(Debug, thiserror::Error)]
#[error("no sound from the microphone: {0}")]
pub struct NoMicrophone(String);

/// Why it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// There are as many takes as wanted.
    Complete,
    /// A person has stopped it.
    Stopped,
    /// Nobody can press Enter any more.
    NoKeys,
}

/// Makes takes until there are enough, or until it is stopped. With `by_key` a take begins when
/// Enter is pressed.
pub fn listen(
    device: &str,
    by_key: bool,
    mut session: Session,
    stop: &AtomicBool,
) -> anyhow::Result<Outcome> {
    let source = source(device)?;
    let keys = by_key.then(keys).transpose().context("no thread to wait for keys in")?;
    let (feeds_in, feeds) = bounded(1);
    let (states_in, states) = bounded(STATES_MAX);
    let capture =
        capture::start(source.capture, feeds_in, states_in).context("no thread to listen in")?;
    let mut ears = Ears { feeds, states, feed: None, keys, choice: source.channel };
    let end = ears.follow(&mut session, stop);
    session.abandon()?;
    capture.stop();
    if end? == End::NoKeys && session.made() == 0 {
        let what =
            "--mode fixed: a take begins when Enter is pressed, and standard input has ended";
        return Err(Usage(what.to_owned()).into());
    }
    Ok(Outcome::Done)
}

/// The device, read as the configuration's.
fn source(device: &str) -> anyhow::Result<Source> {
    let sources = SourceFlags { devices: vec![device.to_owned()], ..SourceFlags::default() };
    let flags = Overrides { sources, ..Overrides::default() };
    let settings = config::load(None, &Environment::default(), &flags)?;
    settings.sources.into_iter().next().context("no source")
}

/// Each line of standard input; disconnected at its end.
fn keys() -> std::io::Result<Receiver<()>> {
    let (pressed, keys) = bounded(1);
    thread::Builder::new().name("keys".to_owned()).spawn(move || {
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            if pressed.send(()).is_err() {
                return;
            }
        }
    })?;
    Ok(keys)
}

/// Everything that may bring news.
struct Ears {
    feeds: Receiver<Feed>,
    states: Receiver<StateChange>,
    feed: Option<Feed>,
    keys: Option<Receiver<()>>,
    choice: ChannelChoice,
}

impl Ears {
    fn follow(&mut self, session: &mut Session, stop: &AtomicBool) -> anyhow::Result<End> {
        let mut samples = Vec::new();
        while !session.is_complete() {
            if stop.load(Ordering::Relaxed) {
                return Ok(End::Stopped);
            }
            self.look_at_states(session)?;
            self.take_feed(session);
            let keys_ended = self.look_at_keys(session);
            if keys_ended && !session.is_taking() {
                return Ok(End::NoKeys);
            }
            samples.clear();
            let popped = self.feed.as_mut().map(|feed| feed.audio.pop(&mut samples));
            let popped = popped.unwrap_or_default();
            if popped.gap_frames > 0 {
                session.gap();
            }
            if popped.frames == 0 {
                thread::sleep(POLL);
                continue;
            }
            session.hear(&samples)?;
            session.show();
        }
        Ok(End::Complete)
    }

    fn look_at_states(&self, session: &Session) -> Result<(), NoMicrophone> {
        for change in self.states.try_iter() {
            let detail = change.detail.unwrap_or_default();
            match change.state {
                SourceState::Lost
                | SourceState::BackingOff
                | SourceState::Failed
                | SourceState::Ended => return Err(NoMicrophone(reason(&detail).to_owned())),
                SourceState::Muted | SourceState::Stalled => {
                    session.say(&format!("the microphone: {detail}"));
                }
                SourceState::Opening | SourceState::Running | SourceState::Off => {}
            }
        }
        Ok(())
    }

    fn take_feed(&mut self, session: &mut Session) {
        if let Ok(feed) = self.feeds.try_recv() {
            session.begin(Layout {
                rate_hz: feed.sample_rate_hz,
                channels: usize::from(feed.channels),
                choice: self.choice,
            });
            self.feed = Some(feed);
        }
    }

    /// True when there will be no more.
    fn look_at_keys(&self, session: &mut Session) -> bool {
        // What is pressed before the microphone is open comes later.
        let Some(keys) = self.keys.as_ref().filter(|_| self.feed.is_some()) else { return false };
        match keys.try_recv() {
            Ok(()) => session.call(),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return true,
        }
        false
    }
}

/// The capture's reason, without the attempt that it announces: here there is none.
fn reason(detail: &str) -> &str {
    detail.split_once("; next attempt in ").map_or(detail, |(reason, _)| reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_as_in_the_configuration() {
        use crate::capture::settings::{DeviceSelect, Origin};
        let origin = |device: &str| source(device).map(|source| source.capture.origin);
        let expected = DeviceSelect::Name("USB".to_owned());
        assert_eq!(origin("name:USB").unwrap(), Origin::Device(expected));
        let error = origin("USB").unwrap_err().to_string();
        assert!(error.contains("--device") && error.contains("USB"), "{error}");
    }
}
