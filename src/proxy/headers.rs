//! Which headers go on and which are for the next hop only.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        AUTHORIZATION, CONNECTION, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
        TRANSFER_ENCODING, UPGRADE,
    },
};

/// The prefix of our own headers, which never reach a provider.
pub(super) const OURS: &str = "x-tollgate-";

/// The headers in which clients show providers their keys.
pub(super) const CREDENTIALS: [HeaderName; 4] = [
    AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// The call's id, on every response.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-tollgate-request-id");
/// What refused a call.
pub(super) const BLOCKED_BY: HeaderName = HeaderName::from_static("x-tollgate-blocked-by");
/// The output limit, in tokens, that a budget gave the request.
pub(super) const CLAMPED: HeaderName = HeaderName::from_static("x-tollgate-clamped");
/// When an exhausted budget resets.
pub(super) const RESET: HeaderName = HeaderName::from_static("x-tollgate-reset");
/// Tells official SDKs not to retry.
pub(super) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// The real wait, in milliseconds, which official SDKs prefer to `retry-after`.
pub(super) const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Whether the client or the provider asks for another protocol on this connection. Not for HTTP in
/// another version (`h2c`) or below TLS, which are for this hop alone: calls in it would pass unseen.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    let mut asked = headers.get_all(UPGRADE).iter().peekable();
    asked.peek().is_some()
        && !asked.any(is_hidden_http)
        && connection_names(headers).any(|name| name == "upgrade")
}

fn is_hidden_http(upgrade: &HeaderValue) -> bool {
    let upgrade = upgrade.as_bytes().to_ascii_lowercase();
    let mut names = upgrade.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    names.any(|name| name == b"h2c" || name.starts_with(b"http/") || name.starts_with(b"tls/"))
}

/// The request's headers as the provider shall get them: in their order, without those for this hop
/// and without ours; `host` in the place of the client's, or at the front. Values are moved.
pub(super) fn to_upstream(headers: HeaderMap, host: &HeaderValue) -> HeaderMap {
    let upgrade = is_upgrade(&headers);
    let named = Named::by(&headers);
    let mut out = HeaderMap::with_capacity(headers.len() + 2);
    if !headers.contains_key(HOST) {
        out.append(HOST, host.clone());
    }
    each(headers, |name, value| {
        if *name == HOST {
            if !out.contains_key(HOST) {
                out.append(HOST, host.clone());
            }
            return;
        }
        let kept = match *name {
            CONNECTION | UPGRADE => upgrade,
            // The one value that is for the other end as well: it says who can read trailers.
            TE => value == "trailers",
            _ => !is_hop_by_hop(name) && !named.has(name) && !name.as_str().starts_with(OURS),
        };
        if kept {
            out.append(name.clone(), value);
        }
    });
    out
}

/// The response's headers as the client shall get them: in their order, without those for the hop
/// between us and the provider. Values are moved.
pub(super) fn to_client(headers: HeaderMap) -> HeaderMap {
    let upgrade = is_upgrade(&headers);
    let named = Named::by(&headers);
    let kept = |name: &HeaderName| match *name {
        CONNECTION | UPGRADE => upgrade,
        _ => !is_hop_by_hop(name) && !named.has(name),
    };
    // The usual case; to make another map costs more than to look.
    if headers.keys().all(kept) {
        return headers;
    }
    // Two of ours follow.
    let mut out = HeaderMap::with_capacity(headers.len() + 2);
    each(headers, |name, value| {
        if kept(name) {
            out.append(name.clone(), value);
        }
    });
    out
}

/// Hands over every header in order; a further value of a name comes without it in the map's own
/// iterator.
pub(super) fn each(headers: HeaderMap, mut take: impl FnMut(&HeaderName, HeaderValue)) {
    let mut last = None;
    for (name, value) in headers {
        if name.is_some() {
            last = name;
        }
        if let Some(name) = &last {
            take(name, value);
        }
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    [
        CONNECTION,
        TRANSFER_ENCODING,
        TE,
        UPGRADE,
        PROXY_AUTHORIZATION,
        PROXY_AUTHENTICATE,
    ]
    .contains(name)
        || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
}

/// The headers that a `Connection` header declares to be for this hop (RFC 9110, 7.6.1), but for those
/// that are for the other end whatever it says: else a body would be read in one way here and in
/// another there. None in almost every request.
struct Named(Vec<String>);

impl Named {
    fn by(headers: &HeaderMap) -> Self {
        let ordinary = |name: &String| {
            let is_known = matches!(name.as_str(), "keep-alive" | "close" | "upgrade" | "te");
            !is_known && !is_end_to_end(name)
        };
        Self(connection_names(headers).filter(ordinary).collect())
    }

    fn has(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|named| name.as_str() == named)
    }
}

/// What says how a message is read, who sends it and where it goes.
fn is_end_to_end(name: &str) -> bool {
    name.starts_with("content-")
        || *name == HOST
        || CREDENTIALS.iter().any(|credential| *name == *credential)
}

fn connection_names(headers: &HeaderMap) -> impl Iterator<Item = String> {
    headers
        .get_all(CONNECTION)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        map
    }

    fn names(map: &HeaderMap) -> Vec<&str> {
        map.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn order_and_repeats_are_kept_and_only_our_hop_is_left_out() {
        let request = map(&[
            ("accept", "*/*"),
            ("host", "127.0.0.1:4100"),
            ("connection", "keep-alive, x-private"),
            ("x-private", "1"),
            ("x-tollgate-agent", "a"),
            ("x-stainless-lang", "python"),
            ("cookie", "a"),
            ("cookie", "b"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("authorization", "Bearer k"),
        ]);
        let sent = to_upstream(request, &HeaderValue::from_static("api.openai.com"));
        assert_eq!(
            names(&sent),
            [
                "accept",
                "host",
                "x-stainless-lang",
                "cookie",
                "cookie",
                "te",
                "authorization"
            ]
        );
        assert_eq!(sent[HOST], "api.openai.com");
    }

    #[test]
    fn what_is_for_the_other_end_is_not_left_out_whatever_connection_says() {
        let lines = [
            (
                "connection",
                "Content-Encoding, content-type, authorization, X-Api-Key, host, x-private",
            ),
            ("host", "h"),
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
            ("authorization", "Bearer k"),
            ("x-api-key", "k"),
            ("x-private", "1"),
        ];
        let kept = [
            "host",
            "content-type",
            "content-encoding",
            "authorization",
            "x-api-key",
        ];
        let sent = to_upstream(map(&lines), &HeaderValue::from_static("h"));
        assert_eq!(names(&sent), kept);
        assert_eq!(names(&to_client(map(&lines))), kept);
    }

    #[test]
    fn a_request_without_host_gets_one() {
        let sent = to_upstream(map(&[("accept", "*/*")]), &HeaderValue::from_static("h"));
        assert_eq!(names(&sent), ["host", "accept"]);
    }

    #[test]
    fn an_upgrade_passes() {
        let lines = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "k"),
        ];
        let sent = to_upstream(map(&lines), &HeaderValue::from_static("h"));
        assert_eq!(
            names(&sent),
            ["host", "connection", "upgrade", "sec-websocket-key"]
        );
        assert_eq!(
            names(&to_client(map(&lines))),
            ["connection", "upgrade", "sec-websocket-key"]
        );
    }

    #[test]
    fn a_response_keeps_everything_else() {
        let lines = [
            ("set-cookie", "a"),
            ("keep-alive", "timeout=5"),
            ("connection", "close"),
            ("x-y", "z"),
        ];
        assert_eq!(names(&to_client(map(&lines))), ["set-cookie", "x-y"]);
    }
}
