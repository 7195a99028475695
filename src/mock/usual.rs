//! The headers that each provider sends with every answer.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::problem::Dialect;

/// Puts them in.
pub(super) fn put(headers: &mut HeaderMap, dialect: Dialect, request_id: &str) {
    const OPENAI: &[(&str, &str)] = &[
        ("openai-organization", "mock"),
        ("openai-processing-ms", "7"),
        ("openai-version", "2020-10-01"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-limit-tokens", "2000000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-remaining-tokens", "1999990"),
        ("x-ratelimit-reset-requests", "6ms"),
        ("x-ratelimit-reset-tokens", "0s"),
    ];
    const GEMINI: &[(&str, &str)] = &[("server-timing", "gfet4t7; dur=7")];
    const ANTHROPIC: &[(&str, &str)] = &[
        ("anthropic-organization-id", "mock"),
        ("anthropic-ratelimit-requests-limit", "4000"),
        ("anthropic-ratelimit-requests-remaining", "3999"),
        ("anthropic-ratelimit-requests-reset", "2026-01-01T00:00:00Z"),
        ("anthropic-ratelimit-tokens-limit", "400000"),
        ("anthropic-ratelimit-tokens-remaining", "399000"),
        ("anthropic-ratelimit-tokens-reset", "2026-01-01T00:00:00Z"),
    ];
    const BEDROCK: &[(&str, &str)] = &[("x-amzn-bedrock-invocation-latency", "7")];
    const NONE: &[(&str, &str)] = &[];
    let (id, usual) = match dialect {
        Dialect::OpenAi => ("x-request-id", OPENAI),
        Dialect::Anthropic => ("request-id", ANTHROPIC),
        Dialect::Gemini => ("x-goog-request-id", GEMINI),
        Dialect::Bedrock => ("x-amzn-requestid", BEDROCK),
        Dialect::Cohere => ("x-debug-trace-id", NONE),
        Dialect::Watsonx => ("x-global-transaction-id", NONE),
        Dialect::Ollama | Dialect::AlephAlpha | Dialect::Voyage => ("x-request-id", NONE),
    };
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(HeaderName::from_static(id), value);
    }
    for (name, value) in usual {
        let name = HeaderName::from_static(name);
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
}
