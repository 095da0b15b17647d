//! The sliding short-time Fourier transform and the columns made from it.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};
use rustfft::num_complex::Complex32;

use super::mel::FilterBank;
use super::recipe::Recipe;

/// Power spectra of a stream of samples, one a hop (the recipe's [`Recipe::spectrum_hop`]). Frame k is centred on sample `k * hop` of the
/// pre-emphasised signal; before its beginning and behind its end the signal is reflected (as
/// `torch.stft` and librosa do with `center=True`). Each frame is computed on its own from the
/// same samples, so any chunking of the input gives bit-identical frames.
pub struct PowerStft {
    fft: Arc<dyn RealToComplex<f32>>,
    window: Vec<f32>,
    hop: usize,
    pre_emphasis: f32,
    /// The sample that waits for its successor.
    previous: Option<f32>,
    /// Pre-emphasised samples not yet done with; the reflected head included once there is one.
    signal: Vec<f32>,
    started: bool,
    frame: Vec<f32>,
    spectrum: Vec<Complex32>,
    scratch: Vec<Complex32>,
    power: Vec<f32>,
}

impl PowerStft {
    /// A stream that begins now.
    pub fn new(recipe: &Recipe) -> Self {
        let fft = RealFftPlanner::new().plan_fft_forward(recipe.fft_len);
        Self {
            window: hann(recipe.window_len),
            hop: recipe.spectrum_hop(),
            pre_emphasis: recipe.pre_emphasis,
            previous: None,
            signal: Vec::new(),
            started: false,
            frame: fft.make_input_vec(),
            spectrum: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            power: vec![0.0; recipe.fft_len / 2 + 1],
            fft,
        }
    }

    /// Takes samples in -1..1 and hands every frame that is complete to `sink`: `|X|^2` of
    /// `fft_len / 2 + 1` bins.
    pub fn push(&mut self, samples: &[f32], mut sink: impl FnMut(&[f32])) {
        let Some((&first, &last)) = samples.first().zip(samples.last()) else { return };
        let pre_emphasis = self.pre_emphasis;
        let emphasised = |previous: f32, sample: f32| sample - pre_emphasis * previous;
        if let Some(previous) = self.previous.replace(last) {
            self.signal.push(emphasised(previous, first));
        }
        let pairs = samples.iter().zip(samples.iter().skip(1));
        self.signal.extend(pairs.map(|(&previous, &sample)| emphasised(previous, sample)));
        if self.reflect_head() {
            self.drain_frames(&mut sink);
        }
    }

    /// Ends the stream: the frames whose centres lie within the signal, reflected at its end. The
    /// next `push` begins a new stream.
    pub fn finish(&mut self, mut sink: impl FnMut(&[f32])) {
        let half = self.half();
        if self.previous.take().is_none() {
            return;
        }
        if !self.started {
            // Too short to be reflected: as if silence had followed.
            let missing = (half + 1).saturating_sub(self.signal.len());
            self.signal.extend(std::iter::repeat_n(0.0, missing));
            self.reflect_head();
        }
        let end = self.signal.len();
        self.signal.extend_from_within(end.saturating_sub(half + 1)..end.saturating_sub(1));
        if let Some(tail) = self.signal.get_mut(end..) {
            tail.reverse();
        }
        self.drain_frames(&mut sink);
        self.signal.clear();
        self.started = false;
    }

    fn half(&self) -> usize {
        self.window.len() / 2
    }

    /// Puts the mirror image of the first samples before them, as soon as there are enough.
    fn reflect_head(&mut self) -> bool {
        let half = self.half();
        if !self.started && self.signal.len() > half {
            let mut head: Vec<f32> = self.signal.get(1..=half).unwrap_or_default().to_vec();
            head.reverse();
            self.signal.splice(0..0, head);
            self.started = true;
        }
        self.started
    }

    fn drain_frames(&mut self, sink: &mut impl FnMut(&[f32])) {
        let mut start = 0;
        while let Some(samples) = self.signal.get(start..start + self.window.len()) {
            let windowed = samples.iter().zip(&self.window).map(|(sample, weight)| sample * weight);
            // A shift in time does not change the power, so the window stands at the front.
            let (head, tail) = self.frame.split_at_mut(self.window.len());
            head.iter_mut().zip(windowed).for_each(|(slot, sample)| *slot = sample);
            tail.fill(0.0);
            let (frame, spectrum) = (&mut self.frame, &mut self.spectrum);
            // Buffers come from the plan itself, so their lengths always fit.
            if self.fft.process_with_scratch(frame, spectrum, &mut self.scratch).is_err() {
                return;
            }
            for (power, bin) in self.power.iter_mut().zip(&self.spectrum) {
                *power = bin.re * bin.re + bin.im * bin.im;
            }
            sink(&self.power);
            start += self.hop;
        }
        self.signal.drain(..start.min(self.signal.len()));
    }
}

/// The symmetric Hann window, `0.5 - 0.5 cos(2 pi n / (len - 1))`.
fn hann(len: usize) -> Vec<f32> {
    let step = std::f64::consts::TAU / (len.max(2) - 1) as f64;
    (0..len).map(|n| (0.5 - 0.5 * (step * n as f64).cos()) as f32).collect()
}

/// Power spectra to columns of 8-bit pixels: mel bands, decibels, the recipe's range.
pub struct ColumnMaker {
    filters: FilterBank,
    energy: Vec<f32>,
    column: Vec<u8>,
    floor: f32,
    /// Pixel = `slope * ln(energy + floor) + offset`.
    slope: f32,
    offset: f32,
}

impl ColumnMaker {
    /// The columns of `recipe`.
    pub fn new(recipe: &Recipe) -> Self {
        let db_per_neper = 10.0 / std::f32::consts::LN_10;
        let pixels_per_db = 255.0 / (recipe.max_db - recipe.min_db);
        Self {
            filters: FilterBank::new(recipe),
            energy: vec![0.0; recipe.bands],
            column: vec![0; recipe.bands],
            floor: recipe.power_floor,
            slope: pixels_per_db * db_per_neper,
            offset: -pixels_per_db * recipe.min_db,
        }
    }

    /// The column of a power spectrum, the lowest band first.
    pub fn column(&mut self, power: &[f32]) -> &[u8] {
        self.filters.apply(power, &mut self.energy);
        for (pixel, &energy) in self.column.iter_mut().zip(&self.energy) {
            let value = self.slope * fast_ln(energy + self.floor) + self.offset;
            // `as` clamps to 0..=255.
            *pixel = (value + 0.5) as u8;
        }
        &self.column
    }
}

/// Natural logarithm of a positive, normal number with an absolute error under 2e-6, a thousandth
/// of a pixel's step and less: the library's `ln` costs more than the Fourier transform, and this
/// one is free of branches, so that the compiler makes vectors of it. Argument reduction to
/// sqrt(1/2)..sqrt(2), then the odd series of `2 artanh((m - 1) / (m + 1))`.
fn fast_ln(x: f32) -> f32 {
    let bits = x.to_bits();
    let shifted = bits.wrapping_sub(0x3f35_04f3);
    let exponent = (shifted as i32) >> 23;
    let mantissa = f32::from_bits((shifted & 0x007f_ffff).wrapping_add(0x3f35_04f3));
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let s2 = s * s;
    let series = 2.0 * s * (1.0 + s2 * (1.0 / 3.0 + s2 * (0.2 + s2 * (1.0 / 7.0))));
    exponent as f32 * std::f32::consts::LN_2 + series
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::spectrogram::mel::weight;

    fn recipe() -> Recipe {
        Recipe::parse(include_str!("../../models/sound.recipe.json")).unwrap()
    }

    fn noise(len: usize, seed: u64) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..len).map(|_| random.f32() * 2.0 - 1.0).collect()
    }

    fn frames(samples: &[f32], chunks: &[usize]) -> Vec<Vec<f32>> {
        let mut stft = PowerStft::new(&recipe());
        let mut frames = Vec::new();
        let mut rest = samples;
        for &chunk in chunks.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, later) = rest.split_at(chunk.min(rest.len()));
            stft.push(piece, |power| frames.push(power.to_vec()));
            rest = later;
        }
        stft.finish(|power| frames.push(power.to_vec()));
        frames
    }

    /// The recipe's own words in 64-bit arithmetic: reflect, window, and sum the DFT bin by bin.
    fn naive_power(samples: &[f32], frame: usize, bin: usize) -> f64 {
        let recipe = recipe();
        let y: Vec<f64> = samples
            .windows(2)
            .map(|pair| f64::from(pair[1]) - f64::from(recipe.pre_emphasis) * f64::from(pair[0]))
            .collect();
        let last = y.len() as i64 - 1;
        let (mut re, mut im) = (0.0, 0.0);
        for n in 0..recipe.window_len {
            let at = (frame * recipe.hop + n) as i64 - (recipe.window_len / 2) as i64;
            let at = if at.abs() > last { 2 * last - at } else { at.abs() };
            let turn = std::f64::consts::TAU * n as f64;
            let window = 0.5 - 0.5 * (turn / (recipe.window_len - 1) as f64).cos();
            let angle = turn * bin as f64 / recipe.fft_len as f64;
            re += y[at as usize] * window * angle.cos();
            im -= y[at as usize] * window * angle.sin();
        }
        re * re + im * im
    }

    #[test]
    fn frames_equal_a_naive_dft() {
        let samples = noise(5_000, 1);
        let frames = frames(&samples, &[5_000]);
        assert_eq!(frames.len(), 1 + 4_999 / 705);
        for (frame, power) in frames.iter().enumerate() {
            for bin in [0, 1, 2, 17, 300, 511, 1_023, 1_024] {
                let expected = naive_power(&samples, frame, bin);
                let error = (f64::from(power[bin]) - expected).abs();
                assert!(error < 1e-3 * (1.0 + expected), "frame {frame} bin {bin}: {error}");
            }
        }
    }

    #[test]
    fn columns_equal_a_naive_mel() {
        let recipe = recipe();
        let power: Vec<f32> = noise(1_025, 2).iter().map(|x| (x * 12.0).exp()).collect();
        let mut maker = ColumnMaker::new(&recipe);
        let column = maker.column(&power).to_vec();
        for (band, &drawn) in column.iter().enumerate() {
            let energy: f64 = (0..power.len())
                .map(|bin| {
                    let hz = bin as f64 * 32_000.0 / 2_048.0;
                    weight(band, 227, 0.0, 15_000.0, hz) * f64::from(power[bin])
                })
                .sum();
            let v = ((energy + 1e-5).ln() + 4.5) / 5.0;
            let pixel = 255.0 * (v + 1.4025851) / (2.6 + 1.4025851);
            let error = (f64::from(drawn) - pixel.clamp(0.0, 255.0)).abs();
            assert!(error <= 0.502, "band {band}: {drawn} for {pixel}");
        }
    }

    #[test]
    fn digital_silence_is_black_and_full_scale_does_not_wrap() {
        let mut maker = ColumnMaker::new(&recipe());
        assert!(maker.column(&[0.0; 1_025]).iter().all(|&pixel| pixel == 0));
        assert!(maker.column(&[1e30; 1_025])[100..].iter().all(|&pixel| pixel == 255));
    }

    #[test]
    fn the_fast_logarithm_is_a_logarithm() {
        let mut x = 1e-6_f32;
        while x < 1e12 {
            let error = (f64::from(fast_ln(x)) - f64::from(x).ln()).abs();
            assert!(error < 1e-5, "ln({x}) is off by {error}");
            x *= 1.000_37;
        }
    }

    #[test]
    fn a_signal_of_any_length_ends_without_a_panic() {
        for len in [0, 1, 2, 10, 882, 883, 884, 1_000, 1_765] {
            let frames = frames(&noise(len, 3), &[100]);
            assert_eq!(frames.is_empty(), len == 0, "{len} samples");
        }
    }

    proptest! {
        #[test]
        fn any_chunking_gives_bit_identical_frames(
            len in 1_usize..6_000,
            seed: u64,
            chunks in prop::collection::vec(1_usize..3_000, 1..8),
        ) {
            let samples = noise(len, seed);
            prop_assert_eq!(frames(&samples, &chunks), frames(&samples, &[len]));
        }
    }
}
