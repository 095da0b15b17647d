//! Pooling: the largest value or the mean under a window, or over a whole plane.

use rayon::prelude::*;

use crate::network::{Shape, Window, meeting};

/// Pooling of images of one shape.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    pub window: Window,
    pub input: Shape,
    pub output: Shape,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Max,
    /// Of the cells that are inside the image.
    Mean,
}

impl Pool {
    fn planes(&self) -> [usize; 2] {
        [self.input, self.output].map(|[_, rows, columns]| rows * columns)
    }

    /// Pools a batch.
    pub fn forward(&self, x: &[f32], y: &mut [f32]) {
        let [x_plane, y_plane] = self.planes();
        let planes = y.par_chunks_mut(y_plane).zip(x.par_chunks(x_plane));
        planes.for_each(|(y, x)| {
            for (place, y) in y.iter_mut().enumerate() {
                let cells = self.cells(place).filter_map(|cell| x.get(cell));
                *y = match self.kind {
                    Kind::Max => cells.copied().fold(f32::NEG_INFINITY, f32::max),
                    Kind::Mean => cells.sum::<f32>() / self.cells(place).count().max(1) as f32,
                };
            }
        });
    }

    /// The gradient of the input. Of several equal maxima the first one has it all.
    pub fn backward(&self, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        let [x_plane, y_plane] = self.planes();
        let planes = dx.par_chunks_mut(x_plane).zip(x.par_chunks(x_plane));
        planes.zip(dy.par_chunks(y_plane)).for_each(|((dx, x), dy)| {
            dx.fill(0.0);
            for (place, &dy) in dy.iter().enumerate() {
                let mut give = |cell: usize, share| {
                    dx.get_mut(cell).into_iter().for_each(|dx| *dx += share);
                };
                match self.kind {
                    Kind::Max => self.largest(place, x).into_iter().for_each(|c| give(c, dy)),
                    Kind::Mean => {
                        let share = dy / self.cells(place).count().max(1) as f32;
                        self.cells(place).for_each(|cell| give(cell, share));
                    }
                }
            }
        });
    }

    fn largest(&self, place: usize, x: &[f32]) -> Option<usize> {
        let value = |cell| x.get(cell).copied().unwrap_or(f32::NEG_INFINITY);
        self.cells(place).reduce(|best, cell| if value(cell) > value(best) { cell } else { best })
    }

    /// The cells of the image under the window at a place.
    fn cells(&self, place: usize) -> impl Iterator<Item = usize> {
        let Window { kernel, stride, before, .. } = self.window;
        let [_, rows, columns] = self.input;
        let (y, x) = (place / self.output[2], place % self.output[2]);
        // Where a window begins is a tap of a window of stride 1 at all its cells.
        let row_met = meeting(kernel[0], rows, 1, before[0], y * stride[0]);
        let column_met = meeting(kernel[1], columns, 1, before[1], x * stride[1]);
        let top = y * stride[0];
        let left = x * stride[1];
        row_met.flat_map(move |row| {
            let row = (row + top - before[0]) * columns;
            column_met.clone().map(move |column| row + column + left - before[1])
        })
    }
}

/// The mean of each plane.
pub(super) fn global_mean(x: &[f32], plane: usize, y: &mut [f32]) {
    y.iter_mut().zip(x.chunks(plane)).for_each(|(y, plane)| {
        let [sum] = super::sums::fold(plane, plane, |x, _| [x]);
        *y = sum / plane.len() as f32;
    });
}

/// The gradient of the input of [`global_mean`].
pub(super) fn global_mean_backward(dy: &[f32], plane: usize, dx: &mut [f32]) {
    dx.chunks_mut(plane).zip(dy).for_each(|(dx, dy)| dx.fill(dy / plane as f32));
}
