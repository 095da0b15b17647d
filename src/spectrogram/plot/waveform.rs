//! One channel's waveform at the width of a panel, and its levels.

/// What a panel shows of a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Waveform {
    /// Lowest and highest value in each pixel column.
    pub extents: Vec<(f32, f32)>,
    /// Highest magnitude.
    pub peak: f32,
    /// Root mean square.
    pub rms: f32,
}

impl Waveform {
    /// `samples` over `width` columns; a sample that is not finite counts as 0.
    pub fn new(samples: &[f32], width: usize) -> Self {
        let per_column = samples.len() as f64 / width as f64;
        let extents = (0..width)
            .map(|x| extent(samples, x as f64 * per_column, (x + 1) as f64 * per_column))
            .collect();
        let square = |&sample: &f32| f64::from(finite(sample)).powi(2);
        let energy: f64 = samples.iter().map(square).sum();
        Self {
            extents,
            peak: samples.iter().fold(0.0, |peak, &sample| peak.max(finite(sample).abs())),
            rms: (energy / samples.len().max(1) as f64).sqrt() as f32,
        }
    }
}

fn finite(sample: f32) -> f32 {
    if sample.is_finite() { sample } else { 0.0 }
}

/// The lowest and highest value of the line through the samples between two places, so that
/// neighbouring columns always touch.
fn extent(samples: &[f32], from: f64, to: f64) -> (f32, f32) {
    let inner = samples.get(from.ceil() as usize..=to.floor() as usize).unwrap_or_default();
    // The last column ends one sample behind the last one.
    let inner = if inner.is_empty() {
        samples.get(from.ceil() as usize..).filter(|_| to > samples.len() as f64 - 1.0)
    } else {
        Some(inner)
    };
    let ends = [between(samples, from), between(samples, to)];
    inner
        .unwrap_or_default()
        .iter()
        .map(|&sample| finite(sample))
        .chain(ends)
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
}

fn between(samples: &[f32], place: f64) -> f32 {
    let last = samples.len().saturating_sub(1);
    let index = (place.floor() as usize).min(last);
    let at = |index: usize| samples.get(index.min(last)).copied().map_or(0.0, finite);
    at(index) + (at(index + 1) - at(index)) * place.fract() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sample_is_lost_however_many_share_a_column() {
        for len in [1, 2, 99, 1000, 12_345] {
            for spike in [0, len / 3, len - 1] {
                let mut samples = vec![0.0; len];
                samples[spike] = -0.5;
                let wave = Waveform::new(&samples, 100);
                let lowest = wave.extents.iter().fold(0.0_f32, |low, e| low.min(e.0));
                assert!(lowest < -0.25, "{len} samples, spike at {spike}: {lowest}");
                assert_eq!(wave.peak, 0.5);
                assert_eq!(wave.extents.len(), 100);
            }
        }
    }

    #[test]
    fn neighbouring_columns_touch() {
        let samples: Vec<f32> = (0..70).map(|n| (n as f32 * 0.9).sin()).collect();
        for width in [10, 70, 400] {
            let wave = Waveform::new(&samples, width);
            let touch = |a: (f32, f32), b: (f32, f32)| a.0 <= b.1 + 1e-6 && b.0 <= a.1 + 1e-6;
            assert!(wave.extents.windows(2).all(|pair| touch(pair[0], pair[1])), "{width}");
        }
    }

    #[test]
    fn levels_ignore_what_is_not_a_number() {
        let wave = Waveform::new(&[0.6, -0.6, f32::NAN, f32::INFINITY], 4);
        assert_eq!(wave.peak, 0.6);
        assert!((wave.rms - 0.6 * 0.5_f32.sqrt()).abs() < 1e-6);
        assert!(wave.extents.iter().all(|e| e.0.is_finite() && e.1.is_finite()));
    }
}
