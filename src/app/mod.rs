//! The composition root: builds every part and gives each the handles it needs. Read
//! [`App::start`] to see the whole program.

mod build;
mod clients;
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
mod sockets;
mod span_gauges;
mod worker;

use std::{io, net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};

use prometheus::Registry;
use tokio::sync::watch;

use crate::{
    admin::{Admin, Face},
    base::clock::Clock,
    config::Config,
    ledger::{ClaimError, Ledger, LedgerError},
    net::{systemd::Handed, upstream::Upstream},
    pipeline::{BuildContext, BuildError, Outlet, Pipeline},
    policy::{AdjustError, Budget, Purse},
    proxy::{Holdings, Leaving, Metrics, Phase, Proxy},
};
use clients::Clients;
use control::Control;
use gauges::Gauges;
use keep::Kept;
use prices::Prices;
use sockets::Entries;
use worker::{Common, Upstreams};

pub use build::{Impossible, authority, lend_prices, price_trouble, pricing, surroundings};
pub use clients::Dismissed;

/// How often idle state is let go of.
const TIDY: Duration = Duration::from_mins(1);

/// A running Tollgate.
pub struct App {
    /// Where the proxy listens.
    pub proxy_addresses: Vec<SocketAddr>,
    /// Where redirected connections come in, if they may.
    pub transparent_addresses: Vec<SocketAddr>,
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
    clients: Arc<Clients>,
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
    /// systemd hands over sockets that the configuration has no use for.
    #[error(
        "systemd hands over sockets at {left}, where nothing listens: `listen` has {listening}; give \
         ListenStream= of the socket unit these addresses"
    )]
    Handed {
        /// Where those sockets are.
        left: String,
        /// What the configuration has.
        listening: String,
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
        Self::start_on(config, clock, Vec::new(), Handed::default())
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
        Self::start_on(config, clock, further, Handed::default())
    }

    /// The same, on sockets that were handed over; all of them must be of use.
    ///
    /// # Errors
    /// As [`App::start`].
    pub fn start_on(
        config: Config,
        clock: Arc<dyn Clock>,
        further: Vec<Outlet>,
        mut handed: Handed,
    ) -> Result<Self, StartError> {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).map_err(io::Error::other)?;
        // First of all, so that a second Tollgate hears who has the data, not only that a port is
        // taken.
        let mut kept = keep::open(&config, build::has_budgets(&config), &clock)?;
        let (admin, health) = sockets::admin(&config.listen, &mut kept, &mut handed)?;
        let purse = Purse::new(kept.journal(), config.limits.counters);
        let prices = Prices::new(&config, kept.owner.is_some());
        let live = build::live(&config, &purse, None, prices.fetched(&config))?;
        let count = build::workers(&config);
        let entries = Entries::bind(&config.listen, count, &mut handed)?;
        let listening = entries.addresses();
        sockets::all_are_used(&handed, &listening, &admin.addresses, &health.addresses)?;
        let surroundings = surroundings(&config, &listening, &registry, &clock);
        let pipeline = start_pipeline(&config, &mut kept, &surroundings, further)?;
        let own = [&listening, &admin.addresses, &health.addresses].map(Vec::as_slice);
        let ours = (entries.ours(), own);
        let connector = build::connector(&config.upstream, &surroundings, ours)?;
        let intercept = build::intercept(&config, &connector, own, (&registry, &clock))?;
        let proxy = Proxy::new(live, Arc::clone(&clock), Arc::clone(&pipeline), metrics);
        let proxy = Arc::new(proxy.with_intercept(intercept.clone()));
        kept.hand_over(&proxy).map_err(io::Error::other)?;
        let (phase, told) = watch::channel(Phase::Running);
        let sockets = count.saturating_mul(listening.len());
        let clients = Arc::new(Clients::new(config.limits.connections, sockets));
        let common = Common::new(&config, &proxy, &clients, Leaving::new(told));
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
        let answering = [&entries.proxy, &admin.addresses, &health.addresses].map(Vec::as_slice);
        let control = Arc::new(Control::new(
            &config,
            &kept,
            Arc::clone(&proxy),
            Arc::clone(&clock),
            (answering, prices),
        ));
        control.tell_reach(&config);
        let health_address = health.addresses.first().copied();
        let admin_addresses = admin.addresses.clone();
        Gauges {
            proxy: Arc::clone(&proxy),
            pipeline: Arc::clone(&pipeline),
            control: Arc::clone(&control),
            upstreams,
            clients: Arc::clone(&clients),
            limits: config.limits.clone(),
        }
        .register(&registry)?;
        let state = control.show(&config, &pipeline, &registry);
        let admin = Admin::start(state, admin.faces(Face::Admin, health))?;
        Ok(Self {
            proxy_addresses: entries.proxy,
            transparent_addresses: entries.transparent,
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
            clients,
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
        let redirected = self.transparent_addresses.first();
        let redirected = redirected.map(|address| format!(", redirected {address}"));
        let redirected = redirected.unwrap_or_default();
        format!("{proxy}{redirected}, admin http://{}", self.admin_address())
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

    /// What becomes of connections of clients that were not pointed here, in words, if they are taken.
    pub fn interception(&self) -> Option<String> {
        self.proxy.intercept().map(|intercept| intercept.means())
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
            self.tend_authority();
            self.renew_keys().await;
        }
    }

    /// Takes a certificate authority that has been put in the place of ours, and tells when it ends.
    pub fn tend_authority(&self) {
        if let Some(intercept) = self.proxy.intercept() {
            intercept.tend(self.clock.wall());
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
