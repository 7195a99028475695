//! The span that benches use: a call of a chat model as they mostly are.

use std::{sync::Arc, time::Duration};

use tollgate::{
    base::{clock::Timestamp, money::Usd},
    call::{
        labels::{Label, Source},
        outcome::Kind,
        span::{Event, Span},
        usage::{Usage, UsageSource},
    },
};

pub(crate) fn span() -> Span {
    let start = Timestamp::from_nanos(1_795_328_714_017_417_000);
    let mut span = Span {
        kind: Kind::Llm,
        operation: Some("chat"),
        duration: Duration::from_micros(812_400),
        first_chunk: Some(Duration::from_millis(210)),
        provider: Arc::from("openai"),
        request_model: Some(Arc::from("gpt-4o")),
        response_model: Some(Arc::from("gpt-4o-2024-08-06")),
        response_id: Some(Box::from("chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT")),
        finish_reasons: vec![Box::from("stop")],
        stream: true,
        usage: Usage {
            cache_read: Some(1_024),
            reasoning: Some(0),
            ..Usage::text(1_500, 300)
        },
        usage_source: UsageSource::Reported,
        cost: Some(Usd::from_nanos(5_468_750)),
        http_status: Some(200),
        method: Box::from("POST"),
        server_address: Arc::from("api.openai.com"),
        path: Box::from("/v1/chat/completions"),
        events: vec![Event {
            name: "first_token".into(),
            time: start + Duration::from_millis(210),
        }],
        ..Span::begun(start)
    };
    for (label, value) in [(Label::Agent, "support"), (Label::User, "42")] {
        span.labels.set(label, value, Source::Header);
    }
    span
}
