//! What people look at of a span: the same from a live span as from one that was stored as JSON.

use std::{borrow::Cow, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, de};

use super::{
    facts::ToolCall,
    labels::Label,
    outcome::{Kind, Status},
    span::{BUDGET_REMAINING, Span, Value},
    usage::UsageSource,
};
use crate::base::{
    clock::Timestamp,
    id::{RequestId, SpanId, TraceId},
    money::Usd,
};

/// The part of a span that is shown in a line or a tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Brief<'a> {
    /// The trace it belongs to.
    pub trace_id: TraceId,
    /// Its own id.
    pub span_id: SpanId,
    /// The span above it.
    pub parent_span_id: Option<SpanId>,
    /// The call's name for the client, if it is a call.
    pub request_id: Option<RequestId>,
    /// `chat gpt-4o`.
    pub name: Cow<'a, str>,
    /// What it describes.
    pub kind: Kind,
    /// When it began.
    pub start: Timestamp,
    /// From then to the end.
    pub duration: Duration,
    /// From then to the first event of its stream.
    pub first_chunk: Option<Duration>,
    /// The request asked for a stream.
    pub stream: bool,
    /// How it ended.
    pub status: Status,
    /// Whose call it was.
    pub agent: Option<Cow<'a, str>>,
    /// The user it was made for.
    pub user: Option<Cow<'a, str>>,
    /// The conversation it was part of.
    pub session: Option<Cow<'a, str>>,
    /// The model that answered, else the one asked for.
    pub model: Option<Cow<'a, str>>,
    /// Input tokens.
    pub input: Option<u64>,
    /// Part of the input tokens: read from the provider's cache.
    pub cache_read: Option<u64>,
    /// Output tokens.
    pub output: Option<u64>,
    /// How the tokens are known.
    pub usage_source: UsageSource,
    /// What it cost; `None` is unknown, not zero.
    pub cost: Option<Usd>,
    /// The rule that refused or cut it.
    pub blocked_by: Option<Cow<'a, str>>,
    /// What failed.
    pub error_type: Option<Cow<'a, str>>,
    /// Which attempt of one logical call it is, if it is not the first.
    pub attempt: Option<u64>,
    /// What could not be read.
    pub partial: Option<Cow<'a, str>>,
    /// The tools that the model asked for.
    pub tools: Vec<BriefTool<'a>>,
    /// The least that any budget of the call had left after it.
    pub remaining: Option<Usd>,
}

/// A tool that the model asked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BriefTool<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// The id of the call.
    pub id: Option<Cow<'a, str>>,
}

impl<'a> From<&'a Span> for Brief<'a> {
    fn from(span: &'a Span) -> Self {
        let label = |label| span.labels.get(label).map(Cow::Borrowed);
        let remaining = span
            .attributes
            .iter()
            .find_map(|(name, value)| match value {
                Value::Text(text) if *name == BUDGET_REMAINING => text.parse().ok(),
                _ => None,
            });
        Self {
            trace_id: span.trace_id,
            span_id: span.span_id,
            parent_span_id: span.parent_span_id,
            request_id: span.reported.is_none().then_some(span.request_id),
            name: Cow::Owned(span.operation_name()),
            kind: span.kind,
            start: span.start,
            duration: span.duration,
            first_chunk: span.first_chunk,
            stream: span.stream,
            status: span.status,
            agent: label(Label::Agent),
            user: label(Label::User),
            session: label(Label::Session),
            model: span.model().map(Cow::Borrowed),
            input: span.usage.input,
            cache_read: span.usage.cache_read,
            output: span.usage.output,
            usage_source: span.usage_source,
            cost: span.cost,
            blocked_by: span.blocked_by.as_deref().map(Cow::Borrowed),
            error_type: span.error_type.as_deref().map(Cow::Borrowed),
            attempt: span.attempt(),
            partial: span.partial.map(Cow::Borrowed),
            tools: span.tool_calls.iter().map(BriefTool::from).collect(),
            remaining,
        }
    }
}

impl<'a> From<&'a ToolCall> for BriefTool<'a> {
    fn from(call: &'a ToolCall) -> Self {
        Self {
            name: Cow::Borrowed(&*call.name),
            id: call.id.as_deref().map(Cow::Borrowed),
        }
    }
}

impl Brief<'static> {
    /// Reads what [`Span::to_json`] wrote.
    ///
    /// # Errors
    /// The text is not a span.
    pub fn from_json(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<Stored>(json).map(Self::from)
    }
}

#[derive(Deserialize)]
struct Stored {
    #[serde(deserialize_with = "parsed")]
    trace_id: TraceId,
    #[serde(deserialize_with = "parsed")]
    span_id: SpanId,
    #[serde(default, deserialize_with = "maybe_parsed")]
    parent_span_id: Option<SpanId>,
    operation_name: String,
    kind: Kind,
    #[serde(deserialize_with = "time")]
    start_time: Timestamp,
    duration_ms: f64,
    status: Status,
    attributes: Attributes,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Attributes {
    #[serde(rename = "tollgate.request_id", deserialize_with = "maybe_parsed")]
    request_id: Option<RequestId>,
    #[serde(rename = "gen_ai.response.time_to_first_chunk")]
    first_chunk: Option<f64>,
    #[serde(rename = "gen_ai.request.stream")]
    stream: bool,
    #[serde(rename = "tollgate.agent")]
    agent: Option<String>,
    #[serde(rename = "tollgate.user")]
    user: Option<String>,
    #[serde(rename = "tollgate.session")]
    session: Option<String>,
    #[serde(rename = "gen_ai.request.model")]
    request_model: Option<String>,
    #[serde(rename = "gen_ai.response.model")]
    response_model: Option<String>,
    #[serde(rename = "gen_ai.usage.input_tokens")]
    input: Option<u64>,
    #[serde(rename = "gen_ai.usage.cache_read.input_tokens")]
    cache_read: Option<u64>,
    #[serde(rename = "gen_ai.usage.output_tokens")]
    output: Option<u64>,
    #[serde(rename = "tollgate.usage.source")]
    usage_source: UsageSource,
    #[serde(rename = "tollgate.cost.usd")]
    cost: Option<Usd>,
    #[serde(rename = "tollgate.blocked_by")]
    blocked_by: Option<String>,
    #[serde(rename = "error.type")]
    error_type: Option<String>,
    #[serde(rename = "tollgate.attempt")]
    attempt: Option<u64>,
    #[serde(rename = "tollgate.partial")]
    partial: Option<String>,
    #[serde(rename = "tollgate.tool_calls")]
    tools: Vec<BriefTool<'static>>,
    #[serde(rename = "tollgate.budget.remaining.usd")]
    remaining: Option<Usd>,
}

impl From<Stored> for Brief<'static> {
    fn from(stored: Stored) -> Self {
        let attributes = stored.attributes;
        Self {
            trace_id: stored.trace_id,
            span_id: stored.span_id,
            parent_span_id: stored.parent_span_id,
            request_id: attributes.request_id,
            name: stored.operation_name.into(),
            kind: stored.kind,
            start: stored.start_time,
            duration: seconds(stored.duration_ms / 1e3),
            first_chunk: attributes.first_chunk.map(seconds),
            stream: attributes.stream,
            status: stored.status,
            agent: attributes.agent.map(Cow::Owned),
            user: attributes.user.map(Cow::Owned),
            session: attributes.session.map(Cow::Owned),
            model: attributes
                .response_model
                .or(attributes.request_model)
                .map(Cow::Owned),
            input: attributes.input,
            cache_read: attributes.cache_read,
            output: attributes.output,
            usage_source: attributes.usage_source,
            cost: attributes.cost,
            blocked_by: attributes.blocked_by.map(Cow::Owned),
            error_type: attributes.error_type.map(Cow::Owned),
            attempt: attributes.attempt,
            partial: attributes.partial.map(Cow::Owned),
            tools: attributes.tools,
            remaining: attributes.remaining,
        }
    }
}

/// Zero if it is no duration; to the microsecond, which is what is written.
pub(super) fn seconds(seconds: f64) -> Duration {
    let exact = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    Duration::from_micros(u64::try_from((exact.as_nanos() + 500) / 1_000).unwrap_or(u64::MAX))
}

fn parsed<'de, T: FromStr<Err: std::fmt::Display>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    text.parse().map_err(de::Error::custom)
}

fn maybe_parsed<'de, T: FromStr, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let text = Option::<Cow<str>>::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    let time: jiff::Timestamp = text.parse().map_err(de::Error::custom)?;
    let nanos = u64::try_from(time.as_nanosecond()).map_err(de::Error::custom)?;
    Ok(Timestamp::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::{
        super::span::{ATTEMPT, tests::example},
        *,
    };

    #[test]
    fn a_stored_span_is_as_brief_as_the_live_one() {
        let mut span = example();
        span.blocked_by = Some(Box::from("budget.daily"));
        span.parent_span_id = Some(SpanId::from_bytes([9; 8]));
        let left = Value::Text(Box::from("4.370000000"));
        span.attributes.push((BUDGET_REMAINING, left));
        span.attributes.push((ATTEMPT, Value::Int(2)));
        let stored = Brief::from_json(&span.to_json()).unwrap();
        assert_eq!(stored, Brief::from(&span));
        assert_eq!(stored.attempt, Some(2));
        assert_eq!(stored.remaining, Some("4.37".parse().unwrap()));
    }

    #[test]
    fn what_is_not_a_span_is_an_error() {
        for text in ["", "{}", "[]", r#"{"trace_id":"x"}"#] {
            assert!(Brief::from_json(text).is_err(), "{text}");
        }
    }
}
