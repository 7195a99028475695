//! Budgets as they stand, for people: `tollgate budgets`, the status page, the API.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use super::{
    counter::{Raise, Standing, Unit},
    engine::Engine,
    journal::{CounterName, JournalDown},
    rule::Rule,
    table::Claim,
    window::Window,
};
use crate::base::clock::Timestamp;

/// How far a budget reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Reach {
    /// It is forgotten with the process.
    #[serde(rename = "this process")]
    Process,
    /// It is kept in the ledger's directory, which goes with the pod.
    #[serde(rename = "this pod")]
    Pod,
    /// It is kept in the ledger's directory, which is in memory and goes when that is unmounted.
    #[serde(rename = "this volume in memory")]
    Memory,
    /// It is kept in the ledger's directory.
    #[serde(rename = "this volume")]
    Volume,
    /// All sidecars share it.
    #[serde(rename = "fleet")]
    Fleet,
}

impl Reach {
    /// As it is printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "this process",
            Self::Pod => "this pod",
            Self::Memory => "this volume in memory",
            Self::Volume => "this volume",
            Self::Fleet => "fleet",
        }
    }

    /// Who shares the budgets, and what they last as long as.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Process => {
                "no other sidecar shares them, and they are forgotten with this process"
            },
            Self::Pod => {
                "no other sidecar shares them, and the next pod begins anew: the ledger goes with \
                 this one"
            },
            Self::Memory => {
                "no other sidecar shares them, and they are forgotten when the ledger's file system, \
                 which is in memory, is unmounted"
            },
            Self::Volume => {
                "no other sidecar shares them; they last as long as the ledger's directory"
            },
            Self::Fleet => "all sidecars share them",
        }
    }
}

/// One budget, in its present window. Amounts are in nano-dollars, tokens or calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The rule's name.
    pub name: Arc<str>,
    /// Whose: `user=42`; empty for a rule that counts all calls together.
    pub values: Arc<str>,
    /// What it counts.
    pub unit: Unit,
    /// The length of its window.
    pub window: Window,
    /// The limit that holds, raises and cutoff included.
    pub limit: i64,
    /// What was spent.
    pub spent: i64,
    /// What calls in flight hold.
    pub reserved: i64,
    /// What is left; zero where more is spent than the limit.
    pub remaining: i64,
    /// When the window ends; `None` for windows without a common end.
    pub resets_at: Option<Timestamp>,
}

impl Engine {
    /// Brings the counters of budgets that count all calls together into memory, so that
    /// [`Purse::standings`](super::Purse::standings) tells them as they are, however long ago the
    /// last call was.
    ///
    /// # Errors
    /// What one held before cannot be known.
    pub fn recall_totals(&self, now: Timestamp) -> Result<(), JournalDown> {
        let whole = |rule: &&Arc<Rule>| rule.is_budget() && rule.per.is_empty();
        for rule in self.rules.iter().filter(whole) {
            for (unit, _) in &rule.limits {
                let mut claim = Claim::on(rule, *unit, &rule.no_values, now);
                let _spent = self.purse.spent_by_cell(&mut claim, now)?;
            }
        }
        Ok(())
    }

    /// Every budget in its present window: those in memory as they are (`live`, of
    /// [`Purse::standings`](super::Purse::standings)), others as the ledger has them (`kept`). One
    /// that counts all calls together is there even if nothing was spent.
    pub fn budgets(&self, live: &[Standing], kept: &[Standing], now: Timestamp) -> Vec<Budget> {
        let mut listed = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.is_budget()) {
            for (unit, _) in &rule.limits {
                let found = rule.sums(live, kept, *unit, now).into_iter();
                listed.extend(found.map(|(values, sums)| rule.listed(values, *unit, &sums, now)));
            }
        }
        listed
    }
}

#[derive(Debug, Default)]
struct Sums {
    spent: i64,
    reserved: i64,
    raises: Vec<Raise>,
}

impl Sums {
    fn add(&mut self, standing: &Standing) {
        self.spent = self.spent.saturating_add(standing.spent);
        self.reserved = self.reserved.saturating_add(standing.reserved);
        self.raises.extend(&standing.raises);
    }
}

impl Rule {
    /// What its counters of one unit hold in the present window, by values.
    fn sums<'a>(
        &'a self,
        live: &'a [Standing],
        kept: &'a [Standing],
        unit: Unit,
        now: Timestamp,
    ) -> BTreeMap<&'a Arc<str>, Sums> {
        let mut sums: BTreeMap<&Arc<str>, Sums> = BTreeMap::new();
        for standing in kept.iter().filter(|kept| self.owns(kept, unit, now)) {
            let kept = sums.entry(&standing.counter.values).or_default();
            kept.add(standing);
        }
        for standing in live.iter().filter(|live| self.owns(live, unit, now)) {
            let mut live = Sums::default();
            live.add(standing);
            sums.insert(&standing.counter.values, live);
        }
        if self.per.is_empty() {
            sums.entry(&self.no_values).or_default();
        }
        sums
    }

    /// Whether `standing` is of this rule's present window.
    fn owns(&self, standing: &Standing, unit: Unit, now: Timestamp) -> bool {
        let CounterName {
            identity,
            unit: counts,
            ..
        } = &standing.counter;
        let present = match self.calendar.window() {
            // A live one has no cell; of those on disk, the ones that have not left.
            Window::Rolling(length) => {
                standing.window == Timestamp::default() || standing.window > now - length
            },
            _ => standing.window == self.window_of(unit, now),
        };
        *identity == self.identity && *counts == unit && present
    }

    fn listed(&self, values: &Arc<str>, unit: Unit, sums: &Sums, now: Timestamp) -> Budget {
        let raised = sums
            .raises
            .iter()
            .filter(|raise| raise.until.is_none_or(|until| now < until))
            .fold(self.limit(unit), |limit, raise| {
                limit.saturating_add(raise.amount)
            });
        let limit = self.thresholds.cutoff.of(raised);
        let used = sums.spent.saturating_add(sums.reserved);
        Budget {
            name: Arc::clone(&self.name),
            values: Arc::clone(values),
            unit,
            window: self.calendar.window(),
            limit,
            spent: sums.spent,
            reserved: sums.reserved,
            remaining: limit.saturating_sub(used).max(0),
            resets_at: match self.calendar.window() {
                Window::Rolling(_) => None,
                _ => self.calendar.at(now).end,
            },
        }
    }
}
