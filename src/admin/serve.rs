//! Connections of the admin and health listeners: accepted, bounded, served.

use std::{
    convert::Infallible,
    net::{IpAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use http::{Request, request::Parts};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    Face, State,
    answer::{Answer, Problem},
    door::{Door, Token},
    probes,
    route::Route,
};
use crate::net::listen;

/// Connections open at a time on one listener; further ones wait to be accepted.
const MOST_CONNECTIONS: usize = 64;

/// How long the head of a request may take, and how long a connection may be idle.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

/// Bounds of a request's head: bytes and fields.
const HEAD_BYTES: usize = 16 << 10;
const HEAD_FIELDS: usize = 64;

/// Serves on all sockets, until it is dropped.
pub(super) async fn serve(state: Arc<State>, sockets: Vec<(Face, StdListener)>) {
    let mut accepting = JoinSet::new();
    for (face, socket) in sockets {
        match TcpListener::from_std(socket) {
            Ok(listener) => {
                accepting.spawn(accept(Arc::clone(&state), face, listener));
            },
            Err(error) => tracing::error!(%error, "The admin listener cannot listen"),
        }
    }
    accepting.join_all().await;
}

async fn accept(state: Arc<State>, face: Face, listener: TcpListener) {
    // A socket that cannot say where it is counts as reachable from everywhere.
    let loopback = listener
        .local_addr()
        .is_ok_and(|address| is_loopback(address.ip()));
    let desk = Arc::new(Desk {
        state,
        face,
        loopback,
    });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_ended) = connections.join_next() => {},
            (socket, _) = listen::accept(&listener, |error| {
                tracing::warn!(%error, "The admin listener pauses");
            }), if connections.len() < MOST_CONNECTIONS => {
                connections.spawn(connection(Arc::clone(&desk), socket));
            },
        }
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

async fn connection(desk: Arc<Desk>, socket: TcpStream) {
    let service = service_fn(|request: Request<Incoming>| async {
        let (parts, _body) = request.into_parts();
        let answer = desk.answer(&parts);
        Ok::<_, Infallible>(answer.unwrap_or_else(Into::into))
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_headers(HEAD_FIELDS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "A connection to the admin listener ended");
    }
}

/// Where requests of one listener are answered.
struct Desk {
    state: Arc<State>,
    face: Face,
    /// It is on loopback.
    loopback: bool,
}

impl Desk {
    fn answer(&self, request: &Parts) -> Result<Answer, Problem> {
        if self.face == Face::Admin {
            self.door().admit(request)?;
        }
        match Route::of(self.face, &request.method, request.uri.path())? {
            Route::Healthz => Ok(probes::healthz()),
            Route::Readyz => Ok(probes::readyz(&self.state)),
            Route::Metrics => probes::metrics(&self.state),
        }
    }

    fn door(&self) -> Door<'_> {
        Door {
            hosts: &self.state.hosts,
            token: if self.loopback {
                Token::NotAsked
            } else {
                Token::Asked(self.state.token.as_ref())
            },
        }
    }
}
