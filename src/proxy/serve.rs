//! One connection of a client: HTTP/1.1 or HTTP/2, one service call a request.

use std::{convert::Infallible, fmt::Display, net::IpAddr, pin::Pin, sync::Arc};

use http::{Method, Request, Response, Version};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{
    Worker, body::ResponseBody, config::Limits, intercept, leaving::Leaving, upgrade::GoesOn,
};
use crate::net::patience::{InRequest, Patient};

/// How long the head of a request may take.
pub(super) const HEAD_PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// Streams of one HTTP/2 connection at once.
const MAX_STREAMS: u32 = 256;

/// Who has connected, and what serving them takes.
#[derive(Clone)]
pub struct Client {
    /// The worker that accepted the connection.
    pub worker: Arc<Worker>,
    /// Where it comes from.
    pub peer: Option<IpAddr>,
    /// What is held at once.
    pub limits: Arc<Limits>,
    /// When Tollgate is about to leave, a connection takes no further call (`connection: close`,
    /// GOAWAY) and ends after the present ones.
    pub leaving: Leaving,
}

/// Which versions of HTTP a connection may be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, or HTTP/1.1, as its first bytes will say.
    Either,
}

/// Serves a connection until it ends.
pub async fn serve(mut client: Client, socket: TcpStream) {
    let begins = tokio::time::timeout(HEAD_PATIENCE, may_be_http2(&socket));
    let speaks = tokio::select! {
        begins = begins => match begins {
            Ok(Ok(true)) => Speaks::Either,
            Ok(Ok(false)) => Speaks::Http1,
            // It is gone, or says nothing.
            _ => return,
        },
        _deadline = client.leaving.begins() => return,
    };
    let caller = Arc::new(client.clone());
    let answer = move |request: Request<Incoming>| {
        let client = Arc::clone(&caller);
        async move {
            // On the heap, as these are rare, and every call would have room for them.
            if request.method() == Method::CONNECT {
                return Box::pin(intercept::connect(client, request)).await;
            }
            if intercept::is_for_others(&client, &request) {
                return Box::pin(intercept::pass_on(client, request)).await;
            }
            client.worker.call(request, client.peer).await
        }
    };
    carry(client, socket, speaks, answer).await;
}

/// Carries the requests of a connection to `answer` until it ends, and then whatever has taken it
/// over.
pub(super) async fn carry<S, A, R>(client: Client, socket: S, speaks: Speaks, answer: A)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>) -> R + Send + 'static,
    R: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    let in_request = InRequest::default();
    let socket = TokioIo::new(Patient::new(socket, HEAD_PATIENCE, in_request.clone()));
    let goes_on = Arc::new(Mutex::new(None));
    let after = Arc::clone(&goes_on);
    let service = service_fn(move |request: Request<Incoming>| {
        in_request.begin();
        let behind = Arc::clone(&after);
        let in_request = in_request.clone();
        // Frames of HTTP/2 come at any time, so that nothing can be told from silence.
        let one_at_a_time = request.version() < Version::HTTP_2;
        // On the heap, since a connection keeps room for what it awaits for as long as it is open, also
        // while an answer streams.
        let answered = Box::pin(answer(request));
        async move {
            let mut response = answered.await;
            let upgraded = response.extensions_mut().remove::<GoesOn>();
            let is_upgraded = upgraded.is_some();
            if is_upgraded {
                *behind.lock() = upgraded;
            }
            // What comes after an upgrade is no head, however long it takes.
            let response = if one_at_a_time && !is_upgraded {
                response.map(|body| body.then_end(in_request))
            } else {
                response
            };
            Ok::<Response<ResponseBody>, Infallible>(response)
        }
    });
    let Client {
        limits,
        mut leaving,
        ..
    } = client;
    let draining = async move { _ = leaving.begins().await };
    let header_bytes = usize::try_from(limits.header_bytes.as_u64()).unwrap_or(usize::MAX);
    let buffer = header_bytes.max(MIN_BUFFER);
    if speaks == Speaks::Http1 {
        let mut builder = http1::Builder::new();
        builder
            .max_headers(limits.headers)
            .max_buf_size(buffer)
            // The provider's own date passes.
            .auto_date_header(false);
        drive(
            Box::pin(builder.serve_connection(socket, service).with_upgrades()),
            draining,
            http1::UpgradeableConnection::graceful_shutdown,
        )
        .await;
        return go_on(&goes_on).await;
    }
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .max_headers(limits.headers)
        .max_buf_size(buffer)
        .auto_date_header(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
        .auto_date_header(false);
    drive(
        Box::pin(builder.serve_connection_with_upgrades(socket, service)),
        draining,
        auto::UpgradeableConnection::graceful_shutdown,
    )
    .await;
    go_on(&goes_on).await;
}

/// What has taken the connection over, if anything has, goes on until it has ended.
async fn go_on(upgraded: &Mutex<Option<GoesOn>>) {
    let upgraded = upgraded.lock().take();
    if let Some(joined) = upgraded.and_then(|upgraded| upgraded.take()) {
        joined.await;
    }
}

/// Whether the first bytes of a connection can be those of HTTP/2. To look costs a system call a
/// connection; to let hyper find out costs it a second buffer, for as long as it is open, and
/// passes every later byte through one more layer.
async fn may_be_http2(socket: &TcpStream) -> std::io::Result<bool> {
    const PREFACE: &[u8] = b"PRI ";
    let mut first = [0; PREFACE.len()];
    let length = socket.peek(&mut first).await?;
    let first = first.get(..length).unwrap_or_default();
    // What is cut short within it is left to hyper, which waits for more.
    Ok(PREFACE.starts_with(first))
}

/// Serves until the connection has ended. It is on the heap, as it is large, and each function that
/// passes a future on has room for it twice.
async fn drive<C, E: Display>(
    mut connection: Pin<Box<C>>,
    draining: impl Future<Output = ()>,
    leave: fn(Pin<&mut C>),
) where
    C: Future<Output = Result<(), E>>,
{
    tokio::pin!(draining);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = &mut draining => {
            leave(connection.as_mut());
            connection.await
        },
    };
    if let Err(error) = ended {
        // A client that leaves or speaks badly is no trouble of ours: each of its calls has its
        // span.
        tracing::debug!(%error, "A client's connection ended");
    }
}

/// Hyper's least.
const MIN_BUFFER: usize = 8192;
