//! `tollgate ledger`: proves what was spent, and repairs a damaged journal.

use std::{fmt::Write as _, io::Write as _};

use clap::{Args, Subcommand};

use super::{Failure, Settings};
use crate::{
    admin::Archive,
    base::clock::{Clock as _, SystemClock},
    call::line::grouped,
    ledger::{self, Owner, Repaired},
};

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
    /// Go on after the journal was damaged: set its damaged files aside, keep what can be read
    Repair(Settings),
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
        match self.what {
            What::Verify(verify) => verify.run(),
            What::Repair(settings) => repair(&settings),
        }
    }
}

impl Verify {
    fn run(self) -> Result<(), Failure> {
        let Self { head, settings } = self;
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

fn repair(settings: &Settings) -> Result<(), Failure> {
    let config = settings.load()?.config;
    let owner = Owner::claim(&config.store.path, "?").map_err(Failure::failed)?;
    let repaired = ledger::repair(&config.ledger.path, SystemClock.wall());
    drop(owner);
    let repaired = repaired.map_err(Failure::failed)?;
    let mut out = anstream::stdout().lock();
    for Repaired {
        damage,
        aside,
        kept,
    } in &repaired
    {
        writeln!(
            out,
            "{}: {} entries kept; {} bytes from byte {} on cannot be read\n  set aside as {}",
            damage.file.display(),
            grouped(*kept),
            grouped(damage.bytes),
            damage.offset,
            aside.display(),
        )?;
    }
    let said = if repaired.is_empty() {
        "The journal can be read throughout: nothing was changed."
    } else {
        "What is not known any more: what calls held whose admission was there, if they have not \
         settled, and changes of budgets by hand. Calls whose end was there are charged all that \
         they held, at the next start. The ledger has an entry that says so."
    };
    writeln!(out, "{said}")?;
    Ok(())
}

fn hex(hash: &[u8]) -> String {
    hash.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ok = write!(text, "{byte:02x}");
        text
    })
}
