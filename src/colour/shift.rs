//! What can be wrong with a photo's colours: one value for each channel.

use serde::{Deserialize, Serialize};

/// Red, green, blue.
pub type Triple = [f64; 3];

/// Luminance of linear red, green and blue (Rec. 709).
const LUMINANCE: Triple = [0.2126, 0.7152, 0.0722];
/// How far a drawn offset goes to either side, as a share of full scale.
const OFFSET_MAX: f64 = 0.25;
/// The least and the highest factor that is drawn.
const GAINS: [f64; 2] = [0.6, 1.6];

/// How a shift acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShiftModel {
    /// A value is added to the encoded (sRGB) value of each channel.
    Offset,
    /// The linear value of each channel is multiplied (von Kries).
    Gain,
}

/// A shift of the three channels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    pub model: ShiftModel,
    /// Offset: shares of full scale, -1 to 1. Gain: factors over 0.
    pub values: Triple,
}

impl ShiftModel {
    /// What the network answers with: 0 for no shift. Offset: the shares of full scale. Gain: the
    /// natural logarithms of the factors.
    pub fn from_responses(self, responses: Triple) -> Shift {
        let values = match self {
            Self::Offset => responses,
            Self::Gain => responses.map(f64::exp),
        };
        Shift { model: self, values }
    }

    /// No shift at all.
    pub fn none(self) -> Shift {
        self.from_responses([0.0; 3])
    }

    /// A shift from three random numbers of 0 to 1. Offsets are even over -0.25 to 0.25 of full
    /// scale, the logarithms of gains over those of 0.6 to 1.6.
    pub fn drawn(self, random: Triple) -> Shift {
        let [low, high] = match self {
            Self::Offset => [-OFFSET_MAX, OFFSET_MAX],
            Self::Gain => GAINS.map(f64::ln),
        };
        self.from_responses(random.map(|part| low + (high - low) * part))
    }

    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Self::Offset => "offset",
            Self::Gain => "gain",
        }
    }
}

impl Shift {
    /// The inverse of [`ShiftModel::from_responses`].
    pub fn responses(&self) -> Triple {
        match self.model {
            ShiftModel::Offset => self.values,
            ShiftModel::Gain => self.values.map(f64::ln),
        }
    }

    /// In the units that people and tables use: offsets in levels of 255, gains as factors.
    pub fn shown(&self) -> Triple {
        match self.model {
            ShiftModel::Offset => self.values.map(|value| 255.0 * value),
            ShiftModel::Gain => self.values,
        }
    }

    /// From the units that people use.
    pub fn from_shown(model: ShiftModel, shown: Triple) -> Self {
        let values = match model {
            ShiftModel::Offset => shown.map(|level| level / 255.0),
            ShiftModel::Gain => shown,
        };
        Self { model, values }
    }

    /// How large it is: of an offset the largest in levels of 255, of gains the largest in percent
    /// of its logarithm.
    pub fn size(&self) -> f64 {
        let unit = if self.model == ShiftModel::Offset { 255.0 } else { 100.0 };
        self.responses().iter().fold(0.0, |most, value| f64::max(most, unit * value.abs()))
    }

    /// A part of it: 0 is none, 1 is all.
    pub fn scaled(&self, strength: f64) -> Self {
        self.model.from_responses(self.responses().map(|value| strength * value))
    }

    /// Without what makes grey lighter or darker, so that undoing it keeps the luminance of greys.
    pub fn keeping_luminance(&self) -> Self {
        let weighted = |values: Triple| values.iter().zip(LUMINANCE).map(|(v, w)| v * w).sum();
        let values = match self.model {
            ShiftModel::Offset => {
                let mean: f64 = weighted(self.values);
                self.values.map(|value| value - mean)
            }
            ShiftModel::Gain => {
                let lighter: f64 = weighted(self.values.map(f64::recip));
                self.values.map(|value| value * lighter)
            }
        };
        Self { values, ..*self }
    }
}

/// A value of 0 to 1 in sRGB as linear light (IEC 61966-2-1).
pub fn linear(encoded: f64) -> f64 {
    if encoded <= 0.040_45 { encoded / 12.92 } else { ((encoded + 0.055) / 1.055).powf(2.4) }
}

/// The inverse of [`linear`].
pub fn encoded(linear: f64) -> f64 {
    if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODELS: [ShiftModel; 2] = [ShiftModel::Offset, ShiftModel::Gain];

    #[test]
    fn draws_fill_their_range_and_middle_draws_are_no_shift_of_offsets() {
        let low = ShiftModel::Offset.drawn([0.0, 0.5, 1.0]);
        assert_eq!(low.shown(), [-63.75, 0.0, 63.75]);
        let gains = ShiftModel::Gain.drawn([0.0, 0.5, 1.0]).values;
        let expected = [0.6, (0.6_f64 * 1.6).sqrt(), 1.6];
        assert!(gains.iter().zip(expected).all(|(g, e)| (g - e).abs() < 1e-12), "{gains:?}");
    }

    #[test]
    fn units_and_parts_go_there_and_back() {
        for model in MODELS {
            let shift = model.drawn([0.1, 0.6, 0.8]);
            let back = Shift::from_shown(model, shift.shown());
            let again = model.from_responses(shift.responses());
            for other in [back, again, shift.scaled(1.0)] {
                let near = |(a, b): (&f64, f64)| (a - b).abs() < 1e-12;
                assert!(shift.values.iter().zip(other.values).all(near), "{other:?}");
            }
            assert_eq!(shift.scaled(0.0), model.none());
            assert_eq!(model.none().size(), 0.0);
            assert!(shift.scaled(0.5).size() < shift.size());
        }
    }

    #[test]
    fn greys_keep_their_luminance() {
        let offset = Shift::from_shown(ShiftModel::Offset, [30.0, -10.0, 5.0]).keeping_luminance();
        let moved: f64 = offset.values.iter().zip(LUMINANCE).map(|(v, w)| v * w).sum();
        assert!(moved.abs() < 1e-12);
        let gain = Shift::from_shown(ShiftModel::Gain, [1.5, 1.0, 0.7]).keeping_luminance();
        let luminance: f64 = gain.values.iter().zip(LUMINANCE).map(|(v, w)| w / v).sum();
        assert!((luminance - 1.0).abs() < 1e-12);
    }

    #[test]
    fn srgb_is_that_of_the_standard() {
        // Figures of the standard's own table of transfer values.
        for (code, light) in [(0.0, 0.0), (0.5, 0.214_041), (1.0, 1.0), (0.04, 0.003_096)] {
            assert!((linear(code) - light).abs() < 1e-6, "{code}");
            assert!((encoded(light) - code).abs() < 1e-4, "{code}");
        }
    }
}
