//! Matrix products of 32-bit floats, row by row in memory, in safe SIMD.
//!
//! Two forms are enough for a network: `panels * b` (convolution forwards and to its input) and
//! `a * transposed b` (to its weights). Sums of one output are always taken in the same order, so
//! results do not depend on the number of threads.

use pulp::{Arch, Simd, WithSimd};

/// Rows of the left matrix that are worked on together: with three vectors of columns, what fits
/// into 16 registers.
const ROWS: usize = 4;
/// Vectors of columns that are worked on together.
const VECTORS: usize = 3;
/// Columns of [`add_outer`] between two sums, so that a block of both matrices stays in the cache.
const BLOCK: usize = 4096;
/// The longest vector of any machine.
const LANES_MAX: usize = 16;

/// A matrix in memory: rows that begin `stride` values apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub values: &'a [f32],
    pub stride: usize,
}

/// The left matrix, packed four rows at a time, column by column.
pub(super) struct Panels {
    panels: Vec<Panel>,
    rows: usize,
}

struct Panel {
    bias: [f32; ROWS],
    columns: Vec<[f32; ROWS]>,
}

impl Panels {
    /// Packs a matrix of `depth` columns. `bias` has one value a row to be added to its products,
    /// or is empty.
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
        Arch::new().dispatch(Multiply { panels: self, b, y, y_stride, columns });
    }
}

/// The transpose of a matrix of `columns` columns.
pub(super) fn transpose(matrix: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|c| matrix.iter().skip(c).step_by(columns).copied()).collect()
}

/// `y += a * transposed(b)`, over the first `depth` columns of both; `y` has one row for each of
/// `a` and one column for each of the `y_columns` rows of `b`.
pub(super) fn add_outer(a: Rows, b: Rows, depth: usize, y: &mut [f32], y_columns: usize) {
    Arch::new().dispatch(AddOuter { a, b, depth, y, y_columns });
}

struct Multiply<'a> {
    panels: &'a Panels,
    b: Rows<'a>,
    y: &'a mut [f32],
    y_stride: usize,
    columns: usize,
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    /// The last tile begins where it is still whole: what it has in common with the one before is
    /// computed twice.
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (narrow, wide) = (S::F32_LANES, VECTORS * S::F32_LANES);
        let mut column = 0;
        while column < self.columns {
            let left = self.columns - column;
            if left > narrow && self.columns >= wide {
                self.tile::<S, VECTORS>(simd, column.min(self.columns - wide));
                column += wide;
            } else if self.columns >= narrow {
                self.tile::<S, 1>(simd, column.min(self.columns - narrow));
                column += narrow;
            } else {
                return self.narrow();
            }
        }
    }
}

impl Multiply<'_> {
    /// All rows of `V` vectors of columns.
    #[inline(always)]
    fn tile<S: Simd, const V: usize>(&mut self, simd: S, column: usize) {
        let end = column + V * S::F32_LANES;
        let (b, b_stride) = (self.b.values, self.b.stride.max(1));
        let mut y_rows = self.y.chunks_mut(self.y_stride.max(1)).take(self.panels.rows);
        for panel in &self.panels.panels {
            let mut sums = panel.bias.map(|bias| [simd.splat_f32s(bias); V]);
            for (coefficients, row) in panel.columns.iter().zip(b.chunks(b_stride)) {
                let Some(row) = row.get(column..end) else { return };
                let Ok(x) = <&[S::f32s; V]>::try_from(S::as_simd_f32s(row).0) else { return };
                for (sum, &coefficient) in sums.iter_mut().zip(coefficients) {
                    let coefficient = simd.splat_f32s(coefficient);
                    for (sum, &x) in sum.iter_mut().zip(x) {
                        *sum = simd.mul_add_e_f32s(coefficient, x, *sum);
                    }
                }
            }
            for (sum, y) in sums.iter().zip(y_rows.by_ref()) {
                let Some(y) = y.get_mut(column..end) else { return };
                S::as_mut_simd_f32s(y).0.copy_from_slice(sum);
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
                for (coefficients, x) in panel.columns.iter().zip(b.values.chunks(b.stride.max(1)))
                {
                    let coefficient = coefficients.get(r).copied().unwrap_or(0.0);
                    y.iter_mut().zip(x).for_each(|(y, x)| *y += coefficient * x);
                }
            }
        }
    }
}

struct AddOuter<'a> {
    a: Rows<'a>,
    b: Rows<'a>,
    depth: usize,
    y: &'a mut [f32],
    y_columns: usize,
}

impl WithSimd for AddOuter<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { a, b, depth, y, y_columns } = self;
        for start in (0..depth).step_by(BLOCK) {
            let end = (start + BLOCK).min(depth);
            let fresh = fresh_lanes::<S>(end - start);
            let a_rows = a.values.chunks(4 * a.stride.max(1));
            for (a_rows, y_rows) in a_rows.zip(y.chunks_mut(4 * y_columns.max(1))) {
                let a4 = four(a_rows, a.stride, start, end);
                let b_pairs = b.values.chunks(2 * b.stride.max(1)).take(y_columns.div_ceil(2));
                for (pair, b_rows) in b_pairs.enumerate() {
                    let [b0, b1, ..] = four(b_rows, b.stride, start, end);
                    let sums = dot_4x2(simd, a4, [b0, b1], fresh);
                    for (y_row, sums) in y_rows.chunks_mut(y_columns.max(1)).zip(sums) {
                        let y_pair = y_row.iter_mut().skip(2 * pair);
                        y_pair.zip(sums).for_each(|(y, sum)| *y += sum);
                    }
                }
            }
        }
    }
}

/// Four rows, from `start` to `end`. Where there are fewer, the last one stands in: its sums have
/// no place to go to.
#[inline(always)]
fn four(rows: &[f32], stride: usize, start: usize, end: usize) -> [&[f32]; 4] {
    let mut rows = rows.chunks(stride.max(1)).filter_map(|row| row.get(start..end));
    let mut last: &[f32] = &[];
    std::array::from_fn(|_| {
        last = rows.next().unwrap_or(last);
        last
    })
}

/// The eight products of four rows with two, all of one length. `fresh`: see [`fresh_lanes`].
#[inline(always)]
fn dot_4x2<S: Simd>(
    simd: S,
    a_rows: [&[f32]; 4],
    b_rows: [&[f32]; 2],
    fresh: Option<S::f32s>,
) -> [[f32; 2]; 4] {
    let mut sums = [[simd.splat_f32s(0.0); 2]; 4];
    let ([a0, a1, a2, a3], [b0, b1]) = (a_rows, b_rows);
    let vectors = whole::<S>(a0).zip(whole::<S>(a1)).zip(whole::<S>(a2)).zip(whole::<S>(a3));
    for (((((&a0, &a1), &a2), &a3), &b0), &b1) in vectors.zip(whole::<S>(b0)).zip(whole::<S>(b1)) {
        step(simd, &mut sums, [a0, a1, a2, a3], [b0, b1]);
    }
    if let Some(fresh) = fresh {
        let b = [last_lanes(simd, b0), last_lanes(simd, b1)];
        let mut a = [fresh; 4];
        for (a, row) in a.iter_mut().zip(a_rows) {
            *a = simd.mul_f32s(last_lanes(simd, row), *a);
        }
        step(simd, &mut sums, a, b);
    }
    let mut totals = [[0.0; 2]; 4];
    for (totals, sums) in totals.iter_mut().zip(sums) {
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total = lanes_total(simd, sum);
        }
    }
    totals
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

/// The whole vectors of a row.
#[inline(always)]
fn whole<S: Simd>(row: &[f32]) -> std::slice::Iter<'_, S::f32s> {
    S::as_simd_f32s(row).0.iter()
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

/// The sum of a vector's lanes: halves onto halves, until all lanes have it. (Written out, since
/// the library's own is not inlined where vectors are widest.)
#[inline(always)]
fn lanes_total<S: Simd>(simd: S, mut vector: S::f32s) -> f32 {
    let mut half = S::F32_LANES / 2;
    while half > 0 {
        vector = simd.add_f32s(vector, simd.rotate_left_f32s(vector, half));
        half /= 2;
    }
    let mut lanes = [0.0; LANES_MAX];
    if let Some(first) = S::as_mut_simd_f32s(&mut lanes).0.first_mut() {
        *first = vector;
    }
    lanes[0]
}

#[inline(always)]
fn step<S: Simd>(simd: S, sums: &mut [[S::f32s; 2]; 4], a: [S::f32s; 4], b: [S::f32s; 2]) {
    for (sums, a) in sums.iter_mut().zip(a) {
        for (sum, b) in sums.iter_mut().zip(b) {
            *sum = simd.mul_add_e_f32s(a, b, *sum);
        }
    }
}
