//! A Tollgate of its own with one limit and nothing else, before a mock: what a limit is moved on.

use std::{
    error::Error,
    fs,
    future::ready,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::{
    super::scratch,
    caller::{Caller, Way},
};
use crate::{
    app::{self, App},
    base::{clock::SystemClock, units::show_duration},
    call::outcome::{Decision, End},
    config::Config,
    guard, ingest,
    mock::{Mock, Options},
    net::config::{Egress, Listen, Upstream},
    pipeline::{self, BoxFuture, DeliverError, Outlet, Processor, Record},
    policy::{self, Budget, RateLimit, RuleConfig, Unbounded},
    provider::{ProviderConfig, Providers},
    proxy::config::{Identity, Limits, Shutdown},
    store,
};

/// How long a call to the mock may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why something could not be tried, which says nothing of limits.
pub(super) type Trouble = Box<dyn Error + Send + Sync>;

/// The limit that is moved, alone.
#[derive(Clone, Debug)]
pub(super) enum Limit {
    /// Of a budget, in one unit.
    Budget(RuleConfig),
    /// Of a rate, in one unit.
    Rate(RateLimit),
    /// Of single calls, in one unit.
    Call(guard::Call),
}

/// A running Tollgate and its mock.
pub(super) struct Trial {
    pub(super) app: App,
    caller: Caller,
    /// How each call was decided and ended, in the order in which they ended.
    seen: Arc<Mutex<Vec<(Decision, End)>>>,
    directory: PathBuf,
    _mock: Mock,
}

/// What a call got.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The rule that refused it.
    pub(super) blocked_by: Option<String>,
}

impl Trial {
    /// Starts them. To be called in a runtime.
    ///
    /// # Errors
    /// Something cannot be had: a directory, a port, a thread.
    pub(super) fn start(config: &Config, limit: Limit, caller: Caller) -> Result<Self, Trouble> {
        let mock = Mock::start(Options::default())?;
        let directory = scratch::directory("doctor")?;
        let alone = alone(config, limit, &caller, (&directory, &mock.url()));
        let seen = Arc::default();
        let watcher = Outlet::local("doctor", Watcher(Arc::clone(&seen)));
        let started = app::lend_prices(config, &directory)
            .map_err(Trouble::from)
            .and_then(|()| {
                Ok(App::start_with(
                    alone,
                    Arc::new(SystemClock),
                    vec![watcher],
                )?)
            });
        let app = started.inspect_err(|_| drop(fs::remove_dir_all(&directory)))?;
        Ok(Self {
            app,
            caller,
            seen,
            directory,
            _mock: mock,
        })
    }

    /// Who calls.
    pub(super) const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Makes a call; `mock` says how it is answered.
    ///
    /// # Errors
    /// There is no answer.
    pub(super) async fn call(&self, way: Way, mock: &str) -> Result<Answer, Trouble> {
        self.calling(way, mock)?.await
    }

    /// A call that is made when it is awaited, whatever becomes of the trial meanwhile.
    ///
    /// # Errors
    /// A label cannot stand in a header.
    pub(super) fn calling(
        &self,
        way: Way,
        mock: &str,
    ) -> Result<impl Future<Output = Result<Answer, Trouble>> + Send + use<>, Trouble> {
        let (path, body) = self.caller.request(way);
        let address = self.app.proxy_address();
        let mut request = Request::post(path)
            .header("host", address.to_string())
            .header("authorization", "Bearer tollgate-doctor")
            .header("x-mock", mock)
            .header(CONTENT_TYPE, "application/json");
        for (name, value) in &self.caller.labels {
            request = request.header(*name, value);
        }
        let body = Full::new(Bytes::from(body.to_string()));
        let request = request.body(body)?;
        let answered = async move { timeout(PATIENCE, exchange(address, request)).await };
        let late = || format!("no answer within {}", show_duration(PATIENCE));
        Ok(async move { answered.await.map_err(|_elapsed| late())? })
    }

    /// The budget as it stands, once nothing is reserved any more; none before its first call.
    pub(super) async fn standing(&self) -> Option<Budget> {
        self.app.flush().await;
        self.app.budgets().into_iter().next()
    }

    /// Whether a call was decided or ended so.
    pub(super) fn saw(&self, so: impl Fn(Decision, End) -> bool) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().any(|(decision, end)| so(*decision, *end))
    }

    /// Ends them, and leaves nothing behind.
    pub(super) async fn end(self) {
        self.app.stop().await;
        drop(fs::remove_dir_all(self.directory));
    }
}

/// Sends a request on a connection of its own, and reads its answer to the end.
async fn exchange(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Answer, Trouble> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Moved in, so that the connection ends with the exchange.
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        // A stream that is cut may break off.
        drop(body.collect().await);
        Ok::<_, hyper::Error>(head)
    };
    let (head, _end) = tokio::join!(exchange, connection);
    let head = head?;
    let blocked_by = head.headers.get("x-tollgate-blocked-by");
    let blocked_by = blocked_by.and_then(|it| it.to_str().ok());
    Ok(Answer {
        status: head.status,
        blocked_by: blocked_by.map(str::to_owned),
    })
}

/// The configuration with that limit alone, all providers at the mock, and everything that is kept in a
/// directory of its own. Whoever calls is believed: who may call is no matter of limits.
fn alone(
    config: &Config,
    limit: Limit,
    caller: &Caller,
    (directory, mock): (&PathBuf, &str),
) -> Config {
    let mut alone = config.clone();
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    alone.listen = Listen {
        proxy: local,
        admin: local,
        ..Listen::default()
    };
    alone.upstream = Upstream {
        proxy: Egress::None,
        ..Upstream::default()
    };
    alone.limits = Limits::default();
    alone.shutdown = Shutdown {
        deadline: Duration::ZERO,
        ..Shutdown::default()
    };
    alone.identity = Identity {
        pod: caller.workload.pod.clone(),
        namespace: caller.workload.namespace.clone(),
        service_account: caller.workload.service_account.clone(),
        ..Identity::default()
    };
    alone.store = store::Config {
        path: directory.clone(),
        ..store::Config::default()
    };
    alone.ledger.path = directory.join("journal");
    alone.guards = guard::Config::default();
    alone.ingest = ingest::Config::default();
    alone.tracing = pipeline::Config {
        processors: Vec::new(),
        resource_limits: pipeline::ResourceLimits {
            max_memory: None,
            max_cpu: "1".parse().ok(),
        },
        ..pipeline::Config::default()
    };
    let budgets = &mut alone.budgets;
    (budgets.daily, budgets.monthly, budgets.per_user) = (None, None, None);
    budgets.max_wait = Duration::ZERO;
    // What is allowed to pass a limit says nothing of whether the limit holds.
    if budgets.unbounded == Unbounded::Allow {
        budgets.unbounded = Unbounded::Cap;
    }
    // A cutoff is a part of the limit, which is moved whole.
    budgets.thresholds = policy::Config::default().thresholds;
    budgets.rules.clear();
    alone.rate_limits.clear();
    match limit {
        Limit::Budget(rule) => budgets.rules.push(rule),
        Limit::Rate(mut rate) => {
            rate.max_wait = Duration::ZERO;
            alone.rate_limits.push(rate);
        },
        Limit::Call(call) => alone.guards.call = call,
    }
    let known = Providers::build(&config.providers);
    for provider in known.iter().flat_map(Providers::iter) {
        let known = alone.providers.providers.entry(provider.name.to_string());
        let known = known.or_default();
        *known = ProviderConfig {
            base_url: Some(mock.to_owned()),
            api_key: None,
            api_key_header: None,
            sign: None,
            ..std::mem::take(known)
        };
    }
    alone
}

/// Keeps how calls were decided and how they ended.
struct Watcher(Arc<Mutex<Vec<(Decision, End)>>>);

impl Processor for Watcher {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.extend(batch.iter().map(|it| (it.span.decision, it.span.end)));
        drop(seen);
        Box::pin(ready(Ok(())))
    }
}
