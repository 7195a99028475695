//! The last events of a stream of the Responses API that we end.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::output::Output;
use crate::provider::dialect::Cut;

/// Closes what is open and ends the response as incomplete for want of tokens, with what was sent of
/// its output. Where that was too much to keep, its items are there without what is in them. (What
/// tools of the provider came to, and what is noted beside a text, is only in items that were done.)
pub(super) fn graceful(cut: &Cut<'_>) -> String {
    let mut number = cut.state.sequence.map_or(0, |last| last + 1);
    let mut text = String::new();
    let mut push = |kind: &str, mut event: Value| {
        if let Some(fields) = event.as_object_mut() {
            fields.insert("type".to_owned(), json!(kind));
            fields.insert("sequence_number".to_owned(), json!(number));
        }
        number += 1;
        // Writing to a String cannot fail.
        let _ok = write!(text, "event: {kind}\ndata: {event}\n\n");
    };
    let none = Output::default();
    let output = cut.state.output.as_deref().unwrap_or(&none);
    let mut items = output.done();
    for open in &cut.state.open {
        let item = output.close(open);
        let event = json!({"output_index": open.index, "item": &item});
        push("response.output_item.done", event);
        items.insert(open.index, item);
    }
    let items: Vec<_> = items.into_values().collect();
    push(
        "response.incomplete",
        json!({"response": response(cut, &items)}),
    );
    text
}

/// The API's error event.
pub(super) fn error(cut: &Cut<'_>) -> String {
    let error = super::endings::error(cut.refusal);
    let event = json!({
        "type": "error",
        "code": error.pointer("/error/code"),
        "message": cut.refusal.message,
        "param": null,
        "sequence_number": cut.state.sequence.map_or(0, |last| last + 1),
    });
    format!("event: error\ndata: {event}\n\n")
}

fn response(cut: &Cut<'_>, output: &[Value]) -> Value {
    let usage = &cut.usage;
    let (input, generated) = (usage.input.unwrap_or(0), usage.output.unwrap_or(0));
    json!({
        "id": cut.facts.id.as_deref().unwrap_or(cut.request_id),
        "object": "response",
        "created_at": cut.state.created.unwrap_or(0),
        "status": "incomplete",
        "error": null,
        "incomplete_details": {"reason": "max_output_tokens"},
        "instructions": null,
        "metadata": {},
        "model": cut.facts.model.as_deref().unwrap_or_default(),
        "output": output,
        "parallel_tool_calls": true,
        "temperature": null,
        "tool_choice": "auto",
        "tools": [],
        "top_p": null,
        "usage": {
            "input_tokens": input,
            "input_tokens_details": {"cached_tokens": usage.cache_read.unwrap_or(0)},
            "output_tokens": generated,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning.unwrap_or(0)},
            "total_tokens": input.saturating_add(generated),
        },
    })
}
