//! What Langfuse has its own names for. Tokens and cost are given in full, since it would else add
//! up totals and their parts.

use serde_json::{Map, Value as Json};

use super::{
    attribute::{Attributes, Value},
    failure::Failure,
};
use crate::call::{
    outcome::{Kind, Status},
    span::Span,
    usage::Usage,
};

/// Adds it to the attributes of a span.
pub(super) fn add(span: &Span, into: &mut Attributes) {
    let mut put = |name: &'static str, value: Value| {
        into.insert(name.into(), value);
    };
    let kind = match span.kind {
        Kind::Llm => "generation",
        Kind::Embedding => "embedding",
        Kind::Tool => "tool",
        Kind::Agent => "agent",
        Kind::Guardrail => "guardrail",
        Kind::Workflow => "chain",
        Kind::Handoff | Kind::Http => "span",
    };
    put("langfuse.observation.type", Value::text(kind));
    if let Some(model) = span.model() {
        put("langfuse.observation.model.name", Value::text(model));
    }
    if let Some(failure) = Failure::of(span) {
        let level = match span.status {
            Status::Cancelled => "WARNING",
            Status::Ok | Status::Error | Status::Blocked => "ERROR",
        };
        put("langfuse.observation.level", Value::text(level));
        put(
            "langfuse.observation.status_message",
            Value::Text(failure.message),
        );
    }
    if let Some(first) = span.first_chunk {
        // A text of JSON, as Langfuse's own SDKs send it.
        let time = format!("\"{}\"", span.start + first);
        put(
            "langfuse.observation.completion_start_time",
            Value::Text(time),
        );
    }
    let usage = usage(&span.usage);
    if !usage.is_empty() {
        let usage = Json::Object(usage).to_string();
        put("langfuse.observation.usage_details", Value::Text(usage));
    }
    if let Some(cost) = span.cost {
        let cost = format!("{{\"total\":{cost}}}");
        put("langfuse.observation.cost_details", Value::Text(cost));
    }
    let tags = span.labels.tags();
    if !tags.is_empty() {
        let tags = tags.iter().map(|(key, value)| format!("{key}:{value}"));
        put("langfuse.trace.tags", Value::Texts(tags.collect()));
    }
}

/// The tokens in parts that add up to the total, which is given too.
fn usage(usage: &Usage) -> Map<String, Json> {
    let mut details = Map::new();
    let mut part = |name: &str, count: Option<u64>| {
        if let Some(count) = count {
            details.insert(name.to_owned(), count.into());
        }
        count.unwrap_or(0)
    };
    let cached = part("input_cached_tokens", usage.cache_read)
        .saturating_add(part("input_cache_creation", usage.cache_write));
    let thought = part("output_reasoning_tokens", usage.reasoning);
    let rest = |count: u64, parts| count.saturating_sub(parts);
    part("input", usage.input.map(|input| rest(input, cached)));
    part("output", usage.output.map(|output| rest(output, thought)));
    if let (Some(input), Some(output)) = (usage.input, usage.output) {
        part("total", Some(input.saturating_add(output)));
    }
    details
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Profile, testing::call},
        *,
    };
    use crate::pipeline::Record;

    #[test]
    fn a_generation_has_its_type_model_usage_and_cost() {
        let found = Profile::Langfuse.attributes(&Record::new(call()));
        for (name, value) in [
            ("langfuse.observation.type", "generation"),
            ("langfuse.observation.model.name", "gpt-4o-2024-08-06"),
            (
                "langfuse.observation.completion_start_time",
                "\"2026-11-22T06:25:14.227417Z\"",
            ),
            (
                "langfuse.observation.usage_details",
                r#"{"input":15,"input_cache_creation":5,"input_cached_tokens":100,"output":35,"output_reasoning_tokens":10,"total":165}"#,
            ),
            (
                "langfuse.observation.cost_details",
                r#"{"total":0.000625000}"#,
            ),
        ] {
            assert_eq!(found.get(name), Some(&Value::text(value)), "{name}");
        }
        assert!(!found.contains_key("langfuse.observation.level"));
        assert!(!found.contains_key("gen_ai.usage.cost"), "counted twice");
    }

    #[test]
    fn what_is_unknown_is_absent() {
        let span = Span {
            cost: None,
            usage: Usage::NONE,
            status: Status::Blocked,
            blocked_by: Some("budget.daily".into()),
            ..call()
        };
        let found = Profile::Langfuse.attributes(&Record::new(span));
        for name in ["usage_details", "cost_details"] {
            let name = format!("langfuse.observation.{name}");
            assert!(!found.contains_key(&*name), "{name}");
        }
        let level = found.get("langfuse.observation.level");
        assert_eq!(level, Some(&Value::text("ERROR")));
    }
}
