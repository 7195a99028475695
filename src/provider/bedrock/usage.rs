//! Token counts as Bedrock reports them: in bodies, in a stream's last chunk, in headers.
//!
//! Everywhere the input is without what the cache held of it, or took of it.

use http::HeaderMap;

use crate::{
    call::{facts::ResponseFacts, usage::Usage},
    provider::{
        state::StreamState,
        wire::json::{Ahead, Json},
    },
};

/// Takes in the `usage` of Converse and of Amazon's own models.
pub(super) fn read(usage: Ahead<'_, '_>, facts: &mut ResponseFacts, state: &mut StreamState) {
    let (mut found, mut uncached) = (Usage::NONE, None);
    usage.object(|key, value| match key {
        b"inputTokens" => uncached = value.take().u64(),
        b"outputTokens" => found.output = value.take().u64(),
        // Each stands there under two names.
        b"cacheReadInputTokens" | b"cacheReadInputTokenCount" => {
            found.cache_read = value.take().u64().or(found.cache_read);
        },
        b"cacheWriteInputTokens" | b"cacheWriteInputTokenCount" => {
            found.cache_write = value.take().u64().or(found.cache_write);
        },
        b"cacheDetails" => lifetimes(value, &mut found),
        _ => {},
    });
    take(uncached, &found, facts, state);
}

/// How much was written to the cache for how long.
fn lifetimes(details: Ahead<'_, '_>, found: &mut Usage) {
    details.items(|detail| {
        let (mut ttl, mut tokens) = (None, None);
        detail.object(|key, value| match key {
            b"ttl" => ttl = Some(value.take()),
            b"inputTokens" => tokens = value.take().u64(),
            _ => {},
        });
        match ttl.and_then(Json::str).as_deref() {
            Some("5m") => found.cache_write_5m = tokens,
            Some("1h") => found.cache_write_1h = tokens,
            _ => {},
        }
    });
}

/// Takes in `amazon-bedrock-invocationMetrics`, which ends a stream of `InvokeModel`.
pub(super) fn read_metrics(
    metrics: Ahead<'_, '_>,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) {
    let (mut found, mut uncached) = (Usage::NONE, None);
    metrics.object(|key, value| match key {
        b"inputTokenCount" => uncached = value.take().u64(),
        b"outputTokenCount" => found.output = value.take().u64(),
        b"cacheReadInputTokenCount" => found.cache_read = value.take().u64(),
        b"cacheWriteInputTokenCount" => found.cache_write = value.take().u64(),
        _ => {},
    });
    take(uncached, &found, facts, state);
}

/// Takes in what headers say. Bodies say more, and come later; some vendors' say nothing.
pub(super) fn read_headers(
    headers: &HeaderMap,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) {
    let count = |name: &str| -> Option<u64> {
        let value = headers.get(format!("x-amzn-bedrock-{name}-token-count"))?;
        value.to_str().ok()?.trim().parse().ok()
    };
    // Zeros are sent for models that have no cache.
    let cached = |name: &str| count(name).filter(|count| *count > 0);
    let found = Usage {
        output: count("output"),
        cache_read: cached("cache-read-input"),
        cache_write: cached("cache-write-input"),
        ..Usage::NONE
    };
    take(count("input"), &found, facts, state);
}

fn take(uncached: Option<u64>, found: &Usage, facts: &mut ResponseFacts, state: &mut StreamState) {
    state.uncached_input = uncached.or(state.uncached_input);
    facts.usage.update(found);
    let cached = [facts.usage.cache_read, facts.usage.cache_write];
    let cached = cached.into_iter().flatten().fold(0, u64::saturating_add);
    let input = state
        .uncached_input
        .map(|uncached| uncached.saturating_add(cached));
    facts.usage.input = input.or(facts.usage.input);
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn usage(report: &str) -> Usage {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        Json::document(report.as_bytes()).read(|report| read(report, &mut facts, &mut state));
        facts.usage
    }

    #[test]
    fn input_is_what_was_read_with_and_without_the_cache() {
        let found = usage(
            r#"{"inputTokens":3,"outputTokens":61,"totalTokens":2435,"serverToolUsage":{},
            "cacheReadInputTokens":2074,"cacheReadInputTokenCount":2074,
            "cacheWriteInputTokens":297,"cacheWriteInputTokenCount":297,
            "cacheDetails":[{"ttl":"1h","inputTokens":200},{"ttl":"5m","inputTokens":97}]}"#,
        );
        let expected = Usage {
            cache_read: Some(2074),
            cache_write: Some(297),
            cache_write_5m: Some(97),
            cache_write_1h: Some(200),
            ..Usage::text(2374, 61)
        };
        assert_eq!(found, expected);
        assert_eq!(usage(r#"{"inputTokens":null}"#), Usage::NONE);
    }

    #[test]
    fn headers_fill_in_what_a_body_leaves_out() {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        let headers = [
            ("input", "4"),
            ("output", "9"),
            ("cache-read-input", "18000"),
            ("cache-write-input", "0"),
        ];
        let headers = HeaderMap::from_iter(headers.map(|(name, value)| {
            let name = HeaderName::try_from(format!("x-amzn-bedrock-{name}-token-count")).unwrap();
            (name, HeaderValue::from_static(value))
        }));
        read_headers(&headers, &mut facts, &mut state);
        let told = Usage {
            cache_read: Some(18_000),
            ..Usage::text(18_004, 9)
        };
        assert_eq!(facts.usage, told);
        let body = Json::document(br#"{"inputTokens":5}"#);
        body.read(|body| read(body, &mut facts, &mut state));
        assert_eq!(
            facts.usage,
            Usage {
                input: Some(18_005),
                ..told
            }
        );
    }

    #[test]
    fn the_metrics_of_a_stream_are_its_usage() {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        let metrics = br#"{"inputTokenCount":7,"outputTokenCount":8,"cacheReadInputTokenCount":2,
            "cacheWriteInputTokenCount":0,"invocationLatency":3}"#;
        Json::document(metrics).read(|metrics| read_metrics(metrics, &mut facts, &mut state));
        let expected = Usage {
            cache_read: Some(2),
            cache_write: Some(0),
            ..Usage::text(9, 8)
        };
        assert_eq!(facts.usage, expected);
    }
}
