//! Matrix products of 32-bit floats in safe SIMD.
//!
//! Two forms are enough for a network: `panels * b`, whose left matrix is packed, and
//! `a * transposed b`. Sums of one output are always taken in the same order, so results do not
//! depend on the number of threads.

use pulp::{Arch, Simd, WithSimd};

/// Rows of the left matrix that are packed together: with three vectors of columns, what fits
/// into 32 registers. Where there are 16, half of them are worked on at a time.
const ROWS: usize = 8;
/// Columns of [`add_outer`] between two sums, so that a block of both matrices stays in the cache.
const BLOCK: usize = 1024;
/// The longest vector of any machine.
pub(super) const LANES_MAX: usize = 16;

/// A matrix in memory: unbroken rows, and where each begins. They may overlap.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub values: &'a [f32],
    pub starts: &'a [usize],
}

/// Where rows begin that follow each other.
pub(super) fn starts(rows: usize, length: usize) -> Vec<usize> {
    (0..rows).map(|row| row * length).collect()
}

/// The left matrix, packed eight rows at a time, column by column.
pub(super) struct Panels {
    panels: Vec<Panel>,
    rows: usize,
}

struct Panel {
    bias: [f32; ROWS],
    columns: Vec<[f32; ROWS]>,
}

impl Panels {
    /// Packs a matrix of `depth` columns, row by row in memory. `bias` has one value a row to be
    /// added to its products, or is empty.
    pub fn new(matrix: &[f32], depth: usize, bias: &[f32]) -> Self {
        let rows = matrix.len().checked_div(depth).unwrap_or(0);
        let mut biases = bias.iter();
        let panel = |block: &[f32]| {
            let bias = std::array::from_fn(|_| biases.next().copied().unwrap_or(0.0));
            let mut columns = vec![[0.0; ROWS]; depth];
            for (r, row) in block.chunks(depth).enumerate() {
                for (column, &value) in columns.iter_mut().zip(row) {
                    if let Some(slot) = column.get_mut(r) {
                        *slot = value;
                    }
                }
            }
            Panel { bias, columns }
        };
        Self { panels: matrix.chunks((ROWS * depth).max(1)).map(panel).collect(), rows }
    }

    /// Packs the transpose of a matrix of `columns` columns: one row for each of these.
    pub fn transposed(matrix: &[f32], columns: usize) -> Self {
        let depth = matrix.len().checked_div(columns).unwrap_or(0);
        Self::new(&transpose(matrix, columns), depth, &[])
    }

    /// `y = self * b + bias`, for the first `columns` columns of `b` and `y`.
    pub fn multiply(&self, b: Rows, y: &mut [f32], y_stride: usize, columns: usize) {
        let multiply = Multiply { panels: self, from: 0, b, y, y_stride, columns, adds: false };
        Arch::new().dispatch(multiply);
    }

    /// `y += self * b`, where the first of `self`'s columns is `from`, and those that are missing
    /// at the end count as 0. Rows of `b` and of `y` have `columns` values, a multiple of
    /// [`LANES_MAX`].
    pub fn add(&self, from: usize, b: Rows, y: &mut [f32], columns: usize) {
        let multiply =
            Multiply { panels: self, from, b, y, y_stride: columns, columns, adds: true };
        Arch::new().dispatch(multiply);
    }
}

/// The transpose of a matrix of `columns` columns.
pub(super) fn transpose(matrix: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|c| matrix.iter().skip(c).step_by(columns).copied()).collect()
}

/// `y += a * transposed(b)` for each pair `[a, b]`, over the first `depth` columns of both; `y`
/// has one row for each of `a` and one column for each of the `y_columns` rows of `b`.
pub(super) fn add_outer(pairs: &[[Rows; 2]], depth: usize, y: &mut [f32], y_columns: usize) {
    Arch::new().dispatch(AddOuter { pairs, depth, y, y_columns });
}

struct Multiply<'a> {
    panels: &'a Panels,
    from: usize,
    b: Rows<'a>,
    y: &'a mut [f32],
    y_stride: usize,
    columns: usize,
    adds: bool,
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 { self.tiles::<S, ROWS>(simd) } else { self.tiles::<S, 4>(simd) }
    }
}

impl Multiply<'_> {
    /// `R` rows at a time. If nothing is added, the last tile begins where it is still whole: what
    /// it has in common with the one before is computed twice.
    #[inline(always)]
    fn tiles<S: Simd, const R: usize>(mut self, simd: S) {
        let (columns, lanes) = (self.columns, S::F32_LANES);
        let mut column = 0;
        while column < columns {
            let left = columns - column;
            let fits = |vectors: usize| {
                left >= vectors * lanes
                    || (!self.adds && left > (vectors - 1) * lanes && columns >= vectors * lanes)
            };
            let (three, two, one) = (fits(3), fits(2), fits(1));
            let at = |vectors: usize| column.min(columns - vectors * lanes);
            if three {
                self.tile::<S, R, 3>(simd, at(3));
                column += 3 * lanes;
            } else if two {
                self.tile::<S, R, 2>(simd, at(2));
                column += 2 * lanes;
            } else if one {
                self.tile::<S, R, 1>(simd, at(1));
                column += lanes;
            } else {
                return self.narrow();
            }
        }
    }

    /// All rows of `V` vectors of columns.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize>(&mut self, simd: S, column: usize) {
        let end = column + V * S::F32_LANES;
        let Rows { values, starts } = self.b;
        let mut y_rows = self.y.chunks_mut(self.y_stride.max(1)).take(self.panels.rows);
        for panel in &self.panels.panels {
            let columns = panel.columns.get(self.from..).unwrap_or_default();
            for (part, biases) in panel.bias.as_chunks::<R>().0.iter().enumerate() {
                let mut sums = biases.map(|bias| [simd.splat_f32s(bias); V]);
                for (coefficients, &start) in columns.iter().zip(starts) {
                    let Some(row) = values.get(start + column..start + end) else { return };
                    let Ok(x) = <&[S::f32s; V]>::try_from(S::as_simd_f32s(row).0) else { return };
                    let parts = coefficients.as_chunks::<R>().0;
                    let Some(coefficients) = parts.get(part) else { return };
                    for (sum, &coefficient) in sums.iter_mut().zip(coefficients) {
                        let coefficient = simd.splat_f32s(coefficient);
                        for (sum, &x) in sum.iter_mut().zip(x) {
                            *sum = simd.mul_add_e_f32s(coefficient, x, *sum);
                        }
                    }
                }
                for (sum, y) in sums.iter().zip(y_rows.by_ref()) {
                    let Some(y) = y.get_mut(column..end) else { return };
                    for (y, &sum) in S::as_mut_simd_f32s(y).0.iter_mut().zip(sum) {
                        *y = if self.adds { simd.add_f32s(*y, sum) } else { sum };
                    }
                }
            }
        }
    }

    /// Fewer columns than one vector has.
    fn narrow(&mut self) {
        let Self { panels, b, y_stride, columns, .. } = *self;
        let mut y_rows = self.y.chunks_mut(y_stride.max(1)).take(panels.rows);
        for panel in &panels.panels {
            for ((r, &bias), y) in panel.bias.iter().enumerate().zip(y_rows.by_ref()) {
                let Some(y) = y.get_mut(..columns) else { return };
                y.fill(bias);
                for (coefficients, &start) in panel.columns.iter().zip(b.starts) {
                    let coefficient = coefficients.get(r).copied().unwrap_or(0.0);
                    let x = b.values.get(start..).unwrap_or_default();
                    y.iter_mut().zip(x).for_each(|(y, x)| *y += coefficient * x);
                }
            }
        }
    }
}

struct AddOuter<'a> {
    pairs: &'a [[Rows<'a>; 2]],
    depth: usize,
    y: &'a mut [f32],
    y_columns: usize,
}

impl WithSimd for AddOuter<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 {
            self.tiles::<S, 6, 4>(simd);
        } else {
            self.tiles::<S, 4, 2>(simd);
        }
    }
}

impl AddOuter<'_> {
    /// `A` rows with `B` rows at a time.
    #[inline(always)]
    fn tiles<S: Simd, const A: usize, const B: usize>(self, simd: S) {
        let Self { pairs, depth, y, y_columns } = self;
        let columns = y_columns.max(1);
        for from in (0..depth).step_by(BLOCK) {
            let block = from..(from + BLOCK).min(depth);
            let fresh = fresh_lanes::<S>(block.len());
            for column in (0..y_columns).step_by(B) {
                for (tile, y) in y.chunks_mut(A * columns).enumerate() {
                    let mut sums = [[simd.splat_f32s(0.0); B]; A];
                    for [a, b] in pairs {
                        let a: [&[f32]; A] = some(a, A * tile, &block);
                        let b: [&[f32]; B] = some(b, column, &block);
                        dot(simd, &mut sums, a, b, fresh);
                    }
                    for (y, sums) in y.chunks_mut(columns).zip(sums) {
                        let y = y.get_mut(column..).unwrap_or_default();
                        for (y, sum) in y.iter_mut().zip(sums) {
                            *y += simd.reduce_sum_f32s(sum);
                        }
                    }
                }
            }
        }
    }
}

/// A block of `N` rows from the row `first`. Where there are fewer, the last one stands in: its
/// sums have no place to go to.
#[inline(always)]
fn some<'a, const N: usize>(
    rows: &Rows<'a>,
    first: usize,
    block: &std::ops::Range<usize>,
) -> [&'a [f32]; N] {
    let last = rows.starts.len().saturating_sub(1);
    std::array::from_fn(|n| {
        let start = rows.starts.get((first + n).min(last)).copied().unwrap_or(0);
        rows.values.get(start + block.start..start + block.end).unwrap_or_default()
    })
}

/// Adds the products of each row of `a` with each of `b`, all of one length, lane by lane.
/// `fresh`: see [`fresh_lanes`].
#[inline(always)]
fn dot<S: Simd, const A: usize, const B: usize>(
    simd: S,
    sums: &mut [[S::f32s; B]; A],
    a: [&[f32]; A],
    b: [&[f32]; B],
    fresh: Option<S::f32s>,
) {
    let count = a.first().map_or(0, |row| row.len() / S::F32_LANES);
    let vectors = (whole::<S, A>(a, count), whole::<S, B>(b, count));
    let (Some(a_vectors), Some(b_vectors)) = vectors else { return };
    let mut b_lanes = [simd.splat_f32s(0.0); B];
    for at in 0..count {
        for (lanes, row) in b_lanes.iter_mut().zip(&b_vectors) {
            let Some(&found) = row.get(at) else { return };
            *lanes = found;
        }
        for (sums, row) in sums.iter_mut().zip(&a_vectors) {
            let Some(&a) = row.get(at) else { return };
            for (sum, &b) in sums.iter_mut().zip(&b_lanes) {
                *sum = simd.mul_add_e_f32s(a, b, *sum);
            }
        }
    }
    let Some(fresh) = fresh else { return };
    for (lanes, row) in b_lanes.iter_mut().zip(b) {
        *lanes = last_lanes(simd, row);
    }
    for (sums, row) in sums.iter_mut().zip(a) {
        let a = simd.mul_f32s(last_lanes(simd, row), fresh);
        for (sum, &b) in sums.iter_mut().zip(&b_lanes) {
            *sum = simd.mul_add_e_f32s(a, b, *sum);
        }
    }
}

/// The first `count` vectors of rows. Of one length for sure, they need no checks where they are
/// read.
#[inline(always)]
fn whole<S: Simd, const N: usize>(rows: [&[f32]; N], count: usize) -> Option<[&[S::f32s]; N]> {
    let mut vectors: [&[S::f32s]; N] = [&[]; N];
    for (vectors, row) in vectors.iter_mut().zip(rows) {
        *vectors = S::as_simd_f32s(row).0.get(..count)?;
    }
    Some(vectors)
}

/// The last vector of a row, or all of it and zeros if it is shorter than one.
#[inline(always)]
fn last_lanes<S: Simd>(simd: S, row: &[f32]) -> S::f32s {
    let start = row.len().checked_sub(S::F32_LANES);
    if let Some(start) = start
        && let [last, ..] = S::as_simd_f32s(row.get(start..).unwrap_or_default()).0
    {
        return *last;
    }
    let mut values = [0.0; LANES_MAX];
    for (value, &x) in values.iter_mut().zip(row) {
        *value = x;
    }
    match S::as_simd_f32s(&values).0 {
        [first, ..] => *first,
        [] => simd.splat_f32s(0.0),
    }
}

/// 1 for each of the last lanes of a row of `length` that whole vectors leave over, 0 for the
/// others. Nothing, if none are left over.
#[inline(always)]
fn fresh_lanes<S: Simd>(length: usize) -> Option<S::f32s> {
    let over = length % S::F32_LANES;
    let mut lanes = [0.0; LANES_MAX];
    let stale = if length < S::F32_LANES { 0 } else { S::F32_LANES - over };
    for lane in lanes.iter_mut().skip(stale) {
        *lane = 1.0;
    }
    S::as_simd_f32s(&lanes).0.first().copied().filter(|_| over > 0)
}
