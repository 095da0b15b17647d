//! Pictures of figures, for people: who was taken for whom, how a training went. Pure.

pub mod axis;
pub mod canvas;
pub mod compare;
pub mod confusion;
pub mod curve;
pub mod look;
pub mod montage;
pub mod scatter;

pub use canvas::Picture;
pub use compare::{Side, compare};
pub use confusion::ConfusionChart;
pub use curve::{CurveChart, Series};
pub use montage::{Tile, montage};
pub use scatter::{Scatter, ScatterChart};
