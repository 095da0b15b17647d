//! How a network is fitted.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::loss::{Loss, Score};

/// What decides the course of a training. A checkpoint can only be gone on with under the same,
/// but for `epochs` and `crop`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FitSettings {
    pub loss: Loss,
    pub epochs: u32,
    /// The share of its columns that an image is cut to while the network learns, but for the last
    /// tenth of the epochs. 1: whole images. Only for networks that take a mean over columns.
    #[serde(default = "whole")]
    pub crop: f32,
    /// Examples a step.
    pub batch: usize,
    /// The highest learning rate.
    pub rate: f32,
    /// The share of it that weights not in `fresh` get, which were trained before.
    pub started_share: f32,
    /// Names of the weights that begin anew. Empty: all are treated alike.
    pub fresh: Vec<String>,
    /// Steps up to the highest learning rate, in epochs.
    pub warm_up_epochs: f32,
    /// Decay of weights a step, as a share of the learning rate (Loshchilov and Hutter 2019).
    pub decay: f32,
    /// The longest gradient, of all weights together, that is followed; a longer one is shortened
    /// to it. The first ones are long, and the optimiser would remember them for hundreds of
    /// steps. 0: as long as it is.
    pub clip: f32,
    /// How much of the averaged weights stays at each step; they are what is validated and kept.
    /// 0: no averaging.
    pub averaging: f32,
    /// Epochs without a better validation after which training ends. 0: never.
    pub patience: u32,
    pub seed: u64,
}

impl Default for FitSettings {
    fn default() -> Self {
        Self {
            loss: Loss::Softmax,
            epochs: 15,
            crop: 1.0,
            batch: 32,
            rate: 1e-3,
            started_share: 1.0,
            fresh: Vec::new(),
            warm_up_epochs: 1.0,
            decay: 1e-2,
            clip: 5.0,
            averaging: 0.98,
            patience: 0,
            seed: 0,
        }
    }
}

impl FitSettings {
    /// What is wrong with the settings.
    pub(super) fn problem(&self) -> Option<String> {
        let ranges = [
            ("epochs", f64::from(self.epochs), 1.0, 1e5),
            ("crop", f64::from(self.crop), 0.01, 1.0),
            ("batch", self.batch as f64, 1.0, 4096.0),
            ("rate", f64::from(self.rate), f64::from(f32::MIN_POSITIVE), 10.0),
            ("started_share", f64::from(self.started_share), 0.0, 1.0),
            ("warm_up_epochs", f64::from(self.warm_up_epochs), 0.0, 1e5),
            ("decay", f64::from(self.decay), 0.0, 10.0),
            ("clip", f64::from(self.clip), 0.0, 1e9),
            ("averaging", f64::from(self.averaging), 0.0, 0.999_999),
        ];
        // Written so that NaN is outside, too.
        let outside =
            ranges.into_iter().find(|(_, value, low, high)| !(low..=high).contains(&value));
        outside
            .map(|(name, value, low, high)| format!("{name} {value} is not within {low} to {high}"))
    }

    /// Whether a training under `later` settings is this one for longer, or with other crops.
    pub(super) fn goes_on_as(&self, later: &Self) -> bool {
        Self { epochs: later.epochs, crop: later.crop, ..self.clone() } == *later
    }

    /// How many of an image's columns are shown in an epoch (from 1).
    pub(super) fn columns_at(&self, epoch: u32, columns: usize) -> usize {
        let is_last_tenth = 10 * u64::from(epoch) > 9 * u64::from(self.epochs);
        let share = if is_last_tenth { 1.0 } else { f64::from(self.crop) };
        (columns as f64 * share).ceil() as usize
    }

    /// The learning rate at a step: straight up, then down along half a cosine.
    pub(super) fn rate_at(&self, step: u64, steps_an_epoch: u64) -> f32 {
        let (step, an_epoch) = (step as f64, steps_an_epoch as f64);
        let warm_up =
            (f64::from(self.warm_up_epochs) * an_epoch).min(an_epoch * f64::from(self.epochs));
        let share = if step < warm_up {
            (step + 1.0) / (warm_up + 1.0)
        } else {
            let left = (an_epoch * f64::from(self.epochs) - warm_up).max(1.0);
            0.5 + 0.5 * (std::f64::consts::PI * ((step - warm_up) / left).min(1.0)).cos()
        };
        self.rate * share as f32
    }
}

/// The crop of checkpoints that were written before there were crops.
fn whole() -> f32 {
    1.0
}

/// Where a training keeps what it needs to go on after an interruption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeping {
    /// Written after each epoch.
    pub checkpoint: PathBuf,
    /// Goes on from there, if the file is there.
    pub resume: bool,
}

/// One epoch of a training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from 1.
    pub number: u32,
    /// On the training examples, while they were trained on.
    pub training: Score,
    /// On the validation examples, if there are some.
    pub validation: Option<Score>,
    /// The learning rate at the epoch's end.
    pub rate: f32,
}

/// How far a training is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Progress {
    /// Some steps into an epoch, counted from 1.
    Step { epoch: u32, step: usize, steps: usize, loss: f32, seconds_left: f64 },
    /// At the end of an epoch, out of `epochs`.
    Epoch { epoch: Epoch, epochs: u32, is_best: bool, seconds_left: f64 },
}
