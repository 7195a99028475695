//! Messages: answers, whole and as events.

use std::borrow::Cow;

use super::usage::{self, When};
use crate::{
    call::{
        facts::{ErrorFacts, ResponseFacts, ToolCall},
        text::Text,
    },
    provider::{
        dialect::Event,
        state::{Open, StreamState},
        wire::json::{Ahead, Json, Unreadable},
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
        read_message(document.unwrapped(), When::After, facts, state)?;
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
                state.begin_with(block.opened(fields.index));
                block.note(fields.index, facts, state);
            }
        },
        "content_block_stop" => state.end(fields.index),
        "content_block_delta" => {
            facts.output_bytes += fields.delta.written;
            state.templates.learn(data, fields.delta.written);
        },
        "message_delta" => {
            fields.delta.stop.note(facts, state);
            if let Some(found) = fields.usage {
                found.read(|found| usage::read(found, When::After, facts, state));
            }
        },
        "message_stop" => {
            state.open.clear();
            facts.complete = true;
        },
        "error" => facts.error = fields.error,
        // Legacy completions have no other events than these.
        "completion" => {
            read_message(event, When::After, facts, state)?;
            facts.complete |= !facts.finish_reasons.is_empty();
        },
        _ => {},
    }
    Ok(())
}

/// Whether an event that was not read whole may bring text. A block begins with none, unless it is
/// what a tool of the provider found.
pub(super) fn may_write(event: &Event<'_>) -> bool {
    let kind = Json::document(&event.data).get("type").and_then(Json::str);
    kind.is_none_or(|kind| matches!(&*kind, "content_block_delta" | "completion"))
}

/// The fields of an event that matter.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<Cow<'a, str>>,
    index: u64,
    message: Option<Json<'a>>,
    block: Option<Block<'a>>,
    delta: Delta<'a>,
    usage: Option<Json<'a>>,
    error: Option<ErrorFacts>,
}

impl<'a> Fields<'a> {
    fn read(event: Json<'a>) -> Result<Self, Unreadable> {
        let mut fields = Self::default();
        event.object(|key, value| match key {
            b"type" => fields.kind = value.take().str(),
            b"index" => fields.index = value.take().u64().unwrap_or(0),
            b"message" => fields.message = Some(value.take()).filter(|value| value.is_object()),
            b"content_block" => fields.block = Some(Block::read(value)),
            b"delta" => fields.delta = Delta::read(value),
            b"usage" => fields.usage = Some(value.take()),
            b"error" => fields.error = Some(read_error(value)),
            _ => {},
        })?;
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
    let mut stop = Stop::default();
    message.object(|key, value| match key {
        b"id" => facts.id = value.take().name().or_else(|| facts.id.take()),
        b"model" => facts.model = value.take().name().or_else(|| facts.model.take()),
        b"usage" => usage::read(value, when, facts, state),
        b"error" if value.is_object() => facts.error = Some(read_error(value)),
        b"completion" => facts.output_bytes += value.count(),
        b"content" => {
            let mut indexes = 0..;
            value.items(|block| {
                let block = Block::read(block);
                facts.output_bytes += block.written();
                block.note(indexes.next().unwrap_or(u64::MAX), facts, state);
            });
        },
        _ => stop.field(key, value),
    })?;
    stop.note(facts, state);
    Ok(())
}

/// Why it stopped.
#[derive(Default)]
struct Stop<'a> {
    reason: Option<Json<'a>>,
    sequence: Option<Json<'a>>,
}

impl<'a> Stop<'a> {
    fn field(&mut self, key: &[u8], value: Ahead<'_, 'a>) {
        match key {
            b"stop_reason" => self.reason = Some(value.take()),
            b"stop_sequence" => self.sequence = Some(value.take()),
            _ => {},
        }
    }

    fn note(&self, facts: &mut ResponseFacts, state: &mut StreamState) {
        if let Some(reason) = self.reason.and_then(Json::name) {
            state.finish(facts, 0, &reason);
        }
        let detail = self.sequence.and_then(Json::name);
        facts.stop_detail = detail.or_else(|| facts.stop_detail.take());
    }
}

/// Reads nothing but the error that an answer may be.
pub(super) fn read_only_error(
    event: &Event<'_>,
    facts: &mut ResponseFacts,
) -> Result<(), Unreadable> {
    Json::document(&event.data).object(|key, value| {
        if key == b"error" && value.is_object() {
            facts.error = Some(read_error(value));
        }
    })?;
    facts.complete = true;
    Ok(())
}

pub(super) fn read_error(error: Ahead<'_, '_>) -> ErrorFacts {
    const MAX_MESSAGE: usize = 4096;
    let mut found = ErrorFacts::default();
    error.object(|key, value| match key {
        b"type" => found.kind = value.take().name(),
        // Google's own errors, where it is the host.
        b"status" => found.kind = value.take().name().or_else(|| found.kind.take()),
        b"code" => found.code = value.take().name_or_number(),
        b"details" => {
            let code = value.take().get("error_code").and_then(Json::name);
            found.code = code.or_else(|| found.code.take());
        },
        b"message" => found.message = value.take().text_up_to(MAX_MESSAGE),
        _ => {},
    });
    found
}

/// What a piece of a block, or the end of a message, brings.
#[derive(Default)]
struct Delta<'a> {
    written: Text,
    stop: Stop<'a>,
}

impl<'a> Delta<'a> {
    fn read(delta: Ahead<'_, 'a>) -> Self {
        let (mut text, mut json, mut thinking) = (None, None, None);
        let mut stop = Stop::default();
        delta.object(|key, value| match key {
            b"text" => text = Some(value.count()),
            b"partial_json" => json = Some(value.count()),
            b"thinking" => thinking = Some(value.count()),
            _ => stop.field(key, value),
        });
        let written = text.or(json).or(thinking).unwrap_or_default();
        Self { written, stop }
    }
}

/// A content block, or the beginning of one.
#[derive(Default)]
struct Block<'a> {
    kind: Option<Json<'a>>,
    id: Option<Json<'a>>,
    name: Option<Json<'a>>,
    text: Option<Text>,
    thinking: Option<Text>,
    input: Option<Text>,
}

impl<'a> Block<'a> {
    fn read(block: Ahead<'_, 'a>) -> Self {
        let mut found = Self::default();
        block.object(|key, value| match key {
            b"type" => found.kind = Some(value.take()),
            b"id" => found.id = Some(value.take()),
            b"name" => found.name = Some(value.take()),
            b"text" => found.text = Some(value.count()),
            b"thinking" => found.thinking = Some(value.count()),
            b"input" => found.input = Some(value.count()),
            _ => {},
        });
        found
    }

    /// What is open while it is written.
    fn opened(&self, index: u64) -> Open {
        let kind = self.kind.and_then(Json::name).unwrap_or_default();
        let call = (&*kind == "tool_use").then(ToolCall::default);
        Open {
            index,
            kind,
            id: None,
            call,
        }
    }

    /// Notes the call that it is.
    fn note(&self, index: u64, facts: &mut ResponseFacts, state: &mut StreamState) {
        let name = || self.name.and_then(Json::name);
        let kind = self.kind.and_then(Json::str).unwrap_or_default();
        match &*kind {
            "tool_use" => {
                let id = self.id.and_then(Json::name);
                state.call(facts, (0, index), id, name());
            },
            "server_tool_use" => {
                let name = name().unwrap_or_else(|| Box::from(&*kind));
                state.server_call(facts, index, name);
            },
            "mcp_tool_use" => state.server_call(facts, index, Box::from(&*kind)),
            _ => {},
        }
    }

    /// The text that the model wrote in it.
    fn written(&self) -> Text {
        let text = self.text.or(self.thinking).or(self.input);
        text.unwrap_or_default()
    }
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
