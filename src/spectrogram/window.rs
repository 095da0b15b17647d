//! One window on its own: samples that are there already, as for training, to one image.

use super::image::Image;
use super::recipe::Recipe;
use super::stft::{ColumnMaker, PowerStft};

/// Makes the image of one window after the other, by the steps that a stream takes.
pub struct WindowMaker {
    stft: PowerStft,
    columns: ColumnMaker,
    /// The spectra one after the other, each from the lowest band up.
    pixels: Vec<u8>,
    bands: usize,
    channels: usize,
}

impl WindowMaker {
    /// Windows of `recipe`.
    pub fn new(recipe: &Recipe) -> Self {
        Self {
            stft: PowerStft::new(recipe),
            columns: ColumnMaker::new(recipe),
            pixels: Vec::new(),
            bands: recipe.bands,
            channels: recipe.channels,
        }
    }

    /// The image that an [`super::Analyser`] gives for a stream of these mono samples at the
    /// recipe's rate, which are taken for one window: what goes beyond is not shown, what is
    /// missing is digital silence.
    pub fn image(&mut self, samples: &[f32]) -> Image {
        self.pixels.clear();
        let (columns, pixels) = (&mut self.columns, &mut self.pixels);
        let mut draw = |power: &[f32]| pixels.extend_from_slice(columns.column(power));
        self.stft.push(samples, &mut draw);
        self.stft.finish(&mut draw);
        Image::from_spectra(self.channels, self.pixels.chunks_exact(self.bands.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spectrogram::{Analyser, ChannelChoice, InputFormat};

    #[test]
    fn a_window_is_the_image_that_a_stream_gives() {
        let grey = Recipe::parse(include_str!("../../models/sound.recipe.json")).unwrap();
        let colour = Recipe { channels: 3, window_len: 800, ..grey.clone() };
        let mut random = fastrand::Rng::with_seed(3);
        let window = grey.columns * grey.hop;
        let lengths = [160_000, window, 70_001, 900, 1];
        for (recipe, len) in
            [grey, colour].iter().flat_map(|recipe| lengths.map(|len| (recipe, len)))
        {
            let mut maker = WindowMaker::new(recipe);
            let samples: Vec<f32> = (0..len).map(|_| random.f32() - 0.5).collect();
            let format =
                InputFormat { sample_rate_hz: 32_000, channels: 1, choice: ChannelChoice::Mix };
            let mut analyser = Analyser::new(recipe, format, recipe.columns).unwrap();
            let mut images = Vec::new();
            analyser.push(&samples, &mut |slice| images.extend(slice.image));
            analyser.finish(&mut |slice| images.extend(slice.image));
            assert_eq!(images[0].channels(), recipe.channels);
            assert_eq!(images, [maker.image(&samples)], "{len} samples");
        }
    }
}
