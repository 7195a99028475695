//! Sends a request on: the target, the headers, the body; and turns what can go wrong on the way
//! into a refusal.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE},
    request::Parts,
};

use super::{exchange::Exchange, headers, intercept::Opened};
use crate::{
    call::refusal::{Reason, Refusal},
    net::{body::Outgoing, pace::Unfinished, upstream::UpstreamError},
    provider::{
        Dialect,
        wire::{encoding::Decoder, form::BodyScanner},
    },
};

/// A request on its way out.
pub(super) struct Outbound {
    parts: Parts,
    body: Outgoing,
    /// The body's new length, if it was edited.
    edited_length: Option<usize>,
}

impl Outbound {
    pub(super) const fn new(parts: Parts, body: Outgoing) -> Self {
        Self {
            parts,
            body,
            edited_length: None,
        }
    }

    /// With a body that is all there.
    pub(super) fn whole(parts: Parts, body: Bytes, trailers: Option<HeaderMap>) -> Self {
        let body = match trailers {
            None => Outgoing::whole(body),
            Some(trailers) => Outgoing::Trailed(Some(body), Some(Box::new(trailers))),
        };
        Self::new(parts, body)
    }

    /// With the body's new length, if it was edited.
    pub(super) fn edited(self, edited_length: Option<usize>) -> Self {
        Self {
            edited_length,
            ..self
        }
    }

    /// The request as the provider gets it.
    pub(super) fn request(self, exchange: &Exchange) -> Request<Outgoing> {
        let Self {
            parts,
            body,
            edited_length,
        } = self;
        let route = &exchange.route;
        let mut request = Request::new(body);
        *request.method_mut() = parts.method;
        *request.uri_mut() = Uri::from(route.target.clone());
        let opened = parts.extensions.get::<Arc<Opened>>();
        if let Some(hops) = opened.and_then(|opened| opened.hops.clone()) {
            request.extensions_mut().insert(hops);
        }
        *request.headers_mut() = headers::to_upstream(parts.headers, route.to.host_header());
        exchange
            .trace
            .propagate(&exchange.live.propagation, request.headers_mut(), covers);
        if let Some(length) = edited_length
            && let Some(declared) = request.headers_mut().get_mut(CONTENT_LENGTH)
        {
            *declared = HeaderValue::from(length);
        }
        if let Some(signing) = &exchange.signing {
            signing.sign(&mut request, exchange);
        }
        request
    }
}

/// The body as text to read: decoded on the side if it is encoded; `None` if it cannot be.
pub(super) fn plain<'a>(headers: &HeaderMap, body: &'a Bytes) -> Option<Cow<'a, [u8]>> {
    let Some(mut decoder) = Decoder::of(headers).ok()? else {
        return Some(Cow::Borrowed(body));
    };
    let mut plain = Vec::new();
    decoder
        .feed(body, &mut |piece| plain.extend_from_slice(piece))
        .and_then(|()| decoder.finish())
        .ok()?;
    Some(Cow::Owned(plain))
}

/// What reads the body while it passes, or reduces one that is no JSON.
pub(super) fn scanner(headers: &HeaderMap, dialect: &dyn Dialect) -> BodyScanner {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    BodyScanner::new(kind, dialect.wanted().request)
}

/// Whether the client has signed or digested the body, so that no byte of it may change.
pub(super) fn is_signed(headers: &HeaderMap) -> bool {
    const DIGESTS: [HeaderName; 4] = [
        HeaderName::from_static("content-digest"),
        HeaderName::from_static("digest"),
        HeaderName::from_static("content-md5"),
        HeaderName::from_static("signature-input"),
    ];
    let aws = headers
        .get(AUTHORIZATION)
        .is_some_and(|value| value.as_bytes().starts_with(b"AWS4-"));
    aws || DIGESTS.iter().any(|name| headers.contains_key(name))
}

/// Whether the client has signed this header: AWS Signature Version 4, HTTP Message Signatures
/// (RFC 9421).
fn covers(headers: &HeaderMap, name: &HeaderName) -> bool {
    let texts = |name: HeaderName| headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    let aws = texts(AUTHORIZATION).any(|value| {
        let text = std::str::from_utf8(value).unwrap_or_default();
        let named = text
            .split_once("SignedHeaders=")
            .map_or("", |(_, list)| list);
        let mut named = named.split([',', ' ']).next().unwrap_or("").split(';');
        text.starts_with("AWS4-") && named.any(|signed| name.as_str() == signed)
    });
    aws || texts(HeaderName::from_static("signature-input")).any(|value| {
        let quoted = format!("\"{name}\"");
        value
            .windows(quoted.len())
            .any(|part| part == quoted.as_bytes())
    })
}

/// The request's body did not come to its end.
pub(super) fn unfinished(exchange: &mut Exchange, error: &Unfinished) -> Refusal {
    // Whatever the provider got of it was no request.
    exchange.sent = None;
    let reason = match error {
        Unfinished::Slow(_) => Reason::TooSlow,
        Unfinished::Broken(_) => {
            exchange.client_left = true;
            exchange.error_type = Some("client");
            Reason::BadRequest
        },
    };
    Refusal::new(reason, "", format!("Tollgate sent nothing on: {error}."))
}

/// What the client is told when no answer came.
pub(super) fn failure(exchange: &Exchange, error: &UpstreamError) -> Refusal {
    let reason = if error.is_timeout() {
        Reason::Timeout
    } else {
        Reason::BadGateway
    };
    let provider = &exchange.route.to.provider.name;
    let host = &exchange.route.to.server_address;
    Refusal::new(
        reason,
        "",
        format!("Tollgate got no answer from {provider} ({host}): {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_signature_names_is_covered_by_it() {
        let aws = "AWS4-HMAC-SHA256 Credential=AK/20260101/us-east-1/bedrock/aws4_request, \
                   SignedHeaders=b3;host;x-amz-date, Signature=traceparent";
        let rfc = "sig1=(\"@method\" \"b3\" \"content-digest\");created=1;keyid=\"k\"";
        for (name, value) in [("authorization", aws), ("signature-input", rfc)] {
            let name = HeaderName::from_static(name);
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            assert!(covers(&headers, &HeaderName::from_static("b3")));
            assert!(!covers(&headers, &HeaderName::from_static("traceparent")));
        }
    }
}
