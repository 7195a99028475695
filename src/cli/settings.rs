//! The argument `-c FILE`, which several commands take.

use std::path::PathBuf;

use clap::Args;

use crate::config::{self, Loaded, Sources};

/// Which configuration to use.
#[derive(Clone, Debug, Default, Args)]
pub struct Settings {
    /// The configuration [default: ./tollgate.yaml if it is there, else built-in defaults]
    #[arg(
        short = 'c',
        long = "config",
        value_name = "FILE",
        env = "TOLLGATE_CONFIG",
        hide_env_values = true
    )]
    pub config: Option<PathBuf>,
}

impl Settings {
    /// The file that is meant; none for the defaults.
    pub fn path(&self) -> Option<PathBuf> {
        config::locate(self.config.clone())
    }

    /// Loads it.
    ///
    /// # Errors
    /// It cannot be read, or it is wrong.
    pub fn load(&self) -> Result<Loaded, config::LoadError> {
        config::load(self.path().as_deref(), &Sources::SYSTEM)
    }
}
