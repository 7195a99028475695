//! What the tests of this folder share.

use std::{sync::Arc, time::Duration};

use crate::{
    base::{
        clock::Timestamp,
        id::{SpanId, TraceId},
        money::Usd,
    },
    call::{
        labels::{Label, Source},
        outcome::Kind,
        span::{Event, Span},
        usage::{Usage, UsageSource},
    },
};

/// A streamed call of which everything is known.
pub(in super::super) fn call() -> Span {
    let start = Timestamp::from_nanos(1_795_328_714_017_417_000);
    let mut span = Span {
        trace_id: TraceId::from_bytes([0xab; 16]),
        span_id: SpanId::from_bytes([0xcd; 8]),
        parent_span_id: Some(SpanId::from_bytes([0xef; 8])),
        kind: Kind::Llm,
        operation: Some("chat"),
        duration: Duration::from_micros(812_400),
        first_chunk: Some(Duration::from_millis(210)),
        provider: Arc::from("openai"),
        request_model: Some(Arc::from("gpt-4o")),
        response_model: Some(Arc::from("gpt-4o-2024-08-06")),
        stream: true,
        usage: Usage {
            cache_read: Some(100),
            cache_write: Some(5),
            reasoning: Some(10),
            ..Usage::text(120, 45)
        },
        usage_source: UsageSource::Reported,
        cost: Some(Usd::from_nanos(625_000)),
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
    span.labels.set(Label::Agent, "support", Source::Header);
    span
}
