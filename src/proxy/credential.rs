//! What callers without a client key are told apart by: a hash of the credential that the provider is
//! shown, never the credential. Where that is Tollgate's own, they are all one.

use std::borrow::Cow;

use http::{
    HeaderMap, HeaderName,
    header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL},
    request::Parts,
};

use super::{
    authenticate::{GOOGLE_KEY, INSECURE},
    entrust::X_GOOG_API_KEY,
    exchange::Exchange,
    route::Route,
};
use crate::{
    base::id::hex_text,
    call::span::{KEY, Value},
    provider::wire::percent::decoded,
};

/// How many bytes of the hash tell callers apart.
const LENGTH: usize = 6;

/// The header in which clients show Azure their keys, and the query parameter in which its sockets
/// take them too.
const AZURE_KEY: &str = "api-key";

/// The query parameter in which a presigned AWS request shows who signed it, and for what.
const AWS_SIGNER: &str = "X-Amz-Credential";

/// Notes by what rules know the caller, if it shows no client key. Only once the request has the
/// credentials that the provider gets: any others are the caller's to choose.
pub(super) fn note(exchange: &mut Exchange, head: &Parts) {
    // What Tollgate signs has no credential before it is sent, and then Tollgate's own.
    if exchange.signing.is_none() {
        let name = name(&exchange.route, &head.headers);
        know(exchange, name);
    }
}

/// Rules know the caller by this name, if it shows no client key.
pub(super) fn know(exchange: &mut Exchange, name: Option<Box<str>>) {
    if exchange.caller.key.is_some() {
        return;
    }
    if let Some(name) = &name {
        let value = Value::Text(name.clone());
        exchange.attributes.push((KEY, value));
    }
    exchange.credential = name;
}

/// `sha256:` and 12 digits of the credential's hash; `None`: the request shows none.
fn name(route: &Route, headers: &HeaderMap) -> Option<Box<str>> {
    let provider = &route.to.provider;
    let usual = HeaderName::from_static(route.dialect.key_header());
    let first = provider.api_key_header.as_ref().unwrap_or(&usual);
    let shown = shown(headers, route.target.query(), [first, &usual])?;
    let digest = ring::digest::digest(&ring::digest::SHA256, shown.as_bytes());
    let first = digest.as_ref().get(..LENGTH)?;
    Some(["sha256:", &hex_text(first)].concat().into_boxed_str())
}

/// The credential that a provider with keys in these headers (its own, and its dialect's) looks at
/// first. In a header that means nothing to it, anybody can show anything.
fn shown<'a>(
    headers: &'a HeaderMap,
    query: Option<&'a str>,
    own: [&HeaderName; 2],
) -> Option<Cow<'a, str>> {
    let header = |name| {
        let text = std::str::from_utf8(headers.get(name)?.as_bytes()).ok()?;
        let secret = Some(secret(text)).filter(|secret| !secret.is_empty());
        secret.map(Cow::Borrowed)
    };
    let parameter = |name| in_query(query?, name);
    let google = own.contains(&&X_GOOG_API_KEY).then_some(GOOGLE_KEY);
    let azure = || own.iter().any(|name| **name == AZURE_KEY);
    let its_parameter = google.or_else(|| azure().then_some(AZURE_KEY));
    own.into_iter()
        .find_map(header)
        .or_else(|| parameter(its_parameter?))
        .or_else(|| header(&AUTHORIZATION))
        .or_else(|| in_protocols(headers).map(Cow::Borrowed))
        .or_else(|| parameter(AWS_SIGNER).map(|scope| Cow::Owned(signer(&scope).to_owned())))
        .filter(|shown| !shown.is_empty())
}

/// What browsers show OpenAI's sockets.
fn in_protocols(headers: &HeaderMap) -> Option<&str> {
    let protocols = headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let mut protocols = protocols.split(',').map(str::trim);
    protocols.find_map(|protocol| protocol.strip_prefix(INSECURE))
}

/// What stays the same from one request to the next: without the scheme's name, and of a signature
/// (AWS) the id of the key that it was made with.
pub(super) fn secret(value: &str) -> &str {
    let value = value.trim();
    let (scheme, rest) = value.split_once(char::is_whitespace).unwrap_or(("", value));
    if !scheme.starts_with("AWS4-") {
        return rest.trim();
    }
    let key = rest.split_once("Credential=").map_or(rest, |(_, key)| key);
    signer(key)
}

/// A query parameter that is not empty, however it is encoded.
fn in_query<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| decoded(key) == name)?;
    Some(decoded(value)).filter(|value| !value.is_empty())
}

/// Of what a signature is made with, the id of the key.
fn signer(scope: &str) -> &str {
    scope.split('/').next().unwrap_or(scope)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
    const API_KEY: HeaderName = HeaderName::from_static("api-key");
    const OPENAI: [HeaderName; 2] = [AUTHORIZATION, AUTHORIZATION];
    const AZURE: [HeaderName; 2] = [API_KEY, AUTHORIZATION];
    const ANTHROPIC: [HeaderName; 2] = [X_API_KEY, X_API_KEY];
    const GEMINI: [HeaderName; 2] = [X_GOOG_API_KEY, X_GOOG_API_KEY];

    fn in_request(
        own: &[HeaderName; 2],
        query: &str,
        lines: &[(&'static str, &'static str)],
    ) -> Option<String> {
        let lines = lines.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        let (headers, [first, usual]) = (lines.collect(), own);
        shown(&headers, Some(query), [first, usual]).map(Cow::into_owned)
    }

    #[test]
    fn a_credential_is_one_wherever_a_provider_takes_it() {
        const PROTOCOLS: &str = "realtime, openai-insecure-api-key.sk-1";
        for (own, header, value) in [
            (OPENAI, "authorization", "Bearer sk-1"),
            (OPENAI, "authorization", "bearer  sk-1 "),
            (OPENAI, "authorization", "Bearer\tsk-1"),
            (OPENAI, "authorization", "sk-1"),
            (OPENAI, "sec-websocket-protocol", PROTOCOLS),
            (AZURE, "api-key", "sk-1"),
            (AZURE, "authorization", "Bearer sk-1"),
            (ANTHROPIC, "x-api-key", "sk-1"),
            (ANTHROPIC, "authorization", "Bearer sk-1"),
            (GEMINI, "x-goog-api-key", "sk-1"),
            (GEMINI, "authorization", "Bearer sk-1"),
        ] {
            let shown = in_request(&own, "a=b", &[(header, value)]);
            assert_eq!(shown.as_deref(), Some("sk-1"), "{own:?} {value}");
        }
        for query in [
            "alt=sse&key=sk-1",
            "key=sk-1&key=2",
            "key=%73k%2d1",
            "k%65y=sk-1",
        ] {
            assert_eq!(in_request(&GEMINI, query, &[]).unwrap(), "sk-1", "{query}");
        }
        assert_eq!(in_request(&GEMINI, "key=a/b", &[]).unwrap(), "a/b");
        for query in ["api-version=1&api-key=sk-1", "api%2Dkey=sk%2d1"] {
            assert_eq!(in_request(&AZURE, query, &[]).unwrap(), "sk-1", "{query}");
            assert_eq!(in_request(&OPENAI, query, &[]), None, "{query}");
        }
        // A header goes before it.
        let token = [("authorization", "Bearer sk-1")];
        let shown = in_request(&AZURE, "api-key=made-up", &token);
        assert_eq!(shown.as_deref(), Some("sk-1"));
        for query in ["key=", "a=b", "", "X-Amz-Credential=/a"] {
            let nothing = [("x-goog-api-key", " ")];
            assert_eq!(in_request(&GEMINI, query, &nothing), None, "{query}");
        }
    }

    #[test]
    fn what_another_provider_would_look_at_makes_nobody_another() {
        let others = [
            ("authorization", "Bearer made-up"),
            ("x-api-key", "made-up"),
            ("api-key", "made-up"),
            ("x-goog-api-key", "made-up"),
            ("sec-websocket-protocol", "openai-insecure-api-key.made-up"),
        ];
        for (own, real) in [
            (OPENAI, ("authorization", "Bearer real")),
            (AZURE, ("api-key", "real")),
            (ANTHROPIC, ("x-api-key", "real")),
            (GEMINI, ("x-goog-api-key", "real")),
        ] {
            let lines = others.map(|line| if line.0 == real.0 { real } else { line });
            let shown = in_request(&own, "key=made-up", &lines);
            assert_eq!(shown.as_deref(), Some("real"), "{own:?}");
        }
        let lines = [others[0], others[1], others[2], others[4]];
        assert_eq!(in_request(&GEMINI, "key=real", &lines).unwrap(), "real");
        let alone = &others[1..4];
        assert_eq!(in_request(&OPENAI, "key=made-up", alone), None);
    }

    #[test]
    fn signatures_of_one_key_are_of_one_signer() {
        const HEADER: &str = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261125/us-east-1/bedrock/\
             aws4_request, SignedHeaders=host, Signature=aa";
        let in_header = in_request(&OPENAI, "", &[("authorization", HEADER)]);
        assert_eq!(in_header.unwrap(), "AKIDEXAMPLE");
        for query in [
            "X-Amz-Credential=AKIDEXAMPLE/20261125/us-east-1/bedrock/aws4_request",
            "X-Amz-Credential=AKIDEXAMPLE%2F20261126%2fus-east-1",
        ] {
            assert_eq!(in_request(&OPENAI, query, &[]).unwrap(), "AKIDEXAMPLE");
        }
    }
}
