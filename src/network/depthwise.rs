//! Convolution of each channel with a window of its own.
//!
//! The image is laid out with its border and, for strides, with every second (third, ...) row and
//! column apart. Then a cell of the window meets all places at once in one unbroken run of
//! memory, and the whole convolution is a few long loops of vectors. The engine and the training
//! both convolve by this.

use pulp::{Arch, Simd, WithSimd};

use super::layers::{Shape, Window, meeting};

/// Vectors of places that are summed together, so that the adders have something to do while one
/// sum waits for itself.
const VECTORS: usize = 4;
/// The longest vector of any machine: sums are taken for so many of them, all whole.
const LANES_MAX: usize = 16;

/// A depthwise convolution of images of one shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Depthwise {
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

/// What a convolution needs to work in, for one thread.
#[derive(Debug)]
pub(crate) struct Workspace {
    laid: Vec<f32>,
    sums: Vec<f32>,
}

impl Depthwise {
    /// `output` are the places of that window on that input.
    pub fn new(window: Window, input: Shape, output: Shape) -> Self {
        let Window { kernel, stride, before, .. } = window;
        let places = [output[1], output[2]];
        // Of one phase: a place for each step, and what the window reaches beyond the last one.
        let rows = places[0] + (kernel[0] - 1) / stride[0];
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
        let starts: Vec<usize> = (0..kernel[0] * kernel[1]).map(start).collect();
        let run = places[0] * columns;
        // The last cell's run goes on behind the last row.
        let reach = starts.iter().max().map_or(0, |start| start + run.next_multiple_of(LANES_MAX));
        Self {
            input,
            output,
            column_stride: stride[1],
            laid: reach.max(stride[0] * stride[1] * rows * columns),
            laid_row: columns,
            run,
            starts,
            rows: parts,
        }
    }

    /// Channels, rows and columns of what comes out.
    pub fn output(&self) -> Shape {
        self.output
    }

    /// Values of one channel, before and after.
    pub fn planes(&self) -> [usize; 2] {
        [self.input, self.output].map(|[_, rows, columns]| rows * columns)
    }

    /// Length of a channel in the layout.
    pub fn laid_len(&self) -> usize {
        self.laid
    }

    /// Length of the runs.
    pub fn run_len(&self) -> usize {
        self.run
    }

    /// Where the runs of the window's cells begin in the layout.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    pub fn workspace(&self) -> Workspace {
        Workspace {
            laid: vec![0.0; self.laid],
            sums: vec![0.0; self.run.next_multiple_of(LANES_MAX)],
        }
    }

    /// Brings a channel into the layout; what lies outside of the image is 0 already.
    #[inline(always)]
    pub fn lay(&self, plane: &[f32], laid: &mut [f32]) {
        for &(from, to, count) in &self.rows {
            let cells = plane.get(from..).unwrap_or_default();
            let laid = laid.get_mut(to..to + count).unwrap_or_default();
            match self.column_stride {
                1 => laid.iter_mut().zip(cells).for_each(|(laid, &cell)| *laid = cell),
                2 => every_second(cells, laid),
                stride => {
                    let cells = cells.iter().step_by(stride);
                    laid.iter_mut().zip(cells).for_each(|(laid, &cell)| *laid = cell);
                }
            }
        }
    }

    /// Brings a channel back from the layout.
    #[inline(always)]
    pub fn unlay(&self, laid: &[f32], plane: &mut [f32]) {
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

    /// The values of a channel's places as a run, with whatever lies between the rows left as it is.
    #[inline(always)]
    pub fn spread(&self, plane: &[f32], run: &mut [f32]) {
        for (run, row) in run.chunks_mut(self.laid_row).zip(plane.chunks(self.output[2])) {
            run.iter_mut().zip(row).for_each(|(run, &value)| *run = value);
        }
    }

    /// Convolves one image, channel by channel. `weights` has a window's values a channel, `bias`
    /// one value a channel, or none.
    pub fn forward(
        &self,
        image: &[f32],
        weights: &[f32],
        bias: &[f32],
        work: &mut Workspace,
        output: &mut [f32],
    ) {
        Arch::new().dispatch(Forward { of: self, image, weights, bias, work, output });
    }
}

/// Every second cell, from the first on: pair by pair, which becomes vectors.
#[inline(always)]
fn every_second(cells: &[f32], kept: &mut [f32]) {
    let (pairs, last) = cells.as_chunks::<2>();
    kept.iter_mut().zip(pairs).for_each(|(kept, &[first, _])| *kept = first);
    kept.iter_mut().skip(pairs.len()).zip(last).for_each(|(kept, &last)| *kept = last);
}

/// One image forwards.
struct Forward<'a> {
    of: &'a Depthwise,
    image: &'a [f32],
    weights: &'a [f32],
    bias: &'a [f32],
    work: &'a mut Workspace,
    output: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { of, image, weights, bias, work: Workspace { laid, sums }, output } = self;
        let [plane, places] = of.planes();
        let mut biases = bias.iter();
        let channels = output.chunks_mut(places).zip(image.chunks(plane));
        for ((output, image), weights) in channels.zip(weights.chunks(of.starts.len())) {
            let bias = biases.next().copied().unwrap_or(0.0);
            of.lay(image, laid);
            let taps = Taps { starts: &of.starts, weights, bias };
            let tile = VECTORS * S::F32_LANES;
            let tiled = of.run / tile * tile;
            for place in (0..tiled).step_by(tile) {
                taps.sum::<S, VECTORS>(simd, laid, sums, place);
            }
            for place in (tiled..of.run).step_by(S::F32_LANES) {
                taps.sum::<S, 1>(simd, laid, sums, place);
            }
            let rows = output.chunks_mut(of.output[2]).zip(sums.chunks(of.laid_row));
            rows.for_each(|(row, sums)| row.iter_mut().zip(sums).for_each(|(y, &sum)| *y = sum));
        }
    }
}

/// The window of one channel.
struct Taps<'a> {
    starts: &'a [usize],
    weights: &'a [f32],
    bias: f32,
}

impl Taps<'_> {
    /// The sums of `V` vectors of places. Multiplied and added in two steps and in the order of
    /// the window's cells, so that all machines, whatever their vectors, get the same.
    #[inline(always)]
    fn sum<S: Simd, const V: usize>(&self, simd: S, laid: &[f32], sums: &mut [f32], place: usize) {
        let end = place + V * S::F32_LANES;
        let mut totals = [simd.splat_f32s(self.bias); V];
        for (start, &weight) in self.starts.iter().zip(self.weights) {
            let Some(cells) = laid.get(start + place..start + end) else { return };
            let Ok(cells) = <&[S::f32s; V]>::try_from(S::as_simd_f32s(cells).0) else { return };
            let weight = simd.splat_f32s(weight);
            for (total, &cells) in totals.iter_mut().zip(cells) {
                *total = simd.add_f32s(*total, simd.mul_f32s(weight, cells));
            }
        }
        let Some(sums) = sums.get_mut(place..end) else { return };
        S::as_mut_simd_f32s(sums).0.copy_from_slice(&totals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum as it is defined, place by place.
    fn place(
        window: Window,
        [rows, columns]: [usize; 2],
        image: &[f32],
        weights: &[f32],
        bias: f32,
        [row, column]: [usize; 2],
    ) -> f32 {
        let mut sum = bias;
        for (tap, &weight) in weights.iter().enumerate() {
            let (down, right) = (tap / window.kernel[1], tap % window.kernel[1]);
            let row = (row * window.stride[0] + down).checked_sub(window.before[0]);
            let column = (column * window.stride[1] + right).checked_sub(window.before[1]);
            if let (Some(row), Some(column)) = (row, column)
                && row < rows
                && column < columns
            {
                sum += weight * image[row * columns + column];
            }
        }
        sum
    }

    #[test]
    fn every_place_is_the_sum_under_its_window() {
        let mut random = fastrand::Rng::with_seed(1);
        for case in 0..400 {
            let mut pair = |low, high| [random.usize(low..=high), random.usize(low..=high)];
            let (kernel, stride, before, after) = (pair(1, 5), pair(1, 3), pair(0, 2), pair(0, 2));
            let [rows, columns] = pair(5, if case % 20 == 0 { 90 } else { 24 });
            let window = Window { kernel, stride, before, after, ceil: false };
            let channels = random.usize(1..4);
            let along = |axis: usize, size: usize| {
                (size + before[axis] + after[axis] - kernel[axis]) / stride[axis] + 1
            };
            let output = [channels, along(0, rows), along(1, columns)];
            let mut values = |count| -> Vec<f32> {
                std::iter::repeat_with(|| random.f32() - 0.5).take(count).collect()
            };
            let image = values(channels * rows * columns);
            let weights = values(channels * kernel[0] * kernel[1]);
            let bias = if case % 3 == 0 { Vec::new() } else { values(channels) };
            let plan = Depthwise::new(window, [channels, rows, columns], output);
            let mut found = vec![f32::NAN; output.iter().product()];
            let mut work = plan.workspace();
            // What is left of the last image must not be seen.
            plan.forward(&vec![9.0; image.len()], &weights, &bias, &mut work, &mut found);
            plan.forward(&image, &weights, &bias, &mut work, &mut found);
            let mut found = found.into_iter();
            let planes = image.chunks(rows * columns).zip(weights.chunks(kernel[0] * kernel[1]));
            for (channel, (image, weights)) in planes.enumerate() {
                let bias = bias.get(channel).copied().unwrap_or(0.0);
                for at in 0..output[1] * output[2] {
                    let at = [at / output[2], at % output[2]];
                    let expected = place(window, [rows, columns], image, weights, bias, at);
                    assert_eq!(
                        found.next(),
                        Some(expected),
                        "{window:?} of {rows}x{columns} {at:?}"
                    );
                }
            }
        }
    }
}
