//! A connection that the system redirected to us: where it was to go tells the system, what is meant
//! by it tell its first bytes.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use tokio::net::TcpStream;

use super::{
    super::{authenticate::Caller, serve::Client},
    At, Denied, Fate, Intercept, Opened, Unmetered,
    meant::Meant,
    seen::Outcome,
    tunnel::Tunnel,
};
use crate::{
    call::refusal::{Reason, Refusal},
    net::{begun::Begun, listen, opening::Opening, ours::CameBack},
};

/// What refuses our own connections.
const REDIRECT: &str = "listen.transparent";

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
    let mut socket = Begun::new(socket, Bytes::new());
    let opening = tokio::select! {
        opening = tokio::time::timeout(patience, socket.opening()) => opening,
        _deadline = client.leaving.begins() => return,
    };
    let (mut opening, mut is_silent) = match opening {
        Ok(Ok(Some(opening))) => (opening, false),
        Err(_elapsed) if socket.settle().is_ok() => {
            let begun = socket.begun();
            (Opening::unread(begun), begun.is_empty())
        },
        // It is gone.
        _ => return,
    };
    loop {
        let meant = Meant::by(&opening, &At::new(&to.ip().to_string(), to.port()));
        let fate = meant.fate(&intercept, &client);
        let passed = match fate {
            _ if opening == Opening::Veiled => Err(intercept.denied(&meant.at, &Denied::Veiled)),
            Fate::Open => {
                let opened = Opened::new(meant.at, Caller::default());
                let opened = opened.redirected(intercept.connector.ours(), (peer, to));
                return intercept.open(client, socket, opened).await;
            },
            Fate::Pass(_) | Fate::Deny(_) if is_ours(&intercept, (peer, to)) => Err(looped()),
            Fate::Pass(why) => {
                let way = (meant.at, to, why);
                pass(&intercept, &client, way, (socket, is_silent)).await
            },
            Fate::Deny(why) => Err(intercept.denied(&meant.at, &why)),
        };
        match passed {
            Ok(None) => return,
            Ok(Some((begun, told))) => (socket, opening, is_silent) = (begun, told, false),
            Err(refusal) => {
                // The client is told by the end of its connection alone.
                client.worker.proxy.connection_refused(&refusal);
                return;
            },
        }
    }
}

/// Whether a connection from `peer` that was to go to `to` is one of ours.
fn is_ours(intercept: &Intercept, (peer, to): (SocketAddr, SocketAddr)) -> bool {
    let ours = intercept.connector.ours();
    ours.is_some_and(|ours| ours.has(peer, to))
}

/// The refusal of what comes from ourselves.
pub(super) fn looped() -> Refusal {
    let message = format!("This comes from Tollgate itself: {CameBack}.");
    Refusal::new(Reason::Denied, REDIRECT, message)
}

/// Passes a connection to its end. A client that has said nothing yet may wait for the other side to
/// begin, or say late whom it means: then that is returned.
async fn pass(
    intercept: &Arc<Intercept>,
    client: &Client,
    (at, to, why): (At, SocketAddr, Unmetered),
    (mut socket, is_silent): (Begun, bool),
) -> Result<Option<(Begun, Opening)>, Refusal> {
    let is_providers = client.worker.proxy.live.load().is_providers(at.host());
    let tunnel = Tunnel::straight(intercept, (at, to), (why, is_providers)).await?;
    let said = if is_silent {
        tunnel.greeting(&mut socket, client).await
    } else {
        Ok(Opening::Other)
    };
    if let Ok(Opening::Other) = said {
        tunnel.pass(socket, client).await;
        return Ok(None);
    }
    drop(tunnel);
    // Else it is gone.
    Ok(said.ok().map(|opening| (socket, opening)))
}
