//! From what was written to what it means: a snapshot for the proxy, connections, processors.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use prometheus::Registry;

use super::{keyrings, keys, shelf::Shelf};
use crate::{
    base::{clock::Clock, stamp::may_pass},
    config::{Config, Sources},
    guard::Guards,
    net::{
        authority::{Authority, AuthorityError},
        config::Upstream as UpstreamConfig,
        connect::{self, Connector},
        ours::Ours,
        upstream::{Patience, Upstream},
    },
    pipeline::{BuildContext, ContentPolicy},
    policy::{Engine, Purse},
    pricing::{Book, Pricing},
    provider::Providers,
    proxy::{Live, LiveParts, intercept::Intercept},
};

/// What the configuration says cannot be done.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Impossible {
    why: String,
    /// It may be possible later, though nothing is edited: a file could not be read just now.
    pub(super) may_pass: bool,
}

impl Impossible {
    /// As it is written.
    pub(super) const fn new(why: String) -> Self {
        Self {
            why,
            may_pass: false,
        }
    }
}

/// The proxy's snapshot. `before`: the one it replaces, whose rates go on. `fetched`: the price book
/// from `pricing.url`, if it has come.
///
/// # Errors
/// A provider, a price file or a rule cannot be built as it is written.
pub(super) fn live(
    config: &Config,
    purse: &Arc<Purse>,
    before: Option<&Live>,
    fetched: Option<Arc<Book>>,
) -> Result<Live, Impossible> {
    let providers = providers(config)?;
    let pricing = priced(config, &providers, fetched)?;
    let keyrings = keyrings::open(&providers, before)?;
    let content = ContentPolicy::of(&config.tracing);
    let content =
        content.map_err(|error| Impossible::new(format!("tracing.redaction: {error}")))?;
    let guards = Guards::build(&config.guards, before.map(Live::guards));
    let keys = keys::open(config, before)?;
    let trusted = &config.identity.sources();
    let before = before.map(Live::engine);
    let engine = Engine::build(
        &config.limits_in_force(),
        &config.rate_limits,
        trusted,
        purse,
        before,
    )
    .map_err(|error| Impossible::new(error.to_string()))?;
    Ok(Live::new(LiveParts {
        providers,
        pricing,
        engine,
        guards,
        budgets: &config.budgets,
        identity: config.identity.clone(),
        limits: &config.limits,
        propagation: config.tracing.propagation.clone(),
        content,
        ingest: config.ingest.clone(),
        keyrings,
        keys,
    }))
}

/// What tokens cost by this configuration, and by the price book that was fetched last.
///
/// # Errors
/// A provider or the price file cannot be used as it is written.
pub fn pricing(config: &Config) -> Result<Pricing, Impossible> {
    let url = config.pricing.url.as_ref();
    let fetched = url.and_then(|url| Shelf::of(&config.store.path).book(url));
    let book = fetched.map(|fetched| fetched.book);
    priced(config, &providers(config)?, book)
}

/// Puts the price book that was fetched for `config` into another `data` directory, if there is one, so
/// that a Tollgate there has the same prices.
///
/// # Errors
/// It cannot be read or written.
pub fn lend_prices(config: &Config, data: &Path) -> io::Result<()> {
    Shelf::of(&config.store.path).lend(&Shelf::of(data))
}

/// Why the price book of `pricing.url` that is used is not the latest, if it is not: in words.
pub fn price_trouble(config: &Config) -> Option<String> {
    let url = config.pricing.url.as_ref()?;
    Shelf::of(&config.store.path).trouble(url)
}

fn providers(config: &Config) -> Result<Providers, Impossible> {
    Providers::build(&config.providers).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Impossible::new(errors.join("\n"))
    })
}

fn priced(
    config: &Config,
    providers: &Providers,
    fetched: Option<Arc<Book>>,
) -> Result<Pricing, Impossible> {
    let free: Vec<&str> = providers
        .iter()
        .filter(|provider| provider.free)
        .map(|provider| &*provider.name)
        .collect();
    let book = book(config, fetched)?;
    Ok(Pricing::new(&config.pricing, book, &free))
}

/// Whether any budget is configured, so that what was spent must be kept.
pub(super) fn has_budgets(config: &Config) -> bool {
    let budgets = &config.budgets;
    let simple = [budgets.daily, budgets.monthly, budgets.per_user];
    let rules = budgets.rules.len() + usize::from(config.guards.session.rule().is_some());
    simple.iter().any(Option::is_some) || rules > 0
}

fn book(config: &Config, fetched: Option<Arc<Book>>) -> Result<Arc<Book>, Impossible> {
    let Some(path) = &config.pricing.file else {
        return Ok(fetched.unwrap_or_else(|| Arc::new(Book::built_in())));
    };
    let wrong = |error: &dyn std::fmt::Display| {
        Impossible::new(format!("pricing.file: {}: {error}", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|error| Impossible {
        may_pass: may_pass(&error),
        ..wrong(&error)
    })?;
    let book = Book::parse(&text).map_err(|error| wrong(&error))?;
    Ok(Arc::new(book))
}

/// What opens connections to providers. One for all workers: it holds the system's certificates.
/// `ours`: where its connections are noted; `own`: where we listen.
///
/// # Errors
/// A certificate or key cannot be used.
pub(super) fn connector(
    config: &UpstreamConfig,
    surroundings: &BuildContext,
    (ours, own): (Option<Ours>, [&[SocketAddr]; 3]),
) -> io::Result<Connector> {
    let own_ports = &surroundings.own_ports;
    config.mark.map_or(Ok(()), connect::may_mark)?;
    let connector = Connector::configured("upstream", config, own_ports)?;
    Ok(connector.noting(ours).listening(own.concat()))
}

/// The certificate authority that connections are opened with, if any are.
pub fn authority(config: &Config) -> Option<Result<Authority, AuthorityError>> {
    let config = &config.intercept;
    config.enabled.then(|| Authority::open(&config.ca_dir))
}

/// What takes traffic of clients that were not pointed at Tollgate, if `intercept.enabled`. `own`: where
/// we listen.
///
/// # Errors
/// There is no certificate authority, or it cannot be used.
pub(super) fn intercept(
    config: &Config,
    connector: &Connector,
    own: [&[SocketAddr]; 3],
    (registry, clock): (&Registry, &Arc<dyn Clock>),
) -> io::Result<Option<Arc<Intercept>>> {
    let Some(authority) = authority(config) else {
        return Ok(None);
    };
    let config = &config.intercept;
    let authority =
        authority.map_err(|error| io::Error::other(format!("intercept.ca_dir: {error}")))?;
    let authority = (authority, Arc::clone(clock));
    let intercept = Intercept::new(config, authority, connector, own.concat(), registry)?;
    Ok(Some(Arc::new(intercept)))
}

/// A worker's connections to providers.
pub(super) fn upstream(config: &UpstreamConfig, connector: Connector) -> Upstream {
    let patience = Patience {
        first_byte: config.first_byte_timeout,
        idle: config.idle_timeout,
    };
    Upstream::new(connector, patience, config.pool_idle)
}

/// A worker's connections to hosts that are no provider's, if clients may be led there: there may be any number of them, so that
/// none is kept for long.
pub(super) fn to_others(
    config: &UpstreamConfig,
    intercept: Option<&Intercept>,
) -> Option<Arc<Upstream>> {
    let connector = intercept?.connector().clone();
    let config = UpstreamConfig {
        pool_idle: Duration::ZERO,
        ..config.clone()
    };
    Some(Arc::new(upstream(&config, connector)))
}

/// What processors may need that `tracing:` does not say. `listening`: where we listen.
pub fn surroundings(
    config: &Config,
    listening: &[SocketAddr],
    registry: &Registry,
    clock: &Arc<dyn Clock>,
) -> BuildContext {
    BuildContext {
        registry: registry.clone(),
        upstream: config.upstream.clone(),
        own_ports: listening.iter().map(SocketAddr::port).collect(),
        commands: config.tracing.commands(),
        variable: Sources::SYSTEM.variable,
        workload: config.identity.workload(),
        ..BuildContext::new(Arc::clone(clock))
    }
}

/// How many workers: one a core, as far as this process may use them and is to.
pub(super) fn workers(config: &Config) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    config.tracing.resource_limits.workers(processors)
}

/// How long span workers may take to deliver what waits when the process leaves.
pub(super) const FLUSH: Duration = Duration::from_secs(5);
