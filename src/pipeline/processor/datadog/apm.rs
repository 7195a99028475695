//! Spans as the Agent's traces, version 0.4 of its API.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    about::{About, attributes, dollars, failed, is_call, message, number, trace_halves},
    msgpack::Pack,
};
use crate::{
    base::id::{SpanId, TraceId},
    call::{content::SAID, outcome::Kind, span::Span},
    pipeline::{Record, sampling::share_of},
};

/// The body for some spans, and how many traces they belong to.
pub(super) fn traces(batch: &[&Record], about: &About) -> (Vec<u8>, usize) {
    let mut traces: BTreeMap<TraceId, Vec<&Record>> = BTreeMap::new();
    for record in batch {
        let trace = traces.entry(record.span.trace_id).or_default();
        trace.push(record);
    }
    let mut pack = Pack::default();
    pack.list(traces.len());
    for trace in traces.values() {
        let ids: BTreeSet<SpanId> = trace.iter().map(|record| record.span.span_id).collect();
        pack.list(trace.len());
        for record in trace {
            // Those above it are another service's.
            let parent = record.span.parent_span_id;
            let is_top = parent.is_none_or(|parent| !ids.contains(&parent));
            span(&mut pack, record, about, is_top);
        }
    }
    (pack.0, traces.len())
}

fn span(pack: &mut Pack, record: &Record, about: &About, is_top: bool) {
    let span = &record.span;
    let (trace_id, high) = trace_halves(span.trace_id);
    let (meta, metrics) = attributes_of(record, about, is_top.then_some(&*high));
    let name = if span.provider.is_empty() {
        "http.request".to_owned()
    } else {
        format!("{}.request", span.provider)
    };
    let kind = match span.kind {
        Kind::Llm | Kind::Embedding => "llm",
        Kind::Http => "http",
        _ => "custom",
    };
    pack.map(12);
    for (key, text) in [
        ("service", &*about.service),
        ("name", &name),
        ("resource", &span.operation_name()),
        ("type", kind),
    ] {
        pack.text(key);
        pack.text(text);
    }
    for (key, id) in [
        ("trace_id", trace_id),
        ("span_id", number(span.span_id)),
        ("parent_id", span.parent_span_id.map_or(0, number)),
    ] {
        pack.text(key);
        pack.unsigned(id);
    }
    let duration = i64::try_from(span.duration.as_nanos()).unwrap_or(i64::MAX);
    for (key, count) in [
        (
            "start",
            i64::try_from(span.start.as_nanos()).unwrap_or(i64::MAX),
        ),
        ("duration", duration),
        ("error", i64::from(failed(span.status))),
    ] {
        pack.text(key);
        pack.signed(count);
    }
    pack.text("meta");
    pack.map(meta.len());
    for (key, text) in &meta {
        pack.text(key);
        pack.text(text);
    }
    pack.text("metrics");
    pack.map(metrics.len());
    for (key, number) in &metrics {
        pack.text(key);
        pack.float(*number);
    }
}

/// Texts and numbers. `high`: the high half of the trace's id, on spans that stand above all others of
/// their service.
fn attributes_of(
    record: &Record,
    about: &About,
    high: Option<&str>,
) -> (BTreeMap<String, String>, BTreeMap<String, f64>) {
    let span = &record.span;
    let (mut meta, mut metrics) = (BTreeMap::new(), BTreeMap::new());
    for (key, value) in attributes(record) {
        // What was said belongs to LLM Observability.
        if SAID.contains(&&*key) {
            continue;
        }
        if let Value::String(text) = value {
            meta.insert(key, text);
        } else if let Some(number) = value.as_f64() {
            metrics.insert(key, number);
        } else if !value.is_null() {
            meta.insert(key, value.to_string());
        }
    }
    for (key, value) in about.tags_of(span) {
        meta.insert(key.to_owned(), value.to_owned());
    }
    let kind = if is_call(span.kind) {
        "client"
    } else {
        "internal"
    };
    let status = span.http_status.map(|status| status.to_string());
    for (key, value) in [
        ("span.kind", Some(kind.to_owned())),
        ("component", Some("tollgate".to_owned())),
        ("http.status_code", status),
        ("error.message", message(span)),
        ("tollgate.span_id", Some(span.span_id.to_string())),
        ("tollgate.trace_id", Some(span.trace_id.to_string())),
        ("_dd.p.tid", high.map(str::to_owned)),
    ] {
        if let Some(value) = value {
            meta.insert(key.to_owned(), value);
        }
    }
    if let Some(cost) = dollars(span) {
        metrics.insert("gen_ai.usage.cost".to_owned(), cost);
    }
    if high.is_some() {
        metrics.insert("_top_level".to_owned(), 1.0);
        metrics.insert("_sampling_priority_v1".to_owned(), priority(span));
        if let Some(share) = share_of(span) {
            metrics.insert("_sample_rate".to_owned(), share);
        }
    }
    (meta, metrics)
}

/// What was sampled here is not to be sampled there; of what failed nothing is.
const fn priority(span: &Span) -> f64 {
    if failed(span.status) { 2.0 } else { 1.0 }
}
