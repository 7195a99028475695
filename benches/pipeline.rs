//! What a finished call's own thread does for its span: freezing it, and handing it over.

use std::{future::ready, hint::black_box, sync::Arc, time::Duration};

use criterion::{BatchSize, Criterion, criterion_group};
use tollgate::{
    base::{
        clock::{SystemClock, Timestamp},
        money::Usd,
    },
    call::{
        brief::Brief,
        labels::{Label, Source},
        line::Look,
        outcome::Kind,
        span::{Event, Span},
        usage::{Usage, UsageSource},
    },
    pipeline::{BoxFuture, DeliverError, Outlet, Pipeline, Processor, Record},
};

/// A processor that costs nothing.
struct Nowhere;

impl Processor for Nowhere {
    fn deliver<'a>(
        &'a mut self,
        _batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        Box::pin(ready(Ok(())))
    }
}

fn span() -> Span {
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

fn freeze(c: &mut Criterion) {
    let span = span();
    c.bench_function("pipeline/freeze", |b| b.iter(|| black_box(&span).to_json()));
    let look = Look {
        colors: true,
        ..Look::plain(jiff::tz::TimeZone::UTC)
    };
    c.bench_function("pipeline/compact_line", |b| {
        b.iter(|| look.line(&Brief::from(black_box(&span))));
    });
}

fn offer(c: &mut Criterion) {
    let outlets = ["console", "file", "store"].map(|name| Outlet::local(name, Nowhere));
    let pipeline = Pipeline::start(Vec::new(), outlets.into(), Arc::new(SystemClock));
    let Ok(pipeline) = pipeline else {
        return;
    };
    let span = span();
    c.bench_function("pipeline/freeze_and_offer", |b| {
        b.iter_batched(
            || span.clone(),
            |span| pipeline.offer(span),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, freeze, offer);
