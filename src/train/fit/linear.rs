//! Linear layers: a trained matrix on vectors, a fixed one on images.

use rayon::prelude::*;

use super::gemm::{Panels, Rows, add_outer, starts, transpose};

/// `y = x * transposed(weights) + bias`, for a batch of vectors of `features`.
pub(super) fn forward(x: &[f32], features: usize, weights: &[f32], bias: &[f32], y: &mut [f32]) {
    let outputs = weights.len() / features;
    match bias {
        [] => y.fill(0.0),
        bias => y.chunks_mut(outputs).for_each(|y| y.copy_from_slice(bias)),
    }
    let [x_starts, w_starts] = [x, weights].map(|rows| starts(rows.len() / features, features));
    let x = Rows { values: x, starts: &x_starts };
    let weights = Rows { values: weights, starts: &w_starts };
    add_outer(&[[x, weights]], features, y, outputs);
}

/// The gradient of the weights, and into `dx` that of the input, if it is wanted.
pub(super) fn backward(
    x: &[f32],
    features: usize,
    weights: &[f32],
    dy: &[f32],
    dx: Option<&mut [f32]>,
) -> Vec<f32> {
    let outputs = weights.len() / features;
    if let Some(dx) = dx {
        let weights = Rows { values: weights, starts: &starts(outputs, features) };
        Panels::new(dy, outputs, &[]).multiply(weights, dx, features, features);
    }
    let mut dw = vec![0.0; weights.len()];
    let x = Rows { values: x, starts: &starts(x.len() / features, features) };
    Panels::transposed(dy, outputs).multiply(x, &mut dw, features, features);
    dw
}

/// `matrix * image` for each plane of `rows x columns`.
pub(super) fn times_left(matrix: &[f32], rows: usize, columns: usize, x: &[f32], y: &mut [f32]) {
    let panels = Panels::new(matrix, rows, &[]);
    let new_rows = matrix.len() / rows;
    let starts = starts(rows, columns);
    let planes = y.par_chunks_mut(new_rows * columns).zip(x.par_chunks(rows * columns));
    planes.for_each(|(y, x)| {
        panels.multiply(Rows { values: x, starts: &starts }, y, columns, columns);
    });
}

/// `image * matrix` for each plane of `rows x columns`.
pub(super) fn times_right(matrix: &[f32], columns: usize, rows: usize, x: &[f32], y: &mut [f32]) {
    let new_columns = matrix.len() / columns;
    let matrix = Rows { values: matrix, starts: &starts(columns, new_columns) };
    let planes = y.par_chunks_mut(rows * new_columns).zip(x.par_chunks(rows * columns));
    planes.for_each(|(y, x)| {
        Panels::new(x, columns, &[]).multiply(matrix, y, new_columns, new_columns);
    });
}

/// The gradient of the input of [`times_left`].
pub(super) fn left_backward(m: &[f32], rows: usize, columns: usize, dy: &[f32], dx: &mut [f32]) {
    times_left(&transpose(m, rows), m.len() / rows, columns, dy, dx);
}

/// The gradient of the input of [`times_right`].
pub(super) fn right_backward(m: &[f32], columns: usize, rows: usize, dy: &[f32], dx: &mut [f32]) {
    let new_columns = m.len() / columns;
    times_right(&transpose(m, new_columns), new_columns, rows, dy, dx);
}
