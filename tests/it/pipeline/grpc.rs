//! Spans over gRPC, to a server that does all that no server should.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io::Read as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use tollgate::{
    base::{
        clock::SystemClock,
        protobuf::{Binary, Field, Form as _},
    },
    call::span::Span,
    pipeline::{BuildContext, Pipeline, Stats},
};

use super::{
    sink::{Clients, Sink, TAKES, TLS, acceptor},
    sinks::{span, with_metrics},
};
use crate::support::{conserved, sandbox::PATIENCE};

/// The spans of each case.
const SPANS: u64 = 4;

/// What a server does with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    Takes,
    /// Takes all but so many spans.
    TakesBut(i64),
    /// Refuses with this status and message.
    Refuses(u8, &'static str),
    /// The same, in the headers, and asks for a wait of a millisecond.
    AsksToWait(u8),
    /// Answers as a web server does.
    IsNoGrpc(u16),
    /// Answers with bytes that are no message.
    Garbage,
    Hangs,
    /// Ends the connection.
    Leaves,
}

#[derive(Clone, Debug)]
struct Seen {
    path: String,
    headers: HeaderMap,
    message: Vec<u8>,
}

pub(super) struct Server {
    pub(super) url: String,
    played: Arc<Played>,
}

struct Played {
    script: Mutex<VecDeque<Does>>,
    then: Does,
    seen: Mutex<Vec<Seen>>,
    connections: Mutex<usize>,
}

impl Server {
    pub(super) async fn start(script: &[Does], then: Does, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let played = Arc::new(Played {
            script: Mutex::new(script.iter().copied().collect()),
            then,
            seen: Mutex::default(),
            connections: Mutex::default(),
        });
        let server = Self {
            url: format!("{scheme}://localhost:{port}"),
            played: Arc::clone(&played),
        };
        tokio::spawn(async move {
            while let Ok((socket, _peer)) = listener.accept().await {
                let (played, tls) = (Arc::clone(&played), tls.clone());
                tokio::spawn(async move {
                    let Some(tls) = tls else {
                        return connection(socket, played).await;
                    };
                    if let Ok(stream) = tls.accept(socket).await {
                        connection(stream, played).await;
                    }
                });
            }
        });
        server
    }

    fn seen(&self) -> Vec<Seen> {
        self.played.seen.lock().unwrap().clone()
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, played: Arc<Played>) {
    *played.connections.lock().unwrap() += 1;
    let left = Arc::new(tokio::sync::Notify::new());
    let (playing, leaving) = (played, Arc::clone(&left));
    let service =
        service_fn(move |request| answer(request, Arc::clone(&playing), Arc::clone(&leaving)));
    let serving =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ended = serving => {},
        () = left.notified() => {},
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

async fn answer(
    request: Request<Incoming>,
    played: Arc<Played>,
    left: Arc<tokio::sync::Notify>,
) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return std::future::pending().await;
    };
    let next = played.script.lock().unwrap().pop_front();
    let does = next.unwrap_or(played.then);
    let seen = Seen {
        path: head.uri.path().to_owned(),
        message: message(&body.to_bytes()),
        headers: head.headers,
    };
    played.seen.lock().unwrap().push(seen);
    Ok(match does {
        Does::Takes => told(0, "", b"\0\0\0\0\0"),
        Does::TakesBut(refused) => {
            let mut form = Binary::default();
            form.message(Field(1, ""), |partial| partial.int(Field(1, ""), refused));
            let answer = form.finish();
            let length = u32::try_from(answer.len()).unwrap().to_be_bytes();
            told(0, "", &[&[0], &length[..], &answer].concat())
        },
        Does::Refuses(status, words) => told(status, words, b""),
        Does::AsksToWait(status) => {
            let mut answer = Response::new(Full::default().boxed());
            let headers = answer.headers_mut();
            headers.insert("content-type", HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", u16::from(status).into());
            let details = HeaderValue::try_from(STANDARD_NO_PAD.encode(wait()));
            headers.insert("grpc-status-details-bin", details.unwrap());
            answer
        },
        Does::IsNoGrpc(status) => {
            let answer = Response::builder().status(status);
            answer.body(Full::from("<html>").boxed()).unwrap()
        },
        Does::Garbage => told(0, "", b"\x05garbage"),
        Does::Hangs => std::future::pending().await,
        Does::Leaves => {
            left.notify_one();
            std::future::pending().await
        },
    })
}

/// An answer with its status behind it.
fn told(status: u8, words: &str, body: &[u8]) -> Answer {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", u16::from(status).into());
    trailers.insert("grpc-message", HeaderValue::from_str(words).unwrap());
    let body = Full::new(Bytes::copy_from_slice(body));
    let body = body.with_trailers(async { Some(Ok(trailers)) });
    let mut answer = Response::new(body.boxed());
    let kind = HeaderValue::from_static("application/grpc+proto");
    answer.headers_mut().insert("content-type", kind);
    answer
}

/// A status that asks for a wait of a millisecond.
fn wait() -> Vec<u8> {
    let mut status = Binary::default();
    status.message(Field(3, ""), |any| {
        any.text(Field(1, ""), "type.googleapis.com/google.rpc.RetryInfo");
        any.message(Field(2, ""), |info| {
            info.message(Field(1, ""), |delay| delay.int(Field(2, ""), 1_000_000));
        });
    });
    status.finish()
}

/// The message of a frame.
fn message(frame: &[u8]) -> Vec<u8> {
    let (head, body) = frame.split_at(5);
    let length = u32::from_be_bytes(head[1..].try_into().unwrap());
    assert_eq!(length as usize, body.len());
    if head[0] == 0 {
        return body.to_vec();
    }
    let mut plain = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(body);
    decoder.read_to_end(&mut plain).unwrap();
    plain
}

/// What becomes of four spans, two at once.
async fn run(url: &str, more: &str, context: &BuildContext) -> Stats {
    let yaml = format!(
        "{{type: otlp, protocol: grpc, endpoint: '{url}', batch_size: 2, max_retries: 4, {more}}}"
    );
    let mut outlets = with_metrics(&yaml, "{rate: 1}", context);
    outlets[0].delivery.backoff = Duration::from_millis(1);
    outlets[0].delivery.recovery_timeout = Duration::from_millis(5);
    let clock = Arc::new(SystemClock);
    let pipeline = Pipeline::start(Vec::new(), outlets, clock).unwrap();
    (1..=SPANS).for_each(|n| pipeline.offer(span(n)));
    assert!(pipeline.flush(PATIENCE).await, "{:?}", pipeline.stats());
    let stats = pipeline.stats()[0].1;
    conserved(&stats);
    assert_eq!((stats.queued, stats.in_hand), (0, 0), "{stats:?}");
    pipeline.close(PATIENCE).await;
    stats
}

async fn case(script: &[Does], then: Does, more: &str) -> (Stats, Server) {
    let server = Server::start(script, then, None).await;
    let context = BuildContext::new(Arc::new(SystemClock));
    let stats = run(&server.url, more, &context).await;
    (stats, server)
}

/// Whether every span is in some message.
fn all_arrived(seen: &[Seen]) -> bool {
    let arrived = |span: Span| {
        let id = span.span_id.bytes();
        let holds = |seen: &Seen| seen.message.windows(8).any(|part| part == id);
        seen.iter().any(holds)
    };
    (1..=SPANS).map(span).all(arrived)
}

#[tokio::test]
async fn calls_are_made_as_grpc_has_it_over_one_connection() {
    for (more, encoding) in [("headers: {x-key: k}", "gzip"), ("compression: none", "")] {
        let (stats, server) = case(&[], Does::Takes, more).await;
        assert_eq!((stats.delivered, stats.retried), (SPANS, 0), "{stats:?}");
        assert_eq!(*server.played.connections.lock().unwrap(), 1);
        let seen = server.seen();
        assert!(all_arrived(&seen) && seen.len() == 2, "{seen:?}");
        let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
        assert_eq!(seen[0].path, path);
        let header = |name: &str| {
            let value = seen[0].headers.get(name);
            value.map_or("", |value| value.to_str().unwrap())
        };
        assert_eq!(header("content-type"), "application/grpc");
        assert_eq!(header("te"), "trailers");
        assert_eq!(header("grpc-timeout"), "120000m");
        assert_eq!(header("grpc-encoding"), encoding);
        assert_eq!(header("x-key"), if encoding.is_empty() { "" } else { "k" });
    }
}

#[tokio::test]
async fn metrics_have_a_service_of_their_own() {
    let (stats, server) = case(&[], Does::Takes, "metrics: true").await;
    assert_eq!(stats.delivered, SPANS);
    let path = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    assert!(server.seen().iter().any(|seen| seen.path == path));
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    for fault in [
        Does::Refuses(14, "shutting down"),
        Does::Refuses(8, "quota"),
        Does::AsksToWait(8),
        Does::IsNoGrpc(503),
        Does::Leaves,
        Does::Hangs,
    ] {
        let (stats, server) = case(&[fault], Does::Takes, "timeout: 500ms").await;
        assert_eq!(stats.delivered, SPANS, "{fault:?}: {stats:?}");
        assert!(stats.retried >= 1, "{fault:?}: {stats:?}");
        assert!(all_arrived(&server.seen()), "{fault:?}");
    }
}

#[tokio::test]
async fn what_will_not_pass_is_given_up() {
    for fault in [
        Does::Refuses(3, "bad span"),
        Does::Refuses(16, "who are you"),
        Does::Refuses(12, ""),
        Does::IsNoGrpc(404),
        Does::Garbage,
    ] {
        let (stats, server) = case(&[], fault, "").await;
        assert_eq!(
            (stats.failed, stats.retried),
            (SPANS, 0),
            "{fault:?}: {stats:?}"
        );
        assert_eq!(server.seen().len(), 2, "{fault:?}");
    }
    let (stats, _) = case(&[], Does::Refuses(14, ""), "").await;
    assert_eq!(stats.failed, SPANS, "{stats:?}");
}

#[tokio::test]
async fn what_is_too_large_comes_in_halves() {
    let large = Does::Refuses(8, "received message larger than max");
    let (stats, server) = case(&[large], Does::Takes, "").await;
    assert_eq!((stats.delivered, stats.halved), (SPANS, 1), "{stats:?}");
    assert!(all_arrived(&server.seen()));
}

#[tokio::test]
async fn spans_that_were_refused_of_a_batch_are_counted() {
    let (stats, _) = case(&[Does::TakesBut(1)], Does::Takes, "").await;
    assert_eq!((stats.delivered, stats.failed), (SPANS - 1, 1), "{stats:?}");
    let (stats, _) = case(&[Does::TakesBut(99)], Does::Takes, "").await;
    assert_eq!((stats.delivered, stats.failed), (SPANS - 2, 2), "{stats:?}");
}

#[tokio::test]
async fn a_server_that_speaks_no_http_2_gets_nothing() {
    let sink = Sink::start(&[], TAKES).await;
    let context = BuildContext::new(Arc::new(SystemClock));
    let stats = run(&sink.url, "timeout: 500ms", &context).await;
    assert_eq!(stats.failed, SPANS, "{stats:?}");
}

#[tokio::test]
async fn certificates_are_shown_and_asked_for() {
    let context = BuildContext::new(Arc::new(SystemClock));
    let own = "client_cert: 'TLS/client.pem', client_key: 'TLS/client.key'";
    for (own, delivered) in [(own, SPANS), ("", 0)] {
        let tls = acceptor(Clients::Known);
        let mut config = rustls::ServerConfig::clone(tls.config());
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tls = TlsAcceptor::from(Arc::new(config));
        let server = Server::start(&[], Does::Takes, Some(tls)).await;
        let tls = format!("tls: {{ca_file: 'TLS/ca.pem', {own}}}").replace("TLS", TLS);
        let stats = run(&server.url, &tls, &context).await;
        assert_eq!(stats.delivered, delivered, "{stats:?}");
    }
}
