//! Estimates from one figure a channel. None of them tells how light a photo should be: they only
//! know of casts.

use super::shift::{Shift, ShiftModel, Triple, linear};
use crate::picture::View;

/// The Minkowski norm of Shades of Gray (Finlayson and Trezzi 2004).
const SHADES_NORM: f64 = 6.0;
/// Max-RGB takes the value that this share of the pixels does not exceed, so that single bright
/// pixels do not decide.
const BRIGHTEST: f64 = 0.995;

/// What is taken to be grey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Baseline {
    /// The mean (Buchsbaum 1980).
    GrayWorld,
    /// The mean of sixth powers.
    ShadesOfGray,
    /// The brightest (Land and McCann 1971).
    MaxRgb,
}

impl Baseline {
    /// The shift that would make the figures of the three channels equal. Offsets add up to 0, and
    /// the product of gains is 1.
    pub fn estimate(self, view: &View, model: ShiftModel) -> Shift {
        let figures: Triple = std::array::from_fn(|channel| {
            let values = view.plane(channel).map(|value| {
                let value = f64::from(value) / 255.0;
                if model == ShiftModel::Gain { linear(value) } else { value }
            });
            self.figure(values.collect())
        });
        let responses = match model {
            ShiftModel::Offset => figures,
            // A channel without light has a factor all the same.
            ShiftModel::Gain => figures.map(|figure| (figure + 1e-6).ln()),
        };
        let mean = responses.iter().sum::<f64>() / 3.0;
        model.from_responses(responses.map(|response| response - mean))
    }

    fn figure(self, mut values: Vec<f64>) -> f64 {
        let count = values.len().max(1) as f64;
        match self {
            Self::GrayWorld => values.iter().sum::<f64>() / count,
            Self::ShadesOfGray => {
                let powers = values.iter().map(|value| value.powf(SHADES_NORM));
                (powers.sum::<f64>() / count).powf(1.0 / SHADES_NORM)
            }
            Self::MaxRgb => {
                values.sort_by(f64::total_cmp);
                let place = (BRIGHTEST * (count - 1.0)).round() as usize;
                values.get(place).copied().unwrap_or(0.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pixels::distort;
    use super::*;

    /// Greys from dark to light, none near the ends of the scale.
    fn greys() -> Vec<u8> {
        (0..View::SIDE * View::SIDE).flat_map(|n| [90 + (n % 80) as u8; 3]).collect()
    }

    #[test]
    fn casts_on_grey_are_found_by_each() {
        let side = View::SIDE as u32;
        let cases = [
            Shift::from_shown(ShiftModel::Offset, [20.0, -30.0, 10.0]),
            Shift::from_shown(ShiftModel::Gain, [1.25, 0.8, 1.0]),
        ];
        for shift in cases {
            let mut rgb = greys();
            distort(&mut rgb, 3, &shift);
            let view = View::of_rgb(&rgb, side, side, None).unwrap();
            for baseline in [Baseline::GrayWorld, Baseline::ShadesOfGray, Baseline::MaxRgb] {
                let found = baseline.estimate(&view, shift.model);
                // Powers of shifted values are no shifted powers.
                let allowed = if baseline == Baseline::ShadesOfGray { 0.01 } else { 0.004 };
                for (found, truth) in found.responses().iter().zip(shift.responses()) {
                    assert!((found - truth).abs() < allowed, "{baseline:?}: {found} {truth}");
                }
            }
        }
    }

    #[test]
    fn a_black_photo_has_no_cast() {
        let side = View::SIDE;
        let view = View::of_rgb(&vec![0; side * side * 3], 227, 227, None).unwrap();
        for model in [ShiftModel::Offset, ShiftModel::Gain] {
            assert_eq!(Baseline::GrayWorld.estimate(&view, model).size(), 0.0);
        }
    }
}
