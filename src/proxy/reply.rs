//! Every refusal and failure of ours as HTTP: the provider's own error JSON, so that the client's
//! SDK raises its usual exception, and headers that make it retry when, and only when, that helps.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};

use super::exchange::Exchange;
use super::headers::{BLOCKED_BY, REQUEST_ID, RESET, RETRY_AFTER_MS, SHOULD_RETRY};
use crate::{
    base::{clock::Timestamp, id::RequestId},
    call::refusal::{Reason, Refusal},
    provider::{Dialect, OpenAi},
};

/// Over 120 s official SDKs do not even wait once; some sleep for as long as they are told, so that
/// the true reset, which may be weeks away, is in a header of our own.
const SHORTEST_RETRY: u64 = 121;
const LONGEST_RETRY: u64 = 3600;

/// How refusals are worded and numbered.
#[derive(Clone, Copy)]
pub(super) struct Style {
    pub(super) dialect: &'static dyn Dialect,
    /// The status of an exhausted budget: `budgets.status`.
    pub(super) exhausted_status: u16,
}

/// The response to a request that is of no known dialect.
pub(super) fn turned_away(why: &Refusal, now: Timestamp, request_id: RequestId) -> Response<Bytes> {
    let style = Style {
        dialect: &OpenAi::Current,
        exhausted_status: Reason::Exhausted.status(),
    };
    let id = request_id.to_string();
    let mut response = refusal(why, style, now, &id);
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Tells a client whose call was let in how the rate limits stand that counted it, in its provider's
/// words; of what the provider has a word for itself, the provider alone tells.
pub(super) fn tell_rates(exchange: &Exchange, headers: &mut HeaderMap) {
    let Some(hold) = &exchange.reservation.hold else {
        return;
    };
    let now = exchange.proxy.clock.wall();
    for (rate, wait) in hold.standing_rates() {
        let told = exchange.route.dialect.rate_headers(&rate, wait, now + wait);
        if !told.iter().any(|(name, _)| headers.contains_key(name)) {
            insert(headers, told);
        }
    }
}

fn insert(headers: &mut HeaderMap, told: [(String, String); 3]) {
    for (name, value) in told {
        // Copied: a text that has more room than it needs would be kept with what counts its users.
        let value = HeaderValue::from_str(&value);
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), value) {
            headers.insert(name, value);
        }
    }
}

/// The response that a refusal becomes, without the headers that every response gets.
pub(super) fn refusal(
    refusal: &Refusal,
    style: Style,
    now: Timestamp,
    request_id: &str,
) -> Response<Bytes> {
    let number = match refusal.reason {
        Reason::Exhausted => style.exhausted_status,
        reason => reason.status(),
    };
    let number = style.dialect.refusal_status(refusal.reason, number);
    let body = style.dialect.error_body(number, refusal, request_id);
    let length = body.len();
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if let Ok(by) = HeaderValue::try_from(&*refusal.by)
        && !by.is_empty()
    {
        headers.insert(BLOCKED_BY, by);
    }
    if let Some((name, value)) = style.dialect.error_header(refusal.reason) {
        headers.insert(name, HeaderValue::from_static(value));
    }
    match refusal.reason {
        Reason::Exhausted => {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            let left = refusal
                .resets_at
                .map_or(u64::MAX, |reset| reset.since(now).as_secs());
            let after = left.clamp(SHORTEST_RETRY, LONGEST_RETRY);
            headers.insert(RETRY_AFTER, HeaderValue::from(after));
            if let Some(reset) = refusal.resets_at
                && let Ok(reset) = HeaderValue::try_from(reset.to_string())
            {
                headers.insert(RESET, reset);
            }
        },
        Reason::Busy | Reason::Rate => {
            let wait = refusal.retry_after.unwrap_or(Duration::from_secs(1));
            let millis = wait.as_micros().div_ceil(1000).max(1);
            let millis = u64::try_from(millis).unwrap_or(u64::MAX);
            headers.insert(RETRY_AFTER, HeaderValue::from(millis.div_ceil(1000)));
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(millis));
            if let Some(rate) = &refusal.rate {
                insert(headers, style.dialect.rate_headers(rate, wait, now + wait));
            }
        },
        Reason::Denied => {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        },
        Reason::Unauthorized => {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        },
        Reason::Overload | Reason::Ledger => {
            let wait = refusal.retry_after.unwrap_or(Duration::from_secs(1));
            let seconds = wait
                .as_millis()
                .div_ceil(1000)
                .clamp(1, LONGEST_RETRY.into());
            let seconds = u64::try_from(seconds).unwrap_or(LONGEST_RETRY);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        },
        _ => {},
    }
    response
}
