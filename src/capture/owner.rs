//! The thread that owns one source for good: opens it, watches it, puts it away and opens it
//! again. It never calls what may block; helper threads do, and it goes on without them.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{io, thread};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError, bounded};

use super::backoff::{Backoff, HELD};
use super::faults::{self, Flow, Observation};
use super::source::{Habits, Health, Open, OpenError, Opened, Stream};
use super::{Feed, StateChange};
use crate::ring::Meter;
use crate::signal::{SourceName, SourceState, Timestamp};

/// Between two looks at an open source.
const POLL: Duration = Duration::from_millis(100);

/// Between two looks at one that is being opened.
const POLL_OPENING: Duration = Duration::from_millis(10);

/// An attempt to open that has not come back by then is spoken of. It is not given up: one that
/// hangs holds the sound system's locks, so a second one would only hang behind it.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// A closing that has not come back by then no longer holds up the next opening.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// What a stop waits for a closing at most.
const STOP_WITHIN: Duration = Duration::from_millis(800);

/// Helper threads of one source that may hang in the sound system. With so many hanging another
/// one would not fare better; the source waits until one comes back.
const HELPERS_MAX: usize = 8;

/// State changes that nobody has taken yet; the oldest are dropped, the newest count.
const UNSENT_CHANGES_MAX: usize = 64;

/// What the outside asks of the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    Listen(bool),
    Stop,
}

/// Where the owner reports to.
pub(super) struct Outlets {
    pub(super) feeds: Sender<Feed>,
    pub(super) states: Sender<StateChange>,
}

/// An open stream and what has been seen of it.
struct Live {
    stream: Box<dyn Stream>,
    meter: Arc<Meter>,
    sample_rate_hz: u32,
    arrived_frames: u64,
    /// When that number last grew, or the stream was opened.
    grown_at: Instant,
    /// When the first sample came.
    heard_at: Option<Instant>,
}

/// An attempt to open, under way on a helper thread.
struct Attempt {
    result: Receiver<Result<Opened, OpenError>>,
    began: Instant,
}

/// A stream being closed on a helper thread.
struct Closing {
    done: Receiver<()>,
    began: Instant,
}

/// Counts the helper threads that have not come back.
#[derive(Debug, Clone, Default)]
struct Helpers(Arc<AtomicUsize>);

/// One helper thread at work; gone when it is dropped, also by a panic.
struct HelperMark(Arc<AtomicUsize>);

impl Drop for HelperMark {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Helpers {
    fn busy(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::AcqRel);
        let mark = HelperMark(Arc::clone(&self.0));
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _mark = mark;
            work();
        })?;
        Ok(())
    }
}

pub(super) struct Owner {
    name: SourceName,
    open: Open,
    habits: Habits,
    control: Receiver<Control>,
    outlets: Outlets,
    state: SourceState,
    live: Option<Live>,
    attempt: Option<Attempt>,
    closing: Option<Closing>,
    helpers: Helpers,
    backoff: Backoff,
    retry_at: Instant,
    unsent_feed: Option<Feed>,
    unsent_changes: VecDeque<StateChange>,
}

impl Owner {
    pub(super) fn new(
        name: SourceName,
        open: Open,
        habits: Habits,
        control: Receiver<Control>,
        outlets: Outlets,
    ) -> Self {
        let backoff = Backoff::new(habits.first_retry, habits.longest_retry);
        Self {
            name,
            open,
            habits,
            control,
            outlets,
            state: SourceState::Off,
            live: None,
            attempt: None,
            closing: None,
            helpers: Helpers::default(),
            backoff,
            retry_at: Instant::now(),
            unsent_feed: None,
            unsent_changes: VecDeque::new(),
        }
    }

    /// Listens until told to stop, or until nobody wants to know any more.
    pub(super) fn run(mut self) {
        self.apply(Observation::SwitchedOn, None);
        loop {
            self.look();
            if !self.report() {
                break;
            }
            let opening = self.state == SourceState::Opening && self.attempt.is_some();
            let poll = if opening { POLL_OPENING } else { POLL };
            match self.control.recv_timeout(poll) {
                Ok(Control::Listen(true)) => self.apply(Observation::SwitchedOn, None),
                Ok(Control::Listen(false)) => self.apply(Observation::SwitchedOff, None),
                Ok(Control::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        self.close();
        if let Some(closing) = self.closing.take() {
            // Longer than this is not waited: the process ends without it.
            let _ = closing.done.recv_timeout(STOP_WITHIN);
        }
    }

    /// One look at everything that may have changed.
    fn look(&mut self) {
        self.settle_closing();
        if self.state == SourceState::BackingOff && self.is_retry_due() {
            self.apply(Observation::RetryDue, None);
        }
        if self.live.is_none() && self.state == SourceState::Opening {
            self.look_at_attempt();
        }
        if self.live.is_some() {
            self.look_at_stream();
        }
    }

    fn settle_closing(&mut self) {
        let over = self.closing.as_ref().is_some_and(|closing| {
            closing.done.try_recv() != Err(TryRecvError::Empty)
                || closing.began.elapsed() >= CLOSE_WITHIN
        });
        if over {
            self.closing = None;
        }
    }

    fn is_retry_due(&self) -> bool {
        match &self.attempt {
            // A late answer is an answer.
            Some(attempt) => !attempt.result.is_empty(),
            None => self.closing.is_none() && Instant::now() >= self.retry_at,
        }
    }

    fn look_at_attempt(&mut self) {
        let Some(attempt) = &self.attempt else { return };
        match attempt.result.try_recv() {
            Ok(Ok(opened)) => {
                self.attempt = None;
                self.adopt(opened);
            }
            Ok(Err(OpenError::Retry(reason))) => {
                self.attempt = None;
                self.apply(Observation::OpenFailed, Some(reason));
            }
            Ok(Err(OpenError::Hopeless(reason))) => {
                self.attempt = None;
                self.apply(Observation::Hopeless, Some(reason));
            }
            Err(_) if attempt.began.elapsed() >= OPEN_WITHIN => {
                let waited = OPEN_WITHIN.as_secs();
                let reason = format!("does not answer: opening it has taken over {waited} s");
                self.apply(Observation::OpenOverdue, Some(reason));
            }
            Err(_) => {}
        }
    }

    fn adopt(&mut self, opened: Opened) {
        self.live = Some(Live {
            stream: opened.stream,
            meter: Arc::clone(opened.feed.audio.meter()),
            sample_rate_hz: opened.feed.sample_rate_hz.max(1),
            arrived_frames: 0,
            grown_at: Instant::now(),
            heard_at: None,
        });
        self.unsent_feed = Some(opened.feed);
    }

    fn look_at_stream(&mut self) {
        let Some(live) = &mut self.live else { return };
        let health = live.stream.health();
        let flow = live.flow(&health, &self.habits);
        // The samples come first: what was heard before the end was heard.
        self.apply(Observation::Flow(flow), None);
        match health {
            Health::Flowing | Health::WaitingForRoom => {}
            Health::Finished => self.apply(Observation::Finished, None),
            Health::Broken(reason) => self.apply(Observation::Broken, Some(reason)),
            Health::Hopeless(reason) => self.apply(Observation::Hopeless, Some(reason)),
        }
    }

    /// Lets the transition function judge, and does what the new state asks for.
    fn apply(&mut self, seen: Observation, reason: Option<String>) {
        let Some(next) = faults::next(self.state, &seen) else { return };
        self.state = next;
        let detail = reason.or_else(|| usual_detail(next));
        match next {
            SourceState::Opening => {
                self.announce(None);
                self.begin_attempt();
            }
            SourceState::Running | SourceState::Muted | SourceState::Stalled => {
                self.announce(detail);
            }
            SourceState::Lost => {
                self.forget_failures_if_it_held();
                self.announce(detail.clone());
                self.close();
                self.apply(Observation::WaitBegun, detail);
            }
            SourceState::BackingOff => self.back_off(detail),
            SourceState::Failed | SourceState::Ended => {
                self.announce(detail);
                self.close();
            }
            SourceState::Off => {
                self.backoff.reset();
                self.announce(None);
                // What was recorded before a failure or an end is heard all the same; not this.
                self.unsent_feed = None;
                self.close();
            }
        }
    }

    fn back_off(&mut self, reason: Option<String>) {
        let wait = self.backoff.next();
        self.retry_at = Instant::now() + wait;
        let reason = reason.unwrap_or_default();
        let detail = if self.attempt.is_some() {
            reason
        } else {
            format!("{reason}; next attempt in {} s", wait.as_secs_f64())
        };
        self.announce(Some(detail));
    }

    fn forget_failures_if_it_held(&mut self) {
        let heard_at = self.live.as_ref().and_then(|live| live.heard_at);
        if heard_at.is_some_and(|since| since.elapsed() >= HELD) {
            self.backoff.reset();
        }
    }

    /// Starts an attempt to open, unless one is under way.
    fn begin_attempt(&mut self) {
        if self.attempt.is_some() {
            return;
        }
        let stuck = self.helpers.busy();
        if stuck >= HELPERS_MAX {
            let reason =
                format!("the sound system hangs: {stuck} earlier calls have not come back");
            self.apply(Observation::OpenFailed, Some(reason));
            return;
        }
        let (sender, result) = bounded(1);
        let open = Arc::clone(&self.open);
        let spawned = self.helpers.spawn("capture-open", move || {
            let died = || OpenError::Retry("the attempt to open it died".to_owned());
            let result = catch_unwind(AssertUnwindSafe(|| open())).unwrap_or_else(|_| Err(died()));
            // When nobody waits for it any more, it is closed right here.
            let _ = sender.send(result);
        });
        match spawned {
            Ok(()) => self.attempt = Some(Attempt { result, began: Instant::now() }),
            Err(error) => {
                let reason = format!("no thread to open it: {error}");
                self.apply(Observation::OpenFailed, Some(reason));
            }
        }
    }

    /// Puts the stream away, and lets go of an attempt under way.
    fn close(&mut self) {
        self.attempt = None;
        let Some(live) = self.live.take() else { return };
        // The listening side must not wait for a stream whose closing hangs.
        live.meter.abandon();
        let (sender, done) = bounded::<()>(1);
        let spawned = self.helpers.spawn("capture-close", move || {
            drop(live);
            drop(sender);
        });
        match spawned {
            Ok(()) => self.closing = Some(Closing { done, began: Instant::now() }),
            // Without a thread it was closed here.
            Err(error) => tracing::warn!("{}: no thread to close it: {error}", self.name),
        }
    }

    fn announce(&mut self, detail: Option<String>) {
        if self.unsent_changes.len() == UNSENT_CHANGES_MAX {
            self.unsent_changes.pop_front();
        }
        self.unsent_changes.push_back(StateChange {
            source: Arc::clone(&self.name),
            state: self.state,
            since: Timestamp::now(),
            detail,
        });
    }

    /// Sends what there is to send, without waiting. False when nobody listens any more.
    fn report(&mut self) -> bool {
        if let Some(feed) = self.unsent_feed.take() {
            match self.outlets.feeds.try_send(feed) {
                Ok(()) => {}
                Err(TrySendError::Full(feed)) => self.unsent_feed = Some(feed),
                Err(TrySendError::Disconnected(_)) => return false,
            }
        }
        while let Some(change) = self.unsent_changes.pop_front() {
            match self.outlets.states.try_send(change) {
                Ok(()) => {}
                Err(TrySendError::Full(change)) => {
                    self.unsent_changes.push_front(change);
                    return true;
                }
                Err(TrySendError::Disconnected(_)) => return false,
            }
        }
        true
    }
}

impl Live {
    /// Brings the account of samples up to date.
    fn flow(&mut self, health: &Health, habits: &Habits) -> Flow {
        let now = Instant::now();
        let arrived_frames = self.meter.arrived_frames();
        if arrived_frames > self.arrived_frames {
            self.arrived_frames = arrived_frames;
            self.grown_at = now;
            self.heard_at.get_or_insert(now);
        }
        // Held back by a slow analysis, not by itself.
        if *health == Health::WaitingForRoom {
            self.grown_at = now;
        }
        let silent_seconds = self.meter.silent_frames() as f64 / f64::from(self.sample_rate_hz);
        let silent = if habits.silence_is_mute {
            Duration::try_from_secs_f64(silent_seconds).unwrap_or(Duration::MAX)
        } else {
            Duration::ZERO
        };
        Flow {
            heard: self.heard_at.is_some(),
            idle: now.duration_since(self.grown_at),
            silent,
            patience: habits.patience,
        }
    }
}

/// What there is to say about a state that nothing else explains.
fn usual_detail(state: SourceState) -> Option<String> {
    let words = match state {
        SourceState::Muted => "nothing but digital silence: muted, or switched off at the device",
        SourceState::Stalled => "open, but no samples come",
        SourceState::Lost => "no samples came for too long",
        _ => return None,
    };
    Some(words.to_owned())
}
