//! The level meter: one line on a terminal's standard error.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::data::takes::{is_clipped, peak};

/// Places of the bar, for -60 to 0 dBFS.
const PLACES: usize = 30;
const LOWEST_DBFS: f32 = -60.0;
/// How long the highest peak stays, and the word for clipping.
const HOLD: Duration = Duration::from_millis(1_500);
/// Peaks within this time are one.
const DRAW_EVERY: Duration = Duration::from_millis(50);

/// Shows how loud it is. Nothing is shown where standard error is no terminal.
pub struct Meter {
    bar: ProgressBar,
    /// Since it was drawn last.
    peak: f32,
    drawn: Instant,
    held: f32,
    held_since: Instant,
    clipped: Option<Instant>,
}

impl Meter {
    pub fn new() -> Self {
        let bar = match std::io::stderr().is_terminal() {
            true => ProgressBar::new_spinner(),
            false => ProgressBar::hidden(),
        };
        let bar = match ProgressStyle::with_template("{wide_msg}") {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        };
        let now = Instant::now();
        Self { bar, peak: 0.0, drawn: now, held: 0.0, held_since: now, clipped: None }
    }

    /// Takes over what was heard, and draws it now and then, with a few words.
    pub fn show(&mut self, samples: &[f32], words: &str) {
        let now = Instant::now();
        self.peak = self.peak.max(peak(samples));
        if is_clipped(samples) {
            self.clipped = Some(now);
        }
        if now.duration_since(self.drawn) < DRAW_EVERY {
            return;
        }
        self.drawn = now;
        if self.peak >= self.held || now.duration_since(self.held_since) >= HOLD {
            (self.held, self.held_since) = (self.peak, now);
        }
        let clipped = self.clipped.is_some_and(|at| now.duration_since(at) < HOLD);
        self.bar.set_message(line(self.peak, self.held, clipped, words));
        self.peak = 0.0;
    }

    /// Does what writes to the terminal, with the meter out of the way.
    pub fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The bar up to the newest peak, a mark at the held one, both as magnitudes of 0 to 1.
fn line(newest: f32, held: f32, clipped: bool, words: &str) -> String {
    let dbfs = |magnitude: f32| (20.0 * magnitude.log10()).max(LOWEST_DBFS);
    let places = |magnitude: f32| {
        let part = (1.0 - dbfs(magnitude) / LOWEST_DBFS).clamp(0.0, 1.0);
        (part * PLACES as f32).round() as usize
    };
    let (filled, mark) = (places(newest), places(held));
    let place = |n| match n {
        n if n <= filled => '#',
        n if n == mark => '|',
        _ => ' ',
    };
    let bar: String = (1..=PLACES).map(place).collect();
    let state = if clipped { "CLIPPED" } else { words };
    format!("[{bar}] {:3.0} dBFS, peak {:3.0}  {state}", dbfs(newest), dbfs(held))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_shows_decibels() {
        let [silence, half, full] = [
            line(0.0, 0.0, false, "waiting"),
            line(0.031_622_78, 0.501_187_2, false, "waiting"),
            line(1.0, 1.0, true, "waiting"),
        ];
        let (space, hash) = (|n| " ".repeat(n), |n| "#".repeat(n));
        assert_eq!(silence, format!("[{}] -60 dBFS, peak -60  waiting", space(30)));
        let expected =
            format!("[{}{}|{}] -30 dBFS, peak  -6  waiting", hash(15), space(11), space(3));
        assert_eq!(half, expected);
        assert_eq!(full, format!("[{}]   0 dBFS, peak   0  CLIPPED", hash(30)));
    }
}
