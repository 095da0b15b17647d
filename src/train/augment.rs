//! Sounds and images changed on purpose, so that a network learns what a class is and not what
//! its clips are. Pure: everything random comes from the generator that is passed in.

use std::ops::RangeInclusive;

use fastrand::Rng;

use crate::data::degrade;

/// How strongly examples are changed. Probabilities are 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Augmentation {
    /// The sound begins anywhere in the window; what is pushed out at the end comes in at the
    /// beginning.
    pub roll: bool,
    /// How often the window ends soon after the sound begins instead, as it does when a listener
    /// first meets a sound.
    pub onset: f32,
    /// How much of the sound the window then holds, in seconds.
    pub onset_s: RangeInclusive<f32>,
    /// Change of level, in dB.
    pub gain_db: RangeInclusive<f32>,
    /// How often the level is changed by `distant_db` instead, as if from far away.
    pub distant: f32,
    pub distant_db: RangeInclusive<f32>,
    /// How often a second clip is mixed in, and its label with it.
    pub mixup: f32,
    /// What becomes of the two labels.
    pub mixed: Mixed,
    /// The shares come from the distribution Beta(a, a), the larger one for the clip itself: under
    /// 1, mostly little of the second.
    pub mixup_beta: f32,
    /// How often a background is mixed in, if there are any.
    pub background: f32,
    /// Level of the clip over the background, in dB.
    pub background_snr_db: RangeInclusive<f32>,
    /// How often the high frequencies are taken away: the classes of a collection often differ in
    /// what their recordings were cut off at, and a network would learn that.
    pub low_pass: f32,
    /// Where they are cut off, in Hz; even on a logarithmic scale.
    pub low_pass_hz: RangeInclusive<f32>,
    /// How often the image is warped: stretched along both axes, and shifted along frequency, as
    /// another source of the same kind would sound.
    pub warped: f32,
    /// Factors of time and of frequency.
    pub warp_columns: RangeInclusive<f32>,
    pub warp_rows: RangeInclusive<f32>,
    /// Shift along frequency, in rows.
    pub warp_shift: RangeInclusive<f32>,
    /// How often a stripe of the image is made silent in each direction (SpecAugment, Park et al.
    /// 2019).
    pub striped: f32,
    /// Widest stripe in columns.
    pub stripe_columns: usize,
    /// Widest stripe in rows.
    pub stripe_rows: usize,
    /// The part of every target that is spread over all classes.
    pub label_smoothing: f32,
}

/// What is wanted of a window that holds two clips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mixed {
    /// Each label to the extent that its clip is part of the sound: shares of one whole.
    Shares,
    /// Whatever can be heard, each for itself.
    Audible,
}

impl Mixed {
    /// Amplitude beside the first clip from which on the second is heard.
    const HEARD: f32 = 0.35;
    /// Up to which nobody hears it. In between nobody knows.
    const UNHEARD: f32 = 0.1;

    /// The target of one output, by the targets of both clips and the share of the first in the
    /// mix, 0.5 to 1.
    pub fn target(self, first: f32, second: f32, share: f32) -> f32 {
        let level = (1.0 - share) / share;
        match self {
            Self::Shares => share * first + (1.0 - share) * second,
            Self::Audible if first == 1.0 || second == 0.0 || level < Self::UNHEARD => first,
            Self::Audible if level < Self::HEARD => f32::NAN,
            Self::Audible => second,
        }
    }
}

impl Augmentation {
    /// For whole networks.
    pub fn strong() -> Self {
        Self {
            roll: true,
            onset: 0.25,
            onset_s: 0.7..=4.5,
            gain_db: -6.0..=6.0,
            distant: 0.6,
            distant_db: -30.0..=0.0,
            mixup: 0.6,
            mixed: Mixed::Shares,
            mixup_beta: 0.4,
            background: 0.6,
            background_snr_db: -6.0..=18.0,
            low_pass: 0.25,
            low_pass_hz: 2_000.0..=14_000.0,
            warped: 0.0,
            warp_columns: 0.8..=1.25,
            warp_rows: 0.9..=1.1,
            warp_shift: -10.0..=10.0,
            striped: 0.5,
            stripe_columns: 40,
            stripe_rows: 30,
            label_smoothing: 0.0,
        }
    }

    /// For whole networks that know nothing yet: they need to see more than the clips hold.
    pub fn strongest() -> Self {
        Self { mixup: 0.8, mixup_beta: 1.0, warped: 0.7, ..Self::strong() }
    }

    /// The same for clips as collections have them: sounds are near, and nothing of them is missing.
    pub fn whole(self) -> Self {
        Self { onset: 0.0, distant: 0.0, low_pass: 0.0, ..self }
    }

    /// For a last layer on a network that has seen the strong ones: what a microphone in another
    /// place would change.
    pub fn gentle() -> Self {
        Self {
            onset: 0.0,
            gain_db: -20.0..=6.0,
            distant: 0.0,
            mixup: 0.0,
            background: 0.6,
            background_snr_db: 3.0..=30.0,
            low_pass: 0.2,
            low_pass_hz: 4_000.0..=14_000.0,
            striped: 0.0,
            ..Self::strong()
        }
    }

    /// Puts the sound of a clip somewhere in its window. Before clips are mixed: what is cut off
    /// must not be all of one of them.
    pub fn place(&self, samples: &mut [f32], rate_hz: u32, random: &mut Rng) {
        if random.f32() < self.onset {
            begin(samples, (between(&self.onset_s, random) * rate_hz as f32) as usize);
        } else if self.roll && !samples.is_empty() {
            samples.rotate_left(random.usize(..samples.len()));
        }
    }

    /// Changes the samples of a window in place: polarity, background, low-pass, gain.
    pub fn sound(
        &self,
        samples: &mut [f32],
        rate_hz: u32,
        background: Option<&[f32]>,
        random: &mut Rng,
    ) {
        if random.bool() {
            samples.iter_mut().for_each(|sample| *sample = -*sample);
        }
        if let Some(background) = background {
            degrade::mix_at_snr(samples, background, between(&self.background_snr_db, random));
        }
        if random.f32() < self.low_pass {
            let (low, high) = (self.low_pass_hz.start().ln(), self.low_pass_hz.end().ln());
            degrade::low_pass(samples, rate_hz, between(&(low..=high), random).exp());
        }
        let is_distant = random.f32() < self.distant;
        let gain_db = if is_distant { &self.distant_db } else { &self.gain_db };
        degrade::gain(samples, between(gain_db, random));
    }

    /// Changes an image of `side x side` pixels a channel in place, now and then: warps it, and
    /// takes a stripe of columns and one of rows out; what is left there is 0, as in silence.
    pub fn image(&self, pixels: &mut [f32], side: usize, random: &mut Rng) {
        if self.warped > 0.0 && random.f32() < self.warped {
            let rows = (between(&self.warp_rows, random), between(&self.warp_shift, random));
            let columns = between(&self.warp_columns, random);
            warp(pixels, side, rows, columns);
        }
        if random.f32() >= self.striped {
            return;
        }
        let columns = stripe(side, self.stripe_columns, random);
        for row in pixels.chunks_exact_mut(side.max(1)) {
            row.get_mut(columns.clone()).unwrap_or_default().fill(0.0);
        }
        let rows = stripe(side, self.stripe_rows, random);
        let rows = rows.start * side..rows.end * side;
        for plane in pixels.chunks_exact_mut((side * side).max(1)) {
            plane.get_mut(rows.clone()).unwrap_or_default().fill(0.0);
        }
    }
}

/// Stretches an image of `side x side` pixels a channel around its middle, by linear interpolation:
/// rows by a factor and a shift in rows, and time by a factor. Beyond the ends the outer rows go
/// on, and time begins again. Channels are spectra of one column, one after the other.
fn warp(pixels: &mut [f32], side: usize, (rows, shift): (f32, f32), time: f32) {
    let before = pixels.to_vec();
    let plane = (side * side).max(1);
    let channels = before.len() / plane;
    let spectra = channels * side;
    let middle = |length: usize| 0.5 * length.saturating_sub(1) as f32;
    // Where the first row of a spectrum is.
    let place = |spectrum: usize| spectrum % channels * plane + spectrum / channels;
    for (channel, pixels) in pixels.chunks_exact_mut(plane).enumerate() {
        let places: Vec<(usize, usize, f32)> = (0..side)
            .map(|column| {
                let spectrum = (channels * column + channel) as f32;
                let at = middle(spectra) + (spectrum - middle(spectra)) / time;
                let (whole, part) = (at.floor(), at - at.floor());
                let wrapped = |at: f32| place(at.rem_euclid(spectra as f32) as usize % spectra);
                (wrapped(whole), wrapped(whole + 1.0), part)
            })
            .collect();
        for (row, pixels) in pixels.chunks_exact_mut(side.max(1)).enumerate() {
            let at = middle(side) + (row as f32 - middle(side)) / rows + shift;
            let at = at.clamp(0.0, side.saturating_sub(1) as f32);
            let (low, part) = (at as usize, at.fract());
            let (low, high) = (low * side, (low + 1).min(side - 1) * side);
            let value = |at: usize| before.get(at).copied().unwrap_or(0.0);
            for (pixel, &(left, right, along)) in pixels.iter_mut().zip(&places) {
                let mixed = |row| (1.0 - along) * value(row + left) + along * value(row + right);
                *pixel = (1.0 - part) * mixed(low) + part * mixed(high);
            }
        }
    }
}

/// Moves the sound so that the window ends `heard` samples after its beginning; before it there is
/// silence. It begins at the first piece that is less than 30 dB quieter than the loudest.
fn begin(samples: &mut [f32], heard: usize) {
    const PIECE: usize = 512;
    let energy = |piece: &[f32]| piece.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>();
    let loudest = samples.chunks(PIECE).map(energy).fold(0.0, f64::max);
    let first = samples.chunks(PIECE).position(|piece| energy(piece) > loudest / 1000.0);
    let begin = first.unwrap_or(0) * PIECE;
    let heard = heard.min(samples.len() - begin.min(samples.len()));
    let silent = samples.len() - heard;
    samples.copy_within(begin..begin + heard, silent);
    samples.get_mut(..silent).unwrap_or_default().fill(0.0);
}

/// Mixes `second` into `first` so that the ear, too, hears `share` (0 to 1) of the first: levels
/// are evened out before, and the whole keeps the energy of its parts (Tokozume et al. 2018,
/// "Learning from between-class examples", with the RMS for the level). A silent part changes
/// nothing, and false comes back.
pub fn mix_up(first: &mut [f32], second: &[f32], share: f32) -> bool {
    let rms = |samples: &[f32]| {
        let energy: f64 = samples.iter().map(|&sample| f64::from(sample).powi(2)).sum();
        (energy / samples.len().max(1) as f64).sqrt() as f32
    };
    let (loud_first, loud_second) = (rms(first), rms(second));
    if loud_first < 1e-7 || loud_second < 1e-7 {
        return false;
    }
    // The amplitudes relate as share to 1 - share; together they have the power of the first.
    let scale = 1.0 / (share * share + (1.0 - share) * (1.0 - share)).sqrt();
    let (of_first, of_second) = (share * scale, (1.0 - share) * scale * loud_first / loud_second);
    for (sample, other) in first.iter_mut().zip(second) {
        *sample = of_first * *sample + of_second * other;
    }
    true
}

/// A value of the distribution Beta(a, a) for `a` over 0 to 1, by Jöhnk's method.
pub fn beta(a: f32, random: &mut Rng) -> f32 {
    let power = 1.0 / f64::from(a.clamp(0.01, 1.0));
    loop {
        let (x, y) = (random.f64().powf(power), random.f64().powf(power));
        if x + y > 0.0 && x + y <= 1.0 {
            return (x / (x + y)) as f32;
        }
    }
}

/// Where a crop of `len` samples begins in a longer sound: a place is drawn by its energy, and the
/// crop holds it, at a random position. So a bang in a long clip is never left out, and of an even
/// sound every part is as likely.
pub fn crop(samples: &[f32], len: usize, random: &mut Rng) -> usize {
    const PIECE: usize = 1_024;
    let room = samples.len().saturating_sub(len);
    if room == 0 {
        return 0;
    }
    let energy = |piece: &[f32]| piece.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>() + 1e-12;
    let energies: Vec<f64> = samples.chunks(PIECE).map(energy).collect();
    let mut left = random.f64() * energies.iter().sum::<f64>();
    let drawn = energies.iter().position(|energy| {
        left -= energy;
        left <= 0.0
    });
    let piece = drawn.unwrap_or(0) * PIECE;
    let first = (piece + PIECE).saturating_sub(len).min(room);
    random.usize(first..=piece.min(room).max(first))
}

/// A value of the range, all as likely.
fn between(range: &RangeInclusive<f32>, random: &mut Rng) -> f32 {
    range.start() + random.f32() * (range.end() - range.start())
}

/// A stripe of 0 to `widest` in `0..side`.
fn stripe(side: usize, widest: usize, random: &mut Rng) -> std::ops::Range<usize> {
    let width = random.usize(..=widest.min(side));
    let start = random.usize(..=side - width);
    start..start + width
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize, level: f32, seed: u64) -> Vec<f32> {
        let mut random = Rng::with_seed(seed);
        (0..len).map(|_| (random.f32() - 0.5) * level).collect()
    }

    fn power(samples: &[f32]) -> f32 {
        samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32
    }

    #[test]
    fn a_mix_keeps_the_power_and_shares_it_whatever_the_levels_were() {
        let (first, second) = (noise(50_000, 0.5, 1), noise(50_000, 0.01, 0x9e37_79b9_7f4a_7c15));
        for share in [0.5, 0.8, 1.0] {
            let mut mixed = first.clone();
            assert!(mix_up(&mut mixed, &second, share));
            assert!((power(&mixed) / power(&first) - 1.0).abs() < 0.03, "{share}");
            // What is left when the first is projected out is the second's part.
            let along: f32 = mixed.iter().zip(&first).map(|(a, b)| a * b).sum::<f32>()
                / first.iter().map(|a| a * a).sum::<f32>();
            let rest: Vec<f32> = mixed.iter().zip(&first).map(|(a, b)| a - along * b).collect();
            let ratio = (power(&rest) / power(&first)).sqrt() / along;
            assert!((ratio - (1.0 - share) / share).abs() < 0.02, "{share}: {ratio}");
        }
        let mut untouched = first.clone();
        assert!(!mix_up(&mut untouched, &vec![0.0; 50_000], 0.5));
        assert_eq!(untouched, first);
    }

    #[test]
    fn of_two_clips_what_can_be_heard_is_wanted() {
        let target = |first, second, share| Mixed::Audible.target(first, second, share);
        // Half as loud, a fifth, and a fiftieth.
        let [clear, doubtful, faint] = [0.667, 0.833, 0.98];
        assert_eq!([clear, doubtful, faint].map(|share| target(1.0, 0.0, share)), [1.0; 3]);
        assert_eq!([clear, doubtful, faint].map(|share| target(0.0, 0.0, share)), [0.0; 3]);
        assert_eq!([clear, faint].map(|share| target(0.0, 1.0, share)), [1.0, 0.0]);
        assert!(target(0.0, 1.0, doubtful).is_nan());
        // What isn't known of one clip isn't known of both, unless the other holds it.
        assert!(target(0.0, f32::NAN, clear).is_nan() && target(f32::NAN, 0.0, clear).is_nan());
        assert_eq!([target(1.0, f32::NAN, clear), target(f32::NAN, 1.0, clear)], [1.0; 2]);
        assert_eq!(Mixed::Shares.target(1.0, 0.0, 0.75), 0.75);
        assert_eq!(Mixed::Shares.target(0.0, 1.0, 0.75), 0.25);
    }

    #[test]
    fn a_window_ends_as_long_after_the_beginning_as_wanted() {
        let mut samples = vec![0.0; 10_000];
        samples[5_120..9_000].fill(0.5);
        let mut first = samples.clone();
        begin(&mut first, 1_000);
        assert!(
            first[..9_000].iter().all(|&s| s == 0.0) && first[9_000..].iter().all(|&s| s == 0.5)
        );
        // There is no more of it.
        begin(&mut samples, 8_000);
        assert_eq!(samples.iter().position(|&s| s == 0.5), Some(5_120));
        begin(&mut [], 5);
    }

    #[test]
    fn beta_has_the_mean_and_the_variance_of_the_distribution() {
        let mut random = Rng::with_seed(4);
        for a in [0.3_f32, 1.0] {
            let values: Vec<f32> = (0..20_000).map(|_| beta(a, &mut random)).collect();
            let mean = values.iter().sum::<f32>() / 20_000.0;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 20_000.0;
            let expected = 1.0 / (4.0 * (2.0 * a + 1.0));
            assert!((mean - 0.5).abs() < 0.01 && (variance - expected).abs() < 0.004, "{variance}");
        }
    }

    #[test]
    fn a_crop_holds_the_bang_and_covers_an_even_sound_evenly() {
        let mut random = Rng::with_seed(5);
        let mut samples = noise(320_000, 0.001, 6);
        samples[200_000..201_000].fill(0.9);
        let mut starts: Vec<usize> =
            (0..200).map(|_| crop(&samples, 160_000, &mut random)).collect();
        assert!(starts.iter().all(|&start| (40_704..=160_000).contains(&start)));
        starts.sort_unstable();
        assert!(starts[0] < 50_000 && starts[199] > 150_000, "the bang stands anywhere");
        let even = noise(320_000, 0.5, 7);
        let starts: Vec<usize> = (0..400).map(|_| crop(&even, 160_000, &mut random)).collect();
        let early = starts.iter().filter(|&&start| start < 80_000).count();
        assert!((120..280).contains(&early), "{early} of 400 in the first half");
        assert_eq!(crop(&even, 320_000, &mut random), 0);
        assert_eq!(crop(&[], 10, &mut random), 0);
    }

    #[test]
    fn stripes_are_silent_and_as_wide_and_as_frequent_as_allowed() {
        let settings = Augmentation {
            striped: 0.5,
            stripe_columns: 5,
            stripe_rows: 0,
            ..Augmentation::strong()
        };
        let mut random = Rng::with_seed(8);
        let mut widths = Vec::new();
        for _ in 0..300 {
            let mut pixels = vec![7.0; 400];
            settings.image(&mut pixels, 20, &mut random);
            let silent = pixels.iter().filter(|&&pixel| pixel == 0.0).count();
            assert!(silent % 20 == 0 && silent <= 100, "{silent}");
            widths.push(silent / 20);
        }
        assert_eq!(widths.iter().max(), Some(&5));
        // Half of them have none, and a sixth of the rest one that is 0 wide.
        let without = widths.iter().filter(|&&width| width == 0).count();
        assert!((140..210).contains(&without), "{without} of 300");
    }

    #[test]
    fn a_warp_moves_what_is_there_and_keeps_what_is_even() {
        let side = 21;
        let mut even = vec![9.0; side * side];
        warp(&mut even, side, (1.1, -3.0), 0.8);
        assert!(even.iter().all(|&pixel| (pixel - 9.0_f32).abs() < 1e-4));
        // A point in the middle column, two rows below the middle.
        let mut point = vec![0.0; side * side];
        point[12 * side + 10] = 1.0;
        warp(&mut point, side, (1.0, 0.0), 1.0);
        assert_eq!(point.iter().position(|&pixel| pixel == 1.0), Some(12 * side + 10));
        warp(&mut point, side, (1.0, 3.0), 1.0);
        assert_eq!(point.iter().position(|&pixel| pixel == 1.0), Some(9 * side + 10));
        // From five columns before the middle to ten, which is the first.
        let mut line = vec![0.0; side * side];
        line[5..].iter_mut().step_by(side).for_each(|pixel| *pixel = 1.0);
        warp(&mut line, side, (1.0, 0.0), 2.0);
        let first = |row: &[f32]| row.iter().position(|&pixel| pixel == 1.0);
        assert!(line.chunks(side).all(|row| first(row) == Some(0)));
        warp(&mut [], 0, (1.0, 0.0), 1.0);
    }

    #[test]
    fn a_sound_that_is_stretched_has_no_holes_between_its_channels() {
        // Spectra 30 and 31 of 60, in the tenth column: the first two of its channels.
        let side = 20;
        let mut image = vec![0.0; 3 * side * side];
        for channel in 0..2 {
            let plane = &mut image[channel * side * side..];
            plane[10..].iter_mut().step_by(side).take(side).for_each(|pixel| *pixel = 1.0);
        }
        warp(&mut image, side, (1.0, 0.0), 2.0);
        let spectrum = |at: usize| image[at % 3 * side * side + at / 3];
        let heard: Vec<usize> = (0..3 * side).filter(|&at| spectrum(at) > 0.0).collect();
        assert!(heard.len() >= 4 && heard.len() <= 6, "{heard:?}");
        assert!(heard.windows(2).all(|pair| pair[1] == pair[0] + 1), "{heard:?}");
    }

    #[test]
    fn all_channels_have_the_same_stripes() {
        let settings = Augmentation { striped: 1.0, ..Augmentation::strong() };
        let plane: Vec<f32> = (0..400).map(|n| (n * 37 % 256) as f32).collect();
        let mut image = plane.repeat(3);
        settings.image(&mut image, 20, &mut Rng::with_seed(6));
        let (first, others) = image.split_at(400);
        assert_ne!(first, plane);
        assert!(others.chunks(400).all(|other| other == first));
    }

    #[test]
    fn the_same_generator_gives_the_same_sound() {
        let settings = Augmentation { low_pass: 1.0, ..Augmentation::strong() };
        let background = noise(32_000, 0.2, 9);
        let change = |seed| {
            let mut samples = noise(32_000, 0.3, 10);
            let mut random = Rng::with_seed(seed);
            settings.place(&mut samples, 32_000, &mut random);
            settings.sound(&mut samples, 32_000, Some(&background), &mut random);
            samples
        };
        assert_eq!(change(1), change(1));
        assert_ne!(change(1), change(2));
        let mut nothing: [f32; 0] = [];
        settings.place(&mut nothing, 32_000, &mut Rng::with_seed(1));
        settings.sound(&mut nothing, 32_000, None, &mut Rng::with_seed(1));
    }

    #[test]
    fn of_whole_clips_nothing_is_missing() {
        let settings = Augmentation::strongest().whole();
        let before = noise(160_000, 0.5, 12);
        for seed in 0..40 {
            let (mut samples, mut random) = (before.clone(), Rng::with_seed(seed));
            settings.place(&mut samples, 32_000, &mut random);
            assert!((power(&samples) / power(&before) - 1.0).abs() < 1e-3, "seed {seed}");
            settings.sound(&mut samples, 32_000, None, &mut random);
            let change_db = 10.0 * (power(&samples) / power(&before)).log10();
            assert!(change_db.abs() < 6.01, "{change_db} dB with seed {seed}");
        }
    }

    #[test]
    fn the_gain_is_in_its_range() {
        let quiet = Augmentation {
            roll: false,
            gain_db: -20.0..=-20.0,
            low_pass: 0.0,
            ..Augmentation::gentle()
        };
        let distant = Augmentation { distant: 1.0, distant_db: -30.0..=-30.0, ..quiet.clone() };
        let mut samples = noise(1_000, 0.5, 11);
        let before = power(&samples);
        quiet.sound(&mut samples, 32_000, None, &mut Rng::with_seed(2));
        let change_db = |samples: &[f32]| 10.0 * (power(samples) / before).log10();
        assert!((change_db(&samples) + 20.0).abs() < 0.01);
        distant.sound(&mut samples, 32_000, None, &mut Rng::with_seed(2));
        assert!((change_db(&samples) + 50.0).abs() < 0.01);
    }
}
