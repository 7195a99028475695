//! Workers: one thread, one runtime and one set of sockets each, so that a call is carried from its
//! first byte to its last without a hop to another core.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{net::TcpListener, task::JoinSet, time::Instant as Deadline};

use super::clients::Clients;
use crate::{
    base::clock::{Clock as _, SystemClock},
    config::Config,
    net::{Cidr, listen, upstream::Upstream},
    proxy::{self, Client, Leaving, Proxy, Worker, config::Limits},
};

/// How often a worker closes connections that nobody uses.
const TICK: Duration = Duration::from_secs(1);

/// How long the last words of calls that are cut may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Calls to Tollgate.
    Proxy,
    /// Connections to others, which the system redirects.
    Transparent,
}

/// What every worker gets.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) proxy: Arc<Proxy>,
    pub(super) limits: Arc<Limits>,
    /// Who may come from beyond loopback; empty: whoever can reach the socket.
    pub(super) allow: Vec<Cidr>,
    pub(super) clients: Arc<Clients>,
    pub(super) leaving: Leaving,
}

impl Common {
    pub(super) fn new(
        config: &Config,
        proxy: &Arc<Proxy>,
        clients: &Arc<Clients>,
        leaving: Leaving,
    ) -> Self {
        Self {
            proxy: Arc::clone(proxy),
            limits: Arc::new(config.limits.clone()),
            allow: config.listen.allow.clone(),
            clients: Arc::clone(clients),
            leaving,
        }
    }
}

/// A worker's connections.
#[derive(Clone)]
pub(super) struct Upstreams {
    /// To providers.
    providers: Arc<Upstream>,
    /// To hosts that are no provider's, if clients may be led there.
    others: Option<Arc<Upstream>>,
}

impl Upstreams {
    /// Those of one worker.
    pub(super) fn new(providers: &Arc<Upstream>, others: Option<Arc<Upstream>>) -> Self {
        Self {
            providers: Arc::clone(providers),
            others,
        }
    }
}

/// Starts a worker that accepts on `listeners`.
///
/// # Errors
/// The system gives no thread or no event queue.
pub(super) fn start(
    number: usize,
    common: Common,
    upstreams: Upstreams,
    listeners: Vec<(Entry, StdListener)>,
) -> io::Result<thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || runtime.block_on(work(common, upstreams, listeners)))
}

async fn work(common: Common, upstreams: Upstreams, listeners: Vec<(Entry, StdListener)>) {
    let worker = Arc::new(Worker {
        proxy: Arc::clone(&common.proxy),
        upstream: upstreams.providers,
        others: upstreams.others,
    });
    let mut accepting = JoinSet::new();
    for (entry, listener) in listeners {
        match TcpListener::from_std(listener) {
            Ok(listener) => {
                accepting.spawn(accept(entry, listener, common.clone(), Arc::clone(&worker)));
            },
            Err(error) => tracing::error!(%error, "A worker cannot listen"),
        }
    }
    let sweeping = async {
        let mut tick = tokio::time::interval(TICK);
        loop {
            let now = tick.tick().await;
            worker.upstream.sweep(now);
            if let Some(others) = &worker.others {
                others.sweep(now);
            }
        }
    };
    tokio::select! {
        // Each ends when the connections that it accepted have ended.
        _ended = accepting.join_all() => {},
        () = sweeping => {},
    }
}

/// Accepts until the process is about to leave, then waits for the connections to end.
async fn accept(entry: Entry, listener: TcpListener, common: Common, worker: Arc<Worker>) {
    let mut connections = JoinSet::new();
    let mut leaving = common.leaving.clone();
    let deadline = loop {
        tokio::select! {
            biased;
            deadline = leaving.begins() => break deadline,
            Some(_ended) = connections.join_next() => {},
            (permit, socket, peer) = next(&listener, &common) => {
                if !is_allowed(peer, &common.allow) {
                    tracing::debug!(%peer, "A connection from outside `listen.allow` was closed");
                    continue;
                }
                let client = Client {
                    worker: Arc::clone(&worker),
                    peer: Some(peer.ip()),
                    limits: Arc::clone(&common.limits),
                    leaving: common.leaving.clone(),
                };
                connections.spawn(async move {
                    match entry {
                        Entry::Proxy => proxy::serve(client, socket).await,
                        // On the heap, as every connection would have room for it.
                        Entry::Transparent => {
                            Box::pin(proxy::intercept::redirected(client, socket)).await;
                        },
                    }
                    drop(permit);
                });
            },
        }
    };
    drop(listener);
    if all_ended(&mut connections, deadline).await {
        return;
    }
    worker.proxy.leave();
    if !all_ended(&mut connections, SystemClock.mono() + LAST_WORDS).await {
        // What is left breaks off: each call settles as its body is dropped.
        connections.shutdown().await;
    }
}

/// Waits for connections to end, for so long; says whether all have.
async fn all_ended(connections: &mut JoinSet<()>, deadline: Deadline) -> bool {
    let ended = async { while connections.join_next().await.is_some() {} };
    tokio::time::timeout_at(deadline, ended).await.is_ok()
}

/// The next connection, with its place among `limits.connections`.
async fn next(
    listener: &TcpListener,
    common: &Common,
) -> (
    Option<tokio::sync::OwnedSemaphorePermit>,
    tokio::net::TcpStream,
    SocketAddr,
) {
    let permit = common.clients.place().await;
    let (socket, peer) = listen::accept(listener, |error| {
        tracing::warn!(%error, "Accepting pauses");
    })
    .await;
    common.clients.comes();
    (permit, socket, peer)
}

fn is_allowed(peer: SocketAddr, allow: &[Cidr]) -> bool {
    peer.ip().to_canonical().is_loopback()
        || allow.is_empty()
        || allow.iter().any(|network| network.contains(peer.ip()))
}
