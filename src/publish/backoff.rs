//! How long to wait before the next connection attempt: exponential growth with full jitter, so
//! that many listeners do not come back to a restarted broker in step.

use std::time::Duration;

/// Never shorter than this, whatever the dice say: a refused connection costs nothing, and an
/// endless loop of them would cost a core.
const DELAY_MIN: Duration = Duration::from_millis(20);

/// The limits of the waiting times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Ceiling of the first wait; it doubles with each further failure.
    pub first: Duration,
    /// The ceiling grows no higher than this.
    pub max: Duration,
    /// A connection that lasted this long counts as good: the next wait starts from `first`.
    pub held: Duration,
    /// The discovery is announced again within this time after Home Assistant's birth message, at
    /// a random moment, as Home Assistant asks for.
    pub announce_within: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(250),
            max: Duration::from_secs(30),
            held: Duration::from_secs(10),
            announce_within: Duration::from_secs(3),
        }
    }
}

/// Counts failures and turns them into waiting times.
#[derive(Debug, Clone)]
pub struct Backoff {
    pace: Pace,
    failures: u32,
}

impl Backoff {
    /// No failure so far.
    pub fn new(pace: Pace) -> Self {
        Self { pace, failures: 0 }
    }

    /// The wait after one more failure, given a random number from 0 to 1 (others are clamped).
    /// Between 20 ms and the present ceiling.
    pub fn next_delay(&mut self, random: f64) -> Duration {
        let ceiling = self.ceiling();
        self.failures = self.failures.saturating_add(1);
        let share = if random.is_finite() { random.clamp(0.0, 1.0) } else { 1.0 };
        ceiling.mul_f64(share).clamp(DELAY_MIN.min(ceiling), ceiling)
    }

    /// Tells how long a connection lasted; a good one forgives all failures.
    pub fn connection_lasted(&mut self, time: Duration) {
        if time >= self.pace.held {
            self.failures = 0;
        }
    }

    fn ceiling(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.pace.first.saturating_mul(factor).min(self.pace.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ceilings_double_up_to_the_limit() {
        let mut backoff = Backoff::new(Pace::default());
        let waits: Vec<u128> = (0..10).map(|_| backoff.next_delay(1.0).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
    }

    #[test]
    fn only_a_connection_that_held_starts_over() {
        let mut backoff = Backoff::new(Pace::default());
        for _ in 0..6 {
            backoff.next_delay(1.0);
        }
        backoff.connection_lasted(Duration::from_secs(1));
        assert_eq!(backoff.next_delay(1.0), Duration::from_secs(16));
        backoff.connection_lasted(Duration::from_secs(11));
        assert_eq!(backoff.next_delay(1.0), Duration::from_millis(250));
    }

    proptest! {
        #[test]
        fn every_wait_is_within_bounds(failures in 0_usize..200, random in any::<f64>()) {
            let mut backoff = Backoff::new(Pace::default());
            for _ in 0..failures {
                backoff.next_delay(0.5);
            }
            let wait = backoff.next_delay(random);
            prop_assert!(wait >= DELAY_MIN);
            prop_assert!(wait <= Duration::from_secs(30));
        }
    }
}
