//! Networks: the model file and the engine that runs it. Knows images and values, nothing of
//! sound or colour; the only home of tract and of the ONNX format.

mod artifact;
mod depthwise;
mod engine_ops;
mod head;
pub mod layers;
mod memory;
pub mod metrics;
mod runner;

pub use artifact::{Activation, Artifact, Metadata, ModelError, wrap};
pub(crate) use depthwise::Depthwise;
pub use head::{HeadError, Headless, Linear};
pub(crate) use layers::meeting;
pub use layers::{Layers, LayersError, Node, Op, Shape, Weight, Window};
pub use memory::Memory;
pub use runner::{Network, Session};
