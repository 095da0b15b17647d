//! What the values of a photo's channels are like, as a vector.

use super::shift::{ShiftModel, linear};
use crate::picture::View;

/// Shares of the pixels whose highest value is a statistic.
const QUANTILES: [f64; 9] = [0.002, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.998];

/// For each channel nine quantiles, mean, standard deviation, shares of black and of full pixels
/// and the mean step between neighbours, then the correlation of each two channels. For gains,
/// logarithms of the quantiles and of the mean in linear light come on top.
pub fn statistics(view: &View, model: ShiftModel) -> Vec<f64> {
    let planes: [Vec<f64>; 3] = std::array::from_fn(|channel| {
        view.plane(channel).map(|value| f64::from(value) / 255.0).collect()
    });
    let mut found = Vec::new();
    for plane in &planes {
        of_plane(plane, model, &mut found);
    }
    let [red, green, blue] = &planes;
    for (one, other) in [(red, green), (red, blue), (green, blue)] {
        found.push(correlation(one, other));
    }
    found
}

fn of_plane(plane: &[f64], model: ShiftModel, found: &mut Vec<f64>) {
    let count = plane.len().max(1) as f64;
    let mut sorted = plane.to_vec();
    sorted.sort_by(f64::total_cmp);
    let quantile = |share: f64| {
        let place = (share * (count - 1.0)).round() as usize;
        sorted.get(place).copied().unwrap_or(0.0)
    };
    let quantiles = QUANTILES.map(quantile);
    found.extend(quantiles);
    let (mean, deviation) = moments(plane);
    let share = |level: f64| plane.iter().filter(|value| **value == level).count() as f64 / count;
    found.extend([mean, deviation, share(0.0), share(1.0), steps(plane)]);
    if model == ShiftModel::Gain {
        found.extend(quantiles.map(|value| (linear(value) + 1e-3).ln()));
        let light = plane.iter().map(|&value| linear(value)).sum::<f64>() / count;
        found.push((light + 1e-4).ln());
    }
}

/// Mean and standard deviation.
fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}

/// The mean step to the right and downwards together.
fn steps(plane: &[f64]) -> f64 {
    let across = plane.chunks(View::SIDE).flat_map(|row| row.iter().zip(row.iter().skip(1)));
    let down = plane.iter().zip(plane.iter().skip(View::SIDE));
    let sum: f64 = across.chain(down).map(|(one, next)| (next - one).abs()).sum();
    sum / plane.len().max(1) as f64
}

/// Pearson's; 0 where a channel is the same everywhere.
fn correlation(one: &[f64], other: &[f64]) -> f64 {
    let ((mean, deviation), (other_mean, other_deviation)) = (moments(one), moments(other));
    let scale = deviation * other_deviation * one.len().max(1) as f64;
    let products = one.iter().zip(other).map(|(a, b)| (a - mean) * (b - other_mean));
    if scale < 1e-12 { 0.0 } else { products.sum::<f64>() / scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_a_ramp_are_those_that_it_has() {
        // Red runs from 0 to 226 along a row, green against it, blue is the same everywhere.
        let side = View::SIDE;
        let pixel = |n: usize| [(n % side) as u8, (side - 1 - n % side) as u8, 255];
        let rgb: Vec<u8> = (0..side * side).flat_map(pixel).collect();
        let view = View::of_rgb(&rgb, side as u32, side as u32, None).unwrap();
        let found = statistics(&view, ShiftModel::Offset);
        assert_eq!(found.len(), 3 * 14 + 3);
        let near = |n: usize, value: f64| assert!((found[n] - value).abs() < 1e-3, "{n} {found:?}");
        near(4, 113.0 / 255.0); // Median.
        near(9, 113.0 / 255.0); // Mean.
        near(10, 65.528 / 255.0); // Standard deviation of 0 to 226: sqrt((227^2 - 1) / 12).
        near(11, 1.0 / 227.0); // Black: one column.
        near(13, 226.0 / 227.0 / 255.0); // A step of one level, but none at a row's end.
        near(2 * 14 + 12, 1.0); // Blue is full everywhere.
        near(42, -1.0); // Red against green.
        near(43, 0.0); // Against what does not change.
        assert_eq!(statistics(&view, ShiftModel::Gain).len(), 3 * 24 + 3);
    }
}
