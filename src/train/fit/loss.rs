//! What is to become small, its gradient, and how good the outputs are in people's terms.

use serde::{Deserialize, Serialize};

use super::activation::sigmoid;

/// How outputs are compared with targets. A target that is NaN is not known and does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loss {
    /// Cross-entropy of the softmax: the targets are the shares of one whole.
    Softmax,
    /// Cross-entropy of each output's logistic function, summed: the targets are independent.
    Sigmoid,
    /// The mean squared difference of the outputs themselves.
    MeanSquare,
}

/// How well a set of examples is known. (In single precision, which a checkpoint's text gives back
/// exactly.)
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Score {
    /// The mean loss.
    pub loss: f32,
    /// Classes: the share of examples whose highest output is one of their classes. Values: the
    /// root of the mean squared difference.
    pub quality: f32,
}

/// Sums over examples, to become a [`Score`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    loss: f64,
    known: f64,
    good: f64,
    judged: f64,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.loss += other.loss;
        self.known += other.known;
        self.good += other.good;
        self.judged += other.judged;
    }

    pub fn score(&self, loss: Loss) -> Score {
        let quality = self.good / self.judged.max(1.0);
        let quality = if loss == Loss::MeanSquare { quality.sqrt() } else { quality };
        Score { loss: (self.loss / self.known.max(1.0)) as f32, quality: quality as f32 }
    }
}

impl Loss {
    /// Compares a batch of `outputs` an example with its targets. Returns the gradient of the
    /// mean loss, too.
    pub(super) fn compare(
        self,
        outputs: usize,
        given: &[f32],
        targets: &[f32],
    ) -> (Tally, Vec<f32>) {
        let mut gradient = vec![0.0; given.len()];
        let mut tally = Tally::default();
        let rows = given.chunks(outputs.max(1)).zip(targets.chunks(outputs.max(1)));
        for ((given, targets), gradient) in rows.zip(gradient.chunks_mut(outputs.max(1))) {
            tally.add(match self {
                Self::Softmax => softmax(given, targets, gradient),
                Self::Sigmoid => {
                    Tally { known: 1.0, ..each(given, targets, gradient, cross_entropy) }
                }
                Self::MeanSquare => {
                    each(given, targets, gradient, |y, t| (f64::from(y - t).powi(2), 2.0 * (y - t)))
                }
            });
            if self != Self::MeanSquare {
                tally.add(judged(given, targets));
            }
        }
        if self == Self::MeanSquare {
            (tally.good, tally.judged) = (tally.loss, tally.known);
        }
        let share = 1.0 / tally.known.max(1.0) as f32;
        gradient.iter_mut().for_each(|gradient| *gradient *= share);
        (tally, gradient)
    }
}

/// Counts as one known example.
fn softmax(given: &[f32], targets: &[f32], gradient: &mut [f32]) -> Tally {
    if targets.iter().any(|target| target.is_nan()) {
        return Tally::default();
    }
    let largest = given.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = given.iter().map(|y| (y - largest).exp()).sum();
    let whole: f32 = targets.iter().sum();
    let mut loss = 0.0;
    for ((y, target), gradient) in given.iter().zip(targets).zip(gradient) {
        loss -= f64::from(target * (y - largest - total.ln()));
        *gradient = whole * (y - largest).exp() / total - target;
    }
    Tally { loss, known: 1.0, ..Tally::default() }
}

/// Each known target counts.
fn each(
    given: &[f32],
    targets: &[f32],
    gradient: &mut [f32],
    compare: impl Fn(f32, f32) -> (f64, f32),
) -> Tally {
    let mut tally = Tally::default();
    for ((&y, &target), gradient) in given.iter().zip(targets).zip(gradient) {
        if !target.is_nan() {
            let (loss, slope) = compare(y, target);
            tally.loss += loss;
            tally.known += 1.0;
            *gradient = slope;
        }
    }
    tally
}

/// The cross-entropy of the logistic function, without overflow, and its slope.
fn cross_entropy(y: f32, target: f32) -> (f64, f32) {
    let loss = y.max(0.0) - y * target + (-y.abs()).exp().ln_1p();
    (f64::from(loss), sigmoid(y) - target)
}

/// Whether the highest output is one of the example's classes; nothing, if it has none.
fn judged(given: &[f32], targets: &[f32]) -> Tally {
    let highest = |values: &mut dyn Iterator<Item = f32>| values.fold(f32::NEG_INFINITY, f32::max);
    // NaN is passed over by `max`.
    let most = highest(&mut targets.iter().copied());
    if most <= 0.0 {
        return Tally::default();
    }
    let known = || given.iter().zip(targets).filter(|(_, target)| !target.is_nan());
    let first = highest(&mut known().map(|(&y, _)| y));
    let is_right = known().any(|(&y, &target)| y == first && target == most);
    Tally { good: f64::from(u8::from(is_right)), judged: 1.0, ..Tally::default() }
}
