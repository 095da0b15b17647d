//! How good estimates are, where the truth is known.

use super::shift::{Shift, Triple};

/// Root mean squared errors of estimates.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Rmse {
    pub r: f64,
    pub g: f64,
    pub b: f64,
    /// Of all channels together.
    pub all: f64,
    /// Of what is left when each photo's mean error is taken off: the cast without the lightness.
    pub chroma: f64,
}

/// The errors of pairs of truth and estimate; offsets in levels of 255, gains as factors, their
/// chroma in stops (base-2 logarithms). `None` of none.
pub fn rmse(pairs: &[(Shift, Shift)]) -> Option<Rmse> {
    if pairs.is_empty() {
        return None;
    }
    let root = |squares: &mut dyn Iterator<Item = f64>| {
        let (sum, count) =
            squares.fold((0.0, 0.0), |(sum, count), square| (sum + square, count + 1.0));
        f64::sqrt(sum / f64::max(count, 1.0))
    };
    let errors: Vec<Triple> =
        pairs.iter().map(|(truth, found)| difference(truth.shown(), found.shown())).collect();
    let of = |channel: usize| {
        root(&mut errors.iter().filter_map(|error| error.get(channel)).map(|error| error * error))
    };
    let casts = pairs.iter().flat_map(|(truth, found)| chroma(truth, found));
    Some(Rmse {
        r: of(0),
        g: of(1),
        b: of(2),
        all: root(&mut errors.iter().flatten().map(|error| error * error)),
        chroma: root(&mut casts.map(|error| error * error)),
    })
}

/// The error without its mean over the channels: of offsets in levels, of gains in stops.
pub fn chroma(truth: &Shift, found: &Shift) -> Triple {
    let unit = match truth.model {
        super::ShiftModel::Offset => 255.0,
        super::ShiftModel::Gain => std::f64::consts::LOG2_E,
    };
    let error = difference(truth.responses(), found.responses()).map(|value| unit * value);
    let mean = error.iter().sum::<f64>() / 3.0;
    error.map(|value| value - mean)
}

fn difference([r, g, b]: Triple, [x, y, z]: Triple) -> Triple {
    [r - x, g - y, b - z]
}

/// Angles between true and estimated gains in degrees, as the field reports them.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Angles {
    pub mean: f64,
    pub median: f64,
    /// The mean of the quartiles, the median counted twice.
    pub trimean: f64,
    /// Means of the best and of the worst quarter.
    pub best_25: f64,
    pub worst_25: f64,
}

/// The angles of pairs of truth and estimate; `None` of none.
pub fn angles(pairs: &[(Shift, Shift)]) -> Option<Angles> {
    let mut angles: Vec<f64> =
        pairs.iter().map(|(truth, found)| angle(truth.values, found.values)).collect();
    angles.sort_by(f64::total_cmp);
    let count = angles.len();
    let mean = |angles: &[f64]| angles.iter().sum::<f64>() / angles.len().max(1) as f64;
    // Between two of them as numpy.percentile does it.
    let quantile = |share: f64| {
        let place = share * (count.saturating_sub(1)) as f64;
        let low = angles.get(place as usize).copied().unwrap_or(0.0);
        let high = angles.get(place as usize + 1).copied().unwrap_or(low);
        low + (high - low) * place.fract()
    };
    let quarter = (count / 4).max(1);
    (count > 0).then(|| Angles {
        mean: mean(&angles),
        median: quantile(0.5),
        trimean: (quantile(0.25) + 2.0 * quantile(0.5) + quantile(0.75)) / 4.0,
        best_25: mean(angles.get(..quarter).unwrap_or_default()),
        worst_25: mean(angles.get(count - quarter..).unwrap_or_default()),
    })
}

/// In degrees.
fn angle(one: Triple, other: Triple) -> f64 {
    let dot = |a: Triple, b: Triple| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let cosine = dot(one, other) / (dot(one, one) * dot(other, other)).sqrt();
    cosine.clamp(-1.0, 1.0).acos().to_degrees()
}

#[cfg(test)]
mod tests {
    use super::super::ShiftModel;
    use super::*;

    #[test]
    fn errors_are_counted_by_channel_and_without_lightness() {
        let shift = |values| Shift::from_shown(ShiftModel::Offset, values);
        let pairs = [
            (shift([10.0, 0.0, 0.0]), shift([13.0, 3.0, 3.0])),
            (shift([0.0, 0.0, 0.0]), shift([0.0, 0.0, 6.0])),
        ];
        let found = rmse(&pairs).unwrap();
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found}");
        near(found.r, 4.5_f64.sqrt());
        near(found.b, 22.5_f64.sqrt());
        near(found.all, (63.0_f64 / 6.0).sqrt());
        // The first is all lightness, of the second -2, -2 and 4 are left.
        near(found.chroma, (24.0_f64 / 6.0).sqrt());
        assert_eq!(rmse(&[]), None);
    }

    #[test]
    fn angles_know_nothing_of_lightness() {
        let gain = |values| Shift::from_shown(ShiftModel::Gain, values);
        let one = gain([1.0, 1.0, 1.0]);
        let pairs = [
            (one, gain([2.0, 2.0, 2.0])),
            (gain([1.0, 1e-9, 1e-9]), gain([1e-9, 1.0, 1e-9])),
            (one, one),
            (gain([1.0, 1.0, 1e-9]), gain([1.0, 1e-9, 1e-9])),
        ];
        let found = angles(&pairs).unwrap();
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-5, "{found}");
        near(found.mean, 135.0 / 4.0);
        near(found.median, 22.5);
        // Quartiles 0 and 45 + (90 - 45) / 4.
        near(found.trimean, (45.0 + 56.25) / 4.0);
        near(found.best_25, 0.0);
        near(found.worst_25, 90.0);
        assert_eq!(angles(&[]), None);
        near(rmse(&pairs[..1]).unwrap().chroma, 0.0);
        near(rmse(&pairs[..1]).unwrap().all, 1.0);
    }
}
