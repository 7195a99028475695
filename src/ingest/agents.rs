//! The format of the OpenAI Agents SDK's exporter: traces, which only have names, and spans of a
//! dozen types. What was said is told apart.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use serde::Deserialize;
use serde_json::{Map, Value as Json, json, value::RawValue};

use super::{
    Batch, Refused, Report, Unreadable,
    draft::{self, text, texts},
    object,
};
use crate::{
    base::id::{SpanId, TraceId},
    call::{
        content::{Part, Told},
        labels::{Label, Labels, Source},
        outcome::{Kind, Status},
        reported::{
            AGENT_NAME, FROM_AGENT, Format, GUARDRAIL, HANDOFFS, MCP_SERVER, OUTPUT_TYPE,
            REPORTED_CALLS, REPORTED_INPUT, REPORTED_OUTPUT, REPORTED_TYPE, Reported, TO_AGENT,
            TOOL_NAME, TOOLS, TRIGGERED, TURN,
        },
        span::{Span, Value},
    },
};

/// What a trace is called, and what is said of all of it.
#[derive(Debug)]
pub(super) struct Named {
    workflow: Option<Box<str>>,
    group: Option<Box<str>>,
    tags: Vec<(Box<str>, Box<str>)>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Item {
    object: String,
    id: String,
    trace_id: Option<String>,
    parent_id: Option<String>,
    started_at: Option<String>,
    ended_at: Option<String>,
    span_data: Map<String, Json>,
    error: Option<Map<String, Json>>,
    workflow_name: Option<String>,
    group_id: Option<String>,
    metadata: Option<Map<String, Json>>,
}

/// How many spans up the agent of one is looked for.
const DEPTH: usize = 64;

/// Reads a request; `known` tells of traces of earlier ones.
pub(super) fn read(
    report: &Report<'_>,
    most: usize,
    known: impl Fn(TraceId) -> Option<Arc<Named>>,
) -> Result<Batch, Unreadable> {
    let body: Body<'_> = object(report.body)?;
    let mut batch = Batch::default();
    let mut traces: HashMap<TraceId, Arc<Named>> = HashMap::new();
    for (place, raw) in body.data.iter().enumerate() {
        if place >= most {
            batch
                .refused
                .add(place, format!("more than {most} items (ingest.spans)"));
            continue;
        }
        let item = serde_json::from_str::<Item>(raw.get()).map_err(|error| error.to_string());
        let read = item.and_then(|item| match &*item.object {
            "trace" => {
                let trace = draft::trace_id(&item.id).ok_or("it has no id")?;
                let named = Arc::new(Named::of(&item));
                traces.insert(trace, Arc::clone(&named));
                batch.names.push((trace, named));
                Ok(None)
            },
            "trace.span" => {
                let span = span(&item, report)?;
                if report.with_content {
                    batch.keep(&span, Data(&item.span_data).said());
                }
                Ok(Some(span))
            },
            other => Err(format!(
                "object: {:?} is not known here",
                draft::error(other)
            )),
        });
        match read {
            Ok(span) => batch.spans.extend(span),
            Err(why) => batch.refused.add(place, why),
        }
    }
    for span in &mut batch.spans {
        let named = match traces.entry(span.trace_id) {
            Entry::Occupied(found) => Some(Arc::clone(found.get())),
            Entry::Vacant(place) => {
                known(span.trace_id).map(|found| Arc::clone(place.insert(found)))
            },
        };
        if let Some(named) = named {
            named.label(&mut span.labels);
        }
    }
    name_agents(&mut batch.spans);
    Ok(batch)
}

/// The answer to a request.
pub(super) fn answer(accepted: usize, refused: &Refused) -> (Vec<u8>, &'static str) {
    let named = refused.named.iter();
    let named: Vec<Json> = named
        .map(|(place, why)| json!({"index": place, "reason": why}))
        .collect();
    let answer = json!({"accepted": accepted, "refused": refused.count, "errors": named});
    (answer.to_string().into_bytes(), "application/json")
}

impl Named {
    fn of(item: &Item) -> Self {
        let boxed =
            |text: &Option<String>| text.as_deref().map(|text| Box::from(draft::short(text)));
        let tags = item.metadata.iter().flatten();
        let tags = tags.filter_map(|(key, value)| {
            let value = match value {
                Json::String(text) => text.clone(),
                Json::Bool(_) | Json::Number(_) => value.to_string(),
                _ => return None,
            };
            Some((
                Box::from(draft::short(key)),
                Box::from(draft::short(&value)),
            ))
        });
        Self {
            workflow: boxed(&item.workflow_name),
            group: boxed(&item.group_id),
            tags: tags.take(Labels::MAX_TAGS).collect(),
        }
    }

    fn label(&self, labels: &mut Labels) {
        for (label, value) in [
            (Label::Workflow, &self.workflow),
            (Label::Session, &self.group),
        ] {
            if let Some(value) = value {
                labels.set(label, value, Source::Body);
            }
        }
        for (key, value) in &self.tags {
            labels.tag(key, value, Source::Body);
        }
    }
}

/// Says of every span which agent's it is: the nearest above it that says its name.
fn name_agents(spans: &mut [Span]) {
    type Above = (Option<SpanId>, Option<Box<str>>);
    let above = |span: &Span| -> Above {
        let reported = span.reported.as_deref();
        let name = reported.and_then(|reported| reported.text(AGENT_NAME));
        (span.parent_span_id, name.map(Box::from))
    };
    let tree: HashMap<(TraceId, SpanId), Above> = spans
        .iter()
        .map(|span| ((span.trace_id, span.span_id), above(span)))
        .collect();
    for span in spans {
        let mut at = Some(span.span_id);
        for _ in 0..DEPTH {
            let Some((parent, name)) = at.and_then(|at| tree.get(&(span.trace_id, at))) else {
                break;
            };
            if let Some(name) = name {
                span.labels.set(Label::Agent, name, Source::Body);
                break;
            }
            at = *parent;
        }
    }
}

fn span(item: &Item, report: &Report<'_>) -> Result<Span, String> {
    let id = draft::span_id(&item.id).ok_or("it has no id")?;
    let trace = item.trace_id.as_deref().and_then(draft::trace_id);
    let trace = trace.ok_or("it has no trace_id")?;
    let time = |name: &str, text: &Option<String>| {
        let time = text.as_deref().and_then(draft::time);
        time.ok_or_else(|| format!("{name} is no time"))
    };
    let start = time("started_at", &item.started_at)?;
    let end = time("ended_at", &item.ended_at)?;
    let (start, duration) = draft::times(start, end, report.now)?;
    let data = Data(&item.span_data);
    let what = data.what().ok_or("span_data has no type")?;
    let mut span = Span::reported(Format::Agents, (trace, id), draft::short(&what.name), start);
    span.kind = what.kind;
    span.operation = what.operation;
    span.duration = duration;
    span.parent_span_id = item.parent_id.as_deref().and_then(draft::span_id);
    span.labels = report.labels.clone();
    span.request_model = data
        .text("model")
        .map(|model| Arc::from(draft::short(model)));
    span.response_id = data
        .text("response_id")
        .map(|id| Box::from(draft::short(id)));
    if let Some(error) = &item.error {
        let message = error.get("message").and_then(Json::as_str);
        span.status = Status::Error;
        span.error_type = Some(Box::from(draft::error(message.unwrap_or("error"))));
    }
    if let Some(reported) = &mut span.reported {
        reported.put(REPORTED_TYPE, Some(text(what.word)));
        data.describe(reported, what.word);
    }
    Ok(span)
}

/// What a span describes.
struct What<'a> {
    /// Its type; of custom spans the SDK's own word, if it is one of its own.
    word: &'a str,
    kind: Kind,
    operation: Option<&'static str>,
    name: String,
}

/// The member `span_data`.
struct Data<'a>(&'a Map<String, Json>);

impl<'a> Data<'a> {
    fn get(&self, name: &str) -> Option<&'a Json> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(Json::as_str)
    }

    fn member(&self, name: &str) -> Option<Self> {
        self.get(name).and_then(Json::as_object).map(Self)
    }

    fn list(&self, name: &str) -> Option<Value> {
        let items = self.get(name)?.as_array()?;
        Some(texts(items.iter().filter_map(Json::as_str)))
    }

    /// The one table from their types to ours.
    fn what(&self) -> Option<What<'a>> {
        let word = self.text("type")?;
        let name = self.text("name").unwrap_or_default();
        let of = |what: &str, of: &str| format!("{what} {of}").trim_end().to_owned();
        let model = || self.text("model").unwrap_or_default();
        let (kind, operation, name) = match word {
            "agent" => (Kind::Agent, Some("invoke_agent"), of("invoke_agent", name)),
            "function" => (Kind::Tool, Some("execute_tool"), of("execute_tool", name)),
            "mcp_tools" => {
                let server = self.text("server").unwrap_or_default();
                (Kind::Tool, None, of("list_tools", server))
            },
            "handoff" => {
                let [from, to] =
                    ["from_agent", "to_agent"].map(|end| self.text(end).unwrap_or("?"));
                (Kind::Handoff, None, format!("handoff {from} → {to}"))
            },
            "guardrail" => (Kind::Guardrail, None, of("guardrail", name)),
            "generation" => (Kind::Llm, Some("chat"), of("generation", model())),
            "response" | "speech" | "transcription" => (Kind::Llm, None, of(word, model())),
            "custom" => return Some(self.custom(name)),
            other => (Kind::Workflow, None, of(other, name)),
        };
        Some(What {
            word,
            kind,
            operation,
            name,
        })
    }

    /// A custom span, which may be one of the SDK's own two.
    fn custom(&self, name: &str) -> What<'a> {
        let data = self.member("data");
        let data = data.as_ref();
        let word = data.and_then(|data| data.text("sdk_span_type"));
        let name = match word {
            Some("task") => data
                .and_then(|data| data.text("name"))
                .unwrap_or(name)
                .to_owned(),
            Some("turn") => {
                let turn = data.and_then(|data| data.get("turn")?.as_u64());
                turn.map_or_else(|| name.to_owned(), |turn| format!("turn {turn}"))
            },
            _ => name.to_owned(),
        };
        What {
            word: word.unwrap_or("custom"),
            kind: Kind::Workflow,
            operation: None,
            name,
        }
    }

    /// Everything that is no content.
    fn describe(&self, reported: &mut Reported, word: &str) {
        let named = |name: &str| self.text(name).map(text);
        let of_type = match word {
            "agent" => Some(AGENT_NAME),
            "function" => Some(TOOL_NAME),
            "guardrail" => Some(GUARDRAIL),
            _ => None,
        };
        if let Some(attribute) = of_type {
            reported.put(attribute, named("name"));
        }
        reported.put(TOOLS, self.list("tools").or_else(|| self.list("result")));
        reported.put(HANDOFFS, self.list("handoffs"));
        reported.put(OUTPUT_TYPE, named("output_type"));
        reported.put(FROM_AGENT, named("from_agent"));
        reported.put(TO_AGENT, named("to_agent"));
        let triggered = self.get("triggered").and_then(Json::as_bool);
        reported.put(TRIGGERED, triggered.map(Value::Bool));
        let server = self.member("mcp_data").and_then(|data| data.text("server"));
        reported.put(MCP_SERVER, server.map(text).or_else(|| named("server")));
        let data = self.member("data");
        if let Some(data) = data.filter(|_| word == "turn") {
            reported.put(AGENT_NAME, data.text("agent_name").map(text));
            let turn = data.get("turn").and_then(Json::as_u64);
            reported.put(TURN, turn.map(Value::Int));
        }
        if let Some(usage) = self.member("usage") {
            let count = |name| usage.get(name).and_then(Json::as_u64).map(Value::Int);
            reported.put(REPORTED_INPUT, count("input_tokens"));
            reported.put(REPORTED_OUTPUT, count("output_tokens"));
        }
        reported.put(REPORTED_CALLS, self.tool_calls());
    }

    /// What was said, of the types that say it in words.
    fn said(&self) -> Told {
        let parts: &[_] = match self.text("type") {
            Some("function") => &[("input", Part::Arguments), ("output", Part::Result)],
            Some("generation" | "response") => &[("input", Part::Input), ("output", Part::Output)],
            Some("speech" | "speech_group") => &[("input", Part::Input)],
            Some("transcription") => &[("output", Part::Output)],
            _ => &[],
        };
        let said = parts.iter().filter_map(|(name, part)| {
            let words = match self.get(name)? {
                Json::String(text) => text.clone(),
                value => value.to_string(),
            };
            Some((*part, words.into()))
        });
        Told {
            parts: said.collect(),
        }
    }

    /// The ids of the tool calls that the model asked for, which tell which call of ours it was.
    fn tool_calls(&self) -> Option<Value> {
        let messages = self.get("output")?.as_array()?.iter();
        let calls = messages.filter_map(|message| message.get("tool_calls")?.as_array());
        let mut ids = calls
            .flatten()
            .filter_map(|call| call.get("id")?.as_str())
            .peekable();
        ids.peek()?;
        Some(texts(ids))
    }
}

#[cfg(test)]
mod tests;
