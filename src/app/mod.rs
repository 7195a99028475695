//! The composition root: builds every part and gives each the handles it needs. Read
//! [`App::start`] to see the whole program.

mod build;
mod control;
mod crashed;
mod fetch;
mod gauges;
mod keep;
mod keyrings;
mod keys;
mod prices;
mod reload;
mod shelf;
mod span_gauges;
mod worker;

use std::{io, net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};

use prometheus::Registry;
use tokio::sync::{Semaphore, watch};

use crate::{
    admin::{Admin, Face},
    base::clock::Clock,
    config::Config,
    ledger::{ClaimError, Ledger, LedgerError},
    net::{config::Listen, listen, ours::Ours, upstream::Upstream},
    pipeline::{BuildContext, BuildError, Outlet, Pipeline},
    policy::{AdjustError, Budget, Purse},
    proxy::{Holdings, Leaving, Metrics, Phase, Proxy},
};
use control::Control;
use gauges::Gauges;
use keep::Kept;
use prices::Prices;
use worker::{Common, Entry, Upstreams};

pub use build::{Impossible, lend_prices, price_trouble, pricing, surroundings};

/// How often idle state is let go of.
const TIDY: Duration = Duration::from_mins(1);

/// A running Tollgate.
pub struct App {
    /// Where the proxy listens.
    pub proxy_addresses: Vec<SocketAddr>,
    /// Where the admin listener listens.
    pub admin_addresses: Vec<SocketAddr>,
    /// Where the health listener listens, if there is one.
    pub health_address: Option<SocketAddr>,
    admin: Admin,
    control: Arc<Control>,
    proxy: Arc<Proxy>,
    pipeline: Arc<Pipeline>,
    purse: Arc<Purse>,
    kept: Kept,
    clock: Arc<dyn Clock>,
    registry: Registry,
    phase: watch::Sender<Phase>,
    workers: Vec<JoinHandle<()>>,
    /// For what is asked on no call's behalf.
    upstream: Arc<Upstream>,
    /// What processors that come with a reload may need.
    surroundings: Box<BuildContext>,
    config: Box<Config>,
}

/// Why Tollgate does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What was configured cannot be done.
    #[error(transparent)]
    Impossible(#[from] Impossible),
    /// A processor cannot be made.
    #[error(transparent)]
    Processor(#[from] BuildError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({key}): {source}")]
    Listen {
        /// The key of the configuration.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The data directory cannot be had.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The ledger cannot be opened, and there are budgets, or it was there before.
    #[error("{0}; it keeps what budgets have spent, and which calls were stopped by hand")]
    Ledger(#[from] LedgerError),
    /// The system gives no thread, or a file of the configuration cannot be used.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl App {
    /// Starts everything.
    ///
    /// # Errors
    /// Something cannot be built, opened or bound; nothing is left running.
    pub fn start(config: Config, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        Self::start_with(config, clock, Vec::new())
    }

    /// The same, with processors besides the configured ones, which go with the first reload that
    /// edits those.
    ///
    /// # Errors
    /// As [`App::start`].
    pub fn start_with(
        config: Config,
        clock: Arc<dyn Clock>,
        further: Vec<Outlet>,
    ) -> Result<Self, StartError> {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).map_err(io::Error::other)?;
        // First of all, so that a second Tollgate hears who has the data, not only that a port is
        // taken.
        let mut kept = keep::open(&config, build::has_budgets(&config), &clock)?;
        let (admin, health) = bind_admin(&config.listen, &mut kept)?;
        let purse = Purse::new(kept.journal(), config.limits.counters);
        let prices = Prices::new(&config, kept.owner.is_some());
        let live = build::live(&config, &purse, None, prices.fetched(&config))?;
        let count = build::workers(&config);
        let entries = Entries::bind(&config.listen, count)?;
        let listening = entries.addresses();
        let surroundings = surroundings(&config, &listening, &registry, &clock);
        let pipeline = start_pipeline(&config, &mut kept, &surroundings, further)?;
        let connector = build::connector(&config.upstream, &surroundings, entries.ours())?;
        let own = [&listening, &admin.addresses, &health.addresses].map(Vec::as_slice);
        let intercept = build::intercept(&config, &connector, own, (&registry, &clock))?;
        let proxy = Proxy::new(live, Arc::clone(&clock), Arc::clone(&pipeline), metrics);
        let proxy = Arc::new(proxy.with_intercept(intercept.clone()));
        kept.hand_over(&proxy).map_err(io::Error::other)?;
        let (phase, told) = watch::channel(Phase::Running);
        let common = Common {
            proxy: Arc::clone(&proxy),
            limits: Arc::new(config.limits.clone()),
            allow: config.listen.allow.clone(),
            connections: Arc::new(Semaphore::new(config.limits.connections)),
            leaving: Leaving::new(told),
        };
        let upstream = || Arc::new(build::upstream(&config.upstream, connector.clone()));
        let upstreams: Vec<_> = std::iter::repeat_with(upstream).take(count).collect();
        let workers = std::iter::zip(entries.sockets, &upstreams)
            .enumerate()
            .map(|(number, (listeners, upstream))| {
                let others = build::to_others(&config.upstream, intercept.as_deref());
                let upstreams = Upstreams::new(upstream, others);
                worker::start(number, common.clone(), upstreams, listeners)
            })
            .collect::<io::Result<_>>()?;
        let control = Arc::new(Control::new(
            &config,
            &kept,
            Arc::clone(&proxy),
            Arc::clone(&clock),
            (
                [&entries.proxy, &admin.addresses, &health.addresses],
                prices,
            ),
        ));
        control.tell_reach(&config);
        let health_address = health.addresses.first().copied();
        let admin_addresses = admin.addresses.clone();
        Gauges {
            proxy: Arc::clone(&proxy),
            pipeline: Arc::clone(&pipeline),
            control: Arc::clone(&control),
            upstreams,
            connections: common.connections,
            accepting: count.saturating_mul(listening.len()),
            limits: config.limits.clone(),
        }
        .register(&registry)
        .map_err(io::Error::other)?;
        let state = control.show(&config, &pipeline, &registry);
        let admin = Admin::start(state, admin.faces(Face::Admin, health))?;
        Ok(Self {
            proxy_addresses: entries.proxy,
            admin_addresses,
            health_address,
            admin,
            control,
            proxy,
            pipeline,
            purse,
            kept,
            clock,
            registry,
            phase,
            workers,
            upstream: upstream(),
            surroundings: Box::new(surroundings),
            config: Box::new(config),
        })
    }

    /// What Prometheus is told.
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Every budget in its present window: the counters that calls have touched since the start.
    pub fn budgets(&self) -> Vec<Budget> {
        let live = self.proxy.live();
        let standings = self.purse.standings(self.clock.wall());
        live.engine().budgets(&standings, &[], self.clock.wall())
    }

    /// What is held for calls under way.
    pub fn holdings(&self) -> Holdings {
        self.proxy.holdings()
    }

    /// Where clients reach the proxy.
    pub fn proxy_address(&self) -> SocketAddr {
        self.proxy_addresses
            .first()
            .copied()
            .unwrap_or(self.config.listen.proxy)
    }

    /// Where people and programs reach the admin listener.
    pub fn admin_address(&self) -> SocketAddr {
        let first = self.admin_addresses.first();
        first.copied().unwrap_or(self.config.listen.admin)
    }

    /// The addresses, in words.
    pub fn listening(&self) -> String {
        let addresses: Vec<String> = self
            .proxy_addresses
            .iter()
            .map(|address| format!("http://{address}"))
            .collect();
        let proxy = addresses.join(" and ");
        format!("{proxy}, admin http://{}", self.admin_address())
    }

    /// What is kept and where, in words.
    pub fn keeping(&self) -> String {
        match &self.kept.owner {
            Some(_) => self.config.store.path.display().to_string(),
            None => "none: nothing outlives this process".to_owned(),
        }
    }

    /// Credits a budget with all that was spent in its present window; `who` is entered with it.
    ///
    /// # Errors
    /// There is no such budget, or the ledger does not take it.
    pub fn reset_budget(&self, name: &str, who: &str) -> Result<(), AdjustError> {
        let live = self.proxy.live();
        live.engine().reset(name, who, self.clock.wall())
    }

    /// Waits until every span of calls that are over was delivered, for five seconds at most; says
    /// whether it was.
    pub async fn flush(&self) -> bool {
        self.pipeline.flush(build::FLUSH).await
    }

    /// The rules in force, in words.
    pub fn limits(&self) -> String {
        let lines = self.config.summary();
        let limits = lines
            .into_iter()
            .filter(|(what, _)| *what == "budget" || *what == "rate limit");
        let limits: Vec<String> = limits.map(|(_, means)| means).collect();
        if limits.is_empty() {
            "none".to_owned()
        } else {
            limits.join("; ")
        }
    }

    /// Keeps house until it is dropped: to be polled beside whatever ends the program.
    pub async fn keep_house(&self) {
        // Nothing waits for a price book that is slow to come.
        tokio::join!(self.keep_tidy(), self.keep_prices(), self.watch_keys());
    }

    #[expect(clippy::infinite_loop, reason = "dropped when the program ends")]
    async fn keep_prices(&self) {
        let mut tick = tokio::time::interval(TIDY);
        loop {
            tick.tick().await;
            self.refresh_prices();
            self.fetch_due_prices().await;
        }
    }

    #[expect(clippy::infinite_loop, reason = "dropped when the program ends")]
    async fn keep_tidy(&self) {
        self.renew_keys().await;
        // Until then a start would find the crashed calls again.
        if self.pipeline.flush(build::FLUSH).await
            && let Some(ledger) = &self.kept.ledger
        {
            ledger.crashed_calls_were_reported();
        }
        let mut tick = tokio::time::interval(TIDY);
        loop {
            tick.tick().await;
            self.proxy.tidy(self.clock.wall());
            self.renew_keys().await;
        }
    }

    /// Renews the credentials that requests are signed with, where it is time.
    pub async fn renew_keys(&self) {
        let live = self.proxy.live();
        keyrings::renew(&live, self.clock.wall(), &self.upstream).await;
    }

    /// Takes no more calls, lets those under way finish until `shutdown.deadline`, cuts the rest,
    /// and delivers the last spans.
    pub async fn stop(self) {
        self.control.leave();
        tokio::time::sleep(self.config.shutdown.delay).await;
        let deadline = self.clock.mono() + self.config.shutdown.deadline;
        self.phase.send_replace(Phase::Draining(deadline));
        let workers = self.workers;
        let joined = tokio::task::spawn_blocking(move || {
            for worker in workers {
                if worker.join().is_err() {
                    tracing::error!("A worker panicked");
                }
            }
        });
        drop(joined.await);
        self.proxy.tell_all_left_out();
        self.pipeline.close(build::FLUSH).await;
        drop(self.admin);
        // The ledger moves what it has into its books before the directory is let go.
        drop(self.kept.ledger);
        drop(self.kept.owner);
    }
}

/// The pipeline, with the spans of crashed calls on their way.
fn start_pipeline(
    config: &Config,
    kept: &mut Kept,
    surroundings: &BuildContext,
    further: Vec<Outlet>,
) -> Result<Arc<Pipeline>, StartError> {
    let clock = &surroundings.clock;
    let mut outlets = config.tracing.build(surroundings)?;
    outlets.extend(further);
    let settled = kept.ledger.as_ref().map(Ledger::writing_down);
    let store = kept.store.take().map(|writer| {
        Outlet::store(writer, Arc::clone(clock), move || {
            if let Some(write_down) = &settled {
                write_down();
            }
        })
    });
    let pipeline = Pipeline::start(Vec::from_iter(store), outlets, Arc::clone(clock))?;
    pipeline.share(&config.tracing);
    pipeline.runs_in(&surroundings.workload);
    for crashed in std::mem::take(&mut kept.crashed) {
        pipeline.offer(crashed::span(crashed));
    }
    Ok(Arc::new(pipeline))
}

/// The sockets of the admin and the health listener. From now on the directory's owner says where it
/// answers.
fn bind_admin(listen: &Listen, kept: &mut Kept) -> Result<(Bound, Bound), StartError> {
    let admin = bind("listen.admin", Listen::with_counterpart(listen.admin), 1)?;
    let health = bind("listen.health", listen.health.into_iter(), 1)?;
    if let Some(owner) = &mut kept.owner {
        owner.answers_at(&admin.address(listen.admin).to_string())?;
    }
    Ok((admin, health))
}

/// Where clients come in.
struct Entries {
    /// Where the proxy listens.
    proxy: Vec<SocketAddr>,
    /// Where redirected connections come in.
    transparent: Vec<SocketAddr>,
    /// Each worker's sockets.
    sockets: Vec<Vec<(Entry, std::net::TcpListener)>>,
}

impl Entries {
    fn bind(listen: &Listen, count: usize) -> Result<Self, StartError> {
        let proxy = Listen::with_counterpart(listen.proxy);
        let proxy = bind("listen.proxy", proxy, count)?;
        let transparent = listen.transparent.into_iter();
        let transparent = transparent.flat_map(Listen::with_counterpart);
        let transparent = bind("listen.transparent", transparent, count)?;
        let both = proxy.sockets.into_iter().zip(transparent.sockets);
        let sockets = both.map(|(calls, redirected)| {
            let redirected = redirected.into_iter().map(|at| (Entry::Transparent, at));
            let calls = calls.into_iter().map(|at| (Entry::Proxy, at));
            calls.chain(redirected).collect()
        });
        Ok(Self {
            sockets: sockets.collect(),
            proxy: proxy.addresses,
            transparent: transparent.addresses,
        })
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        [&*self.proxy, &*self.transparent].concat()
    }

    /// Where our connections are noted, if the system may redirect them to us.
    fn ours(&self) -> Option<Ours> {
        (!self.transparent.is_empty()).then(Ours::default)
    }
}

/// The sockets of one listener.
struct Bound {
    /// The addresses that were bound.
    addresses: Vec<SocketAddr>,
    /// Each worker's sockets.
    sockets: Vec<Vec<std::net::TcpListener>>,
}

impl Bound {
    /// Where it listens first; `wanted` if nowhere.
    fn address(&self, wanted: SocketAddr) -> SocketAddr {
        self.addresses.first().copied().unwrap_or(wanted)
    }

    /// Its sockets with `face`, and those of the health listener.
    fn faces(self, face: Face, health: Self) -> Vec<(Face, std::net::TcpListener)> {
        let of = |bound: Self, face| {
            bound
                .sockets
                .into_iter()
                .flatten()
                .map(move |at| (face, at))
        };
        of(self, face).chain(of(health, Face::Health)).collect()
    }
}

/// Sockets for every worker at `wanted`, of which all but the first are counterparts of it; port 0
/// is any free one, for all of them the same.
fn bind(
    key: &'static str,
    wanted: impl Iterator<Item = SocketAddr>,
    count: usize,
) -> Result<Bound, StartError> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    let mut sockets: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
    for mut address in wanted {
        let first = addresses.first();
        if let Some(first) = first {
            address.set_port(first.port());
        }
        let bound = match listen::bind(address, count) {
            Ok(bound) => bound,
            // Machines without IPv6 have no counterpart.
            Err(error) if first.is_some() && error.kind() != io::ErrorKind::AddrInUse => continue,
            Err(source) => {
                return Err(StartError::Listen {
                    key,
                    address,
                    source,
                });
            },
        };
        for (place, socket) in sockets.iter_mut().zip(bound) {
            address = socket.local_addr()?;
            place.push(socket);
        }
        addresses.push(address);
    }
    Ok(Bound { addresses, sockets })
}
