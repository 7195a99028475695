//! Two clients: hyper's, for what HTTP means, and a bare socket, for every byte of it.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::sandbox::PATIENCE;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Why the body broke off, if it did.
    pub(crate) error: Option<String>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header, empty if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// The data of each event; `[DONE]` is left out.
    pub(crate) fn data(&self) -> Vec<Value> {
        let lines = self.text().lines();
        lines
            .filter_map(|line| line.strip_prefix("data: "))
            .filter(|data| *data != "[DONE]")
            .map(|data| {
                serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"))
            })
            .collect()
    }
}

/// Sends a request on a connection of its own, HTTP/1.1.
pub(crate) async fn call(
    addr: SocketAddr,
    method: Method,
    target: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut request = request(method, target, headers, body);
    request
        .headers_mut()
        .entry("host")
        .or_insert(http::HeaderValue::from_static("localhost"));
    let sent = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
    read(sent.expect("no answer came").unwrap()).await
}

/// Sends a request on a connection of its own, HTTP/2 with prior knowledge.
pub(crate) async fn call_h2(
    addr: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let url = format!("http://localhost{path}");
    call_h2_at(addr, method, &url, headers, body).await
}

/// The same, for a target with its host.
pub(crate) async fn call_h2_at(
    addr: SocketAddr,
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let stream = TcpStream::connect(addr).await.unwrap();
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = request(method, url, headers, body);
    let sent = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
    read(sent.expect("no answer came").unwrap()).await
}

/// Posts JSON on a connection of its own.
pub(crate) async fn post(
    addr: SocketAddr,
    target: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Answer {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    call(addr, Method::POST, target, &all, body.to_string()).await
}

fn request(
    method: Method,
    target: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

/// Reads an answer to its end.
async fn read(response: http::Response<hyper::body::Incoming>) -> Answer {
    let (parts, mut body) = response.into_parts();
    let (mut bytes, mut error) = (Vec::new(), None);
    loop {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await;
        match frame.expect("the body does not go on") {
            Some(Ok(frame)) => bytes.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
            Some(Err(broken)) => {
                error = Some(format!("{broken:?}"));
                break;
            },
            None => break,
        }
    }
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: bytes.into(),
        error,
    }
}

/// A bare connection: what is written and read is every byte of it.
pub(crate) struct Line {
    pub(crate) socket: TcpStream,
    /// What was read and not taken yet.
    read: Vec<u8>,
}

/// The head of a message.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Without its line end.
    pub(crate) first_line: String,
    /// In their order, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    pub(crate) fn status(&self) -> u16 {
        let code = self.first_line.split(' ').nth(1);
        code.and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("no status line: {}", self.first_line))
    }

    /// `chunked` is written so.
    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding") == Some("chunked")
    }
}

impl Line {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self::of(TcpStream::connect(addr).await.unwrap())
    }

    pub(crate) fn of(socket: TcpStream) -> Self {
        socket.set_nodelay(true).unwrap();
        Self {
            socket,
            read: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads more. `false`: the connection has ended, or was reset.
    pub(crate) async fn more(&mut self) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        let read = tokio::time::timeout(PATIENCE, self.socket.read(&mut buffer)).await;
        match read.expect("nothing more comes") {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.read.extend_from_slice(&buffer[..count]);
                true
            },
        }
    }

    /// Reads a head.
    pub(crate) async fn head(&mut self) -> Head {
        self.try_head().await.expect("the connection ended")
    }

    /// Reads a head; none if the connection ends first.
    pub(crate) async fn try_head(&mut self) -> Option<Head> {
        let end = loop {
            if let Some(at) = find(&self.read, b"\r\n\r\n") {
                break at;
            }
            if !self.more().await {
                return None;
            }
        };
        let head: Vec<u8> = self.read.drain(..end + 4).collect();
        let text = String::from_utf8(head).unwrap();
        let mut lines = text.trim_end().split("\r\n");
        let first_line = lines.next().unwrap().to_owned();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Some(Head {
            first_line,
            headers: headers.collect(),
        })
    }

    /// Takes exactly so many bytes.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            assert!(self.more().await, "the connection ended");
        }
        self.read.drain(..count).collect()
    }

    /// Reads the body that follows `head`, to its end, without its framing, and its trailers.
    pub(crate) async fn body(&mut self, head: &Head) -> (Vec<u8>, Vec<(String, String)>) {
        if let Some(length) = head.header("content-length") {
            return (self.take(length.parse().unwrap()).await, Vec::new());
        }
        if !head.is_chunked() {
            return (self.rest().await, Vec::new());
        }
        let mut body = Vec::new();
        loop {
            let size = self.line().await;
            let size = usize::from_str_radix(&size, 16).unwrap();
            if size == 0 {
                break;
            }
            body.extend(self.take(size).await);
            assert_eq!(self.take(2).await, b"\r\n");
        }
        let mut trailers = Vec::new();
        loop {
            let line = self.line().await;
            match line.split_once(':') {
                Some((name, value)) => {
                    trailers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
                },
                None => return (body, trailers),
            }
        }
    }

    /// Takes a frame of a WebSocket that is not masked: its first byte and its payload; none if the
    /// connection has ended.
    pub(crate) async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        while self.read.len() < 2 {
            if !self.more().await {
                return None;
            }
        }
        let head = self.take(2).await;
        let wide = match head[1] {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let length = if wide == 0 {
            vec![head[1]]
        } else {
            self.take(wide).await
        };
        let length = length
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte));
        Some((head[0], self.take(length).await))
    }

    /// What was read and not taken yet.
    pub(crate) fn peeked(&self) -> &[u8] {
        &self.read
    }

    /// All that comes until the connection ends.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.read)
    }

    async fn line(&mut self) -> String {
        let end = loop {
            if let Some(at) = find(&self.read, b"\r\n") {
                break at;
            }
            assert!(self.more().await, "the connection ended");
        };
        let line: Vec<u8> = self.read.drain(..end + 2).collect();
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }
}

/// Where `needle` begins.
pub(crate) fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}
