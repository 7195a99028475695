//! `CONNECT`: a client asks for a connection to a place, and says over it what it likes.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode, Version,
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
    At, Fate, Intercept, Opened,
    seen::Outcome,
    tunnel::Tunnel,
};
use crate::{
    base::{clock::Timestamp, id::RequestId},
    call::refusal::{Reason, Refusal},
    net::{begun::Begun, patience::Patient},
};

/// What refuses when nothing is intercepted.
const ENABLED: &str = "intercept.enabled";
/// What refuses hosts that are no provider's.
const OTHERS: &str = "intercept.others";

/// Where a client is led.
enum Way {
    /// Into Tollgate.
    Open(Opened),
    /// Through it.
    Pass(Box<Tunnel>),
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
        Fate::Open => Ok(Way::Open(Opened::new(at, caller))),
        Fate::Deny => Err(intercept.denied(&at)),
        Fate::Pass(why) => {
            let is_providers = live.is_providers(at.host());
            let tunnel = Tunnel::make(intercept, &at, (why, is_providers)).await?;
            Ok(Way::Pass(Box::new(tunnel)))
        },
    }
}

/// The place that is asked for.
fn asked(parts: &Parts) -> Result<At, Refusal> {
    let wrong = |message: &str| Err(Refusal::new(Reason::BadRequest, "", message.to_owned()));
    if parts.version >= Version::HTTP_2 {
        return wrong("Tollgate takes CONNECT in HTTP/1.1 only.");
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
        Way::Pass(tunnel) => tunnel.pass(socket, &client).await,
    }
}

/// The client's socket, with what it has said over it already.
fn taken_back(upgraded: Upgraded) -> Option<Begun> {
    let parts = upgraded.downcast::<TokioIo<Patient<TcpStream>>>().ok()?;
    let socket = parts.io.into_inner().into_inner();
    Some(Begun::new(socket, parts.read_buf))
}

impl Intercept {
    /// The refusal of a place that is no provider's.
    pub(super) fn denied(&self, at: &At) -> Refusal {
        self.seen.became(Outcome::Denied);
        let message = format!(
            "Tollgate makes no connection to {at}: it is no host of a known provider. Add it under \
             `providers:`, or set intercept.others to `tunnel`."
        );
        Refusal::new(Reason::Denied, OTHERS, message)
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
