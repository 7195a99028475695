//! Sockets whose messages are read: bytes pass both ways as they came and in their order, while each
//! response in them is admitted, metered and settled as a call of its own.
//!
//! `relay` passes the bytes; `turns` knows the responses, and `turn` each of them. What a client
//! sends is held back to the end of a message, and longer only where the message asks for a
//! response that is not admitted yet. What the provider sends is held back to the end of a message
//! as well, so that one of ours can be put in before it; messages too large for that pass in
//! pieces.

mod kill;
mod relay;
mod totals;
mod turn;
mod turns;

use bytes::Bytes;
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::{exchange::Exchange, route::Route};
use crate::{
    call::{
        facts::RequestFacts,
        outcome::End,
        refusal::{Reason, Refusal},
    },
    provider::{
        Session, Socket,
        wire::websocket::{Opcode, close, frame},
    },
};
use relay::{Relay, Stop};
use turns::Turns;

/// How a route's sockets are read, if that is known.
pub(super) fn kind(route: &Route) -> Option<&'static dyn Socket> {
    route.dialect.socket(route.path())
}

/// Reads which model path and query of a socket name; whatever comes of it, answers may be paid for
/// that Tollgate does not see.
pub(super) fn read_model(route: &Route, request: &mut RequestFacts) {
    if let Some(socket) = kind(route) {
        let mut session = Session::default();
        socket.open(route.path(), route.target.query(), &mut session);
        request.model = session
            .model()
            .map(Box::from)
            .or_else(|| request.model.take());
        request.hides_model |= session.hides_model();
    }
}

/// How a socket that the provider has agreed to is read.
pub(super) struct Reader {
    socket: &'static dyn Socket,
    compression: Compression,
}

/// What was agreed upon as to compression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Compression {
    /// Messages may be compressed.
    allowed: bool,
    /// A compressed message of the client may refer to an earlier one, so that none can be left out.
    client_refers: bool,
}

impl Reader {
    /// By the headers of the provider's answer; `None` if it agreed to an extension that changes
    /// frames in a way that we do not know.
    pub(super) fn of(route: &Route, answer: &HeaderMap) -> Option<Self> {
        Some(Self {
            socket: kind(route)?,
            compression: Compression::agreed(answer)?,
        })
    }
}

impl Compression {
    fn agreed(answer: &HeaderMap) -> Option<Self> {
        let mut agreed = Self::default();
        for value in answer.get_all("sec-websocket-extensions") {
            for extension in value.to_str().ok()?.split(',') {
                let mut parts = extension.split(';').map(str::trim);
                match parts.next()? {
                    "permessage-deflate" if !agreed.allowed => {},
                    "" => continue,
                    _ => return None,
                }
                agreed.allowed = true;
                agreed.client_refers = !parts.any(|part| part == "client_no_context_takeover");
            }
        }
        Some(agreed)
    }
}

/// Why and how we close a socket.
#[derive(Debug)]
struct Closing {
    code: u16,
    reason: String,
    /// A last message before that: the dialect's error.
    message: Option<Bytes>,
}

impl Closing {
    /// The peers broke the rules of the protocol, or sent what cannot be read.
    fn broken(code: u16, reason: &str) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
            message: None,
        }
    }

    /// A rule, or our leaving, ends it.
    fn refused(refusal: &Refusal, message: Option<Bytes>) -> Self {
        let code = match refusal.reason {
            Reason::Busy | Reason::Rate => 1013,
            Reason::Overload => 1012,
            Reason::Ledger => 1011,
            _ => 1008,
        };
        Self {
            code,
            reason: refusal.message.clone(),
            message,
        }
    }

    /// The frames of it, for the client.
    fn frames(&self) -> Vec<u8> {
        let mut frames = Vec::new();
        if let Some(message) = &self.message {
            frames.extend(frame(Opcode::Text, message, None));
        }
        frames.extend(close(self.code, &self.reason, None));
        frames
    }
}

/// How long a peer may take to hear that a socket is closed.
const FAREWELL: std::time::Duration = std::time::Duration::from_secs(2);

/// Passes a socket's bytes until it ends, and finishes its responses and then itself.
pub(super) async fn pass<C, P>(reader: Reader, mut exchange: Box<Exchange>, client: C, provider: P)
where
    C: AsyncRead + AsyncWrite + Send,
    P: AsyncRead + AsyncWrite + Send,
{
    let turns = Turns::new(reader.socket, &exchange);
    let relay = Relay::new(&reader, turns);
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_provider, mut to_provider) = tokio::io::split(provider);
    let stop = {
        let mut up = std::pin::pin!(relay.up(&mut from_client, &mut to_provider));
        let mut down = std::pin::pin!(relay.down(&exchange, &mut from_provider, &mut to_client));
        tokio::select! {
            stop = &mut down => stop,
            // It can still hear what the provider says to its leaving.
            _gone = &mut up => match tokio::time::timeout(FAREWELL, down).await {
                Ok(Stop::Closed(closing)) => Stop::Closed(closing),
                _ => Stop::Client,
            },
        }
    };
    let clean = relay.may_close_upstream();
    let end = relay.finish(&mut exchange, &stop);
    if let (Stop::Closed(closing), true) = (&stop, clean) {
        let mask = fastrand::u32(..).to_be_bytes();
        let frames = close(closing.code, "", Some(mask));
        drop(tokio::time::timeout(FAREWELL, to_provider.write_all(&frames)).await);
    }
    drop(tokio::time::timeout(FAREWELL, to_provider.shutdown()).await);
    if !matches!(stop, Stop::Client) {
        // What the client had sent is read, so that its connection is not reset before it has read
        // what we said last.
        let farewell = async {
            drop(to_client.shutdown().await);
            drop(tokio::io::copy(&mut from_client, &mut tokio::io::sink()).await);
        };
        drop(tokio::time::timeout(FAREWELL, farewell).await);
    }
    exchange.finish(end, crate::call::facts::ResponseFacts::default());
}

/// How the socket itself ended.
const fn end_of(stop: &Stop, said_farewell: bool) -> End {
    match stop {
        Stop::Closed(_) => End::Cut,
        _ if said_farewell => End::Complete,
        Stop::Client => End::Client,
        Stop::Provider => End::Upstream,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn compression_is_what_was_agreed_upon_and_nothing_else_is_known() {
        let agreed = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("sec-websocket-extensions", HeaderValue::from_static(value));
            }
            Compression::agreed(&headers)
        };
        let deflate = |client_refers| {
            Some(Compression {
                allowed: true,
                client_refers,
            })
        };
        assert_eq!(agreed(&[]), Some(Compression::default()));
        assert_eq!(agreed(&["permessage-deflate"]), deflate(true));
        assert_eq!(
            agreed(&["permessage-deflate; server_max_window_bits=12; client_no_context_takeover"]),
            deflate(false)
        );
        assert_eq!(agreed(&["permessage-bzip"]), None);
        assert_eq!(agreed(&["permessage-deflate, x-other"]), None);
        assert_eq!(agreed(&["permessage-deflate", "permessage-deflate"]), None);
    }
}
