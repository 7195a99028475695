//! Anthropic's messages: what is asked, and the answer as JSON and as a stream.

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{
    answer::{Ask, Reported, dated, failing},
    behaviour::Newline,
    chat::halves,
    conversation::{Choice, Conversation, Tool, Turn, list_at, str_at, text_of},
    json::{Json, Members, object},
    problem::Problem,
    reply::{Payload, named_event},
    script::Finish,
};

/// Reads a request to `/v1/messages`.
pub(super) fn read(body: &Value) -> Result<Conversation, Problem> {
    let mut asked = read_to_count(body)?;
    let limit = body.get("max_tokens").and_then(Value::as_u64);
    asked.max_tokens = Some(limit.ok_or_else(|| missing("max_tokens"))?);
    asked.stream = body.get("stream").and_then(Value::as_bool) == Some(true);
    Ok(asked)
}

/// Reads a request to `/v1/messages/count_tokens`, which has no output limit.
pub(super) fn read_to_count(body: &Value) -> Result<Conversation, Problem> {
    let model = body.get("model").and_then(Value::as_str);
    let messages = body.get("messages").and_then(Value::as_array);
    let mut asked = Conversation {
        model: model.ok_or_else(|| missing("model"))?.to_owned(),
        tools: list_at(body, "tools").iter().map(tool).collect(),
        choice: choice(body.get("tool_choice").unwrap_or(&Value::Null)),
        schema: body.pointer("/output_config/format/schema").cloned(),
        answers: 1,
        ..Conversation::default()
    };
    asked.add_system(&text_of(body.get("system").unwrap_or(&Value::Null)));
    for message in messages.ok_or_else(|| missing("messages"))? {
        let by_user = str_at(message, "role") == "user";
        match message.get("content") {
            Some(Value::Array(blocks)) => {
                for block in blocks {
                    add(&mut asked, by_user, block);
                }
            },
            Some(text) => add(&mut asked, by_user, text),
            None => {},
        }
    }
    Ok(asked)
}

fn missing(field: &str) -> Problem {
    Problem::invalid(format!("{field}: Field required"))
}

fn tool(tool: &Value) -> Tool {
    Tool {
        name: str_at(tool, "name").to_owned(),
        schema: tool.get("input_schema").cloned().unwrap_or_default(),
    }
}

fn choice(choice: &Value) -> Choice {
    match str_at(choice, "type") {
        "any" => Choice::Required,
        "tool" => Choice::Named(str_at(choice, "name").to_owned()),
        "none" => Choice::None,
        _ => Choice::Auto,
    }
}

/// Adds a content block, or a text that stands for one.
fn add(asked: &mut Conversation, by_user: bool, block: &Value) {
    match str_at(block, "type") {
        "tool_use" => asked.turns.push(Turn::Call {
            id: str_at(block, "id").to_owned(),
            name: str_at(block, "name").to_owned(),
            arguments: block.get("input").unwrap_or(&Value::Null).to_string(),
        }),
        "tool_result" => {
            let text = text_of(block.get("content").unwrap_or(&Value::Null));
            asked.add_result(str_at(block, "tool_use_id"), text);
        },
        _ if by_user => asked.turns.push(Turn::User(text_of(block))),
        _ => asked.turns.push(Turn::Assistant(text_of(block))),
    }
}

/// The answer to `/v1/messages/count_tokens`.
pub(super) fn count(asked: &Conversation) -> Json {
    object! {"input_tokens": asked.input_tokens()}
}

/// Writes the answer.
pub(super) fn write(ask: &mut Ask<'_>) -> Payload {
    let message = Message {
        id: ask.ids.make("msg_01", 22),
        calls: ask
            .said
            .calls
            .iter()
            .map(|_| ask.ids.make("toolu_01", 22))
            .collect(),
        ask,
    };
    if message.ask.asked.stream {
        let events = failing(message.events(), message.ask.behaviour, |problem| {
            let error = object! {"type": problem.anthropic_kind(), "message": problem.message};
            named_event("error", &object! {"type": "error", "error": error})
        });
        Payload::Events(events, Newline::Lf)
    } else {
        Payload::json(&message.whole())
    }
}

/// One answer on its way to the wire.
struct Message<'a, 'b> {
    id: String,
    /// The ids of the tool calls.
    calls: Vec<String>,
    ask: &'a Ask<'b>,
}

impl Message<'_, '_> {
    fn stop_reason(&self) -> &str {
        self.ask.finish(match self.ask.said.finish {
            Finish::Stop => "end_turn",
            Finish::Length => "max_tokens",
            Finish::Calls => "tool_use",
        })
    }

    fn has_text(&self) -> bool {
        !self.ask.said.pieces.is_empty() || self.ask.said.calls.is_empty()
    }

    fn whole(&self) -> Json {
        let said = self.ask.said;
        let mut content = Vec::new();
        if self.has_text() {
            content.push(object! {"type": "text", "text": said.text()});
        }
        for (id, (name, arguments)) in self.calls.iter().zip(&said.calls) {
            let input = RawValue::from_string(arguments.clone()).unwrap_or_default();
            content.push(object! {"type": "tool_use", "id": id, "name": name, "input": input});
        }
        self.message(&content, Some(self.stop_reason()), |counts| counts.output)
    }

    /// The message with what it has so far.
    fn message(
        &self,
        content: &[Json],
        stop_reason: Option<&str>,
        output: fn(&Reported) -> u64,
    ) -> Json {
        let mut members = Members::new()
            .with("model", &dated(&self.ask.asked.model))
            .with("id", &self.id)
            .with("type", &"message")
            .with("role", &"assistant")
            .with("content", &content)
            .with("stop_reason", &stop_reason)
            .with("stop_sequence", &());
        if let Some(counts) = self.ask.counts() {
            let usage = input_usage(&counts)
                .with("output_tokens", &output(&counts))
                .with("service_tier", &"standard");
            members.put("usage", &usage.close());
        }
        members.close()
    }

    fn events(&self) -> Vec<Bytes> {
        let said = self.ask.said;
        let mut blocks = Blocks::default();
        // A real stream begins with a stub of the output count, too.
        let message = self.message(&[], None, |counts| counts.output.min(1));
        blocks.add(
            "message_start",
            &object! {"type": "message_start", "message": message},
        );
        if self.has_text() {
            blocks.open(&object! {"type": "text", "text": ""});
            blocks.add("ping", &object! {"type": "ping"});
            for piece in &said.pieces {
                blocks.delta(&object! {"type": "text_delta", "text": piece});
            }
            blocks.close();
        }
        for (id, (name, arguments)) in self.calls.iter().zip(&said.calls) {
            let block = object! {"type": "tool_use", "id": id, "name": name, "input": object! {}};
            blocks.open(&block);
            for part in [""].into_iter().chain(halves(arguments)) {
                blocks.delta(&object! {"type": "input_json_delta", "partial_json": part});
            }
            blocks.close();
        }
        let delta = object! {"stop_reason": self.stop_reason(), "stop_sequence": ()};
        let mut last = Members::new()
            .with("type", &"message_delta")
            .with("delta", &delta);
        if let Some(counts) = self.ask.counts() {
            let usage = input_usage(&counts).with("output_tokens", &counts.output);
            last.put("usage", &usage.close());
        }
        blocks.add("message_delta", &last.close());
        blocks.add("message_stop", &object! {"type": "message_stop"});
        blocks.events
    }
}

/// Events, and the number of the block that is open.
#[derive(Default)]
struct Blocks {
    events: Vec<Bytes>,
    index: u32,
}

impl Blocks {
    fn add(&mut self, name: &str, data: &Json) {
        self.events.push(named_event(name, data));
    }

    fn open(&mut self, block: &Json) {
        let index = self.index;
        self.add(
            "content_block_start",
            &object! {"type": "content_block_start", "index": index, "content_block": block},
        );
    }

    fn delta(&mut self, delta: &Json) {
        let index = self.index;
        self.add(
            "content_block_delta",
            &object! {"type": "content_block_delta", "index": index, "delta": delta},
        );
    }

    fn close(&mut self) {
        let index = self.index;
        self.add(
            "content_block_stop",
            &object! {"type": "content_block_stop", "index": index},
        );
        self.index += 1;
    }
}

/// The input side of the usage: its `input_tokens` are those that no cache had to do with.
fn input_usage(counts: &Reported) -> Members {
    let plain = counts.input - counts.cached - counts.cache_write;
    Members::new()
        .with("input_tokens", &plain)
        .with("cache_creation_input_tokens", &counts.cache_write)
        .with("cache_read_input_tokens", &counts.cached)
        .with(
            "cache_creation",
            &object! {
                "ephemeral_5m_input_tokens": counts.cache_write,
                "ephemeral_1h_input_tokens": 0,
            },
        )
}
