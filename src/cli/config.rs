//! `hearken config`: check a configuration, or print the sample.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Outcome, output};
use crate::config::{self, Environment, Overrides};
use crate::hear::SoundModel;
use crate::supervise;

#[derive(Subcommand)]
pub enum Config {
    /// Report everything that is wrong, or print the settings in force (secrets hidden)
    Check(Check),
    /// Print the commented sample configuration with every key and its default
    Default,
}

#[derive(Args)]
pub struct Check {
    /// The configuration file; without it the defaults and the environment are checked
    #[arg(long, short, env = config::CONFIG_FILE_VARIABLE)]
    config: Option<PathBuf>,
    /// The same, without the flag
    file: Option<PathBuf>,
}

impl Config {
    pub fn run(self) -> anyhow::Result<Outcome> {
        let check = match self {
            Self::Default => return output::write_all(config::default_text().as_bytes()),
            Self::Check(check) => check,
        };
        let path = check.file.or(check.config);
        let settings =
            config::load(path.as_deref(), &Environment::capture(), &Overrides::default())?;
        // Class names are the model's, so they can only be checked with it.
        let model = SoundModel::load(settings.model.as_deref())?;
        supervise::check(&model, &settings)?;
        output::write_all(config::effective_text(&settings).as_bytes())
    }
}
