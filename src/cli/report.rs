//! `tollgate report`: what calls cost, by group.

use std::io::{Write as _, stdout};

use clap::Args;

use super::{Failure, Settings, selection::Selection, terminal};
use crate::{
    admin::Archive,
    analysis::report::{self, Format},
    base::clock::{Clock as _, SystemClock},
    call::tally::Dimension,
};

/// What is reported unless `--since` says otherwise.
const LAST: &str = "24h";

/// The arguments of `tollgate report`.
#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    selection: Selection,
    /// What calls are grouped by: agent, model, version (the exact model), provider, user, project,
    /// environment, session, workflow, day
    #[arg(
        long,
        value_name = "LABELS",
        value_delimiter = ',',
        default_value = "agent,model"
    )]
    by: Vec<Dimension>,
    /// table, json or csv
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.settings.load()?.config;
        let archive = Archive::new(&config.store, &config.ledger);
        let mut selection = self.selection;
        selection.since.get_or_insert_with(|| LAST.to_owned());
        let filter = selection.filter(SystemClock.wall())?;
        let rows = archive.report(&filter, &self.by)?;
        let text = report::render(&self.by, &rows, self.format, terminal::width(stdout()));
        write!(anstream::stdout(), "{text}")?;
        Ok(())
    }
}
