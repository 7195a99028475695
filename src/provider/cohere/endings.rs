//! What we say in Cohere's words: refusals, and the last events of a stream that we end.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{answer::place, operations};
use crate::{
    call::{
        facts::Operation,
        refusal::{Reason, Refusal},
    },
    provider::dialect::{Cut, CutStyle, Event},
};

/// A refusal as an error body: Cohere's has an id and a message; the type is for programs.
pub(super) fn error(refusal: &Refusal, request_id: &str) -> Value {
    let kind = match refusal.reason {
        Reason::Exhausted => "quota_exhausted",
        Reason::Busy | Reason::Rate => "rate_limit",
        Reason::Denied => "blocked",
        Reason::Unauthorized => "unauthorized",
        Reason::BadRequest | Reason::Misdirected | Reason::HeadersTooLarge => "invalid_request",
        Reason::NotFound => "not_found",
        Reason::BadGateway => "bad_gateway",
        Reason::Overload => "overloaded",
        Reason::Ledger => "ledger_unavailable",
        Reason::Timeout | Reason::TooSlow => "timeout",
    };
    json!({"id": request_id, "message": refusal.message, "type": kind})
}

/// The last events of a stream that is ended early. What is open is closed.
pub(super) fn cut(op: &Operation, cut: &Cut<'_>) -> Bytes {
    let events = if *op == operations::CHAT {
        second(cut)
    } else {
        vec![first(op, cut)]
    };
    let texts: Vec<_> = events.iter().map(|(_, value)| value.to_string()).collect();
    let framed: Vec<_> = events
        .iter()
        .zip(&texts)
        .map(|((name, _), text)| Event {
            name: Some(*name),
            ..Event::data(text.as_bytes())
        })
        .collect();
    cut.end(&framed)
}

/// The reason that the stream ends with, and the error in words if it is one.
fn reason<'a>(cut: &'a Cut<'_>) -> (&'static str, Option<&'a str>) {
    match cut.style {
        CutStyle::Graceful => ("MAX_TOKENS", None),
        CutStyle::Error => ("ERROR", Some(&cut.refusal.message)),
    }
}

fn usage(cut: &Cut<'_>) -> Value {
    let tokens = json!({
        "input_tokens": cut.usage.input.unwrap_or(0),
        "output_tokens": cut.usage.output.unwrap_or(0),
    });
    json!({"billed_units": tokens, "tokens": tokens})
}

fn second(cut: &Cut<'_>) -> Vec<(&'static str, Value)> {
    let mut events = Vec::new();
    for open in &cut.state.open {
        let name = if *open.kind == *"tool-call" {
            "tool-call-end"
        } else {
            "content-end"
        };
        let index = open.index / place(1, false);
        events.push((name, json!({"type": name, "index": index})));
    }
    let (reason, error) = reason(cut);
    let mut delta = json!({"finish_reason": reason, "usage": usage(cut)});
    if let (Some(error), Some(delta)) = (error, delta.as_object_mut()) {
        delta.insert("error".to_owned(), json!(error));
    }
    let end = json!({"type": "message-end", "id": cut.facts.id, "delta": delta});
    events.push(("message-end", end));
    events
}

/// Version 1 ends with the whole answer, of which only what is known by now can be given: clients
/// have its text from the events before.
fn first(op: &Operation, cut: &Cut<'_>) -> (&'static str, Value) {
    let (reason, error) = reason(cut);
    let id = cut.facts.id.as_deref().unwrap_or(cut.request_id);
    let response = if *op == operations::GENERATE {
        json!({"id": id, "prompt": "", "generations": [], "meta": usage(cut)})
    } else {
        json!({
            "response_id": id,
            "generation_id": id,
            "text": "",
            "finish_reason": reason,
            "meta": usage(cut),
        })
    };
    let mut end = json!({
        "is_finished": true,
        "event_type": "stream-end",
        "finish_reason": reason,
        "response": response,
    });
    if let (Some(error), Some(end)) = (error, end.as_object_mut()) {
        end.insert("message".to_owned(), json!(error));
    }
    ("stream-end", end)
}
