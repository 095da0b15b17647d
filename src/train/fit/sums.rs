//! Sums of many values, fast and always in the same order.

/// Sums that are taken side by side, so that they can be taken in vectors.
const LANES: usize = 32;

/// Sums `terms(a, b)` over the values of `a` and the beginning of `b`.
#[inline(always)]
pub(super) fn fold<const N: usize>(
    a: &[f32],
    b: &[f32],
    terms: impl Fn(f32, f32) -> [f32; N],
) -> [f32; N] {
    let b = b.get(..a.len()).unwrap_or_default();
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [[0.0; N]; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((sums, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            for (sum, term) in sums.iter_mut().zip(terms(a, b)) {
                *sum += term;
            }
        }
    }
    let mut totals = [0.0; N];
    for sums in sums {
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total += sum;
        }
    }
    for (&a, &b) in a_rest.iter().zip(b_rest) {
        for (total, term) in totals.iter_mut().zip(terms(a, b)) {
            *total += term;
        }
    }
    totals
}
