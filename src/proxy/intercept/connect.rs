//! `CONNECT`: a client asks for a connection to a place, and says over it what it likes.

use std::{fmt::Display, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Version,
    header::{CONTENT_LENGTH, PROXY_AUTHENTICATE, TRANSFER_ENCODING, WWW_AUTHENTICATE},
    request::Parts,
};
use hyper::{
    body::Incoming,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{
    super::{
        Proxy, authenticate::Caller, body::ResponseBody, reply, serve::Client, upgrade::GoesOn,
    },
    At, Denied, Fate, Intercept, Opened, Unmetered,
    meant::Meant,
    seen::Outcome,
    tunnel::Tunnel,
};
use crate::{
    base::{clock::Timestamp, id::RequestId},
    call::refusal::{Reason, Refusal},
    net::{
        begun::Begun,
        hops::{Hops, Looped},
        opening::Opening,
        patience::Patient,
    },
};

/// What refuses when nothing is intercepted.
const ENABLED: &str = "intercept.enabled";
/// What refuses hosts that are no provider's.
const OTHERS: &str = "intercept.others";

/// What refuses connections that go round in circles.
const EGRESS: &str = "upstream.proxy";
/// What refuses handshakes that do not tell for whom they are.
const HANDSHAKE: &str = "intercept.handshake_timeout";
/// What refuses hosts that our authority may not vouch for.
const AUTHORITY: &str = "intercept.ca_dir";

/// Where a client is led.
enum Way {
    /// Into Tollgate.
    Open(Opened),
    /// Through it, unless they say that they mean a provider.
    Pass(Box<Tunnel>, Otherwise),
}

/// What is known of a client that turns out to mean a provider.
struct Otherwise {
    caller: Caller,
    hops: Hops,
}

/// Answers a request for a connection. With 200 its answer holds what then goes on.
pub(in crate::proxy) async fn connect(
    client: Arc<Client>,
    mut request: Request<Incoming>,
) -> Response<ResponseBody> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, _no_body) = request.into_parts();
    let proxy = &client.worker.proxy;
    let led = match &proxy.intercept {
        Some(intercept) => lead(&client, intercept, &parts)
            .await
            .map(|way| (Arc::clone(intercept), way)),
        None => Err(off()),
    };
    match led {
        Ok((intercept, way)) => {
            let mut response = Response::new(ResponseBody::ours(Bytes::new()));
            let goes_on = go(Arc::clone(&client), intercept, upgrade, way);
            response.extensions_mut().insert(GoesOn::new(goes_on));
            response
        },
        Err(refusal) => proxy.refuse_connection(&refusal),
    }
}

fn off() -> Refusal {
    let message = "Tollgate makes no connections for clients here. Set intercept.enabled in its \
                   configuration, or point the client at Tollgate by its base URL.";
    Refusal::new(Reason::Denied, ENABLED, message)
}

/// Finds out where to, and makes the connection if it is to pass unread.
async fn lead(client: &Client, intercept: &Arc<Intercept>, parts: &Parts) -> Result<Way, Refusal> {
    let proxy = &client.worker.proxy;
    let at = asked(parts)?;
    let hops = intercept.came_through(&parts.headers, &at)?;
    let live = proxy.live.load_full();
    let fate = intercept.fate(&live, &at, client.peer, proxy.clock.mono());
    let caller = live.door.caller(parts, client.peer, proxy.clock.wall());
    let caller = match caller {
        Ok(caller) => caller,
        // Each call that is made below shows its own.
        Err(stranger) if stranger.shows_none() && fate == Fate::Open => Caller::default(),
        Err(stranger) => return Err(proxy.turn_away(stranger, client.peer)),
    };
    match fate {
        Fate::Open => Ok(Way::Open(Opened::new(at, caller).through(hops))),
        Fate::Deny(why) => Err(intercept.denied(&at, &why)),
        Fate::Pass(why) => {
            let is_providers = live.is_providers(at.host());
            let tunnel = Tunnel::make(intercept, at, (why, is_providers), &hops).await?;
            let otherwise = Otherwise { caller, hops };
            Ok(Way::Pass(Box::new(tunnel), otherwise))
        },
    }
}

/// The place that is asked for.
fn asked(parts: &Parts) -> Result<At, Refusal> {
    let wrong = |message: &str| Err(Refusal::new(Reason::BadRequest, "", message.to_owned()));
    if parts.version >= Version::HTTP_2 {
        return wrong("Tollgate takes CONNECT in HTTP/1.1 only, as proxies usually do.");
    }
    let framed = [CONTENT_LENGTH, TRANSFER_ENCODING];
    if framed.iter().any(|name| parts.headers.contains_key(name)) {
        return wrong("A request with the method CONNECT has no body: send no content-length.");
    }
    let authority = parts
        .uri
        .authority()
        .filter(|_| parts.uri.scheme().is_none());
    match authority.and_then(|authority| At::of(authority, None)) {
        Some(at) => Ok(at),
        None => wrong("The target of CONNECT is a host and a port, like api.openai.com:443."),
    }
}

/// What goes on over the connection, once it is there.
async fn go(client: Arc<Client>, intercept: Arc<Intercept>, upgrade: OnUpgrade, way: Way) {
    let Ok(upgraded) = upgrade.await else {
        return;
    };
    let Some(socket) = taken_back(upgraded) else {
        tracing::debug!("A client's connection cannot be taken over: its first bytes came singly");
        return;
    };
    match way {
        Way::Open(opened) => intercept.open(Client::clone(&client), socket, opened).await,
        Way::Pass(tunnel, otherwise) => {
            pass(client, intercept, socket, (*tunnel, otherwise)).await;
        },
    }
}

/// Passes a connection, unless its client says over it that it means a provider: it may have asked
/// for an address, or for a host that leads to one.
async fn pass(
    client: Arc<Client>,
    intercept: Arc<Intercept>,
    mut socket: Begun,
    (mut tunnel, otherwise): (Tunnel, Otherwise),
) {
    let meant = match tunnel.greeting(&mut socket, &client).await {
        Ok(Opening::Veiled) => {
            let refusal = intercept.denied(tunnel.at(), &Denied::Veiled);
            client.worker.proxy.connection_refused(&refusal);
            return;
        },
        Ok(opening) => Meant::by(&opening, tunnel.at()),
        // It is gone.
        Err(_broken) => return,
    };
    if meant.at == *tunnel.at() {
        return tunnel.pass(socket, &client).await;
    }
    match meant.fate(&intercept, &client) {
        Fate::Open => {
            drop(tunnel);
            let opened = Opened::new(meant.at, otherwise.caller).through(otherwise.hops);
            return intercept.open(Client::clone(&client), socket, opened).await;
        },
        Fate::Deny(why) => {
            // It has been told that there is a connection: it is told by its end.
            let refusal = intercept.denied(&meant.at, &why);
            client.worker.proxy.connection_refused(&refusal);
            return;
        },
        Fate::Pass(why) => {
            let live = client.worker.proxy.live.load();
            if live.is_providers(meant.at.host()) {
                tunnel.means(meant.at, why);
            }
        },
    }
    tunnel.pass(socket, &client).await;
}

/// The client's socket, with what it has said over it already.
fn taken_back(upgraded: Upgraded) -> Option<Begun> {
    let parts = upgraded.downcast::<TokioIo<Patient<TcpStream>>>().ok()?;
    let socket = parts.io.into_inner().into_inner();
    Some(Begun::new(socket, parts.read_buf))
}

/// The refusal of what goes round in circles on its way to a place.
pub(in crate::proxy) fn goes_round(to: &dyn Display, looped: Looped) -> Refusal {
    let message = format!("Tollgate makes no connection to {to}: {looped}.");
    Refusal::new(Reason::Denied, EGRESS, message)
}

impl Intercept {
    /// The proxies that a request for a place has come through, and ourselves.
    ///
    /// # Errors
    /// We are among them, or they are too many.
    pub(super) fn came_through(&self, head: &HeaderMap, to: &At) -> Result<Hops, Refusal> {
        self.connector.me().after(head).map_err(|looped| {
            self.seen.became(Outcome::Denied);
            goes_round(to, looped)
        })
    }

    /// The refusal of a connection, which it counts.
    pub(super) fn denied(&self, at: &At, why: &Denied) -> Refusal {
        self.seen.became(Outcome::Denied);
        let (by, problem) = match why {
            Denied::Other => {
                let problem = "it is no host of a known provider. Add it under `providers:`, or set \
                               intercept.others to `tunnel`";
                (OTHERS, problem.to_owned())
            },
            Denied::Protocol => {
                self.seen.failed(at.host(), true, Unmetered::Protocol);
                let problem = "what the client would speak with this provider is not HTTP, and \
                               cannot be metered. To let it pass, set intercept.others to `tunnel`";
                (OTHERS, problem.to_owned())
            },
            Denied::Veiled => {
                self.seen.failed(at.host(), false, Unmetered::Handshake);
                let problem = "its TLS handshake does not tell for whom it is: it is too long, \
                               malformed, or was not whole within intercept.handshake_timeout";
                (HANDSHAKE, problem.to_owned())
            },
            Denied::Unvouched(none) => {
                self.seen.failed(at.host(), true, Unmetered::Unvouched);
                (AUTHORITY, none.to_string())
            },
        };
        let message = format!("Tollgate makes no connection to {at}: {problem}.");
        Refusal::new(Reason::Denied, by, message)
    }
}

impl Proxy {
    /// Counts and tells that a client gets no connection.
    pub(super) fn connection_refused(&self, refusal: &Refusal) -> (Timestamp, RequestId) {
        let now = self.clock.wall();
        let request_id = RequestId::new(now);
        self.metrics.turned_away(refusal);
        self.tell_refused("A connection was refused", refusal, request_id, None);
        (now, request_id)
    }

    /// The answer to a client that gets no connection.
    pub(super) fn refuse_connection(&self, refusal: &Refusal) -> Response<ResponseBody> {
        let (now, request_id) = self.connection_refused(refusal);
        let mut response = reply::turned_away(refusal, now, request_id);
        // Whoever is asked for a key here is asked by a proxy.
        if response.status() == StatusCode::UNAUTHORIZED {
            *response.status_mut() = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
            response.headers_mut().remove(WWW_AUTHENTICATE);
            let way = HeaderValue::from_static("Basic realm=\"tollgate\"");
            response.headers_mut().insert(PROXY_AUTHENTICATE, way);
        }
        response.map(ResponseBody::ours)
    }
}
