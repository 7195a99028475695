//! `tollgate doctor`: does everything work that is configured? It looks at what is kept here, sends a
//! marked span to every destination, and moves every limit on calls to a mock.
//!
//! Nothing that a running sidecar has is touched: destinations are reached over connections of
//! doctor's own, and limits are moved in a directory that is deleted afterwards.

mod advice;
mod authority;
mod caller;
mod caps;
mod destinations;
mod finding;
mod limits;
mod place;
mod show;
mod trial;
mod unmetered;

use std::time::Duration;

use clap::Args;

use super::{Failure, Settings};
use crate::{base::units::parse_duration, config::Loaded};
use finding::{Finding, Part, Verdict};

/// The arguments of `tollgate doctor`.
#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    settings: Settings,
    /// The longest that a destination may take, if its own `timeout` is not shorter
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    timeout: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        let loaded = self.settings.load()?;
        let mut all = Vec::new();
        for part in Part::ALL {
            let found = look(part, &loaded, self.timeout);
            if !self.json {
                show::part(part, &found)?;
            }
            all.extend(found);
        }
        if self.json {
            show::json(&all)?;
        } else {
            show::total(&all)?;
        }
        if all.iter().any(|finding| finding.verdict == Verdict::Failed) {
            return Err(Failure::Said(1));
        }
        Ok(())
    }
}

fn look(part: Part, loaded: &Loaded, patience: Duration) -> Vec<Finding> {
    match part {
        Part::Here => place::look(loaded),
        Part::Destinations => destinations::visit(&loaded.config, patience),
        Part::Limits => limits::move_all(&loaded.config),
    }
}
