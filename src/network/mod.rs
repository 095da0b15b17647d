//! Networks: the model file and the engine that runs it. Knows images and values, nothing of
//! sound or colour; the only home of tract and of the ONNX format.

mod artifact;
mod runner;

pub use artifact::{Activation, Artifact, Metadata, ModelError, wrap};
pub use runner::{Network, Session};
