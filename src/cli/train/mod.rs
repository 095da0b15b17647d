//! `hearken train`: networks out of labelled data.

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
}

impl Train {
    pub fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Self::Sound(sound) => sound.run(),
        }
    }
}
