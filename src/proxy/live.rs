//! What the configuration means, resolved: an immutable snapshot that a call takes at its start and
//! keeps to its end, so that a reload never changes a call under way.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use http::{HeaderValue, Uri, uri::PathAndQuery};

use super::{
    authenticate::Door,
    config::{Identity, Limits},
    entrust::Credential,
    flight::Places,
    intercept::At,
    peek::Bounds,
};
use crate::{
    call::{
        labels::Source,
        refusal::{Reason, Refusal},
        workload::Workload,
    },
    guard::Guards,
    identity::KeysFile,
    ingest,
    net::{aws::Keyring, connect::Origin},
    pipeline::{ContentPolicy, Propagation},
    policy::{self, Cut, Engine, Unbounded, Unmetered},
    pricing::Pricing,
    provider::{BaseUrl, CutStyle, Provider, Providers},
};

/// The ports of HTTP and HTTPS.
const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// The snapshot.
#[derive(Debug)]
pub struct Live {
    providers: Providers,
    /// Those whose address is known.
    destinations: HashMap<Arc<str>, Arc<Destination>>,
    pub(super) pricing: Pricing,
    pub(super) engine: Engine,
    pub(super) guards: Guards,
    pub(super) identity: Identity,
    /// The sources of labels that count for limits. Empty: all.
    pub(super) trusted: Vec<Source>,
    pub(super) door: Door,
    pub(super) bounds: Bounds,
    pub(super) places: Places,
    /// Where we run, as `identity` says it.
    pub(super) workload: Workload,
    /// `tracing.propagation`.
    pub(super) propagation: Propagation,
    /// How much of what is said spans may hold; `None`: nothing.
    pub(super) content: Option<Arc<ContentPolicy>>,
    pub(super) ingest: ingest::Config,
    /// `budgets.status`.
    pub(super) exhausted_status: u16,
    /// `budgets.cut`.
    pub(super) cut_style: CutStyle,
    /// `budgets.cut_margin`, in tokens.
    pub(super) cut_margin: u64,
    pub(super) unbounded: Unbounded,
    pub(super) unmetered: Unmetered,
}

/// A provider that requests can be sent to.
#[derive(Debug)]
pub struct Destination {
    /// What is known of it.
    pub(super) provider: Arc<Provider>,
    /// Its host, as spans name it.
    pub(super) server_address: Arc<str>,
    /// What its requests are signed again with, if they are.
    pub(super) keyring: Option<Arc<Keyring>>,
    /// Tollgate's own key for it, if there is one.
    pub(super) credential: Option<Arc<Credential>>,
    origin: Origin,
}

/// What its requests are sent on with that is Tollgate's own.
#[derive(Clone, Debug)]
struct Own {
    keyring: Option<Arc<Keyring>>,
    credential: Option<Arc<Credential>>,
}

/// The parts of a snapshot.
#[derive(Debug)]
pub struct Parts<'a> {
    /// `providers:`, built.
    pub providers: Providers,
    /// `pricing:`, built.
    pub pricing: Pricing,
    /// `budgets:` and `rate_limits:`, built.
    pub engine: Engine,
    /// `guards:`, built.
    pub guards: Guards,
    /// `budgets:`.
    pub budgets: &'a policy::Config,
    /// `identity:`.
    pub identity: Identity,
    /// `limits:`.
    pub limits: &'a Limits,
    /// `tracing.propagation`.
    pub propagation: Propagation,
    /// `tracing.content` and what belongs to it.
    pub content: Option<Arc<ContentPolicy>>,
    /// `ingest:`.
    pub ingest: ingest::Config,
    /// The keys that requests to a provider are signed with, by its name.
    pub keyrings: HashMap<Arc<str>, Arc<Keyring>>,
    /// The keys of which clients must show one.
    pub keys: Option<Arc<KeysFile>>,
}

impl Live {
    /// Puts a snapshot together.
    pub fn new(parts: Parts<'_>) -> Self {
        let Parts {
            providers,
            pricing,
            engine,
            guards,
            budgets,
            identity,
            limits,
            propagation,
            content,
            ingest,
            keyrings,
            keys,
        } = parts;
        let own = |provider: &Arc<Provider>| Own {
            keyring: keyrings.get(&provider.name).cloned(),
            credential: Credential::of(provider).map(Arc::new),
        };
        let destinations = providers
            .iter()
            .filter_map(|provider| Destination::of(provider, own(provider)))
            .map(|to| (Arc::clone(&to.provider.name), Arc::new(to)))
            .collect();
        Self {
            destinations,
            providers,
            pricing,
            engine,
            guards,
            trusted: identity.sources(),
            door: Door {
                keys,
                trusted: identity.addresses(),
            },
            bounds: Bounds {
                each: limits.peek.as_u64(),
                total: limits.peek_total.as_u64(),
                wait: limits.body_wait,
            },
            places: Places {
                flying: limits.in_flight,
                reading: limits.connections,
            },
            propagation,
            content,
            ingest,
            workload: identity.workload(),
            identity,
            exhausted_status: budgets.status,
            cut_style: match budgets.cut {
                Cut::Graceful => CutStyle::Graceful,
                Cut::Error => CutStyle::Error,
            },
            cut_margin: budgets.cut_margin,
            unbounded: budgets.unbounded,
            unmetered: budgets.unmetered,
        }
    }

    /// The rules.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The guards.
    pub const fn guards(&self) -> &Guards {
        &self.guards
    }

    /// The prices.
    pub const fn pricing(&self) -> &Pricing {
        &self.pricing
    }

    /// What requests are signed with, by the provider's name.
    pub fn keyrings(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Keyring>)> {
        let all = self.destinations.iter();
        all.filter_map(|(name, to)| Some((name, to.keyring.as_ref()?)))
    }

    /// The file with the keys of which clients must show one, if there is one.
    pub const fn keys_file(&self) -> Option<&Arc<KeysFile>> {
        self.door.keys.as_ref()
    }

    /// Whether there is a provider of that name.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.providers.named(name).is_some()
    }

    /// Every provider's name, the built-in ones first.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.providers.iter().map(|provider| &*provider.name)
    }

    /// The provider of that name, for a request to `path`.
    ///
    /// # Errors
    /// There is none, or its address is not known.
    pub(super) fn named(&self, name: &str, path: &str) -> Result<Arc<Destination>, Refusal> {
        let usual = self.destinations.get(name).ok_or_else(|| {
            let message = format!(
                "Tollgate does not know where {name} is: set providers.{name}.base_url in its \
                 configuration."
            );
            Refusal::new(Reason::NotFound, "", message)
        })?;
        let elsewhere = usual.provider.host(path);
        let elsewhere = elsewhere.filter(|host| *usual.server_address != **host);
        let to = elsewhere.and_then(|host| usual.at(&host)).map(Arc::new);
        Ok(to.unwrap_or_else(|| Arc::clone(usual)))
    }

    /// The provider that a plain request to a host is for, and its port, where one is named; and the
    /// path to ask it for.
    pub(super) fn by_host<'a>(
        &self,
        host: &str,
        port: Option<u16>,
        path: &'a str,
    ) -> Option<(Arc<Destination>, &'a str)> {
        // A client that speaks plain HTTP to a proxy may mean the port of that, or of the provider.
        let port = port.filter(|port| *port != HTTP);
        let at = At::new(host, port.unwrap_or(HTTPS));
        let base = self.providers.at_host(at.host())?.base.as_ref();
        match base.filter(|base| port.is_none() && *base.host == *at.host()) {
            Some(base) => self.configured(&At::new(host, base.port), path),
            None => self.opened(&at, path),
        }
    }

    /// Whether a host is a provider's.
    pub(super) fn is_providers(&self, host: &str) -> bool {
        self.providers.at_host(host).is_some()
    }

    /// Whether what is spoken with a provider at this place is plain HTTP.
    pub(super) fn is_plain(&self, at: &At) -> bool {
        self.configured_at(at)
            .next()
            .is_some_and(|(_, base)| !base.tls)
    }

    /// The providers that are at a place: several may be, each below a path of its own.
    fn configured_at(&self, at: &At) -> impl Iterator<Item = (&Arc<Provider>, &BaseUrl)> {
        let all = self.providers.iter();
        let all = all.filter_map(|provider| Some((provider, provider.base.as_ref()?)));
        all.filter(|(_, base)| *base.host == *at.host() && base.port == at.port())
    }

    /// Where calls to a path go, if there is a provider at this place: the one whose base URL says
    /// most of the path.
    fn configured<'a>(&self, at: &At, path: &'a str) -> Option<(Arc<Destination>, &'a str)> {
        let below = self
            .configured_at(at)
            .filter_map(|(provider, base)| Some((provider, base, base.asked(path)?)));
        let best = below.min_by_key(|(_, base, _)| Reverse(base.prefix.len()));
        if let Some((provider, _, path)) = best {
            let to = self.destinations.get(&provider.name)?;
            return Some((Arc::clone(to), path));
        }
        let (provider, base) = self.configured_at(at).next()?;
        let base = BaseUrl {
            prefix: Box::default(),
            ..base.clone()
        };
        let beside = Destination::bare(provider, &base);
        beside.map(|to| (Arc::new(to), path))
    }

    /// Whether calls are meant for this place.
    pub(super) fn opens(&self, at: &At) -> bool {
        self.opened(at, "/").is_some()
    }

    /// Where calls go that are meant for a path at this place, if it is a provider's: to that very
    /// host; and the path to ask for there. Only the usual host of a provider that the configuration
    /// has moved stands for the place that it names.
    pub(super) fn opened<'a>(&self, at: &At, path: &'a str) -> Option<(Arc<Destination>, &'a str)> {
        if let Some(configured) = self.configured(at, path) {
            return Some(configured);
        }
        let provider = self.providers.at_host(at.host())?;
        // Nobody is led to another port of a host, or to an address, that nobody has named.
        if at.port() != HTTPS || provider.is_at(at.host()) || at.is_address() {
            return None;
        }
        let usual = self.destinations.get(&provider.name);
        let to = match usual {
            Some(to) if provider.is_regional => to.at(at.host()).map(Arc::new),
            Some(to) if provider.is_usually_at(at.host()) => Some(Arc::clone(to)),
            _ => Destination::elsewhere(provider, at.host()).map(Arc::new),
        };
        to.map(|to| (to, path))
    }
}

impl Destination {
    fn of(provider: &Arc<Provider>, own: Own) -> Option<Self> {
        Self::new(provider, provider.base.as_ref()?, own)
    }

    /// The same provider at another host.
    pub(super) fn at(&self, host: &str) -> Option<Self> {
        let base = BaseUrl {
            host: Box::from(host),
            ..self.provider.base.clone()?
        };
        let own = Own {
            keyring: self.keyring.clone(),
            credential: self.credential.clone(),
        };
        Self::new(&self.provider, &base, own)
    }

    /// A provider at a host that is known to be its, and maybe another customer's: with nothing of
    /// Tollgate's own.
    fn elsewhere(provider: &Arc<Provider>, host: &str) -> Option<Self> {
        let base = BaseUrl {
            tls: true,
            host: Box::from(host),
            port: HTTPS,
            prefix: Box::default(),
        };
        Self::bare(provider, &base)
    }

    /// A provider at a place that is not its base URL's, with nothing of Tollgate's own.
    fn bare(provider: &Arc<Provider>, base: &BaseUrl) -> Option<Self> {
        let own = Own {
            keyring: None,
            credential: None,
        };
        let is_below = |base: &BaseUrl| !base.prefix.is_empty();
        if provider.base.as_ref().is_some_and(is_below) {
            let mut there = Provider::clone(provider);
            there.base = Some(base.clone());
            return Self::new(&Arc::new(there), base, own);
        }
        Self::new(provider, base, own)
    }

    fn new(provider: &Arc<Provider>, base: &BaseUrl, own: Own) -> Option<Self> {
        let origin = origin(base)?;
        let Own {
            keyring,
            credential,
        } = own;
        Some(Self {
            server_address: Arc::from(origin.host()),
            keyring,
            credential,
            origin,
            provider: Arc::clone(provider),
        })
    }

    /// Where connections go.
    pub(super) const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The value of the `Host` header.
    pub(super) fn host_header(&self) -> &HeaderValue {
        self.origin.host_header()
    }

    /// What stands behind the base URL's path in a target.
    pub(super) fn below<'a>(&self, path: &'a str) -> &'a str {
        let base = self.provider.base.as_ref();
        base.and_then(|base| base.below(path)).unwrap_or(path)
    }

    /// The provider's own path and query for what a client asked for. A copy: a part of the request
    /// would keep all of the buffer that it was read into, for as long as the call takes.
    ///
    /// # Errors
    /// The two together are no valid target.
    pub(super) fn target(&self, path: &str, query: Option<&str>) -> Result<PathAndQuery, Refusal> {
        let asked = match query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        PathAndQuery::try_from(&*self.provider.path(&asked)).map_err(|error| {
            Refusal::new(
                Reason::BadRequest,
                "",
                format!("The request's path is invalid: {error}"),
            )
        })
    }
}

fn origin(base: &BaseUrl) -> Option<Origin> {
    let scheme = if base.tls { "https" } else { "http" };
    let host = if base.host.contains(':') {
        format!("[{}]", base.host)
    } else {
        base.host.to_string()
    };
    let usual = if base.tls { 443 } else { 80 };
    // The usual port is not named, as clients do not: some servers compare the `Host` header.
    let authority = if base.port == usual {
        host
    } else {
        format!("{host}:{port}", port = base.port)
    };
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query("/")
        .build();
    Origin::of(&uri.ok()?)
}
