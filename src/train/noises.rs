//! Sounds that mean nothing and that every microphone hears: made, not recorded. They are the
//! negatives and the backgrounds that are there when nobody gives any. Pure.

use fastrand::Rng;

/// Levels of the noises in dBFS (RMS): from a good microphone in a quiet room to a busy street.
const LEVELS_DBFS: [f32; 4] = [-70.0, -55.0, -40.0, -25.0];

/// White, pink and brown noise, and mains hum of 50 and of 60 Hz with its harmonics on some pink
/// noise, each at four levels and `len` samples long.
pub fn noises(rate_hz: u32, len: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut random = Rng::with_seed(seed);
    let mut sounds = Vec::new();
    for level_dbfs in LEVELS_DBFS {
        for slope in [0.0, 0.95, 0.999] {
            sounds.push(at_level(coloured(len, slope, &mut random), level_dbfs));
        }
        for mains_hz in [50.0, 60.0] {
            let noise = at_level(coloured(len, 0.95, &mut random), -10.0);
            let tones = at_level(hum(rate_hz, mains_hz, len, &mut random), 0.0);
            let both = tones.iter().zip(&noise).map(|(tone, noise)| tone + noise).collect();
            sounds.push(at_level(both, level_dbfs));
        }
    }
    sounds
}

/// White noise through a leaky integrator: the nearer to 1, the darker.
fn coloured(len: usize, leak: f32, random: &mut Rng) -> Vec<f32> {
    let mut sum = 0.0;
    let mut sample = || {
        sum = leak * sum + random.f32() - 0.5;
        sum
    };
    (0..len).map(|_| sample()).collect()
}

/// A tone and nine harmonics of random strength and phase.
fn hum(rate_hz: u32, hz: f32, len: usize, random: &mut Rng) -> Vec<f32> {
    let mut samples = vec![0.0; len];
    for harmonic in 1..=10_u8 {
        let step = std::f32::consts::TAU * hz * f32::from(harmonic) / rate_hz.max(1) as f32;
        let (strength, phase) = (random.f32() / f32::from(harmonic), random.f32() * 6.0);
        for (n, sample) in samples.iter_mut().enumerate() {
            *sample += strength * (step * n as f32 + phase).sin();
        }
    }
    samples
}

fn at_level(mut samples: Vec<f32>, level_dbfs: f32) -> Vec<f32> {
    let power = samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32;
    let factor = 10.0_f32.powf(level_dbfs / 20.0) / power.sqrt().max(1e-9);
    samples.iter_mut().for_each(|sample| *sample *= factor);
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_have_their_levels_and_differ() {
        let sounds = noises(32_000, 64_000, 1);
        assert_eq!(sounds.len(), 20);
        for (index, samples) in sounds.iter().enumerate() {
            let power = samples.iter().map(|s| s * s).sum::<f32>() / 64_000.0;
            let level = LEVELS_DBFS[index / 5];
            assert!((10.0 * power.log10() - level).abs() < 0.1, "{index}");
        }
        assert_eq!(noises(32_000, 100, 1), noises(32_000, 100, 1));
        assert_ne!(noises(32_000, 100, 1), noises(32_000, 100, 2));
    }

    #[test]
    fn pink_is_darker_than_white_and_brown_darker_still() {
        let sounds = noises(32_000, 64_000, 2);
        // Power of the differences, over the power: high for bright sounds.
        let brightness = |samples: &Vec<f32>| {
            let power = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>();
            power(&mut samples.windows(2).map(|pair| pair[1] - pair[0]))
                / power(&mut samples.iter().copied())
        };
        let [white, pink, brown] = [0, 1, 2].map(|n| brightness(&sounds[n]));
        assert!(white > 10.0 * pink && pink > 10.0 * brown, "{white} {pink} {brown}");
    }
}
