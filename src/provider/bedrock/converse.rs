//! Converse: answers, whole and as events. Amazon's own models answer `InvokeModel` in the same
//! form, with each event's name in it.

use crate::{
    call::{facts::ResponseFacts, text::Text},
    provider::{
        dialect::Event,
        state::{Open, StreamState},
        wire::json::{Ahead, Json, Unreadable},
    },
};

use super::{endings, usage};

/// Reads one event, or a whole answer.
pub(super) fn read(
    event: &Event<'_>,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    let document = Json::document(&event.data);
    if event.whole {
        read_answer(document, facts, state)?;
        facts.complete = true;
        return Ok(());
    }
    if let Some(only) = state.templates.read(&event.data) {
        facts.output_bytes += only.text;
        return Ok(());
    }
    let mut part = Part::default();
    document.object(|key, value| part.field(key, value, facts, state))?;
    if let Some(written) = part.text_alone() {
        state.templates.learn(&event.data, written);
    }
    part.note(event.name.unwrap_or_default(), facts, state);
    Ok(())
}

/// Reads an event that stands in an object under its name: `{"messageStop": {…}}`.
pub(super) fn read_named(
    document: Json<'_>,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    document.object(|name, value| {
        if value.is_object() {
            let mut part = Part::default();
            value.object(|key, value| part.field(key, value, facts, state));
            part.note(&String::from_utf8_lossy(name), facts, state);
        }
    })
}

/// Reads a whole answer.
pub(super) fn read_answer(
    document: Json<'_>,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    let mut reason = None;
    document.object(|key, value| match key {
        b"output" => {
            value.object(|key, value| {
                if key == b"message" {
                    message(value, facts, state);
                }
            });
        },
        b"stopReason" => reason = value.take().name(),
        b"usage" => usage::read(value, facts, state),
        b"serviceTier" => tier(value, facts),
        _ => endings::read_error_field(key, value, facts),
    })?;
    if let Some(reason) = reason {
        state.finish(facts, 0, &reason);
    }
    Ok(())
}

fn message(message: Ahead<'_, '_>, facts: &mut ResponseFacts, state: &mut StreamState) {
    message.object(|key, value| {
        if key == b"content" {
            let mut indexes = 0..;
            value.items(|block| {
                let block = Block::read(block);
                facts.output_bytes += block.written;
                block.note(indexes.next().unwrap_or(u64::MAX), facts, state);
            });
        }
    });
}

/// `{"type": "flex"}`
fn tier(tier: Ahead<'_, '_>, facts: &mut ResponseFacts) {
    let tier = tier.take().get("type").and_then(Json::name);
    facts.service_tier = tier.or_else(|| facts.service_tier.take());
}

/// What an event says.
#[derive(Default)]
struct Part {
    index: Option<u64>,
    start: Option<Block>,
    delta: Option<Block>,
    reason: Option<Box<str>>,
    is_end: bool,
}

impl Part {
    fn field(
        &mut self,
        key: &[u8],
        value: Ahead<'_, '_>,
        facts: &mut ResponseFacts,
        state: &mut StreamState,
    ) {
        match key {
            b"contentBlockIndex" => self.index = value.take().u64(),
            b"start" => self.start = Some(Block::read(value)),
            b"delta" => self.delta = Some(Block::read(value)),
            b"stopReason" => self.reason = value.take().name(),
            b"usage" => {
                usage::read(value, facts, state);
                self.is_end = true;
            },
            b"serviceTier" => tier(value, facts),
            _ => {},
        }
    }

    /// The text in it, if that is all.
    fn text_alone(&self) -> Option<Text> {
        let alone = self.start.is_none() && self.reason.is_none() && !self.is_end;
        let delta = self
            .delta
            .as_ref()
            .filter(|delta| alone && !delta.is_tool());
        delta.map(|delta| delta.written)
    }

    fn note(self, name: &str, facts: &mut ResponseFacts, state: &mut StreamState) {
        let index = self.index.unwrap_or(0);
        if let Some(start) = self.start {
            state.begin_with(Open {
                index,
                ..Open::default()
            });
            start.note(index, facts, state);
        }
        if let Some(delta) = self.delta {
            // Blocks of text begin without a word.
            state.begin(index);
            facts.output_bytes += delta.written;
        }
        if name == "contentBlockStop" {
            state.end(index);
        }
        if let Some(reason) = self.reason {
            state.open.clear();
            state.finish(facts, 0, &reason);
        }
        facts.complete |= self.is_end;
    }
}

/// A content block, or a piece of one.
#[derive(Default)]
struct Block {
    written: Text,
    tool: Option<Tool>,
}

#[derive(Default)]
struct Tool {
    id: Option<Box<str>>,
    name: Option<Box<str>>,
    /// The provider runs it itself.
    is_server: bool,
}

impl Block {
    fn read(block: Ahead<'_, '_>) -> Self {
        let mut found = Self::default();
        block.object(|key, value| match key {
            b"text" => found.written += value.count(),
            b"toolUse" => {
                let tool = found.tool.insert(Tool::default());
                value.object(|key, value| match key {
                    b"toolUseId" => tool.id = value.take().name(),
                    b"name" => tool.name = value.take().name(),
                    b"type" => tool.is_server = value.take().raw() == b"\"server_tool_use\"",
                    b"input" => found.written += value.count(),
                    _ => {},
                });
            },
            b"reasoningContent" => found.written += reasoning(value),
            b"citationsContent" => {
                value.object(|key, value| {
                    if key == b"content" {
                        found.written += value.count();
                    }
                });
            },
            _ => {},
        });
        found
    }

    const fn is_tool(&self) -> bool {
        self.tool.is_some()
    }

    /// Notes the call that it is.
    fn note(self, index: u64, facts: &mut ResponseFacts, state: &mut StreamState) {
        match self.tool {
            Some(tool) if tool.is_server => {
                let name = tool.name.unwrap_or_else(|| Box::from("server_tool_use"));
                state.server_call(facts, index, name);
            },
            Some(tool) => state.call(facts, (0, index), tool.id, tool.name),
            None => {},
        }
    }
}

/// Thoughts: in a whole answer one level deeper. Signatures are no text.
fn reasoning(content: Ahead<'_, '_>) -> Text {
    let mut written = Text::default();
    content.object(|key, value| match key {
        b"text" | b"redactedContent" => written += value.count(),
        b"reasoningText" => {
            value.object(|key, value| {
                if key == b"text" {
                    written += value.count();
                }
            });
        },
        _ => {},
    });
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::usage::Usage;

    fn stream(events: &[(&str, &str)]) -> (ResponseFacts, StreamState) {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        for (name, data) in events {
            let event = Event {
                name: Some(name),
                ..Event::data(data.as_bytes())
            };
            read(&event, &mut facts, &mut state).unwrap();
        }
        (facts, state)
    }

    const STREAM: &[(&str, &str)] = &[
        ("messageStart", r#"{"p":"ab","role":"assistant"}"#),
        (
            "contentBlockDelta",
            r#"{"contentBlockIndex":0,"delta":{"text":"Hel"},"p":"a"}"#,
        ),
        (
            "contentBlockDelta",
            r#"{"contentBlockIndex":0,"delta":{"text":"lo"},"p":"abcd"}"#,
        ),
        ("contentBlockStop", r#"{"contentBlockIndex":0,"p":"abc"}"#),
        (
            "contentBlockStart",
            r#"{"contentBlockIndex":1,"start":{"toolUse":{"name":"look_up","toolUseId":"t1"}},"p":""}"#,
        ),
        (
            "contentBlockDelta",
            r#"{"contentBlockIndex":1,"delta":{"toolUse":{"input":"{}"}},"p":"a"}"#,
        ),
        ("contentBlockStop", r#"{"contentBlockIndex":1,"p":"abc"}"#),
        ("messageStop", r#"{"p":"a","stopReason":"tool_use"}"#),
        (
            "metadata",
            r#"{"metrics":{"latencyMs":1},"usage":{"inputTokens":10,"outputTokens":25,"totalTokens":35}}"#,
        ),
    ];

    #[test]
    fn a_stream_is_read() {
        let (facts, state) = stream(STREAM);
        assert_eq!(facts.usage, Usage::text(10, 25));
        assert_eq!(facts.finish_reasons, [Box::from("tool_use")]);
        assert_eq!(&*facts.tool_calls[0].name, "look_up");
        assert_eq!(facts.tool_calls[0].id.as_deref(), Some("t1"));
        assert_eq!(facts.output_bytes.bytes, 5 + 7 + 2);
        assert!(facts.complete && state.open.is_empty());
        let (facts, state) = stream(&STREAM[..6]);
        assert!(!facts.complete);
        assert_eq!(
            state.open.iter().map(|open| open.index).collect::<Vec<_>>(),
            [1]
        );
        let (facts, _) = stream(&STREAM[..8]);
        assert!(!facts.complete, "its usage is still to come");
    }

    #[test]
    fn an_answer_is_read_with_its_thoughts_and_what_the_provider_ran() {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        let answer = br#"{"output":{"message":{"role":"assistant","content":[
            {"reasoningContent":{"reasoningText":{"text":"hmm","signature":"abcdef"}}},
            {"text":"Hi"},
            {"toolUse":{"toolUseId":"s1","name":"interpreter","type":"server_tool_use","input":{}}},
            {"toolResult":{"toolUseId":"s1","content":[{"text":"a long result"}]}},
            {"toolUse":{"toolUseId":"t1","name":"f","input":{"a":"bc"}}}]}},
            "stopReason":"tool_use","serviceTier":{"type":"flex"},
            "usage":{"inputTokens":1,"outputTokens":2}}"#;
        read(&Event::body(answer), &mut facts, &mut state).unwrap();
        assert_eq!(facts.server_tools, [Box::from("interpreter")]);
        assert_eq!(facts.tool_calls.len(), 1);
        assert_eq!(facts.service_tier.as_deref(), Some("flex"));
        assert_eq!(facts.output_bytes.bytes, 3 + 2 + 3 + 1);
        assert!(facts.complete && facts.error.is_none());
    }
}
