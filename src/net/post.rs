//! Whole exchanges with servers that are no providers: where spans go, where price books come from.
//! A request that is in memory, an answer within bounds, and what a failure means for a repeat.
//! Errors never name an address beyond its host, nor a header: there are keys in them.

use std::{collections::BTreeMap, fmt, io::Write as _, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use flate2::{Compression as Level, write::GzEncoder};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri,
    header::{CONTENT_ENCODING, HOST, RETRY_AFTER, USER_AGENT},
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;
use tokio::time::timeout;

use super::{
    aws::code,
    body::Outgoing,
    config::{Egress, Upstream as UpstreamConfig},
    connect::{Connector, Origin},
    tls::TlsError,
    upstream::{Patience, Upstream, UpstreamError},
};
use crate::base::{
    clock::{Clock, Timestamp},
    secret::Secret,
    units::ByteSize,
};

mod secrets;
mod shown;
mod signed;

pub use shown::shown_host;

use secrets::Secrets;

/// The certificates for one destination: `tls: {ca_file, client_cert, client_key}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Certificates (PEM) that are trusted besides the system's; none: those of `upstream.ca_file`.
    pub ca_file: Option<PathBuf>,
    /// A certificate chain (PEM) to show to a server that asks for one.
    pub client_cert: Option<PathBuf>,
    /// Its key (PEM).
    pub client_key: Option<PathBuf>,
}

/// How a request's body is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// As `content-encoding: gzip`.
    Gzip,
}

/// What one exchange may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// From the connection to the answer's last byte.
    pub time: Duration,
    /// The largest body of an answer.
    pub answer: ByteSize,
}

/// An address that is spoken to: `http://` or `https://`, a host, a path, perhaps a query.
#[derive(Clone)]
pub struct Address {
    origin: Origin,
    target: Uri,
    shown: Option<Box<str>>,
}

/// It is no address that can be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// It has no scheme, no host, or is none at all.
    #[error("it is no http:// or https:// address")]
    Invalid,
    /// There is a user name in it, which would not be sent.
    #[error("there is a user name or password in it: put it into a header instead")]
    User,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// It is none, or it has a user name in it.
    pub fn parse(url: &Secret) -> Result<Self, NoAddress> {
        let shown = shown_host(url.expose());
        let url: Uri = url.expose().parse().map_err(|_no_uri| NoAddress::Invalid)?;
        if !matches!(url.scheme_str(), Some("http" | "https")) {
            return Err(NoAddress::Invalid);
        }
        if url.authority().is_some_and(|at| at.as_str().contains('@')) {
            return Err(NoAddress::User);
        }
        let origin = Origin::of(&url).ok_or(NoAddress::Invalid)?;
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let target = path.parse().map_err(|_no_uri| NoAddress::Invalid)?;
        Ok(Self {
            origin,
            target,
            shown,
        })
    }

    /// The host's name or address, to be shown; none: what stands there [may be a piece of a
    /// password](shown_host).
    pub fn host(&self) -> Option<&str> {
        self.shown.as_deref()
    }

    pub(super) const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The path, without the query.
    pub fn path(&self) -> &str {
        self.target.path()
    }
}

/// The host alone: there may be a key in the rest.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address")
            .field(&self.host().unwrap_or("?"))
            .finish()
    }
}

/// A server's answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; empty if it was larger than it may be.
    pub body: Bytes,
}

/// Why no whole answer came.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// No connection, or no head of an answer.
    #[error("{0}")]
    Upstream(#[from] UpstreamError),
    /// It took too long.
    #[error("it took longer than {} s", .0.as_secs_f64())]
    Late(Duration),
    /// The body is larger than it may be.
    #[error("the answer is larger than {most}")]
    Large {
        /// The answer's status.
        status: StatusCode,
        /// The largest that is read.
        most: ByteSize,
    },
    /// The body broke off.
    #[error("the answer broke off: {0}")]
    Broken(String),
}

/// Sends one request and reads its answer, whatever its status.
///
/// # Errors
/// No whole answer came within the bounds; the server may have acted all the same.
pub async fn exchange(
    upstream: &Arc<Upstream>,
    address: &Address,
    mut request: Request<Bytes>,
    bounds: Bounds,
) -> Result<Answer, ExchangeError> {
    *request.uri_mut() = address.target.clone();
    let agent = HeaderValue::from_static(concat!("tollgate/", env!("CARGO_PKG_VERSION")));
    let headers = request.headers_mut();
    headers.insert(HOST, address.origin.host_header().clone());
    headers.entry(USER_AGENT).or_insert(agent);
    let asking = async {
        let request = request.map(Outgoing::whole);
        let response = upstream.send(&address.origin, request, || {}).await?;
        let (head, body) = response.into_parts();
        let status = head.status;
        let body = Limited::new(body, bounds.answer.as_usize()).collect().await;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                let most = bounds.answer;
                ExchangeError::Large { status, most }
            } else {
                ExchangeError::Broken(error.to_string())
            }
        })?;
        Ok(Answer {
            status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    };
    let answer = timeout(bounds.time, Box::pin(asking)).await;
    answer.map_err(|_elapsed| ExchangeError::Late(bounds.time))?
}

/// What is sent: a request that is whole in memory.
#[derive(Clone, Debug)]
pub struct Letter {
    /// `POST` or `PUT`.
    pub method: Method,
    /// Its headers, `content-type` included. Mark values that are secret as sensitive.
    pub headers: HeaderMap,
    /// Its body, plain.
    pub body: Bytes,
    /// How the body goes over the wire.
    pub compression: Compression,
}

/// Takes letters to one destination and says what became of them. Its connections are kept for the
/// next ones.
pub struct Courier {
    upstream: Arc<Upstream>,
    clock: Arc<dyn Clock>,
    bounds: Bounds,
}

impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Courier").finish_non_exhaustive()
    }
}

/// Why a letter was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// There is no answer to go by.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// No keys to sign it with can be had at this moment; why.
    #[error("it cannot be signed: {0}")]
    Unsigned(String),
    /// The answer says no.
    #[error("it answered with status {}{words}", .status.as_u16())]
    Status {
        /// Its status.
        status: StatusCode,
        /// How long it asks us to wait.
        after: Option<Duration>,
        /// What it said, as `: words`, if that can hold no secret.
        words: String,
    },
}

/// What can be done about a letter that was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Sending it again, after the time that the server asked for, if it did.
    Later(Option<Duration>),
    /// Sending less at once.
    Smaller,
    /// Nothing: it would be refused again.
    Nothing,
}

impl PostError {
    /// What can be done about it. Redirections are not followed: a key must not be led elsewhere.
    pub const fn remedy(&self) -> Remedy {
        let Self::Status { status, after, .. } = self else {
            return Remedy::Later(None);
        };
        match status.as_u16() {
            408 | 429 | 500..=599 => Remedy::Later(*after),
            413 => Remedy::Smaller,
            _ => Remedy::Nothing,
        }
    }
}

impl Courier {
    /// Over connections as `upstream:` says, but for what the destination says itself: `tls`, and the
    /// egress `proxy`. `own_ports`: those that an egress proxy must not be.
    ///
    /// # Errors
    /// A certificate or key cannot be used; the error names the key below `tls`.
    pub fn new(
        (upstream, own_ports): (&UpstreamConfig, &[u16]),
        tls: &Tls,
        proxy: Option<&Egress>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let connector = Connector::toward((upstream, own_ports), tls, proxy)?;
        let bounds = Bounds {
            time: Duration::from_mins(2),
            answer: ByteSize::mib(1),
        };
        let patience = Patience {
            first_byte: bounds.time,
            idle: bounds.time,
        };
        Ok(Self {
            upstream: Arc::new(Upstream::new(connector, patience, upstream.pool_idle)),
            clock,
            bounds,
        })
    }

    /// Sends a letter. Nothing but a status of 200 to 299 counts as taken.
    ///
    /// # Errors
    /// It was not taken, or nobody can say; [`PostError::remedy`] tells what can be done. Dropping the
    /// future closes the connection.
    pub async fn send(&self, address: &Address, letter: Letter) -> Result<Answer, PostError> {
        self.upstream.sweep(self.clock.mono());
        let secrets = Secrets::of(address, &letter.headers);
        let answer = exchange(&self.upstream, address, letter.request(), self.bounds).await;
        let answer = match answer {
            Ok(answer) => answer,
            // It was taken; what was said about it is too long to be of use.
            Err(ExchangeError::Large { status, .. }) if status.is_success() => Answer {
                status,
                headers: HeaderMap::new(),
                body: Bytes::new(),
            },
            Err(error) => return Err(error.into()),
        };
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(PostError::Status {
            status: answer.status,
            after: retry_after(&answer.headers, self.clock.wall()),
            words: secrets.words(code(&answer.body).map_or(&*answer.body, str::as_bytes)),
        })
    }
}

impl Letter {
    /// A POST of JSON, not compressed.
    pub fn json(body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        let json = HeaderValue::from_static("application/json");
        headers.insert(http::header::CONTENT_TYPE, json);
        Self {
            method: Method::POST,
            headers,
            body: body.into(),
            compression: Compression::None,
        }
    }

    fn request(self) -> Request<Bytes> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.headers_mut() = self.headers;
        if self.compression == Compression::Gzip
            && let Some(gzipped) = gzipped(request.body())
        {
            *request.body_mut() = gzipped;
            let gzip = HeaderValue::from_static("gzip");
            request.headers_mut().insert(CONTENT_ENCODING, gzip);
        }
        request
    }
}

/// Headers that a user wrote, with all values marked as sensitive.
///
/// # Errors
/// A name or a value cannot be one; the error has the name alone.
pub fn headers(written: &BTreeMap<Box<str>, Secret>) -> Result<HeaderMap, NoHeader> {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let wrong = || NoHeader(name.to_string());
        let parsed: HeaderName = name.parse().map_err(|_no_name| wrong())?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_no_value| wrong())?;
        value.set_sensitive(true);
        headers.insert(parsed, value);
    }
    Ok(headers)
}

/// A header that cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("headers.{0}: the name or the value has characters that no header can have")]
pub struct NoHeader(String);

pub(super) fn gzipped(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Level::fast());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

/// The wait that a `Retry-After` asks for: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let date = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::from_secs(date.as_secs()).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16) -> Remedy {
        let error = PostError::Status {
            status: StatusCode::from_u16(code).unwrap(),
            after: None,
            words: String::new(),
        };
        error.remedy()
    }

    #[test]
    fn what_may_pass_is_told_from_what_will_not() {
        for code in [408, 429, 500, 502, 503, 504, 599] {
            assert_eq!(status(code), Remedy::Later(None), "{code}");
        }
        for code in [301, 307, 400, 401, 403, 404, 410, 422] {
            assert_eq!(status(code), Remedy::Nothing, "{code}");
        }
        assert_eq!(status(413), Remedy::Smaller);
        let late = ExchangeError::Late(Duration::from_secs(1));
        assert_eq!(PostError::from(late).remedy(), Remedy::Later(None));
    }

    #[test]
    fn a_wait_is_read_as_seconds_and_as_a_date() {
        let wait = |text: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            retry_after(&headers, Timestamp::from_secs(1_795_328_714))
        };
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        let date = "Sun, 22 Nov 2026 06:25:20 GMT";
        assert_eq!(wait(date), Some(Duration::from_secs(6)));
        assert_eq!(wait("Sun, 22 Nov 2020 06:25:20 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("-1"), None);
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn an_address_shows_its_host_and_nothing_else() {
        let parse = |url: &str| Address::parse(&Secret::new(url));
        let hook = parse("https://hooks.slack.com/services/T0/B0/hush?key=hush").unwrap();
        assert_eq!(format!("{hook:?}"), "Address(\"hooks.slack.com\")");
        assert_eq!(hook.target, "/services/T0/B0/hush?key=hush");
        let torn = parse("http://hu/sh@host/").unwrap();
        assert_eq!(format!("{torn:?}"), "Address(\"?\")");
        for url in ["", "host:80", "/path", "ftp://host/", "http://"] {
            assert_eq!(parse(url).unwrap_err(), NoAddress::Invalid, "{url}");
        }
        let user = parse("http://me:hush@host/").unwrap_err();
        assert_eq!(user, NoAddress::User);
    }

    #[test]
    fn an_answer_is_quoted_only_if_it_repeats_nothing_of_ours() {
        let url = Secret::new("http://host/services/hushhush?code=hiddenone");
        let address = Address::parse(&url).unwrap();
        let mut headers = HeaderMap::new();
        let mut key = HeaderValue::from_static("Bearer abcdefgh");
        key.set_sensitive(true);
        headers.insert("authorization", key);
        let secrets = Secrets::of(&address, &headers);
        assert_eq!(secrets.words(b"invalid_payload\n"), ": invalid_payload");
        for body in [
            "no hushhush",
            "no hiddenone",
            "wrong key abcdefgh",
            "key 1234",
            "<html>",
            "",
            "a\u{1b}b",
        ] {
            assert_eq!(secrets.words(body.as_bytes()), "", "{body}");
        }
        assert_eq!(secrets.words("long ".repeat(100).as_bytes()), "");
    }
}
