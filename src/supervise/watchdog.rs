//! Whether the daemon does its job. The watchdog is fed by this and nothing else. Pure.

use std::time::Duration;

use crate::signal::SourceState;

/// Longest time without a judged window while a source hears, beyond the window itself.
const GRACE: Duration = Duration::from_secs(6);

/// One source, as the supervisor sees it.
#[derive(Debug, Clone)]
pub struct Pulse {
    state: SourceState,
    classified_windows: u64,
    /// How long ago the source began to hear, or a window of it was last judged.
    idle: Duration,
}

impl Pulse {
    /// A source that is being opened.
    pub fn new() -> Self {
        Self { state: SourceState::Opening, classified_windows: 0, idle: Duration::ZERO }
    }

    /// Takes what is known `elapsed` after the last call. A source that does not hear is no
    /// excuse for later: the wait begins anew when it hears again.
    pub fn note(&mut self, state: SourceState, classified_windows: u64, elapsed: Duration) {
        let progress = classified_windows != self.classified_windows;
        if progress || !state.is_hearing() || !self.state.is_hearing() {
            self.idle = Duration::ZERO;
        } else {
            self.idle += elapsed;
        }
        self.state = state;
        self.classified_windows = classified_windows;
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

    fn after(seconds: u64, state: SourceState, windows: impl Fn(u64) -> u64) -> bool {
        let mut pulse = Pulse::new();
        for tick in 0..seconds * 10 {
            pulse.note(state, windows(tick), TICK);
        }
        pulse.is_well(WINDOW)
    }

    #[test]
    fn judged_windows_and_reported_losses_feed_it() {
        assert!(after(60, SourceState::Running, |tick| tick / 5));
        for lost in [SourceState::Lost, SourceState::BackingOff, SourceState::Stalled] {
            assert!(after(60, lost, |_| 7), "{lost:?}");
        }
        assert!(after(5, SourceState::Running, |_| 0), "the first window takes its time");
    }

    #[test]
    fn hearing_without_judging_starves_it() {
        assert!(!after(60, SourceState::Running, |tick| (tick / 5).min(10)));
        assert!(!after(60, SourceState::Muted, |_| 3));
        assert!(!after(12, SourceState::Running, |_| 0));
    }
}
