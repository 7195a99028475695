//! A plain WebSocket client: whole messages, JSON in them, and how the socket ends.

use std::net::SocketAddr;

use serde_json::Value;
use tollgate::provider::wire::websocket::{Opcode, close, frame};

use super::{Line, client::Head};

const MASK: Option<[u8; 4]> = Some([1, 2, 3, 4]);

/// One socket.
pub(crate) struct Socket {
    pub(crate) line: Line,
}

/// What was said in it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// A message.
    Message(Value),
    /// The answer to a ping.
    Pong(Vec<u8>),
    /// A farewell: code and reason.
    Close(u16, String),
    /// The connection is at its end.
    End,
}

impl Socket {
    /// Asks for one; if it is not agreed to, the head of the answer.
    pub(crate) async fn ask(
        addr: SocketAddr,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Head> {
        let mut line = Line::connect(addr).await;
        let headers = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"));
        let headers: String = headers.collect();
        let host = if headers.contains("host: ") {
            ""
        } else {
            "host: x\r\n"
        };
        line.send(format!(
            "GET {target} HTTP/1.1\r\n{host}authorization: Bearer k\r\nconnection: Upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        ))
        .await;
        let head = line.head().await;
        if head.status() != 101 {
            return Err(head);
        }
        let accept = head.header("sec-websocket-accept");
        assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        Ok(Self { line })
    }

    /// Opens one.
    pub(crate) async fn open(addr: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Self {
        let asked = Self::ask(addr, target, headers).await;
        asked.unwrap_or_else(|head| panic!("{head:?}"))
    }

    /// Says something.
    pub(crate) async fn say(&mut self, message: &Value) {
        let bytes = frame(Opcode::Text, message.to_string().as_bytes(), MASK);
        self.line.send(bytes).await;
    }

    /// Says farewell.
    pub(crate) async fn close(&mut self) {
        self.line.send(close(1000, "bye", MASK)).await;
    }

    /// Asks whether anybody is there.
    pub(crate) async fn ping(&mut self, payload: &[u8]) {
        self.line.send(frame(Opcode::Ping, payload, MASK)).await;
    }

    /// What comes next.
    pub(crate) async fn heard(&mut self) -> Said {
        let mut message = Vec::new();
        loop {
            let Some((first, payload)) = self.line.frame().await else {
                return Said::End;
            };
            match first & 0x0f {
                8 => {
                    let code = u16::from_be_bytes([payload[0], payload[1]]);
                    return Said::Close(code, String::from_utf8(payload[2..].into()).unwrap());
                },
                10 => return Said::Pong(payload),
                _ => message.extend(payload),
            }
            if first & 0x80 != 0 {
                return Said::Message(serde_json::from_slice(&message).unwrap());
            }
        }
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> Value {
        match self.heard().await {
            Said::Message(message) => message,
            other => panic!("{other:?}"),
        }
    }

    /// All messages up to the first for which `last` holds.
    pub(crate) async fn until(&mut self, last: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut heard = Vec::new();
        loop {
            let message = self.message().await;
            let is_last = last(&message);
            heard.push(message);
            if is_last {
                return heard;
            }
        }
    }
}
