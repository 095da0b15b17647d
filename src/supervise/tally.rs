//! Counts and durations for `/metrics`: cheap to add to from any thread, read as a whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::dashboard::house::Distribution;
use crate::signal::{Event, Phase, Timestamp};

/// Upper bounds of the network's time for a window, in seconds.
const INFERENCE_S: [f64; 10] = [0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0];
/// Upper bounds of the time from a sound's start to its being told, in seconds.
const LATENCY_S: [f64; 10] = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 10.0, 30.0];

/// What has been counted since the start.
pub struct Tally {
    pub inference: Histogram,
    pub latency: Histogram,
    events: Mutex<BTreeMap<(String, String), u64>>,
}

/// How many durations were up to each of some bounds.
pub struct Histogram {
    bounds_s: &'static [f64],
    counts: Vec<AtomicU64>,
    sum_ns: AtomicU64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            inference: Histogram::new(&INFERENCE_S),
            latency: Histogram::new(&LATENCY_S),
            events: Mutex::default(),
        }
    }
}

impl Tally {
    /// Counts an event that is being told at `now`.
    pub fn told(&self, event: &Event, now: Timestamp) {
        if event.phase != Phase::Start {
            return;
        }
        // A clock that is set meanwhile is no duration.
        let late_s = now.seconds_since(event.start).clamp(0.0, 3_600.0);
        self.latency.add(Duration::from_secs_f64(late_s));
        let key = (event.source.to_string(), event.class.to_string());
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        *events.entry(key).or_default() += 1;
    }

    /// Events that began, by source and class.
    pub fn events(&self) -> BTreeMap<(String, String), u64> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Histogram {
    fn new(bounds_s: &'static [f64]) -> Self {
        let counts = (0..=bounds_s.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds_s, counts, sum_ns: AtomicU64::new(0) }
    }

    /// Counts a duration.
    pub fn add(&self, took: Duration) {
        let place = self.bounds_s.partition_point(|bound| *bound < took.as_secs_f64());
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(nanos, Ordering::Relaxed);
    }

    /// As it is now.
    pub fn distribution(&self) -> Distribution {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let buckets = self.bounds_s.iter().copied().zip(self.counts.iter().map(count)).collect();
        let over = self.counts.last().map_or(0, count);
        Distribution { buckets, over, sum_s: self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_under_the_first_bound_that_is_not_below_it() {
        let histogram = Histogram::new(&[0.1, 1.0]);
        for ms in [50, 100, 101, 1_000, 1_001, 9_000] {
            histogram.add(Duration::from_millis(ms));
        }
        let found = histogram.distribution();
        assert_eq!((found.buckets, found.over), (vec![(0.1, 2), (1.0, 2)], 2));
        assert!((found.sum_s - 11.252).abs() < 1e-9);
    }
}
