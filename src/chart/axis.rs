//! Axes without pixels: where a value lies between two limits, and which values get a label.

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
