//! A last layer fitted to embeddings: logistic or softmax regression by Adam, in seconds. Pure.

use fastrand::Rng;

use crate::network::{Activation, Linear};

/// Examples in one batch.
const BATCH: usize = 64;
/// Epochs without a better validation loss before the end.
const PATIENCE: u32 = 15;
/// A feature that varies less than this does not vary.
const DEVIATION_MIN: f32 = 1e-4;

/// Embeddings with what is wanted for them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Embedded {
    /// Length of an embedding.
    pub features: usize,
    /// Classes that are learnt.
    pub outputs: usize,
    /// `n x features`.
    pub inputs: Vec<f32>,
    /// `n x outputs`, 0 to 1; NaN where it isn't known, and nothing is learnt.
    pub targets: Vec<f32>,
    /// The example's raw outputs for classes that are there already and stay as they are: as many
    /// for each example, maybe none.
    pub fixed: Vec<f32>,
}

/// How a last layer is fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadSettings {
    /// Of the whole network, the fixed classes included.
    pub activation: Activation,
    pub epochs: u32,
    /// Step of Adam.
    pub learning_rate: f32,
    /// Pull towards 0 of the weights of features brought to variance 1, as a part of them per
    /// step and learning rate.
    pub weight_decay: f32,
    pub seed: u64,
}

impl Default for HeadSettings {
    fn default() -> Self {
        Self {
            activation: Activation::Sigmoid,
            epochs: 100,
            learning_rate: 3e-3,
            weight_decay: 0.1,
            seed: 0,
        }
    }
}

/// One pass over the examples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadEpoch {
    pub loss: f32,
    pub validation_loss: Option<f32>,
}

/// A fitted layer.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedHead {
    /// Gives raw outputs, by the original embeddings.
    pub head: Linear,
    /// How many epochs made it.
    pub epochs: u32,
    /// All epochs that were tried.
    pub history: Vec<HeadEpoch>,
}

impl Embedded {
    /// How many examples there are.
    pub fn len(&self) -> usize {
        self.inputs.len() / self.features.max(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// The examples at these indices.
    pub fn pick(&self, indices: &[usize]) -> Self {
        let fixed = self.fixed.len() / self.len().max(1);
        let rows = |values: &[f32], width: usize| -> Vec<f32> {
            let row = |&index: &usize| values.iter().skip(index * width).take(width);
            indices.iter().flat_map(row).copied().collect()
        };
        Self {
            features: self.features,
            outputs: self.outputs,
            inputs: rows(&self.inputs, self.features),
            targets: rows(&self.targets, self.outputs),
            fixed: rows(&self.fixed, fixed),
        }
    }

    /// Embedding, targets and fixed outputs of each example.
    fn examples(&self) -> impl Iterator<Item = (&[f32], &[f32], &[f32])> {
        let fixed = self.fixed.len() / self.len().max(1);
        let inputs = self.inputs.chunks_exact(self.features.max(1));
        let targets = self.targets.chunks_exact(self.outputs.max(1));
        let fixed = (0..).map(move |n| self.fixed.get(n * fixed..(n + 1) * fixed));
        inputs.zip(targets).zip(fixed).map(|((x, t), z)| (x, t, z.unwrap_or_default()))
    }
}

/// Scores of `outputs` (raw) beside the `fixed` ones, 0 to 1.
pub fn scores(activation: Activation, outputs: &[f32], fixed: &[f32]) -> Vec<f32> {
    match activation {
        Activation::Linear => outputs.to_vec(),
        Activation::Sigmoid => outputs.iter().map(|value| 1.0 / (1.0 + (-value).exp())).collect(),
        Activation::Softmax => {
            let all = || outputs.iter().chain(fixed).copied();
            let highest = all().fold(f32::NEG_INFINITY, f32::max);
            let sum: f32 = all().map(|value| (value - highest).exp()).sum();
            outputs.iter().map(|value| (value - highest).exp() / sum).collect()
        }
    }
}

/// Fits a layer. Each class, and the examples without one, counts as much as any other however
/// many examples it has. With validation examples the epoch with the least loss on them is taken,
/// and the end comes when it gets no better; else the last epoch.
pub fn fit(
    training: &Embedded,
    validation: Option<&Embedded>,
    settings: &HeadSettings,
) -> FittedHead {
    let scaling = Scaling::of(training);
    let scaled = scaling.apply(training);
    let validation = validation.map(|examples| scaling.apply(examples));
    let validation = validation.as_ref().map(|examples| (examples, balance(examples)));
    let weights = balance(&scaled);
    let mut random = Rng::with_seed(settings.seed);
    let mut adam = Adam::new(Linear {
        features: scaled.features,
        weights: vec![0.0; scaled.features * scaled.outputs],
        bias: vec![0.0; scaled.outputs],
    });
    let mut order: Vec<usize> = (0..scaled.len()).collect();
    let mut best = (f32::INFINITY, 0, adam.layer.clone());
    let mut history = Vec::new();
    for epoch in 1..=settings.epochs {
        random.shuffle(&mut order);
        let mut loss = 0.0;
        for indices in order.chunks(BATCH) {
            let batch = scaled.pick(indices);
            let weights: Vec<f32> =
                indices.iter().filter_map(|&index| weights.get(index).copied()).collect();
            loss += adam.step(&batch, &weights, settings);
        }
        let loss = loss / scaled.len().max(1) as f32;
        let validation_loss = validation.as_ref().map(|(examples, weights)| {
            mean_loss(&adam.layer, examples, weights, settings.activation)
        });
        history.push(HeadEpoch { loss, validation_loss });
        if validation_loss.is_none_or(|loss| loss < best.0) {
            best = (validation_loss.unwrap_or(loss), epoch, adam.layer.clone());
        } else if epoch - best.1 >= PATIENCE {
            break;
        }
    }
    let (_, epochs, layer) = best;
    FittedHead { head: scaling.undo(layer), epochs, history }
}

/// What brings every feature to mean 0 and variance 1.
struct Scaling {
    mean: Vec<f32>,
    /// 1 / standard deviation; 0 for a feature that does not vary.
    factor: Vec<f32>,
}

impl Scaling {
    fn of(examples: &Embedded) -> Self {
        let count = examples.len().max(1) as f32;
        let (mut mean, mut square) = (vec![0.0; examples.features], vec![0.0; examples.features]);
        for (input, ..) in examples.examples() {
            mean.iter_mut().zip(input).for_each(|(mean, x)| *mean += x / count);
        }
        for (input, ..) in examples.examples() {
            let centred = input.iter().zip(&mean).map(|(x, mean)| x - mean);
            square.iter_mut().zip(centred).for_each(|(square, x)| *square += x * x / count);
        }
        let invert = |square: f32| match square.sqrt() {
            deviation if deviation < DEVIATION_MIN => 0.0,
            deviation => deviation.recip(),
        };
        Self { mean, factor: square.into_iter().map(invert).collect() }
    }

    fn apply(&self, examples: &Embedded) -> Embedded {
        let mut scaled = examples.clone();
        for input in scaled.inputs.chunks_exact_mut(examples.features.max(1)) {
            for (x, (mean, factor)) in input.iter_mut().zip(self.mean.iter().zip(&self.factor)) {
                *x = (*x - mean) * factor;
            }
        }
        scaled
    }

    /// The same layer for features as they were.
    fn undo(&self, mut layer: Linear) -> Linear {
        let rows = layer.weights.chunks_exact_mut(layer.features.max(1));
        for (row, bias) in rows.zip(&mut layer.bias) {
            for (weight, (mean, factor)) in row.iter_mut().zip(self.mean.iter().zip(&self.factor)) {
                *weight *= factor;
                *bias -= *weight * mean;
            }
        }
        layer
    }
}

/// How much each example counts, 1 on average: each class as much in all as every other one.
fn balance(examples: &Embedded) -> Vec<f32> {
    // An example belongs to its strongest class; to none (the last place) if that is under 0.5.
    let class = |targets: &[f32]| {
        let known = targets.iter().enumerate().filter(|&(_, &target)| target >= 0.5);
        known.max_by(|a, b| a.1.total_cmp(b.1)).map_or(targets.len(), |(class, _)| class)
    };
    let classes: Vec<usize> = examples.examples().map(|(_, targets, _)| class(targets)).collect();
    let mut counts = vec![0_usize; examples.outputs + 1];
    for &class in &classes {
        counts.iter_mut().skip(class).take(1).for_each(|count| *count += 1);
    }
    let present = counts.iter().filter(|&&count| count > 0).count().max(1);
    let share = classes.len() as f32 / present as f32;
    let weight = |class: &usize| counts.get(*class).map_or(1.0, |&count| share / count as f32);
    classes.iter().map(weight).collect()
}

/// Loss of one example: cross-entropy. Under softmax a target that does not add up to 1 leaves the
/// rest to the fixed classes, in the proportions they have.
fn loss(activation: Activation, scores: &[f32], targets: &[f32]) -> f32 {
    const LEAST: f32 = 1e-7;
    let entropy = |target: f32, score: f32| -target * score.max(LEAST).ln();
    let pairs = || targets.iter().copied().zip(scores.iter().copied());
    match activation {
        Activation::Linear => pairs().map(|(t, s)| (t - s) * (t - s) / 2.0).sum(),
        Activation::Sigmoid => {
            pairs().map(|(t, s)| entropy(t, s) + entropy(1.0 - t, 1.0 - s)).sum()
        }
        Activation::Softmax => {
            let rest = |values: &[f32]| 1.0 - values.iter().sum::<f32>();
            pairs().map(|(t, s)| entropy(t, s)).sum::<f32>() + entropy(rest(targets), rest(scores))
        }
    }
}

/// The targets, with the score itself where it isn't known what is wanted: no error, no gradient.
fn known(targets: &[f32], scores: &[f32]) -> Vec<f32> {
    let pairs = targets.iter().zip(scores);
    pairs.map(|(&target, &score)| if target.is_nan() { score } else { target }).collect()
}

fn mean_loss(layer: &Linear, examples: &Embedded, weights: &[f32], activation: Activation) -> f32 {
    let losses = examples.examples().zip(weights).map(|((input, targets, fixed), weight)| {
        let scores = scores(activation, &layer.apply(input), fixed);
        weight * loss(activation, &scores, &known(targets, &scores))
    });
    losses.sum::<f32>() / examples.len().max(1) as f32
}

/// Adam (Kingma and Ba 2015) with decoupled weight decay (Loshchilov and Hutter 2019).
struct Adam {
    layer: Linear,
    /// Running means of gradient and squared gradient, weights before biases.
    moments: Vec<(f32, f32)>,
    steps: i32,
}

impl Adam {
    fn new(layer: Linear) -> Self {
        let moments = vec![(0.0, 0.0); layer.weights.len() + layer.bias.len()];
        Self { layer, moments, steps: 0 }
    }

    /// One step; returns the summed loss before it.
    fn step(&mut self, batch: &Embedded, weights: &[f32], settings: &HeadSettings) -> f32 {
        let mut gradient = vec![0.0; self.moments.len()];
        let (of_weights, of_bias) = gradient.split_at_mut(self.layer.weights.len());
        let (count, mut sum) = (batch.len().max(1) as f32, 0.0);
        for ((input, targets, fixed), weight) in batch.examples().zip(weights) {
            let scores = scores(settings.activation, &self.layer.apply(input), fixed);
            let targets = known(targets, &scores);
            sum += weight * loss(settings.activation, &scores, &targets);
            // Of all three losses, the gradient by an output is score minus target.
            let errors = scores.iter().zip(&targets).map(|(s, t)| weight * (s - t) / count);
            let rows = of_weights.chunks_exact_mut(batch.features.max(1));
            for ((row, bias), error) in rows.zip(of_bias.iter_mut()).zip(errors) {
                row.iter_mut().zip(input).for_each(|(slot, x)| *slot += error * x);
                *bias += error;
            }
        }
        self.update(&gradient, settings);
        sum
    }

    fn update(&mut self, gradient: &[f32], settings: &HeadSettings) {
        const FIRST: f32 = 0.9;
        const SECOND: f32 = 0.999;
        self.steps += 1;
        let (unbias_first, unbias_second) =
            (1.0 - FIRST.powi(self.steps), 1.0 - SECOND.powi(self.steps));
        let rate = settings.learning_rate;
        let weights = self.layer.weights.len();
        let values = self.layer.weights.iter_mut().chain(&mut self.layer.bias);
        for (index, (value, (moment, g))) in
            values.zip(self.moments.iter_mut().zip(gradient)).enumerate()
        {
            moment.0 = FIRST * moment.0 + (1.0 - FIRST) * g;
            moment.1 = SECOND * moment.1 + (1.0 - SECOND) * g * g;
            if index < weights {
                *value -= rate * settings.weight_decay * *value;
            }
            *value -= rate * (moment.0 / unbias_first) / ((moment.1 / unbias_second).sqrt() + 1e-8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clouds of points around one centre a class; the last `negatives` are around the origin and
    /// belong to none.
    fn clouds(classes: usize, count: usize, negatives: usize, seed: u64) -> Embedded {
        const FEATURES: usize = 12;
        let mut random = Rng::with_seed(seed);
        let mut examples = Embedded { features: FEATURES, outputs: classes, ..Embedded::default() };
        for n in 0..count + negatives {
            let class = if n < count { n % classes } else { classes };
            // One feature is far off and large, one never varies.
            for feature in 0..FEATURES {
                let centre = if feature == class { 2.0 } else { 0.0 };
                let value = centre + random.f32() + random.f32() - 1.0;
                examples.inputs.push(match feature {
                    10 => 500.0 + 100.0 * value,
                    11 => 7.0,
                    _ => value,
                });
            }
            examples.targets.extend((0..classes).map(|c| if c == class { 1.0 } else { 0.0 }));
        }
        examples
    }

    fn right(head: &Linear, examples: &Embedded, activation: Activation) -> f32 {
        let is_right = |(input, targets, fixed): &(&[f32], &[f32], &[f32])| {
            let scores = scores(activation, &head.apply(input), fixed);
            scores.iter().zip(*targets).all(|(score, target)| (score - target).abs() < 0.5)
        };
        examples.examples().filter(is_right).count() as f32 / examples.len() as f32
    }

    #[test]
    fn classes_are_told_apart_and_negatives_are_none_of_them() {
        let settings = HeadSettings { epochs: 200, ..HeadSettings::default() };
        let (training, test) = (clouds(3, 60, 60, 1), clouds(3, 300, 300, 2));
        let validation = clouds(3, 30, 30, 3);
        for validation in [None, Some(&validation)] {
            let fitted = fit(&training, validation, &settings);
            let share = right(&fitted.head, &test, Activation::Sigmoid);
            assert!(share > 0.9, "{share} right");
            assert!(fitted.history[0].loss > fitted.history.last().unwrap().loss);
        }
        assert_eq!(fit(&training, None, &settings), fit(&training, None, &settings));
    }

    #[test]
    fn softmax_leaves_negatives_to_the_fixed_classes() {
        let add_fixed = |mut examples: Embedded| {
            // Two classes that are there already: unsure of the new sounds, sure of the others.
            let sure =
                |targets: &[f32]| if targets.contains(&1.0) { [0.1, 0.2] } else { [0.0, 4.0] };
            examples.fixed = examples.targets.chunks(3).flat_map(sure).collect();
            examples
        };
        let settings = HeadSettings {
            activation: Activation::Softmax,
            epochs: 200,
            ..HeadSettings::default()
        };
        let fitted = fit(&add_fixed(clouds(3, 60, 60, 1)), None, &settings);
        let test = add_fixed(clouds(3, 300, 300, 2));
        assert!(right(&fitted.head, &test, Activation::Softmax) > 0.9);
    }

    #[test]
    fn the_epoch_with_the_least_validation_loss_is_taken() {
        // Labels of the validation are swapped: any learning makes it worse.
        let training = clouds(2, 40, 0, 4);
        let mut validation = clouds(2, 40, 0, 5);
        validation.targets.chunks_exact_mut(2).for_each(<[f32]>::reverse);
        let fitted = fit(&training, Some(&validation), &HeadSettings::default());
        assert_eq!(fitted.epochs, 1);
        assert_eq!(fitted.history.len() as u32, 1 + PATIENCE);
    }

    #[test]
    fn a_rare_class_counts_as_much_as_a_frequent_one() {
        let mut examples = clouds(2, 40, 8, 6);
        let rare: Vec<usize> = (0..48).filter(|n| n % 2 == 0 || *n < 8 || *n >= 40).collect();
        examples = examples.pick(&rare);
        let weights = balance(&examples);
        let of = |wanted: [f32; 2]| {
            let each = examples.targets.chunks(2).zip(&weights);
            each.filter(|(targets, _)| **targets == wanted).map(|(_, weight)| weight).sum::<f32>()
        };
        let (first, second, none) = (of([1.0, 0.0]), of([0.0, 1.0]), of([0.0, 0.0]));
        assert!((first - second).abs() < 1e-3 && (first - none).abs() < 1e-3, "{first} {second}");
    }

    #[test]
    fn what_is_not_known_teaches_nothing() {
        let settings = HeadSettings { epochs: 200, ..HeadSettings::default() };
        let mut training = clouds(3, 60, 60, 1);
        // Wrong answers would be learnt; unknown ones are not.
        let mut wrong = clouds(3, 30, 0, 8);
        wrong.targets.fill(f32::NAN);
        training.inputs.append(&mut wrong.inputs);
        training.targets.append(&mut wrong.targets);
        let fitted = fit(&training, Some(&training), &settings);
        assert!(fitted.history.iter().all(|epoch| epoch.loss.is_finite()));
        assert!(right(&fitted.head, &clouds(3, 300, 300, 2), Activation::Sigmoid) > 0.9);
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let mut examples = clouds(3, 5, 2, 7);
        examples.fixed = (0..examples.len() * 2).map(|n| (n as f32).sin()).collect();
        let scaling = Scaling::of(&examples);
        let examples = scaling.apply(&examples);
        let weights = balance(&examples);
        let layer = Linear {
            features: 12,
            weights: (0..36).map(|n| (n as f32 * 0.7).sin() * 0.3).collect(),
            bias: vec![0.1, -0.2, 0.3],
        };
        for activation in [Activation::Sigmoid, Activation::Softmax, Activation::Linear] {
            let mut adam = Adam::new(layer.clone());
            let settings =
                HeadSettings { activation, learning_rate: 0.0, ..HeadSettings::default() };
            adam.step(&examples, &weights, &settings);
            for at in [0, 3, 14, 27, 35] {
                let shifted = |by: f32| {
                    let mut layer = layer.clone();
                    layer.weights[at] += by;
                    mean_loss(&layer, &examples, &weights, activation)
                };
                let slope = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
                // After one step the first moment is a tenth of the gradient.
                let found = adam.moments[at].0 * 10.0;
                assert!((found - slope).abs() < 2e-3, "{activation:?} {at}: {found} for {slope}");
            }
        }
    }

    #[test]
    fn no_examples_give_a_layer_that_says_nothing() {
        let empty = Embedded { features: 2, outputs: 1, ..Embedded::default() };
        let fitted = fit(&empty, None, &HeadSettings::default());
        assert_eq!(fitted.head.apply(&[1.0, 2.0]), [0.0]);
    }
}
