//! What makes a clip harder to know: distance, other sounds, a microphone or a line that carries
//! only low frequencies. Pure.

/// Blocks in which loudness is looked at, in samples: 32 ms at 32 kHz.
const BLOCK: usize = 1_024;
/// A block this much quieter than the loudest one is silence between sounds, not the sound: 40 dB.
const SILENT_PART: f64 = 1e-4;

/// Changes the level by `db` decibels; nothing is clipped.
pub fn gain(samples: &mut [f32], db: f32) {
    let factor = 10.0_f32.powf(db / 20.0);
    samples.iter_mut().for_each(|sample| *sample *= factor);
}

/// Adds `noise` at a signal-to-noise ratio of `snr_db`; a noise that is too short is repeated.
///
/// The signal's power is that of its sounding part: blocks of 1024 samples whose power is within
/// 40 dB of the loudest one's. A short bark in a long silence is so mixed as loud as a bark that
/// fills the clip. The noise's power is its mean over what is used. Where either is silent there
/// is no such ratio, and the samples stay as they are.
pub fn mix_at_snr(samples: &mut [f32], noise: &[f32], snr_db: f32) {
    let used = noise.get(..samples.len()).unwrap_or(noise);
    let wanted = sounding_power(samples) / 10.0_f64.powf(f64::from(snr_db) / 10.0);
    let factor = (wanted / power(used)).sqrt() as f32;
    // Not a number, or infinite, where one of them is silent.
    if factor.is_finite() {
        let noise = used.iter().cycle();
        samples.iter_mut().zip(noise).for_each(|(sample, noise)| *sample += factor * noise);
    }
}

/// Mean square; 0 of no samples.
fn power(samples: &[f32]) -> f64 {
    let energy: f64 = samples.iter().map(|&s| f64::from(s) * f64::from(s)).sum();
    energy / samples.len().max(1) as f64
}

/// Mean square of the blocks that are not silent beside the loudest one.
fn sounding_power(samples: &[f32]) -> f64 {
    let powers: Vec<f64> = samples.chunks(BLOCK).map(power).collect();
    let least = powers.iter().copied().fold(0.0, f64::max) * SILENT_PART;
    let (sum, count) = powers
        .iter()
        .filter(|&&power| power > least)
        .fold((0.0, 0_u32), |(sum, count), power| (sum + power, count + 1));
    sum / f64::from(count.max(1))
}

/// Takes away what lies over `cutoff_hz`, by a linear-phase filter without delay: -6 dB at the
/// cutoff, less than 0.01 dB changed below 15/16 of it, 80 dB down above 17/16 of it. Below a
/// cutoff of 1/250 of the sample rate the edge is wider. Leaves the samples alone where the cutoff
/// is at or over half the sample rate.
pub fn low_pass(samples: &mut [f32], rate_hz: u32, cutoff_hz: f32) {
    let cutoff = f64::from(cutoff_hz) / f64::from(rate_hz.max(1));
    if !(cutoff > 0.0 && cutoff < 0.5) {
        return;
    }
    let taps = low_pass_taps(cutoff);
    let reach = taps.len() - 1;
    // Silence before and behind, so that each output sees all taps.
    let mut padded = vec![0.0; samples.len() + 2 * reach];
    if let Some(middle) = padded.get_mut(reach..reach + samples.len()) {
        middle.copy_from_slice(samples);
    }
    // Block by block, so that a block's sums stay in the processor's cache.
    for (start, output) in (0..).step_by(BLOCK).zip(samples.chunks_mut(BLOCK)) {
        output.fill(0.0);
        for (distance, &tap) in taps.iter().enumerate() {
            let left = padded.get(start + reach - distance..).unwrap_or_default();
            let right = padded.get(start + reach + distance..).unwrap_or_default();
            // The middle tap meets its sample from both sides.
            let tap = if distance == 0 { tap / 2.0 } else { tap };
            for (out, (a, b)) in output.iter_mut().zip(left.iter().zip(right)) {
                *out += tap * (a + b);
            }
        }
    }
}

/// The right half of a symmetric low-pass, from the middle tap outwards: a sinc under a Kaiser
/// window (Oppenheim and Schafer, Discrete-Time Signal Processing, 7.5.3), designed for 80 dB and
/// an edge of an eighth of the cutoff. `cutoff` is a part of the sample rate, 0 to 0.5.
fn low_pass_taps(cutoff: f64) -> Vec<f32> {
    const ATTENUATION_DB: f64 = 80.0;
    const REACH_MAX: f64 = 5_000.0;
    let beta = 0.1102 * (ATTENUATION_DB - 8.7);
    let edge = cutoff / 8.0;
    let order = (ATTENUATION_DB - 8.0) / (2.285 * std::f64::consts::TAU * edge);
    let reach = (order / 2.0).ceil().min(REACH_MAX);
    let tap = |n: u32| {
        let x = f64::from(n);
        let angle = std::f64::consts::TAU * cutoff * x;
        let sinc = if n == 0 { 2.0 * cutoff } else { angle.sin() / (std::f64::consts::PI * x) };
        let window =
            bessel_i0(beta * (1.0 - (x / reach).powi(2)).max(0.0).sqrt()) / bessel_i0(beta);
        sinc * window
    };
    let taps: Vec<f64> = (0..=reach as u32).map(tap).collect();
    // Exactly 1 at 0 Hz.
    let sum = 2.0 * taps.iter().sum::<f64>() - taps.first().copied().unwrap_or_default();
    taps.iter().map(|tap| (tap / sum) as f32).collect()
}

/// The modified Bessel function of the first kind and order 0, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 1..=60 {
        term *= quarter / f64::from(k * k);
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE_HZ: u32 = 32_000;

    fn tone(hz: f64, amplitude: f64, count: usize) -> Vec<f32> {
        let sample = |n| (std::f64::consts::TAU * hz * n as f64 / f64::from(RATE_HZ)).sin();
        (0..count).map(|n| (amplitude * sample(n)) as f32).collect()
    }

    fn noise(seed: u64, count: usize) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..count).map(|_| random.f32() - 0.5).collect()
    }

    fn db(ratio: f64) -> f64 {
        10.0 * ratio.log10()
    }

    #[test]
    fn gain_is_in_decibels_of_amplitude() {
        let mut samples = [1.0, -0.5];
        gain(&mut samples, -20.0);
        assert_eq!(samples, [0.1, -0.05]);
    }

    #[test]
    fn noise_comes_at_the_ratio_that_was_asked_for() {
        for snr_db in [-10.0, 0.0, 6.0, 20.0] {
            for noise_len in [1_000, 32_000, 90_000] {
                let clean = tone(440.0, 0.3, 32_000);
                let mut mixed = clean.clone();
                mix_at_snr(&mut mixed, &noise(1, noise_len), snr_db);
                let added: Vec<f32> = mixed.iter().zip(&clean).map(|(m, c)| m - c).collect();
                let found = db(power(&clean) / power(&added));
                assert!((found - f64::from(snr_db)).abs() < 0.02, "{found} for {snr_db} dB");
            }
        }
    }

    #[test]
    fn silence_around_a_sound_does_not_count() {
        let mut clip = vec![0.0; 160 * BLOCK];
        clip[40 * BLOCK..50 * BLOCK].copy_from_slice(&tone(440.0, 0.3, 10 * BLOCK));
        let mut mixed = clip.clone();
        mix_at_snr(&mut mixed, &noise(2, clip.len()), 0.0);
        let added: Vec<f32> = mixed.iter().zip(&clip).map(|(m, c)| m - c).collect();
        assert!(db(power(&added) / (0.3 * 0.3 / 2.0)).abs() < 0.05);
    }

    #[test]
    fn without_a_ratio_nothing_is_mixed() {
        let (silence, sound) = (vec![0.0; 5_000], noise(3, 5_000));
        for (clip, noise) in [(&silence, &sound), (&sound, &silence), (&sound, &Vec::new())] {
            let mut mixed = clip.clone();
            mix_at_snr(&mut mixed, noise, 0.0);
            assert_eq!(&mixed, clip);
        }
        mix_at_snr(&mut [], &sound, 0.0);
    }

    #[test]
    fn the_low_pass_keeps_what_is_below_and_takes_what_is_above() {
        for cutoff_hz in [400.0_f32, 4_000.0, 12_000.0] {
            let level = |part: f64| {
                let clean = tone(f64::from(cutoff_hz) * part, 0.5, 32_000);
                let mut passed = clean.clone();
                low_pass(&mut passed, RATE_HZ, cutoff_hz);
                let middle = 8_000..24_000;
                if part < 0.95 {
                    for n in middle.clone() {
                        assert!((passed[n] - clean[n]).abs() < 1e-3, "no delay, no ripple");
                    }
                }
                db(power(&passed[middle.clone()]) / power(&clean[middle]))
            };
            assert!(level(0.1).abs() < 0.01 && level(0.93).abs() < 0.01);
            assert!((level(1.0) + 6.0).abs() < 0.1, "{}", level(1.0));
            assert!(level(1.07) < -80.0 && level(1.3) < -80.0, "{}", level(1.07));
        }
    }

    #[test]
    fn the_filter_is_the_plain_convolution() {
        let clip = noise(4, 3_000);
        let half = low_pass_taps(0.1);
        let reach = half.len() as isize - 1;
        let direct = |n: isize| -> f64 {
            (-reach..=reach)
                .filter_map(|k| {
                    let sample = *clip.get(usize::try_from(n + k).ok()?)?;
                    Some(f64::from(sample) * f64::from(half[k.unsigned_abs()]))
                })
                .sum()
        };
        let mut passed = clip.clone();
        low_pass(&mut passed, 10_000, 1_000.0);
        for (n, &passed) in passed.iter().enumerate() {
            assert!((f64::from(passed) - direct(n as isize)).abs() < 1e-5, "sample {n}");
        }
    }

    #[test]
    fn odd_cutoffs_and_short_clips_do_no_harm() {
        for cutoff_hz in [-1.0, 0.0, f32::NAN, 16_000.0, 1e9] {
            let mut clip = noise(5, 100);
            low_pass(&mut clip, RATE_HZ, cutoff_hz);
            assert_eq!(clip, noise(5, 100), "{cutoff_hz}");
        }
        let mut short = vec![1.0; 3];
        low_pass(&mut short, RATE_HZ, 1.0);
        assert!(short.iter().all(|sample| sample.is_finite()));
        low_pass(&mut [], RATE_HZ, 100.0);
    }
}
