//! Connections of the API server: accepted, bounded, served over TLS, ended together.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
    request::Parts,
};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::{ServerConfig, crypto::ring, server::ResolvesServerCert};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{
    Stage,
    bodies::{self, Bodies},
    judge::{Judge, Unknown},
    metrics::{Metrics, Outcome},
    review::{self, Problem, Review},
};
use crate::{
    base::{clock::Clock, units::parse_duration},
    net::listen,
};

/// The path of reviews.
const PATH: &str = "/mutate";

/// Connections open at a time; further ones wait to be accepted.
const MOST_CONNECTIONS: usize = 1_024;

/// How long a TLS handshake may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection may be idle: longer than clients keep them, so that they do not send a
/// review into one that is closing.
const IDLE: Duration = Duration::from_mins(3);

/// How long the API server waits if it does not say: its own default.
const USUAL: Duration = Duration::from_secs(10);

/// How much earlier than the API server stops to wait it has an answer.
const EARLIER: Duration = Duration::from_millis(500);

/// Bounds of a request's head: bytes and fields.
const HEAD_BYTES: usize = 16 << 10;
const HEAD_FIELDS: usize = 64;

type Answer = Response<Full<Bytes>>;

/// Where reviews are answered.
pub(super) struct Desk {
    pub(super) judge: Judge,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    bodies: Bodies,
}

/// The server's side of TLS 1.2 and 1.3.
///
/// # Errors
/// What rustls says.
pub(super) fn tls(certificate: Arc<dyn ResolvesServerCert>) -> Result<TlsAcceptor, rustls::Error> {
    let mut tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

/// Serves until it is told to leave; then every request that has begun is answered.
pub(super) async fn serve(
    listener: TcpListener,
    tls: TlsAcceptor,
    desk: Arc<Desk>,
    mut stage: watch::Receiver<Stage>,
) {
    let mut connections = JoinSet::new();
    let leaves = stage.clone();
    let leaving = left(&mut stage);
    tokio::pin!(leaving);
    loop {
        desk.metrics.connected(connections.len());
        tokio::select! {
            () = &mut leaving => break,
            Some(_ended) = connections.join_next() => {},
            (socket, _) = listen::accept(&listener, |error| {
                tracing::warn!(%error, "The webhook's listener pauses");
            }), if connections.len() < MOST_CONNECTIONS => {
                let connection = connection(socket, tls.clone(), Arc::clone(&desk), leaves.clone());
                connections.spawn(connection);
            },
        }
    }
    drop(listener);
    connections.join_all().await;
}

async fn connection(
    socket: TcpStream,
    tls: TlsAcceptor,
    desk: Arc<Desk>,
    mut stage: watch::Receiver<Stage>,
) {
    let accepted = timeout(PATIENCE, tls.accept(socket)).await;
    let accepted = accepted.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
    let socket = match accepted {
        Ok(socket) => socket,
        Err(error) => {
            tracing::debug!(%error, "A TLS handshake with the webhook failed");
            return;
        },
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_headers(HEAD_FIELDS)
        .max_buf_size(HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PATIENCE)
        .keep_alive_timeout(PATIENCE)
        .max_header_list_size(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX));
    let served = builder.serve_connection(TokioIo::new(socket), service);
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = left(&mut stage) => {
            served.as_mut().graceful_shutdown();
            served.await
        },
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "A connection to the webhook ended");
    }
}

/// Waits until what has begun is all that is to be done.
async fn left(stage: &mut watch::Receiver<Stage>) {
    // Whoever says so may be gone, which means the same.
    let _told = stage.wait_for(|stage| *stage == Stage::Leaving).await;
}

impl Desk {
    pub(super) const fn new(judge: Judge, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self {
            judge,
            clock,
            metrics,
            bodies: Bodies::new(),
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let begun = self.clock.mono();
        let took = || self.clock.mono().duration_since(begun);
        match self.review(request).await {
            Ok((outcome, answer)) => {
                self.metrics.reviewed(outcome, took());
                answer
            },
            Err(problem) => {
                tracing::warn!(
                    status = problem.status.as_u16(),
                    message = problem.message,
                    "What the webhook was sent is no review that it can answer"
                );
                let outcome = match problem.status {
                    StatusCode::SERVICE_UNAVAILABLE => Outcome::Unavailable,
                    _ => Outcome::Malformed,
                };
                self.metrics.reviewed(outcome, took());
                let allow = problem.status == StatusCode::METHOD_NOT_ALLOWED;
                let mut answer = json(problem.status, problem.body(None));
                if allow {
                    let post = HeaderValue::from_static("POST");
                    answer.headers_mut().insert(ALLOW, post);
                }
                answer
            },
        }
    }

    async fn review(&self, request: Request<Incoming>) -> Result<(Outcome, Answer), Problem> {
        let (head, body) = request.into_parts();
        check(&head)?;
        let within = within(&head);
        // Its places are held until there is an answer.
        let (body, _held) = self.bodies.read(body).await?;
        let review = Review::read(&body)?;
        drop(body);
        let uid = review.uid;
        match self.judge.decide(review.subject, within).await {
            Ok(judgement) => {
                let body = review::answer(&uid, &judgement.verdict, &judgement.warnings);
                Ok((judgement.outcome, json(StatusCode::OK, body)))
            },
            // Only an answer that is an error has `failurePolicy` decide.
            Err(Unknown(why)) => {
                let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, why);
                let answer = json(problem.status, problem.body(Some(&uid)));
                Ok((Outcome::Unavailable, answer))
            },
        }
    }
}

/// Whether that can be a review by its head.
fn check(head: &Parts) -> Result<(), Problem> {
    let path = head.uri.path();
    if path != PATH {
        let path: String = path.chars().take(80).collect();
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!(
                "there is no {path} here: reviews go to {PATH}, and probes to the port of --health"
            ),
        ));
    }
    if head.method != Method::POST {
        return Err(Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{PATH} takes POST, not {}", head.method),
        ));
    }
    let text = |name| {
        let value = head.headers.get(name);
        value.map(|value| value.to_str().unwrap_or("?"))
    };
    let media_type = text(CONTENT_TYPE).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let media_type: String = media_type.chars().take(80).collect();
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("the content type is `{media_type}`; expected application/json"),
        ));
    }
    if text(CONTENT_ENCODING).is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body has a content-encoding; expected plain JSON",
        ));
    }
    match text(CONTENT_LENGTH).map_or(Ok(0), str::parse) {
        Ok(length) if length <= bodies::LONGEST => Ok(()),
        _ => Err(bodies::too_long()),
    }
}

/// How long an answer may take: the API server says in the query how long it waits.
fn within(head: &Parts) -> Duration {
    let query = head.uri.query().unwrap_or_default();
    let said = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("timeout="));
    let said = said.and_then(|said| parse_duration(said).ok());
    // 30 s is the most that a configuration may say.
    let said = said.unwrap_or(USUAL).min(Duration::from_secs(30));
    said.saturating_sub(EARLIER).max(said / 2)
}

fn json(status: StatusCode, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(target: &str) -> Parts {
        let request = Request::post(target).header(CONTENT_TYPE, "application/json; charset=utf-8");
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn an_answer_comes_before_the_api_server_stops_to_wait() {
        for (target, expected) in [
            ("/mutate", 9_500),
            ("/mutate?timeout=5s", 4_500),
            ("/mutate?a=b&timeout=30s", 29_500),
            ("/mutate?timeout=600s", 29_500),
            ("/mutate?timeout=0.5s", 250),
            ("/mutate?timeout=nonsense", 9_500),
        ] {
            assert_eq!(
                within(&head(target)),
                Duration::from_millis(expected),
                "{target}"
            );
        }
    }

    #[test]
    fn a_review_that_is_announced_as_too_long_is_not_read() {
        assert_eq!(check(&head("/mutate")), Ok(()));
        let mut long = head("/mutate");
        for (length, expected) in [
            ("12", true),
            ("99999999", false),
            ("999999999999999999999", false),
        ] {
            long.headers
                .insert(CONTENT_LENGTH, HeaderValue::from_static(length));
            assert_eq!(check(&long).is_ok(), expected, "{length}");
        }
    }
}
