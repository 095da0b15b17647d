//! How well the listening works: soundscapes and annotated recordings through the live path, what
//! was reported against what was there, and rules chosen by that.

pub mod annotations;
pub mod calibrate;
pub mod colour;
pub mod events;
pub mod scores;
pub mod soundscape;
pub mod stream;
pub mod wav;

pub use events::{ReportedEvent, Tally, TrueEvent};
pub use stream::{Listened, Listener, Trial, Window};
