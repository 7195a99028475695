//! An upstream that a test plays by hand: it sees every byte of a request and writes every byte of
//! the answer.

use std::net::SocketAddr;

use tokio::{net::TcpListener, time::timeout};

use super::{client::Line, sandbox::PATIENCE};

/// A listening socket.
pub(crate) struct Upstream {
    listener: TcpListener,
}

impl Upstream {
    pub(crate) async fn bind() -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// As the base URL of a provider: a line for the section `providers`.
    pub(crate) fn as_provider(&self, name: &str) -> String {
        format!(
            "providers: {{{name}: {{base_url: \"http://{}\"}}}}",
            self.addr()
        )
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> Line {
        let accepted = timeout(PATIENCE, self.listener.accept()).await;
        let (socket, _peer) = accepted.expect("nobody connects").unwrap();
        Line::of(socket)
    }
}
