//! Batches split among threads, and what comes back from them.

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
