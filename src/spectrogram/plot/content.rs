//! The numbers behind the picture: columns pooled to the width of the panel, the mean spectrum,
//! the waveforms.

use super::super::mel::FilterBank;
use super::super::mix::mix_into;
use super::super::recipe::Recipe;
use super::super::resample::Resampler;
use super::super::settings::ChannelChoice;
use super::super::stft::{ColumnMaker, PowerStft};
use super::waveform::Waveform;
use super::{PlotError, PlotInput};

/// Waveforms that are drawn; of more channels the picture only says how many there are.
pub const WAVEFORMS_MAX: usize = 8;

/// Frames analysed at a time: bounds the memory for long recordings.
const CHUNK_FRAMES: usize = 8192;

/// All that is drawn.
pub struct Content {
    pub columns: PooledColumns,
    /// Mean power of each band over time in dB, the lowest band first.
    pub mean_db: Vec<f32>,
    /// Of the first channels, [`WAVEFORMS_MAX`] at most.
    pub waveforms: Vec<Waveform>,
}

impl Content {
    /// Analyses the `frames` frames of `input` for a panel `width` pixels wide.
    pub fn new(input: &PlotInput<'_>, frames: usize, width: usize) -> Result<Self, PlotError> {
        let (rate_hz, recipe) = (input.sample_rate_hz, input.recipe);
        let mut resampler = Resampler::new(rate_hz, recipe.sample_rate_hz)
            .map_err(|why| PlotError::Rate { rate_hz, recipe_hz: recipe.sample_rate_hz, why })?;
        let hops = frames as f64 / f64::from(rate_hz.max(1)) * f64::from(recipe.sample_rate_hz)
            / recipe.spectrum_hop() as f64;
        let mut collector = Collector {
            maker: ColumnMaker::new(recipe),
            columns: PooledColumns::new(recipe.bands, width, hops),
            power: vec![0.0; recipe.fft_len / 2 + 1],
            frames: 0,
        };
        let mut stft = PowerStft::new(recipe);
        let (mut mono, mut resampled) = (Vec::new(), Vec::new());
        for begin in (0..frames).step_by(CHUNK_FRAMES) {
            mono.clear();
            mix_chunk(input, begin, &mut mono);
            resampled.clear();
            resampler.push(&mono, &mut resampled);
            stft.push(&resampled, |power| collector.take(power));
        }
        resampled.clear();
        resampler.finish(&mut resampled);
        stft.push(&resampled, |power| collector.take(power));
        stft.finish(|power| collector.take(power));
        collector.columns.close();
        let drawn = input.channels.iter().take(WAVEFORMS_MAX);
        Ok(Self {
            mean_db: collector.mean_db(recipe),
            columns: collector.columns,
            waveforms: drawn.map(|samples| Waveform::new(samples, width)).collect(),
        })
    }
}

/// One chunk of what is heard: the chosen channel, or the mean of all.
fn mix_chunk(input: &PlotInput<'_>, begin: usize, mono: &mut Vec<f32>) {
    let heard = match input.channel {
        Some(index) => input.channels.get(index..=index).unwrap_or_default(),
        None => input.channels,
    };
    let end = begin + CHUNK_FRAMES;
    let chunk = |samples: &Vec<f32>| samples.len().min(end).saturating_sub(begin);
    let frames = heard.iter().map(chunk).min().unwrap_or(0);
    let mut interleaved = Vec::with_capacity(frames * heard.len());
    for frame in begin..begin + frames {
        interleaved.extend(heard.iter().filter_map(|samples| samples.get(frame)));
    }
    mix_into(mono, &interleaved, heard.len(), ChannelChoice::Mix);
}

/// Takes the power spectra.
struct Collector {
    maker: ColumnMaker,
    columns: PooledColumns,
    /// Sum over the frames.
    power: Vec<f64>,
    frames: u64,
}

impl Collector {
    fn take(&mut self, power: &[f32]) {
        self.columns.push(self.maker.column(power));
        self.power.iter_mut().zip(power).for_each(|(sum, &power)| *sum += f64::from(power));
        self.frames += 1;
    }

    /// A band's energy is a sum over bins, so the energy of the mean is the mean of the energies.
    fn mean_db(&self, recipe: &Recipe) -> Vec<f32> {
        let frames = self.frames.max(1) as f64;
        let mean: Vec<f32> = self.power.iter().map(|&sum| (sum / frames) as f32).collect();
        let mut energy = vec![0.0; recipe.bands];
        FilterBank::new(recipe).apply(&mean, &mut energy);
        energy.iter().map(|&energy| 10.0 * (energy + recipe.power_floor).log10()).collect()
    }
}

/// The columns of a recording at the width of a panel. Column k is centred on k hops and reaches
/// half a hop to either side; a pixel shows the highest value of the columns that fall on it.
pub struct PooledColumns {
    bands: usize,
    width: usize,
    /// Pixels from one column to the next.
    pitch: f64,
    taken: usize,
    /// Pixel columns filled so far.
    filled: usize,
    values: Vec<u8>,
}

impl PooledColumns {
    /// A panel `width` pixels wide for a recording `hops` long.
    pub fn new(bands: usize, width: usize, hops: f64) -> Self {
        let pitch = width as f64 / hops;
        Self { bands, width, pitch, taken: 0, filled: 0, values: vec![0; bands * width] }
    }

    /// Takes the next column.
    pub fn push(&mut self, column: &[u8]) {
        let middle = self.taken as f64;
        self.taken += 1;
        // `as` takes what is below 0 to 0.
        let first = ((middle - 0.5) * self.pitch).round() as usize;
        let end = (((middle + 0.5) * self.pitch).round() as usize).max(first + 1).min(self.width);
        for x in first..end {
            let place = self.values.get_mut(x * self.bands..(x + 1) * self.bands);
            for (value, &new) in place.unwrap_or_default().iter_mut().zip(column) {
                *value = new.max(*value);
            }
        }
        self.filled = self.filled.max(end);
    }

    /// Draws the last column out to the end of the panel, which it misses by up to half a hop.
    pub fn close(&mut self) {
        let Some(last) = self.filled.checked_sub(1) else { return };
        for x in self.filled..self.width {
            self.values.copy_within(last * self.bands..self.filled * self.bands, x * self.bands);
        }
        self.filled = self.width;
    }

    /// The value at pixel `x` of a band.
    pub fn value(&self, x: usize, band: usize) -> u8 {
        self.values.get(x * self.bands + band).copied().unwrap_or(0)
    }

    /// How many columns share one pixel, at least 1.
    pub fn columns_a_pixel(&self) -> f64 {
        (1.0 / self.pitch).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pixel_shows_the_loudest_of_its_columns_and_none_is_lost() {
        let mut random = fastrand::Rng::with_seed(5);
        for (hops, width) in [(1000, 100), (1003, 97), (100, 100), (7, 100), (1, 100)] {
            let columns: Vec<[u8; 2]> = (0..hops).map(|_| [random.u8(..), random.u8(..)]).collect();
            let mut pooled = PooledColumns::new(2, width, hops as f64);
            columns.iter().for_each(|column| pooled.push(column));
            pooled.close();
            for band in 0..2 {
                let pixels: Vec<u8> = (0..width).map(|x| pooled.value(x, band)).collect();
                let loudest = columns.iter().map(|column| column[band]).max();
                assert_eq!(pixels.iter().copied().max(), loudest);
                for (x, &pixel) in pixels.iter().enumerate() {
                    // The columns within half a hop and a pixel's rounding.
                    let centre = (x as f64 + 0.5) * hops as f64 / width as f64;
                    let reach = hops as f64 / width as f64 + 1.0;
                    let near = |k: usize| (k as f64 - centre).abs() <= reach;
                    let shown =
                        columns.iter().enumerate().any(|(k, c)| near(k) && c[band] == pixel);
                    assert!(shown, "{hops} on {width}: pixel {x} shows {pixel}");
                }
            }
        }
    }
}
