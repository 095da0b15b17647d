//! The recipe: every number between samples and pixels, in one value that travels inside the
//! model file. No other place holds a DSP constant.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::image::Image;

/// How sound becomes an image. The canonical text is its JSON with the fields in this order; the
/// hash is the SHA-256 of that text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Sample rate the sound is brought to, in Hz.
    pub sample_rate_hz: u32,
    /// `y[n] = x[n+1] - pre_emphasis * x[n]`; 0 to under 1, 0 leaves the samples alone.
    pub pre_emphasis: f32,
    /// Points of the discrete Fourier transform; a power of two.
    pub fft_len: usize,
    /// Samples of the symmetric Hann window, centred in the frame; at most `fft_len`.
    pub window_len: usize,
    /// Samples from one column of the image to the next.
    pub hop: usize,
    /// Rows of the image: triangular bands of height 1, equally spaced on
    /// `mel = 1127 ln(1 + f / 700)` (the scale of HTK and Kaldi).
    pub bands: usize,
    /// Lower edge of the lowest band in Hz.
    pub min_hz: f32,
    /// Upper edge of the highest band in Hz; at most half the sample rate.
    pub max_hz: f32,
    /// Added to the power before the logarithm.
    pub power_floor: f32,
    /// `10 log10(power + power_floor)` that becomes pixel 0.
    pub min_db: f32,
    /// ... and pixel 255.
    pub max_db: f32,
    /// Columns of the image.
    pub columns: usize,
    /// Image channels: 1, or 3 for images that are three times as fine in time. A column then
    /// holds three spectra, the earliest in the first channel. `hop` is a multiple of it.
    pub channels: usize,
    /// The row of the network's input that holds the lowest band.
    pub rows: RowOrder,
}

/// Which band the network's first row holds. A PNG always has the lowest band at the bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowOrder {
    LowestFirst,
    HighestFirst,
}

/// A recipe that can't be used: the model file has to be made again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    #[error("the recipe is not readable: {0}")]
    Syntax(String),
    #[error("the recipe has {key} = {value}, allowed is {allowed}")]
    Range { key: &'static str, value: String, allowed: &'static str },
}

impl Recipe {
    /// Reads the canonical text and checks every value, so that no later step can fail on it or
    /// take unbounded memory.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        let recipe: Self =
            serde_json::from_str(text).map_err(|error| RecipeError::Syntax(error.to_string()))?;
        recipe.check()?;
        Ok(recipe)
    }

    /// The canonical text.
    pub fn text(&self) -> String {
        // A struct of numbers always serialises; an empty text would fail the next parse.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// SHA-256 of the canonical text, as 64 hexadecimal digits.
    pub fn hash(&self) -> String {
        Sha256::digest(self.text()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Samples from one spectrum to the next; at most half a window, so that none goes unseen.
    pub fn spectrum_hop(&self) -> usize {
        self.hop / self.channels.max(1)
    }

    /// Length of one window (all columns) in seconds.
    pub fn window_s(&self) -> f64 {
        (self.columns * self.hop) as f64 / f64::from(self.sample_rate_hz)
    }

    /// The whole number of columns nearest to `hop_s` seconds, at least 1.
    pub fn hop_columns(&self, hop_s: f32) -> usize {
        let columns = f64::from(hop_s) * f64::from(self.sample_rate_hz) / self.hop as f64;
        (columns.round() as usize).clamp(1, self.columns)
    }

    fn check(&self) -> Result<(), RecipeError> {
        let Self { sample_rate_hz, pre_emphasis, fft_len, window_len, hop, .. } = *self;
        let Self { bands, min_hz, max_hz, power_floor, min_db, max_db, .. } = *self;
        let channels = self.channels;
        let nyquist_hz = sample_rate_hz as f32 / 2.0;
        let checks = [
            (
                "sample_rate_hz",
                sample_rate_hz.to_string(),
                (8_000..=192_000).contains(&sample_rate_hz),
                "8000 to 192000",
            ),
            (
                "pre_emphasis",
                pre_emphasis.to_string(),
                (0.0..1.0).contains(&pre_emphasis),
                "0 to under 1",
            ),
            (
                "fft_len",
                fft_len.to_string(),
                (64..=65_536).contains(&fft_len) && fft_len.is_power_of_two(),
                "a power of two from 64 to 65536",
            ),
            (
                "window_len",
                window_len.to_string(),
                (16..=fft_len).contains(&window_len),
                "16 to fft_len",
            ),
            (
                "hop",
                hop.to_string(),
                (1..=window_len / 2).contains(&(hop / channels.max(1)))
                    && hop % channels.max(1) == 0,
                "1 to half of window_len for each channel, and a multiple of channels",
            ),
            ("bands", bands.to_string(), bands == Image::SIDE, "227"),
            ("columns", self.columns.to_string(), self.columns == Image::SIDE, "227"),
            ("channels", channels.to_string(), [1, 3].contains(&channels), "1 or 3"),
            ("min_hz", min_hz.to_string(), min_hz >= 0.0 && min_hz < max_hz, "0 to under max_hz"),
            ("max_hz", max_hz.to_string(), max_hz <= nyquist_hz, "at most half the sample rate"),
            (
                "power_floor",
                power_floor.to_string(),
                power_floor > 0.0 && power_floor <= 1.0,
                "over 0 to 1",
            ),
            (
                "min_db",
                min_db.to_string(),
                (-200.0..max_db).contains(&min_db),
                "-200 to under max_db",
            ),
            ("max_db", max_db.to_string(), max_db <= 200.0, "at most 200"),
        ];
        for (key, value, good, allowed) in checks {
            if !good {
                return Err(RecipeError::Range { key, value, allowed });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        Recipe::parse(include_str!("../../models/sound.recipe.json")).unwrap()
    }

    #[test]
    fn the_canonical_text_survives_a_round_trip_and_identifies_the_recipe() {
        let recipe = recipe();
        assert_eq!(Recipe::parse(&recipe.text()).unwrap(), recipe);
        let mut other = recipe.clone();
        other.hop += 1;
        assert_ne!(other.hash(), recipe.hash());
        assert_eq!(recipe.hash().len(), 64);
    }

    #[test]
    fn every_value_out_of_range_is_named() {
        let good = serde_json::to_value(recipe()).unwrap();
        for (key, bad) in [
            ("sample_rate_hz", "100"),
            ("pre_emphasis", "1.5"),
            ("fft_len", "2047"),
            ("window_len", "4096"),
            ("hop", "0"),
            ("bands", "128"),
            ("columns", "1000000000"),
            ("channels", "2"),
            ("min_hz", "-1.0"),
            ("max_hz", "17000.0"),
            ("power_floor", "0.0"),
            ("min_db", "90.0"),
            ("max_db", "1000.0"),
        ] {
            let mut recipe = good.clone();
            recipe[key] = serde_json::from_str(bad).unwrap();
            let error = Recipe::parse(&recipe.to_string()).unwrap_err().to_string();
            assert!(error.contains(key), "{key}: {error}");
        }
        assert!(matches!(Recipe::parse("{}"), Err(RecipeError::Syntax(_))));
    }

    #[test]
    fn a_window_lasts_five_seconds_and_hops_are_whole_columns() {
        let recipe = recipe();
        assert!((recipe.window_s() - 5.0).abs() < 0.002);
        assert_eq!(recipe.hop_columns(0.5), 23);
        assert_eq!(recipe.hop_columns(0.0001), 1);
        assert_eq!(recipe.hop_columns(60.0), 227);
    }
}
