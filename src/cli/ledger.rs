//! `tollgate ledger`: proves what was spent.

use std::{fmt::Write as _, io::Write as _};

use clap::{Args, Subcommand};

use super::{Failure, Settings};
use crate::{admin::Archive, call::line::grouped};

/// The arguments of `tollgate ledger`.
#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Prove every total from the entries, and the entries from their chain of hashes
    Verify(Verify),
}

#[derive(Debug, Args)]
struct Verify {
    /// Print nothing but the last hash of the chain, for keeping elsewhere
    #[arg(long)]
    head: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        let What::Verify(Verify { head, settings }) = self.what;
        let config = settings.load()?.config;
        let archive = Archive::new(&config.store, &config.ledger);
        let mut out = anstream::stdout().lock();
        if head {
            writeln!(out, "{}", hex(&archive.head()?))?;
            return Ok(());
        }
        let verified = archive.verify()?;
        writeln!(
            out,
            "ok: {} entries in {} batches of {}; every total is the sum of its entries\nhead {}",
            grouped(verified.entries),
            grouped(verified.batches),
            config.ledger.path.display(),
            hex(&verified.head),
        )?;
        Ok(())
    }
}

fn hex(hash: &[u8]) -> String {
    hash.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ok = write!(text, "{byte:02x}");
        text
    })
}
