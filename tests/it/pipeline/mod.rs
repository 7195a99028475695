//! Spans on their way out, with real threads.

mod chaos;
mod content;
mod counts;
mod database;
mod datadog;
mod exec;
mod files;
mod grpc;
mod isolation;
mod metrics;
mod object_store;
mod openai;
mod otlp;
mod place;
mod postgres;
mod reload;
mod sampling;
pub(crate) mod sink;
mod sinks;
mod webhook;

use tollgate::{
    call::span::Span,
    pipeline::{Pipeline, Stats},
};

use crate::support::{conserved, sandbox::PATIENCE};

/// Offers spans to a pipeline of one processor, and says what became of them.
async fn offer(pipeline: &Pipeline, spans: impl IntoIterator<Item = Span>) -> Stats {
    for span in spans {
        pipeline.offer(span);
    }
    assert!(pipeline.flush(PATIENCE).await, "{:?}", pipeline.stats());
    let stats = pipeline.stats()[0].1;
    conserved(&stats);
    stats
}
