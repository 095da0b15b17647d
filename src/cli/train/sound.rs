//! `hearken train sound`: what it is asked for.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::fitting::batch;
use super::material::MaterialArgs;
use super::{own, whole};
use crate::cli::{Outcome, output};
use crate::network::Activation;

#[derive(Args)]
pub struct Sound {
    #[command(flatten)]
    pub material: MaterialArgs,
    /// What to start from: a model, or starting weights (.npz, .safetensors) for an architecture;
    /// default: with --head the model in this program, else nothing
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// The plan of layers, for starting weights or to begin from nothing
    #[arg(long, value_enum, conflicts_with = "head")]
    pub architecture: Option<ArchitectureName>,
    /// How sound becomes its image (JSON, as in models/sound.recipe.json); default: as for the
    /// model in this program
    #[arg(long, value_name = "FILE", conflicts_with = "head")]
    pub recipe: Option<PathBuf>,
    /// Whether classes are heard each for itself (sigmoid), or one at a time (softmax); default: as
    /// in the model that it starts from, else sigmoid
    #[arg(long, value_enum, conflicts_with = "head")]
    pub scores: Option<Scores>,
    /// What is wanted of a window in which two clips are mixed
    #[arg(long, value_enum, default_value_t = MixedName::Shares, conflicts_with = "head")]
    pub mixed: MixedName,
    /// What the network is to hear: decides how clips are changed while it learns
    #[arg(long = "for", value_enum, default_value_t = Purpose::Streams, conflicts_with = "head")]
    pub purpose: Purpose,
    /// Learn from crops of this share of each window, around something loud, but for the last tenth
    /// of the epochs: quicker, for networks that begin from nothing
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = crop, conflicts_with = "head")]
    pub crop: f32,
    /// Clips a step
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = batch, conflicts_with = "head")]
    pub batch: usize,
    /// Stop after so many epochs without a better validation loss; 0: never
    #[arg(long, default_value_t = 0, value_name = "N", conflicts_with = "head")]
    pub patience: u32,
    /// Folder to keep the state of the training in, after each epoch
    #[arg(long, value_name = "DIR", conflicts_with = "head")]
    pub checkpoint: Option<PathBuf>,
    /// Go on from the state in that folder, if there is one; --epochs and --crop may differ
    #[arg(long, requires = "checkpoint")]
    pub resume: bool,
    /// Learn a new last layer only: seconds, and the model must have heard similar sounds
    #[arg(long)]
    pub head: bool,
    /// Keep the model's own classes as they are and add the new ones
    #[arg(long, requires = "head")]
    pub keep_classes: bool,
    /// Passes over the clips at most; default: 15, or 100 for the last layer
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub epochs: Option<u32>,
    /// Step of the optimiser; default: 0.001, or 0.003 for the last layer
    #[arg(long, value_name = "STEP", value_parser = up_to_one)]
    pub learning_rate: Option<f32>,
    /// The share of that step for weights that were trained before, where others (of new classes)
    /// begin anew: less keeps more of what they know
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = up_to_one, conflicts_with = "head")]
    pub started_share: f32,
    /// The same seed and data give the same model
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// The model file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Overwrite files that exist
    #[arg(long)]
    pub force: bool,
    /// The picture of the training's course; default: beside the model, ending in .curve.png
    #[arg(long, value_name = "FILE")]
    curve: Option<PathBuf>,
    /// The picture of the confusion matrix; default: beside the model, ending in .confusion.png
    #[arg(long, value_name = "FILE")]
    confusion: Option<PathBuf>,
    /// What the model's card calls it; default: the file's name
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
    /// Under what terms the model may be used, for its card
    #[arg(long, value_name = "TEXT", default_value = "not stated")]
    pub licence: String,
}

impl Sound {
    pub fn run(self) -> anyhow::Result<Outcome> {
        // Before any work is done.
        for path in [&self.out, &self.curve_path(), &self.confusion_path()] {
            output::check_free(path, self.force)?;
        }
        if self.head { own::run(&self) } else { whole::run(&self) }
    }

    /// Where the picture of the training's course goes.
    pub fn curve_path(&self) -> PathBuf {
        self.curve.clone().unwrap_or_else(|| self.out.with_extension("curve.png"))
    }

    /// Where the picture of the confusion matrix goes.
    pub fn confusion_path(&self) -> PathBuf {
        self.confusion.clone().unwrap_or_else(|| self.out.with_extension("confusion.png"))
    }

    /// What the card calls the model.
    pub fn card_name(&self) -> String {
        let stem = || self.out.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        self.name.clone().unwrap_or_else(stem)
    }
}

/// A plan of layers, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ArchitectureName {
    /// MobileNetV3 of width 0.4, as EfficientAT's mn04: small, and there are weights for it
    Mn04,
    /// The same with the strides that it was published with, whatever the columns' distance: sees
    /// half as much of the time from its second block on, and is quicker
    Mn04Strided,
    /// A plain residual network, for training from nothing
    Dense,
}

impl ArchitectureName {
    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Self::Mn04 => "mn04",
            Self::Mn04Strided => "mn04-strided",
            Self::Dense => "dense",
        }
    }
}

/// What a network is trained for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Purpose {
    /// A microphone: sounds from afar, dull ones, and such as have only begun
    Streams,
    /// Clips as collections have them: whole and near
    Clips,
}

/// What becomes of the labels of two mixed clips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MixedName {
    /// Each to the extent that its clip is part of the sound
    Shares,
    /// Each that can be heard, as if it were alone; with sigmoid scores
    Audible,
}

/// What the network's outputs mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scores {
    Sigmoid,
    Softmax,
}

impl Scores {
    pub fn of(activation: Activation) -> Self {
        match activation {
            Activation::Softmax => Self::Softmax,
            _ => Self::Sigmoid,
        }
    }

    pub fn activation(self) -> Activation {
        match self {
            Self::Sigmoid => Activation::Sigmoid,
            Self::Softmax => Activation::Softmax,
        }
    }
}

fn up_to_one(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err("allowed is a number over 0 and up to 1".to_owned()),
    }
}

fn crop(text: &str) -> Result<f32, String> {
    let share = text.parse().ok().filter(|share| (0.1..=1.0).contains(share));
    share.ok_or_else(|| "allowed is a number from 0.1 to 1".to_owned())
}
