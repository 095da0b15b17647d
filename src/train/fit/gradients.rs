//! The way back through a graph: from the gradient of the outputs to those of all weights.

use super::graph::{Graph, Step, Work};
use super::pool::global_mean_backward;
use super::sums::fold;
use super::tape::{Tape, put};
use super::{depthwise, elementwise, linear};

/// Gradients on their way.
struct Gradients<'a> {
    graph: &'a Graph,
    tape: &'a mut Tape,
    /// By the number of the value; empty where none came yet.
    values: Vec<Vec<f32>>,
    /// By the number of the parameter.
    parameters: Vec<Vec<f32>>,
}

/// The gradients of all parameters, by number, from that of the outputs of the batch on the tape,
/// which was run for training. Those that are not trained have none.
pub(super) fn backward(graph: &Graph, tape: &mut Tape, outputs: Vec<f32>) -> Vec<Vec<f32>> {
    let mut values = vec![Vec::new(); graph.shapes.len()];
    put(&mut values, graph.output, outputs);
    let parameters = vec![Vec::new(); graph.parameters.len()];
    let mut gradients = Gradients { graph, tape, values, parameters };
    for step in graph.steps.iter().rev() {
        let place = gradients.values.get_mut(step.output);
        let dy = place.map(std::mem::take).unwrap_or_default();
        if !dy.is_empty() && graph.is_wanted(step.output) {
            gradients.step(step, &dy);
        }
        gradients.tape.spare.give(dy);
    }
    gradients.parameters
}

impl Gradients<'_> {
    fn step(&mut self, step: &Step, dy: &[f32]) {
        match &step.work {
            Work::Conv(conv) => self.trained(step, dy, |x, w, dy, dx| conv.backward(x, w, dy, dx)),
            Work::Depthwise(conv) => {
                self.trained(step, dy, |x, w, dy, dx| depthwise::backward(conv, x, w, dy, dx));
            }
            Work::Linear => {
                let features = self.tape.input(step).len() / self.tape.images;
                let work = |x: &[f32], w: &[f32], dy: &[f32], dx: Option<&mut [f32]>| {
                    linear::backward(x, features, w, dy, dx)
                };
                self.trained(step, dy, work);
            }
            _ => (0..step.inputs.len()).for_each(|index| self.untrained(step, index, dy)),
        }
    }

    /// A step with weights and perhaps a bias.
    fn trained(
        &mut self,
        step: &Step,
        dy: &[f32],
        work: impl Fn(&[f32], &[f32], &[f32], Option<&mut [f32]>) -> Vec<f32>,
    ) {
        let [weights, _] = self.graph.weights(step);
        let mut dx = self.room(step, 0);
        let x = self.tape.input(step);
        let gradient = work(x, weights, dy, dx.as_deref_mut());
        self.add_input(step, 0, dx);
        let [channels, rows, columns] = self.graph.shape(step.output);
        for (index, &number) in step.parameters.iter().enumerate() {
            let gradient = match index {
                0 => gradient.clone(),
                _ => bias_gradient(dy, channels, rows * columns),
            };
            self.add_parameter(number, gradient);
        }
    }

    /// A step whose inputs are independent of each other.
    fn untrained(&mut self, step: &Step, index: usize, dy: &[f32]) {
        let Some(mut dx) = self.room(step, index) else { return };
        let graph = self.graph;
        let x = self.tape.input(step);
        let [_, rows, columns] = graph.input_shape(step);
        let [matrix, _] = graph.weights(step);
        match &step.work {
            Work::Norm { norm, .. } => {
                let Some(moments) = self.tape.moments(step) else { return };
                let weights = graph.weights(step);
                let gradients = norm.backward(x, moments, weights, dy, &mut dx);
                for (&number, gradient) in step.parameters.iter().zip(gradients) {
                    self.add_parameter(number, gradient);
                }
            }
            Work::Activation(activation) => activation.backward(x, dy, &mut dx),
            Work::Mul if index == 0 => {
                let factor = step.inputs.get(1).map_or(&[][..], |&value| self.tape.value(value));
                elementwise::multiply(&[dy, factor], &mut dx);
            }
            Work::Mul => elementwise::multiply_backward(x, dy, &mut dx),
            Work::GlobalMean => global_mean_backward(dy, rows * columns, &mut dx),
            Work::Pool(pool) => pool.backward(x, dy, &mut dx),
            Work::Concat => {
                let lengths = step.inputs.iter().map(|&value| graph.length(value));
                let start = lengths.clone().take(index).sum();
                let length = lengths.clone().nth(index).unwrap_or(0);
                elementwise::part(dy, lengths.sum(), start, length, &mut dx);
            }
            Work::MatMulLeft => linear::left_backward(matrix, rows, columns, dy, &mut dx),
            Work::MatMulRight => linear::right_backward(matrix, columns, rows, dy, &mut dx),
            Work::Affine { scale, .. } => {
                elementwise::affine(dy, rows * columns, scale, &[0.0], &mut dx);
            }
            &Work::Dropout { ratio } => self.tape.drop_out(step, ratio, dy, &mut dx),
            Work::Add | Work::Copy | Work::Conv(_) | Work::Depthwise(_) | Work::Linear => {
                dx.copy_from_slice(dy);
            }
        }
        self.add_input(step, index, Some(dx));
    }

    /// Memory for the gradient of an input, if it is wanted. Normalisation goes through it on the
    /// way to the gradients of its own weights.
    fn room(&mut self, step: &Step, index: usize) -> Option<Vec<f32>> {
        let value = *step.inputs.get(index)?;
        let length = self.tape.images * self.graph.length(value);
        let is_wanted = self.graph.is_wanted(value) || matches!(step.work, Work::Norm { .. });
        is_wanted.then(|| self.tape.spare.take(length))
    }

    fn add_input(&mut self, step: &Step, index: usize, gradient: Option<Vec<f32>>) {
        let place = step.inputs.get(index).and_then(|&value| self.values.get_mut(value));
        let (Some(place), Some(gradient)) = (place, gradient) else { return };
        if place.is_empty() {
            *place = gradient;
        } else {
            place.iter_mut().zip(&gradient).for_each(|(sum, value)| *sum += value);
            self.tape.spare.give(gradient);
        }
    }

    fn add_parameter(&mut self, number: usize, gradient: Vec<f32>) {
        match self.parameters.get_mut(number) {
            Some(place) if place.is_empty() => *place = gradient,
            Some(place) => place.iter_mut().zip(&gradient).for_each(|(sum, value)| *sum += value),
            None => {}
        }
    }
}

/// The sum over all images and places, for each channel.
fn bias_gradient(dy: &[f32], channels: usize, plane: usize) -> Vec<f32> {
    let mut sums = vec![0.0; channels];
    for image in dy.chunks(channels * plane) {
        for (sum, plane) in sums.iter_mut().zip(image.chunks(plane)) {
            let [total] = fold(plane, plane, |dy, _| [dy]);
            *sum += total;
        }
    }
    sums
}
