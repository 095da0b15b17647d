//! How many commands are obeyed in a time: a bucket of tokens that fills slowly. Pure; times are
//! passed in.

use std::time::{Duration, Instant};

/// Commands that may come at once.
const BURST: u32 = 20;
/// After that, one in this time.
const EVERY: Duration = Duration::from_secs(1);

/// The commands that are still allowed.
#[derive(Debug, Default)]
pub struct Allowance {
    /// The last time that tokens were added, and how many were left then.
    last: Option<(Instant, u32)>,
}

impl Allowance {
    /// Whether one more is allowed at `now`; if so, it counts.
    pub fn take(&mut self, now: Instant) -> bool {
        let (since, left) = self.last.unwrap_or((now, BURST));
        let passed = now.saturating_duration_since(since);
        let fresh = u32::try_from(passed.as_nanos() / EVERY.as_nanos()).unwrap_or(u32::MAX);
        let left = left.saturating_add(fresh).min(BURST);
        // What has passed of the next token's time is not lost.
        let since = if left == BURST { now } else { since + EVERY * fresh };
        let allowed = left > 0;
        self.last = Some((since, left.saturating_sub(1)));
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_a_flood_is_not() {
        let mut allowance = Allowance::default();
        let start = Instant::now();
        let taken = (0..1_000).filter(|_| allowance.take(start)).count();
        assert_eq!(taken, BURST as usize);
        // A thousand a second for ten seconds: one a second gets through.
        let at = |ms: u64| start + Duration::from_millis(ms);
        let taken = (1..=10_000).filter(|ms| allowance.take(at(*ms))).count();
        assert_eq!(taken, 10);
        let later = at(3_600_000);
        assert_eq!((0..1_000).filter(|_| allowance.take(later)).count(), BURST as usize);
    }
}
