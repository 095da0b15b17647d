//! Convolution as a matrix product: the cells under the window at each place become the columns
//! of a matrix, a few rows of places at a time so that they stay in the cache.

use rayon::prelude::*;

use super::gemm::{Panels, Rows, add_outer};
use super::shards::{parts_mut, sum};
use crate::network::{Shape, Window, meeting};

/// Images whose gradients are summed by one thread: fixed, so that sums do not depend on how many
/// threads there are.
const SHARD: usize = 4;
/// Values of the matrix of columns.
const COLUMNS_MAX: usize = 1 << 18;

/// A convolution of images of one shape.
#[derive(Debug, Clone)]
pub(super) struct Conv {
    pub window: Window,
    pub groups: usize,
    pub input: Shape,
    pub output: Shape,
}

/// Some rows of places, and the matrix of what the window sees from there.
struct Block {
    rows: std::ops::Range<usize>,
    /// The first place, and their number.
    start: usize,
    places: usize,
    /// Distance between the matrix's rows: an odd multiple of a cache line, since powers of two
    /// compete for the same part of the cache.
    stride: usize,
}

impl Conv {
    /// Values of a group's input, weights, output; places; rows of the matrix of columns.
    fn sizes(&self) -> [usize; 5] {
        let [channels, rows, columns] = self.input;
        let [outputs, out_rows, out_columns] = self.output;
        let (channels, outputs) = (channels / self.groups, outputs / self.groups);
        let places = out_rows * out_columns;
        let depth = channels * self.window.kernel[0] * self.window.kernel[1];
        [channels * rows * columns, outputs * depth, outputs * places, places, depth]
    }

    /// Whether the columns are the image itself.
    fn is_pointwise(&self) -> bool {
        self.window == Window::POINT
    }

    fn blocks(&self) -> impl Iterator<Item = Block> {
        let [.., depth] = self.sizes();
        let [_, rows, columns] = self.output;
        let step = (COLUMNS_MAX / (depth * columns).max(1)).clamp(1, rows.max(1));
        (0..rows).step_by(step).map(move |start| {
            let rows = start..(start + step).min(rows);
            let (start, places) = (start * columns, rows.len() * columns);
            Block { rows, start, places, stride: places.next_multiple_of(16) | 16 }
        })
    }

    /// Convolves a batch. `bias` is empty if there is none.
    pub fn forward(&self, x: &[f32], weights: &[f32], bias: &[f32], y: &mut [f32]) {
        let [x_group, w_group, y_group, places, depth] = self.sizes();
        let mut biases = bias.chunks((self.output[0] / self.groups).max(1));
        let panels: Vec<Panels> = weights
            .chunks(w_group)
            .map(|weights| Panels::new(weights, depth, biases.next().unwrap_or_default()))
            .collect();
        let images = y.par_chunks_mut(y_group * self.groups);
        let images = images.zip(x.par_chunks(x_group * self.groups));
        images.for_each_init(Vec::new, |matrix, (y, x)| {
            let groups = y.chunks_mut(y_group).zip(x.chunks(x_group)).zip(&panels);
            for ((y, x), panels) in groups {
                if self.is_pointwise() {
                    panels.multiply(Rows { values: x, stride: places }, y, places, places);
                    continue;
                }
                for block in self.blocks() {
                    self.gather(&block, x, matrix);
                    let columns = Rows { values: matrix, stride: block.stride };
                    let y = y.get_mut(block.start..).unwrap_or_default();
                    panels.multiply(columns, y, places, block.places);
                }
            }
        });
    }

    /// The gradient of the weights, and into `dx` that of the input, if it is wanted.
    pub fn backward(
        &self,
        x: &[f32],
        weights: &[f32],
        dy: &[f32],
        dx: Option<&mut [f32]>,
    ) -> Vec<f32> {
        let [x_group, w_group, y_group, _, depth] = self.sizes();
        let (x_shard, y_shard) = (SHARD * self.groups * x_group, SHARD * self.groups * y_group);
        // To the input, if wanted, with the transposed weights.
        let panels: Vec<Option<Panels>> = weights
            .chunks(w_group)
            .map(|weights| dx.is_some().then(|| Panels::transposed(weights, depth)))
            .collect();
        let shards = x.par_chunks(x_shard).zip(dy.par_chunks(y_shard)).zip(parts_mut(
            dx,
            x_shard,
            x.len().div_ceil(x_shard),
        ));
        let shards = shards.map_init(Vec::new, |matrix, ((x, dy), dx)| {
            let mut dw = vec![0.0; weights.len()];
            let dxs = parts_mut(dx, x_group, x.len() / x_group);
            let parts = x.chunks(x_group).zip(dy.chunks(y_group)).zip(dxs);
            for (part, ((x, dy), dx)) in parts.enumerate() {
                let group = part % self.groups;
                let dw = dw.chunks_mut(w_group).nth(group).unwrap_or_default();
                let panels = panels.get(group).and_then(Option::as_ref);
                self.backward_group([x, dy], dw, panels.zip(dx), matrix);
            }
            dw
        });
        sum(shards.collect())
    }

    fn backward_group(
        &self,
        [x, dy]: [&[f32]; 2],
        dw: &mut [f32],
        mut to_input: Option<(&Panels, &mut [f32])>,
        matrix: &mut Vec<f32>,
    ) {
        let [.., places, depth] = self.sizes();
        let at = |start: usize| dy.get(start..).unwrap_or_default();
        if self.is_pointwise() {
            let [dy, x] = [dy, x].map(|values| Rows { values, stride: places });
            add_outer(dy, x, places, dw, depth);
            if let Some((panels, dx)) = to_input {
                panels.multiply(dy, dx, places, places);
            }
            return;
        }
        for block in self.blocks() {
            self.gather(&block, x, matrix);
            let dy = Rows { values: at(block.start), stride: places };
            let columns = Rows { values: matrix, stride: block.stride };
            add_outer(dy, columns, block.places, dw, depth);
            if let Some((panels, dx)) = &mut to_input {
                panels.multiply(dy, matrix, block.stride, block.places);
                if block.start == 0 {
                    dx.fill(0.0);
                }
                self.scatter(&block, matrix, dx);
            }
        }
    }

    /// Fills the matrix of what the window sees: one row a channel and cell of the window.
    fn gather(&self, block: &Block, x: &[f32], matrix: &mut Vec<f32>) {
        let [.., depth] = self.sizes();
        matrix.resize(depth * block.stride, 0.0);
        let mut rows = matrix.chunks_mut(block.stride);
        for plane in x.chunks(self.input[1] * self.input[2]) {
            for (tap, row) in self.taps().zip(rows.by_ref()) {
                for (y, row) in block.rows.clone().zip(row.chunks_mut(self.output[2])) {
                    self.gather_row(y, tap, plane, row);
                }
            }
        }
    }

    fn gather_row(&self, y: usize, tap: [usize; 2], plane: &[f32], row: &mut [f32]) {
        let Some((cells, meeting)) = self.cells(y, tap) else { return row.fill(0.0) };
        let stride = self.window.stride[1];
        let (left, rest) = row.split_at_mut(meeting.start);
        let (met, right) = rest.split_at_mut(meeting.len());
        left.fill(0.0);
        right.fill(0.0);
        let cells = plane.get(cells..).unwrap_or_default();
        if stride == 1 {
            met.iter_mut().zip(cells).for_each(|(met, &cell)| *met = cell);
        } else {
            met.iter_mut().zip(cells.iter().step_by(stride)).for_each(|(met, &cell)| *met = cell);
        }
    }

    /// The way back of `gather`: adds every value to the cell it was seen in.
    fn scatter(&self, block: &Block, matrix: &[f32], dx: &mut [f32]) {
        let mut rows = matrix.chunks(block.stride);
        for plane in dx.chunks_mut(self.input[1] * self.input[2]) {
            for (tap, row) in self.taps().zip(rows.by_ref()) {
                for (y, row) in block.rows.clone().zip(row.chunks(self.output[2])) {
                    let Some((cells, meeting)) = self.cells(y, tap) else { continue };
                    let cells = plane.get_mut(cells..).unwrap_or_default();
                    let met = row.get(meeting).unwrap_or_default();
                    let cells = cells.iter_mut().step_by(self.window.stride[1]);
                    cells.zip(met).for_each(|(cell, met)| *cell += met);
                }
            }
        }
    }

    /// All cells of the window.
    fn taps(&self) -> impl Iterator<Item = [usize; 2]> {
        let [rows, columns] = self.window.kernel;
        (0..rows).flat_map(move |row| (0..columns).map(move |column| [row, column]))
    }

    /// What a cell of the window meets from the places of row `y`: the first cell of the image,
    /// and the places. Nothing, if the row is outside of the image.
    fn cells(&self, y: usize, tap: [usize; 2]) -> Option<(usize, std::ops::Range<usize>)> {
        let Window { stride, before, .. } = self.window;
        let [_, rows, columns] = self.input;
        let row = (y * stride[0] + tap[0]).checked_sub(before[0]).filter(|&row| row < rows)?;
        let meeting = meeting(self.output[2], columns, stride[1], before[1], tap[1]);
        let column = (meeting.start * stride[1] + tap[1]).checked_sub(before[1])?;
        Some((row * columns + column, meeting))
    }
}
