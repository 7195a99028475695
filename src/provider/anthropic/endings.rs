//! What we say in Anthropic's words: refusals, and the last events of a stream that we end.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::operations;
use crate::{
    call::{
        facts::Operation,
        refusal::{Reason, Refusal},
    },
    provider::{
        dialect::{Cut, CutStyle},
        wire::framing::Framing,
    },
};

/// A refusal as an error body.
pub(super) fn error(refusal: &Refusal, request_id: &str) -> Value {
    let kind = match refusal.reason {
        Reason::Exhausted | Reason::Busy | Reason::Rate => "rate_limit_error",
        Reason::Denied => "permission_error",
        Reason::Unauthorized => "authentication_error",
        Reason::BadRequest | Reason::Misdirected => "invalid_request_error",
        Reason::NotFound => "not_found_error",
        Reason::HeadersTooLarge => "request_too_large",
        Reason::Overload | Reason::Ledger => "overloaded_error",
        Reason::BadGateway => "api_error",
        Reason::Timeout | Reason::TooSlow => "timeout_error",
    };
    let error = json!({"type": kind, "message": refusal.message});
    json!({"type": "error", "error": error, "request_id": request_id})
}

/// The last events of a stream that is ended early: what is open is closed, and the message stops
/// as if its tokens had run out. Before a message has begun, there is nothing but the error event.
pub(super) fn cut(op: &Operation, cut: &Cut<'_>) -> String {
    let mut text = String::new();
    if cut.framing != Framing::Sse {
        return text;
    }
    let mut push = |event: Value| {
        let kind = event
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        // Writing to a String cannot fail.
        let _ok = write!(text, "event: {kind}\ndata: {event}\n\n");
    };
    if cut.style == CutStyle::Error || cut.facts.id.is_none() {
        push(error(cut.refusal, cut.request_id));
        return text;
    }
    if *op == operations::COMPLETE {
        push(json!({
            "type": "completion",
            "id": cut.facts.id,
            "completion": "",
            "stop_reason": "max_tokens",
            "model": cut.facts.model,
        }));
        return text;
    }
    for open in &cut.state.open {
        push(json!({"type": "content_block_stop", "index": open.index}));
    }
    push(json!({
        "type": "message_delta",
        "delta": {"stop_reason": "max_tokens", "stop_sequence": null},
        "usage": {"output_tokens": cut.usage.output.unwrap_or(0)},
    }));
    push(json!({"type": "message_stop"}));
    text
}
