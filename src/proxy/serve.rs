//! One connection of a client: HTTP/1.1 or HTTP/2 with prior knowledge, one service call a request.

use std::{convert::Infallible, fmt::Display, pin::Pin, sync::Arc};

use http::{Request, Response, Version};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::{Worker, body::ResponseBody, config::Limits, upgrade::GoesOn};
use crate::net::patience::{InRequest, Patient};

/// How long the head of a request may take.
const HEAD_PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// Streams of one HTTP/2 connection at once.
const MAX_STREAMS: u32 = 256;

/// Serves a connection until it ends. `draining` resolves when Tollgate is about to leave: the
/// connection then takes no further call (`connection: close`, GOAWAY) and ends after the present
/// ones.
pub async fn serve(
    worker: Arc<Worker>,
    socket: TcpStream,
    limits: &Limits,
    draining: impl Future<Output = ()>,
) {
    tokio::pin!(draining);
    let begins = tokio::time::timeout(HEAD_PATIENCE, may_be_http2(&socket));
    let may_be_http2 = tokio::select! {
        begins = begins => match begins {
            Ok(Ok(begins)) => begins,
            // It is gone, or says nothing.
            _ => return,
        },
        () = &mut draining => return,
    };
    let peer = socket.peer_addr().map(|peer| peer.ip()).ok();
    let in_request = InRequest::default();
    let socket = TokioIo::new(Patient::new(socket, HEAD_PATIENCE, in_request.clone()));
    let goes_on = Arc::new(Mutex::new(None));
    let after = Arc::clone(&goes_on);
    let service = service_fn(move |request: Request<Incoming>| {
        let worker = Arc::clone(&worker);
        let behind = Arc::clone(&after);
        let in_request = in_request.clone();
        async move {
            in_request.begin();
            // Frames of HTTP/2 come at any time, so that nothing can be told from silence.
            let one_at_a_time = request.version() < Version::HTTP_2;
            let mut response = worker.call(request, peer).await;
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
    let header_bytes = usize::try_from(limits.header_bytes.as_u64()).unwrap_or(usize::MAX);
    let buffer = header_bytes.max(MIN_BUFFER);
    if !may_be_http2 {
        let mut builder = http1::Builder::new();
        builder
            .max_headers(limits.headers)
            .max_buf_size(buffer)
            // The provider's own date passes.
            .auto_date_header(false);
        let connection = builder.serve_connection(socket, service).with_upgrades();
        drive(connection, draining, |connection| {
            connection.graceful_shutdown();
        })
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
    let connection = builder.serve_connection_with_upgrades(socket, service);
    drive(connection, draining, |connection| {
        connection.graceful_shutdown();
    })
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

/// Serves until the connection has ended.
async fn drive<C, E: Display>(
    connection: C,
    draining: impl Future<Output = ()>,
    leave: fn(Pin<&mut C>),
) where
    C: Future<Output = Result<(), E>>,
{
    tokio::pin!(connection, draining);
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
