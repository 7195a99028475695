//! Spans and traces as the OpenAI Agents SDK writes them. The fields of each type are all there,
//! null where nothing is known.

use serde_json::{Map, Value, json};

use crate::{
    base::{
        clock::Timestamp,
        id::{SpanId, TraceId},
    },
    call::{
        labels::{Label, Labels},
        outcome::{Kind, Status},
        reported::{
            AGENT_NAME, FROM_AGENT, GUARDRAIL, HANDOFFS, MCP_SERVER, OUTPUT_TYPE, REPORTED_INPUT,
            REPORTED_OUTPUT, REPORTED_TYPE, TO_AGENT, TOOL_NAME, TOOLS, TRIGGERED, TURN,
        },
        span::Span,
        usage::Usage,
    },
    pipeline::Record,
};

/// The trace that a span belongs to. It has neither times nor a status.
pub(super) fn trace(span: &Span, workflow: &str) -> Value {
    json!({
        "object": "trace",
        "id": trace_id(span.trace_id),
        "workflow_name": span.labels.get(Label::Workflow).unwrap_or(workflow),
        "group_id": span.labels.get(Label::Session),
        "metadata": metadata(&span.labels),
    })
}

/// The labels and tags that the format has no place for; null if there are none.
fn metadata(labels: &Labels) -> Value {
    let own = [Label::User, Label::Project, Label::Environment];
    let own = own.into_iter();
    let own = own.filter_map(|label| Some((label.name(), labels.get(label)?)));
    let tags = labels.tags().iter().map(|(key, value)| (&**key, &**value));
    let all = tags.chain(own);
    let all: Map<String, Value> = all
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect();
    if all.is_empty() {
        Value::Null
    } else {
        Value::Object(all)
    }
}

/// A span.
pub(super) fn span(record: &Record) -> Value {
    let span = &record.span;
    let mut item = json!({
        "object": "trace.span",
        "id": span_id(span.span_id),
        "trace_id": trace_id(span.trace_id),
        "parent_id": span.parent_span_id.map(span_id),
        "started_at": time(span.start),
        "ended_at": time(span.end_time()),
        "span_data": data(record),
        "error": error(span),
    });
    // Absent where there is none, as with the SDK.
    if let (None, Some(item)) = (&span.reported, item.as_object_mut()) {
        let mut metadata = Map::new();
        metadata.insert("tollgate.request_id".to_owned(), json!(span.request_id));
        if let Some(cost) = span.cost {
            metadata.insert("tollgate.cost.usd".to_owned(), json!(cost.to_string()));
        }
        item.insert("metadata".to_owned(), Value::Object(metadata));
    }
    item
}

/// What the type of each kind says.
fn data(record: &Record) -> Value {
    let span = &record.span;
    let value = |name: &str| record.value(name).unwrap_or_default();
    let list = |name: &str| record.value(name).unwrap_or_else(|| json!([]));
    let named = |name: &str| {
        record
            .value(name)
            .unwrap_or_else(|| json!(span.operation_name()))
    };
    let reported = record.texts(REPORTED_TYPE);
    match span.kind {
        Kind::Llm => match span
            .response_id
            .as_deref()
            .filter(|id| id.starts_with("resp_"))
        {
            Some(id) => json!({"type": "response", "response_id": id, "usage": usage(record)}),
            None => json!({
                "type": "generation",
                "input": value("gen_ai.input.messages"),
                "output": value("gen_ai.output.messages"),
                "model": span.request_model.as_deref().or_else(|| span.model()),
                "model_config": model_config(record),
                "usage": usage(record),
            }),
        },
        Kind::Embedding | Kind::Http => json!({
            "type": "custom",
            "name": span.operation_name(),
            "data": {"model": span.model(), "usage": usage(record), "status": span.http_status},
        }),
        Kind::Tool if reported.iter().any(|name| name == "mcp_tools") => {
            json!({"type": "mcp_tools", "server": value(MCP_SERVER), "result": list(TOOLS)})
        },
        Kind::Tool => json!({
            "type": "function",
            "name": named(TOOL_NAME),
            "input": value("gen_ai.tool.call.arguments"),
            "output": value("gen_ai.tool.call.result"),
            "mcp_data": record.value(MCP_SERVER).map(|server| json!({"server": server})),
        }),
        Kind::Agent => json!({
            "type": "agent",
            "name": named(AGENT_NAME),
            "handoffs": list(HANDOFFS),
            "tools": list(TOOLS),
            "output_type": record.value(OUTPUT_TYPE).unwrap_or_else(|| json!("str")),
        }),
        Kind::Handoff => json!({
            "type": "handoff",
            "from_agent": value(FROM_AGENT),
            "to_agent": value(TO_AGENT),
        }),
        Kind::Guardrail => json!({
            "type": "guardrail",
            "name": named(GUARDRAIL),
            "triggered": record.value(TRIGGERED).unwrap_or(Value::Bool(false)),
        }),
        Kind::Workflow => workflow(record, &reported),
    }
}

/// A part of a workflow: the SDK's own two, which go as custom ones, or any other.
fn workflow(record: &Record, reported: &[String]) -> Value {
    let name = record.span.operation_name();
    let agent = record.value(AGENT_NAME).unwrap_or_default();
    let kind = reported.first().map(String::as_str);
    let (name, data) = match kind {
        Some("task") => {
            let data = json!({"sdk_span_type": "task", "name": name});
            ("task", data)
        },
        Some("turn") => {
            let turn = record.value(TURN).unwrap_or_default();
            let data = json!({"sdk_span_type": "turn", "turn": turn, "agent_name": agent});
            ("turn", data)
        },
        _ => (&*name, json!({})),
    };
    json!({"type": "custom", "name": name, "data": data})
}

fn model_config(record: &Record) -> Value {
    let names = ["temperature", "top_p", "max_tokens"];
    let entries = names.map(|name| {
        let value = record.value(&format!("gen_ai.request.{name}"));
        (name.to_owned(), value.unwrap_or_default())
    });
    Value::Object(entries.into_iter().collect())
}

/// Tokens, under the names of the Responses API; null if none are known.
fn usage(record: &Record) -> Value {
    let span = &record.span;
    if let Some(reported) = &span.reported {
        let [input, output] = [REPORTED_INPUT, REPORTED_OUTPUT].map(|name| reported.number(name));
        return match (input, output) {
            (None, None) => Value::Null,
            _ => json!({"input_tokens": input, "output_tokens": output}),
        };
    }
    let Usage {
        input,
        output,
        cache_read,
        cache_write,
        reasoning,
        ..
    } = span.usage;
    if input.is_none() && output.is_none() {
        return Value::Null;
    }
    json!({
        "requests": 1,
        "input_tokens": input,
        "output_tokens": output,
        "total_tokens": input.unwrap_or(0).saturating_add(output.unwrap_or(0)),
        "input_tokens_details": {"cached_tokens": cache_read, "cache_write_tokens": cache_write},
        "output_tokens_details": {"reasoning_tokens": reasoning},
    })
}

/// Null if it went well.
fn error(span: &Span) -> Value {
    let error = span.error_type.as_deref();
    match span.status {
        Status::Ok => Value::Null,
        _ if span.reported.is_some() => json!({"message": error.unwrap_or("error"), "data": null}),
        Status::Error => json!({
            "message": if span.stream { "Error streaming response" } else { "Error getting response" },
            "data": {"error": error, "status": span.http_status},
        }),
        Status::Blocked => json!({
            "message": "Guardrail tripwire triggered",
            "data": {"guardrail": span.blocked_by},
        }),
        Status::Cancelled => json!({"message": "Cancelled", "data": {"error": error}}),
    }
}

fn trace_id(id: TraceId) -> String {
    format!("trace_{id}")
}

/// Their ids have half as many digits more than ours.
fn span_id(id: SpanId) -> String {
    format!("span_{id}00000000")
}

/// ISO 8601 with an offset; a whole second has no fraction.
fn time(at: Timestamp) -> String {
    let text = at.to_string();
    let text = text.trim_end_matches('Z');
    format!("{}+00:00", text.strip_suffix(".000000").unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::call::{
        labels::Source,
        reported::Format,
        span::{Value as Attribute, tests::example},
    };

    fn read(span: Span) -> Value {
        super::span(&Record::new(span))
    }

    #[test]
    fn a_chat_is_a_generation_with_its_usage_and_its_ids() {
        let item = read(example());
        assert_eq!(item["object"], "trace.span");
        assert_eq!(item["id"], "span_020202020202020200000000");
        assert_eq!(item["trace_id"], format!("trace_{}", "01".repeat(16)));
        assert_eq!(item["parent_id"], Value::Null);
        assert_eq!(item["started_at"], "2026-11-22T06:25:14.017417+00:00");
        assert_eq!(item["error"], Value::Null);
        assert_eq!(item["metadata"]["tollgate.cost.usd"], "0.000625000");
        let data = &item["span_data"];
        assert_eq!(data["type"], "generation");
        assert_eq!(data["model"], "gpt-4o");
        assert_eq!(data["usage"]["total_tokens"], 165);
        assert_eq!(data["usage"]["input_tokens_details"]["cached_tokens"], 100);
        for key in ["input", "output", "model_config"] {
            assert!(data.get(key).is_some(), "{key}");
        }
    }

    #[test]
    fn an_answer_of_the_responses_api_is_told_by_its_id() {
        let item = read(Span {
            response_id: Some("resp_1".into()),
            ..example()
        });
        assert_eq!(item["span_data"]["type"], "response");
        assert_eq!(item["span_data"]["response_id"], "resp_1");
    }

    #[test]
    fn a_trace_has_labels_and_no_times() {
        let mut span = example();
        span.labels.set(Label::Session, "s1", Source::Header);
        span.labels.set(Label::User, "u1", Source::Header);
        span.labels.tag("team", "core", Source::Header);
        let found = trace(&span, "Agent workflow");
        let expected = json!({
            "object": "trace", "id": format!("trace_{}", "01".repeat(16)),
            "workflow_name": "Agent workflow", "group_id": "s1",
            "metadata": {"user": "u1", "team": "core"},
        });
        assert_eq!(found, expected);
        span.labels = Labels::default();
        assert_eq!(trace(&span, "w")["metadata"], Value::Null);
    }

    #[test]
    fn a_whole_second_has_no_fraction() {
        let second = Timestamp::from_secs(1_795_328_714);
        assert_eq!(time(second), "2026-11-22T06:25:14+00:00");
        let later = second + Duration::from_micros(20);
        assert_eq!(time(later), "2026-11-22T06:25:14.000020+00:00");
    }

    #[test]
    fn every_kind_has_the_fields_of_its_type() {
        let keys = |kind, attributes: &[(&str, Attribute)]| {
            let ids = (TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]));
            let mut span = Span::reported(Format::Agents, ids, "it", example().start);
            span.kind = kind;
            for (name, value) in attributes {
                let reported = span.reported.as_mut().unwrap();
                reported.put(name, Some(value.clone()));
            }
            let item = read(span);
            assert!(item.get("metadata").is_none());
            let data = item["span_data"].as_object().unwrap().clone();
            let kind = data["type"].as_str().unwrap().to_owned();
            let mut keys: Vec<_> = data.into_iter().map(|(key, _)| key).collect();
            keys.retain(|key| key != "type");
            format!("{kind}: {}", keys.join(" "))
        };
        let text = |text: &str| Attribute::Text(text.into());
        for (kind, attributes, expected) in [
            (
                Kind::Agent,
                vec![],
                "agent: handoffs name output_type tools",
            ),
            (Kind::Tool, vec![], "function: input mcp_data name output"),
            (
                Kind::Tool,
                vec![(REPORTED_TYPE, text("mcp_tools"))],
                "mcp_tools: result server",
            ),
            (Kind::Handoff, vec![], "handoff: from_agent to_agent"),
            (Kind::Guardrail, vec![], "guardrail: name triggered"),
            (Kind::Workflow, vec![], "custom: data name"),
            (Kind::Http, vec![], "custom: data name"),
            (Kind::Embedding, vec![], "custom: data name"),
            (
                Kind::Llm,
                vec![],
                "generation: input model model_config output usage",
            ),
        ] {
            assert_eq!(keys(kind, &attributes), expected, "{kind:?}");
        }
    }

    #[test]
    fn what_failed_says_how() {
        let failed = |status, stream| {
            read(Span {
                status,
                stream,
                error_type: Some("rate_limit_exceeded".into()),
                blocked_by: Some("budget.daily".into()),
                ..example()
            })["error"]
                .clone()
        };
        let error = failed(Status::Error, true);
        assert_eq!(error["message"], "Error streaming response");
        assert_eq!(error["data"]["error"], "rate_limit_exceeded");
        let error = failed(Status::Blocked, false);
        assert_eq!(error["data"]["guardrail"], "budget.daily");
        assert_eq!(failed(Status::Ok, false), Value::Null);
    }
}
