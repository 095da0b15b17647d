//! From interleaved samples of any rate to windows ready for the network: everything between the
//! ring's output and the classification, for live sources and files alike.

use std::collections::VecDeque;

use super::image::Image;
use super::mix::mix_into;
use super::recipe::Recipe;
use super::resample::Resampler;
use super::settings::ChannelChoice;
use super::slide::Slide;
use super::stft::{ColumnMaker, PowerStft};

/// Samples as they arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputFormat {
    pub sample_rate_hz: u32,
    /// Interleaved samples a frame.
    pub channels: u16,
    pub choice: ChannelChoice,
}

/// What the stream gives at every hop.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// End of the newest spectrum, in seconds since the stream's first frame; lost frames count.
    pub end_s: f64,
    /// Level of the audio since the last slice, in dBFS (RMS against 1.0); digital silence is
    /// negative infinity.
    pub level_dbfs: f32,
    /// Highest such level among the slices that make up the last 227 columns.
    pub window_level_dbfs: f32,
    /// The window that ends here; `None` until one window's worth has been heard.
    pub image: Option<Image>,
    /// No window came before this one since the stream began or a long gap ended.
    pub first: bool,
}

/// Audio that can't be analysed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpectrogramError {
    #[error("audio at {rate_hz} Hz can't be resampled to {recipe_hz} Hz: {why}")]
    Rate { rate_hz: u32, recipe_hz: u32, why: String },
}

/// One stream of audio on its way to images. Memory is bounded by one window and one block,
/// whatever is pushed.
pub struct Analyser {
    recipe: Recipe,
    format: InputFormat,
    stft: PowerStft,
    columns: ColumnMaker,
    resampler: Resampler,
    progress: Progress,
    /// Input frames since the stream began, the lost ones included.
    frames: u64,
    mono: Vec<f32>,
    resampled: Vec<f32>,
}

/// Where the spectra go.
struct Progress {
    slide: Slide,
    /// Samples from one spectrum to the next.
    hop: usize,
    sample_rate_hz: f64,
    /// Spectra from one slice to the next, and of a window.
    slice: usize,
    window: u64,
    /// Spectra since the stream began: those that stand for a gap included.
    spectra: u64,
    /// Where spectrum 0 would lie, by the spectra since the last gap.
    origin_s: f64,
    since_slice: usize,
    /// A window has been shown since the last start.
    shown: bool,
    levels: Levels,
}

/// The loudness of the stream, hop by hop: a spectrum's own hop is counted with it, so
/// that levels do not depend on how the input was chunked.
struct Levels {
    hop: usize,
    /// Sum of squares and count of each hop that no slice has taken yet, oldest first.
    hops: VecDeque<(f64, usize)>,
    /// Level of each slice in the last window, with the spectrum it ended at.
    recent: VecDeque<(u64, f32)>,
}

impl Levels {
    fn hear(&mut self, samples: &[f32]) {
        for &sample in samples {
            if self.hops.back().is_none_or(|&(_, count)| count == self.hop) {
                self.hops.push_back((0.0, 0));
            }
            if let Some((energy, count)) = self.hops.back_mut() {
                *energy += f64::from(sample) * f64::from(sample);
                *count += 1;
            }
        }
    }

    /// The level of the next `hops` hops (RMS in dBFS), which end at spectrum `end` of windows of
    /// `window` spectra.
    fn take(&mut self, hops: usize, end: u64, window: u64) -> f32 {
        let taken = self.hops.drain(..hops.min(self.hops.len()));
        let (energy, count) = taken.fold((0.0, 0), |sum, hop| (sum.0 + hop.0, sum.1 + hop.1));
        let level_dbfs = (10.0 * (energy / count.max(1) as f64).log10()) as f32;
        let oldest = end.saturating_sub(window);
        self.recent.push_back((end, level_dbfs));
        while self.recent.front().is_some_and(|&(end, _)| end <= oldest) {
            self.recent.pop_front();
        }
        level_dbfs
    }

    /// The highest level in the last window.
    fn highest(&self) -> f32 {
        self.recent.iter().fold(f32::NEG_INFINITY, |highest, slice| highest.max(slice.1))
    }
}

impl Analyser {
    /// A stream that begins now; a slice every `hop_columns` columns.
    pub fn new(
        recipe: &Recipe,
        format: InputFormat,
        hop_columns: usize,
    ) -> Result<Self, SpectrogramError> {
        let hop = recipe.spectrum_hop();
        Ok(Self {
            stft: PowerStft::new(recipe),
            columns: ColumnMaker::new(recipe),
            resampler: resampler(recipe, format)?,
            progress: Progress {
                slide: Slide::new(recipe.channels, hop_columns),
                hop,
                sample_rate_hz: f64::from(recipe.sample_rate_hz),
                slice: recipe.channels * hop_columns.max(1),
                window: (recipe.channels * recipe.columns) as u64,
                spectra: 0,
                origin_s: 0.0,
                since_slice: 0,
                shown: false,
                levels: Levels { hop, hops: VecDeque::new(), recent: VecDeque::new() },
            },
            recipe: recipe.clone(),
            format,
            frames: 0,
            mono: Vec::new(),
            resampled: Vec::new(),
        })
    }

    /// Takes interleaved samples (a trailing partial frame is ignored) and hands what becomes due
    /// to `sink`.
    pub fn push(&mut self, interleaved: &[f32], sink: &mut impl FnMut(Slice)) {
        let channels = usize::from(self.format.channels.max(1));
        self.frames += (interleaved.len() / channels) as u64;
        self.mono.clear();
        mix_into(&mut self.mono, interleaved, channels, self.format.choice);
        self.resampled.clear();
        self.resampler.push(&self.mono, &mut self.resampled);
        self.analyse(sink);
    }

    /// Says that `lost_frames` frames are missing here. Nothing is joined across the gap: the
    /// transform ends before it and begins anew behind it. A gap shorter than a window shows as
    /// silence, so that what was heard before it still counts; a longer one begins a new window.
    pub fn gap(&mut self, lost_frames: u64, sink: &mut impl FnMut(Slice)) {
        self.end_segment(sink);
        self.frames += lost_frames;
        let seconds = self.frames as f64 / f64::from(self.format.sample_rate_hz.max(1));
        let due = seconds * self.progress.sample_rate_hz / self.progress.hop as f64;
        let missing = (due.round() as u64).saturating_sub(self.progress.spectra);
        if missing >= self.progress.window {
            self.progress.skip(missing);
        } else {
            let silence = vec![0; self.recipe.bands];
            (0..missing).for_each(|_| self.progress.take(&silence, sink));
        }
        // Spectra are whole and gaps are not: what is left of the difference must not add up.
        self.progress.origin_s = seconds - self.progress.seconds();
        // The same rates as before: this can't fail where `new` did not.
        if let Ok(fresh) = resampler(&self.recipe, self.format) {
            self.resampler = fresh;
        }
        self.progress.levels.hops.clear();
    }

    /// Ends the stream. If spectra have come that no window has shown, a last one shows them: the
    /// last 227 columns, or fewer followed by silence when there never were as many.
    pub fn finish(mut self, sink: &mut impl FnMut(Slice)) {
        self.end_segment(sink);
        if self.progress.slide.owes_a_window() {
            self.progress.emit(true, sink);
        }
    }

    fn end_segment(&mut self, sink: &mut impl FnMut(Slice)) {
        self.resampled.clear();
        self.resampler.finish(&mut self.resampled);
        self.analyse(sink);
        let (columns, progress) = (&mut self.columns, &mut self.progress);
        self.stft.finish(|power| progress.take(columns.column(power), sink));
    }

    fn analyse(&mut self, sink: &mut impl FnMut(Slice)) {
        let (columns, progress) = (&mut self.columns, &mut self.progress);
        progress.levels.hear(&self.resampled);
        self.stft.push(&self.resampled, |power| progress.take(columns.column(power), sink));
    }
}

impl Progress {
    fn take(&mut self, spectrum: &[u8], sink: &mut impl FnMut(Slice)) {
        let window_due = self.slide.push(spectrum);
        self.spectra += 1;
        self.since_slice += 1;
        if window_due || (!self.slide.has_shown() && self.since_slice >= self.slice) {
            self.emit(window_due, sink);
        }
    }

    /// Length of all spectra.
    fn seconds(&self) -> f64 {
        (self.spectra * self.hop as u64) as f64 / self.sample_rate_hz
    }

    fn emit(&mut self, with_window: bool, sink: &mut impl FnMut(Slice)) {
        let level_dbfs = self.levels.take(self.since_slice, self.spectra, self.window);
        let first = with_window && !self.shown;
        self.shown |= with_window;
        sink(Slice {
            end_s: self.origin_s + self.seconds(),
            level_dbfs,
            window_level_dbfs: self.levels.highest(),
            image: with_window.then(|| self.slide.image()),
            first,
        });
        self.since_slice = 0;
    }

    fn skip(&mut self, spectra: u64) {
        self.slide.reset();
        self.shown = false;
        self.spectra += spectra;
        self.since_slice = 0;
    }
}

fn resampler(recipe: &Recipe, format: InputFormat) -> Result<Resampler, SpectrogramError> {
    let (rate_hz, recipe_hz) = (format.sample_rate_hz, recipe.sample_rate_hz);
    if rate_hz == 0 {
        let why = "the rate is zero".to_owned();
        return Err(SpectrogramError::Rate { rate_hz, recipe_hz, why });
    }
    Resampler::new(rate_hz, recipe_hz).map_err(|why| SpectrogramError::Rate {
        rate_hz,
        recipe_hz,
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE_HZ: u32 = 44_100;

    fn recipe() -> Recipe {
        Recipe::parse(include_str!("../../models/sound.recipe.json")).unwrap()
    }

    fn noise(frames: usize) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(5);
        (0..frames).map(|_| random.f32() - 0.5).collect()
    }

    fn analyser() -> Analyser {
        let format =
            InputFormat { sample_rate_hz: RATE_HZ, channels: 1, choice: ChannelChoice::Mix };
        Analyser::new(&recipe(), format, 23).unwrap()
    }

    fn slices(samples: &[f32], chunk: usize) -> Vec<Slice> {
        let (mut analyser, mut slices) = (analyser(), Vec::new());
        for piece in samples.chunks(chunk) {
            analyser.push(piece, &mut |slice| slices.push(slice));
        }
        analyser.finish(&mut |slice| slices.push(slice));
        slices
    }

    #[test]
    fn chunking_changes_neither_images_nor_levels_nor_times() {
        let samples = noise(RATE_HZ as usize * 7);
        let whole = slices(&samples, samples.len());
        assert_eq!(whole.iter().filter(|slice| slice.image.is_some()).count(), 5);
        for chunk in [441, 10_007, 100_000] {
            assert_eq!(slices(&samples, chunk), whole, "chunks of {chunk}");
        }
    }

    #[test]
    fn five_seconds_make_one_window_and_the_level_is_the_rms() {
        let slices = slices(&noise(RATE_HZ as usize * 5), 4_410);
        let windows: Vec<&Slice> = slices.iter().filter(|slice| slice.image.is_some()).collect();
        assert_eq!(windows.len(), 1);
        assert!(windows[0].first);
        // Uniform noise of +-0.5 has an RMS of 1/sqrt(12); the resampler takes its top band away.
        let expected = 10.0 * (1.0_f32 / 12.0 * 32.0 / 44.1).log10();
        for slice in &slices {
            assert!((slice.level_dbfs - expected).abs() < 0.5, "{}", slice.level_dbfs);
        }
    }

    #[test]
    fn a_short_gap_is_silence_in_the_image_and_a_long_one_a_new_beginning() {
        let samples = noise(RATE_HZ as usize * 6);
        for (lost_s, windows) in [(1, 4), (20, 2)] {
            let (mut analyser, mut slices) = (analyser(), Vec::new());
            analyser.push(&samples[..RATE_HZ as usize * 5], &mut |slice| slices.push(slice));
            analyser.gap(u64::from(RATE_HZ * lost_s), &mut |slice| slices.push(slice));
            analyser.push(&samples[RATE_HZ as usize * 5..], &mut |slice| slices.push(slice));
            analyser.finish(&mut |slice| slices.push(slice));
            let shown: Vec<&Slice> = slices.iter().filter(|slice| slice.image.is_some()).collect();
            let last = shown.last().unwrap();
            assert!((last.end_s - 6.0 - f64::from(lost_s)).abs() < 0.05, "{}", last.end_s);
            let image = last.image.as_ref().unwrap();
            let black = (0..Image::SIDE).filter(|&x| image.rows().all(|row| row[x] == 0)).count();
            assert!(shown.len() >= windows, "{} windows", shown.len());
            let expected = if lost_s == 1 { 44..=47 } else { 179..=183 };
            assert!(expected.contains(&black), "{black} silent columns for {lost_s} s");
        }
    }

    #[test]
    fn many_small_gaps_do_not_make_time_run_ahead() {
        let samples = noise(RATE_HZ as usize / 2);
        let (mut analyser, mut last_s) = (analyser(), 0.0);
        for second in 1..=60 {
            analyser.push(&samples, &mut |slice| last_s = slice.end_s);
            analyser.gap(u64::from(RATE_HZ / 2) + 1, &mut |slice| last_s = slice.end_s);
            assert!((last_s - f64::from(second)).abs() < 0.6, "{last_s} s after {second} s");
        }
    }

    #[test]
    fn a_rate_of_zero_is_an_error() {
        let format = InputFormat { sample_rate_hz: 0, channels: 1, choice: ChannelChoice::Mix };
        assert!(Analyser::new(&recipe(), format, 23).is_err());
    }
}
