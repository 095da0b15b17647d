//! Fitting whole networks: forwards, backwards, step by step, on all cores.
//!
//! The way from [`Layers`] to gradients is our own: `graph` numbers what `Layers` names, `tape`
//! runs it, `gradients` goes back. The few kinds of steps are written for this kind of work
//! (`conv`, `depthwise`, `norm`, ...). Results depend on the seed, not on the number of threads.

mod activation;
mod checkpoint;
mod conv;
mod crop;
mod depthwise;
mod elementwise;
mod gemm;
mod gradients;
mod graph;
mod linear;
mod loss;
mod norm;
mod optimiser;
mod pool;
mod prefetch;
mod settings;
mod shards;
mod sums;
mod tape;
mod trainer;
mod views;

use std::path::PathBuf;

pub use loss::{Loss, Score};
pub use settings::{Epoch, FitSettings, Keeping, Progress};

use crate::network::{Layers, LayersError};
use crate::train::examples::{ExampleError, Examples};
use graph::Graph;
use tape::{Mode, Tape};

/// Why a network can't be fitted.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    #[error(transparent)]
    Layers(#[from] LayersError),
    #[error(transparent)]
    Example(#[from] ExampleError),
    #[error("{0}")]
    Settings(String),
    #[error("the checkpoint {}: {why}", path.display())]
    Checkpoint { path: PathBuf, why: String },
    #[error(
        "training went astray in epoch {epoch}: the loss is no number any more; try a lower rate"
    )]
    Astray { epoch: u32 },
}

/// A network that was fitted, and how that went.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// With the averaged weights of the epoch with the lowest validation loss; of the last epoch,
    /// if nothing was validated.
    pub layers: Layers,
    pub history: Vec<Epoch>,
}

/// Fits a network to examples. `watch` is told about every step and every epoch. With `keeping`,
/// a training that was interrupted goes on as if it had not been, bit by bit.
pub fn fit(
    layers: Layers,
    training: &dyn Examples,
    validation: Option<&dyn Examples>,
    settings: &FitSettings,
    keeping: Option<&Keeping>,
    watch: &mut dyn FnMut(Progress),
) -> Result<Fitted, FitError> {
    trainer::Trainer::new(layers, training, validation, settings, keeping)?.run(watch)
}

/// The outputs for a batch of images, image by image.
pub fn outputs(layers: &Layers, images: &[f32]) -> Result<Vec<f32>, FitError> {
    let graph = Graph::new(layers)?;
    Ok(Tape::new().forward(&graph, images, Mode::Inference).to_vec())
}

#[cfg(test)]
mod tests;
