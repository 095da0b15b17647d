//! Which daemon is meant: the one with this state folder.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::{self, Environment, Overrides};
use crate::store::found_folder;
use crate::store::settings::StoreSettings;

/// Nobody can be asked.
#[derive(Debug, thiserror::Error)]
#[error("store.enabled = false: a daemon without a state folder can't be asked anything")]
pub struct NoFolder;

#[derive(Args)]
pub struct StateArgs {
    /// The daemon's configuration file, which says where its state is
    #[arg(long, short, env = config::CONFIG_FILE_VARIABLE, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The daemon's state folder; default: your own, or else the system service's
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    state: Option<PathBuf>,
}

impl StateArgs {
    /// The configuration file, if one was named.
    pub fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// Where its store is.
    pub fn settings(&self) -> anyhow::Result<StoreSettings> {
        let environment = Environment::capture();
        let settings = config::load(self.config.as_deref(), &environment, &Overrides::default())?;
        let mut store = settings.store;
        if let Some(folder) = &self.state {
            store.folder.clone_from(folder);
        } else if store.folder == environment.state_folder {
            store.folder = found_folder(&store.folder);
        }
        Ok(store)
    }

    /// Where the daemon can be asked.
    ///
    /// # Errors
    /// When the configuration says that it can't.
    pub fn socket(&self) -> anyhow::Result<PathBuf> {
        let store = self.settings()?;
        if !store.enabled {
            return Err(NoFolder.into());
        }
        Ok(store.socket())
    }
}
