//! Attempts of one logical call: clients send again what failed, and each attempt is a call that
//! can cost. Which call is a further attempt of which is told by, in this order:
//!
//! 1. its `idempotency-key`: calls of one client with one key are one, however the earlier ended,
//!    and calls with different keys never are;
//! 2. its own count of earlier attempts (`x-stainless-retry-count`, AWS's `amz-sdk-request`), with
//!    the same body;
//! 3. the same body, sent again soon after an attempt that failed, was refused, or broke off. Who
//!    asks the same again after an answer wants another one.
//!
//! One client is one client key, set of labels and credentials, at one method, provider and target.
//! Of bodies and keys, hashes are kept that mean nothing in another process. A body that is not
//! held whole is not compared. Each failure is followed by at most one attempt, so that calls alike
//! that run side by side have each their own.

mod book;

use std::{
    hash::{BuildHasher as _, Hash as _},
    time::Duration,
};

use foldhash::quality::RandomState;
use http::{HeaderMap, HeaderName};
use parking_lot::Mutex;

use super::{credential::secret, exchange::Exchange, headers::CREDENTIALS};
use crate::{
    base::{clock::Instant, id::RequestId},
    call::{
        labels::Label,
        outcome::Status,
        span::{ATTEMPT, RETRY_OF, Value},
    },
    guard::Again,
};
use book::{Book, Claim, Known};

pub(super) use book::{MAX_KNOWN, Place};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const RETRY_COUNT: HeaderName = HeaderName::from_static("x-stainless-retry-count");
const AWS_ATTEMPT: HeaderName = HeaderName::from_static("amz-sdk-request");

/// What a request's head says of attempts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signs {
    /// A hash of who asks whom for what.
    client: u64,
    /// A hash of the client's key for the call, and of the client.
    key: Option<u64>,
    /// How many attempts the client says that it made before.
    earlier: u32,
}

/// What a call is to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    /// Where its own further attempts find it.
    place: Option<Place>,
    /// 1 for a first attempt.
    attempt: u32,
    /// The first attempt that was seen, if this is not it.
    first: Option<RequestId>,
    /// What its body is known by, if it is known by that.
    alike: Option<u64>,
}

/// The attempts that are known.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    hasher: RandomState,
    book: Mutex<Book>,
}

impl Attempts {
    /// Reads the head of a request, before anything is changed or taken off it.
    pub(super) fn signs(&self, exchange: &Exchange, headers: &HeaderMap) -> Signs {
        let (route, mut hasher) = (&exchange.route, self.hasher.build_hasher());
        let to = (&route.to.provider.name, &route.to.server_address);
        let by = exchange.caller.name();
        (by, to, &exchange.method, route.target.as_str()).hash(&mut hasher);
        for label in Label::ALL {
            exchange.labels.get(label).hash(&mut hasher);
        }
        for name in CREDENTIALS {
            let value = headers.get(name).map(|value| lasting(value.as_bytes()));
            value.hash(&mut hasher);
        }
        let client = std::hash::Hasher::finish(&hasher);
        let key = headers.get(KEY).filter(|key| !key.is_empty());
        Signs {
            client,
            key: key.map(|key| self.hasher.hash_one((client, key.as_bytes()))),
            earlier: earlier(headers).unwrap_or(0),
        }
    }

    /// A call begins. `body` is absent if it is not held.
    fn begin(&self, signs: &Signs, body: Option<&[u8]>, call: RequestId, now: Instant) -> Link {
        let new = Known {
            first: call,
            attempt: signs.earlier.saturating_add(1),
            at: now,
        };
        let known_by_body = body.filter(|_| signs.key.is_none());
        let alike = known_by_body.map(|body| self.alike(signs, body));
        let Some(key) = signs.key.or(alike) else {
            return Link {
                place: None,
                attempt: new.attempt,
                first: None,
                alike,
            };
        };
        let claim = if signs.key.is_some() || signs.earlier > 0 {
            Claim::Further
        } else if body.is_some_and(|body| !body.is_empty()) {
            Claim::Body
        } else {
            Claim::Nothing
        };
        let (place, begun) = self.book.lock().begin(key, claim, new);
        Link {
            place: Some(place),
            attempt: begun.attempt,
            first: (begun.first != call).then_some(begun.first),
            alike,
        }
    }

    /// What this call and those of the same client for the same are known by.
    fn alike(&self, signs: &Signs, body: &[u8]) -> u64 {
        self.hasher.hash_one((signs.client, "body", body))
    }

    /// A call ends that has begun there.
    fn end(&self, place: Place, failed: bool, now: Instant) {
        self.book.lock().end(place, failed, now);
    }

    /// How many are known now.
    pub(super) fn known(&self) -> usize {
        self.book.lock().len()
    }

    /// How many were forgotten before their time, those aside that ended well.
    pub(super) fn forgotten(&self) -> u64 {
        self.book.lock().forgotten()
    }
}

/// The part of credentials that is the same in each attempt.
fn lasting(value: &[u8]) -> &[u8] {
    std::str::from_utf8(value).map_or(value, |text| secret(text).as_bytes())
}

/// How many attempts the client says that it made before this one.
fn earlier(headers: &HeaderMap) -> Option<u32> {
    let text = |name| headers.get(name)?.to_str().ok();
    if let Some(count) = text(RETRY_COUNT) {
        return count.trim().parse().ok();
    }
    // `ttl=20261122T062514Z; attempt=2; max=3`
    let mut parts = text(AWS_ATTEMPT)?.split(';');
    let attempt = parts.find_map(|part| part.trim().strip_prefix("attempt="))?;
    attempt.parse::<u32>().ok()?.checked_sub(1)
}

impl Exchange {
    /// Says on the span which attempt this is, if it is not the first. `body` is absent if it is not
    /// held whole.
    pub(super) fn link(&mut self, signs: &Signs, body: Option<&[u8]>) {
        let attempts = &self.proxy.attempts;
        let link = attempts.begin(signs, body, self.request_id, self.began);
        self.attempt = link.place;
        let wanted = body.filter(|body| !body.is_empty() && self.live.guards.want_conversations());
        self.again = Again {
            attempt: link.attempt,
            alike: wanted.map(|body| link.alike.unwrap_or_else(|| attempts.alike(signs, body))),
        };
        if link.attempt > 1 {
            let number = Value::Int(link.attempt.into());
            self.attributes.push((ATTEMPT, number));
        }
        if let Some(first) = link.first {
            let first = Value::Text(first.to_string().into_boxed_str());
            self.attributes.push((RETRY_OF, first));
        }
    }

    /// From now on a further attempt may follow.
    pub(super) fn end_attempt(&self, status: Status, duration: Duration) {
        if let Some(place) = self.attempt {
            let (failed, now) = (status != Status::Ok, self.began + duration);
            self.proxy.attempts.end(place, failed, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::{book::WINDOW, *};
    use crate::base::clock::{Clock as _, SystemClock, Timestamp};

    const SAID_NOTHING: Signs = Signs {
        client: 1,
        key: None,
        earlier: 0,
    };

    fn counted(earlier: u32) -> Signs {
        Signs {
            earlier,
            ..SAID_NOTHING
        }
    }

    fn named(key: u64) -> Signs {
        Signs {
            key: Some(key),
            ..SAID_NOTHING
        }
    }

    /// Calls in their order, at a time that stands still unless it is moved.
    struct Calls {
        attempts: Attempts,
        now: Instant,
    }

    /// A call that has begun.
    struct Begun {
        id: RequestId,
        link: Link,
    }

    impl Begun {
        /// The number of the attempt, and of which call it is one.
        fn is(&self) -> (u32, Option<RequestId>) {
            (self.link.attempt, self.link.first)
        }
    }

    impl Calls {
        fn new() -> Self {
            Self {
                attempts: Attempts::default(),
                now: SystemClock.mono(),
            }
        }

        fn begin(&self, signs: Signs, body: &str) -> Begun {
            let id = RequestId::new(Timestamp::default());
            let body = Some(body.as_bytes());
            let link = self.attempts.begin(&signs, body, id, self.now);
            Begun { id, link }
        }

        fn end(&self, call: &Begun, failed: bool) {
            let place = call.link.place.unwrap();
            self.attempts.end(place, failed, self.now);
        }

        fn ended(&self, signs: Signs, body: &str, failed: bool) -> Begun {
            let call = self.begin(signs, body);
            self.end(&call, failed);
            call
        }
    }

    #[test]
    fn a_call_that_failed_and_is_sent_again_is_one_call() {
        let calls = Calls::new();
        let first = calls.ended(SAID_NOTHING, "hi", true);
        assert_eq!(first.is(), (1, None));
        let second = calls.ended(SAID_NOTHING, "hi", true);
        assert_eq!(second.is(), (2, Some(first.id)));
        let third = calls.ended(SAID_NOTHING, "hi", false);
        assert_eq!(third.is(), (3, Some(first.id)));
    }

    #[test]
    fn what_is_asked_again_after_an_answer_is_another_call() {
        let calls = Calls::new();
        calls.ended(SAID_NOTHING, "hi", false);
        assert_eq!(calls.ended(SAID_NOTHING, "hi", false).is(), (1, None));
        // Nor is what runs beside it.
        let beside = calls.begin(SAID_NOTHING, "hi");
        assert_eq!(calls.begin(SAID_NOTHING, "hi").is(), (1, None));
        calls.end(&beside, true);
        assert_eq!(calls.begin(SAID_NOTHING, "hi").is().0, 2);
    }

    #[test]
    fn another_body_client_or_time_is_another_call() {
        let mut calls = Calls::new();
        calls.ended(SAID_NOTHING, "hi", true);
        assert_eq!(calls.begin(SAID_NOTHING, "ho").is().0, 1);
        let other = Signs {
            client: 2,
            ..SAID_NOTHING
        };
        assert_eq!(calls.begin(other, "hi").is().0, 1);
        calls.now += WINDOW;
        assert_eq!(calls.begin(SAID_NOTHING, "hi").is().0, 1);
    }

    #[test]
    fn a_client_that_counts_is_believed_and_linked_where_its_first_attempt_was_seen() {
        let calls = Calls::new();
        assert_eq!(calls.begin(counted(2), "unseen").is(), (3, None));
        // It gave up waiting, of which nothing is known yet.
        let first = calls.begin(counted(0), "hi");
        let second = calls.ended(counted(1), "hi", false);
        assert_eq!(second.is(), (2, Some(first.id)));
        // The end of what was followed already changes nothing.
        calls.end(&first, true);
        assert_eq!(calls.begin(SAID_NOTHING, "hi").is(), (1, None));
    }

    #[test]
    fn calls_alike_that_run_side_by_side_have_each_their_own_attempts() {
        let calls = Calls::new();
        let [one, other] = [(); 2].map(|()| calls.begin(counted(0), "hi"));
        calls.end(&other, true);
        calls.end(&one, true);
        let again = [(); 2].map(|()| calls.ended(counted(1), "hi", true));
        assert_eq!(again[0].is(), (2, Some(other.id)));
        assert_eq!(again[1].is(), (2, Some(one.id)));
        assert_eq!(calls.begin(counted(2), "hi").is(), (3, Some(other.id)));
    }

    #[test]
    fn a_loop_around_a_client_that_counts_goes_on_counting() {
        let calls = Calls::new();
        let numbers = [0, 1, 2, 0, 1].map(|earlier| {
            let call = calls.ended(counted(earlier), "hi", true);
            call.link.attempt
        });
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_key_is_the_name_of_a_call_whatever_its_body_and_end() {
        let calls = Calls::new();
        let first = calls.ended(named(7), "hi", false);
        let second = calls.begin(named(7), "ho");
        assert_eq!(second.is(), (2, Some(first.id)));
        assert_eq!(calls.begin(named(7), "hi").is(), (3, Some(first.id)));
        calls.ended(named(8), "hi", true);
        assert_eq!(calls.begin(named(9), "hi").is(), (1, None));
    }

    #[test]
    fn a_body_that_is_not_held_is_told_by_the_head_alone() {
        let calls = Calls::new();
        let begin = |signs| {
            let id = RequestId::new(Timestamp::default());
            calls.attempts.begin(&signs, None, id, calls.now)
        };
        assert_eq!(begin(SAID_NOTHING).place, None);
        assert_eq!((begin(counted(1)).attempt, calls.attempts.known()), (2, 0));
        assert_eq!([begin(named(7)).attempt, begin(named(7)).attempt], [1, 2]);
    }

    #[test]
    fn to_look_again_for_what_is_not_there_yet_is_no_further_attempt() {
        let calls = Calls::new();
        for _ in 0..3 {
            assert_eq!(calls.ended(SAID_NOTHING, "", true).is(), (1, None));
        }
        assert_eq!(calls.attempts.known(), 1);
        assert_eq!(calls.begin(counted(1), "").link.attempt, 2);
    }

    #[test]
    fn a_call_under_way_is_known_for_as_long_as_it_takes() {
        let mut calls = Calls::new();
        let long = calls.begin(SAID_NOTHING, "long");
        for _ in 0..5 {
            calls.now += WINDOW;
            calls.ended(SAID_NOTHING, "other", false);
        }
        assert_eq!(calls.attempts.known(), 2);
        calls.end(&long, true);
        assert_eq!(calls.begin(SAID_NOTHING, "long").is(), (2, Some(long.id)));
    }

    #[test]
    fn no_more_are_known_than_there_is_room_for_and_what_failed_is_kept_longest() {
        let calls = Calls::new();
        let failed = calls.ended(SAID_NOTHING, "failed", true);
        for number in 0..=MAX_KNOWN {
            calls.ended(SAID_NOTHING, &number.to_string(), false);
        }
        assert_eq!(calls.attempts.known(), MAX_KNOWN);
        assert_eq!(calls.attempts.forgotten(), 0);
        let again = calls.ended(SAID_NOTHING, "failed", true);
        assert_eq!(again.is(), (2, Some(failed.id)));
        for _ in 0..=MAX_KNOWN {
            calls.begin(SAID_NOTHING, "alike");
        }
        assert_eq!(calls.attempts.known(), MAX_KNOWN);
        assert_eq!(
            calls.attempts.forgotten(),
            2,
            "what failed, and one under way"
        );
    }

    #[test]
    fn clients_count_in_two_ways() {
        let count = |name: &'static str, value| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            earlier(&headers)
        };
        assert_eq!(count("x-stainless-retry-count", "0"), Some(0));
        assert_eq!(count("x-stainless-retry-count", "2"), Some(2));
        assert_eq!(count("x-stainless-retry-count", "99999999999"), None);
        assert_eq!(count("amz-sdk-request", "attempt=1"), Some(0));
        let second = "ttl=20261122T062514Z; attempt=2; max=3";
        assert_eq!(count("amz-sdk-request", second), Some(1));
        assert_eq!(count("amz-sdk-request", "attempt=0; max"), None);
        assert_eq!(count("x-other", "2"), None);
    }

    #[test]
    fn a_signature_is_another_in_each_attempt_and_its_signer_the_same() {
        for signed in [
            "AWS4-HMAC-SHA256 Credential=AK/20261125/eu/bedrock/aws4_request, Signature=1",
            "AWS4-HMAC-SHA256 Credential=AK/20261126/eu/bedrock/aws4_request, Signature=2",
        ] {
            assert_eq!(lasting(signed.as_bytes()), b"AK", "{signed}");
        }
        assert_eq!(lasting(b"Bearer a,b"), b"a,b");
        assert_eq!(lasting(b"\xff a"), b"\xff a");
    }

    proptest! {
        /// Any clients that each wait for the end of one call before the next.
        #[test]
        fn an_attempt_is_numbered_by_the_failures_right_before_it(
            ends in proptest::collection::vec((0_u64..3, 0_u8..3, any::<bool>()), 1..200),
        ) {
            let calls = Calls::new();
            let mut failures = std::collections::HashMap::<_, (u32, Option<RequestId>)>::new();
            for (client, body, failed) in ends {
                let signs = Signs { client, ..SAID_NOTHING };
                let call = calls.ended(signs, &format!("body {body}"), failed);
                let (before, first) = failures.entry((client, body)).or_default();
                prop_assert_eq!(call.is(), (*before + 1, *first));
                if failed {
                    *before += 1;
                    first.get_or_insert(call.id);
                } else {
                    (*before, *first) = (0, None);
                }
            }
            prop_assert!(calls.attempts.book.lock().is_sound());
        }
    }
}
