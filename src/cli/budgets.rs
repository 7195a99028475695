//! `tollgate budgets`: how much is left; `raise` and `reset` change it by hand.

use std::io::{Write as _, stdout};

use clap::{Args, Subcommand};

use super::{
    Failure, Settings,
    format::Format,
    owner::{self, segment},
    terminal,
};
use crate::{
    admin::{Archive, BudgetRow, RaiseRequest, ResetRequest},
    analysis::table::{Column, table},
    base::{
        clock::{Clock as _, SystemClock, Timestamp},
        moment,
        money::Usd,
    },
    call::line::{clean, elapsed},
    config::Config,
    ledger::Memory,
    policy::{Engine, Purse},
};

/// The arguments of `tollgate budgets`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Command {
    #[command(subcommand)]
    change: Option<Change>,
    #[command(flatten)]
    settings: Settings,
    /// A table, or a JSON array
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Change {
    /// Add to a budget's limit, in its present window
    Raise(Raise),
    /// Credit a budget with what was spent in its present window
    Reset(Reset),
}

#[derive(Debug, Args)]
struct Raise {
    #[command(flatten)]
    of: Of,
    /// By how much, in US dollars: 5, 0.50
    usd: Usd,
    /// Until when, if that is before the end of the window: 2h (from now), 2026-11-22T18:00:00Z
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

#[derive(Debug, Args)]
struct Reset {
    #[command(flatten)]
    of: Of,
}

/// Which budget, and who changes it.
#[derive(Debug, Args)]
struct Of {
    /// The budget; of one that counts per label also whose: `per_user/user=42`
    #[arg(value_name = "NAME")]
    name: String,
    /// Who changes it, for the ledger
    #[arg(long, env = "USER", hide_env_values = true)]
    who: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.change {
            Some(Change::Raise(raise)) => raise.run(),
            Some(Change::Reset(reset)) => reset.run(),
            None => list(&self.settings.load()?.config, self.format),
        }
    }
}

impl Raise {
    fn run(self) -> Result<(), Failure> {
        let until = self
            .until
            .map(|until| moment::ahead(&until, SystemClock.wall()))
            .transpose()
            .map_err(|error| Failure::wrong(format!("--until: {error}")))?;
        let body = RaiseRequest {
            usd: self.usd,
            until: until.map(|until| until.to_string()),
            who: self.of.who.clone(),
        };
        self.of.change("raise", &body)
    }
}

impl Reset {
    fn run(self) -> Result<(), Failure> {
        let who = self.of.who.clone();
        self.of.change("reset", &ResetRequest { who })
    }
}

impl Of {
    /// Has the running sidecar make the change, and shows the budget as it is then.
    fn change(&self, what: &str, body: &impl serde::Serialize) -> Result<(), Failure> {
        let config = self.settings.load()?.config;
        let path = format!("/api/v1/budgets/{}/{what}", segment(&self.name));
        owner::post(&config, &path, body)?;
        let now = SystemClock.wall();
        let mut rows = rows(&config, now)?;
        rows.retain(|row| row.full_name() == self.name);
        print(&config, &rows, now)
    }
}

fn list(config: &Config, format: Format) -> Result<(), Failure> {
    let now = SystemClock.wall();
    let rows = rows(config, now)?;
    if format == Format::Json {
        let json = serde_json::to_string_pretty(&rows).map_err(Failure::failed)?;
        writeln!(anstream::stdout(), "{json}")?;
        return Ok(());
    }
    print(config, &rows, now)
}

/// Every budget as the ledger has it, which is never behind a running sidecar.
fn rows(config: &Config, now: Timestamp) -> Result<Vec<BudgetRow>, Failure> {
    let purse = Purse::new(std::sync::Arc::new(Memory), config.limits.counters);
    let trusted = &config.identity.sources();
    let engine = Engine::build(
        &config.limits_in_force(),
        &config.rate_limits,
        trusted,
        &purse,
        None,
    );
    let engine = engine.map_err(Failure::wrong)?;
    let kept = Archive::new(&config.store, &config.ledger).standings(now)?;
    let budgets = engine.budgets(&[], &kept, now);
    let reach = config.ledger.reach_on_disk();
    let rows = budgets.iter();
    Ok(rows.map(|one| BudgetRow::new(one, reach)).collect())
}

fn print(config: &Config, rows: &[BudgetRow], now: Timestamp) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    if rows.is_empty() {
        writeln!(
            out,
            "No budgets: calls are metered and pass. `budgets:` in the configuration sets some."
        )?;
        return Ok(());
    }
    let lines = rows.iter().map(|row| {
        let [spent, held] = row.shares();
        vec![
            clean(&row.full_name()),
            row.limit.to_string(),
            row.window.clone(),
            row.spent.bare(),
            row.reserved.bare(),
            row.remaining.bare(),
            format!("{}%", spent.saturating_add(held) / 10),
            bar([spent, held]),
            row.resets_at
                .map_or_else(|| "-".to_owned(), |at| resets(at, now)),
        ]
    });
    let columns = [
        Column::text("budget"),
        Column::number("limit"),
        Column::text("a"),
        Column::number("spent"),
        Column::number("held"),
        Column::number("left"),
        Column::number("used").spare(1),
        Column::text("").spare(3),
        Column::text("resets in").spare(2),
    ];
    for line in table(
        &columns,
        &lines.collect::<Vec<_>>(),
        terminal::width(stdout()),
    ) {
        writeln!(out, "{line}")?;
    }
    let reach = config.ledger.reach_on_disk();
    let (name, meaning, path) = (reach.name(), reach.meaning(), config.ledger.path.display());
    let said = format!("They reach as far as {name} ({path}): {meaning}.");
    writeln!(out)?;
    for line in terminal::wrapped(&said, terminal::width(stdout()).unwrap_or(usize::MAX)) {
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

/// `2h05m`; days where there are any.
fn resets(at: Timestamp, now: Timestamp) -> String {
    let left = at.since(now);
    match left.as_secs() / 86_400 {
        0 => elapsed(left),
        days => format!("{days}d{:02}h", left.as_secs() / 3_600 % 24),
    }
}

/// Ten cells: spent, held, free.
fn bar([spent, held]: [u16; 2]) -> String {
    const CELLS: u16 = 10;
    let cells = |share: u16| share.saturating_mul(CELLS).saturating_add(999) / 1_000;
    let full = cells(spent);
    let held_cells = cells(held).min(CELLS.saturating_sub(full));
    let free = CELLS.saturating_sub(full).saturating_sub(held_cells);
    let drawn = |cell: &str, count: u16| cell.repeat(usize::from(count));
    [drawn("█", full), drawn("▒", held_cells), drawn("░", free)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_ten_cells_and_shows_the_least_that_is_used() {
        assert_eq!(bar([0, 0]), "░░░░░░░░░░");
        assert_eq!(bar([1, 0]), "█░░░░░░░░░");
        assert_eq!(bar([500, 250]), "█████▒▒▒░░");
        assert_eq!(bar([1_000, 0]), "██████████");
        assert_eq!(bar([950, 50]), "██████████");
    }

    #[test]
    fn the_time_until_a_reset_is_short() {
        let now = Timestamp::from_secs(1_000_000);
        let after = |secs| resets(Timestamp::from_secs(1_000_000_u64 + secs), now);
        assert_eq!(after(7_500), "2h05m");
        assert_eq!(after(86_400 * 5 + 3_600), "5d01h");
    }
}
