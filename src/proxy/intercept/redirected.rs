//! A connection that the system redirected to us: where it was to go tells the system, what is meant
//! by it tell its first bytes.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use tokio::net::TcpStream;

use super::{
    super::{authenticate::Caller, serve::Client},
    At, Fate, Intercept, Opened,
    seen::{Outcome, Unmetered},
    tunnel::Tunnel,
};
use crate::{
    call::refusal::{Reason, Refusal},
    net::{begun::Begun, listen, opening::Opening, peek::peek},
};

/// What refuses our own connections.
const REDIRECT: &str = "listen.transparent";

/// The protocols that are read below TLS.
const READ: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Serves a redirected connection until it ends.
pub async fn redirected(mut client: Client, socket: TcpStream) {
    let Some(intercept) = client.worker.proxy.intercept.clone() else {
        return;
    };
    let (Some(to), Ok(peer)) = (listen::original_destination(&socket), socket.peer_addr()) else {
        tracing::debug!("A connection to `listen.transparent` that was not redirected was closed");
        intercept.seen.became(Outcome::Denied);
        return;
    };
    let patience = intercept.config.handshake_timeout;
    let opening = tokio::select! {
        opening = tokio::time::timeout(patience, peek(&socket)) => opening,
        _deadline = client.leaving.begins() => return,
    };
    let opening = match opening {
        Ok(Ok(Some(opening))) => opening,
        // It waits for the other side to begin.
        Err(_elapsed) => Opening::Other,
        // It is gone.
        Ok(Ok(None) | Err(_)) => return,
    };
    let meant = Meant::by(&opening, to);
    let fate = meant.fate(&intercept, &client);
    let socket = Begun::new(socket, Bytes::new());
    let refused = match fate {
        Fate::Open => {
            let opened = Opened::new(meant.at, Caller::default());
            let opened = opened.redirected(intercept.connector.ours(), peer);
            return intercept.open(client, socket, opened).await;
        },
        Fate::Pass(_) if is_ours(&intercept, peer) => Err(looped()),
        Fate::Pass(why) => pass(&intercept, &client, (&meant.at, to, why), socket).await,
        Fate::Deny => Err(intercept.denied(&meant.at)),
    };
    if let Err(refusal) = refused {
        // The client is told by the end of its connection alone.
        client.worker.proxy.connection_refused(&refusal);
    }
}

/// Whether a connection from `peer` is one of ours.
fn is_ours(intercept: &Intercept, peer: SocketAddr) -> bool {
    let ours = intercept.connector.ours();
    ours.is_some_and(|ours| ours.has(peer))
}

/// The refusal of what comes from ourselves.
pub(super) fn looped() -> Refusal {
    let message = "This comes from Tollgate itself: the system redirects Tollgate's own connections \
                   to it. Name the user that it runs as: tollgate redirect apply --uid USER.";
    Refusal::new(Reason::Denied, REDIRECT, message)
}

async fn pass(
    intercept: &Arc<Intercept>,
    client: &Client,
    (at, to, why): (&At, SocketAddr, Unmetered),
    socket: Begun,
) -> Result<(), Refusal> {
    let is_providers = client.worker.proxy.live.load().is_providers(at.host());
    let tunnel = Tunnel::straight(intercept, (at, to), (why, is_providers));
    tunnel.await?.pass(socket, client).await;
    Ok(())
}

/// What is meant by a connection.
#[derive(Debug, PartialEq, Eq)]
struct Meant {
    /// The place that it is for: the host that it names, else the address that it was to go to.
    at: At,
    /// Whether what is spoken over it can be read.
    is_readable: bool,
}

impl Meant {
    /// What is meant by a connection to `to` that begins so.
    fn by(opening: &Opening, to: SocketAddr) -> Self {
        let named = |host: &str| At::new(host, to.port());
        let address = || named(&to.ip().to_string());
        match opening {
            Opening::Tls(hello) => Self {
                at: hello.name.as_deref().map_or_else(address, named),
                is_readable: hello.protocols.is_empty()
                    || READ.iter().any(|protocol| hello.offers(protocol)),
            },
            Opening::Http(host) => {
                // Another port than that of the connection names another place.
                let agrees = host.port.is_none_or(|port| port == to.port());
                let at = agrees.then(|| named(&host.name));
                Self {
                    at: at.unwrap_or_else(address),
                    is_readable: agrees,
                }
            },
            Opening::Other => Self {
                at: address(),
                is_readable: false,
            },
        }
    }

    fn fate(&self, intercept: &Intercept, client: &Client) -> Fate {
        let proxy = &client.worker.proxy;
        let live = proxy.live.load();
        match intercept.fate(&live, &self.at, client.peer, proxy.clock.mono()) {
            Fate::Open if !self.is_readable => Fate::Pass(Unmetered::Protocol),
            fate => fate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::opening::{Hello, Host};

    fn hello(name: Option<&str>, protocols: &[&str]) -> Opening {
        Opening::Tls(Hello {
            name: name.map(Box::from),
            protocols: protocols
                .iter()
                .map(|name| name.as_bytes().into())
                .collect(),
        })
    }

    #[test]
    fn a_connection_is_for_the_host_that_it_names_at_the_port_that_it_went_to() {
        let host = |name: &str, port| {
            let name = Box::from(name);
            Opening::Http(Host { name, port })
        };
        for (opening, expected, is_readable) in [
            (hello(Some("api.x"), &["h2"]), "api.x:8443", true),
            (hello(Some("api.x"), &[]), "api.x:8443", true),
            (
                hello(Some("api.x"), &["grpc-exp", "http/1.1"]),
                "api.x:8443",
                true,
            ),
            (hello(Some("api.x"), &["imap"]), "api.x:8443", false),
            (hello(None, &["h2"]), "192.0.2.7:8443", true),
            (host("api.x", None), "api.x:8443", true),
            (host("api.x", Some(8443)), "api.x:8443", true),
            (host("api.x", Some(443)), "192.0.2.7:8443", false),
            (Opening::Other, "192.0.2.7:8443", false),
        ] {
            let meant = Meant::by(&opening, "192.0.2.7:8443".parse().unwrap());
            let found = (meant.at.to_string(), meant.is_readable);
            assert_eq!(found, (expected.to_owned(), is_readable), "{opening:?}");
        }
        let meant = Meant::by(&Opening::Other, "[2001:db8::7]:443".parse().unwrap());
        assert_eq!(meant.at.to_string(), "[2001:db8::7]:443");
    }
}
