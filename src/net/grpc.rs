//! Unary gRPC calls over one HTTP/2 connection, by hand: a request is one framed message, an answer
//! is one more and a status in the trailers.

use std::{fmt, future::Future, pin::Pin, task::Poll, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::{Buf as _, Bytes};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{CONTENT_TYPE, TE, USER_AGENT},
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

use super::{
    config::{Egress, Upstream},
    connect::{ConnectError, Connector, Origin},
    post::{Address, Compression, Remedy, Tls, gzipped},
    tls::TlsError,
};
use crate::base::{
    protobuf::{Fields, Value},
    units::ByteSize,
};

/// The largest answer that is read.
const MOST: ByteSize = ByteSize::mib(1);

/// The longest that a server's words are repeated in an error, in bytes.
const MOST_WORDS: usize = 80;

/// Calls one server. Its connection is kept for the next call.
pub struct Grpc {
    connector: Connector,
    origin: Origin,
    open: Option<Open>,
}

impl fmt::Debug for Grpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grpc").finish_non_exhaustive()
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Call {
    /// `/package.Service/Method`
    pub path: &'static str,
    /// Headers besides gRPC's own.
    pub headers: HeaderMap,
    /// The request's message.
    pub message: Bytes,
    /// How the message goes over the wire.
    pub compression: Compression,
    /// The longest that all of it may take.
    pub time: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(#[from] ConnectError),
    /// The connection broke, or does not speak HTTP/2.
    #[error("the exchange over HTTP/2 broke: {0}")]
    Broken(hyper::Error),
    /// It took too long.
    #[error("it took longer than {} s", .0.as_secs_f64())]
    Late(Duration),
    /// There was no whole message in bounds, though the status was good.
    #[error("the answer is no gRPC message of at most {MOST}")]
    Garbled,
    /// An answer that is not gRPC's.
    #[error("it answered with HTTP status {}", .0.as_u16())]
    Http(StatusCode),
    /// The server says no.
    #[error("it answered with gRPC status {code}{words}")]
    Status {
        /// The code: 14 is `UNAVAILABLE`.
        code: u32,
        /// How long it asks us to wait.
        after: Option<Duration>,
        /// What it said, as `: words`, if that is short and plain.
        words: String,
    },
}

impl GrpcError {
    /// What can be done about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Connect(_) | Self::Broken(_) | Self::Late(_) => Remedy::Later(None),
            // It was taken.
            Self::Garbled => Remedy::Nothing,
            Self::Http(status) => match status.as_u16() {
                408 | 429 | 500..=599 => Remedy::Later(None),
                413 => Remedy::Smaller,
                _ => Remedy::Nothing,
            },
            Self::Status { code, after, words } => match code {
                // RESOURCE_EXHAUSTED and OUT_OF_RANGE are what servers answer to messages that are
                // too large as well.
                8 | 11 if speaks_of_size(words) => Remedy::Smaller,
                // CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, OUT_OF_RANGE,
                // UNAVAILABLE, DATA_LOSS
                1 | 4 | 8 | 10 | 11 | 14 | 15 => Remedy::Later(*after),
                _ => Remedy::Nothing,
            },
        }
    }
}

fn speaks_of_size(words: &str) -> bool {
    ["larger than", "too large", "exceeds max", "too big"]
        .iter()
        .any(|said| words.contains(said))
}

/// An open connection.
struct Open {
    sender: SendRequest<Full<Bytes>>,
    /// Takes requests to it; `None` once the connection has ended.
    connection: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Grpc {
    /// Of the server at `address`, whose path is not looked at. Connections are made as with a
    /// [`Courier`](super::post::Courier).
    ///
    /// # Errors
    /// A certificate or key cannot be used.
    pub fn new(
        way: (&Upstream, &[u16]),
        address: &Address,
        tls: &Tls,
        proxy: Option<&Egress>,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            connector: Connector::toward(way, tls, proxy)?.over_http2(),
            origin: address.origin().clone(),
            open: None,
        })
    }

    /// Makes a call and returns the answer's message. A call that could not even be begun on a kept
    /// connection is made on a new one.
    ///
    /// # Errors
    /// There is no answer, or the server says no; [`GrpcError::remedy`] tells what can be done. Dropping
    /// the future closes the connection.
    pub async fn call(&mut self, call: Call) -> Result<Bytes, GrpcError> {
        let time = call.time;
        let called = timeout(time, Box::pin(self.exchange(call))).await;
        called.map_err(|_elapsed| GrpcError::Late(time))?
    }

    async fn exchange(&mut self, call: Call) -> Result<Bytes, GrpcError> {
        let mut request = self.request(call);
        loop {
            // Taken out, so that a call that is given up takes the connection with it.
            let kept = self.open.take().filter(Open::is_alive);
            let is_new = kept.is_none();
            let mut open = match kept {
                Some(open) => open,
                None => connect(&self.connector, &self.origin).await?,
            };
            match open.ask(request).await {
                Ok(answer) => {
                    self.open = Some(open);
                    return answer;
                },
                Err((_, Some(unsent))) if !is_new => request = *unsent,
                Err((error, _)) => return Err(GrpcError::Broken(error)),
            }
        }
    }

    fn request(&self, call: Call) -> Request<Full<Bytes>> {
        let framed = framed(&call.message, call.compression);
        let mut request = Request::new(Full::new(framed));
        *request.method_mut() = Method::POST;
        let mut uri = self.origin.uri().clone().into_parts();
        uri.path_and_query = call.path.parse().ok();
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        let headers = request.headers_mut();
        *headers = call.headers;
        let millis = call.time.as_millis().min(99_999_999);
        let known = [
            (CONTENT_TYPE.as_str(), "application/grpc"),
            (TE.as_str(), "trailers"),
            (
                USER_AGENT.as_str(),
                concat!("tollgate/", env!("CARGO_PKG_VERSION")),
            ),
        ];
        for (name, value) in known {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Ok(limit) = HeaderValue::try_from(format!("{millis}m")) {
            headers.insert("grpc-timeout", limit);
        }
        if call.compression == Compression::Gzip {
            headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
        }
        request
    }
}

async fn connect(connector: &Connector, origin: &Origin) -> Result<Open, GrpcError> {
    let connected = connector.connect(origin, None).await?;
    let handshake = http2::handshake(TokioExecutor::new(), connected.io).await;
    let (sender, connection) = handshake.map_err(GrpcError::Broken)?;
    let connection = async {
        // Errors reach whoever waits for an answer.
        drop(connection.await);
    };
    Ok(Open {
        sender,
        connection: Some(Box::pin(connection)),
    })
}

type Unsent = (hyper::Error, Option<Box<Request<Full<Bytes>>>>);

impl Open {
    fn is_alive(&self) -> bool {
        self.connection.is_some() && !self.sender.is_closed()
    }

    /// Sends the request and reads its answer, driving the connection meanwhile.
    async fn ask(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Result<Bytes, GrpcError>, Unsent> {
        let asked = self.sender.try_send_request(request);
        let asking = async move {
            let response = asked.await.map_err(|mut failed| {
                let unsent = failed.take_message().map(Box::new);
                (failed.into_error(), unsent)
            })?;
            Ok(answer(response).await)
        };
        let mut asking = std::pin::pin!(asking);
        let connection = &mut self.connection;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(asked) = asking.as_mut().poll(cx) {
                return Poll::Ready(asked);
            }
            let ended = connection
                .as_mut()
                .is_some_and(|working| working.as_mut().poll(cx).is_ready());
            if ended {
                *connection = None;
                return asking.as_mut().poll(cx);
            }
            Poll::Pending
        })
        .await
    }
}

/// A message with its head of five bytes.
fn framed(message: &Bytes, compression: Compression) -> Bytes {
    let gzipped = (compression == Compression::Gzip).then(|| gzipped(message));
    let (flag, body) = match gzipped.flatten() {
        Some(gzipped) => (1, gzipped),
        None => (0, message.clone()),
    };
    // Batches are bounded far below what four bytes can say.
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&[flag], &length.to_be_bytes()[..], &body].concat().into()
}

/// Reads an answer to its end. The status is in the trailers, or, where there is nothing else, in the
/// headers.
async fn answer(response: Response<Incoming>) -> Result<Bytes, GrpcError> {
    let (head, body) = response.into_parts();
    let is_grpc = head.headers.get(CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes();
        kind.starts_with(b"application/grpc")
    });
    if head.status != StatusCode::OK || !is_grpc {
        return Err(GrpcError::Http(head.status));
    }
    if let Some(refused) = status(&head.headers)? {
        return Err(refused);
    }
    let Ok(body) = Limited::new(body, MOST.as_usize()).collect().await else {
        return Err(GrpcError::Status {
            code: 14,
            after: None,
            words: ": the answer broke off".to_owned(),
        });
    };
    let trailers = body.trailers().cloned().unwrap_or_default();
    if let Some(refused) = status(&trailers)? {
        return Err(refused);
    }
    let mut body = body.to_bytes();
    if body.is_empty() {
        return Ok(body);
    }
    let (Ok(flag), Ok(length)) = (body.try_get_u8(), body.try_get_u32()) else {
        return Err(GrpcError::Garbled);
    };
    let whole = usize::try_from(length).is_ok_and(|length| length == body.len());
    if flag == 0 && whole {
        Ok(body)
    } else {
        Err(GrpcError::Garbled)
    }
}

/// What the status says, if it says no.
fn status(headers: &HeaderMap) -> Result<Option<GrpcError>, GrpcError> {
    let Some(code) = headers.get("grpc-status") else {
        return Ok(None);
    };
    let code = code.to_str().ok().and_then(|code| code.parse().ok());
    let code = code.ok_or(GrpcError::Garbled)?;
    if code == 0 {
        return Ok(None);
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    Ok(Some(GrpcError::Status {
        code,
        after: text("grpc-status-details-bin").and_then(retry_delay),
        words: text("grpc-message").map_or_else(String::new, words),
    }))
}

/// The server's words, as `: words`, if they are few and plain: there may be anything in them.
fn words(message: &str) -> String {
    let message = message.replace("%20", " ");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b" _-.,:!'()".contains(&byte);
    let quotable = !message.is_empty() && message.len() <= MOST_WORDS && message.bytes().all(plain);
    if quotable {
        format!(": {message}")
    } else {
        String::new()
    }
}

/// The wait that `google.rpc.RetryInfo` among a status's details asks for.
fn retry_delay(details: &str) -> Option<Duration> {
    let details = details.trim_end_matches('=');
    let status = STANDARD_NO_PAD.decode(details).ok()?;
    let infos = parts(&status, 3)
        .filter(|any| parts(any, 1).any(|name| name.ends_with(b"google.rpc.RetryInfo")));
    let mut delays = infos
        .flat_map(|any| parts(any, 2))
        .flat_map(|info| parts(info, 1));
    let delay = delays.next()?;
    let number = |wanted| {
        let found = Fields::of(delay).find_map(|field| match field {
            Ok((number, Value::Varint(value))) if number == wanted => Some(value),
            _ => None,
        });
        found.unwrap_or(0)
    };
    let nanos = u32::try_from(number(2)).unwrap_or(0).min(999_999_999);
    // A negative wait is a very long one here; none is longer than the worker allows.
    Some(Duration::new(number(1), nanos))
}

/// The bytes of each field of that number.
fn parts(message: &[u8], wanted: u32) -> impl Iterator<Item = &[u8]> {
    Fields::of(message).filter_map(move |field| match field {
        Ok((number, Value::Bytes(bytes))) if number == wanted => Some(bytes),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::base::protobuf::{Binary, Field, Form as _};

    fn refused(code: u32, message: &str) -> Remedy {
        let error = GrpcError::Status {
            code,
            after: Some(Duration::from_secs(7)),
            words: words(message),
        };
        error.remedy()
    }

    #[test]
    fn codes_that_may_pass_are_told_from_those_that_will_not() {
        let later = Remedy::Later(Some(Duration::from_secs(7)));
        for code in [1, 4, 8, 10, 11, 14, 15] {
            assert_eq!(refused(code, ""), later, "{code}");
        }
        for code in [2, 3, 5, 6, 7, 9, 12, 13, 16, 99] {
            assert_eq!(refused(code, ""), Remedy::Nothing, "{code}");
        }
        let large = "grpc: received message larger than max (5000000 vs. 4194304)";
        assert_eq!(refused(8, large), Remedy::Smaller);
        let large = "Error, decoded message length too large: found 5 bytes, the limit is: 4";
        assert_eq!(refused(11, large), Remedy::Smaller);
        assert_eq!(
            GrpcError::Http(StatusCode::FORBIDDEN).remedy(),
            Remedy::Nothing
        );
        let later = GrpcError::Http(StatusCode::BAD_GATEWAY).remedy();
        assert_eq!(later, Remedy::Later(None));
    }

    #[test]
    fn words_are_quoted_if_they_are_few_and_plain() {
        assert_eq!(words("queue%20is full"), ": queue is full");
        assert_eq!(words("%1b[31m"), "");
        assert_eq!(words(&"x".repeat(81)), "");
    }

    #[test]
    fn a_message_has_a_head_of_five_bytes() {
        let message = Bytes::from_static(b"abc");
        assert_eq!(&*framed(&message, Compression::None), b"\0\0\0\0\x03abc");
        let gzipped = framed(&message, Compression::Gzip);
        assert_eq!(gzipped[0], 1);
        assert_eq!(usize::from(gzipped[4]), gzipped.len() - 5);
    }

    #[test]
    fn the_wait_that_a_status_asks_for_is_found_among_its_details() {
        let mut status = Binary::default();
        status.number(Field(1, ""), 8);
        status.messages(Field(3, ""), ["Help", "RetryInfo"], |any, name| {
            any.text(
                Field(1, ""),
                &format!("type.googleapis.com/google.rpc.{name}"),
            );
            any.message(Field(2, ""), |info| {
                info.message(Field(1, ""), |delay| {
                    delay.int(Field(1, ""), 3);
                    delay.int(Field(2, ""), 500_000_000);
                });
            });
        });
        let status = status.finish();
        let expected = Some(Duration::from_millis(3_500));
        assert_eq!(retry_delay(&STANDARD.encode(&status)), expected);
        assert_eq!(retry_delay(&STANDARD_NO_PAD.encode(&status)), expected);
        assert_eq!(retry_delay("no base64!"), None);
        assert_eq!(retry_delay(""), None);
    }
}
