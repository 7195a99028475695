//! What a run cost: read from the store and the ledger once everything is settled, and checked
//! against what was counted meanwhile.

use std::{fmt::Display, io, path::Path, time::Duration};

use anstyle::Style;
use prometheus::{Registry, proto::MetricFamily};

use super::{
    super::{Failure, terminal},
    unread::{self, Unread},
};
use crate::{
    analysis::report::{Format, render, total},
    base::{clock::Timestamp, money::Usd},
    call::{
        line::{clean, counted, elapsed, grouped},
        tally::{Dimension, Tally},
    },
    config::Config,
    ledger::View,
    policy::Unit,
    store::{Filter, Reader, StoreError},
};

/// The name of the rule that `--budget` makes.
pub(super) const RULE: &str = "exec";

/// By which way calls were to come, for what is said of those that did not.
#[derive(Clone, Copy)]
pub(super) enum Way<'a> {
    /// By base URLs.
    Pointed,
    /// Through a proxy that opens connections; and what is known not to, in words.
    Opened(&'a [String]),
}

/// What is known of a run that has ended.
pub(super) struct Summary {
    by: Vec<Dimension>,
    rows: Vec<Tally>,
    took: Duration,
    /// Calls that were counted when they ended.
    counted: u64,
    /// Refused and cut calls, by rule.
    blocked: Vec<(String, u64)>,
    unmetered: u64,
    /// Connections that were asked for as of a proxy.
    connections: u64,
    /// Connections that nobody read, by host and why.
    unread: Vec<Unread>,
    /// What `--budget` allowed, and what was spent of it.
    budget: Option<(Usd, Usd)>,
}

impl Summary {
    /// Reads it. `after`: the store's last span before the run. `budget`: what `--budget` allowed.
    ///
    /// # Errors
    /// The store or the ledger cannot be read.
    pub(super) fn read(
        config: &Config,
        registry: &Registry,
        after: i64,
        budget: Option<Usd>,
        times: (Timestamp, Timestamp),
    ) -> Result<Self, Failure> {
        let (by, rows) = rows(&config.store.file(), after).map_err(Failure::failed)?;
        let budget = match budget {
            Some(limit) => Some((limit, spent(&config.ledger.path, times.1)?)),
            None => None,
        };
        let families = registry.gather();
        let blocked = counts(&families, "tollgate_blocked_total").filter(|(_, count)| *count > 0);
        let sum = |name| counts(&families, name).map(|(_, count)| count).sum();
        Ok(Self {
            by,
            rows,
            took: times.1.since(times.0),
            counted: sum("tollgate_requests_total"),
            blocked: blocked.collect(),
            unmetered: sum("tollgate_unmetered_total"),
            connections: sum("tollgate_intercepted_connections_total"),
            unread: unread::read(&families),
            budget,
        })
    }

    /// Writes it; `store` if it has to be said where the store is.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub(super) fn write(
        &self,
        way: Way<'_>,
        store: Option<&str>,
        out: &mut impl io::Write,
    ) -> io::Result<()> {
        let total = total(&self.rows);
        let mut line = |what: &str, is: &dyn Display| {
            let bold = Style::new().bold();
            writeln!(out, "{bold}{what:<10}{bold:#} {is}")
        };
        if let Some(store) = store {
            line("store", &store)?;
        }
        if total.calls == 0 && self.counted == 0 {
            let why = match way {
                Way::Pointed => "does the program set a base URL of its own?".to_owned(),
                Way::Opened(_) if self.connections > 0 => {
                    let came = counted(self.connections, "connection");
                    format!("{came} came by HTTPS_PROXY, and none carried one")
                },
                Way::Opened(_) => {
                    "does the program heed HTTPS_PROXY? Node does in version 22 from 22.21 on; then \
                     `fetch` from 24.0 on, `http` and `https` from 24.5 on"
                        .to_owned()
                },
            };
            line("tollgate", &format!("no calls went through: {why}"))?;
            self.stopped(&mut line)?;
            self.past(way, &mut line)?;
            return self.budget(line);
        }
        let (input, output) = (grouped(total.input_tokens), grouped(total.output_tokens));
        let (calls, cost) = (counted(total.calls, "call"), total.cost_usd.short());
        let took = elapsed(self.took);
        let sums = format!("{calls} · {input} tokens in, {output} out · {cost} · {took}");
        line("tollgate", &sums)?;
        self.stopped(&mut line)?;
        if self.unmetered > 0 {
            let calls = counted(self.unmetered, "call");
            line(
                "unmetered",
                &format!("{calls}: what they cost is not known"),
            )?;
        }
        self.past(way, &mut line)?;
        if let missing @ 1.. = self.counted.saturating_sub(total.calls) {
            let calls = counted(missing, "call");
            line(
                "missing",
                &format!("{calls} could not be stored and are in no figure here"),
            )?;
        }
        let room = terminal::width(io::stderr());
        let table = render(&self.by, &self.rows, Format::Table, room);
        write!(out, "{table}")?;
        let bold = Style::new().bold();
        self.budget(|what, is| writeln!(out, "{bold}{what:<10}{bold:#} {is}"))
    }

    /// What was refused or cut.
    fn stopped(
        &self,
        mut line: impl FnMut(&str, &dyn Display) -> io::Result<()>,
    ) -> io::Result<()> {
        for (by, count) in &self.blocked {
            let what = if by.starts_with("intercept.") {
                "connection"
            } else {
                "call"
            };
            let what = counted(*count, what);
            line("stopped", &format!("{what}, by {}", clean(by)))?;
        }
        Ok(())
    }

    /// What went past, or may have.
    fn past(
        &self,
        way: Way<'_>,
        mut line: impl FnMut(&str, &dyn Display) -> io::Result<()>,
    ) -> io::Result<()> {
        let Way::Opened(past) = way else {
            return Ok(());
        };
        for unread in &self.unread {
            line(unread.what(), &unread.says())?;
        }
        for what in past {
            line("unmetered", &what)?;
        }
        Ok(())
    }

    fn budget(&self, mut line: impl FnMut(&str, &dyn Display) -> io::Result<()>) -> io::Result<()> {
        let Some((limit, spent)) = self.budget else {
            return Ok(());
        };
        let left = (limit - spent).max(Usd::ZERO);
        let (limit, left, spent) = (limit.short(), left.short(), spent.short());
        line(
            "budget",
            &format!("{limit} allowed, {left} left, {spent} spent"),
        )
    }
}

/// By agent and model; by model alone if no call says whose it is.
fn rows(store: &Path, after: i64) -> Result<(Vec<Dimension>, Vec<Tally>), StoreError> {
    let reader = Reader::open(store)?;
    let filter = Filter {
        after: Some(after),
        ..Filter::default()
    };
    let by = vec![Dimension::Agent, Dimension::Model];
    let rows = reader.report(&filter, &by)?;
    let named = |row: &Tally| matches!(row.group.first(), Some(Some(_)));
    if rows.iter().any(named) {
        return Ok((by, rows));
    }
    let by = vec![Dimension::Model];
    let rows = reader.report(&filter, &by)?;
    Ok((by, rows))
}

/// What the budget of `--budget` has spent.
fn spent(ledger: &Path, now: Timestamp) -> Result<Usd, Failure> {
    let view = View::open(ledger).map_err(Failure::failed)?;
    let standings = view.standings(now).map_err(Failure::failed)?;
    let own = standings.into_iter().filter(|standing| {
        let name = standing.counter.identity.split(' ').next();
        name == Some(RULE) && standing.counter.unit == Unit::Usd
    });
    Ok(own.map(|standing| Usd::from_nanos(standing.spent)).sum())
}

/// A family of counters: the value of each one's first label, and its count.
fn counts<'a>(
    families: &'a [MetricFamily],
    name: &'a str,
) -> impl Iterator<Item = (String, u64)> + 'a {
    let families = families.iter().filter(move |family| family.name() == name);
    families.flat_map(MetricFamily::get_metric).map(|metric| {
        let label = metric.get_label().first();
        let label = label.map(|label| label.value().to_owned());
        (
            label.unwrap_or_default(),
            whole(metric.get_counter().get_value()),
        )
    })
}

/// A count that Prometheus holds as a float.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an integer counter's value: saturates at nothing that is reached"
)]
pub(super) const fn whole(count: f64) -> u64 {
    count as u64
}
