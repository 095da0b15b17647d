//! A reading thread's way into the ring. Unlike an audio callback it may wait: while the ring is
//! full, nothing is lost and the source is held back.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use super::source::{Health, Stream};
use crate::ring::Producer;

/// Between two looks at a full ring; a fraction of what it holds.
const ROOM_POLL: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    waiting: AtomicBool,
    outcome: OnceLock<Health>,
}

/// The thread's end: owns the ring's writing end, and closes it when dropped.
pub(super) struct Feeder {
    producer: Producer,
    shared: Arc<Shared>,
}

/// The owner's end. Dropping it tells the thread to stop and does not wait for it.
pub(super) struct FeederHandle {
    shared: Arc<Shared>,
    thread: Option<Thread>,
}

/// The two ends of a new feeder.
pub(super) fn feeder(producer: Producer) -> (Feeder, FeederHandle) {
    let shared = Arc::new(Shared::default());
    (Feeder { producer, shared: Arc::clone(&shared) }, FeederHandle { shared, thread: None })
}

/// Starts a thread that feeds until `work` returns how it ended.
pub(super) fn spawn(
    name: &str,
    producer: Producer,
    work: impl FnOnce(&mut Feeder) -> Health + Send + 'static,
) -> io::Result<FeederHandle> {
    let (mut feeder, mut handle) = feeder(producer);
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let outcome = work(&mut feeder);
        feeder.end(outcome);
    })?;
    handle.thread = Some(thread.thread().clone());
    Ok(handle)
}

impl Feeder {
    /// Hands interleaved samples over, waiting for room. False when it was told to stop.
    pub(super) fn push(&mut self, samples: &[f32]) -> bool {
        let mut rest = samples;
        loop {
            if self.is_stopped() {
                return false;
            }
            let room = self.producer.vacant_frames() * self.producer.channels();
            let (head, tail) = rest.split_at(room.min(rest.len()));
            self.producer.push(head);
            rest = tail;
            if rest.len() < self.producer.channels() {
                self.shared.waiting.store(false, Ordering::Relaxed);
                return true;
            }
            self.shared.waiting.store(true, Ordering::Relaxed);
            thread::park_timeout(ROOM_POLL);
        }
    }

    /// Waits, at most this long. False when it was told to stop.
    pub(super) fn pause(&self, time: Duration) -> bool {
        if !self.is_stopped() {
            thread::park_timeout(time);
        }
        !self.is_stopped()
    }

    /// Whether the owner has closed this source.
    pub(super) fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Acquire)
    }

    /// Says how it ended. The first word counts.
    pub(super) fn end(&mut self, outcome: Health) {
        // Already set: something worse was told before.
        let _ = self.shared.outcome.set(outcome);
    }
}

impl Stream for FeederHandle {
    fn health(&mut self) -> Health {
        match self.shared.outcome.get() {
            Some(outcome) => outcome.clone(),
            None if self.shared.waiting.load(Ordering::Relaxed) => Health::WaitingForRoom,
            None => Health::Flowing,
        }
    }
}

impl Drop for FeederHandle {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}
