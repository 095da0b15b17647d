//! Pictures of figures, for people: who was taken for whom, how a training went. Pure.

pub mod axis;
pub mod canvas;
pub mod confusion;
pub mod curve;
pub mod look;

pub use canvas::Picture;
pub use confusion::ConfusionChart;
pub use curve::{CurveChart, Series};
