//! `tollgate ca`: the certificate authority by which connections to providers are opened, and how
//! clients come to trust it.

mod create;
mod env;
mod install;
mod show;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

pub(super) use self::create::scope;
use super::{Failure, Settings};
use crate::{config::Loaded, net::authority::Authority};

/// The arguments of `tollgate ca`.
#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make the authority, bound to the hosts of the providers
    Create(create::Create),
    /// Say what it may vouch for and when it ends
    Show(show::Show),
    /// Have the system's programs trust it, or put what clients need into a directory
    Install(install::Install),
    /// Print the variables by which runtimes trust it
    Env(env::Env),
}

/// Where the authority is.
#[derive(Debug, Args)]
struct Place {
    /// The directory of the authority [default: `intercept.ca_dir` of the configuration]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Create(create) => create.run(),
            Action::Show(show) => show.run(),
            Action::Install(install) => install.run(),
            Action::Env(env) => env.run(),
        }
    }
}

impl Place {
    fn dir(&self) -> Result<PathBuf, Failure> {
        match &self.dir {
            Some(dir) => Ok(dir.clone()),
            None => Ok(self.load()?.config.intercept.ca_dir),
        }
    }

    fn load(&self) -> Result<Loaded, Failure> {
        Ok(self.settings.load()?)
    }
}

fn open(dir: &Path) -> Result<Authority, Failure> {
    Authority::look(dir).map_err(Failure::failed)
}
