//! `hearken eval`: how good a model is, measured.

mod colour;
mod sound;
pub mod stream;

use clap::Subcommand;

use super::Outcome;

#[derive(Subcommand)]
pub enum Eval {
    /// Score labelled clips: accuracy, F1, average precision, confusion matrix, by fold
    Sound(sound::Sound),
    /// Shift photographs and undo it: errors, Delta E, harm to clean ones, beside other ways
    Colour(colour::Colour),
    /// Hear soundscapes or annotated recordings: events found, false alarms, latency
    Stream(stream::Stream),
}

impl Eval {
    pub fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Self::Sound(command) => command.run(),
            Self::Colour(command) => command.run(),
            Self::Stream(command) => command.run(),
        }
    }
}
