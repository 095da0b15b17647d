//! `hearken train`: networks out of labelled data.

mod colour;
mod fitting;
mod material;
mod own;
mod report;
mod sound;
mod whole;

use clap::Subcommand;

use super::Outcome;

#[derive(Subcommand)]
pub enum Train {
    /// Learn sounds from labelled clips
    Sound(sound::Sound),
    /// Learn from photographs what was done to their colours
    Colour(colour::Colour),
}

impl Train {
    pub fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Self::Sound(sound) => sound.run(),
            Self::Colour(colour) => colour.run(),
        }
    }
}
