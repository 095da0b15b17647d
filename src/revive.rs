//! A stage that panics is begun again after a pause, and that is counted. When it happens too often,
//! something is wrong that beginning again does not mend.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many restarts, of all stages together, within so long are too many.
const RESTARTS_MAX: usize = 10;
const WITHIN: Duration = Duration::from_secs(600);
/// The first pause; each further one in that time is twice as long, up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The restarts of all stages.
#[derive(Debug, Default)]
pub struct Restarts {
    total: AtomicU64,
    recent: Mutex<VecDeque<Instant>>,
}

/// Stages had to be begun anew so often that the process had better end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{stage} failed, and stages have been begun anew {RESTARTS_MAX} times within {} minutes", WITHIN.as_secs() / 60)]
pub struct TooManyRestarts {
    pub stage: String,
}

impl Restarts {
    /// Counts one. Returns how long to wait before it.
    ///
    /// # Errors
    /// When there were too many.
    pub fn note(&self, stage: &str, now: Instant) -> Result<Duration, TooManyRestarts> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        while recent.front().is_some_and(|then| now.saturating_duration_since(*then) > WITHIN) {
            recent.pop_front();
        }
        if recent.len() >= RESTARTS_MAX {
            return Err(TooManyRestarts { stage: stage.to_owned() });
        }
        let doublings = u32::try_from(recent.len()).unwrap_or(u32::MAX);
        recent.push_back(now);
        self.total.fetch_add(1, Ordering::Relaxed);
        Ok(PAUSE.saturating_mul(2_u32.saturating_pow(doublings)).min(PAUSE_MAX))
    }

    /// Since the start of the process.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

/// Does the work of a stage until it returns, anew after each panic.
///
/// # Errors
/// When that happens too often.
pub fn revived<T>(
    stage: &str,
    restarts: &Restarts,
    mut work: impl FnMut() -> T,
) -> Result<T, TooManyRestarts> {
    loop {
        // Each stage's `work` begins by bringing what it holds into a known state.
        match catch_unwind(AssertUnwindSafe(&mut work)) {
            Ok(done) => return Ok(done),
            Err(panic) => {
                let pause = restarts.note(stage, Instant::now())?;
                let why = message(&*panic);
                tracing::error!("{stage} failed and is begun anew in {pause:?}: {why}");
                std::thread::sleep(pause);
            }
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_goes_on_after_panics_and_they_are_counted() {
        let restarts = Restarts::default();
        let mut tries = 0;
        let done = revived("test", &restarts, || {
            tries += 1;
            assert!(tries > 2, "not yet");
            tries
        });
        assert_eq!((done, restarts.total()), (Ok(3), 2));
    }

    #[test]
    fn pauses_grow_and_too_many_restarts_end_it() {
        let restarts = Restarts::default();
        let start = Instant::now();
        let pauses: Vec<Duration> = (0..10)
            .map(|n| restarts.note("test", start + Duration::from_secs(n)).unwrap())
            .collect();
        assert_eq!(pauses[..3], [PAUSE, 2 * PAUSE, 4 * PAUSE]);
        assert_eq!(pauses[9], PAUSE_MAX);
        let error = restarts.note("test", start + Duration::from_secs(20)).unwrap_err();
        assert!(error.to_string().starts_with("test failed"), "{error}");
        // Long ago is forgotten.
        assert_eq!(restarts.note("test", start + Duration::from_secs(2_000)), Ok(PAUSE));
        assert_eq!(restarts.total(), 11);
    }
}
