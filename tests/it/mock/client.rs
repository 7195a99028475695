//! Two plain clients: hyper's, which keeps frames apart, and a bare socket, which keeps every byte.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tollgate::mock::Mock;

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The body as it came.
    pub(super) frames: Vec<Bytes>,
    pub(super) trailers: Option<HeaderMap>,
    /// Why the body broke off, if it did.
    pub(super) error: Option<String>,
}

impl Answer {
    pub(super) fn body(&self) -> Vec<u8> {
        self.frames.concat()
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body()).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body()).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Name and data of each event; `[DONE]` is left out.
    pub(super) fn events(&self) -> Vec<(String, Value)> {
        events(&self.text())
    }

    /// The values of the events without their names.
    pub(super) fn data(&self) -> Vec<Value> {
        self.events().into_iter().map(|(_, data)| data).collect()
    }
}

/// Name and data of each event; `[DONE]` is left out. Panics at anything that is not an event.
pub(super) fn events(text: &str) -> Vec<(String, Value)> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let body = text.strip_suffix("\n\n").expect("an unfinished event");
    let mut events = Vec::new();
    for event in body.split("\n\n") {
        let field = |name| event.lines().find_map(|line| line.strip_prefix(name));
        let data = field("data: ").unwrap_or_else(|| panic!("no data: {event}"));
        if data != "[DONE]" {
            let name = field("event: ").unwrap_or_default().to_owned();
            events.push((name, serde_json::from_str(data).unwrap()));
        }
    }
    events
}

/// Sends a request on a connection of its own, HTTP/1.1.
pub(super) async fn call(
    mock: &Mock,
    method: Method,
    target: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(target);
    request = request
        .header("host", "mock")
        .header("authorization", "Bearer k");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let stream = TcpStream::connect(mock.addr()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let response = sender
        .send_request(request.body(Full::new(body.into())).unwrap())
        .await
        .unwrap();
    read(response).await
}

/// Reads an answer to its end.
pub(super) async fn read(response: http::Response<hyper::body::Incoming>) -> Answer {
    let (parts, mut body) = response.into_parts();
    let mut answer = Answer {
        status: parts.status,
        headers: parts.headers,
        frames: Vec::new(),
        trailers: None,
        error: None,
    };
    while let Some(frame) = body.frame().await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => answer.frames.push(data),
            Ok(Err(frame)) => answer.trailers = frame.into_trailers().ok(),
            Err(error) => {
                answer.error = Some(format!("{error:?}"));
                break;
            },
        }
    }
    answer
}

/// Posts JSON.
pub(super) async fn post(mock: &Mock, target: &str, settings: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json"), ("x-mock", settings)];
    call(mock, Method::POST, target, &headers, body.to_string()).await
}

pub(super) async fn get(mock: &Mock, target: &str) -> Answer {
    call(mock, Method::GET, target, &[], "").await
}

/// Writes these bytes and returns all that comes until the connection ends, and whether it was
/// reset.
pub(super) async fn raw(addr: SocketAddr, request: &str) -> (String, bool) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let reset = loop {
        match stream.read(&mut buffer).await {
            Ok(0) => break false,
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(error) => break error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    };
    (String::from_utf8(bytes).unwrap(), reset)
}
