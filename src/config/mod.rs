//! The configuration file as a whole: read, expanded, typed and checked, every problem at its exact
//! place. Each section is the `Config` of the module it configures.

mod check;
mod de;
mod document;
mod expand;
mod guards;
pub mod later;
mod load;
pub mod log;
mod memory;
mod overrides;
mod problem;
mod read;
mod rules;
mod summary;
mod tree;
mod watch;

use serde::Deserialize;

pub use self::{
    document::Document,
    expand::Sources,
    load::{DEFAULT_PATH, Invalid, LoadError, Loaded, load, locate, parse},
    overrides::OVERRIDES,
    problem::{Place, Problem, Severity, suggestion},
    watch::{Watch, WatchError},
};
use crate::{
    guard, ingest, ledger,
    net::config::{Listen, Upstream},
    pipeline, policy, pricing, provider,
    proxy::{
        config::{Identity, Limits, Shutdown},
        intercept,
    },
    store,
};

/// Everything that can be configured, in the order of `config/tollgate.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where Tollgate listens.
    pub listen: Listen,
    /// Its own log.
    pub log: log::Log,
    /// What is held at once.
    pub limits: Limits,
    /// How providers are reached.
    pub upstream: Upstream,
    /// The way out.
    pub shutdown: Shutdown,
    /// Providers, added to the built-in ones or changing them.
    pub providers: provider::Config,
    /// Who calls are for.
    pub identity: Identity,
    /// What tokens cost.
    pub pricing: pricing::Config,
    /// What calls may cost.
    pub budgets: policy::Config,
    /// How fast calls may come.
    pub rate_limits: Vec<policy::RateLimit>,
    /// What was reserved and spent, kept across crashes.
    pub ledger: ledger::Config,
    /// The embedded store of spans.
    pub store: store::Config,
    /// What spans say, and where they go.
    pub tracing: pipeline::Config,
    /// Spans that agents report.
    pub ingest: ingest::Config,
    /// Calls of clients that were not pointed at Tollgate.
    pub intercept: intercept::Config,
    /// What calls must pass besides limits.
    pub guards: guard::Config,
    /// Telling people.
    pub alerts: later::Alerts,
}

impl Config {
    /// What calls may cost, with the budget that `guards.session` stands for.
    pub fn limits_in_force(&self) -> policy::Config {
        let mut budgets = self.budgets.clone();
        budgets.rules.extend(self.guards.session.rule());
        budgets
    }

    /// The keys in which `new` differs and that take effect only after a restart.
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let differ = [
            ("listen", self.listen != new.listen),
            ("log.format", self.log.format != new.log.format),
            (
                "limits.connections",
                self.limits.connections != new.limits.connections,
            ),
            (
                "limits.counters",
                self.limits.counters != new.limits.counters,
            ),
            ("limits.headers", self.limits.headers != new.limits.headers),
            (
                "limits.header_bytes",
                self.limits.header_bytes != new.limits.header_bytes,
            ),
            ("upstream", self.upstream != new.upstream),
            ("shutdown", self.shutdown != new.shutdown),
            ("ledger", self.ledger != new.ledger),
            ("store", self.store != new.store),
            ("intercept", self.intercept != new.intercept),
            (
                "tracing.resource_limits.max_cpu",
                self.tracing.resource_limits.max_cpu != new.tracing.resource_limits.max_cpu,
            ),
        ];
        let differ = differ.into_iter().filter(|(_, differs)| *differs);
        differ.map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests;
