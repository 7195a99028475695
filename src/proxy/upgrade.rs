//! Protocol upgrades: after the provider's 101, sockets of a kind that their dialect knows are read
//! while they pass ([`super::socket`]); of all others the bytes are copied both ways until one side
//! ends.

use std::{pin::Pin, sync::Arc};

use http::{HeaderMap, Method, Response, header::UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;

use super::{
    admit, body::ResponseBody, exchange::Exchange, guard, headers, kill, route::Route, socket,
};
use crate::{
    call::{
        facts::{Operation, ResponseFacts, Spends},
        outcome::{Decision, End, Kind},
    },
    net::upstream::UpstreamBody,
};

/// What an upgrade is, whatever its path: its traffic cannot be metered.
pub(super) const OPERATION: &Operation = &Operation {
    name: "upgrade",
    gen_ai: None,
    kind: Kind::Http,
    spends: Spends::Unknown,
};

/// A WebSocket whose messages are read. It is told apart from what is in it: that is where money is
/// spent.
pub(super) const SOCKET: &Operation = &Operation {
    name: "socket",
    gen_ai: None,
    kind: Kind::Http,
    spends: Spends::Inside,
};

/// What a request on this route is that asks for an upgrade. Servers that know none answer it as if it
/// had not (RFC 9110, 7.8; Java's client offers h2c with any request): what spends by itself is read as
/// what it is.
pub(super) fn operation(route: &Route, method: &Method, headers: &HeaderMap) -> &'static Operation {
    let to = headers.get(UPGRADE).and_then(|to| to.to_str().ok());
    let is_websocket = to.is_some_and(|to| to.eq_ignore_ascii_case("websocket"));
    if is_websocket && *method == Method::GET && socket::kind(route).is_some() {
        return SOCKET;
    }
    match route.operation.spends {
        Spends::Tokens | Spends::Once | Spends::Lines => route.operation,
        Spends::Nothing | Spends::Unknown | Spends::Inside => OPERATION,
    }
}

/// Answers 101; both sides are joined by the [`GoesOn`] in the answer.
pub(super) fn join(
    client: OnUpgrade,
    response: Response<UpstreamBody>,
    mut exchange: Box<Exchange>,
) -> Response<ResponseBody> {
    let (mut parts, body) = response.into_parts();
    let mut reader = None;
    if exchange.route.operation == SOCKET {
        reader = socket::Reader::of(&exchange.route, &parts.headers);
    }
    if reader.is_none() && exchange.route.operation != OPERATION {
        exchange.route.operation = OPERATION;
        exchange.request.hides_model = true;
        if let Err(refusal) = admit::unreadable(&exchange) {
            return exchange.refuse(refusal);
        }
    }
    guard::begins(&mut exchange);
    parts.headers = headers::to_client(parts.headers);
    let mut answer = Response::from_parts(parts, ResponseBody::ours(bytes::Bytes::new()));
    exchange.mark(&mut answer);
    let Some((provider, drive)) = body.into_upgrade() else {
        return answer;
    };
    let joined = async move {
        let (client, provider, ()) = tokio::join!(client, provider, drive);
        let end = match (client, provider) {
            (Ok(client), Ok(provider)) => {
                let (mut client, mut provider) = (TokioIo::new(client), TokioIo::new(provider));
                if let Some(reader) = reader {
                    return Box::pin(socket::pass(reader, exchange, client, provider)).await;
                }
                let copied = tokio::io::copy_bidirectional(&mut client, &mut provider);
                let subject = admit::subject(&exchange);
                match kill::unless(&exchange.proxy, &subject, copied).await {
                    Ok(copied) => copied.map_or(End::Upstream, |_bytes| End::Complete),
                    Err(why) => {
                        exchange.decision = Decision::Cut;
                        exchange.refusal = Some(why);
                        End::Cut
                    },
                }
            },
            (Err(_), _) => End::Client,
            (_, Err(_)) => End::Upstream,
        };
        exchange.finish(end, ResponseFacts::default());
    };
    answer.extensions_mut().insert(GoesOn::new(joined));
    answer
}

/// What goes on behind an answer with status 101, or to CONNECT with 200: to be awaited by whoever serves the connection,
/// once that is handed over.
#[derive(Clone)]
pub(super) struct GoesOn(Arc<Mutex<Option<Joined>>>);

type Joined = Pin<Box<dyn Future<Output = ()> + Send>>;

impl GoesOn {
    pub(super) fn new(joined: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::pin(joined)))))
    }

    /// Hands it over, the first time.
    pub(super) fn take(&self) -> Option<Joined> {
        self.0.lock().take()
    }
}
