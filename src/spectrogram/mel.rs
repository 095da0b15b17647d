//! Triangular bands equally spaced on the mel scale of HTK and Kaldi,
//! `mel = 1127 ln(1 + f / 700)`.

use super::recipe::Recipe;

/// The weights of all bands over the bins of a power spectrum. A triangle covers few bins, so
/// each band keeps only its own.
#[derive(Debug, Clone)]
pub struct FilterBank {
    bands: Vec<Band>,
}

#[derive(Debug, Clone)]
struct Band {
    first_bin: usize,
    weights: Vec<f32>,
}

fn mel(hz: f64) -> f64 {
    1127.0 * (1.0 + hz / 700.0).ln()
}

/// Weight of the bin at `hz` in band `band` of `bands` over `min_hz..max_hz`: a triangle of
/// height 1 whose sides are straight in mel (as in Kaldi's `compute-fbank-feats`).
pub(super) fn weight(band: usize, bands: usize, min_hz: f64, max_hz: f64, hz: f64) -> f64 {
    let step = (mel(max_hz) - mel(min_hz)) / (bands + 1) as f64;
    let left = mel(min_hz) + step * band as f64;
    let rise = (mel(hz) - left) / step;
    rise.min(2.0 - rise).max(0.0)
}

impl FilterBank {
    /// The bands of `recipe`, over `fft_len / 2 + 1` bins; the lowest band first.
    pub fn new(recipe: &Recipe) -> Self {
        let bins = recipe.fft_len / 2 + 1;
        let bin_hz = f64::from(recipe.sample_rate_hz) / recipe.fft_len as f64;
        let (min_hz, max_hz) = (f64::from(recipe.min_hz), f64::from(recipe.max_hz));
        let band = |band| {
            let weight_at =
                |bin: usize| weight(band, recipe.bands, min_hz, max_hz, bin as f64 * bin_hz) as f32;
            let first_bin = (0..bins).find(|&bin| weight_at(bin) > 0.0).unwrap_or(0);
            let weights = (first_bin..bins).map(weight_at).take_while(|&w| w > 0.0).collect();
            Band { first_bin, weights }
        };
        Self { bands: (0..recipe.bands).map(band).collect() }
    }

    /// Writes the energy of each band of `power` (`fft_len / 2 + 1` values) to `energy`.
    pub fn apply(&self, power: &[f32], energy: &mut [f32]) {
        for (band, out) in self.bands.iter().zip(energy) {
            let bins = power.get(band.first_bin..).unwrap_or_default();
            *out = band.weights.iter().zip(bins).map(|(weight, power)| weight * power).sum();
        }
    }

    /// The frequency at the middle of each row in Hz, the lowest band first.
    pub fn centres_hz(recipe: &Recipe) -> Vec<f32> {
        let (low, high) = (mel(f64::from(recipe.min_hz)), mel(f64::from(recipe.max_hz)));
        let step = (high - low) / (recipe.bands + 1) as f64;
        let hz = |mel: f64| 700.0 * ((mel / 1127.0).exp() - 1.0);
        (1..=recipe.bands).map(|band| hz(low + step * band as f64) as f32).collect()
    }
}
