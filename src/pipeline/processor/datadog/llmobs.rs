//! Spans as events of LLM Observability: with the Agent as tracers send them, without it as its Spans
//! API has them.

use serde_json::{Map, Value, json};

use super::about::{About, attributes, dollars, failed, message, number, trace_halves};
use crate::{
    call::{content::SAID, labels::Label, outcome::Kind, span::Span},
    pipeline::Record,
};

/// The most bytes of one event. From a larger one the prompt and the answer are left out.
const MOST: usize = 1_000_000;

/// Whose form events have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A tracer's, for the Agent.
    Tracer,
    /// The Spans API's.
    Api,
}

/// The body for some spans.
pub(super) fn events(batch: &[&Record], about: &About, form: Form) -> String {
    let events = batch.iter().map(|record| event(record, about, form));
    let events = events.collect::<Vec<String>>().join(",");
    match form {
        Form::Tracer => {
            let version = env!("CARGO_PKG_VERSION");
            format!(
                r#"[{{"_dd.stage":"raw","_dd.tracer_version":"{version}","event_type":"span","spans":[{events}]}}]"#
            )
        },
        Form::Api => {
            let app = Value::from(&*about.ml_app);
            format!(
                r#"{{"data":{{"type":"span","attributes":{{"ml_app":{app},"spans":[{events}]}}}}}}"#
            )
        },
    }
}

fn event(record: &Record, about: &About, form: Form) -> String {
    let span = &record.span;
    let mut attributes = attributes(record);
    let content = SAID.map(|name| attributes.remove(name));
    let mut meta = meta(span, attributes, form);
    let [system, input, output, _tools, arguments, result] = content;
    for (name, said, tool) in [
        ("input", said(system, input), arguments),
        ("output", said(None, output), result),
    ] {
        let said = match (said, tool) {
            (Some(said), _) if span.kind == Kind::Llm => json!({ "messages": said }),
            (Some(said), _) => json!({ "value": words(&said) }),
            (None, Some(tool)) => json!({ "value": text(&tool) }),
            (None, None) => continue,
        };
        meta.insert(name.to_owned(), said);
    }
    let text = whole(span, &meta, about, form);
    if text.len() <= MOST {
        return text;
    }
    let cut = json!({"value": "left out: the event was larger than 1 MB"});
    for name in ["input", "output"] {
        if meta.contains_key(name) {
            meta.insert(name.to_owned(), cut.clone());
        }
    }
    whole(span, &meta, about, form)
}

fn whole(span: &Span, meta: &Map<String, Value>, about: &About, form: Form) -> String {
    let trace_id = span.trace_id.to_string();
    let span_id = number(span.span_id).to_string();
    let parent = span.parent_span_id.map(|parent| number(parent).to_string());
    let mut event = json!({
        "trace_id": trace_id,
        "span_id": span_id,
        "parent_id": parent.as_deref().unwrap_or("undefined"),
        "name": span.operation_name(),
        "start_ns": span.start.as_nanos(),
        "duration": u64::try_from(span.duration.as_nanos()).unwrap_or(u64::MAX),
        "status": if failed(span.status) { "error" } else { "ok" },
        "meta": meta,
        "metrics": metrics(span),
        "tags": tags(span, about),
    });
    if let Some(session) = span.labels.get(Label::Session) {
        put(&mut event, "session_id", json!(session));
    }
    if form == Form::Tracer {
        let apm = trace_halves(span.trace_id).0.to_string();
        put(&mut event, "ml_app", json!(about.ml_app));
        let linked = json!({"span_id": span_id, "trace_id": trace_id, "apm_trace_id": apm});
        put(&mut event, "_dd", linked);
    }
    event.to_string()
}

fn put(event: &mut Value, name: &str, value: Value) {
    if let Value::Object(event) = event {
        event.insert(name.to_owned(), value);
    }
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Llm => "llm",
        Kind::Embedding => "embedding",
        Kind::Tool => "tool",
        Kind::Agent => "agent",
        Kind::Workflow => "workflow",
        Kind::Handoff | Kind::Guardrail | Kind::Http => "task",
    }
}

fn meta(span: &Span, mut attributes: Map<String, Value>, form: Form) -> Map<String, Value> {
    // As other destinations have it.
    attributes.insert("span_id".to_owned(), json!(span.span_id.to_string()));
    let mut meta = Map::new();
    let key = match form {
        Form::Tracer => "span.kind",
        Form::Api => "kind",
    };
    meta.insert(key.to_owned(), json!(kind(span.kind)));
    if let (Kind::Llm | Kind::Embedding, Some(model)) = (span.kind, span.model()) {
        meta.insert("model_name".to_owned(), json!(model));
        meta.insert("model_provider".to_owned(), json!(span.provider));
    }
    if failed(span.status) {
        let kind = span
            .error_type
            .as_deref()
            .unwrap_or_else(|| span.status.name());
        let message = message(span).unwrap_or_default();
        match form {
            Form::Tracer => {
                meta.insert("error.type".to_owned(), json!(kind));
                meta.insert("error.message".to_owned(), json!(message));
            },
            Form::Api => {
                let error = json!({"type": kind, "message": message});
                meta.insert("error".to_owned(), error);
            },
        }
    }
    meta.insert("metadata".to_owned(), Value::Object(attributes));
    meta
}

fn metrics(span: &Span) -> Value {
    let usage = &span.usage;
    let tokens = usage.input.or(usage.output).map(|_known| usage.total());
    let first = span.first_chunk.map(|first| first.as_secs_f64());
    let values = [
        ("input_tokens", usage.input.map(Value::from)),
        ("output_tokens", usage.output.map(Value::from)),
        ("total_tokens", tokens.map(Value::from)),
        ("cache_read_input_tokens", usage.cache_read.map(Value::from)),
        (
            "cache_write_input_tokens",
            usage.cache_write.map(Value::from),
        ),
        ("reasoning_output_tokens", usage.reasoning.map(Value::from)),
        ("time_to_first_token", first.map(Value::from)),
        ("total_cost", dollars(span).map(Value::from)),
    ];
    let known = values.into_iter();
    let known = known.filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(known.collect())
}

fn tags(span: &Span, about: &About) -> Vec<String> {
    let agent = span.labels.get(Label::Agent);
    let user = span.labels.get(Label::User);
    let project = span.labels.get(Label::Project);
    let error = if failed(span.status) { "1" } else { "0" };
    let own = [
        ("service", Some(&*about.service)),
        ("ml_app", Some(&*about.ml_app)),
        ("source", Some("tollgate")),
        ("error", Some(error)),
        ("error_type", span.error_type.as_deref()),
        ("agent", agent),
        ("user_id", user),
        ("project", project),
    ];
    let own = own
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    let all = own.chain(about.tags_of(span));
    all.map(|(key, value)| format!("{key}:{value}")).collect()
}

/// What was said, as messages of Datadog's form. `system`: parts of an instruction that stands apart.
fn said(system: Option<Value>, messages: Option<Value>) -> Option<Vec<Value>> {
    let list = |value: Option<Value>| match value {
        Some(Value::Array(items)) => Some(items),
        // Attributes hold text: the list is in it.
        Some(Value::String(text)) => serde_json::from_str(&text).ok(),
        _ => None,
    };
    let (system, messages) = (list(system), list(messages));
    if system.is_none() && messages.is_none() {
        return None;
    }
    let instruction = system.map(|parts| json!({"role": "system", "parts": parts}));
    let messages = messages.unwrap_or_default();
    Some(instruction.iter().chain(&messages).map(said_in).collect())
}

/// A text as it is, and anything else as JSON.
fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn said_in(message: &Value) -> Value {
    let (mut content, mut calls) = (Vec::new(), Vec::new());
    for part in message["parts"].as_array().into_iter().flatten() {
        match part["type"].as_str().unwrap_or_default() {
            "text" | "reasoning" => content.push(text(&part["content"])),
            "tool_call" => calls.push(json!({
                "name": part["name"],
                "arguments": part["arguments"],
                "tool_id": part["id"],
                "type": "function",
            })),
            "tool_call_response" => content.push(text(&part["response"])),
            // Images and the like are only named.
            other => content.push(format!("[{other}]")),
        }
    }
    let mut said = json!({"role": message["role"], "content": content.join("\n")});
    if !calls.is_empty() {
        put(&mut said, "tool_calls", Value::Array(calls));
    }
    said
}

/// The words of some messages alone.
fn words(messages: &[Value]) -> String {
    let words = messages.iter().filter_map(|said| said["content"].as_str());
    words.collect::<Vec<_>>().join("\n")
}
