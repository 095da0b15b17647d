//! How often something may be done in a time: a bucket of tokens that fills slowly. Pure; times are
//! passed in.

use std::time::{Duration, Instant};

/// What is still allowed.
#[derive(Debug)]
pub struct Allowance {
    /// So many may come at once ...
    burst: u32,
    /// ... and after that one in this time.
    every: Duration,
    /// The last time that tokens were added, and how many were left then.
    last: Option<(Instant, u32)>,
}

impl Allowance {
    /// A full bucket.
    pub fn new(burst: u32, every: Duration) -> Self {
        Self { burst, every, last: None }
    }

    /// Whether one more is allowed at `now`; if so, it counts.
    pub fn take(&mut self, now: Instant) -> bool {
        let (since, left) = self.last.unwrap_or((now, self.burst));
        let passed = now.saturating_duration_since(since);
        let fresh = passed.as_nanos() / self.every.as_nanos().max(1);
        let fresh = u32::try_from(fresh).unwrap_or(u32::MAX);
        let left = left.saturating_add(fresh).min(self.burst);
        // What has passed of the next token's time is not lost.
        let since = if left == self.burst { now } else { since + self.every * fresh };
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
        const BURST: u32 = 20;
        let mut allowance = Allowance::new(BURST, Duration::from_secs(1));
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
