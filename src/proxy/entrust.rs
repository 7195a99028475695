//! Puts Tollgate's own key for a provider in place of what the client shows it, for callers who are
//! known; and sees to it that no client key goes on.

use std::borrow::Cow;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, PROXY_AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL},
    request::Parts,
    uri::PathAndQuery,
};

use super::{
    authenticate::{GOOGLE_KEY, IDENTITY, in_header, in_protocol, in_query},
    exchange::Exchange,
    headers::{CREDENTIALS, OURS, each},
};
use crate::{
    call::refusal::{Reason, Refusal},
    identity::is_in,
    provider::{
        Dialect, Provider,
        wire::percent::{self, decoded},
    },
};

/// Where Google takes keys besides the query.
pub(super) const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");
/// A part of AWS's signature, which means nothing without the rest.
const AWS_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Tollgate's own key for a provider.
#[derive(Debug)]
pub(super) struct Credential {
    /// The header that it goes into; `None`: the dialect's.
    header: Option<HeaderName>,
    plain: HeaderValue,
    bearer: HeaderValue,
}

impl Credential {
    /// `providers.X.api_key`.
    pub(super) fn of(provider: &Provider) -> Option<Self> {
        let key = provider.api_key.as_ref()?.expose();
        let value = |text: &str| {
            // What no header can hold was refused with the configuration.
            let mut value = HeaderValue::from_str(text).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        Some(Self {
            header: provider.api_key_header.clone(),
            plain: value(key)?,
            bearer: value(&format!("Bearer {key}"))?,
        })
    }

    fn header(&self, dialect: &dyn Dialect) -> (HeaderName, HeaderValue) {
        let usual = || HeaderName::from_static(dialect.key_header());
        let name = self.header.clone().unwrap_or_else(usual);
        let value = if name == AUTHORIZATION {
            self.bearer.clone()
        } else {
            self.plain.clone()
        };
        (name, value)
    }
}

/// Makes the request's credentials those that the provider shall get.
///
/// # Errors
/// Tollgate's key is not for this caller; or a client key would go on.
pub(super) fn entrust(exchange: &mut Exchange, parts: &mut Parts) -> Result<(), Refusal> {
    let to = &exchange.route.to;
    let Some(credential) = &to.credential else {
        let mut headers = parts.headers.iter();
        let shows_ours = headers.any(|(name, value)| in_header(name, value).is_some());
        if shows_ours || in_query(exchange.route.target.query()).is_some() {
            return Err(keyless(&to.provider));
        }
        return unleaked(exchange, parts);
    };
    if !exchange.caller.is_known() {
        return Err(unknown(&to.provider));
    }
    let (name, value) = credential.header(exchange.route.dialect);
    let target = without_key(&exchange.route.target, name == X_GOOG_API_KEY);
    if let Some(target) = target {
        exchange.route.target = target;
    }
    parts.headers = with(std::mem::take(&mut parts.headers), &name, value);
    exchange.edits.push("request.credential");
    unleaked(exchange, parts)
}

/// The headers in their order, with this credential in the place of the client's.
fn with(headers: HeaderMap, name: &HeaderName, value: HeaderValue) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(headers.len() + 1);
    let mut ours = Some(value);
    each(headers, |given, value| {
        if CREDENTIALS.contains(given) || given == name {
            if let Some(ours) = ours.take() {
                out.append(name.clone(), ours);
            }
        } else if *given == SEC_WEBSOCKET_PROTOCOL {
            if let Some(rest) = without_protocol(&value) {
                out.append(given.clone(), rest);
            }
        } else if *given != AWS_TOKEN {
            out.append(given.clone(), value);
        }
    });
    if let Some(ours) = ours {
        out.append(name.clone(), ours);
    }
    out
}

/// The protocols of a socket without the one that shows a client key.
fn without_protocol(value: &HeaderValue) -> Option<HeaderValue> {
    let text = std::str::from_utf8(value.as_bytes()).unwrap_or_default();
    if !text
        .split(',')
        .any(|protocol| in_protocol(protocol).is_some())
    {
        return Some(value.clone());
    }
    let rest = text
        .split(',')
        .filter(|protocol| in_protocol(protocol).is_none());
    let rest: Vec<&str> = rest.map(str::trim).collect();
    HeaderValue::try_from(rest.join(", "))
        .ok()
        .filter(|rest| !rest.is_empty())
}

/// The target without the key in its query, if it has one: ours, or, where Google's belongs
/// there, anyone's.
fn without_key(target: &PathAndQuery, is_google: bool) -> Option<PathAndQuery> {
    let query = target.query()?;
    let is_key = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        (is_google && decoded(name) == GOOGLE_KEY) || in_query(Some(pair)).is_some()
    };
    query.split('&').find(is_key)?;
    let rest: Vec<&str> = query.split('&').filter(|pair| !is_key(pair)).collect();
    let target = match rest.as_slice() {
        [] => Cow::Borrowed(target.path()),
        rest => Cow::Owned(format!("{}?{}", target.path(), rest.join("&"))),
    };
    PathAndQuery::try_from(&*target).ok()
}

/// Refuses what would tell the provider a client key in a place that is no place for one.
fn unleaked(exchange: &Exchange, parts: &Parts) -> Result<(), Refusal> {
    if !exchange.caller.is_known() {
        return Ok(());
    }
    let target = exchange.route.target.as_str();
    let mut headers = parts.headers.iter().filter(|(name, value)| {
        let stays = name.as_str().starts_with(OURS) || **name == PROXY_AUTHORIZATION;
        // The provider may be a Tollgate, and ours for it a client key there.
        !stays && !value.is_sensitive()
    });
    let place = match headers.find(|(_, value)| is_in(value.as_bytes())) {
        Some((name, _)) => format!("the header {name}"),
        None if is_in(&percent::bytes(target)) => "its path or query".to_owned(),
        None => return Ok(()),
    };
    let message = format!(
        "This request has a client key of Tollgate in {place}, where the provider would see it. Give \
         it in place of the provider's API key, or in the header x-tollgate-key."
    );
    Err(Refusal::new(Reason::BadRequest, IDENTITY, message))
}

/// There is a client key in the place of the provider's, and nothing to put there.
fn keyless(provider: &Provider) -> Refusal {
    let name = &provider.name;
    let message = format!(
        "This call shows a client key of Tollgate in place of the key for {name}, and Tollgate has \
         none that it could send instead. Set providers.{name}.api_key, or show {name} its own key \
         and Tollgate the client key in the header x-tollgate-key."
    );
    Refusal::new(Reason::Unauthorized, IDENTITY, message)
}

/// Nobody knows who would spend with Tollgate's key.
fn unknown(provider: &Provider) -> Refusal {
    let name = &provider.name;
    let message = format!(
        "Tollgate sends its own key to {name} (providers.{name}.api_key) for callers with a client \
         key (identity.keys_file), or from an address that identity.trusted names. This call is \
         neither."
    );
    Refusal::new(Reason::Unauthorized, IDENTITY, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn of_any_query_all_but_the_keys_stays_in_its_order(
            pairs in prop::collection::vec("(key|k%65y|api_key|keys|alt)(=(tg_1|tg%5F1|AIza|sse)?)?", 0..6),
            is_google: bool,
        ) {
            let target = PathAndQuery::try_from(format!("/m?{}", pairs.join("&"))).unwrap();
            let is_key = |pair: &&String| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                let is_place = ["key", "k%65y", "api_key"].contains(&name);
                let is_googles = is_google && ["key", "k%65y"].contains(&name);
                is_googles || (is_place && ["tg_1", "tg%5F1"].contains(&value))
            };
            let rest: Vec<&str> = pairs.iter().filter(|pair| !is_key(pair)).map(|pair| &**pair).collect();
            let left = without_key(&target, is_google).unwrap_or(target);
            prop_assert_eq!(left.query().unwrap_or_default(), rest.join("&"));
        }
    }

    #[test]
    fn ours_stands_where_the_client_s_stood_and_there_is_no_other() {
        let lines = [
            ("accept", "*/*"),
            ("authorization", "Bearer tg_1"),
            ("x-api-key", "mine"),
            (
                "sec-websocket-protocol",
                "realtime,openai-insecure-api-key.tg_1",
            ),
            ("x-amz-security-token", "t"),
            ("cookie", "a"),
            ("cookie", "b"),
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_static(value));
        }
        let shown = |headers: &HeaderMap| {
            let lines = headers.iter();
            let lines = lines.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
            lines.collect::<Vec<_>>()
        };
        let ours = HeaderValue::from_static("ours");
        let sent = with(headers, &X_GOOG_API_KEY, ours.clone());
        let expected = [
            "accept: */*",
            "x-goog-api-key: ours",
            "sec-websocket-protocol: realtime",
            "cookie: a",
            "cookie: b",
        ];
        assert_eq!(shown(&sent), expected);
        let sent = with(HeaderMap::new(), &AUTHORIZATION, ours);
        assert_eq!(shown(&sent), ["authorization: ours"]);
    }

    #[test]
    fn a_key_is_taken_out_of_the_query_and_the_rest_stays() {
        let without = |target: &str, is_google| {
            let target = PathAndQuery::try_from(target).unwrap();
            without_key(&target, is_google).map(|target| target.to_string())
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            without("/m?alt=sse&key=tg_1&b", false),
            some("/m?alt=sse&b")
        );
        assert_eq!(without("/m?key=tg_1", false), some("/m"));
        assert_eq!(without("/m?key=AIza", true), some("/m"));
        assert_eq!(without("/m?key=AIza", false), None);
        assert_eq!(without("/m?keys=tg_1", true), None);
        assert_eq!(without("/m", true), None);
    }
}
