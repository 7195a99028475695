//! Ollama's own API: chat, generation and embeddings; a stream is a JSON object a line.

use bytes::Bytes;
use serde_json::{Value, value::RawValue};

use super::{
    answer::{Ask, failing},
    chat,
    conversation::{Conversation, Turn, list_at, str_at, text_of},
    json::{Json, Members, object},
    problem::{Dialect, Problem},
    reply::Payload,
    script::Finish,
};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// `/api/chat`
    Chat,
    /// `/api/generate`
    Generate,
    /// `/api/embed`
    Embed,
}

impl Verb {
    /// The verb of a path's end.
    pub(super) fn of(path: &str) -> Option<Self> {
        const ENDS: [(&str, Verb); 3] = [
            ("/api/chat", Verb::Chat),
            ("/api/generate", Verb::Generate),
            ("/api/embed", Verb::Embed),
        ];
        let found = ENDS.iter().find(|(end, _)| path.ends_with(end));
        found.map(|(_, verb)| *verb)
    }
}

/// Reads a request. A text is streamed unless it shall not be.
pub(super) fn read(body: &Value, verb: Verb) -> Result<Conversation, Problem> {
    let mut asked = match verb {
        Verb::Chat => chat::read(body)?,
        Verb::Generate => Conversation {
            turns: vec![Turn::User(str_at(body, "prompt").to_owned())],
            ..Conversation::default()
        },
        Verb::Embed => {
            let inputs = match body.get("input") {
                Some(Value::Array(inputs)) => inputs.clone(),
                other => other.cloned().into_iter().collect(),
            };
            let turns = inputs.iter().map(|input| Turn::User(text_of(input)));
            Conversation {
                turns: turns.collect(),
                ..Conversation::default()
            }
        },
    };
    str_at(body, "model").clone_into(&mut asked.model);
    asked.answers = 1;
    asked.max_tokens = body.pointer("/options/num_predict").and_then(Value::as_u64);
    asked.stream = verb != Verb::Embed && body.get("stream") != Some(&Value::Bool(false));
    Ok(asked)
}

/// Writes the answer to `body`.
pub(super) fn write(ask: &Ask<'_>, verb: Verb, body: &Value) -> Payload {
    if verb == Verb::Embed {
        return Payload::json(&embeddings(ask, body));
    }
    let answer = Answer { verb, ask };
    if ask.asked.stream {
        let lines = failing(answer.lines(), ask.behaviour, |problem| {
            line(&problem.body(Dialect::Ollama, ""))
        });
        Payload::Stream(lines, "application/x-ndjson")
    } else {
        let said = ask.said;
        let calls = answer.calls();
        Payload::json(&answer.end(&said.text(), &calls))
    }
}

fn line(json: &Json) -> Bytes {
    format!("{}\n", json.get()).into()
}

fn embeddings(ask: &Ask<'_>, body: &Value) -> Json {
    let count = list_at(body, "input").len().max(1);
    let vectors = vec![[0.25, 0.5]; count];
    let mut members = Members::new()
        .with("model", &ask.asked.model)
        .with("embeddings", &vectors);
    if let Some(counts) = ask.counts() {
        members.put("prompt_eval_count", &counts.input);
    }
    members.close()
}

struct Answer<'a, 'b> {
    verb: Verb,
    ask: &'a Ask<'b>,
}

impl Answer<'_, '_> {
    fn begun(&self, text: &str, calls: &[Json]) -> Members {
        let members = Members::new()
            .with("model", &self.ask.asked.model)
            .with("created_at", &"2026-01-01T00:00:00.000000Z");
        if self.verb == Verb::Generate {
            return members.with("response", &text);
        }
        let mut message = Members::new()
            .with("role", &"assistant")
            .with("content", &text);
        if !calls.is_empty() {
            message.put("tool_calls", &calls);
        }
        members.with("message", &message.close())
    }

    fn calls(&self) -> Vec<Json> {
        let calls = self.ask.said.calls.iter();
        calls
            .map(|(name, arguments)| {
                let arguments = RawValue::from_string(arguments.clone()).unwrap_or_default();
                object! {"function": object! {"name": name, "arguments": arguments}}
            })
            .collect()
    }

    fn lines(&self) -> Vec<Bytes> {
        let part = |text: &str, calls: &[Json]| {
            line(&self.begun(text, calls).with("done", &false).close())
        };
        let mut lines: Vec<_> = self
            .ask
            .said
            .pieces
            .iter()
            .map(|piece| part(piece, &[]))
            .collect();
        let calls = self.calls();
        if !calls.is_empty() {
            lines.push(part("", &calls));
        }
        lines.push(line(&self.end("", &[])));
        lines
    }

    fn end(&self, text: &str, calls: &[Json]) -> Json {
        let reason = self.ask.finish(match self.ask.said.finish {
            Finish::Stop | Finish::Calls => "stop",
            Finish::Length => "length",
        });
        let mut end = self
            .begun(text, calls)
            .with("done", &true)
            .with("done_reason", &reason)
            .with("total_duration", &7_000_000);
        if let Some(counts) = self.ask.counts() {
            end.put("prompt_eval_count", &counts.input);
            end.put("eval_count", &counts.output);
        }
        end.close()
    }
}
