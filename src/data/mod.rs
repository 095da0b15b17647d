//! Labelled audio on disk: tables of clips, clips as samples, takes out of a stream, scores of other
//! systems, and what may be done to a clip to make it harder to know.

pub mod audio;
pub mod columns;
pub mod degrade;
pub mod files;
pub mod photos;
pub mod scores;
pub mod table;
pub mod takes;

pub use audio::{AudioError, load};
pub use columns::DatasetError;
pub use scores::ScoreTable;
pub use table::{Clip, Dataset};
