//! Steps without weights that work value by value.

use rayon::prelude::*;

/// The sum of values of one shape.
pub(super) fn add(inputs: &[&[f32]], y: &mut [f32]) {
    let &[a, b] = inputs else { return };
    y.iter_mut().zip(a.iter().zip(b)).for_each(|(y, (a, b))| *y = a + b);
}

/// How many values of `x` one value of `factor` belongs to.
fn share(x: &[f32], factor: &[f32]) -> usize {
    x.len().checked_div(factor.len()).unwrap_or(0).max(1)
}

/// The product with a value of the same shape, or with one factor a channel.
pub(super) fn multiply(inputs: &[&[f32]], y: &mut [f32]) {
    let &[x, factor] = inputs else { return };
    let share = share(x, factor);
    let planes = y.par_chunks_mut(share).zip(x.par_chunks(share)).zip(factor);
    planes.for_each(|((y, x), factor)| y.iter_mut().zip(x).for_each(|(y, x)| *y = x * factor));
}

/// The gradient of the factor in [`multiply`]; that of `x` is `multiply(dy, factor)`.
pub(super) fn multiply_backward(x: &[f32], dy: &[f32], factor: &mut [f32]) {
    let share = share(x, factor);
    let planes = x.par_chunks(share).zip(dy.par_chunks(share)).zip(factor);
    planes.for_each(|((x, dy), factor)| {
        let [sum] = super::sums::fold(x, dy, |x, dy| [x * dy]);
        *factor = sum;
    });
}

/// For each image the values of all inputs, one after the other.
pub(super) fn concatenate(inputs: &[&[f32]], images: usize, y: &mut [f32]) {
    let images = images.max(1);
    for (image, y) in y.chunks_mut((y.len() / images).max(1)).enumerate() {
        let parts = inputs.iter().filter_map(|x| x.chunks((x.len() / images).max(1)).nth(image));
        y.iter_mut().zip(parts.flatten()).for_each(|(y, x)| *y = *x);
    }
}

/// The gradient of an input of [`concatenate`] that begins `start` values behind the beginning of
/// each image's output, and has `length` values.
pub(super) fn part(dy: &[f32], image: usize, start: usize, length: usize, dx: &mut [f32]) {
    for (dx, dy) in dx.chunks_mut(length.max(1)).zip(dy.chunks(image.max(1))) {
        dx.iter_mut().zip(dy.iter().skip(start)).for_each(|(dx, dy)| *dx = *dy);
    }
}

/// `scale * x + shift` for each plane. One value stands for all channels.
pub(super) fn affine(x: &[f32], plane: usize, scale: &[f32], shift: &[f32], y: &mut [f32]) {
    // Numbers of channels are 1 or the same.
    let planes = y.chunks_mut(plane.max(1)).zip(x.chunks(plane.max(1)));
    let factors = scale.iter().cycle().zip(shift.iter().cycle());
    for ((y, x), (scale, shift)) in planes.zip(factors) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = scale * x + shift);
    }
}

/// Leaves out the share `ratio` of the values, drawn with `seed`, and scales the others so that
/// the mean stays.
pub(super) fn drop_out(x: &[f32], ratio: f32, seed: u64, y: &mut [f32]) {
    let mut random = fastrand::Rng::with_seed(seed);
    let scale = 1.0 / (1.0 - ratio);
    let mut kept = || if random.f32() < ratio { 0.0 } else { scale };
    y.iter_mut().zip(x).for_each(|(y, x)| *y = x * kept());
}
