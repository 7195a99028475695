//! `tollgate ledger`: proves and exports what was spent, and repairs a damaged journal.

use std::io::{self, Write as _};

use clap::{Args, Subcommand, ValueEnum};

use super::{Failure, Settings};
use crate::{
    admin::{Archive, Posted},
    base::{
        clock::{Clock as _, SystemClock, Timestamp},
        id::hex_text,
        moment,
    },
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
    /// Write what was spent and what was changed, for accounting: a line an entry and budget
    Export(Export),
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
            What::Export(export) => export.run(),
            What::Repair(settings) => repair(&settings),
        }
    }
}

#[derive(Debug, Args)]
struct Export {
    /// Admitted or changed at that time or later: 24h (ago), 2026-11-01, 2026-11-22T06:25:14Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Admitted or changed before that time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// One JSON object a line, or CSV with a line of names
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Csv,
    Json,
}

impl Export {
    fn run(self) -> Result<(), Failure> {
        let now = SystemClock.wall();
        let time = |name: &str, text: Option<&str>| {
            let time = text.map(|text| moment::ago(text, now)).transpose();
            time.map_err(|error| Failure::wrong(format!("{name}: {error}")))
        };
        let since = time("--since", self.since.as_deref())?.unwrap_or_default();
        let until = time("--until", self.until.as_deref())?;
        let until = until.unwrap_or(Timestamp::from_nanos(u64::MAX));
        let config = self.settings.load()?.config;
        let archive = Archive::new(&config.store, &config.ledger);
        let mut out = io::BufWriter::new(anstream::stdout().lock());
        if self.format == Format::Csv {
            writeln!(out, "{}", Posted::NAMES.join(","))?;
        }
        let mut written = Ok(());
        archive.entries(since, until, |posted| {
            written = match self.format {
                Format::Csv => writeln!(out, "{}", posted.csv()),
                Format::Json => serde_json::to_writer(&mut out, &posted)
                    .map_err(io::Error::from)
                    .and_then(|()| writeln!(out)),
            };
            written.is_ok()
        })?;
        written?;
        Ok(out.flush()?)
    }
}

impl Verify {
    fn run(self) -> Result<(), Failure> {
        let Self { head, settings } = self;
        let config = settings.load()?.config;
        let archive = Archive::new(&config.store, &config.ledger);
        let mut out = anstream::stdout().lock();
        if head {
            writeln!(out, "{}", hex_text(&archive.head()?))?;
            return Ok(());
        }
        let verified = archive.verify()?;
        writeln!(
            out,
            "ok: {} entries in {} batches of {}; every total is the sum of its entries\nhead {}",
            grouped(verified.entries),
            grouped(verified.batches),
            config.ledger.path.display(),
            hex_text(&verified.head),
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
