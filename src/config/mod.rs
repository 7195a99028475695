//! The configuration file as a whole: read, expanded, typed and checked, every problem at its exact
//! place. Each section is the `Config` of the module it configures.

mod check;
mod de;
mod document;
mod expand;
pub mod later;
mod load;
pub mod log;
mod problem;
mod read;
mod summary;
mod tree;
mod watch;

use serde::Deserialize;

pub use self::{
    document::Document,
    expand::Sources,
    load::{DEFAULT_PATH, Invalid, LoadError, Loaded, load, locate, parse},
    problem::{Place, Problem, Severity},
    watch::{Watch, WatchError},
};
use crate::{
    net::config::{Listen, Upstream},
    pipeline, pricing, provider,
    proxy::config::{Identity, Limits, Shutdown},
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
    /// The embedded store of spans.
    pub store: store::Config,
    /// What spans say, and where they go.
    pub tracing: pipeline::Config,
    /// Calls of clients that were not pointed at Tollgate.
    pub intercept: later::Intercept,
    /// Checks of what is said.
    pub guards: later::Nothing,
    /// Telling people.
    pub alerts: later::Alerts,
}

#[cfg(test)]
mod tests;
