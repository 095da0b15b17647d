//! What the threads of one source let the others know: counters, nothing else.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::watchdog::Progress;

/// Counters of one source, since the start of the program.
#[derive(Debug)]
pub struct Board {
    pub lost_frames: Counter,
    pub gaps: Counter,
    pub dropped_windows: Counter,
    pub classified_windows: Counter,
    /// Windows handed to the classification.
    pub produced_windows: Counter,
    /// Hops of audio analysed, with a window or (in the first seconds) without.
    pub slices: Counter,
    /// Streams begun: a new one with each reopening and each pause.
    pub streams: Counter,
    level_dbfs: AtomicU32,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Board {
    /// All zero, no level.
    pub fn new() -> Self {
        Self {
            lost_frames: Counter::default(),
            gaps: Counter::default(),
            dropped_windows: Counter::default(),
            classified_windows: Counter::default(),
            produced_windows: Counter::default(),
            slices: Counter::default(),
            streams: Counter::default(),
            level_dbfs: AtomicU32::new(f32::NAN.to_bits()),
        }
    }

    /// How far this source has come, for the watchdog.
    pub fn progress(&self) -> Progress {
        // Read in the order of the data backwards, so that none is taken for waiting that is not.
        let classified_windows = self.classified_windows.get();
        let done = classified_windows + self.dropped_windows.get();
        Progress {
            classified_windows,
            slices: self.slices.get(),
            waiting: self.produced_windows.get() > done,
        }
    }

    /// The newest level; `None` says that nothing is heard.
    pub fn set_level(&self, dbfs: Option<f32>) {
        self.level_dbfs.store(dbfs.unwrap_or(f32::NAN).to_bits(), Ordering::Relaxed);
    }

    /// The newest level in dBFS, at least [`Board::FLOOR_DBFS`]; JSON has no infinity.
    pub fn level(&self) -> Option<f32> {
        let level = f32::from_bits(self.level_dbfs.load(Ordering::Relaxed));
        (!level.is_nan()).then_some(level.max(Self::FLOOR_DBFS))
    }

    /// What digital silence is shown as, in dBFS.
    pub const FLOOR_DBFS: f32 = -120.0;
}
