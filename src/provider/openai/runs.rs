//! Runs of assistants: created, polled, or followed as a stream. Usage is known once a run has
//! ended.

use super::{fault, usage};
use crate::{
    call::{facts::ResponseFacts, text::Text},
    provider::{
        dialect::Event,
        state::StreamState,
        wire::json::{Ahead, Json, Unreadable},
    },
};

/// Reads one event, or a run.
pub(super) fn read(
    event: &Event<'_>,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    if event.data.starts_with(b"[DONE]") {
        facts.complete = true;
        return Ok(());
    }
    let document = Json::document(&event.data);
    if event.whole {
        read_run(document, facts, state)?;
        facts.complete = !facts.pending;
        return Ok(());
    }
    let (mut object, mut written) = (None, Text::default());
    document.object(|key, value| match key {
        b"object" => object = value.take().str(),
        b"delta" => written = read_delta(value),
        b"error" => facts.error = fault::read(value).or_else(|| facts.error.take()),
        _ => {},
    })?;
    match object.as_deref() {
        Some("thread.run") => read_run(document, facts, state)?,
        Some("thread.message.delta") => facts.output_bytes += written,
        None if event.name == Some("error") && facts.error.is_none() => {
            facts.error = document.read(fault::read);
        },
        _ => {},
    }
    Ok(())
}

/// Whether an event that was not read whole may bring text: a piece of a message does, and what is
/// whole says it again.
pub(super) fn may_write(event: &Event<'_>) -> bool {
    let object = Json::document(&event.data).get("object");
    let object = object.and_then(Json::str);
    object.is_none_or(|object| object == "thread.message.delta")
}

fn read_run(
    run: Json<'_>,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    run.object(|key, value| match key {
        b"id" => facts.id = value.take().name().or_else(|| facts.id.take()),
        b"model" => facts.model = value.take().name().or_else(|| facts.model.take()),
        b"created_at" => state.created = value.take().u64().or(state.created),
        b"status" => {
            let status = value.take();
            facts.pending = is_pending(status);
            facts.finish_reasons = status.name().into_iter().collect();
        },
        b"incomplete_details" => {
            facts.stop_detail = value.take().get("reason").and_then(Json::name);
        },
        b"required_action" => calls(value.take(), facts, state),
        b"usage" if value.is_object() => facts.usage.update(&usage::read(value).usage),
        b"last_error" | b"error" => {
            facts.error = fault::read(value).or_else(|| facts.error.take());
        },
        _ => {},
    })
}

fn is_pending(status: Json<'_>) -> bool {
    matches!(
        status.str().as_deref(),
        Some("queued" | "in_progress" | "requires_action" | "cancelling")
    )
}

/// The calls that the client must run before the run goes on.
fn calls(action: Json<'_>, facts: &mut ResponseFacts, state: &mut StreamState) {
    let outputs = action.get("submit_tool_outputs");
    let Some(calls) = outputs.and_then(|outputs| outputs.get("tool_calls")) else {
        return;
    };
    let mut places = 0..;
    calls.read(|calls| {
        calls.items(|call| {
            let call = call.take();
            let id = call.get("id").and_then(Json::name);
            let function = call.get("function");
            let name = function.and_then(|function| function.get("name")?.name());
            let place = places.next().unwrap_or(u64::MAX);
            state.call(facts, (0, place), id, name);
        })
    });
}

/// The text that a piece of a message brings.
fn read_delta(delta: Ahead<'_, '_>) -> Text {
    let mut written = Text::default();
    delta.object(|key, value| {
        if key == b"content" {
            value.items(|part| {
                let text = part.take().get("text");
                let value = text.and_then(|text| text.get("value"));
                written += value.map(Json::text).unwrap_or_default();
            });
        }
    });
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{facts::ToolCall, usage::Usage};

    fn whole(body: &str) -> ResponseFacts {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        read(&Event::body(body.as_bytes()), &mut facts, &mut state).unwrap();
        facts
    }

    #[test]
    fn a_run_that_waits_for_its_tools_goes_on() {
        let facts = whole(
            r#"{"id":"run_1","object":"thread.run","status":"requires_action","model":"gpt-4o",
            "required_action":{"type":"submit_tool_outputs","submit_tool_outputs":{"tool_calls":[
            {"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}]}},
            "last_error":null,"usage":null}"#,
        );
        let call = ToolCall {
            id: Some(Box::from("call_1")),
            name: Box::from("f"),
        };
        assert_eq!(facts.tool_calls, [call]);
        assert!(facts.pending && !facts.complete);
        assert_eq!(facts.usage, Usage::NONE);
    }

    #[test]
    fn a_run_that_has_ended_says_what_it_used() {
        let facts = whole(
            r#"{"id":"run_1","status":"completed","model":"gpt-4o-mini","usage":{"prompt_tokens":381,
            "completion_tokens":88,"total_tokens":469,"prompt_token_details":{"cached_tokens":2}}}"#,
        );
        let expected = Usage {
            cache_read: Some(2),
            ..Usage::text(381, 88)
        };
        assert_eq!((facts.usage, facts.pending), (expected, false));
        let failed = whole(
            r#"{"id":"run_1","status":"failed","last_error":{"code":"server_error","message":"no"}}"#,
        );
        assert_eq!(failed.error.unwrap().code.as_deref(), Some("server_error"));
    }
}
