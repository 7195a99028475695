//! Messages: answers, whole and as events.

use super::usage::{self, When};
use crate::{
    call::{
        facts::{ErrorFacts, ResponseFacts, ToolCall},
        text::Text,
    },
    provider::{
        dialect::Event,
        state::{Open, StreamState},
        wire::json::{Json, Unreadable},
    },
};

/// Reads one event, or a whole message.
pub(super) fn read(
    event: &Event<'_>,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    let document = Json::document(&event.data);
    if event.whole {
        read_message(document, When::After, facts, state)?;
        facts.complete = true;
        return Ok(());
    }
    if let Some(only) = state.templates.read(&event.data) {
        facts.output_bytes += only.text;
        return Ok(());
    }
    read_typed(document, &event.data, facts, state)
}

fn read_typed(
    event: Json<'_>,
    data: &[u8],
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    let fields = Fields::read(event)?;
    match fields.kind.as_deref().unwrap_or_default() {
        "message_start" => {
            if let Some(message) = fields.message {
                read_message(message, When::Before, facts, state)?;
            }
        },
        "content_block_start" => {
            if let Some(block) = fields.block {
                state.begin_with(opened(block, fields.index));
                read_block(block, fields.index, facts, state);
            }
        },
        "content_block_stop" => state.end(fields.index),
        "content_block_delta" => {
            let text = fields.delta.map(delta_text).unwrap_or_default();
            facts.output_bytes += text;
            state.templates.learn(data, text);
        },
        "message_delta" => {
            if let Some(delta) = fields.delta {
                read_stop(delta, facts, state);
            }
            if let Some(found) = fields.usage {
                usage::read(found, When::After, facts, state);
            }
        },
        "message_stop" => {
            state.open.clear();
            facts.complete = true;
        },
        "error" => facts.error = fields.error.map(read_error),
        // Legacy completions have no other events than these.
        "completion" => read_message(event, When::After, facts, state)?,
        _ => {},
    }
    Ok(())
}

/// The fields of an event that matter.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<Box<str>>,
    index: u64,
    message: Option<Json<'a>>,
    block: Option<Json<'a>>,
    delta: Option<Json<'a>>,
    usage: Option<Json<'a>>,
    error: Option<Json<'a>>,
}

impl<'a> Fields<'a> {
    fn read(event: Json<'a>) -> Result<Self, Unreadable> {
        let mut fields = Self::default();
        for entry in event.entries() {
            let entry = entry?;
            let value = entry.value;
            match &*entry.key {
                b"type" => fields.kind = value.name(),
                b"index" => fields.index = value.u64().unwrap_or(0),
                b"message" => fields.message = Some(value).filter(|value| value.is_object()),
                b"content_block" => fields.block = Some(value),
                b"delta" => fields.delta = Some(value),
                b"usage" => fields.usage = Some(value),
                b"error" => fields.error = Some(value),
                _ => {},
            }
        }
        Ok(fields)
    }
}

/// Reads a message: a whole one, or what is known of one at its start.
fn read_message(
    message: Json<'_>,
    when: When,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    for entry in message.entries() {
        let entry = entry?;
        let value = entry.value;
        match &*entry.key {
            b"id" => facts.id = value.name().or_else(|| facts.id.take()),
            b"model" => facts.model = value.name().or_else(|| facts.model.take()),
            b"usage" => usage::read(value, when, facts, state),
            b"error" if value.is_object() => facts.error = Some(read_error(value)),
            b"completion" => facts.output_bytes += value.text_bytes(),
            b"content" => {
                for (index, block) in (0..).zip(value.items()) {
                    facts.output_bytes += written(block);
                    read_block(block, index, facts, state);
                }
            },
            _ => {},
        }
    }
    read_stop(message, facts, state);
    Ok(())
}

fn read_stop(within: Json<'_>, facts: &mut ResponseFacts, state: &mut StreamState) {
    if let Some(reason) = within.get("stop_reason").and_then(Json::name) {
        state.finish(facts, 0, &reason);
    }
    let detail = within.get("stop_sequence").and_then(Json::name);
    facts.stop_detail = detail.or_else(|| facts.stop_detail.take());
}

fn read_error(error: Json<'_>) -> ErrorFacts {
    const MAX_MESSAGE: usize = 4096;
    ErrorFacts {
        kind: error.get("type").and_then(Json::name),
        code: error
            .at_path(&["details", "error_code"])
            .and_then(Json::name),
        message: error
            .get("message")
            .and_then(|message| message.text_up_to(MAX_MESSAGE)),
    }
}

fn opened(block: Json<'_>, index: u64) -> Open {
    let kind = block.get("type").and_then(Json::name).unwrap_or_default();
    let call = (&*kind == "tool_use").then(ToolCall::default);
    Open {
        index,
        kind,
        id: None,
        call,
    }
}

/// Notes the call that a block is.
fn read_block(block: Json<'_>, index: u64, facts: &mut ResponseFacts, state: &mut StreamState) {
    let kind = block.get("type").and_then(Json::name).unwrap_or_default();
    let name = block.get("name").and_then(Json::name);
    match &*kind {
        "tool_use" => {
            let id = block.get("id").and_then(Json::name);
            state.call(facts, (0, index), id, name);
        },
        "server_tool_use" => state.server_call(facts, index, name.unwrap_or(kind)),
        "mcp_tool_use" => state.server_call(facts, index, kind),
        _ => {},
    }
}

/// The text that a piece of a block brings.
fn delta_text(delta: Json<'_>) -> Text {
    let text = delta
        .get("text")
        .or_else(|| delta.get("partial_json"))
        .or_else(|| delta.get("thinking"));
    text.map(Json::text_bytes).unwrap_or_default()
}

/// The text that the model wrote in a whole block.
fn written(block: Json<'_>) -> Text {
    let text = block
        .get("text")
        .or_else(|| block.get("thinking"))
        .or_else(|| block.get("input"));
    text.map(Json::text_bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::usage::Usage;

    fn stream(events: &[&str]) -> (ResponseFacts, StreamState) {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        for event in events {
            read(&Event::data(event.as_bytes()), &mut facts, &mut state).unwrap();
        }
        (facts, state)
    }

    const STREAM: &[&str] = &[
        r#"{"type":"message_start","message":{"id":"msg_1","model":"claude-x","content":[],"stop_reason":null,"usage":{"input_tokens":10,"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"lo\n"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_1","name":"look_up","input":{}}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"1}"}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":25}}"#,
        r#"{"type":"message_stop"}"#,
    ];

    #[test]
    fn a_stream_is_read() {
        let (facts, state) = stream(STREAM);
        assert_eq!(
            (facts.id.as_deref(), facts.model.as_deref()),
            (Some("msg_1"), Some("claude-x"))
        );
        assert_eq!(facts.usage, Usage::text(10, 25));
        assert_eq!(facts.output_bytes.bytes, 6 + 5 + 2 + 7);
        assert_eq!(facts.finish_reasons, [Box::from("tool_use")]);
        assert_eq!(&*facts.tool_calls[0].name, "look_up");
        assert!(facts.complete && state.open.is_empty());
    }

    #[test]
    fn what_is_open_is_known_at_every_event() {
        let open = |events| {
            stream(&STREAM[..events])
                .1
                .open
                .iter()
                .map(|o| o.index)
                .collect::<Vec<_>>()
        };
        assert_eq!(open(1), [0; 0]);
        assert_eq!(open(4), [0]);
        assert_eq!(open(6), [0; 0]);
        assert_eq!(open(8), [1]);
    }

    #[test]
    fn a_whole_message_says_the_same_as_its_stream() {
        let message = r#"{"id":"msg_1","type":"message","model":"claude-x","content":[
            {"type":"text","text":"Hello\n"},
            {"type":"server_tool_use","id":"s","name":"web_search","input":{}},
            {"type":"tool_use","id":"toolu_1","name":"look_up","input":{"a":1}}],
            "stop_reason":"stop_sequence","stop_sequence":"END",
            "usage":{"input_tokens":10,"output_tokens":25,"service_tier":"standard"}}"#;
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        read(&Event::body(message.as_bytes()), &mut facts, &mut state).unwrap();
        assert_eq!(facts.usage, Usage::text(10, 25));
        assert_eq!(facts.tool_calls.len(), 1);
        assert_eq!(facts.server_tools, [Box::from("web_search")]);
        assert_eq!(facts.stop_detail.as_deref(), Some("END"));
        assert_eq!(facts.service_tier.as_deref(), Some("standard"));
    }

    #[test]
    fn an_error_is_seen_in_a_stream_and_alone() {
        let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}"#;
        let (streamed, _) = stream(&[error]);
        assert_eq!(
            streamed.error.unwrap().kind.as_deref(),
            Some("overloaded_error")
        );
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        read(&Event::body(error.as_bytes()), &mut facts, &mut state).unwrap();
        assert_eq!(facts.error.unwrap().message.as_deref(), Some("Overloaded"));
        assert_eq!(facts.id, None);
    }
}
