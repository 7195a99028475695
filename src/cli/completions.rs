//! `tollgate completions`: completions for a shell.

use std::io::Write as _;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Arguments, Failure};

/// The arguments of `tollgate completions`.
#[derive(Debug, Args)]
pub(super) struct Command {
    /// The shell
    shell: Shell,
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        // By way of memory: clap_complete panics when a pipe breaks.
        let mut script = Vec::new();
        clap_complete::generate(
            self.shell,
            &mut Arguments::command(),
            "tollgate",
            &mut script,
        );
        std::io::stdout().lock().write_all(&script)?;
        Ok(())
    }
}
