//! One finished call or derived step, immutable. Its JSON is the contract of the file processor,
//! the API and the store: field names as the RAAF guide's, attributes as OpenTelemetry GenAI v1.41.

use std::{sync::Arc, time::Duration};

use super::{
    facts::ToolCall,
    json,
    labels::Labels,
    outcome::{Decision, End, Kind, Status},
    reported::Reported,
    usage::{Usage, UsageSource},
};
use crate::base::{
    clock::Timestamp,
    id::{RequestId, SpanId, TraceId},
    money::Usd,
};

/// A finished span.
#[derive(Clone, Debug)]
pub struct Span {
    /// The trace it belongs to.
    pub trace_id: TraceId,
    /// Its own id, made at admission.
    pub span_id: SpanId,
    /// The span above it, which may be the client's own.
    pub parent_span_id: Option<SpanId>,
    /// The call's name for the client (`x-tollgate-request-id`).
    pub request_id: RequestId,
    /// What it describes.
    pub kind: Kind,
    /// `gen_ai.operation.name`.
    pub operation: Option<&'static str>,
    /// When the request's head had arrived.
    pub start: Timestamp,
    /// From then to the end.
    pub duration: Duration,
    /// From then to the first event of a stream (or the first byte of another response).
    pub first_chunk: Option<Duration>,
    /// How it ended.
    pub status: Status,
    /// Who ended it.
    pub end: End,
    /// The provider's name.
    pub provider: Arc<str>,
    /// The model asked for.
    pub request_model: Option<Arc<str>>,
    /// The model that answered.
    pub response_model: Option<Arc<str>>,
    /// The response's id.
    pub response_id: Option<Box<str>>,
    /// Raw finish reasons.
    pub finish_reasons: Vec<Box<str>>,
    /// Calls that the model asked the client to run.
    pub tool_calls: Vec<ToolCall>,
    /// The request asked for a stream.
    pub stream: bool,
    /// Who it was for.
    pub labels: Labels,
    /// Tokens.
    pub usage: Usage,
    /// How the tokens are known.
    pub usage_source: UsageSource,
    /// What it cost; `None` is unknown, not zero.
    pub cost: Option<Usd>,
    /// What was decided about it.
    pub decision: Decision,
    /// The rule that refused or cut it: `budget.daily`.
    pub blocked_by: Option<Box<str>>,
    /// The HTTP status that the client got, if it got one.
    pub http_status: Option<u16>,
    /// The HTTP method.
    pub method: Box<str>,
    /// The provider's host.
    pub server_address: Arc<str>,
    /// The path as sent to the provider, without the query.
    pub path: Box<str>,
    /// `error.type`: the provider's error type or code, or our own word.
    pub error_type: Option<Box<str>>,
    /// Every change that was made to request or response; empty means byte-identical.
    pub edits: Vec<&'static str>,
    /// What could not be read, if anything.
    pub partial: Option<&'static str>,
    /// Moments inside the span.
    pub events: Vec<Event>,
    /// Further attributes, by full name.
    pub attributes: Vec<(&'static str, Value)>,
    /// What an agent said of it: the span is its own, and no call of ours. Such a span has neither
    /// request id nor usage nor cost: what it used is on the spans of the calls.
    pub reported: Option<Box<Reported>>,
}

/// A moment inside a span.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened: `first_token`, `budget.warning`.
    pub name: std::borrow::Cow<'static, str>,
    /// When.
    pub time: Timestamp,
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(u64),
    /// A whole number below zero.
    Negative(i64),
    /// A fraction.
    Float(f64),
    /// Text.
    Text(Box<str>),
    /// Several texts.
    Texts(Vec<Box<str>>),
    /// JSON, whole and valid.
    Json(Box<str>),
}

/// Attribute: what budgets were charged, as `tollgate.cost.usd` is written; only where that is not
/// the cost: an estimate counts against limits as the most that it can be.
pub const BUDGET_CHARGED: &str = "tollgate.budget.charged.usd";

/// Attribute: the least that any budget of the call had left after it, as `tollgate.cost.usd` is
/// written.
pub const BUDGET_REMAINING: &str = "tollgate.budget.remaining.usd";

/// The name of the client key that the call was made with, else a hash of the provider's credential.
pub const KEY: &str = "tollgate.key";

/// Attribute: the output limit that a budget gave the request, in tokens.
pub const OUTPUT_LIMIT: &str = "tollgate.output_limit";

/// Attribute: the counters of rate limits that were looked at, in words.
pub const RATE_LIMITS: &str = "tollgate.rate_limits";

/// Attribute: the model or deployment that the path names, where the body names another: it answers.
pub const DEPLOYMENT: &str = "tollgate.deployment";

/// Attribute: what guards have said of the call: which one, what it did, and why.
pub const GUARDS: &str = "tollgate.guards";

/// Attribute: the span was written from the ledger, which knows less of a call than its own span.
pub const RECOVERED: &str = "tollgate.recovered";

/// Attribute: name and version of what the call was priced by: the price book, or `configuration`.
pub const PRICING_VERSION: &str = "tollgate.pricing.version";

/// Attribute: the rounds that the answer took, where each was billed by itself, as
/// [`Round`](super::facts::Round) is shown.
pub const ROUNDS: &str = "tollgate.usage.rounds";

/// Attribute: which attempt of one logical call it is, from 2 on; absent on a first attempt.
pub const ATTEMPT: &str = "tollgate.attempt";

/// Attribute: the id of the request that was the first attempt, where that was seen.
pub const RETRY_OF: &str = "tollgate.retry_of";

/// Attribute: whether the client that began the trace keeps it, where it said so (the sampled flag of
/// `traceparent` and its like).
pub const SAMPLED: &str = "tollgate.trace.sampled";

/// Attribute: the share of all traces like its own that goes where it goes, by `tracing.sampling`. The
/// span stands for as many as fit in one.
pub const SAMPLING_RATE: &str = "tollgate.sampling.rate";

impl Span {
    /// The span of a call of which nothing is known but when it began: all that can be empty is.
    pub fn begun(start: Timestamp) -> Self {
        let none: Arc<str> = Arc::default();
        Self {
            trace_id: TraceId::random(),
            span_id: SpanId::random(),
            parent_span_id: None,
            request_id: RequestId::new(start),
            kind: Kind::Http,
            operation: None,
            start,
            duration: Duration::ZERO,
            first_chunk: None,
            status: Status::Ok,
            end: End::Complete,
            provider: Arc::clone(&none),
            request_model: None,
            response_model: None,
            response_id: None,
            finish_reasons: Vec::new(),
            tool_calls: Vec::new(),
            stream: false,
            labels: Labels::default(),
            usage: Usage::NONE,
            usage_source: UsageSource::Absent,
            cost: None,
            decision: Decision::Admitted,
            blocked_by: None,
            http_status: None,
            method: Box::default(),
            server_address: none,
            path: Box::default(),
            error_type: None,
            edits: Vec::new(),
            partial: None,
            events: Vec::new(),
            attributes: Vec::new(),
            reported: None,
        }
    }

    /// When it ended.
    pub fn end_time(&self) -> Timestamp {
        self.start + self.duration
    }

    /// The same as its line says it: what the line's own start and duration add up to, which are cut
    /// to microseconds.
    pub(super) fn end_on_line(&self) -> Timestamp {
        let cut = |nanos: u64| nanos / 1_000 * 1_000;
        let duration = u64::try_from(self.duration.as_nanos()).unwrap_or(u64::MAX);
        Timestamp::from_nanos(cut(self.start.as_nanos())) + Duration::from_nanos(cut(duration))
    }

    /// The model that the call is known by: the one that answered, else the one asked for.
    pub fn model(&self) -> Option<&str> {
        self.response_model
            .as_deref()
            .or(self.request_model.as_deref())
    }

    /// `chat gpt-4o`; for plain requests `POST /v1/files`.
    pub fn operation_name(&self) -> String {
        if let Some(reported) = &self.reported {
            return reported.name.to_string();
        }
        match (
            self.operation,
            self.request_model.as_deref().or_else(|| self.model()),
        ) {
            (Some(operation), Some(model)) => [operation, " ", model].concat(),
            (Some(operation), None) => operation.to_owned(),
            (None, _) => format!("{} {}", self.method, self.path),
        }
    }

    /// Which attempt of one logical call it is, if it is not the first.
    pub fn attempt(&self) -> Option<u64> {
        let mut attributes = self.attributes.iter();
        attributes.find_map(|(name, value)| match value {
            Value::Int(attempt) if *name == ATTEMPT => Some(*attempt),
            _ => None,
        })
    }

    /// The span as one line of JSON, without the line's end.
    pub fn to_json(&self) -> String {
        json::line(self)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{super::labels::Label, *};

    pub(crate) fn example() -> Span {
        let mut labels = Labels::default();
        labels.set(
            Label::Agent,
            "support",
            super::super::labels::Source::Header,
        );
        Span {
            trace_id: TraceId::from_bytes([1; 16]),
            span_id: SpanId::from_bytes([2; 8]),
            parent_span_id: None,
            request_id: RequestId::from_bytes([3; 16]),
            kind: Kind::Llm,
            operation: Some("chat"),
            start: Timestamp::from_nanos(1_795_328_714_017_417_000),
            duration: Duration::from_micros(812_400),
            first_chunk: Some(Duration::from_millis(210)),
            status: Status::Ok,
            end: End::Complete,
            provider: Arc::from("openai"),
            request_model: Some(Arc::from("gpt-4o")),
            response_model: Some(Arc::from("gpt-4o-2024-08-06")),
            response_id: Some(Box::from("chatcmpl-1")),
            finish_reasons: vec![Box::from("stop")],
            tool_calls: vec![ToolCall {
                id: Some(Box::from("call_1")),
                name: Box::from("lookup"),
            }],
            stream: true,
            labels,
            usage: Usage {
                cache_read: Some(100),
                reasoning: Some(0),
                ..Usage::text(120, 45)
            },
            usage_source: UsageSource::Reported,
            cost: Some(Usd::from_nanos(625_000)),
            decision: Decision::Admitted,
            blocked_by: None,
            http_status: Some(200),
            method: Box::from("POST"),
            server_address: Arc::from("api.openai.com"),
            path: Box::from("/v1/chat/completions"),
            error_type: None,
            edits: Vec::new(),
            partial: None,
            events: Vec::new(),
            attributes: vec![("tollgate.sdk", Value::Text(Box::from("openai-python")))],
            reported: None,
        }
    }

    #[test]
    fn the_json_is_the_contract() {
        let json: serde_json::Value = serde_json::from_str(&example().to_json()).unwrap();
        assert_eq!(json["operation_name"], "chat gpt-4o");
        assert_eq!(json["start_time"], "2026-11-22T06:25:14.017417Z");
        assert_eq!(json["end_time"], "2026-11-22T06:25:14.829817Z");
        assert_eq!(json["duration_ms"], 812.4);
        assert_eq!(json["parent_span_id"], serde_json::Value::Null);
        let attributes = &json["attributes"];
        assert_eq!(attributes["gen_ai.usage.cache_read.input_tokens"], 100);
        assert_eq!(attributes["gen_ai.response.time_to_first_chunk"], 0.21);
        assert_eq!(attributes["tollgate.cost.usd"], "0.000625000");
        assert_eq!(attributes["tollgate.tool_calls"][0]["name"], "lookup");
        assert_eq!(attributes["tollgate.sdk"], "openai-python");
    }

    #[test]
    fn an_unknown_cost_is_absent_and_not_zero() {
        let json = Span {
            cost: None,
            ..example()
        }
        .to_json();
        assert!(!json.contains("tollgate.cost.usd"));
    }
}
