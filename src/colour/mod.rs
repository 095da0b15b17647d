//! Colours that were shifted: the shifts, their undoing at full size, estimates of them without a
//! network, and how good an estimate is. Pure.

mod baseline;
mod difference;
mod measure;
mod pixels;
mod ridge;
mod shift;
mod statistics;

pub use baseline::Baseline;
pub use difference::{delta_e, mean_delta_e};
pub use measure::{Angles, Rmse, angles, chroma, rmse};
pub use pixels::{Sample, Undo, distort};
pub use ridge::{Ridge, RidgeError};
pub use shift::{Shift, ShiftModel, Triple};
pub use statistics::statistics;
