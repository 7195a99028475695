//! Aleph Alpha's own completion. (Its chat is OpenAI's.)

use serde_json::Value;

use super::{
    answer::{Ask, failing},
    behaviour::Newline,
    conversation::{Conversation, Turn, str_at},
    json::{Json, Members, object},
    problem::{Dialect, Problem},
    reply::{Payload, event},
    script::Finish,
};

/// The version that every model has.
const VERSION: &str = "2022-04";

/// Reads a request.
pub(super) fn read(body: &Value) -> Result<Conversation, Problem> {
    let Some(prompt) = body.get("prompt") else {
        return Err(Problem::invalid("prompt: missing field"));
    };
    let texts = match prompt {
        Value::String(text) => vec![text.as_str()],
        parts => {
            let parts = parts.as_array().into_iter().flatten();
            let texts = parts.filter(|part| str_at(part, "type") == "text");
            texts.map(|part| str_at(part, "data")).collect()
        },
    };
    let count = body.get("n").and_then(Value::as_u64);
    let count = count.and_then(|count| usize::try_from(count).ok());
    Ok(Conversation {
        model: str_at(body, "model").to_owned(),
        turns: vec![Turn::User(texts.concat())],
        max_tokens: body.get("maximum_tokens").and_then(Value::as_u64),
        answers: count.map_or(1, |count| count.clamp(1, 128)),
        stream: body.get("stream").and_then(Value::as_bool) == Some(true),
        ..Conversation::default()
    })
}

/// Writes the answer.
pub(super) fn write(ask: &Ask<'_>) -> Payload {
    let reason = ask.finish(match ask.said.finish {
        Finish::Length => "maximum_tokens",
        Finish::Stop | Finish::Calls => "end_of_text",
    });
    if !ask.asked.stream {
        let text = ask.said.text();
        let completion = |_| object! {"completion": text, "finish_reason": reason};
        let completions: Vec<_> = (0..ask.asked.answers).map(completion).collect();
        let answer = Members::new()
            .with("completions", &completions)
            .with("model_version", &VERSION);
        return Payload::json(&counted(ask, answer));
    }
    let mut events = Vec::with_capacity(ask.said.pieces.len() + 3);
    for index in 0..ask.asked.answers {
        for piece in &ask.said.pieces {
            events.push(event(
                object! {"type": "stream_chunk", "index": index, "completion": piece}.get(),
            ));
        }
        let summary = object! {
            "type": "stream_summary", "index": index, "model_version": VERSION,
            "finish_reason": reason,
        };
        events.push(event(summary.get()));
    }
    let last = counted(ask, Members::new().with("type", &"completion_summary"));
    events.push(event(last.get()));
    events.push(event("[DONE]"));
    let events = failing(events, ask.behaviour, |problem| {
        event(problem.body(Dialect::AlephAlpha, "").get())
    });
    Payload::Events(events, Newline::Lf)
}

/// The same, with what it counts.
fn counted(ask: &Ask<'_>, mut answer: Members) -> Json {
    if let Some(counts) = ask.counts() {
        answer.put("num_tokens_prompt_total", &counts.input);
        answer.put("num_tokens_generated", &counts.output);
    }
    answer.close()
}
