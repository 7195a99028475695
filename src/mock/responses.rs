//! OpenAI's Responses: what is asked, and the answer as JSON and as a stream.

use bytes::Bytes;
use serde_json::Value;

use super::{
    answer::{Ask, Reported, dated, failing},
    behaviour::{Behaviour, Newline},
    chat::{choice, halves},
    conversation::{Conversation, Tool, Turn, list_at, str_at, text_of},
    json::{Json, Members, object, value},
    problem::Problem,
    reply::{Payload, named_event},
    script::Finish,
    stored::{Stored, Stores},
};

/// Reads a request; what a previous response said comes first.
pub(super) fn read(body: &Value, stores: &Stores) -> Result<Conversation, Problem> {
    let Some(model) = body.get("model").and_then(Value::as_str) else {
        let problem = Problem::invalid("Missing required parameter: 'model'.");
        return Err(problem.param("model").code("missing_required_parameter"));
    };
    let mut asked = Conversation {
        model: model.to_owned(),
        tools: list_at(body, "tools").iter().filter_map(tool).collect(),
        choice: choice(body.get("tool_choice")),
        schema: body.pointer("/text/format/schema").cloned(),
        max_tokens: body.get("max_output_tokens").and_then(Value::as_u64),
        answers: 1,
        stream: flag(body, "stream") == Some(true),
        ..Conversation::default()
    };
    if let Some(previous) = body.get("previous_response_id").and_then(Value::as_str) {
        asked.turns = stores.turns(previous).ok_or_else(|| {
            let message = format!("Previous response with id '{previous}' not found.");
            Problem::invalid(message)
                .param("previous_response_id")
                .code("previous_response_not_found")
        })?;
    }
    asked.add_system(str_at(body, "instructions"));
    match body.get("input") {
        Some(Value::Array(items)) => {
            for item in items {
                add(&mut asked, item);
            }
        },
        Some(text) => asked.turns.push(Turn::User(text_of(text))),
        None => {},
    }
    Ok(asked)
}

fn flag(body: &Value, key: &str) -> Option<bool> {
    body.get(key).and_then(Value::as_bool)
}

pub(super) fn tool(tool: &Value) -> Option<Tool> {
    (str_at(tool, "type") == "function").then(|| Tool {
        name: str_at(tool, "name").to_owned(),
        schema: tool.get("parameters").cloned().unwrap_or_default(),
    })
}

/// Adds an item of the input, or of a conversation.
pub(super) fn add(asked: &mut Conversation, item: &Value) {
    let call_id = str_at(item, "call_id");
    match (str_at(item, "type"), str_at(item, "role")) {
        ("function_call", _) => asked.turns.push(Turn::Call {
            id: call_id.to_owned(),
            name: str_at(item, "name").to_owned(),
            arguments: str_at(item, "arguments").to_owned(),
        }),
        ("function_call_output", _) => {
            asked.add_result(call_id, text_of(item.get("output").unwrap_or(&Value::Null)));
        },
        ("reasoning", _) => {},
        (_, "system" | "developer") => asked.add_system(&text_of(item)),
        (_, "assistant") => asked.turns.push(Turn::Assistant(text_of(item))),
        _ => asked.turns.push(Turn::User(text_of(item))),
    }
}

/// Writes the answer, and stores it for retrieval and continuation unless told not to.
pub(super) fn write(ask: &mut Ask<'_>, body: &Value, stores: &Stores) -> Payload {
    let background = flag(body, "background") == Some(true);
    let keeps = background || flag(body, "store") != Some(false);
    let (answer, events) = make(ask, body, keeps.then_some(stores));
    if answer.ask.asked.stream {
        Payload::Events(failed(events, answer.ask.behaviour), Newline::Lf)
    } else if background {
        Payload::json(&answer.response("queued"))
    } else {
        Payload::json(&answer.response(answer.status()))
    }
}

/// The events of a stream, of an answer that is stored whatever it was asked for with.
pub(super) fn events(ask: &mut Ask<'_>, body: &Value, stores: &Stores) -> Vec<Bytes> {
    let (answer, events) = make(ask, body, Some(stores));
    failed(events, answer.ask.behaviour)
}

fn make<'a, 'b>(
    ask: &'a mut Ask<'b>,
    body: &'a Value,
    stores: Option<&Stores>,
) -> (Answer<'a, 'b>, Vec<Bytes>) {
    let calls = ask.said.calls.iter();
    let answer = Answer {
        id: ask.ids.hex("resp_", 48),
        message: ask.ids.hex("msg_", 48),
        calls: calls
            .map(|_| (ask.ids.hex("fc_", 48), ask.ids.make("call_", 24)))
            .collect(),
        body,
        ask,
    };
    let events = answer.events();
    if let Some(stores) = stores {
        let background = flag(body, "background") == Some(true);
        stores.put(
            answer.id.clone(),
            Stored {
                turns: answer.turns(),
                running: answer.response("in_progress"),
                cancelled: answer.response("cancelled"),
                done: answer.response(answer.status()),
                events: events.clone(),
                polls: if background {
                    answer.ask.behaviour.answer.polls.unwrap_or(1)
                } else {
                    0
                },
                background,
            },
        );
    }
    (answer, events)
}

/// The events as far as the settings let them come.
fn failed(events: Vec<Bytes>, behaviour: &Behaviour) -> Vec<Bytes> {
    failing(events, behaviour, |problem| {
        let error = object! {
            "type": "error",
            "code": problem.code.as_deref().unwrap_or("server_error"),
            "message": problem.message,
            "param": (),
            "sequence_number": behaviour.answer.stream_error,
        };
        named_event("error", &error)
    })
}

/// The answer to `/v1/responses/input_tokens`.
pub(super) fn count(asked: &Conversation) -> Json {
    object! {"object": "response.input_tokens", "input_tokens": asked.input_tokens()}
}

/// The answer to `/v1/responses/compact`: what was said, as one item that only the model can read.
pub(super) fn compact(ask: &mut Ask<'_>) -> Json {
    let id = ask.ids.hex("cmp_", 48);
    let item = object! {"id": id, "type": "compaction", "encrypted_content": ask.said.text()};
    object! {
        "id": ask.ids.hex("resp_", 48),
        "object": "response.compaction",
        "created_at": ask.now,
        "output": [item],
        "usage": ask.counts().map(|counts| usage(&counts)),
    }
}

/// One answer on its way to the wire.
struct Answer<'a, 'b> {
    id: String,
    /// The id of the message.
    message: String,
    /// Of each tool call, the item's id and the one that joins it to its result.
    calls: Vec<(String, String)>,
    body: &'a Value,
    ask: &'a Ask<'b>,
}

impl Answer<'_, '_> {
    fn status(&self) -> &str {
        self.ask.finish(match self.ask.said.finish {
            Finish::Stop | Finish::Calls => "completed",
            Finish::Length => "incomplete",
        })
    }

    /// What was said before, and this.
    fn turns(&self) -> Vec<Turn> {
        let said = self.ask.said;
        let mut turns = self.ask.asked.turns.clone();
        if !said.pieces.is_empty() {
            turns.push(Turn::Assistant(said.text()));
        }
        for ((_, id), (name, arguments)) in self.calls.iter().zip(&said.calls) {
            turns.push(Turn::Call {
                id: id.clone(),
                name: name.clone(),
                arguments: arguments.clone(),
            });
        }
        turns
    }

    /// The response object in this status. Only an ended one has output and usage.
    fn response(&self, status: &str) -> Json {
        let body = self.body;
        let ended = matches!(status, "completed" | "incomplete" | "failed");
        let output = if ended { self.output() } else { Vec::new() };
        let reason = (status == "incomplete").then(|| object! {"reason": "max_output_tokens"});
        let error = (status == "failed").then(|| {
            object! {"code": "server_error", "message": "The mock was asked to fail."}
        });
        let or = |key, value: Value| body.get(key).cloned().unwrap_or(value);
        let mut members = Members::new()
            .with("id", &self.id)
            .with("object", &"response")
            .with("created_at", &self.ask.now)
            .with("status", &status)
            .with("background", &or("background", false.into()))
            .with("error", &error)
            .with("incomplete_details", &reason)
            .with("instructions", &body.get("instructions"))
            .with("max_output_tokens", &body.get("max_output_tokens"))
            .with("model", &dated(&self.ask.asked.model))
            .with("output", &output)
            .with(
                "parallel_tool_calls",
                &or("parallel_tool_calls", true.into()),
            )
            .with("previous_response_id", &body.get("previous_response_id"))
            .with("reasoning", &object! {"effort": (), "summary": ()})
            .with("service_tier", &"default")
            .with("store", &or("store", true.into()))
            .with("temperature", &or("temperature", 1.0.into()))
            .with("text", &object! {"format": object! {"type": "text"}})
            .with("tool_choice", &or("tool_choice", "auto".into()))
            .with("tools", &or("tools", Vec::<Value>::new().into()))
            .with("top_p", &or("top_p", 1.0.into()))
            .with("truncation", &"disabled");
        if let Some(counts) = self.ask.counts() {
            members.put("usage", &ended.then(|| usage(&counts)));
        }
        members
            .with("user", &())
            .with(
                "metadata",
                &or("metadata", Value::Object(serde_json::Map::new())),
            )
            .close()
    }

    fn output(&self) -> Vec<Json> {
        let said = self.ask.said;
        let mut output = Vec::new();
        if self.has_message() {
            output.push(self.message_item("completed", &[part(&said.text())]));
        }
        let calls = self.calls.iter().zip(&said.calls);
        output.extend(
            calls.map(|(ids, (name, arguments))| call_item(ids, "completed", name, arguments)),
        );
        output
    }

    fn has_message(&self) -> bool {
        !self.ask.said.pieces.is_empty() || self.ask.said.calls.is_empty()
    }

    fn message_item(&self, status: &str, content: &[Json]) -> Json {
        object! {
            "id": self.message,
            "type": "message",
            "status": status,
            "content": content,
            "role": "assistant",
        }
    }

    /// The stream: created, running, each item with its parts, the end.
    fn events(&self) -> Vec<Bytes> {
        let mut events = Events::default();
        for name in ["response.created", "response.in_progress"] {
            events.add(name, &[("response", self.response("in_progress"))]);
        }
        if self.has_message() {
            self.add_message(&mut events);
        }
        let first = usize::from(self.has_message());
        let calls = self.calls.iter().zip(&self.ask.said.calls).enumerate();
        for (at, (ids, (name, arguments))) in calls {
            add_call(&mut events, first + at, ids, (name, arguments));
        }
        let status = self.status();
        events.add(
            &format!("response.{status}"),
            &[("response", self.response(status))],
        );
        events.events
    }

    fn add_message(&self, events: &mut Events) {
        let text = self.ask.said.text();
        let place = || {
            [
                ("item_id", value(&self.message)),
                ("output_index", value(&0)),
            ]
        };
        let in_part = |more: (&'static str, Json)| {
            let [item, output] = place();
            [item, output, ("content_index", value(&0)), more]
        };
        let item = self.message_item("in_progress", &[]);
        events.add(
            "response.output_item.added",
            &[("output_index", value(&0)), ("item", item)],
        );
        events.add("response.content_part.added", &in_part(("part", part(""))));
        for piece in &self.ask.said.pieces {
            let [item, output, content, delta] = in_part(("delta", value(piece)));
            let logprobs = ("logprobs", value(&[(); 0]));
            events.add(
                "response.output_text.delta",
                &[item, output, content, delta, logprobs],
            );
        }
        let [item, output, content, whole] = in_part(("text", value(&text)));
        let logprobs = ("logprobs", value(&[(); 0]));
        events.add(
            "response.output_text.done",
            &[item, output, content, whole, logprobs],
        );
        events.add(
            "response.content_part.done",
            &in_part(("part", part(&text))),
        );
        let item = self.message_item("completed", &[part(&text)]);
        events.add(
            "response.output_item.done",
            &[("output_index", value(&0)), ("item", item)],
        );
    }
}

fn part(text: &str) -> Json {
    object! {"type": "output_text", "annotations": [(); 0], "logprobs": [(); 0], "text": text}
}

fn call_item(ids: &(String, String), status: &str, name: &str, arguments: &str) -> Json {
    object! {
        "id": ids.0,
        "type": "function_call",
        "status": status,
        "arguments": arguments,
        "call_id": ids.1,
        "name": name,
    }
}

fn add_call(events: &mut Events, at: usize, ids: &(String, String), call: (&str, &str)) {
    let (name, arguments) = call;
    let output = || ("output_index", value(&at));
    let item = call_item(ids, "in_progress", name, "");
    events.add("response.output_item.added", &[output(), ("item", item)]);
    for part in halves(arguments) {
        let place = [("item_id", value(&ids.0)), output(), ("delta", value(part))];
        events.add("response.function_call_arguments.delta", &place);
    }
    let place = [
        ("item_id", value(&ids.0)),
        output(),
        ("arguments", value(arguments)),
    ];
    events.add("response.function_call_arguments.done", &place);
    let item = call_item(ids, "completed", name, arguments);
    events.add("response.output_item.done", &[output(), ("item", item)]);
}

/// Events, each with the number of its place.
#[derive(Default)]
struct Events {
    events: Vec<Bytes>,
}

impl Events {
    fn add(&mut self, name: &str, members: &[(&'static str, Json)]) {
        let mut event = Members::new()
            .with("type", &name)
            .with("sequence_number", &self.events.len());
        for (key, member) in members {
            event.put(key, member);
        }
        self.events.push(named_event(name, &event.close()));
    }
}

fn usage(counts: &Reported) -> Json {
    let mut input = Members::new().with("cached_tokens", &counts.cached);
    if counts.cache_write > 0 {
        input.put("cache_write_tokens", &counts.cache_write);
    }
    object! {
        "input_tokens": counts.input,
        "input_tokens_details": input.close(),
        "output_tokens": counts.output,
        "output_tokens_details": object! {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.input.saturating_add(counts.output),
    }
}
