//! What is answered: bodies that are whole, with the headers that every answer has, and errors that
//! say what is wrong, where, and what to do.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;

/// An answer.
pub(super) type Answer = Response<Full<Bytes>>;

/// A question that is not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Problem {
    /// 400 to 599.
    pub(super) status: StatusCode,
    /// What is wrong, where, and what to do.
    pub(super) message: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// The question is not one.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

/// `{"error": {"status": 404, "message": "…"}}`.
impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        #[derive(Serialize)]
        struct Body<'a> {
            error: Error<'a>,
        }
        #[derive(Serialize)]
        struct Error<'a> {
            status: u16,
            message: &'a str,
        }
        let Problem { status, message } = &problem;
        let error = Error {
            status: status.as_u16(),
            message,
        };
        let mut answer = json(&Body { error });
        *answer.status_mut() = *status;
        answer
    }
}

/// A value as JSON, on lines of its own.
pub(super) fn json(value: &impl Serialize) -> Answer {
    // Serialising plain data into memory cannot fail.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    typed("application/json", text)
}

/// Lines of text.
pub(super) fn text(text: impl Into<Bytes>) -> Answer {
    typed("text/plain; charset=utf-8", text)
}

/// A body of a media type. Nothing is cached, guessed at, framed or allowed to load anything.
pub(super) fn typed(media_type: &'static str, body: impl Into<Bytes>) -> Answer {
    const HEADERS: [(header::HeaderName, &str); 4] = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'",
        ),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    let mut answer = Response::new(Full::new(body.into()));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}
