//! AdamW (Loshchilov and Hutter 2019), and the moving average of the weights.

use super::graph::{Graph, Parameter};
use super::settings::FitSettings;

const FIRST_DECAY: f32 = 0.9;
const SECOND_DECAY: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// The optimiser's memory: one value a weight in each, by the number of the parameter.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Optimiser {
    /// Steps done.
    pub steps: u64,
    /// Means of the gradient and of its square.
    pub first: Vec<Vec<f32>>,
    pub second: Vec<Vec<f32>>,
    /// The averaged weights.
    pub average: Vec<Vec<f32>>,
}

impl Optimiser {
    pub fn new(graph: &Graph) -> Self {
        let zeros = |parameter: &Parameter| {
            vec![0.0; if parameter.trained { parameter.values.len() } else { 0 }]
        };
        let zeros: Vec<Vec<f32>> = graph.parameters.iter().map(zeros).collect();
        let average = graph.parameters.iter().map(|parameter| parameter.values.clone()).collect();
        Self { steps: 0, first: zeros.clone(), second: zeros, average }
    }

    /// One step with the learning rate `rate`.
    pub fn step(
        &mut self,
        graph: &mut Graph,
        gradients: &[Vec<f32>],
        rate: f32,
        settings: &FitSettings,
    ) {
        self.steps += 1;
        let share = followed(gradients, settings.clip);
        let exponent = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let first_bias = 1.0 - FIRST_DECAY.powi(exponent);
        let second_bias = 1.0 - SECOND_DECAY.powi(exponent);
        let memories = self.first.iter_mut().zip(&mut self.second);
        for ((parameter, gradient), (first, second)) in
            graph.parameters.iter_mut().zip(gradients).zip(memories)
        {
            let is_started =
                !settings.fresh.is_empty() && !settings.fresh.contains(&parameter.name);
            let rate = if is_started { rate * settings.started_share } else { rate };
            let decay = if parameter.decays { 1.0 - rate * settings.decay } else { 1.0 };
            let weights = parameter.values.iter_mut().zip(gradient);
            for ((weight, gradient), (first, second)) in weights.zip(first.iter_mut().zip(second)) {
                let gradient = share * gradient;
                *first = FIRST_DECAY * *first + (1.0 - FIRST_DECAY) * gradient;
                *second = SECOND_DECAY * *second + (1.0 - SECOND_DECAY) * gradient * gradient;
                let step = *first / first_bias / ((*second / second_bias).sqrt() + EPSILON);
                *weight = decay * *weight - rate * step;
            }
        }
        self.take_average(graph, settings.averaging);
    }

    /// Young averages follow faster, so that they are not bound to where training began.
    fn take_average(&mut self, graph: &Graph, averaging: f32) {
        let steps = self.steps as f32;
        let stays = averaging.min((1.0 + steps) / (10.0 + steps));
        let stays = if averaging == 0.0 { 0.0 } else { stays };
        for (average, parameter) in self.average.iter_mut().zip(&graph.parameters) {
            for (average, weight) in average.iter_mut().zip(&parameter.values) {
                *average = weight + stays * (*average - weight);
            }
        }
    }
}

/// The share of the gradients that is as long as `longest` at most.
fn followed(gradients: &[Vec<f32>], longest: f32) -> f32 {
    let squares = gradients.iter().flatten().map(|&value| f64::from(value).powi(2));
    let length = squares.sum::<f64>().sqrt() as f32;
    if longest > 0.0 && length > longest { longest / length } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_gradients_are_shortened_together() {
        let gradients = [vec![3.0], vec![0.0, -4.0], vec![]];
        assert_eq!(followed(&gradients, 10.0), 1.0);
        assert_eq!(followed(&gradients, 0.0), 1.0);
        assert!((followed(&gradients, 0.5) - 0.1).abs() < 1e-6);
    }
}
