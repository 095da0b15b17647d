//! Axes without pixels: where a value lies between two limits, and which values get a label.

use super::super::mel::FilterBank;
use super::super::recipe::Recipe;

/// A labelled value.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// Place on the axis, 0 (low end) to 1.
    pub at: f64,
    pub label: String,
}

/// Even steps from `low` to `high`.
#[derive(Debug, Clone, Copy)]
pub struct LinearAxis {
    pub low: f64,
    pub high: f64,
}

impl LinearAxis {
    /// Place of `value`, 0 to 1 within the limits.
    pub fn at(self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// Round values, no closer than `min_gap` (a part of the axis, 0 to 1).
    pub fn ticks(self, min_gap: f64) -> Vec<Tick> {
        let step = round_up((self.high - self.low) * min_gap);
        let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
        // A little tolerance, so that a limit which is a round value itself has its label.
        let first = (self.low / step - 1e-6).ceil();
        let last = (self.high / step + 1e-6).floor();
        let count = (last - first).clamp(0.0, 100.0) as usize;
        (0..=count)
            .map(|n| (first + n as f64) * step)
            .filter(|value| (-1e-6..=1.0 + 1e-6).contains(&self.at(*value)))
            .map(|value| Tick { at: self.at(value), label: number(value, decimals) })
            .collect()
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is at least `value`.
pub fn round_up(value: f64) -> f64 {
    round_up_to(value, &[1.0, 2.0, 5.0])
}

/// The smallest of `digits` (rising, from 1) times a power of ten that is at least `value`.
pub fn round_up_to(value: f64, digits: &[f64]) -> f64 {
    let power = 10.0_f64.powf(value.max(1e-9).log10().floor());
    let enough = |digit: &&f64| **digit * power >= value * (1.0 - 1e-9);
    digits.iter().find(enough).copied().unwrap_or(10.0) * power
}

/// `value` with so many digits behind the point and a proper minus sign.
pub fn number(value: f64, decimals: usize) -> String {
    // Adding 0 makes a negative zero positive.
    format!("{:.decimals$}", value + 0.0).replace('-', "\u{2212}")
}

/// Frequency on the recipe's own scale: the rows of the image are evenly spaced.
#[derive(Debug, Clone)]
pub struct FrequencyAxis {
    /// Lower edge, middles of the bands, upper edge in Hz. They are one row apart on the mel
    /// scale, so the axis is straight lines between them.
    knots_hz: Vec<f64>,
    /// Limits in rows; the middle of band n is at n + 1.
    low: f64,
    high: f64,
}

impl FrequencyAxis {
    /// From `low_hz` to `high_hz`, both within the recipe's limits.
    pub fn new(recipe: &Recipe, low_hz: f32, high_hz: f32) -> Self {
        let middles = FilterBank::centres_hz(recipe);
        let mut axis = Self {
            knots_hz: std::iter::once(recipe.min_hz)
                .chain(middles)
                .chain([recipe.max_hz])
                .map(f64::from)
                .collect(),
            low: 0.0,
            high: 0.0,
        };
        (axis.low, axis.high) = (axis.row(f64::from(low_hz)), axis.row(f64::from(high_hz)));
        axis
    }

    fn row(&self, hz: f64) -> f64 {
        let above = self.knots_hz.partition_point(|&knot| knot <= hz);
        let below = above.saturating_sub(1);
        match (self.knots_hz.get(below), self.knots_hz.get(above)) {
            (Some(low), Some(high)) if high > low => {
                below as f64 + ((hz - low) / (high - low)).max(0.0)
            }
            _ => below as f64,
        }
    }

    /// Place of `hz`, 0 to 1 within the limits.
    pub fn at(&self, hz: f64) -> f64 {
        (self.row(hz) - self.low) / (self.high - self.low)
    }

    /// The band whose middle is nearest to the place `at`.
    pub fn band(&self, at: f64) -> usize {
        let row = (self.low + at * (self.high - self.low)).round() as usize;
        row.clamp(1, self.knots_hz.len().saturating_sub(2)) - 1
    }

    /// Round frequencies, no closer than `min_gap` (a part of the axis, 0 to 1): the roundest
    /// first, then those that still find room between them. A step is used only where it is about
    /// as long as the gap, so that no odd value fills a gap that is a little wider. From low to
    /// high.
    pub fn ticks(&self, min_gap: f64) -> Vec<Tick> {
        let mut ticks: Vec<Tick> = Vec::new();
        let (low_hz, high_hz) = (self.hz(self.low), self.hz(self.high));
        let steps = (-3..=4).rev().flat_map(|power| [5.0, 2.0, 1.0].map(|n| n * 10f64.powi(power)));
        for step in steps {
            let (first, last) = ((low_hz / step).ceil(), (high_hz / step).floor());
            // Steps this fine find no room anywhere, and the finer ones even less.
            if last - first > 1000.0 {
                break;
            }
            for n in first as u32..=last.max(0.0) as u32 {
                let hz = f64::from(n) * step;
                let at = self.at(hz);
                // Both sides, for the axis ends with the highest band.
                let length = (self.at(hz + step) - at).max(at - self.at(hz - step));
                let fits = (0.0..=1.0).contains(&at) && length >= 0.7 * min_gap;
                if fits && ticks.iter().all(|t| (t.at - at).abs() >= min_gap) {
                    ticks.push(Tick { at, label: frequency_label(hz) });
                }
            }
        }
        ticks.sort_by(|a, b| a.at.total_cmp(&b.at));
        ticks
    }

    fn hz(&self, row: f64) -> f64 {
        let below = row.floor().max(0.0) as usize;
        let low = self.knots_hz.get(below).copied().unwrap_or_default();
        let high = self.knots_hz.get(below + 1).copied().unwrap_or(low);
        low + (high - low) * row.fract()
    }
}

/// `500 Hz`, `2 kHz`, `1.25 kHz`: at most six digits behind the point.
pub fn frequency_label(hz: f64) -> String {
    let (value, unit) = if hz < 1000.0 { (hz, "Hz") } else { (hz / 1000.0, "kHz") };
    let digits = format!("{value:.6}");
    format!("{} {unit}", digits.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        Recipe::parse(include_str!("../../../models/sound.recipe.json")).unwrap()
    }

    fn labels(ticks: &[Tick]) -> Vec<&str> {
        ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn linear_ticks_are_round_and_carry_the_digits_they_need() {
        let axis = |low, high| LinearAxis { low, high };
        assert_eq!(labels(&axis(0.0, 5.0).ticks(0.15)), ["0", "1", "2", "3", "4", "5"]);
        assert_eq!(labels(&axis(12.3, 12.62).ticks(0.2)), ["12.3", "12.4", "12.5", "12.6"]);
        assert_eq!(labels(&axis(-50.0, 36.9).ticks(0.2)), ["−40", "−20", "0", "20"]);
        assert_eq!(axis(100.0, 100.00002).ticks(0.1).len(), 11);
        assert!(!axis(1e300, 1e301).ticks(0.1).is_empty());
        assert_eq!(axis(0.0, 4.0).at(1.0), 0.25);
        assert_eq!([0.3, 0.07, 1.0, 9.1].map(round_up), [0.5, 0.1, 1.0, 10.0]);
    }

    #[test]
    fn the_frequency_axis_is_the_mel_scale() {
        let recipe = recipe();
        let axis = FrequencyAxis::new(&recipe, recipe.min_hz, recipe.max_hz);
        let mel = |hz: f64| 2595.0 * (1.0 + hz / 700.0).log10();
        for hz in [0.0, 30.0, 440.0, 1000.0, 7777.0, 15000.0] {
            assert!((axis.at(hz) - mel(hz) / mel(15000.0)).abs() < 1e-4, "{hz} Hz");
        }
        for (band, &hz) in FilterBank::centres_hz(&recipe).iter().enumerate() {
            assert_eq!(axis.band(axis.at(f64::from(hz))), band);
        }
    }

    #[test]
    fn frequency_labels_rise_and_keep_their_distance() {
        let recipe = recipe();
        for (low, high) in [(0.0, 15000.0), (200.0, 4000.0), (980.0, 1020.0), (3000.0, 3000.5)] {
            let ticks = FrequencyAxis::new(&recipe, low, high).ticks(0.05);
            assert!(ticks.len() >= 4, "{low} to {high} Hz: {ticks:?}");
            assert!(ticks.windows(2).all(|t| t[1].at - t[0].at >= 0.05 - 1e-9), "{ticks:?}");
        }
        let ticks = FrequencyAxis::new(&recipe, 0.0, 15000.0).ticks(0.048);
        let labels = labels(&ticks);
        for expected in ["0 Hz", "500 Hz", "1 kHz", "2 kHz", "5 kHz", "6 kHz", "10 kHz", "15 kHz"] {
            assert!(labels.contains(&expected), "{labels:?}");
        }
        assert!(labels.iter().all(|label| label.len() <= "1.5 kHz".len()), "{labels:?}");
        assert_eq!(frequency_label(1250.0), "1.25 kHz");
    }
}
