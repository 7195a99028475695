//! What OpenInference has names for and other conventions do not: kinds, parameters, messages one
//! by one.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::attribute::{Attributes, Value};
use crate::call::{outcome::Kind, span::Span};

/// Adds it to the attributes of a span of which `found` is known.
pub(super) fn add(span: &Span, found: &BTreeMap<String, Value>, into: &mut Attributes) {
    let kind = match span.kind {
        Kind::Llm => "LLM",
        Kind::Embedding => "EMBEDDING",
        Kind::Tool => "TOOL",
        Kind::Agent => "AGENT",
        Kind::Guardrail => "GUARDRAIL",
        Kind::Handoff | Kind::Workflow | Kind::Http => "CHAIN",
    };
    into.insert("openinference.span.kind".into(), Value::text(kind));
    if let (Kind::Embedding, Some(model)) = (span.kind, span.model()) {
        into.insert("embedding.model_name".into(), Value::text(model));
    }
    if let (Some(input), Some(output)) = (span.usage.input, span.usage.output) {
        let total = Value::count(input.saturating_add(output));
        into.insert("llm.token_count.total".into(), total);
    }
    let asked = of(found, "gen_ai.request.");
    if !asked.is_empty() {
        let asked = Json::Object(asked).to_string();
        into.insert("llm.invocation_parameters".into(), Value::Text(asked));
    }
    let tags = of(found, "tollgate.tags.");
    if !tags.is_empty() {
        let listed = tags.iter().filter_map(|(key, value)| {
            let value = value.as_str()?;
            Some(format!("{key}:{value}"))
        });
        into.insert("tag.tags".into(), Value::Texts(listed.collect()));
        let tags = Json::Object(tags).to_string();
        into.insert("metadata".into(), Value::Text(tags));
    }
    for (name, side) in [
        ("gen_ai.input.messages", "input"),
        ("gen_ai.output.messages", "output"),
    ] {
        if let Some(Value::Text(json)) = found.get(name) {
            let json_type = Value::text("application/json");
            into.insert(format!("{side}.mime_type").into(), json_type);
            messages(json, side, into);
        }
    }
}

/// The attributes whose names begin so, without that beginning.
fn of(found: &BTreeMap<String, Value>, begins: &str) -> Map<String, Json> {
    let members = found.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix(begins)?;
        let value = match value {
            Value::Bool(flag) => Json::from(*flag),
            Value::Int(number) => Json::from(*number),
            Value::Float(number) => Json::from(*number),
            Value::Text(text) => Json::from(&**text),
            Value::Texts(texts) => Json::from(&**texts),
        };
        Some((name.to_owned(), value))
    });
    members.collect()
}

/// A message as the GenAI conventions have it.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    role: String,
    #[serde(default)]
    parts: Vec<Part>,
}

/// The parts of messages that OpenInference has a place for.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part {
    Text {
        content: String,
    },
    ToolCall {
        id: Option<String>,
        name: String,
        #[serde(default)]
        arguments: Json,
    },
    ToolCallResponse {
        id: Option<String>,
        #[serde(default)]
        response: Json,
    },
    #[serde(other)]
    Other,
}

/// Each message under names of its own. What is no list of messages is not taken apart.
fn messages(json: &str, side: &str, into: &mut Attributes) {
    let messages: Vec<Message> = serde_json::from_str(json).unwrap_or_default();
    for (at, message) in messages.into_iter().enumerate() {
        let name = format!("llm.{side}_messages.{at}.message");
        let mut put = |rest: &str, value: String| {
            into.insert(format!("{name}.{rest}").into(), Value::Text(value));
        };
        put("role", message.role);
        let (mut content, mut calls) = (Vec::new(), 0);
        for part in message.parts {
            match part {
                Part::Text { content: text } => content.push(text),
                Part::ToolCall {
                    id,
                    name,
                    arguments,
                } => {
                    let call = format!("tool_calls.{calls}.tool_call");
                    calls += 1;
                    if let Some(id) = id {
                        put(&format!("{call}.id"), id);
                    }
                    put(&format!("{call}.function.name"), name);
                    put(&format!("{call}.function.arguments"), plain(arguments));
                },
                Part::ToolCallResponse { id, response } => {
                    if let Some(id) = id {
                        put("tool_call_id", id);
                    }
                    content.push(plain(response));
                },
                Part::Other => {},
            }
        }
        if !content.is_empty() {
            put("content", content.join("\n"));
        }
    }
}

/// A text as it is, anything else as its JSON.
fn plain(json: Json) -> String {
    match json {
        Json::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Profile, testing::call},
        *,
    };
    use crate::{
        call::{labels::Source, span},
        pipeline::Record,
    };

    #[test]
    fn kinds_parameters_totals_and_tags_have_their_names() {
        let mut span = call();
        span.labels.tag("team", "red", Source::Header);
        let found = Profile::Openinference.attributes(&Record::new(span));
        for (name, value) in [
            ("openinference.span.kind", Value::text("LLM")),
            ("llm.token_count.total", Value::Int(165)),
            ("llm.cost.total", Value::Float(0.000_625)),
            ("agent.name", Value::text("support")),
            ("tag.tags", Value::Texts(vec!["team:red".to_owned()])),
            ("metadata", Value::text(r#"{"team":"red"}"#)),
            (
                "llm.invocation_parameters",
                Value::text(r#"{"model":"gpt-4o","stream":true}"#),
            ),
        ] {
            assert_eq!(found.get(name), Some(&value), "{name}");
        }
        assert!(!found.contains_key("gen_ai.operation.name"));
    }

    #[test]
    fn messages_are_taken_apart() {
        let input = r#"[{"role":"user","parts":[{"type":"text","content":"Hi"},{"type":"blob","modality":"image"}]},
            {"role":"tool","parts":[{"type":"tool_call_response","id":"c1","response":{"a":1}}]}]"#;
        let output = r#"[{"role":"assistant","finish_reason":"tool_call","parts":[
            {"type":"tool_call","id":"c2","name":"lookup","arguments":{"q":"x"}}]}]"#;
        let span = Span {
            attributes: vec![
                ("gen_ai.input.messages", span::Value::Text(input.into())),
                ("gen_ai.output.messages", span::Value::Text(output.into())),
            ],
            ..call()
        };
        let found = Profile::Openinference.attributes(&Record::new(span));
        for (name, value) in [
            ("input.value", input),
            ("input.mime_type", "application/json"),
            ("llm.input_messages.0.message.role", "user"),
            ("llm.input_messages.0.message.content", "Hi"),
            ("llm.input_messages.1.message.tool_call_id", "c1"),
            ("llm.input_messages.1.message.content", r#"{"a":1}"#),
            (
                "llm.output_messages.0.message.tool_calls.0.tool_call.id",
                "c2",
            ),
            (
                "llm.output_messages.0.message.tool_calls.0.tool_call.function.name",
                "lookup",
            ),
            (
                "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments",
                r#"{"q":"x"}"#,
            ),
        ] {
            assert_eq!(found.get(name), Some(&Value::text(value)), "{name}");
        }
        assert!(!found.contains_key("gen_ai.input.messages"));
    }
}
