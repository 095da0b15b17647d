//! Whether the daemon does its job. The watchdog is fed by this and nothing else. Pure.

use std::time::Duration;

use crate::signal::SourceState;

/// Longest time without a judged window while a source hears, beyond the window itself.
const GRACE: Duration = Duration::from_secs(6);

/// And so long beyond it, a stage is taken for stuck.
const STUCK_AFTER: Duration = Duration::from_secs(40);

/// How far a source has come. Counters only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    pub classified_windows: u64,
    /// Hops of audio analysed.
    pub slices: u64,
    /// Windows wait for the network.
    pub waiting: bool,
}

/// One source, as the supervisor sees it.
#[derive(Debug, Clone)]
pub struct Pulse {
    state: SourceState,
    progress: Progress,
    /// How long nothing has come of what the source hears.
    idle: Duration,
}

/// A stage that stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stuck {
    /// Audio comes, and is not turned into windows.
    Analysis,
    /// Windows wait, and are not judged.
    Classification,
}

impl Pulse {
    /// A source that is being opened.
    pub fn new() -> Self {
        Self { state: SourceState::Opening, progress: Progress::default(), idle: Duration::ZERO }
    }

    /// Takes what is known `elapsed` after the last call. A judged window is progress; so is
    /// analysed audio as long as no window waits (a slow pipe fills its first one slowly). A
    /// source that does not hear is no excuse for later: the wait begins anew when it hears again.
    pub fn note(&mut self, state: SourceState, progress: Progress, elapsed: Duration) {
        let judged = progress.classified_windows != self.progress.classified_windows;
        let analysed = progress.slices != self.progress.slices && !progress.waiting;
        if judged || analysed || !state.is_hearing() || !self.state.is_hearing() {
            self.idle = Duration::ZERO;
        } else {
            self.idle += elapsed;
        }
        self.state = state;
        self.progress = progress;
    }

    /// What has stood still for so long that it will not go on by itself.
    pub fn stuck(&self, window: Duration) -> Option<Stuck> {
        let is_stuck = self.idle > window + STUCK_AFTER;
        is_stuck.then_some(if self.progress.waiting {
            Stuck::Classification
        } else {
            Stuck::Analysis
        })
    }

    /// Whether this source does what is expected of it: windows are judged, or its loss has been
    /// reported.
    pub fn is_well(&self, window: Duration) -> bool {
        self.idle <= window + GRACE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(5);
    const TICK: Duration = Duration::from_millis(100);

    /// A source in this state, ten ticks a second; the counters by the tick.
    fn after(
        seconds: u64,
        state: SourceState,
        classified_windows: impl Fn(u64) -> u64,
        slices: impl Fn(u64) -> u64,
    ) -> bool {
        let mut pulse = Pulse::new();
        for tick in 0..seconds * 10 {
            let (classified_windows, slices) = (classified_windows(tick), slices(tick));
            let waiting = slices > classified_windows + 10;
            pulse.note(state, Progress { classified_windows, slices, waiting }, TICK);
        }
        pulse.is_well(WINDOW)
    }

    #[test]
    fn judged_windows_and_reported_losses_feed_it() {
        assert!(after(60, SourceState::Running, |tick| tick / 5, |tick| tick / 5));
        for lost in [SourceState::Lost, SourceState::BackingOff, SourceState::Stalled] {
            assert!(after(60, lost, |_| 7, |_| 7), "{lost:?}");
        }
        assert!(after(5, SourceState::Running, |_| 0, |tick| tick / 5), "the first window");
        assert!(after(60, SourceState::Running, |_| 0, |tick| tick / 100), "a slow pipe");
    }

    #[test]
    fn what_stands_still_is_told_apart() {
        let stuck = |waiting: bool, seconds: u64| {
            let mut pulse = Pulse::new();
            for _ in 0..seconds * 10 {
                let progress = Progress { classified_windows: 3, slices: 9, waiting };
                pulse.note(SourceState::Running, progress, TICK);
            }
            pulse.stuck(WINDOW)
        };
        assert_eq!(stuck(true, 40), None);
        assert_eq!(stuck(true, 60), Some(Stuck::Classification));
        assert_eq!(stuck(false, 60), Some(Stuck::Analysis));
    }

    #[test]
    fn hearing_without_judging_starves_it() {
        let analysed = |tick| tick / 5;
        assert!(!after(60, SourceState::Running, |tick| (tick / 5).min(10), analysed));
        assert!(!after(60, SourceState::Muted, |_| 3, analysed));
        assert!(!after(60, SourceState::Running, |_| 3, |_| 3), "the analysis is stuck");
    }
}
