//! What we say in `OpenAI`'s words: refusals, and the last events of a stream that we end.

use bytes::Bytes;
use serde_json::{Value, json};

use super::operations;
use crate::{
    call::{
        facts::Operation,
        refusal::{Reason, Refusal},
        usage::Usage,
    },
    provider::{
        dialect::{Cut, CutStyle},
        wire::framing::Framing,
    },
};

/// A refusal as an error body.
pub(super) fn error(refusal: &Refusal) -> Value {
    json!({"error": fields(refusal)})
}

/// What an error body has in `error`, and the error event of a socket as well.
pub(super) fn fields(refusal: &Refusal) -> Value {
    let (kind, code) = match refusal.reason {
        // The code by which clients tell a quota that is spent from a rate that clears.
        Reason::Exhausted => ("insufficient_quota", Some("insufficient_quota")),
        Reason::Busy | Reason::Rate => ("requests", Some("rate_limit_exceeded")),
        Reason::Denied => ("invalid_request_error", Some("blocked")),
        Reason::Unauthorized => ("invalid_request_error", Some("invalid_api_key")),
        Reason::BadRequest | Reason::Misdirected | Reason::HeadersTooLarge => {
            ("invalid_request_error", None)
        },
        Reason::NotFound => ("invalid_request_error", Some("unknown_url")),
        Reason::BadGateway => ("server_error", Some("bad_gateway")),
        Reason::Timeout => ("server_error", Some("timeout")),
        Reason::TooSlow => ("invalid_request_error", Some("request_timeout")),
        Reason::Overload => ("server_error", Some("overloaded")),
        Reason::Ledger => ("server_error", Some("ledger_unavailable")),
    };
    json!({"message": refusal.message, "type": kind, "param": null, "code": code})
}

/// The last events of a stream that is ended early.
pub(super) fn cut(op: &Operation, cut: &Cut<'_>) -> Bytes {
    if cut.framing != Framing::Sse {
        return Bytes::new();
    }
    let text = match (cut.style, op.name) {
        (CutStyle::Graceful, "responses" | "responses.retrieve") => {
            super::responses_end::graceful(cut)
        },
        (CutStyle::Error, "responses" | "responses.retrieve") => super::responses_end::error(cut),
        (CutStyle::Graceful, "chat" | "completions" | "fim") => graceful_chat(op, cut),
        (CutStyle::Error, "chat" | "completions" | "fim") => {
            format!("data: {}\n\ndata: [DONE]\n\n", error(cut.refusal))
        },
        // Images, audio and runs have no end that says that the tokens ran out.
        _ => typed_error(cut.refusal),
    };
    Bytes::from(text)
}

/// Whether they say again what was sent of the output.
pub(super) fn repeats_output(op: &Operation, style: CutStyle) -> bool {
    style == CutStyle::Graceful && matches!(op.name, "responses" | "responses.retrieve")
}

/// An error as an event with a name and a type of its own.
fn typed_error(refusal: &Refusal) -> String {
    let mut event = error(refusal);
    if let Some(fields) = event.as_object_mut() {
        fields.insert("type".to_owned(), Value::from("error"));
    }
    format!("event: error\ndata: {event}\n\n")
}

fn graceful_chat(op: &Operation, cut: &Cut<'_>) -> String {
    let legacy = *op == operations::COMPLETIONS;
    let chunk = |choices: Value, usage: Option<Value>| {
        let mut chunk = json!({
            "id": cut.facts.id.as_deref().unwrap_or(cut.request_id),
            "object": if legacy { "text_completion" } else { "chat.completion.chunk" },
            "created": cut.state.created.unwrap_or(0),
            "model": cut.facts.model.as_deref().unwrap_or_default(),
            "choices": choices,
        });
        if let Some(fields) = chunk.as_object_mut().filter(|_| cut.asks_usage) {
            fields.insert("usage".to_owned(), usage.unwrap_or_default());
        }
        format!("data: {chunk}\n\n")
    };
    let mut text = String::new();
    let mut ended: Vec<_> = cut.state.open.iter().map(|open| open.index).collect();
    if ended.is_empty() && cut.facts.finish_reasons.is_empty() {
        // Azure's first chunk is before any choice; without one, SDKs have no answer.
        ended.push(0);
    }
    for index in ended {
        let choice = if legacy {
            json!({"index": index, "text": "", "logprobs": null, "finish_reason": "length"})
        } else {
            json!({"index": index, "delta": {}, "logprobs": null, "finish_reason": "length"})
        };
        text.push_str(&chunk(json!([choice]), None));
    }
    if cut.asks_usage {
        text.push_str(&chunk(json!([]), Some(chat_usage(&cut.usage))));
    }
    text.push_str("data: [DONE]\n\n");
    text
}

fn chat_usage(usage: &Usage) -> Value {
    let (input, output) = (usage.input.unwrap_or(0), usage.output.unwrap_or(0));
    json!({
        "prompt_tokens": input,
        "completion_tokens": output,
        "total_tokens": input.saturating_add(output),
        "prompt_tokens_details": {"cached_tokens": usage.cache_read.unwrap_or(0)},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning.unwrap_or(0)},
    })
}
