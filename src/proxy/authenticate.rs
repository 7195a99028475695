//! Who calls: the client key that a request shows, or the address that it comes from.
//!
//! Where there are client keys, every call must show one, whatever it asks for, but those from
//! addresses that `identity.trusted` names. It is asked before there is a route, so that strangers
//! learn of none.

use std::{borrow::Cow, net::IpAddr, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{PROXY_AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL},
    request::Parts,
};
use parking_lot::Mutex;

use super::{Proxy, headers::CREDENTIALS, identify, route};
use crate::{
    base::clock::{Instant, Timestamp},
    call::refusal::{Reason, Refusal},
    identity::{ClientKey, Keys, KeysFile, Unfit, is_like_one},
    net::Cidr,
    provider::wire::percent::decoded,
};

/// What refused, on spans and in answers.
pub(super) const IDENTITY: &str = "identity";

/// Where a client key may be shown if nowhere else.
const KEY: HeaderName = HeaderName::from_static("x-tollgate-key");

/// The query parameter in which clients show Google their keys.
pub(super) const GOOGLE_KEY: &str = "key";

/// The query parameters in which clients show keys: Google's, what others call it, and that of
/// Azure's sockets.
const IN_QUERY: [&str; 3] = [GOOGLE_KEY, "api_key", "api-key"];

/// What browsers, which can set no header, show OpenAI's sockets their keys by.
pub(super) const INSECURE: &str = "openai-insecure-api-key.";

/// Who is let in.
#[derive(Debug, Default)]
pub(super) struct Door {
    /// The keys, of which every call must show one; `None`: nobody is asked.
    pub(super) keys: Option<Arc<KeysFile>>,
    /// Whoever calls from there needs none.
    pub(super) trusted: Vec<Cidr>,
}

/// Who calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    /// The client key that was shown.
    pub(super) key: Option<Arc<ClientKey>>,
    /// They call from an address that needs none.
    pub(super) is_trusted: bool,
}

impl Caller {
    /// The name of the client key.
    pub(super) fn name(&self) -> Option<&str> {
        self.key.as_deref().map(|key| key.name.as_str())
    }

    /// Whether they may spend with keys of Tollgate's own.
    pub(super) const fn is_known(&self) -> bool {
        self.key.is_some() || self.is_trusted
    }
}

/// Why nobody is let in. `None`: no key was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stranger(Option<Unfit>);

impl Door {
    /// Finds out who calls.
    ///
    /// # Errors
    /// They show no valid key, and must.
    pub(super) fn caller(
        &self,
        head: &Parts,
        peer: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Caller, Stranger> {
        let is_trusted = peer.is_some_and(|peer| self.trusted.iter().any(|at| at.contains(peer)));
        let mut caller = Caller {
            key: None,
            is_trusted,
        };
        let Some(keys) = self.keys() else {
            return Ok(caller);
        };
        match shown(head) {
            Some(shown) => {
                let key = keys.find(&shown, now);
                caller.key = Some(Arc::clone(key.map_err(|unfit| Stranger(Some(unfit)))?));
                Ok(caller)
            },
            None if is_trusted => Ok(caller),
            None => Err(Stranger(None)),
        }
    }

    /// Whether who was let in still would be.
    ///
    /// # Errors
    /// Their key was revoked, or has expired.
    pub(super) fn still(&self, caller: &Caller, now: Timestamp) -> Result<(), Stranger> {
        match (&caller.key, self.keys()) {
            (Some(key), Some(keys)) => keys.still(key, now).map_err(|unfit| Stranger(Some(unfit))),
            (None, Some(_)) if !caller.is_trusted => Err(Stranger(None)),
            _ => Ok(()),
        }
    }

    fn keys(&self) -> Option<Arc<Keys>> {
        self.keys.as_ref().map(|file| file.keys())
    }
}

impl Stranger {
    /// Whether no key was shown at all.
    pub(super) const fn shows_none(self) -> bool {
        self.0.is_none()
    }

    fn name(self) -> &'static str {
        self.0.map_or("missing", Unfit::name)
    }

    fn refusal(self) -> Refusal {
        let message = match self.0 {
            None => {
                "Tollgate lets nobody in without a client key, and this call shows none. Give it in \
                 place of the provider's API key, in the header x-tollgate-key or, where Tollgate is \
                 the proxy of HTTPS, in its URL: HTTPS_PROXY=http://x:KEY@HOST:PORT."
                    .to_owned()
            },
            Some(Unfit::Mistyped) => {
                "What this call shows as its client key is none: it was mistyped or cut short. Keys \
                 begin with tg_ and have 52 characters."
                    .to_owned()
            },
            Some(Unfit::Unknown) => {
                "Tollgate does not know the client key that this call shows. Ask whoever runs it for \
                 one (tollgate keys create)."
                    .to_owned()
            },
            Some(Unfit::Expired(at)) => {
                format!("The client key that this call shows has expired at {at}.")
            },
            Some(Unfit::Revoked(at)) => {
                format!("The client key that this call shows was revoked at {at}.")
            },
        };
        Refusal::new(Reason::Unauthorized, IDENTITY, message)
    }
}

/// Calls that were refused for want of a key, as the log tells them: the first of a minute, with how
/// many there were since the one before.
#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    last: Option<Instant>,
    since: u64,
}

/// How often the log tells of them.
const EVERY: Duration = Duration::from_mins(1);

impl Strangers {
    /// How many to tell of now, if it is time.
    fn note(&self, now: Instant) -> Option<u64> {
        let mut told = self.0.lock();
        told.since = told.since.saturating_add(1);
        let is_time = told
            .last
            .is_none_or(|last| now.saturating_duration_since(last) >= EVERY);
        let count = is_time.then(|| {
            told.last = Some(now);
            std::mem::take(&mut told.since)
        });
        drop(told);
        count
    }
}

impl Proxy {
    /// Counts somebody who is not let in, and words that.
    pub(super) fn turn_away(&self, stranger: Stranger, peer: Option<IpAddr>) -> Refusal {
        let reason = stranger.name();
        self.metrics.stranger(reason);
        if let Some(count) = self.strangers.note(self.clock.mono()) {
            let from = peer.map(tracing::field::display);
            tracing::warn!(
                count,
                reason,
                from,
                "Calls were refused for want of a valid client key; the last one is named"
            );
        }
        stranger.refusal()
    }
}

/// The client key that a request shows, the most explicit first.
fn shown(head: &Parts) -> Option<Cow<'_, str>> {
    let text = |value: &'_ HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    if let Some(own) = head.headers.get(KEY) {
        return Some(Cow::Owned(text(own).trim().to_owned()));
    }
    let (segment, _) = route::identity(head.uri.path());
    segment
        .and_then(identify::key_in_path)
        .or_else(|| in_headers(&head.headers))
        .or_else(|| in_query(head.uri.query()))
}

/// The client key in a header where a provider's or a proxy's belongs.
fn in_headers(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    headers.iter().find_map(|(name, value)| {
        let is_proxys = *name == PROXY_AUTHORIZATION;
        let proxys = is_proxys.then(|| in_credentials(value)).flatten();
        proxys.or_else(|| in_header(name, value))
    })
}

/// The client key in a header where a provider's belongs, and which goes on to it.
pub(super) fn in_header<'a>(name: &HeaderName, value: &'a HeaderValue) -> Option<Cow<'a, str>> {
    if *name == SEC_WEBSOCKET_PROTOCOL {
        let text = std::str::from_utf8(value.as_bytes()).ok()?;
        return text.split(',').find_map(in_protocol).map(Cow::Borrowed);
    }
    let is_place = CREDENTIALS.contains(name);
    is_place.then(|| in_credentials(value)).flatten()
}

/// The client key in one of the protocols that a socket is opened with.
pub(super) fn in_protocol(protocol: &str) -> Option<&str> {
    let key = protocol.trim().strip_prefix(INSECURE);
    key.filter(|key| is_like_one(key))
}

/// The client key in credentials: alone, behind the name of their scheme, or as the user's name or
/// password.
fn in_credentials(value: &HeaderValue) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(value.as_bytes()).ok()?;
    let mut words = text.split_whitespace();
    let (first, last) = (words.next()?, words.next_back());
    let key = last.unwrap_or(first);
    if is_like_one(key) {
        return Some(Cow::Borrowed(key));
    }
    let pair = first
        .eq_ignore_ascii_case("basic")
        .then(|| STANDARD.decode(key).ok())
        .flatten()?;
    let pair = String::from_utf8(pair).ok()?;
    let mut parts = pair.splitn(2, ':');
    let key = parts.find(|part| is_like_one(part))?;
    Some(Cow::Owned(key.to_owned()))
}

/// The client key in the query, where a provider's belongs, however it is encoded.
pub(super) fn in_query(query: Option<&str>) -> Option<Cow<'_, str>> {
    let pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    let mut shown = pairs.filter(|(name, _)| IN_QUERY.contains(&&*decoded(name)));
    shown.find_map(|(_, value)| Some(decoded(value)).filter(|key| is_like_one(key)))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn key_in(target: &str, headers: &[(&str, &str)]) -> Option<String> {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        shown(&head).map(Cow::into_owned)
    }

    #[test]
    fn a_key_is_found_wherever_a_client_can_put_it() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for (name, value) in [
            ("x-tollgate-key", "tg_1 "),
            ("authorization", "Bearer tg_1"),
            ("authorization", "bearer\ttg_1"),
            ("authorization", "tg_1"),
            ("authorization", &basic("tg_1:")),
            ("authorization", &basic("user:tg_1")),
            ("proxy-authorization", &basic("user:tg_1")),
            ("proxy-authorization", "Bearer tg_1"),
            ("x-api-key", "tg_1"),
            ("api-key", "tg_1"),
            ("x-goog-api-key", "tg_1"),
            (
                "sec-websocket-protocol",
                "realtime, openai-insecure-api-key.tg_1",
            ),
        ] {
            let found = key_in("/v1/models", &[("accept", "*/*"), (name, value)]);
            assert_eq!(found.as_deref(), Some("tg_1"), "{name}: {value}");
        }
        for target in [
            "/~key=tg_1/v1/models",
            "/~agent=a;key=tg%5F1;user=u/v1/models",
            "http://api.openai.com/~key=tg_1/v1/models",
            "/v1beta/models?alt=sse&key=tg_1",
            "/v1beta/models?key=tg%5F1",
            "/v1beta/models?key=%74%67%5f%31&alt=sse",
            "/v1beta/models?k%65y=tg_1",
            "/v1/models?key=AIza&api_key=tg_1",
            "/v1/models?api%5Fkey=tg%5F1",
            "/v1/realtime?api-key=tg_1",
            "/%7Ekey=tg_1/v1/models",
            "/%7eagent=a;k%65y=t%67_1/v1/models",
            "/~key%3Dtg_1/v1/models",
        ] {
            assert_eq!(key_in(target, &[]).as_deref(), Some("tg_1"), "{target}");
        }
    }

    #[test]
    fn what_is_another_s_is_not_taken_for_a_key_and_the_most_explicit_wins() {
        for (name, value) in [
            ("authorization", "Bearer sk-tg_1"),
            ("authorization", "Basic tg"),
            ("authorization", ""),
            (
                "sec-websocket-protocol",
                "tg_1, openai-insecure-api-key.sk-1",
            ),
            ("cookie", "tg_1"),
        ] {
            let found = key_in("/v1/models?keys=tg_1&key=AIza&x", &[(name, value)]);
            assert_eq!(found, None, "{name}: {value}");
        }
        let all = [
            ("authorization", "Bearer tg_2"),
            ("x-tollgate-key", "wrong"),
        ];
        assert_eq!(key_in("/~key=tg_3/v1?key=tg_4", &all).unwrap(), "wrong");
        assert_eq!(key_in("/~key=tg_3/v1?key=tg_4", &all[..1]).unwrap(), "tg_3");
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_tells_of_strangers_once_a_minute() {
        use crate::base::clock::{Clock as _, SystemClock};
        let (strangers, begin) = (Strangers::default(), SystemClock.mono());
        let at = |seconds| strangers.note(begin + Duration::from_secs(seconds));
        assert_eq!([at(0), at(1), at(59)], [Some(1), None, None]);
        assert_eq!([at(60), at(61)], [Some(3), None]);
    }
}
