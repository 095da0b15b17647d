//! Scores that mean what they say: of the windows with a score of 0.8 for a sound, the sound is
//! in eight of ten. A softmax network gets one temperature (Guo et al. 2017, "On Calibration of
//! Modern Neural Networks"), a sigmoid network a scale and a shift for each class (Platt 1999);
//! both by the cross-entropy over the windows of trials. Pure.
//!
//! What a score means depends on how often the sound is there at all. Here that is as often as in
//! the trials.

use serde::{Deserialize, Serialize};

use super::stream::Trial;
use crate::network::{Activation, Metadata};

/// A window holds a sound if this much of it lies inside, or all of a shorter one. Less is neither
/// one nor the other, and is not used.
const HOLDS_S: f64 = 1.0;
/// Scores are kept this far from 0 and 1: their logarithms stay finite.
const MARGIN: f64 = 1e-7;
/// Temperatures that are tried: from five times more to five times less confident.
const SCALE_MAX: f64 = 5.0;
/// Steps of each search; both have long converged.
const STEPS: usize = 40;

/// What is done to a network's raw outputs: `scale[i] * output[i] + shift[i]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
}

impl Scaling {
    /// What calibration did to the scores of a model, by its card; nothing if it wasn't calibrated.
    pub fn of(metadata: &Metadata) -> Option<Self> {
        let scaling = metadata.card.get("calibration")?.get("scaling")?;
        let scaling = Self::deserialize(scaling).ok()?;
        let outputs = metadata.outputs.len();
        (scaling.scale.len() == outputs && scaling.shift.len() == outputs).then_some(scaling)
    }

    /// Leaves `outputs` outputs as they are.
    pub fn none(outputs: usize) -> Self {
        Self { scale: vec![1.0; outputs], shift: vec![0.0; outputs] }
    }

    /// This scaling and then another one, as one.
    pub fn then(&self, next: &Self) -> Self {
        let scales = || self.scale.iter().zip(&next.scale);
        let shifts = self.shift.iter().zip(&next.shift).zip(&next.scale);
        Self {
            scale: scales().map(|(own, next)| own * next).collect(),
            shift: shifts.map(|((own, next), scale)| own * scale + next).collect(),
        }
    }

    /// What the scaling makes of the scores of a window. (A softmax leaves out what all outputs
    /// have in common, and with one scale for all it does not matter.)
    pub fn apply(&self, activation: Activation, scores: &mut [f32]) {
        let pairs = self.scale.iter().zip(&self.shift);
        for (score, (&scale, &shift)) in scores.iter_mut().zip(pairs) {
            let p = f64::from(*score).clamp(MARGIN, 1.0 - MARGIN);
            let (scale, shift) = (f64::from(scale), f64::from(shift));
            *score = match activation {
                Activation::Softmax => (scale * p.ln() + shift).exp() as f32,
                Activation::Sigmoid => logistic(scale * logit(p) + shift) as f32,
                Activation::Linear => scale as f32 * *score + shift as f32,
            };
        }
        if activation == Activation::Softmax {
            let sum: f32 = scores.iter().sum();
            scores.iter_mut().for_each(|score| *score /= sum);
        }
    }
}

/// For each window of the trials its score of `class`, and whether the class is in it.
pub fn labelled(trials: &[Trial], class: usize) -> Vec<(f32, bool)> {
    let mut found = Vec::new();
    for trial in trials.iter().filter(|trial| !trial.unknown.contains(&class)) {
        let truth = trial.truth.iter().filter(|event| event.class == class);
        let truth: Vec<(f64, f64)> = truth.map(|event| (event.onset_s, event.offset_s)).collect();
        for window in &trial.listened.windows {
            let start_s = window.end_s - trial.listened.window_s;
            let inside = |&(onset_s, offset_s): &(f64, f64)| {
                let inside_s = offset_s.min(window.end_s) - onset_s.max(start_s);
                (inside_s > 0.0, inside_s >= HOLDS_S.min(offset_s - onset_s) - 1e-9)
            };
            let touches = truth.iter().any(|event| inside(event).0);
            let holds = truth.iter().any(|event| inside(event).1);
            let score = window.scores.get(class).filter(|_| touches == holds);
            found.extend(score.map(|&score| (score, holds)));
        }
    }
    found
}

/// The scaling with which the scores of `classes` (indices) fit the trials best. A class that no
/// trial holds is left as it is.
pub fn fit(activation: Activation, trials: &[Trial], classes: &[usize], outputs: usize) -> Scaling {
    let mut scaling = Scaling::none(outputs);
    match activation {
        Activation::Softmax => scaling.scale.fill(fit_softmax(trials, classes, outputs) as f32),
        Activation::Sigmoid => {
            for &class in classes {
                let (scale, shift) = fit_sigmoid(&labelled(trials, class));
                let slots = scaling.scale.get_mut(class).zip(scaling.shift.get_mut(class));
                if let Some((scale_slot, shift_slot)) = slots {
                    (*scale_slot, *shift_slot) = (scale as f32, shift as f32);
                }
            }
        }
        Activation::Linear => {}
    }
    scaling
}

/// The scale (one over the temperature) of all outputs, by golden-section search.
fn fit_softmax(trials: &[Trial], classes: &[usize], outputs: usize) -> f64 {
    let loss = |log_scale: f64| {
        let mut scaling = Scaling::none(outputs);
        scaling.scale.fill(log_scale.exp() as f32);
        let scaled = scaled(trials, &scaling, Activation::Softmax);
        let all = classes.iter().flat_map(|&class| labelled(&scaled, class));
        let (sum, count) = all.fold((0.0, 0_u32), |(sum, count), (score, holds)| {
            (sum + cross_entropy(f64::from(score), holds), count + 1)
        });
        sum / f64::from(count.max(1))
    };
    let golden = (5.0_f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (-SCALE_MAX.ln(), SCALE_MAX.ln());
    let (mut left, mut right) = (high - golden * (high - low), low + golden * (high - low));
    let (mut at_left, mut at_right) = (loss(left), loss(right));
    for _ in 0..STEPS {
        if at_left < at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - golden * (high - low);
            at_left = loss(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + golden * (high - low);
            at_right = loss(right);
        }
    }
    f64::midpoint(low, high).exp()
}

/// The trials with their scores scaled.
pub fn scaled(trials: &[Trial], scaling: &Scaling, activation: Activation) -> Vec<Trial> {
    let mut trials = trials.to_vec();
    for window in trials.iter_mut().flat_map(|trial| &mut trial.listened.windows) {
        scaling.apply(activation, &mut window.scores);
    }
    trials
}

/// Scale and shift of one output by Newton's method, towards targets a little inside of 0 and 1
/// (Platt), so that a class that is told apart perfectly does not become infinitely sure.
fn fit_sigmoid(samples: &[(f32, bool)]) -> (f64, f64) {
    let there = samples.iter().filter(|(_, holds)| *holds).count() as f64;
    let absent = samples.len() as f64 - there;
    if there == 0.0 || absent == 0.0 {
        return (1.0, 0.0);
    }
    let points: Vec<(f64, f64)> = samples
        .iter()
        .map(|&(score, holds)| {
            let target = if holds { (there + 1.0) / (there + 2.0) } else { 1.0 / (absent + 2.0) };
            (logit(f64::from(score).clamp(MARGIN, 1.0 - MARGIN)), target)
        })
        .collect();
    let loss = |scale: f64, shift: f64| -> f64 {
        let one = |&(x, target): &(f64, f64)| {
            let z = scale * x + shift;
            // ln(1 + e^z) - target * z, without overflow.
            z.max(0.0) + (-z.abs()).exp().ln_1p() - target * z
        };
        points.iter().map(one).sum()
    };
    let (mut scale, mut shift) = (1.0, 0.0);
    let mut best = loss(scale, shift);
    for _ in 0..STEPS {
        let (mut g0, mut g1, mut h00, mut h01, mut h11) = (0.0, 0.0, 1e-9, 0.0, 1e-9);
        for &(x, target) in &points {
            let p = logistic(scale * x + shift);
            let (error, curve) = (p - target, p * (1.0 - p));
            g0 += error * x;
            g1 += error;
            h00 += curve * x * x;
            h01 += curve * x;
            h11 += curve;
        }
        let determinant = h00 * h11 - h01 * h01;
        let step = ((h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant);
        // Half a step, and half of it again, until it is none for the worse.
        let tries = (0..20).map(|halvings| 0.5_f64.powi(halvings));
        let better = tries
            .map(|part| (scale - part * step.0, shift - part * step.1))
            .find(|&(scale, shift)| loss(scale, shift) < best);
        let Some(next) = better else { break };
        (scale, shift) = next;
        best = loss(scale, shift);
    }
    // A network that knows nothing of the class must not be turned around.
    if scale > 0.0 { (scale, shift) } else { (1.0, 0.0) }
}

fn cross_entropy(score: f64, holds: bool) -> f64 {
    let right = if holds { score } else { 1.0 - score };
    -right.max(MARGIN).ln()
}

fn logit(p: f64) -> f64 {
    (p / (1.0 - p)).ln()
}

fn logistic(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{Listened, TrueEvent, Window};
    use crate::network::metrics::reliability;

    const WINDOW_S: f64 = 5.0;

    /// A stream of one window in which a class sounds all the time, or none.
    fn trial(scores: Vec<f32>, class: Option<usize>) -> Trial {
        let window =
            Window { end_s: WINDOW_S, ready_s: WINDOW_S, level_dbfs: -20.0, first: true, scores };
        let event = |class| TrueEvent { class, onset_s: 0.0, offset_s: WINDOW_S };
        Trial {
            name: String::new(),
            listened: Listened { windows: vec![window], window_s: WINDOW_S, duration_s: WINDOW_S },
            truth: class.into_iter().map(event).collect(),
            unknown: vec![],
        }
    }

    fn softmax(outputs: &[f64]) -> Vec<f32> {
        let sum: f64 = outputs.iter().map(|output| output.exp()).sum();
        outputs.iter().map(|output| (output.exp() / sum) as f32).collect()
    }

    #[test]
    fn scaled_scores_are_those_of_scaled_outputs() {
        let outputs = [2.0, -1.0, 0.5];
        let mut scores = softmax(&outputs);
        let scaling = Scaling { scale: vec![0.4; 3], shift: vec![0.0; 3] };
        scaling.apply(Activation::Softmax, &mut scores);
        let expected = softmax(&outputs.map(|output| 0.4 * output));
        assert!(scores.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{scores:?}");
        let scaling = Scaling { scale: vec![0.5, 2.0], shift: vec![1.0, 0.0] };
        let mut scores = [logistic(2.0) as f32, logistic(-1.0) as f32];
        scaling.apply(Activation::Sigmoid, &mut scores);
        assert!((f64::from(scores[0]) - logistic(2.0)).abs() < 1e-6);
        assert!((f64::from(scores[1]) - logistic(-2.0)).abs() < 1e-6);
        scores = [0.0, 1.0];
        scaling.apply(Activation::Sigmoid, &mut scores);
        assert!(scores.iter().all(|score| score.is_finite()));
    }

    #[test]
    fn an_overconfident_softmax_gets_its_temperature_back() {
        let mut random = fastrand::Rng::with_seed(2);
        let trials: Vec<Trial> = (0..4_000)
            .map(|_| {
                let outputs = [0; 3].map(|_| 4.0 * (random.f64() - 0.5));
                let (mut left, honest) = (random.f32(), softmax(&outputs));
                let class = honest.iter().position(|p| {
                    left -= p;
                    left <= 0.0
                });
                trial(softmax(&outputs.map(|output| 3.0 * output)), class)
            })
            .collect();
        let scaling = fit(Activation::Softmax, &trials, &[0, 1, 2], 3);
        assert!((scaling.scale[0] * 3.0 - 1.0).abs() < 0.1, "{scaling:?}");
        assert!(scaling.scale.iter().all(|&scale| scale == scaling.scale[0]));
        let error = |trials: &[Trial]| reliability(labelled(trials, 1).into_iter(), 10).error;
        let fitted = error(&scaled(&trials, &scaling, Activation::Softmax));
        assert!(error(&trials) > 0.1 && fitted < 0.03, "{} to {fitted}", error(&trials));
    }

    #[test]
    fn a_sigmoid_gets_scale_and_shift_for_each_class() {
        let mut random = fastrand::Rng::with_seed(3);
        let trials: Vec<Trial> = (0..8_000)
            .map(|_| {
                let z = 8.0 * (random.f64() - 0.5);
                let class = (random.f64() < logistic(0.5 * z - 1.0)).then_some(0);
                trial(vec![logistic(z) as f32, 0.3], class)
            })
            .collect();
        let scaling = fit(Activation::Sigmoid, &trials, &[0, 1], 2);
        assert!((scaling.scale[0] - 0.5).abs() < 0.05, "{scaling:?}");
        assert!((scaling.shift[0] + 1.0).abs() < 0.1, "{scaling:?}");
        // Nothing is known of a class that never sounds.
        assert_eq!((scaling.scale[1], scaling.shift[1]), (1.0, 0.0));
    }

    #[test]
    fn windows_with_a_little_of_the_sound_are_left_out() {
        let mut trial = trial(vec![0.1], None);
        trial.truth = vec![TrueEvent { class: 0, onset_s: 7.0, offset_s: 7.5 }];
        let window = trial.listened.windows[0].clone();
        // The end 0.25 s, then 0.5 s into the short sound; at last without it.
        trial.listened.windows = [5.0, 7.25, 7.5, 9.0, 12.25, 14.0]
            .map(|end_s| Window { end_s, ..window.clone() })
            .to_vec();
        let holds: Vec<bool> =
            labelled(std::slice::from_ref(&trial), 0).into_iter().map(|(_, holds)| holds).collect();
        assert_eq!(holds, [false, true, true, false]);
        trial.unknown = vec![0];
        assert!(labelled(&[trial], 0).is_empty());
    }
}
