//! Where a sliding window meets the image: the arithmetic that all windowed steps share.

use std::ops::Range;

/// The places `o` in `0..places` at which `o * stride + tap` lies in an image of `size` behind
/// `before` added cells. The first of them meets the cell `first * stride + tap - before`.
pub(super) fn meeting(
    places: usize,
    size: usize,
    stride: usize,
    before: usize,
    tap: usize,
) -> Range<usize> {
    let end = (size + before).saturating_sub(tap).div_ceil(stride).min(places);
    let start = before.saturating_sub(tap).div_ceil(stride).min(end);
    start..end
}

/// Splits `rows` images' worth of values, mutable or absent, into as many parts as there are.
pub(super) fn parts_mut(
    values: Option<&mut [f32]>,
    length: usize,
    parts: usize,
) -> Vec<Option<&mut [f32]>> {
    match values {
        Some(values) => values.chunks_mut(length).map(Some).collect(),
        None => (0..parts).map(|_| None).collect(),
    }
}

/// The sum of vectors of one length, in their order.
pub(super) fn sum(vectors: Vec<Vec<f32>>) -> Vec<f32> {
    let mut vectors = vectors.into_iter();
    let mut total = vectors.next().unwrap_or_default();
    for vector in vectors {
        total.iter_mut().zip(&vector).for_each(|(total, value)| *total += value);
    }
    total
}
