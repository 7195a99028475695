//! What callers without a client key are told apart by: a hash of the credential that they show the
//! provider, never the credential.

use std::fmt::Write as _;

use http::{HeaderMap, header::SEC_WEBSOCKET_PROTOCOL, request::Parts};

use super::{
    authenticate::{CREDENTIALS, GOOGLE_KEY, INSECURE},
    exchange::Exchange,
};
use crate::call::span::{KEY, Value};

/// How many bytes of the hash tell callers apart.
const LENGTH: usize = 6;

/// Notes by what rules know the caller, if it shows no client key. Before the provider's credential
/// is put in place of what it shows.
pub(super) fn note(exchange: &mut Exchange, head: &Parts) {
    if exchange.caller.key.is_some() {
        return;
    }
    exchange.credential = name(head);
    if let Some(name) = &exchange.credential {
        let value = Value::Text(name.clone());
        exchange.attributes.push((KEY, value));
    }
}

/// `sha256:` and 12 digits of the credential's hash; `None`: the request shows none.
fn name(head: &Parts) -> Option<Box<str>> {
    let shown = in_headers(&head.headers).or_else(|| in_query(head.uri.query()?))?;
    let digest = ring::digest::digest(&ring::digest::SHA256, shown.as_bytes());
    let mut text = String::from("sha256:");
    for byte in digest.as_ref().iter().take(LENGTH) {
        // Writing to a String cannot fail.
        let _ok = write!(text, "{byte:02x}");
    }
    Some(text.into_boxed_str())
}

fn in_headers(headers: &HeaderMap) -> Option<&str> {
    let shown = CREDENTIALS.iter().find_map(|name| {
        let value = headers.get(name)?;
        let text = std::str::from_utf8(value.as_bytes()).ok()?;
        Some(secret(text)).filter(|secret| !secret.is_empty())
    });
    shown.or_else(|| {
        let protocols = headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
        let mut protocols = protocols.split(',').map(str::trim);
        protocols.find_map(|protocol| protocol.strip_prefix(INSECURE))
    })
}

/// What stays the same from one request to the next: without the scheme's name, and of a signature
/// (AWS) the id of the key that it was made with.
fn secret(value: &str) -> &str {
    let value = value.trim();
    let (scheme, rest) = value.split_once(' ').unwrap_or(("", value));
    if !scheme.starts_with("AWS4-") {
        return rest.trim();
    }
    let key = rest.split_once("Credential=").map_or(rest, |(_, key)| key);
    key.split('/').next().unwrap_or(key)
}

/// The query parameter in which Google is shown keys, or a presigned AWS request the key's id.
fn in_query(query: &str) -> Option<&str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, shown) = pairs.find(|(name, _)| [GOOGLE_KEY, "X-Amz-Credential"].contains(name))?;
    let id = shown.split(['/', '%']).next().unwrap_or(shown);
    Some(id).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn named(target: &str, headers: &[(&str, &str)]) -> Option<Box<str>> {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        name(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn one_credential_has_one_name_wherever_it_is_shown_and_another_has_another() {
        let name = named("/v1", &[("authorization", "Bearer sk-1")]).unwrap();
        assert!(name.starts_with("sha256:") && name.len() == 19, "{name}");
        for (header, value) in [
            ("authorization", "bearer  sk-1 "),
            ("authorization", "sk-1"),
            ("x-api-key", "sk-1"),
            ("api-key", "sk-1"),
            ("x-goog-api-key", "sk-1"),
            (
                "sec-websocket-protocol",
                "realtime, openai-insecure-api-key.sk-1",
            ),
        ] {
            assert_eq!(
                named("/v1", &[(header, value)]).as_ref(),
                Some(&name),
                "{header}"
            );
        }
        assert_eq!(named("/v1?alt=sse&key=sk-1", &[]), Some(name.clone()));
        assert_ne!(named("/v1", &[("x-api-key", "sk-2")]), Some(name));
        assert_eq!(named("/v1?a=b", &[("authorization", " ")]), None);
    }

    #[test]
    fn signatures_of_one_key_have_one_name() {
        let signed = |day: &str, signature: &str| {
            let value = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{day}/us-east-1/bedrock/aws4_request, \
                 SignedHeaders=host, Signature={signature}"
            );
            named("/model/m/invoke", &[("authorization", &value)]).unwrap()
        };
        assert_eq!(signed("20261125", "aa"), signed("20261126", "bb"));
    }
}
