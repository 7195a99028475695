//! Spans over OTLP/HTTP, as instrumented frameworks send them. Of their attributes those are kept
//! that say what happened; what was said is told apart.

mod binary;
mod json;

use std::{sync::Arc, time::Duration};

use super::{
    Batch, Refused, Report, Unreadable,
    draft::{self, ATTRIBUTES},
};
use crate::{
    base::{
        clock::Timestamp,
        id::{SpanId, TraceId},
    },
    call::{
        content::{self, Part, Told},
        labels::{Label, Source},
        outcome::{Kind, Status},
        reported::{AGENT_NAME, Format, REPORTED_INPUT, REPORTED_OUTPUT, REPORTED_TYPE, Reported},
        span::{Span, Value},
    },
};

const JSON: &str = "application/json";
const BINARY: &str = "application/x-protobuf";

/// Attributes, by full name.
pub(super) type Attributes = Vec<(Box<str>, Value)>;

/// A span as it came.
#[derive(Debug, Default)]
pub(super) struct Item {
    pub(super) trace: Option<TraceId>,
    pub(super) span: Option<SpanId>,
    pub(super) parent: Option<SpanId>,
    pub(super) name: String,
    /// Nanoseconds since the Unix epoch.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) attributes: Attributes,
    pub(super) failed: bool,
    /// What the status says.
    pub(super) message: String,
    /// What was said in it; nothing where that is not wanted.
    pub(super) said: Told,
}

/// Is given each span, or why it cannot be read, with the attributes of its resource.
type Take<'a> = &'a mut dyn FnMut(&Attributes, Result<Item, String>);

/// Reads a request.
pub(super) fn read(report: &Report<'_>, most: usize) -> Result<Batch, Unreadable> {
    let mut batch = Batch::default();
    let mut place = 0;
    let mut take = |resource: &Attributes, item: Result<Item, String>| {
        let read = if place < most {
            item.and_then(|mut item| {
                let said = std::mem::take(&mut item.said);
                let span = span(&item, resource, report)?;
                batch.keep(&span, of_kind(span.kind, said));
                Ok(span)
            })
        } else {
            Err(format!("more than {most} spans (ingest.spans)"))
        };
        match read {
            Ok(span) => batch.spans.push(span),
            Err(why) => batch.refused.add(place, why),
        }
        place += 1;
    };
    match essence(report.content_type) {
        JSON => json::read(report.body, report.with_content, &mut take)?,
        BINARY => binary::read(report.body, report.with_content, &mut take)?,
        other => {
            let other = draft::error(other).to_owned();
            return Err(Unreadable::ContentType(other, " or application/x-protobuf"));
        },
    }
    Ok(batch)
}

/// The answer to a request, in its own form.
pub(super) fn answer(content_type: &str, refused: &Refused) -> (Vec<u8>, &'static str) {
    let why = message(refused);
    if essence(content_type) == BINARY {
        (binary::answer(refused.count, &why), BINARY)
    } else {
        (json::answer(refused.count, &why), JSON)
    }
}

/// The answer to a request of which nothing was taken, if it has a form of its own.
pub(super) fn refusal(content_type: &str, why: &str) -> Option<(Vec<u8>, &'static str)> {
    (essence(content_type) == BINARY).then(|| (binary::refusal(why), BINARY))
}

/// Why spans were refused, in one text.
fn message(refused: &Refused) -> String {
    let named = refused
        .named
        .iter()
        .map(|(place, why)| format!("span {place}: {why}"));
    named.collect::<Vec<_>>().join("; ")
}

/// The content type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Beginnings of the names of attributes that are kept.
const KEPT: &[&str] = &[
    "code.function",
    "db.operation",
    "db.system",
    "error.type",
    "gen_ai.agent.",
    "gen_ai.conversation.id",
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.",
    "gen_ai.response.",
    "gen_ai.system",
    "gen_ai.tool.call.id",
    "gen_ai.tool.name",
    "gen_ai.tool.type",
    "graph.node.",
    "http.request.method",
    "http.response.status_code",
    "http.status_code",
    "openinference.span.kind",
    "rpc.",
    "server.",
    "service.",
    "tool.name",
    "traceloop.entity.name",
    "traceloop.span.kind",
    "traceloop.workflow.name",
];

/// What is said in a span that has an attribute of that name.
fn part(name: &str) -> Option<Part> {
    Some(match name {
        content::SYSTEM => Part::System,
        content::INPUT | "input.value" | "traceloop.entity.input" => Part::Input,
        content::OUTPUT | "output.value" | "traceloop.entity.output" => Part::Output,
        content::TOOLS => Part::Tools,
        content::ARGUMENTS => Part::Arguments,
        content::RESULT => Part::Result,
        _ => return None,
    })
}

/// What is said in a span of that kind: what goes into a tool and comes out of it has no messages.
fn of_kind(kind: Kind, mut said: Told) -> Told {
    for (part, _) in &mut said.parts {
        *part = match *part {
            Part::Input if kind == Kind::Tool => Part::Arguments,
            Part::Output if kind == Kind::Tool => Part::Result,
            part => part,
        };
    }
    said
}

/// What says that a span is one of Tollgate's own, on its way back.
const OURS: &str = "tollgate.request_id";

/// The names under which the same thing is said, the preferred one first.
const MODEL: &[&str] = &["gen_ai.request.model", "llm.model_name"];
const INPUT: &[&str] = &[
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",
    "llm.token_count.prompt",
];
const OUTPUT: &[&str] = &[
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.token_count.completion",
];
const LABELS: &[(Label, &[&str])] = &[
    (Label::Agent, &[AGENT_NAME, "agent.name"]),
    (Label::User, &["user.id", "enduser.id"]),
    (Label::Session, &["gen_ai.conversation.id", "session.id"]),
    (
        Label::Environment,
        &["deployment.environment.name", "deployment.environment"],
    ),
    (
        Label::Workflow,
        &["gen_ai.workflow.name", "traceloop.workflow.name"],
    ),
];

/// The one table from their words to our kinds: of OpenTelemetry, `OpenInference` and `OpenLLMetry`.
fn kind(word: &str) -> Option<Kind> {
    Some(match word.to_ascii_lowercase().as_str() {
        "chat" | "text_completion" | "generate_content" | "llm" => Kind::Llm,
        "embeddings" | "embedding" => Kind::Embedding,
        "execute_tool" | "tool" => Kind::Tool,
        "invoke_agent" | "create_agent" | "agent" => Kind::Agent,
        "guardrail" => Kind::Guardrail,
        "invoke_workflow" | "workflow" | "task" | "chain" | "retriever" | "reranker"
        | "evaluator" => Kind::Workflow,
        _ => return None,
    })
}

/// The names of the words.
const WORDS: &[&str] = &[
    "gen_ai.operation.name",
    "openinference.span.kind",
    "traceloop.span.kind",
];

fn find<'a>(attributes: &'a Attributes, names: &[&str]) -> Option<&'a Value> {
    names.iter().find_map(|name| {
        let mut attributes = attributes.iter();
        attributes.find_map(|(found, value)| (**found == **name).then_some(value))
    })
}

fn text<'a>(attributes: &'a Attributes, names: &[&str]) -> Option<&'a str> {
    match find(attributes, names)? {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn span(item: &Item, resource: &Attributes, report: &Report<'_>) -> Result<Span, String> {
    let trace = item.trace.ok_or("it has no traceId")?;
    let id = item.span.ok_or("it has no spanId")?;
    let attributes = &item.attributes;
    if find(attributes, &[OURS]).is_some() {
        return Err("it is a span of Tollgate's own: it is here already".to_owned());
    }
    let [start, end] = [item.start, item.end].map(Timestamp::from_nanos);
    let (start, duration) = draft::times(start, end, report.now)?;
    let mut span = Span::reported(Format::Otlp, (trace, id), draft::short(&item.name), start);
    span.parent_span_id = item.parent;
    span.duration = duration;
    let word = WORDS.iter().find_map(|name| text(attributes, &[name]));
    span.kind = word.and_then(kind).unwrap_or(Kind::Workflow);
    span.labels = report.labels.clone();
    for (label, names) in LABELS {
        if let Some(value) = text(attributes, names).or_else(|| text(resource, names)) {
            span.labels.set(*label, value, Source::Body);
        }
    }
    span.request_model = text(attributes, MODEL).map(Arc::from);
    span.response_model = text(attributes, &["gen_ai.response.model"]).map(Arc::from);
    span.response_id = text(attributes, &["gen_ai.response.id"]).map(Box::from);
    span.stream = find(attributes, &["gen_ai.request.stream"]) == Some(&Value::Bool(true));
    if let Some(Value::Float(first)) = find(attributes, &[FIRST_CHUNK]) {
        span.first_chunk = Duration::try_from_secs_f64(*first).ok();
    }
    if item.failed {
        span.status = Status::Error;
        let error = text(attributes, &["error.type"]).unwrap_or(&item.message);
        let error = if error.is_empty() { "error" } else { error };
        span.error_type = Some(Box::from(draft::error(error)));
    }
    if let Some(reported) = &mut span.reported {
        reported.put(REPORTED_TYPE, word.map(draft::text));
        for (name, names) in [(REPORTED_INPUT, INPUT), (REPORTED_OUTPUT, OUTPUT)] {
            reported.put(name, find(attributes, names).cloned());
        }
        keep(reported, &item.attributes);
        keep(reported, resource);
    }
    Ok(span)
}

/// What is of use of a resource's attributes: they are looked at for every span of it.
fn of_use(resource: Attributes) -> Attributes {
    let is_label = |name: &str| LABELS.iter().any(|(_, names)| names.contains(&name));
    let of_use = |(name, _): &(Box<str>, Value)| is_kept(name) || is_label(name);
    resource
        .into_iter()
        .filter(of_use)
        .take(ATTRIBUTES)
        .collect()
}

fn is_kept(name: &str) -> bool {
    KEPT.iter().any(|kept| name.starts_with(kept))
}

/// When a stream began, in seconds.
const FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";

/// Keeps what says what happened, but for what is a field of the span already.
fn keep(reported: &mut Reported, attributes: &Attributes) {
    const FIELDS: &[&str] = &[
        "error.type",
        "gen_ai.request.model",
        "gen_ai.request.stream",
        "gen_ai.response.id",
        "gen_ai.response.model",
        FIRST_CHUNK,
    ];
    for (name, value) in attributes {
        if reported.attributes.len() >= ATTRIBUTES {
            return;
        }
        let kept = is_kept(name) && !FIELDS.contains(&&**name);
        if kept && reported.get(name).is_none() {
            reported.attributes.push((name.clone(), value.clone()));
        }
    }
}
