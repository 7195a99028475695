//! OpenAI's chat completions: what is asked, and the answer as JSON and as a stream.

use bytes::Bytes;
use serde_json::Value;

use super::{
    answer::{Ask, Reported, by_mistral, dated, failing},
    behaviour::Newline,
    conversation::{Choice, Conversation, Tool, Turn, list_at, str_at, text_of},
    json::{Json, Members, object},
    problem::{Dialect, Problem},
    reply::{Payload, event},
    script::Finish,
    writer,
};

/// Reads a request.
pub(super) fn read(body: &Value) -> Result<Conversation, Problem> {
    let Some(model) = body.get("model").and_then(Value::as_str) else {
        return Err(Problem::invalid("you must provide a model parameter"));
    };
    let Some(messages) = body.get("messages").and_then(Value::as_array) else {
        let problem = Problem::invalid("Missing required parameter: 'messages'.");
        return Err(problem.param("messages").code("missing_required_parameter"));
    };
    let mut asked = Conversation {
        model: model.to_owned(),
        tools: list_at(body, "tools").iter().filter_map(tool).collect(),
        choice: choice(body.get("tool_choice")),
        schema: body.pointer("/response_format/json_schema/schema").cloned(),
        max_tokens: ["max_completion_tokens", "max_tokens"]
            .iter()
            .find_map(|key| body.get(*key)?.as_u64()),
        answers: body
            .get("n")
            .and_then(Value::as_u64)
            .and_then(|n| usize::try_from(n).ok())
            .map_or(1, |n| n.clamp(1, 128)),
        stream: body.get("stream").and_then(Value::as_bool) == Some(true),
        ..Conversation::default()
    };
    for message in messages {
        add(&mut asked, message);
    }
    Ok(asked)
}

fn tool(tool: &Value) -> Option<Tool> {
    let function = tool.get("function")?;
    Some(Tool {
        name: str_at(function, "name").to_owned(),
        schema: function.get("parameters").cloned().unwrap_or_default(),
    })
}

/// `tool_choice`, whose named form is nested here and flat in Responses.
pub(super) fn choice(choice: Option<&Value>) -> Choice {
    match choice {
        Some(Value::String(word)) if word == "none" => Choice::None,
        Some(Value::String(word)) if word == "required" => Choice::Required,
        Some(named @ Value::Object(_)) => named
            .pointer("/function/name")
            .or_else(|| named.get("name"))
            .and_then(Value::as_str)
            .map_or(Choice::Auto, |name| Choice::Named(name.to_owned())),
        _ => Choice::Auto,
    }
}

fn add(asked: &mut Conversation, message: &Value) {
    let content = text_of(message.get("content").unwrap_or(&Value::Null));
    match str_at(message, "role") {
        "system" | "developer" => asked.add_system(&content),
        "assistant" => {
            if !content.is_empty() {
                asked.turns.push(Turn::Assistant(content));
            }
            for call in list_at(message, "tool_calls") {
                let function = call.get("function").unwrap_or(&Value::Null);
                asked.turns.push(Turn::Call {
                    id: str_at(call, "id").to_owned(),
                    name: str_at(function, "name").to_owned(),
                    arguments: str_at(function, "arguments").to_owned(),
                });
            }
        },
        "tool" => asked.add_result(str_at(message, "tool_call_id"), content),
        _ => asked.turns.push(Turn::User(content)),
    }
}

/// Writes the answer. `usage_asked`: the request has `stream_options.include_usage`.
pub(super) fn write(ask: &mut Ask<'_>, usage_asked: bool) -> Payload {
    let chat = Chat {
        id: ask.ids.make("chatcmpl-", 29),
        calls: ask
            .said
            .calls
            .iter()
            .map(|_| ask.ids.make("call_", 24))
            .collect(),
        ask,
    };
    if chat.ask.asked.stream {
        let events = failing(chat.events(usage_asked), chat.ask.behaviour, |problem| {
            event(problem.body(Dialect::OpenAi, "").get())
        });
        Payload::Events(events, Newline::Lf)
    } else {
        Payload::json(&chat.whole())
    }
}

/// One answer on its way to the wire.
struct Chat<'a, 'b> {
    id: String,
    /// The ids of the tool calls.
    calls: Vec<String>,
    ask: &'a Ask<'b>,
}

/// What a chunk says of its usage.
enum Told {
    /// The request did not ask.
    Nothing,
    /// It did, and this chunk has none.
    Null,
    Usage(Reported),
}

impl Chat<'_, '_> {
    fn finish(&self) -> &str {
        self.ask.finish(match self.ask.said.finish {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::Calls => "tool_calls",
        })
    }

    fn whole(&self) -> Json {
        let choice = |index| {
            object! {
                "index": index,
                "message": self.message(),
                "logprobs": (),
                "finish_reason": self.finish(),
            }
        };
        let choices: Vec<_> = (0..self.ask.asked.answers).map(choice).collect();
        let mut members = self.members("chat.completion");
        members.put("choices", &choices);
        if let Some(counts) = self.ask.counts() {
            members.put("usage", &usage(&counts));
        }
        members.put("service_tier", &"default");
        members.put("system_fingerprint", &"fp_44709d6fcb");
        members.close()
    }

    fn message(&self) -> Json {
        let said = self.ask.said;
        let mut members = Members::new();
        members.put("role", &"assistant");
        let content = (!said.pieces.is_empty() || said.calls.is_empty()).then(|| said.text());
        members.put("content", &content);
        if !said.calls.is_empty() {
            let calls = self.calls.iter().zip(&said.calls);
            let calls: Vec<_> = calls
                .map(|(id, (name, arguments))| {
                    object! {
                        "id": id,
                        "type": "function",
                        "function": object! {"name": name, "arguments": arguments},
                    }
                })
                .collect();
            members.put("tool_calls", &calls);
        }
        members.put("refusal", &());
        members.put("annotations", &[(); 0]);
        members.close()
    }

    /// The stream: for each choice its role, the text, the calls and the reason for the end; then
    /// the usage if it was asked for.
    fn events(&self, usage_asked: bool) -> Vec<Bytes> {
        let said = self.ask.said;
        let counts = self.ask.counts().filter(|_| usage_asked);
        let told = || {
            if counts.is_some() {
                Told::Null
            } else {
                Told::Nothing
            }
        };
        let by_writer = writer::serves(&self.ask.asked.model);
        let mut events = Vec::with_capacity(said.pieces.len() + 4);
        for index in 0..self.ask.asked.answers {
            let mut add = |delta: &Json, finish: Option<&str>| {
                let choice = if by_writer {
                    writer::choice(index, delta, finish)
                } else {
                    object! {
                        "index": index, "delta": delta, "logprobs": (), "finish_reason": finish,
                    }
                };
                events.push(self.chunk(&[choice], &told()));
            };
            let content = said.calls.is_empty().then_some("");
            let first = object! {"role": "assistant", "content": content, "refusal": ()};
            add(&first, None);
            for piece in &said.pieces {
                add(&object! {"content": piece}, None);
            }
            for delta in self.call_deltas() {
                add(&object! {"tool_calls": [delta]}, None);
            }
            add(&object! {}, Some(self.finish()));
        }
        if let Some(counts) = counts {
            events.push(self.chunk(&[], &Told::Usage(counts)));
        }
        // Writer's streams just stop.
        if !by_writer {
            events.push(event("[DONE]"));
        }
        events
    }

    /// Each call's id and name once, then its arguments in two parts; at Mistral, all at once.
    fn call_deltas(&self) -> Vec<Json> {
        let calls = self.calls.iter().zip(&self.ask.said.calls).enumerate();
        let whole = by_mistral(&self.ask.asked.model);
        let mut deltas = Vec::new();
        for (index, (id, (name, arguments))) in calls {
            let first = if whole { arguments.as_str() } else { "" };
            deltas.push(object! {
                "index": index,
                "id": id,
                "type": "function",
                "function": object! {"name": name, "arguments": first},
            });
            if whole {
                continue;
            }
            for part in halves(arguments) {
                deltas.push(object! {"index": index, "function": object! {"arguments": part}});
            }
        }
        deltas
    }

    fn chunk(&self, choices: &[Json], told: &Told) -> Bytes {
        let mut members = self.members("chat.completion.chunk");
        members.put("service_tier", &"default");
        members.put("system_fingerprint", &"fp_44709d6fcb");
        members.put("choices", &choices);
        match told {
            Told::Nothing => {},
            Told::Null => members.put("usage", &()),
            Told::Usage(counts) => members.put("usage", &usage(counts)),
        }
        event(members.close().get())
    }

    fn members(&self, kind: &str) -> Members {
        let mut members = Members::new();
        members.put("id", &self.id);
        members.put("object", &kind);
        members.put("created", &self.ask.now);
        members.put("model", &dated(&self.ask.asked.model));
        members
    }
}

/// Text in two parts; the first is empty if the middle is inside a character.
pub(super) fn halves(whole: &str) -> [&str; 2] {
    let (first, second) = whole
        .split_at_checked(whole.len() / 2)
        .unwrap_or(("", whole));
    [first, second]
}

fn usage(counts: &Reported) -> Json {
    let mut input = Members::new();
    input.put("cached_tokens", &counts.cached);
    if counts.cache_write > 0 {
        input.put("cache_write_tokens", &counts.cache_write);
    }
    input.put("audio_tokens", &0);
    object! {
        "prompt_tokens": counts.input,
        "completion_tokens": counts.output,
        "total_tokens": counts.input.saturating_add(counts.output),
        "prompt_tokens_details": input.close(),
        "completion_tokens_details": object! {
            "reasoning_tokens": counts.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
}
