//! Running a graph on a batch of images, forwards and, for its gradients, backwards.

use super::graph::{Graph, Step, Work};
use super::norm::{Moments, Norm};
use super::pool::global_mean;
use super::{depthwise, elementwise, linear};

/// How a batch is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// With the running moments, without dropout.
    Inference,
    /// With the batch's moments, and a seed for dropout.
    Training { seed: u64 },
}

/// The values of one batch. Its memory is used again for the next one.
#[derive(Debug)]
pub(super) struct Tape {
    pub mode: Mode,
    /// Images in the batch.
    pub images: usize,
    /// By the number of the value.
    values: Vec<Vec<f32>>,
    /// The batch's moments, by the number of the value that was normalised with them.
    moments: Vec<Option<Moments>>,
    pub spare: Spare,
}

/// Memory that is free to be used.
#[derive(Debug, Default)]
pub(super) struct Spare(Vec<Vec<f32>>);

impl Spare {
    /// A vector of that length, with anything in it.
    pub fn take(&mut self, length: usize) -> Vec<f32> {
        let fitting = self.0.iter().enumerate().filter(|(_, vector)| vector.capacity() >= length);
        let best = fitting.min_by_key(|(_, vector)| vector.capacity()).map(|(index, _)| index);
        let mut vector = best.map(|index| self.0.swap_remove(index)).unwrap_or_default();
        vector.resize(length, 0.0);
        vector
    }

    /// Takes a vector back.
    pub fn give(&mut self, vector: Vec<f32>) {
        if vector.capacity() > 0 {
            self.0.push(vector);
        }
    }
}

impl Tape {
    /// A tape with nothing on it.
    pub fn new() -> Self {
        let (values, moments, spare) = (Vec::new(), Vec::new(), Spare::default());
        Self { mode: Mode::Inference, images: 0, values, moments, spare }
    }

    /// Runs a batch. Returns the outputs, image by image.
    pub fn forward(&mut self, graph: &Graph, images: &[f32], mode: Mode) -> &[f32] {
        self.mode = mode;
        self.images = images.len().checked_div(graph.length(0)).unwrap_or(0);
        self.values.drain(..).for_each(|used| self.spare.give(used));
        self.values.resize(graph.shapes.len(), Vec::new());
        self.moments = vec![None; graph.shapes.len()];
        let mut image = self.spare.take(images.len());
        image.copy_from_slice(images);
        put(&mut self.values, 0, image);
        for step in &graph.steps {
            let mut y = self.spare.take(self.images * graph.length(step.output));
            if let (Work::Norm { norm, .. }, Mode::Training { .. }) = (&step.work, mode) {
                let moments = norm.moments(self.input(step));
                put(&mut self.moments, step.output, Some(moments));
            }
            self.run(graph, step, &mut y);
            put(&mut self.values, step.output, y);
        }
        self.value(graph.output)
    }

    /// A value of the batch.
    pub fn value(&self, number: usize) -> &[f32] {
        self.values.get(number).map_or(&[], Vec::as_slice)
    }

    /// The first value that goes into a step.
    pub fn input(&self, step: &Step) -> &[f32] {
        step.inputs.first().map_or(&[], |&input| self.value(input))
    }

    /// The moments that a step normalised the batch with, if it was trained on.
    pub fn moments(&self, step: &Step) -> Option<&Moments> {
        self.moments.get(step.output)?.as_ref()
    }

    fn run(&self, graph: &Graph, step: &Step, y: &mut [f32]) {
        let inputs: Vec<&[f32]> = step.inputs.iter().map(|&input| self.value(input)).collect();
        let x = self.input(step);
        let [_, rows, columns] = graph.input_shape(step);
        let [first, second] = graph.weights(step);
        match &step.work {
            Work::Conv(conv) => conv.forward(x, first, second, y),
            Work::Depthwise(conv) => depthwise::forward(conv, x, first, second, y),
            Work::Norm { norm, .. } => self.normalise(graph, step, norm, y),
            Work::Activation(activation) => activation.forward(x, y),
            Work::Add => elementwise::add(&inputs, y),
            Work::Mul => elementwise::multiply(&inputs, y),
            Work::GlobalMean => global_mean(x, rows * columns, y),
            Work::Pool(pool) => pool.forward(x, y),
            Work::Linear => linear::forward(x, x.len() / self.images, first, second, y),
            Work::Concat => elementwise::concatenate(&inputs, self.images, y),
            Work::Copy => y.copy_from_slice(x),
            Work::MatMulLeft => linear::times_left(first, rows, columns, x, y),
            Work::MatMulRight => linear::times_right(first, columns, rows, x, y),
            Work::Affine { scale, shift } => {
                elementwise::affine(x, rows * columns, scale, shift, y);
            }
            &Work::Dropout { ratio } => self.drop_out(step, ratio, x, y),
        }
    }

    fn normalise(&self, graph: &Graph, step: &Step, norm: &Norm, y: &mut [f32]) {
        let running = |index| graph.parameter(step.parameters.get(index)).to_vec();
        let moments = self.moments(step).cloned();
        let moments = moments.unwrap_or_else(|| Moments { mean: running(2), variance: running(3) });
        norm.forward(self.input(step), &moments, graph.weights(step), y);
    }

    /// Dropout, which is the same for values and for gradients.
    pub fn drop_out(&self, step: &Step, ratio: f32, x: &[f32], y: &mut [f32]) {
        match self.mode {
            Mode::Inference => y.copy_from_slice(x),
            Mode::Training { seed } => {
                let seed = seed.wrapping_add((step.output as u64) << 32);
                elementwise::drop_out(x, ratio, seed, y);
            }
        }
    }
}

/// Puts something into its place, if there is one.
pub(super) fn put<T>(places: &mut [T], number: usize, value: T) {
    if let Some(place) = places.get_mut(number) {
        *place = value;
    }
}
