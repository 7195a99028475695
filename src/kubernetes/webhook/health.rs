//! Probes and metrics of the webhook, on a port without TLS.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::TextEncoder;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::{
    Stage,
    certificates::{Shown, Trouble},
    metrics::Metrics,
};
use crate::{base::clock::Clock, net::listen};

/// Connections open at a time; further ones wait to be accepted.
const MOST_CONNECTIONS: usize = 64;

/// How long the head of a request may take, and how long a connection may be idle.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bounds of a request's head: bytes and fields.
const HEAD_BYTES: usize = 16 << 10;
const HEAD_FIELDS: usize = 64;

/// What probes are told.
pub(super) struct Health {
    pub(super) stage: watch::Receiver<Stage>,
    pub(super) shown: Arc<Shown>,
    pub(super) trouble: Arc<Trouble>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
}

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, health: Arc<Health>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_ended) = connections.join_next() => {},
            (socket, _) = listen::accept(&listener, |error| {
                tracing::warn!(%error, "The listener of probes pauses");
            }), if connections.len() < MOST_CONNECTIONS => {
                connections.spawn(connection(socket, Arc::clone(&health)));
            },
        }
    }
}

async fn connection(socket: TcpStream, health: Arc<Health>) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = health.answer(request.method(), request.uri().path());
        async { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_headers(HEAD_FIELDS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "A connection of a probe ended");
    }
}

impl Health {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let (status, body) = match path {
            "/healthz" | "/readyz" | "/metrics" if method != Method::GET => {
                let said = format!("{path} takes GET\n");
                (StatusCode::METHOD_NOT_ALLOWED, said)
            },
            "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => match self.unready() {
                None => (StatusCode::OK, "ok\n".to_owned()),
                Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            },
            "/metrics" => {
                let families = self.metrics.registry.gather();
                match TextEncoder::new().encode_to_string(&families) {
                    Ok(text) => (StatusCode::OK, text),
                    Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
                }
            },
            _ => {
                let said = "there are /healthz, /readyz and /metrics here\n";
                (StatusCode::NOT_FOUND, said.to_owned())
            },
        };
        let mut answer = Response::new(Full::new(Bytes::from(body)));
        *answer.status_mut() = status;
        let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        answer.headers_mut().insert(CONTENT_TYPE, text);
        answer
    }

    /// Why reviews should not be sent here now.
    fn unready(&self) -> Option<String> {
        if *self.stage.borrow() != Stage::Serving {
            return Some("the webhook is leaving".to_owned());
        }
        let said = self.trouble.said();
        let Some(ends) = self.shown.ends() else {
            return Some(said.unwrap_or_else(|| "there is no certificate yet".to_owned()));
        };
        if ends <= self.clock.wall() {
            return Some(format!("the certificate that is shown ended at {ends}"));
        }
        // Something that fails later is no reason, as long as what is shown is good.
        said.filter(|_| !self.trouble.was_well())
    }
}
