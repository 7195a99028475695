//! What to do about a destination that did not take a span, by what went wrong.

use std::error::Error;

use crate::{
    net::{grpc::GrpcError, post::PostError},
    pipeline::DeliverError,
};

/// Words of errors that come from below, and what to do.
const BY_WORDS: [(&[&str], &str); 7] = [
    (
        &[
            "certificate",
            "UnknownIssuer",
            "tls handshake",
            "HandshakeFailure",
        ],
        "name the authority of its certificate in `tls.ca_file`, or correct its host",
    ),
    (
        &["dns error", "failed to lookup", "Name or service not known"],
        "its host's name is not known here: correct the address, or look at DNS",
    ),
    (
        &["onnection refused"],
        "nobody listens there: is it running, and are host and port right?",
    ),
    (
        &["no connection within", "unreachable", "timed out"],
        "it cannot be reached: look at the address, at DNS, at firewalls, and at `proxy`",
    ),
    (
        &["authentication failed", "password"],
        "correct the user and the password in its `url`",
    ),
    (
        &["ermission denied", "Read-only file system"],
        "let the user that Tollgate runs as write there",
    ),
    (
        &["Not a directory", "No such file", "Is a directory"],
        "correct the path in its options",
    ),
];

/// What to do about the error, if there is a word for it.
pub(super) fn on(error: &DeliverError) -> Option<&'static str> {
    let status = match error {
        DeliverError::Retry { source, .. }
        | DeliverError::Reject(source)
        | DeliverError::TooLarge(source)
        | DeliverError::Partly { source, .. } => status(&**source),
        DeliverError::Gone => return Some("start what it hands spans to"),
    };
    status.map_or_else(|| by_words(&error.to_string()), |it| Some(by_status(it)))
}

/// The HTTP status that it was refused with, or the one that a gRPC status stands for.
fn status(error: &(dyn Error + Send + Sync + 'static)) -> Option<u16> {
    if let Some(PostError::Status { status, .. }) = error.downcast_ref() {
        return Some(status.as_u16());
    }
    match error.downcast_ref()? {
        GrpcError::Http(status) => Some(status.as_u16()),
        // PERMISSION_DENIED, UNAUTHENTICATED, UNIMPLEMENTED, RESOURCE_EXHAUSTED.
        GrpcError::Status { code: 7, .. } => Some(403),
        GrpcError::Status { code: 16, .. } => Some(401),
        GrpcError::Status { code: 12, .. } => Some(404),
        GrpcError::Status { code: 8, .. } => Some(429),
        _ => None,
    }
}

const fn by_status(status: u16) -> &'static str {
    match status {
        300..=399 => "it sends elsewhere, where keys are not taken: name that address itself",
        401 | 403 | 407 => {
            "it does not accept the key: look at `api_key`, `api_key_secret` or `headers`"
        },
        404 | 405 => "it has nothing at that path: correct the address",
        413 => {
            "it takes less at once: lower `batch_size`, `max_batch_bytes` or `max_attribute_bytes`"
        },
        415 => "it does not take this format: look at `protocol` and `compression`",
        429 => "it takes fewer at a time: raise `flush_interval` and `batch_size`",
        500..=599 => "it has troubles of its own: look there, and try again",
        _ => "it does not take what it is sent: look at its address and its options",
    }
}

fn by_words(text: &str) -> Option<&'static str> {
    let mut known = BY_WORDS.iter();
    let found = known.find(|(words, _)| words.iter().any(|word| text.contains(word)));
    found.map(|(_, advice)| *advice)
}

/// What to do about one that has not answered in time, if it can be reached at all.
pub(super) const LATE: &str = "it cannot be reached or does not answer: look there, at DNS, at \
                               firewalls and at `proxy`, or give it longer with --timeout";

/// The same, where its own `timeout` ended before.
pub(super) const LATE_BY_ITS_OWN: &str = "it cannot be reached or does not answer: look there, at \
                                          DNS, at firewalls and at `proxy`, or give it longer with its `timeout`";

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn refused(status: u16) -> DeliverError {
        let error = PostError::Status {
            status: StatusCode::from_u16(status).unwrap(),
            after: None,
            words: String::new(),
        };
        error.into()
    }

    #[test]
    fn each_status_has_its_advice() {
        for (status, word) in [
            (302, "elsewhere"),
            (401, "api_key"),
            (404, "path"),
            (413, "batch_size"),
            (429, "fewer"),
            (503, "troubles"),
            (418, "options"),
        ] {
            assert!(on(&refused(status)).unwrap().contains(word), "{status}");
        }
        let denied = GrpcError::Status {
            code: 16,
            after: None,
            words: String::new(),
        };
        assert!(on(&denied.into()).unwrap().contains("api_key"));
    }

    #[test]
    fn what_comes_from_below_is_known_by_its_words() {
        for (text, word) in [
            ("invalid peer certificate: UnknownIssuer", "ca_file"),
            ("dns error: failed to lookup address information", "DNS"),
            (
                "tcp connect error: Connection refused (os error 111)",
                "running",
            ),
            ("/traces: Permission denied (os error 13)", "user"),
        ] {
            assert!(
                on(&DeliverError::retry(text)).unwrap().contains(word),
                "{text}"
            );
        }
        assert_eq!(on(&DeliverError::retry("what nobody has seen")), None);
    }
}
