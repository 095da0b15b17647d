//! The frequency axis without pixels: where a frequency lies, and which ones get a label.

use super::super::mel::FilterBank;
use super::super::recipe::Recipe;
use crate::chart::axis::Tick;

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
