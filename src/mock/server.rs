//! Connections: accepted, bounded, served, ended together.

use std::{
    convert::Infallible,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    handle::{State, handle},
    line::{Io, Line},
    socket::GoesOn,
};

/// Connections open at a time; more wait in the listener's backlog.
const MOST_CONNECTIONS: usize = 50_000;

/// Serves until it is dropped; its connections end with it.
pub(super) async fn serve(listener: TcpListener, state: Arc<State>) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => {
                match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(connection(stream, Arc::clone(&state)));
                    },
                    // Out of descriptors, most likely: some connection has to end first.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {},
        }
    }
}

/// Serves one connection to its end. How it ends is the client's business: tests that care look at
/// the recorder.
async fn connection(stream: TcpStream, state: Arc<State>) {
    stream.set_nodelay(true).ok();
    let number = state.connections.fetch_add(1, Ordering::AcqRel) + 1;
    let line = Line::new(!state.options.fast);
    let io = TokioIo::new(Io::new(stream, Arc::clone(&line)));
    let goes_on = Arc::new(Mutex::new(None::<GoesOn>));
    let behind = Arc::clone(&goes_on);
    let service = service_fn(move |request| {
        let (state, line) = (Arc::clone(&state), Arc::clone(&line));
        let behind = Arc::clone(&behind);
        async move {
            let mut response = handle(state, line, number, request).await?;
            if let Some(socket) = response.extensions_mut().remove() {
                *behind.lock() = Some(socket);
            }
            Ok::<_, io::Error>(response)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().max_headers(1_000).header_read_timeout(None);
    let connection = builder.serve_connection_with_upgrades(io, service);
    connection.await.ok();
    let socket = goes_on.lock().take();
    if let Some(socket) = socket {
        socket.go_on().await;
    }
}
