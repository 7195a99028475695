//! The Responses API: answers, whole, stored and as events.

use super::{fault, usage};
use crate::{
    call::{
        facts::{ResponseFacts, ToolCall},
        text::Text,
        usage::Usage,
    },
    provider::{
        dialect::Event,
        state::{Open, StreamState},
        wire::json::{Json, Unreadable},
    },
};

/// Reads one event, or a whole response.
pub(super) fn read(
    event: &Event<'_>,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    if event.data.starts_with(b"[DONE]") {
        return Ok(());
    }
    let document = Json::document(&event.data);
    if event.whole {
        read_response(document, facts, state)?;
        facts.pending = is_pending(document);
        facts.complete = !facts.pending;
        facts.output_bytes += document.get("output").map(written).unwrap_or_default();
        return Ok(());
    }
    if let Some(only) = state.templates.read(&event.data) {
        facts.output_bytes += only.text;
        state.sequence = only.sequence.or(state.sequence);
        return Ok(());
    }
    read_typed(document, &event.data, facts, state)
}

/// Reads an event by its `type`: not every server names its events as well.
fn read_typed(
    event: Json<'_>,
    data: &[u8],
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    let fields = Fields::read(event)?;
    state.sequence = fields.sequence.or(state.sequence);
    let kind = fields.kind.as_deref().unwrap_or_default();
    match (kind, fields.response) {
        ("response.output_item.added", _) => {
            if let Some(item) = fields.item {
                state.begin_with(opened(item, fields.index));
                read_item(item, fields.index, facts, state);
            }
        },
        ("response.output_item.done", _) => {
            state.end(fields.index);
            if let Some(item) = fields.item {
                read_item(item, fields.index, facts, state);
            }
        },
        ("error", _) => {
            let error = event.get("error").filter(|error| fault::is_one(*error));
            facts.error = Some(fault::read(error.unwrap_or(event)));
        },
        (_, Some(response)) => {
            read_response(response, facts, state)?;
            let background = response.get("background").is_some_and(Json::is_true);
            facts.pending = background && is_pending(response);
            if is_last(kind) {
                state.open.clear();
                facts.complete = true;
            } else {
                // Not why it ended, but how it stands.
                facts.finish_reasons.clear();
            }
        },
        _ => {
            let is_text = kind.contains(".delta") && !kind.contains("audio.");
            let delta = fields.delta.filter(|_| is_text);
            let text = delta.map(Json::text_bytes).unwrap_or_default();
            facts.output_bytes += text;
            state.templates.learn(data, text);
        },
    }
    Ok(())
}

fn is_last(kind: &str) -> bool {
    ["completed", "incomplete", "failed", "cancelled"]
        .iter()
        .any(|end| kind.strip_prefix("response.") == Some(*end))
}

/// The fields of an event that matter.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<Box<str>>,
    sequence: Option<u64>,
    index: u64,
    item: Option<Json<'a>>,
    delta: Option<Json<'a>>,
    response: Option<Json<'a>>,
}

impl<'a> Fields<'a> {
    fn read(event: Json<'a>) -> Result<Self, Unreadable> {
        let mut fields = Self::default();
        for entry in event.entries() {
            let entry = entry?;
            let value = entry.value;
            match &*entry.key {
                b"type" => fields.kind = value.name(),
                b"sequence_number" => fields.sequence = value.u64(),
                b"output_index" => fields.index = value.u64().unwrap_or(0),
                b"item" => fields.item = Some(value),
                b"delta" => fields.delta = Some(value).filter(|delta| delta.is_string()),
                b"response" => fields.response = Some(value).filter(|value| value.is_object()),
                _ => {},
            }
        }
        Ok(fields)
    }
}

fn is_pending(response: Json<'_>) -> bool {
    let status = response.get("status").and_then(Json::str);
    matches!(status.as_deref(), Some("queued" | "in_progress"))
}

fn read_response(
    response: Json<'_>,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    for entry in response.entries() {
        let entry = entry?;
        let value = entry.value;
        match &*entry.key {
            b"id" => facts.id = value.name().or_else(|| facts.id.take()),
            b"model" => facts.model = value.name().or_else(|| facts.model.take()),
            b"created_at" => state.created = value.u64().or(state.created),
            b"service_tier" => {
                facts.service_tier = value.name().or_else(|| facts.service_tier.take());
            },
            b"status" => facts.finish_reasons = value.name().into_iter().collect(),
            b"incomplete_details" => {
                facts.stop_detail = value.get("reason").and_then(Json::name);
            },
            b"error" if fault::is_one(value) => facts.error = Some(fault::read(value)),
            b"usage" => read_usage(value, facts),
            b"output" => {
                for (index, item) in (0..).zip(value.items()) {
                    read_item(item, index, facts, state);
                }
            },
            _ => {},
        }
    }
    Ok(())
}

fn read_usage(value: Json<'_>, facts: &mut ResponseFacts) {
    let found = usage::read(value);
    if found != Usage::NONE {
        facts.usage.update(&found);
    }
    if let Some(cost) = value.get("cost").and_then(Json::name_or_number) {
        facts.reported_cost = Some(cost);
    }
}

/// Whether an item is a call that the client must run.
fn is_client_call(kind: &str) -> bool {
    matches!(
        kind,
        "function_call"
            | "custom_tool_call"
            | "local_shell_call"
            | "shell_call"
            | "apply_patch_call"
            | "computer_call"
    )
}

fn opened(item: Json<'_>, index: u64) -> Open {
    let kind = item.get("type").and_then(Json::name).unwrap_or_default();
    let call = is_client_call(&kind).then(|| ToolCall {
        id: item.get("call_id").and_then(Json::name),
        name: item.get("name").and_then(Json::name).unwrap_or_default(),
    });
    Open {
        index,
        kind,
        id: item.get("id").and_then(Json::name),
        call,
    }
}

/// Notes the call that an item is. Items are repeated when they are done and when all is: their
/// place among the output tells them apart.
fn read_item(item: Json<'_>, index: u64, facts: &mut ResponseFacts, state: &mut StreamState) {
    let Some(kind) = item.get("type").and_then(Json::name) else {
        return;
    };
    if is_client_call(&kind) {
        let name = item.get("name").and_then(Json::name).unwrap_or(kind);
        let id = item.get("call_id").and_then(Json::name);
        state.call(facts, (0, index), id, Some(name));
    } else if kind.ends_with("_call") || &*kind == "mcp_list_tools" {
        state.server_call(facts, index, kind);
    }
}

/// The text that the model wrote in the items of an answer.
fn written(output: Json<'_>) -> Text {
    let texts = |item: Json<'_>, list: &str| -> Text {
        let parts = item.get(list).into_iter().flat_map(Json::items);
        parts
            .filter_map(|part| part.get("text").or_else(|| part.get("refusal")))
            .map(Json::text_bytes)
            .sum()
    };
    let of_item = |item: Json<'_>| -> Text {
        let arguments = item.get("arguments").or_else(|| item.get("input"));
        texts(item, "content")
            + texts(item, "summary")
            + arguments.map(Json::text_bytes).unwrap_or_default()
    };
    output.items().map(of_item).sum()
}
