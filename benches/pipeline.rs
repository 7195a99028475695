//! What a finished call's own thread does for its span: freezing it, and handing it over.

use std::{future::ready, hint::black_box, sync::Arc};

use criterion::{BatchSize, Criterion, criterion_group};
use tollgate::{
    base::clock::SystemClock,
    call::{brief::Brief, line::Look},
    pipeline::{BoxFuture, DeliverError, Outlet, Pipeline, Processor, Record},
};

mod span;

use span::span;

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
