//! Sockets: OpenAI's Realtime and Responses, and Gemini's Live. A handshake is answered as any other
//! request, and each response in its socket is one as well: its settings are the mock's, those in the
//! handshake's headers, its model's and its script's, and the next ones queued. Of what settings do to
//! bytes, `chunk` is the most bytes of a frame, and `hang`, `truncate` and `reset` come after so many
//! bytes of the response's frames.
//!
//! Audio is counted as text is: a message's audio and its settings say how many tokens it has
//! ([`sound`]). Compression is not agreed to.

mod live;
mod outbox;
mod realtime;
mod responses;
mod sound;
mod wire;

use std::{future::Future, pin::Pin, sync::Arc};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{
        CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        UPGRADE,
    },
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    answer::{Ask, Ids},
    behaviour::Behaviour,
    call::Call,
    conversation::Conversation,
    handle::State,
    line::Line,
    play::Finale,
    problem::{Dialect, Problem},
    recorder::{End, Receipt},
    reply::{Payload, Reply},
    script,
};
use outbox::{Item, Outbox};
use wire::{Heard, Opcode};

/// Most bytes that are kept of what a client said in one socket; of more the beginning is.
const KEPT: usize = 16 * 1024 * 1024;

/// Whose messages a socket has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Realtime,
    Responses,
    Live,
}

impl Kind {
    /// What is asked for, if it is a socket.
    pub(super) fn of(method: &Method, path: &str, headers: &HeaderMap) -> Option<Self> {
        let to = headers.get(UPGRADE)?.to_str().ok()?;
        if *method != Method::GET || !to.eq_ignore_ascii_case("websocket") {
            return None;
        }
        let last = path.rsplit(['/', '.']).next()?;
        match last {
            "realtime" => Some(Self::Realtime),
            "responses" => Some(Self::Responses),
            "BidiGenerateContent" | "BidiGenerateContentConstrained" => Some(Self::Live),
            _ => None,
        }
    }

    /// Whose errors are spoken.
    pub(super) const fn dialect(self) -> Dialect {
        match self {
            Self::Realtime | Self::Responses => Dialect::OpenAi,
            Self::Live => Dialect::Gemini,
        }
    }
}

/// Agrees to a handshake.
///
/// # Errors
/// It is none.
pub(super) fn agree(headers: &HeaderMap) -> Result<Reply, Problem> {
    let key = headers.get(SEC_WEBSOCKET_KEY);
    let Some(key) = key.and_then(|key| key.to_str().ok()) else {
        return Err(Problem::invalid("Missing Sec-WebSocket-Key."));
    };
    let mut agreed = HeaderMap::new();
    let mut put = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            agreed.insert(name, value);
        }
    };
    put(CONNECTION, "Upgrade");
    put(UPGRADE, "websocket");
    put(SEC_WEBSOCKET_ACCEPT, &wire::accept(key));
    // Browsers offer this one, and have their key in another.
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let mut offered = offered.filter_map(|names| names.to_str().ok());
    if offered.any(|names| names.split(',').any(|name| name.trim() == "realtime")) {
        put(SEC_WEBSOCKET_PROTOCOL, "realtime");
    }
    Ok(Reply {
        status: StatusCode::SWITCHING_PROTOCOLS,
        headers: agreed,
        payload: Payload::Json(Bytes::new()),
    })
}

/// What a socket is talked about: what one kind of messages means.
trait Dialogue: Send {
    /// Says what comes first.
    fn greet(&mut self, _desk: &mut Desk, _out: &mut Outbox) {}

    /// Answers a message.
    fn hear(&mut self, message: &Value, desk: &mut Desk, out: &mut Outbox);
}

/// What a dialogue makes its answers with.
struct Desk {
    state: Arc<State>,
    /// The handshake.
    call: Call,
    ids: Ids,
}

impl Desk {
    /// A model's name without its settings, which hold from now on.
    fn model(&mut self, name: &str) -> String {
        let (model, settings) = name.split_at(name.find(';').unwrap_or(name.len()));
        settings.clone_into(&mut self.call.settings);
        model.to_owned()
    }

    /// Decides what is said, and how; `write` puts it into words.
    ///
    /// # Errors
    /// The settings ask for a failure, or are not understood.
    fn answer<T>(
        &mut self,
        asked: &Conversation,
        write: impl FnOnce(&mut Ask<'_>) -> T,
    ) -> Result<(T, Behaviour), Problem> {
        let rule = self.state.options.script.rule(asked);
        let behaviour = self.call.behaviour(&self.state, rule);
        let behaviour = behaviour.map_err(|error| Problem::invalid(error.to_string()))?;
        if let Some(status) = behaviour.status {
            return Err(Problem::asked_for(status, &behaviour));
        }
        let said = script::say(asked, rule, &behaviour);
        let written = write(&mut Ask {
            asked,
            said: &said,
            behaviour: &behaviour,
            ids: &mut self.ids,
            now: self.state.now(),
        });
        Ok((written, behaviour))
    }
}

/// A socket that was agreed to.
pub(super) struct Socket {
    pub(super) kind: Kind,
    pub(super) state: Arc<State>,
    pub(super) call: Call,
    pub(super) ids: Ids,
    pub(super) line: Arc<Line>,
    pub(super) receipt: Receipt,
    /// The handshake as it came.
    pub(super) head: Bytes,
}

/// What goes on behind an answer with status 101, to be taken by whoever serves the connection.
#[derive(Clone)]
pub(super) struct GoesOn(Arc<Mutex<Option<Talk>>>);

type Talk = Pin<Box<dyn Future<Output = ()> + Send>>;

impl GoesOn {
    pub(super) fn new(socket: Socket, upgrade: OnUpgrade) -> Self {
        let talk = async move {
            if let Ok(upgraded) = upgrade.await {
                socket.talk(TokioIo::new(upgraded)).await;
            }
        };
        Self(Arc::new(Mutex::new(Some(Box::pin(talk)))))
    }

    /// To the socket's end; a second time nothing happens.
    pub(super) async fn go_on(&self) {
        let talk = self.0.lock().take();
        if let Some(talk) = talk {
            talk.await;
        }
    }
}

type Io = TokioIo<hyper::upgrade::Upgraded>;

impl Socket {
    /// Talks until one side has had enough.
    async fn talk(self, mut io: Io) {
        let Self {
            kind,
            state,
            call,
            ids,
            line,
            mut receipt,
            head,
        } = self;
        let mut dialogue: Box<dyn Dialogue> = match kind {
            Kind::Realtime => Box::new(realtime::Realtime::new(&call)),
            Kind::Responses => Box::new(responses::Responses),
            Kind::Live => Box::new(live::Live::default()),
        };
        let mut desk = Desk { state, call, ids };
        let mut out = Outbox::new(if kind == Kind::Live {
            Opcode::Binary // As the provider does, though it is JSON.
        } else {
            Opcode::Text
        });
        dialogue.greet(&mut desk, &mut out);
        let (mut reader, mut bytes, mut heard) =
            (wire::Reader::default(), BytesMut::new(), Notes::default());
        loop {
            while let Some(next) = reader.next(&mut bytes).transpose() {
                match next {
                    Ok(Heard::Message(message)) => {
                        heard.keep(&message);
                        let message = serde_json::from_slice(&message).unwrap_or_default();
                        dialogue.hear(&message, &mut desk, &mut out);
                    },
                    Ok(Heard::Ping(payload)) => out.frame(wire::frame(Opcode::Pong, &payload)),
                    Ok(Heard::Pong) => {},
                    Ok(Heard::Close(payload)) => {
                        heard.whole = true;
                        out.answer_close(&payload);
                    },
                    Err(code) => {
                        out.close(code, "The mock cannot read that.");
                        bytes.clear();
                    },
                }
            }
            // Both have said farewell: who was asked for the socket ends it.
            if out.has_ended() && heard.whole {
                break;
            }
            tokio::select! {
                read = io.read_buf(&mut bytes) => {
                    if !matches!(read, Ok(1..)) {
                        break;
                    }
                },
                item = out.next() => match item {
                    Item::Bytes(frames) => {
                        receipt.sent(u64::try_from(frames.len()).unwrap_or(u64::MAX));
                        if io.write_all(&frames).await.is_err() || io.flush().await.is_err() {
                            break;
                        }
                    },
                    Item::End(Finale::Complete) => {
                        receipt.ended(End::Complete);
                        drop(io.shutdown().await);
                    },
                    Item::End(Finale::Hang) => {},
                    Item::End(finale) => {
                        receipt.ended(End::Broken);
                        if finale == Finale::Reset {
                            line.reset_at_close();
                        }
                        break;
                    },
                },
            }
        }
        receipt.body(head, heard.bytes.freeze(), heard.whole);
    }
}

/// What a client said, a message a line.
#[derive(Default)]
struct Notes {
    bytes: BytesMut,
    /// It said farewell.
    whole: bool,
}

impl Notes {
    fn keep(&mut self, message: &[u8]) {
        if self.bytes.len() + message.len() < KEPT {
            self.bytes.extend_from_slice(message);
            self.bytes.extend_from_slice(b"\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_upgrade_on_its_path_is_a_socket() {
        let mut headers = HeaderMap::new();
        let of = |path, headers: &HeaderMap| Kind::of(&Method::GET, path, headers);
        assert_eq!(of("/v1/realtime", &headers), None);
        headers.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
        assert_eq!(of("/v1/realtime", &headers), Some(Kind::Realtime));
        assert_eq!(of("/v1/responses", &headers), Some(Kind::Responses));
        for path in [
            "/ws/google.ai.generativelanguage.v1alpha.GenerativeService.BidiGenerateContent",
            "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent",
        ] {
            assert_eq!(of(path, &headers), Some(Kind::Live));
        }
        assert_eq!(of("/v1/other", &headers), None);
        assert_eq!(Kind::of(&Method::POST, "/v1/realtime", &headers), None);
    }
}
