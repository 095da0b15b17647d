//! Convolution of each channel with a window of its own.
//!
//! The image is laid out with its border and, for strides, with every second (third, ...) row and
//! column apart. Then a cell of the window meets all places at once in one unbroken run of
//! memory, and the whole convolution is a few long loops that the compiler vectorises.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::sliding::{meeting, parts_mut, sum};
use super::sums::fold;
use crate::network::{Shape, Window};

/// Images whose gradients are summed by one thread, as in `conv`.
const SHARD: usize = 4;
/// Places that are worked on together, so that they stay in the nearest cache.
const BLOCK: usize = 2048;

/// A depthwise convolution of images of one shape.
#[derive(Debug, Clone)]
pub(super) struct Depthwise {
    input: Shape,
    output: Shape,
    column_stride: usize,
    /// Length of a channel in the layout, and of a row of it.
    laid: usize,
    laid_row: usize,
    /// Length of the run of places that a cell of the window meets, with some between the rows
    /// that are none.
    run: usize,
    /// Where the runs of the window's cells begin in the layout.
    starts: Vec<usize>,
    /// The parts of the image's rows: where in the plane, where in the layout, number of cells.
    rows: Vec<(usize, usize, usize)>,
}

impl Depthwise {
    pub fn new(window: Window, input: Shape, output: Shape) -> Self {
        let Window { kernel, stride, before, .. } = window;
        let places = [output[1], output[2]];
        // Of one phase: a place for each step, and what the window reaches beyond the last one.
        // One more row, since the last place's run goes on to the end of its row.
        let rows = places[0] + (kernel[0] - 1) / stride[0] + 1;
        let columns = places[1] + (kernel[1] - 1) / stride[1];
        let start = |tap: usize| {
            let (row, column) = (tap / kernel[1], tap % kernel[1]);
            let phase = row % stride[0] * stride[1] + column % stride[1];
            (phase * rows + row / stride[0]) * columns + column / stride[1]
        };
        let mut parts = Vec::new();
        for phase in 0..stride[0] * stride[1] {
            let (row_phase, column_phase) = (phase / stride[1], phase % stride[1]);
            let met = meeting(columns, input[2], stride[1], before[1], column_phase);
            let first = (met.start * stride[1] + column_phase).saturating_sub(before[1]);
            for row in meeting(rows, input[1], stride[0], before[0], row_phase) {
                let image_row = (row * stride[0] + row_phase).saturating_sub(before[0]);
                let laid = (phase * rows + row) * columns + met.start;
                parts.push((image_row * input[2] + first, laid, met.len()));
            }
        }
        Self {
            input,
            output,
            column_stride: stride[1],
            laid: stride[0] * stride[1] * rows * columns,
            laid_row: columns,
            run: places[0] * columns,
            starts: (0..kernel[0] * kernel[1]).map(start).collect(),
            rows: parts,
        }
    }

    /// Brings a channel into the layout; what lies outside of the image is 0 already.
    #[inline(always)]
    fn lay(&self, plane: &[f32], laid: &mut [f32]) {
        for &(from, to, count) in &self.rows {
            let cells = plane.get(from..).unwrap_or_default();
            let laid = laid.get_mut(to..to + count).unwrap_or_default();
            if self.column_stride == 1 {
                laid.iter_mut().zip(cells).for_each(|(laid, &cell)| *laid = cell);
            } else {
                let cells = cells.iter().step_by(self.column_stride);
                laid.iter_mut().zip(cells).for_each(|(laid, &cell)| *laid = cell);
            }
        }
    }

    /// Brings a channel back from the layout.
    #[inline(always)]
    fn unlay(&self, laid: &[f32], plane: &mut [f32]) {
        plane.fill(0.0);
        for &(to, from, count) in &self.rows {
            let cells = plane.get_mut(to..).unwrap_or_default();
            let laid = laid.get(from..from + count).unwrap_or_default();
            if self.column_stride == 1 {
                cells.iter_mut().zip(laid).for_each(|(cell, &laid)| *cell = laid);
            } else {
                let cells = cells.iter_mut().step_by(self.column_stride);
                cells.zip(laid).for_each(|(cell, &laid)| *cell = laid);
            }
        }
    }

    fn planes(&self) -> [usize; 2] {
        [self.input, self.output].map(|[_, rows, columns]| rows * columns)
    }

    /// Convolves a batch. `bias` is empty if there is none.
    pub fn forward(&self, x: &[f32], weights: &[f32], bias: &[f32], y: &mut [f32]) {
        let [x_plane, y_plane] = self.planes();
        let channels = self.input[0];
        let images = y.par_chunks_mut(channels * y_plane).zip(x.par_chunks(channels * x_plane));
        let work = || [self.laid, self.run].map(|length| vec![0.0; length]);
        images.for_each_init(work, |[laid, sums], (y, x)| {
            let mut biases = bias.iter();
            let planes = y.chunks_mut(y_plane).zip(x.chunks(x_plane));
            for ((y, x), weights) in planes.zip(weights.chunks(self.starts.len())) {
                let bias = biases.next().copied().unwrap_or(0.0);
                Arch::new().dispatch(Forward { of: self, x, weights, bias, laid, sums, y });
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
        let [x_plane, y_plane] = self.planes();
        let channels = self.input[0];
        let (x_shard, y_shard) = (SHARD * channels * x_plane, SHARD * channels * y_plane);
        let shards = x.par_chunks(x_shard).zip(dy.par_chunks(y_shard)).zip(parts_mut(
            dx,
            x_shard,
            x.len().div_ceil(x_shard),
        ));
        let work = || [self.laid, self.laid, self.run].map(|length| vec![0.0; length]);
        let shards = shards.map_init(work, |work, ((x, dy), dx)| {
            let mut dw = vec![0.0; weights.len()];
            let dxs = parts_mut(dx, x_plane, x.len() / x_plane);
            let planes = x.chunks(x_plane).zip(dy.chunks(y_plane)).zip(dxs);
            for (plane, ((x, dy), dx)) in planes.enumerate() {
                let (taps, channel) = (self.starts.len(), plane % channels);
                let dw = dw.chunks_mut(taps).nth(channel).unwrap_or_default();
                let weights = weights.chunks(taps).nth(channel).unwrap_or_default();
                Arch::new().dispatch(Backward { of: self, x, weights, dy, work, dw, dx });
            }
            dw
        });
        sum(shards.collect())
    }
}

/// One channel forwards.
struct Forward<'a> {
    of: &'a Depthwise,
    x: &'a [f32],
    weights: &'a [f32],
    bias: f32,
    laid: &'a mut [f32],
    sums: &'a mut [f32],
    y: &'a mut [f32],
}

impl NullaryFnOnce for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { of, x, weights, bias, laid, sums, y } = self;
        of.lay(x, laid);
        for (block, sums) in sums.chunks_mut(BLOCK).enumerate() {
            sums.fill(bias);
            for (start, &weight) in of.starts.iter().zip(weights) {
                let cells = laid.get(start + block * BLOCK..).unwrap_or_default();
                for (sum, &cell) in sums.iter_mut().zip(cells) {
                    *sum += weight * cell;
                }
            }
        }
        for (y, sums) in y.chunks_mut(of.output[2]).zip(sums.chunks(of.laid_row)) {
            for (y, &sum) in y.iter_mut().zip(sums) {
                *y = sum;
            }
        }
    }
}

/// One channel backwards. `work` is for its image and the gradient of it in the layout, and for
/// the gradient of the output with zeros between the rows.
struct Backward<'a> {
    of: &'a Depthwise,
    x: &'a [f32],
    weights: &'a [f32],
    dy: &'a [f32],
    work: &'a mut [Vec<f32>; 3],
    dw: &'a mut [f32],
    dx: Option<&'a mut [f32]>,
}

impl NullaryFnOnce for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { of, x, weights, dy, work: [laid, gradient, spread], dw, dx } = self;
        of.lay(x, laid);
        for (spread, dy) in spread.chunks_mut(of.laid_row).zip(dy.chunks(of.output[2])) {
            for (spread, &dy) in spread.iter_mut().zip(dy) {
                *spread = dy;
            }
        }
        for (block, spread) in spread.chunks(BLOCK).enumerate() {
            for (start, dw) in of.starts.iter().zip(dw.iter_mut()) {
                let cells = laid.get(start + block * BLOCK..).unwrap_or_default();
                let [product] = fold(spread, cells, |dy, cell| [dy * cell]);
                *dw += product;
            }
        }
        let Some(dx) = dx else { return };
        gradient.fill(0.0);
        for (block, spread) in spread.chunks(BLOCK).enumerate() {
            for (start, &weight) in of.starts.iter().zip(weights) {
                let cells = gradient.get_mut(start + block * BLOCK..).unwrap_or_default();
                for (cell, &dy) in cells.iter_mut().zip(spread) {
                    *cell += weight * dy;
                }
            }
        }
        of.unlay(gradient, dx);
    }
}
