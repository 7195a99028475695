//! The webhook: the API server asks it about each pod that is to be made, and it injects the sidecar.
//!
//! `serve` takes reviews over TLS, `bodies` within bounds, `review` reads and answers them, `judge`
//! asks `known` what the API server (`api`) tells of the pod's namespace and `ConfigMap`, and injection
//! itself what becomes of the pod. `certificates` sees to TLS, `health` to probes and metrics.

mod api;
mod bodies;
mod certificates;
mod health;
mod judge;
mod known;
mod metrics;
mod review;
mod serve;

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener as StdListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustls::server::ResolvesServerCert;
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::timeout};
use tokio_rustls::TlsAcceptor;

use self::{
    api::Api,
    certificates::{Keeper, Shown, Trouble},
    health::Health,
    judge::Judge,
    known::Known,
    metrics::Metrics,
    serve::Desk,
};
pub use self::{
    certificates::{Place, Source},
    known::Terms,
};
use super::Defaults;
use crate::{base::clock::Clock, net::listen};

/// What the webhook is to do, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where reviews are taken, over TLS.
    pub listen: SocketAddr,
    /// Where probes and metrics are, without TLS.
    pub health: SocketAddr,
    /// Where the certificate comes from.
    pub certificate: Source,
    /// The API server: `https://HOST:PORT`.
    pub api: String,
    /// The directory of the service account: `token`, `ca.crt`.
    pub account: PathBuf,
    /// What pods get that do not say otherwise.
    pub defaults: Defaults,
    /// How long what the API server says holds.
    pub terms: Terms,
    /// How often the certificate is looked at.
    pub look: Duration,
    /// How long connections are still taken after `/readyz` has said that we leave: the time in
    /// which everybody else learns that.
    pub drain: Duration,
    /// How long requests that have begun may take after that.
    pub finish: Duration,
}

/// Why there is no webhook.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// It cannot listen.
    #[error("Cannot listen on {address}: {source}. Choose another address with --{option}.")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// By which option that was said.
        option: &'static str,
        /// Why.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The metrics cannot be.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Reviews are still taken, but none should be sent.
    Unready,
    /// What has begun is finished.
    Leaving,
}

/// A webhook that listens.
pub struct Webhook {
    reviews: StdListener,
    probes: StdListener,
    tls: TlsAcceptor,
    desk: Arc<Desk>,
    health: Arc<Health>,
    keeper: Keeper,
    stage: watch::Sender<Stage>,
    options: Options,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Webhook");
        shown
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Webhook {
    /// Listens. Nothing is asked of the API server yet.
    ///
    /// # Errors
    /// An address is taken.
    pub fn bind(options: Options, clock: Arc<dyn Clock>) -> Result<Self, WebhookError> {
        let bind = |address, option| {
            let bound = listen::bind(address, 1).map(|mut sockets| sockets.pop());
            let bound = bound.and_then(|socket| socket.ok_or_else(|| io::ErrorKind::Other.into()));
            bound.map_err(|source| WebhookError::Listen {
                address,
                option,
                source,
            })
        };
        let reviews = bind(options.listen, "listen")?;
        let probes = bind(options.health, "health")?;
        let metrics = Arc::new(Metrics::new()?);
        let api = Arc::new(Api::new(
            &options.api,
            &options.account,
            Arc::clone(&metrics),
        ));
        let shown = Arc::new(Shown::new(Arc::clone(&metrics)));
        let certificate: Arc<dyn ResolvesServerCert> = Arc::<Shown>::clone(&shown);
        let trouble = Arc::new(Trouble::default());
        let keeper = Keeper::new(
            &options.certificate,
            (&api, &clock),
            (&shown, &trouble),
            &metrics,
        );
        let known = Known::new(api, Arc::clone(&clock), options.terms, Arc::clone(&metrics));
        let judge = Judge::new(known, options.defaults.clone());
        let (stage, watched) = watch::channel(Stage::Serving);
        Ok(Self {
            reviews,
            probes,
            tls: serve::tls(certificate)?,
            desk: Arc::new(Desk::new(judge, Arc::clone(&clock), Arc::clone(&metrics))),
            health: Arc::new(Health {
                stage: watched,
                shown,
                trouble,
                clock,
                metrics,
            }),
            keeper,
            stage,
            options,
        })
    }

    /// Where reviews are taken.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.reviews.local_addr()
    }

    /// Where probes are.
    ///
    /// # Errors
    /// What the system says.
    pub fn health_address(&self) -> io::Result<SocketAddr> {
        self.probes.local_addr()
    }

    /// Serves until `stop`, and then finishes what has begun.
    ///
    /// # Errors
    /// A socket cannot be used.
    pub async fn run(self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let Options {
            look,
            drain,
            finish,
            ..
        } = self.options;
        let reviews = TcpListener::from_std(self.reviews)?;
        let probes = TcpListener::from_std(self.probes)?;
        let mut beside = JoinSet::new();
        beside.spawn(self.keeper.keep(look));
        beside.spawn(health::serve(probes, self.health));
        let mut serving = JoinSet::new();
        serving.spawn(serve::serve(
            reviews,
            self.tls,
            self.desk,
            self.stage.subscribe(),
        ));
        stop.await;
        tracing::info!("Leaving: /readyz says so, and reviews are taken for a while yet");
        self.stage.send_replace(Stage::Unready);
        tokio::time::sleep(drain).await;
        self.stage.send_replace(Stage::Leaving);
        let finished = timeout(finish, serving.join_next()).await;
        if finished.is_err() {
            tracing::warn!("Reviews that take too long are left unanswered");
        }
        Ok(())
    }
}
