//! The end of the daemon: every stage stops in the order of the data, within a time.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;

use super::{Daemon, Outcome, TICK};

/// From the signal to the end of the process; up to [`TICK`] and [`GRACE`] come on top.
const SHUTDOWN_MAX: Duration = Duration::from_millis(1_900);
/// What of it is kept for telling the broker.
pub(super) const FAREWELL_MIN: Duration = Duration::from_millis(600);
/// A stage that has to end by a certain time may take so much longer to say that it has.
const GRACE: Duration = Duration::from_millis(200);
/// Once the end is asked for, clips of sounds that were on are cut in this time, or go without a link
/// to them.
const CLIPS_WITHIN: Duration = Duration::from_millis(400);
/// When all sources have ended by themselves: as long as this for judging and delivering the rest.
const DRAIN_MAX: Duration = Duration::from_secs(30);

impl Daemon {
    /// Stops every stage in the order of the data, so that nothing heard is lost: capture,
    /// analysis, classification (which closes what is on), and the farewell to the broker. Files
    /// that were heard to their end have all their windows judged and delivered, unless a signal
    /// comes meanwhile.
    pub(super) fn shut_down(self, outcome: Outcome) -> anyhow::Result<Outcome> {
        self.notifier.stopping();
        let Self {
            sources,
            sinks,
            hurry,
            classified,
            clipped,
            mut signals,
            dashboard,
            // Let go of in the opposite order.
            lock: _lock,
            answering: _answering,
            ..
        } = self;
        // When asked to end, windows in the queues are not judged any more; what is on is closed.
        let hurried = || hurry.store(true, Ordering::Relaxed);
        let mut time = Remaining::new(outcome == Outcome::Asked, &mut signals);
        match time.asked {
            true => hurried(),
            false => tracing::info!("all sources have ended; what is left is judged and delivered"),
        }
        // What its requests still do, they do beside the rest.
        if let Some(dashboard) = &dashboard {
            dashboard.stop();
        }
        for source in sources {
            // Each capture may take a while to let go of its device, so they stop side by side.
            // Without a thread for it, dropping the source tells it just as well.
            let name = "stop".to_owned();
            let _ = std::thread::Builder::new().name(name).spawn(move || source.stop());
        }
        let result = time.wait(&classified, FAREWELL_MIN, hurried);
        if result.is_err() {
            tracing::warn!("the classification did not end in time; open events may lack an end");
        }
        if let Some(clipped) = clipped {
            // Disconnected at its end, which is what is waited for.
            if time.wait_for_clips(&clipped, hurried) == Err(RecvTimeoutError::Timeout) {
                tracing::warn!(
                    "clips were not written in time; some are not kept, or without a link"
                );
            }
        }
        let undelivered = sinks.shutdown(&mut time);
        if let Some(dashboard) = dashboard {
            dashboard.end(time.left(Duration::ZERO));
        }
        let asked = time.asked;
        match result {
            Ok(Err(error)) => Err(error),
            _ if !asked && undelivered > 0 => Ok(Outcome::SomeFailed),
            _ if asked => Ok(Outcome::Asked),
            _ => Ok(outcome),
        }
    }
}

/// The time that is left for ending; a signal shortens it.
pub(super) struct Remaining<'a> {
    until: Instant,
    /// Whether somebody wants the end now.
    asked: bool,
    signals: &'a mut Signals,
}

impl<'a> Remaining<'a> {
    fn new(asked: bool, signals: &'a mut Signals) -> Self {
        let within = if asked { SHUTDOWN_MAX } else { DRAIN_MAX };
        Self { until: Instant::now() + within, asked, signals }
    }

    /// Until then, but for what has to be left.
    fn left(&self, rest: Duration) -> Duration {
        self.until.saturating_duration_since(Instant::now()).saturating_sub(rest)
    }

    /// Waits until all clips are cut: for half of the time, or shortly when the end was asked for. A
    /// disk that hangs is not to take the time of the broker and of the alerts.
    fn wait_for_clips(
        &mut self,
        clipped: &Receiver<()>,
        hurried: impl Fn() + Copy,
    ) -> Result<(), RecvTimeoutError> {
        let was_asked = self.asked;
        let rest = |time: &Self| {
            let left = time.left(Duration::ZERO);
            let within = if time.asked { CLIPS_WITHIN } else { left / 2 };
            left.saturating_sub(within).max(FAREWELL_MIN)
        };
        let result = self.wait(clipped, rest(self), hurried);
        // A signal has made the time shorter than what was to be left.
        if self.asked == was_asked { result } else { self.wait(clipped, rest(self), hurried) }
    }

    /// When the broker has to have been told; there is always some time for it.
    pub(super) fn farewell(&mut self) -> Instant {
        let until = self.until.max(Instant::now() + FAREWELL_MIN);
        self.until = until + GRACE;
        until
    }

    /// Waits for the end of something, as long as there is time but for `rest`. When a signal comes,
    /// `hurried` is called, once, and the time becomes short.
    pub(super) fn wait<T>(
        &mut self,
        ended: &Receiver<T>,
        rest: Duration,
        hurried: impl Fn(),
    ) -> Result<T, RecvTimeoutError> {
        loop {
            let left = self.left(rest);
            match ended.recv_timeout(left.min(TICK)) {
                Err(RecvTimeoutError::Timeout) if left > TICK => {}
                result => return result,
            }
            if !self.asked && self.signals.pending().any(|signal| signal != SIGHUP) {
                self.asked = true;
                self.until = self.until.min(Instant::now() + SHUTDOWN_MAX);
                hurried();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;
    use std::cell::Cell;

    #[test]
    fn a_signal_shortens_the_time_and_is_passed_on_once() {
        // A signal that nothing else in this process is sent.
        let mut signals = Signals::new([signal_hook::consts::SIGUSR2]).unwrap();
        let (ending, ended) = bounded::<()>(1);
        let mut time = Remaining::new(false, &mut signals);
        assert!(time.left(Duration::ZERO) > SHUTDOWN_MAX);
        signal_hook::low_level::raise(signal_hook::consts::SIGUSR2).unwrap();
        let hurries = Cell::new(0);
        let result = time.wait(&ended, Duration::ZERO, || {
            hurries.set(hurries.get() + 1);
            // What was asked to hurry ends.
            ending.send(()).unwrap();
        });
        assert_eq!((result, hurries.get(), time.asked), (Ok(()), 1, true));
        assert!(time.left(Duration::ZERO) <= SHUTDOWN_MAX);
        // There is always time to tell the broker.
        time.until = Instant::now();
        assert!(time.farewell() > Instant::now());
        let result = time.wait(&ended, FAREWELL_MIN, || panic!("told already"));
        assert_eq!(result, Err(RecvTimeoutError::Timeout));
    }

    #[test]
    fn a_slow_disk_costs_clips_only_when_the_end_was_asked_for() {
        let mut signals = Signals::new([signal_hook::consts::SIGUSR1]).unwrap();
        // Cutting takes longer than a stop waits for it; when that gave up, it need not go on.
        for (asked, cutting_for, expected) in [
            (false, 3 * CLIPS_WITHIN, RecvTimeoutError::Disconnected),
            (true, DRAIN_MAX, RecvTimeoutError::Timeout),
        ] {
            let (given_up, told) = bounded::<()>(1);
            let (alive, ended) = bounded::<()>(0);
            let cutting = std::thread::spawn(move || {
                let _ = told.recv_timeout(cutting_for);
                drop(alive);
            });
            let mut time = Remaining::new(asked, &mut signals);
            // Plenty, whoever asked.
            time.until = Instant::now() + 4 * DRAIN_MAX;
            let result = time.wait_for_clips(&ended, || panic!("nobody asked"));
            assert_eq!(result, Err(expected));
            let _ = given_up.send(());
            cutting.join().unwrap();
        }
    }
}
