//! What Writer does otherwise than OpenAI: its completions, which count nothing, and streams that
//! just stop.

use super::{
    answer::{Ask, failing},
    behaviour::Newline,
    json::{Json, object},
    problem::Dialect,
    reply::{Payload, event},
};

/// Whether Writer serves the model.
pub(super) fn serves(model: &str) -> bool {
    model.starts_with("palmyra-")
}

/// Writes a completion; a stream is bare texts.
pub(super) fn write(ask: &Ask<'_>) -> Payload {
    if !ask.asked.stream {
        let choice = object! {"text": ask.said.text(), "log_probs": ()};
        let answer = object! {"choices": [choice], "model": ask.asked.model};
        return Payload::json(&answer);
    }
    let pieces = ask.said.pieces.iter();
    let events: Vec<_> = pieces
        .map(|piece| event(object! {"value": piece}.get()))
        .collect();
    let events = failing(events, ask.behaviour, |problem| {
        event(problem.body(Dialect::OpenAi, "").get())
    });
    Payload::Events(events, Newline::Lf)
}

/// A choice in a stream of chat: what is new in it is said twice.
pub(super) fn choice(index: usize, delta: &Json, finish: Option<&str>) -> Json {
    object! {
        "index": index, "finish_reason": finish, "message": delta, "delta": delta,
        "logprobs": (), "trace_details": (),
    }
}
