//! What we say in Google's words: refusals, and the last chunk of a stream that we end.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    call::refusal::{Reason, Refusal},
    provider::dialect::{Cut, CutStyle, Event},
};

/// A refusal as an error body. It names no time to retry after: clients read that in the headers.
pub(super) fn error(status: u16, refusal: &Refusal) -> Value {
    let word = match refusal.reason {
        Reason::Exhausted | Reason::Busy | Reason::Rate => "RESOURCE_EXHAUSTED",
        Reason::Denied => "PERMISSION_DENIED",
        Reason::Unauthorized => "UNAUTHENTICATED",
        Reason::BadRequest | Reason::Misdirected | Reason::HeadersTooLarge => "INVALID_ARGUMENT",
        Reason::NotFound => "NOT_FOUND",
        Reason::BadGateway | Reason::Overload | Reason::Ledger => "UNAVAILABLE",
        Reason::Timeout | Reason::TooSlow => "DEADLINE_EXCEEDED",
    };
    let mut error = json!({"code": status, "message": refusal.message, "status": word});
    if refusal.reason == Reason::Exhausted
        && let Some(fields) = error.as_object_mut()
    {
        let violation = json!({"subject": refusal.by, "description": refusal.message});
        let failure = json!([{
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [violation],
        }]);
        fields.insert("details".to_owned(), failure);
    }
    json!({"error": error})
}

/// The last chunk of a stream that is ended early.
pub(super) fn cut(cut: &Cut<'_>) -> Bytes {
    let chunk = match cut.style {
        CutStyle::Graceful => last_chunk(cut),
        CutStyle::Error => error(cut.refusal.reason.status(), cut.refusal),
    };
    cut.end(&[Event::data(chunk.to_string().as_bytes())])
}

fn last_chunk(cut: &Cut<'_>) -> Value {
    let candidates: Vec<_> = cut
        .state
        .open
        .iter()
        .map(|open| {
            json!({
                "content": {"parts": [{"text": ""}], "role": "model"},
                "finishReason": "MAX_TOKENS",
                "index": open.index,
            })
        })
        .collect();
    let input = cut.usage.input.unwrap_or(0);
    let output = cut.usage.output.unwrap_or(0);
    let thoughts = cut.usage.reasoning.unwrap_or(0).min(output);
    json!({
        "candidates": candidates,
        "usageMetadata": {
            "promptTokenCount": input,
            "candidatesTokenCount": output - thoughts,
            "thoughtsTokenCount": thoughts,
            "totalTokenCount": input.saturating_add(output),
        },
        "modelVersion": cut.facts.model.as_deref().unwrap_or_default(),
        "responseId": cut.facts.id.as_deref().unwrap_or(cut.request_id),
    })
}
