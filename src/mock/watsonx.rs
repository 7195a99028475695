//! watsonx.ai's own text generation and embeddings. (Its chat is OpenAI's.)

use bytes::Bytes;
use serde_json::Value;

use super::{
    answer::{Ask, failing},
    behaviour::Newline,
    conversation::{Conversation, Turn, list_at, str_at, text_of},
    json::{Json, Members, object},
    problem::{Dialect, Problem},
    reply::Payload,
    script::Finish,
};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// `/text/generation`
    Generation,
    /// `/text/generation_stream`
    Stream,
    /// `/text/embeddings`
    Embeddings,
}

/// When every answer was made: the mock writes no dates.
const MADE: &str = "2026-01-01T00:00:00.000Z";

impl Verb {
    /// The verb of a path's end, also as the older version spells it.
    pub(super) fn of(path: &str) -> Option<Self> {
        const ENDS: [(&str, Verb); 5] = [
            ("/text/generation", Verb::Generation),
            ("/generation/text", Verb::Generation),
            ("/text/generation_stream", Verb::Stream),
            ("/generation/text_stream", Verb::Stream),
            ("/text/embeddings", Verb::Embeddings),
        ];
        let found = ENDS.iter().find(|(end, _)| path.ends_with(end));
        found.map(|(_, verb)| *verb)
    }
}

/// Reads a request.
pub(super) fn read(body: &Value, verb: Verb) -> Result<Conversation, Problem> {
    let turns = match verb {
        Verb::Embeddings => {
            let inputs = list_at(body, "inputs").iter();
            inputs.map(|input| Turn::User(text_of(input))).collect()
        },
        Verb::Generation | Verb::Stream => vec![Turn::User(str_at(body, "input").to_owned())],
    };
    if str_at(body, "model_id").is_empty() {
        return Err(Problem::invalid("The request has no model_id."));
    }
    let limit = body.pointer("/parameters/max_new_tokens");
    Ok(Conversation {
        model: str_at(body, "model_id").to_owned(),
        turns,
        max_tokens: limit.and_then(Value::as_u64),
        answers: 1,
        stream: verb == Verb::Stream,
        ..Conversation::default()
    })
}

/// Writes the answer.
pub(super) fn write(ask: &Ask<'_>, verb: Verb) -> Payload {
    match verb {
        Verb::Embeddings => Payload::json(&embeddings(ask)),
        Verb::Generation => {
            let (text, counts) = (ask.said.text(), ask.counts().unwrap_or_default());
            let whole = generated(ask, &text, counts.output, counts.input, reason(ask));
            Payload::json(&whole)
        },
        Verb::Stream => {
            let events = failing(events(ask), ask.behaviour, |problem| {
                event("error", 0, &problem.body(Dialect::Watsonx, ""))
            });
            Payload::Events(events, Newline::Lf)
        },
    }
}

/// The first event counts the input, each one the output up to it, the last says why it is the last.
fn events(ask: &Ask<'_>) -> Vec<Bytes> {
    let pieces = ask.said.pieces.iter().map(String::as_str);
    let (count, counts) = (ask.said.pieces.len(), ask.counts().unwrap_or_default());
    let mut events = Vec::with_capacity(count + 2);
    for (number, piece) in [""].into_iter().chain(pieces).chain([""]).enumerate() {
        let input = if number == 0 { counts.input } else { 0 };
        let data = if number > count {
            generated(ask, piece, counts.output, input, reason(ask))
        } else {
            let made = u64::try_from(number).unwrap_or(u64::MAX);
            generated(ask, piece, made.min(counts.output), input, "not_finished")
        };
        events.push(event("message", number + 1, &data));
    }
    events
}

fn event(name: &str, number: usize, data: &Json) -> Bytes {
    format!("id: {number}\nevent: {name}\ndata: {}\n\n", data.get()).into()
}

fn reason<'a>(ask: &'a Ask<'_>) -> &'a str {
    ask.finish(match ask.said.finish {
        Finish::Length => "max_tokens",
        Finish::Stop | Finish::Calls => "eos_token",
    })
}

/// A text, with the tokens of output and of input that are told with it.
fn generated(ask: &Ask<'_>, text: &str, made: u64, input: u64, reason: &str) -> Json {
    let mut result = Members::new().with("generated_text", &text);
    if ask.counts().is_some() {
        result.put("generated_token_count", &made);
        result.put("input_token_count", &input);
    }
    result.put("stop_reason", &reason);
    object! {
        "model_id": ask.asked.model,
        "created_at": MADE,
        "results": [result.close()],
    }
}

fn embeddings(ask: &Ask<'_>) -> Json {
    let embedded = |_| object! {"embedding": [0.25, 0.5]};
    let results: Vec<_> = ask.asked.turns.iter().map(embedded).collect();
    let mut members = Members::new()
        .with("model_id", &ask.asked.model)
        .with("created_at", &MADE)
        .with("results", &results);
    if let Some(counts) = ask.counts() {
        members.put("input_token_count", &counts.input);
    }
    members.close()
}
