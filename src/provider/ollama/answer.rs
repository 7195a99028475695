//! Answers of Ollama's API: whole ones, and lines of streams.

use super::operations;
use crate::{
    call::{
        facts::{ErrorFacts, Operation, ResponseFacts},
        text::Text,
    },
    provider::{
        dialect::Event,
        state::StreamState,
        wire::json::{Ahead, Json, Unreadable},
    },
};

/// The longest message that is kept, in bytes.
const MAX_MESSAGE: usize = 4096;

/// Reads a whole answer, or a line of a stream. Input that the server still had from before is not
/// counted at all: then only the output is known.
pub(super) fn read(
    op: &Operation,
    event: &Event<'_>,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    let (mut reason, mut error, mut kind) = (None, None, None);
    // A list of a whole answer's calls, or the next of a stream's.
    let first = state.last_call(0).map_or(0, |last| last + 1);
    Json::document(&event.data).object(|key, value| match key {
        b"model" if facts.model.is_none() => facts.model = value.take().name(),
        b"message" => message(value, first, facts, state),
        b"response" | b"thinking" => facts.output_bytes += value.count(),
        b"done" => facts.complete |= value.take().is_true(),
        b"done_reason" => reason = value.take().name(),
        b"prompt_eval_count" => {
            facts.usage.input = value.take().u64().or(facts.usage.input);
        },
        b"eval_count" => facts.usage.output = value.take().u64().or(facts.usage.output),
        b"error" => error = value.take().text_up_to(MAX_MESSAGE),
        b"type" => kind = value.take().name(),
        _ => {},
    })?;
    if !operations::writes(op) && facts.usage.input.is_some() {
        facts.usage.output = Some(0);
    }
    if let Some(reason) = reason {
        state.finish(facts, 0, &reason);
    }
    if error.is_some() {
        facts.error = Some(ErrorFacts {
            kind,
            code: None,
            message: error,
        });
    }
    facts.complete |= event.whole;
    Ok(())
}

fn message(message: Ahead<'_, '_>, first: u64, facts: &mut ResponseFacts, state: &mut StreamState) {
    message.object(|key, value| match key {
        b"content" | b"thinking" => facts.output_bytes += value.count(),
        b"tool_calls" => {
            let mut positions = first..;
            value.items(|call| {
                let position = positions.next().unwrap_or(u64::MAX);
                let (mut id, mut name, mut written) = (None, None, Text::default());
                call.object(|key, value| match key {
                    b"id" => id = value.take().name(),
                    b"function" => {
                        value.object(|key, value| match key {
                            b"name" => name = value.take().name(),
                            b"arguments" => written = value.count(),
                            _ => {},
                        });
                    },
                    _ => {},
                });
                facts.output_bytes += written;
                state.call(facts, (0, position), id, name);
            });
        },
        _ => {},
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::usage::Usage;

    fn lines(op: &Operation, lines: &[&str]) -> ResponseFacts {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        for line in lines {
            read(op, &Event::data(line.as_bytes()), &mut facts, &mut state).unwrap();
        }
        facts
    }

    #[test]
    fn calls_of_several_lines_are_calls_of_their_own() {
        let facts = lines(
            &operations::CHAT,
            &[
                r#"{"model":"m","message":{"content":"","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]},"done":false}"#,
                r#"{"model":"m","message":{"content":"","tool_calls":[{"function":{"name":"f","arguments":{"a":2}}}]},"done":false}"#,
                r#"{"model":"m","message":{"content":""},"done":true,"done_reason":"stop","prompt_eval_count":9,"eval_count":4}"#,
            ],
        );
        assert_eq!(facts.tool_calls.len(), 2);
        assert_eq!(facts.usage, Usage::text(9, 4));
        assert!(facts.complete);
    }

    #[test]
    fn input_that_was_cached_is_unknown_and_not_zero() {
        let facts = lines(
            &operations::GENERATE,
            &[r#"{"model":"m","response":"","done":true,"eval_count":4}"#],
        );
        assert_eq!((facts.usage.input, facts.usage.output), (None, Some(4)));
        assert!(facts.finish_reasons.is_empty());
    }

    #[test]
    fn an_error_is_a_message() {
        let facts = lines(&operations::CHAT, &[r#"{"error":"model not found"}"#]);
        let message = facts.error.unwrap().message;
        assert_eq!(message.as_deref(), Some("model not found"));
        assert!(!facts.complete);
    }
}
