//! What Datadog's products say alike of a span: whose it is, its ids, its attributes.

use serde_json::{Map, Value};

use crate::{
    base::id::{SpanId, TraceId},
    call::{
        labels::Label,
        outcome::{Kind, Status},
        span::Span,
    },
    pipeline::Record,
};

/// What is said of every span.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) service: Box<str>,
    /// Of spans that do not say theirs.
    pub(super) environment: Option<Box<str>>,
    pub(super) version: Option<Box<str>>,
    pub(super) tags: Vec<(Box<str>, Box<str>)>,
    /// The application in LLM Observability.
    pub(super) ml_app: Box<str>,
}

impl About {
    /// Everything that is a tag of the span.
    pub(super) fn tags_of<'a>(&'a self, span: &'a Span) -> Vec<(&'a str, &'a str)> {
        let environment = span.labels.get(Label::Environment);
        let environment = environment.or(self.environment.as_deref());
        let own = [("env", environment), ("version", self.version.as_deref())];
        let own = own
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)));
        let configured = self.tags.iter().map(|(key, value)| (&**key, &**value));
        let told = span.labels.tags().iter();
        let told = told.map(|(key, value)| (&**key, &**value));
        own.chain(configured).chain(told).collect()
    }
}

/// The ids that Datadog knows a trace by: its low half, and the high one in hexadecimal.
pub(super) fn trace_halves(id: TraceId) -> (u64, String) {
    let id = u128::from_be_bytes(id.bytes());
    let low = u64::try_from(id & u128::from(u64::MAX)).unwrap_or_default();
    (low, format!("{:016x}", id >> 64))
}

/// The id that Datadog knows a span by.
pub(super) fn number(id: SpanId) -> u64 {
    u64::from_be_bytes(id.bytes())
}

/// The attributes as they are on the span's line.
pub(super) fn attributes(record: &Record) -> Map<String, Value> {
    let line = serde_json::from_str(&record.line);
    match line {
        Ok(Value::Object(mut line)) => match line.remove("attributes") {
            Some(Value::Object(attributes)) => attributes,
            _ => Map::new(),
        },
        _ => Map::new(),
    }
}

/// Whether it failed, for whoever made the call.
pub(super) const fn failed(status: Status) -> bool {
    matches!(status, Status::Error | Status::Blocked)
}

/// What failed, in words, where there is more to say than the type of the error.
pub(super) fn message(span: &Span) -> Option<String> {
    let rule = span.blocked_by.as_deref()?;
    Some(format!("refused or cut by {rule}"))
}

/// Whether it is a call to a server.
pub(super) const fn is_call(kind: Kind) -> bool {
    matches!(kind, Kind::Llm | Kind::Embedding | Kind::Http)
}

/// In dollars, for sums; the exact amount stands beside it in words.
pub(super) fn dollars(span: &Span) -> Option<f64> {
    span.cost?.to_string().parse().ok()
}
