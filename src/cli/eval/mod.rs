//! `hearken eval`: how good a model is, measured.

mod sound;
pub mod stream;

use clap::Subcommand;

use super::Outcome;

#[derive(Subcommand)]
pub enum Eval {
    /// Score labelled clips: accuracy, F1, average precision, confusion matrix, by fold
    Sound(sound::Sound),
    /// Hear soundscapes or annotated recordings: events found, false alarms, latency
    Stream(stream::Stream),
}

impl Eval {
    pub fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Self::Sound(command) => command.run(),
            Self::Stream(command) => command.run(),
        }
    }
}
