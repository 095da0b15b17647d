//! The end, as those see it who wait for something: none in sight, or by when.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// By when all has to be over.
#[derive(Debug, Default)]
pub struct Stop {
    end: Mutex<Option<Instant>>,
    changed: Condvar,
}

impl Stop {
    /// All has to be over by then, or sooner if that was said before.
    pub fn end_by(&self, at: Instant) {
        let mut end = self.lock();
        *end = Some(end.map_or(at, |before| before.min(at)));
        self.changed.notify_all();
    }

    /// The time that is left; `None` while no end is in sight.
    pub fn left(&self) -> Option<Duration> {
        self.lock().map(|end| end.saturating_duration_since(Instant::now()))
    }

    /// Waits so long. False, perhaps at once, when the end comes before that.
    pub fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut end = self.lock();
        loop {
            if end.is_some_and(|end| end < until) {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            (end, _) = self.changed.wait_timeout(end, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_pause_is_cut_short_by_the_end() {
        let stop = Arc::new(Stop::default());
        assert!(stop.pause(Duration::from_millis(1)) && stop.left().is_none());
        let waiting = Arc::clone(&stop);
        let pause = std::thread::spawn(move || waiting.pause(Duration::from_secs(3_600)));
        stop.end_by(Instant::now() + Duration::from_secs(60));
        assert!(!pause.join().unwrap(), "there is no hour left");
        assert!(stop.pause(Duration::from_millis(1)), "but there is a moment");
        stop.end_by(Instant::now());
        stop.end_by(Instant::now() + Duration::from_secs(60));
        assert_eq!(stop.left(), Some(Duration::ZERO), "the sooner end counts");
    }
}
