//! Errors, theirs and ours, and the last events of a stream that we end, in Bedrock's words.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use super::{invoke::Vendor, operations};
use crate::{
    call::{
        facts::{ErrorFacts, Operation, ResponseFacts},
        refusal::{Reason, Refusal},
    },
    provider::{
        dialect::{Cut, CutStyle, Event},
        wire::json::{Ahead, Json, Unreadable},
    },
};

/// The header in which the type of an error stands.
pub(super) const ERROR_TYPE: &str = "x-amzn-errortype";
/// The longest message that is kept, in bytes.
const MAX_MESSAGE: usize = 4096;
/// The member with which a stream of `InvokeModel` ends.
const METRICS: &str = "amazon-bedrock-invocationMetrics";

/// What AWS calls such an error.
pub(super) const fn type_of(reason: Reason) -> &'static str {
    match reason {
        Reason::Exhausted | Reason::Denied => "AccessDeniedException",
        Reason::Unauthorized => "UnrecognizedClientException",
        Reason::Busy | Reason::Rate => "ThrottlingException",
        Reason::BadRequest | Reason::Misdirected | Reason::HeadersTooLarge | Reason::TooSlow => {
            "ValidationException"
        },
        Reason::NotFound => "ResourceNotFoundException",
        Reason::BadGateway | Reason::Overload | Reason::Ledger => "ServiceUnavailableException",
        Reason::Timeout => "ModelTimeoutException",
    }
}

/// A refusal as an error body.
pub(super) fn error(refusal: &Refusal) -> Value {
    json!({"__type": type_of(refusal.reason), "message": refusal.message})
}

/// Notes the type of an error that its header names: `ValidationException:http://…`.
pub(super) fn read_error_type(headers: &HeaderMap, facts: &mut ResponseFacts) {
    let named = headers
        .get(ERROR_TYPE)
        .and_then(|value| value.to_str().ok());
    if let Some(named) = named {
        facts.error.get_or_insert_default().kind = short(named);
    }
}

/// Takes in a field of an error body. Only there `message` is a text.
pub(super) fn read_error_field(key: &[u8], value: Ahead<'_, '_>, facts: &mut ResponseFacts) {
    match key {
        b"message" | b"Message" if value.is_string() => {
            let message = value.take().text_up_to(MAX_MESSAGE);
            facts.error.get_or_insert_default().message = message;
        },
        b"__type" => {
            let kind = value.take().str().and_then(|kind| short(&kind));
            let error = facts.error.get_or_insert_default();
            error.kind = error.kind.take().or(kind);
        },
        _ => {},
    }
}

/// A type without its name space before `#` and its address behind `:`.
fn short(kind: &str) -> Option<Box<str>> {
    let kind = kind.split(':').next().unwrap_or_default();
    let kind = kind.rsplit('#').next().unwrap_or_default().trim();
    (!kind.is_empty()).then(|| Box::from(kind))
}

/// Reads an exception in a stream.
pub(super) fn read_exception(
    event: &Event<'_>,
    facts: &mut ResponseFacts,
) -> Result<(), Unreadable> {
    let mut error = ErrorFacts {
        kind: event.name.and_then(short),
        ..ErrorFacts::default()
    };
    let read = Json::document(&event.data).object(|key, value| {
        if key == b"message" || key == b"Message" {
            error.message = value.take().text_up_to(MAX_MESSAGE);
        }
    });
    facts.error = Some(error);
    read
}

/// The last events of a stream that is ended early: what is open is closed, and the answer stops as
/// if its tokens had run out. Where nothing has begun, or the vendor's form is not known, there is
/// nothing but an exception.
pub(super) fn cut(op: &Operation, cut: &Cut<'_>) -> Bytes {
    if cut.style == CutStyle::Error || !cut.begun {
        return exception(cut);
    }
    if *op == operations::CONVERSE_STREAM {
        return converse(cut);
    }
    match cut.state.vendor {
        Some(vendor) => chunks(cut, vendor),
        None => exception(cut),
    }
}

fn exception(cut: &Cut<'_>) -> Bytes {
    let name = match cut.refusal.reason {
        Reason::Exhausted | Reason::Busy | Reason::Rate => "throttlingException",
        Reason::Overload | Reason::Ledger => "serviceUnavailableException",
        _ => "internalServerException",
    };
    let data = json!({"message": cut.refusal.message}).to_string();
    cut.end(&[Event {
        name: Some(name),
        fault: true,
        ..Event::data(data.as_bytes())
    }])
}

fn converse(cut: &Cut<'_>) -> Bytes {
    let parts: Vec<_> = last_parts(cut)
        .into_iter()
        .map(|(name, part)| (name, part.to_string()))
        .collect();
    let events: Vec<_> = parts
        .iter()
        .map(|(name, data)| Event {
            name: Some(name),
            ..Event::data(data.as_bytes())
        })
        .collect();
    cut.end(&events)
}

/// The last events of Converse, by name.
fn last_parts(cut: &Cut<'_>) -> Vec<(&'static str, Value)> {
    let (input, output) = counts(cut);
    let mut parts: Vec<_> = cut
        .state
        .open
        .iter()
        .map(|open| ("contentBlockStop", json!({"contentBlockIndex": open.index})))
        .collect();
    parts.push(("messageStop", json!({"stopReason": "max_tokens"})));
    let usage = json!({
        "inputTokens": input,
        "outputTokens": output,
        "totalTokens": input.saturating_add(output),
    });
    let metadata = json!({"usage": usage, "metrics": {"latencyMs": 0}});
    parts.push(("metadata", metadata));
    parts
}

fn counts(cut: &Cut<'_>) -> (u64, u64) {
    let Cut { usage, .. } = cut;
    (usage.input.unwrap_or(0), usage.output.unwrap_or(0))
}

/// The last chunks of `InvokeModel`, the very last of them with its metrics.
fn chunks(cut: &Cut<'_>, vendor: Vendor) -> Bytes {
    let (input, output) = counts(cut);
    let mut events = vendor_end(cut, vendor);
    let metrics = json!({
        "inputTokenCount": input,
        "outputTokenCount": output,
        "invocationLatency": 0,
        "firstByteLatency": 0,
    });
    if let Some(Value::Object(last)) = events.last_mut() {
        last.insert(METRICS.to_owned(), metrics);
    }
    let chunks: Vec<_> = events
        .iter()
        .map(|event| json!({"bytes": STANDARD.encode(event.to_string())}).to_string())
        .collect();
    let chunks: Vec<_> = chunks
        .iter()
        .map(|data| Event {
            name: Some("chunk"),
            ..Event::data(data.as_bytes())
        })
        .collect();
    cut.end(&chunks)
}

fn vendor_end(cut: &Cut<'_>, vendor: Vendor) -> Vec<Value> {
    let (input, output) = counts(cut);
    match vendor {
        Vendor::Anthropic => {
            let open = cut.state.open.iter();
            let mut events: Vec<_> = open
                .map(|open| json!({"type": "content_block_stop", "index": open.index}))
                .collect();
            events.push(json!({
                "type": "message_delta",
                "delta": {"stop_reason": "max_tokens", "stop_sequence": null},
                "usage": {"output_tokens": output},
            }));
            events.push(json!({"type": "message_stop"}));
            events
        },
        Vendor::Amazon => last_parts(cut)
            .into_iter()
            .map(|(name, part)| json!({name: part}))
            .collect(),
        Vendor::OpenAi => vec![json!({
            "id": cut.facts.id,
            "object": "chat.completion.chunk",
            "created": cut.state.created.unwrap_or(0),
            "model": cut.facts.model,
            "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}],
            "usage": {
                "prompt_tokens": input,
                "completion_tokens": output,
                "total_tokens": input.saturating_add(output),
            },
        })],
        Vendor::Titan => vec![json!({
            "outputText": "",
            "index": 0,
            "totalOutputTextTokenCount": output,
            "completionReason": "LENGTH",
            "inputTextTokenCount": input,
        })],
        Vendor::Llama => vec![json!({
            "generation": "",
            "prompt_token_count": null,
            "generation_token_count": output,
            "stop_reason": "length",
        })],
        Vendor::Mistral => vec![json!({"outputs": [{"text": "", "stop_reason": "length"}]})],
        Vendor::Cohere => {
            vec![json!({"text": "", "is_finished": true, "finish_reason": "MAX_TOKENS"})]
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errors_type_is_told_without_what_stands_around_it() {
        assert_eq!(
            short("ValidationException:http://x/y").as_deref(),
            Some("ValidationException")
        );
        assert_eq!(
            short("com.amazon#ThrottlingException").as_deref(),
            Some("ThrottlingException")
        );
        assert_eq!(short(" : "), None);
    }

    #[test]
    fn an_exception_in_a_stream_is_an_error() {
        let mut facts = ResponseFacts::default();
        let event = Event {
            name: Some("modelStreamErrorException"),
            fault: true,
            ..Event::data(br#"{"message":"broken","originalStatusCode":424}"#)
        };
        read_exception(&event, &mut facts).unwrap();
        let error = facts.error.unwrap();
        assert_eq!(error.kind.as_deref(), Some("modelStreamErrorException"));
        assert_eq!(error.message.as_deref(), Some("broken"));
    }
}
