//! Cohere: chat of both versions, embeddings and ranking.

use bytes::Bytes;
use serde_json::{Value, json, value::RawValue};

use super::{
    answer::{Ask, Reported, failing},
    behaviour::Newline,
    chat::{self, halves},
    conversation::{Conversation, Tool, Turn, list_at, str_at, text_of},
    json::{Json, Members, object},
    problem::{Dialect, Problem},
    reply::{Payload, named_event},
    script::Finish,
};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// `/v2/chat`
    Chat,
    /// `/v1/chat`
    ChatV1,
    /// `/v1/generate`
    Generate,
    /// `/v1/embed`, `/v2/embed`
    Embed,
    /// `/v1/rerank`, `/v2/rerank`
    Rerank,
}

/// Tokens that the model sees beside those that are billed.
const UNBILLED: u64 = 66;
/// Documents of one search that is billed.
const A_SEARCH: usize = 100;

impl Verb {
    /// The verb of a path's end.
    pub(super) fn of(path: &str) -> Option<Self> {
        const ENDS: [(&str, Verb); 7] = [
            ("/v2/chat", Verb::Chat),
            ("/v1/chat", Verb::ChatV1),
            ("/v1/generate", Verb::Generate),
            ("/v1/embed", Verb::Embed),
            ("/v2/embed", Verb::Embed),
            ("/v1/rerank", Verb::Rerank),
            ("/v2/rerank", Verb::Rerank),
        ];
        let found = ENDS.iter().find(|(end, _)| path.ends_with(end));
        found.map(|(_, verb)| *verb)
    }
}

/// Reads a request.
pub(super) fn read(body: &Value, verb: Verb) -> Result<Conversation, Problem> {
    match verb {
        Verb::Chat => chat::read(body),
        Verb::ChatV1 => Ok(first(body)),
        Verb::Generate => Ok(text(body)),
        Verb::Embed | Verb::Rerank => Ok(Conversation {
            model: str_at(body, "model").to_owned(),
            turns: list_at(body, "texts")
                .iter()
                .chain(list_at(body, "documents"))
                .map(|text| Turn::User(text_of(text)))
                .collect(),
            answers: 1,
            ..Conversation::default()
        }),
    }
}

fn first(body: &Value) -> Conversation {
    let mut asked = Conversation {
        model: str_at(body, "model").to_owned(),
        tools: list_at(body, "tools").iter().map(tool).collect(),
        max_tokens: body.get("max_tokens").and_then(Value::as_u64),
        answers: 1,
        stream: body.get("stream").and_then(Value::as_bool) == Some(true),
        ..Conversation::default()
    };
    asked.add_system(str_at(body, "preamble"));
    for said in list_at(body, "chat_history") {
        let text = str_at(said, "message").to_owned();
        asked.turns.push(match str_at(said, "role") {
            "CHATBOT" => Turn::Assistant(text),
            _ => Turn::User(text),
        });
    }
    asked
        .turns
        .push(Turn::User(str_at(body, "message").to_owned()));
    for result in list_at(body, "tool_results") {
        let name = result.pointer("/call/name").and_then(Value::as_str);
        asked.turns.push(Turn::Result {
            id: String::new(),
            name: name.unwrap_or_default().to_owned(),
            text: result
                .get("outputs")
                .map(Value::to_string)
                .unwrap_or_default(),
        });
    }
    asked
}

fn text(body: &Value) -> Conversation {
    Conversation {
        model: str_at(body, "model").to_owned(),
        turns: vec![Turn::User(str_at(body, "prompt").to_owned())],
        max_tokens: body.get("max_tokens").and_then(Value::as_u64),
        answers: body
            .get("num_generations")
            .and_then(Value::as_u64)
            .and_then(|count| usize::try_from(count).ok())
            .map_or(1, |count| count.clamp(1, 5)),
        stream: body.get("stream").and_then(Value::as_bool) == Some(true),
        ..Conversation::default()
    }
}

/// A tool of the first version, whose parameters have Python's types.
fn tool(tool: &Value) -> Tool {
    let mut schema = json!({"type": "object", "properties": {}});
    let parameters = tool.get("parameter_definitions").and_then(Value::as_object);
    for (name, parameter) in parameters.into_iter().flatten() {
        let kind = match str_at(parameter, "type") {
            "int" => "integer",
            "float" => "number",
            "bool" => "boolean",
            _ => "string",
        };
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert(name.clone(), json!({"type": kind}));
        }
    }
    Tool {
        name: str_at(tool, "name").to_owned(),
        schema,
    }
}

/// Writes the answer to `body`.
pub(super) fn write(ask: &mut Ask<'_>, verb: Verb, body: &Value) -> Payload {
    let said = Said {
        id: ask.ids.hex("", 32),
        calls: ask
            .said
            .calls
            .iter()
            .map(|_| ask.ids.make("call_", 12))
            .collect(),
        ask,
    };
    match verb {
        Verb::Chat if said.ask.asked.stream => {
            let events = failing(said.events(), said.ask.behaviour, failure);
            Payload::Events(events, Newline::Lf)
        },
        Verb::Chat => Payload::json(&said.whole()),
        Verb::ChatV1 | Verb::Generate if said.ask.asked.stream => {
            let lines = match verb {
                Verb::Generate => said.text_lines(),
                _ => said.lines(),
            };
            let lines = failing(lines, said.ask.behaviour, |problem| {
                line(&object! {
                    "is_finished": true, "event_type": "stream-end", "finish_reason": "ERROR",
                    "message": problem.message,
                })
            });
            Payload::Stream(lines, "application/stream+json")
        },
        Verb::ChatV1 => Payload::json(&said.first()),
        Verb::Generate => Payload::json(&said.generated()),
        Verb::Embed => Payload::json(&said.embeddings(body)),
        Verb::Rerank => Payload::json(&said.ranking(body)),
    }
}

fn failure(problem: &Problem) -> Bytes {
    let message = problem.body(Dialect::Cohere, "");
    let delta = object! {"finish_reason": "ERROR", "error": message.get()};
    named_event(
        "message-end",
        &object! {"type": "message-end", "delta": delta},
    )
}

fn line(json: &Json) -> Bytes {
    format!("{}\n", json.get()).into()
}

/// One answer on its way to the wire.
struct Said<'a, 'b> {
    id: String,
    /// The ids of the tool calls.
    calls: Vec<String>,
    ask: &'a Ask<'b>,
}

impl Said<'_, '_> {
    fn finish(&self) -> &str {
        self.ask.finish(match self.ask.said.finish {
            Finish::Stop => "COMPLETE",
            Finish::Length => "MAX_TOKENS",
            Finish::Calls => "TOOL_CALL",
        })
    }

    fn usage(&self, more: Members) -> Json {
        let Some(counts) = self.ask.counts() else {
            return more.close();
        };
        let mut usage = more
            .with("billed_units", &units(&counts, 0))
            .with("tokens", &units(&counts, UNBILLED));
        if counts.cached > 0 {
            usage.put("cached_tokens", &counts.cached);
        }
        usage.close()
    }

    fn whole(&self) -> Json {
        let said = self.ask.said;
        let mut message = Members::new().with("role", &"assistant");
        if !said.pieces.is_empty() || said.calls.is_empty() {
            message.put("content", &[object! {"type": "text", "text": said.text()}]);
        }
        if !said.calls.is_empty() {
            let calls = self.calls.iter().zip(&said.calls);
            let calls: Vec<_> = calls.map(|(id, call)| call_of(id, call)).collect();
            message.put("tool_calls", &calls);
        }
        object! {
            "id": self.id,
            "finish_reason": self.finish(),
            "message": message.close(),
            "usage": self.usage(Members::new()),
        }
    }

    fn events(&self) -> Vec<Bytes> {
        let said = self.ask.said;
        let mut events = Vec::new();
        let mut push = |kind: &str, index: Option<usize>, message: Option<Json>| {
            let mut event = Members::new().with("type", &kind);
            if let Some(index) = index {
                event.put("index", &index);
            }
            if kind == "message-start" {
                event.put("id", &self.id);
            }
            if let Some(message) = message {
                event.put("delta", &object! {"message": message});
            }
            events.push(named_event(kind, &event.close()));
        };
        push("message-start", None, Some(object! {"role": "assistant"}));
        if !said.pieces.is_empty() {
            let text = |text: &str| object! {"content": object! {"type": "text", "text": text}};
            push("content-start", Some(0), Some(text("")));
            for piece in &said.pieces {
                push("content-delta", Some(0), Some(text(piece)));
            }
            push("content-end", Some(0), None);
        }
        for (index, (id, call)) in self.calls.iter().zip(&said.calls).enumerate() {
            let (name, arguments) = call;
            let begun = call_of(id, &(name.clone(), String::new()));
            push(
                "tool-call-start",
                Some(index),
                Some(object! {"tool_calls": begun}),
            );
            for part in halves(arguments) {
                let function = object! {"function": object! {"arguments": part}};
                push(
                    "tool-call-delta",
                    Some(index),
                    Some(object! {"tool_calls": function}),
                );
            }
            push("tool-call-end", Some(index), None);
        }
        let delta = object! {
            "finish_reason": self.finish(), "usage": self.usage(Members::new()),
        };
        let end = object! {"type": "message-end", "id": self.id, "delta": delta};
        events.push(named_event("message-end", &end));
        events.push(Bytes::from_static(b"data: [DONE]\n\n"));
        events
    }

    fn first(&self) -> Json {
        let said = self.ask.said;
        let meta = Members::new().with("api_version", &object! {"version": "1"});
        let mut answer = Members::new()
            .with("response_id", &self.id)
            .with("generation_id", &self.id)
            .with("text", &said.text())
            .with("finish_reason", &self.finish());
        if !said.calls.is_empty() {
            answer.put("tool_calls", &self.first_calls());
        }
        answer.with("meta", &self.usage(meta)).close()
    }

    fn first_calls(&self) -> Vec<Json> {
        let calls = self.ask.said.calls.iter();
        calls
            .map(|(name, arguments)| {
                let arguments = RawValue::from_string(arguments.clone()).unwrap_or_default();
                object! {"name": name, "parameters": arguments}
            })
            .collect()
    }

    fn lines(&self) -> Vec<Bytes> {
        let said = self.ask.said;
        let mut lines = vec![line(&object! {
            "is_finished": false, "event_type": "stream-start", "generation_id": self.id,
        })];
        lines.extend(said.pieces.iter().map(|piece| {
            line(&object! {
                "is_finished": false, "event_type": "text-generation", "text": piece,
            })
        }));
        if !said.calls.is_empty() {
            lines.push(line(&object! {
                "is_finished": false, "event_type": "tool-calls-generation",
                "tool_calls": self.first_calls(),
            }));
        }
        lines.push(line(&object! {
            "is_finished": true, "event_type": "stream-end",
            "finish_reason": self.finish(), "response": self.first(),
        }));
        lines
    }

    fn generated(&self) -> Json {
        let text = self.ask.said.text();
        let generation = |index| {
            object! {
                "id": self.id, "index": index, "text": text, "finish_reason": self.finish(),
            }
        };
        let generations: Vec<_> = (0..self.ask.asked.answers).map(generation).collect();
        let meta = Members::new().with("api_version", &object! {"version": "1"});
        object! {
            "id": self.id,
            "generations": generations,
            "prompt": self.ask.asked.last_user(),
            "meta": self.usage(meta),
        }
    }

    fn text_lines(&self) -> Vec<Bytes> {
        let mut lines = Vec::new();
        for index in 0..self.ask.asked.answers {
            lines.extend(self.ask.said.pieces.iter().map(|piece| {
                line(&object! {
                    "is_finished": false, "event_type": "text-generation", "text": piece,
                    "index": index,
                })
            }));
        }
        lines.push(line(&object! {
            "is_finished": true, "event_type": "stream-end",
            "finish_reason": self.finish(), "response": self.generated(),
        }));
        lines
    }

    fn embeddings(&self, body: &Value) -> Json {
        let texts = list_at(body, "texts");
        let vectors: Vec<_> = texts.iter().map(|_| [0.25, 0.5]).collect();
        object! {
            "id": self.id,
            "embeddings": object! {"float": vectors},
            "texts": texts,
            "response_type": "embeddings_by_type",
            "meta": self.pieces("input_tokens", |counts| counts.input),
        }
    }

    fn ranking(&self, body: &Value) -> Json {
        let documents = list_at(body, "documents").len();
        let results: Vec<_> = (0..documents)
            .map(|index| object! {"index": index, "relevance_score": 0.5})
            .collect();
        let searches = u64::try_from(documents.div_ceil(A_SEARCH).max(1)).unwrap_or(u64::MAX);
        object! {
            "id": self.id,
            "results": results,
            "meta": self.pieces("search_units", |_| searches),
        }
    }

    /// What is billed of an answer that has no output tokens.
    fn pieces(&self, unit: &'static str, count: impl FnOnce(&Reported) -> u64) -> Json {
        let mut meta = Members::new().with("api_version", &object! {"version": "2"});
        if let Some(counts) = self.ask.counts() {
            let billed = Members::new().with(unit, &count(&counts)).close();
            meta.put("billed_units", &billed);
        }
        meta.close()
    }
}

fn units(counts: &Reported, more: u64) -> Json {
    object! {
        "input_tokens": counts.input.saturating_add(more),
        "output_tokens": counts.output,
    }
}

fn call_of(id: &str, (name, arguments): &(String, String)) -> Json {
    object! {
        "id": id,
        "type": "function",
        "function": object! {"name": name, "arguments": arguments},
    }
}
