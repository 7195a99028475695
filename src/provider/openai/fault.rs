//! Errors as `OpenAI` and its likes report them.

use crate::{
    call::facts::{ErrorFacts, ResponseFacts},
    provider::{
        dialect::Event,
        wire::json::{Ahead, Json, Unreadable},
    },
};

/// The longest message that is kept, in bytes.
const MAX_MESSAGE: usize = 4096;

/// Reads nothing but the error that an answer may be.
pub(super) fn read_only(event: &Event<'_>, facts: &mut ResponseFacts) -> Result<(), Unreadable> {
    Json::document(&event.data).object(|key, value| {
        if key == b"error" {
            facts.error = read(value).or_else(|| facts.error.take());
        }
    })?;
    facts.complete = true;
    Ok(())
}

/// Reads the value of an `error` field, an object with a message or only the message; `None` if it
/// says nothing: `null`, `false`, `""`, `{}`.
pub(super) fn read(error: Ahead<'_, '_>) -> Option<ErrorFacts> {
    if error.is_string() {
        let message = error.take().text_up_to(MAX_MESSAGE)?;
        return Some(ErrorFacts {
            message: Some(message),
            ..ErrorFacts::default()
        });
    }
    let mut found = None;
    error.object(|key, value| {
        let fields = found.get_or_insert_with(ErrorFacts::default);
        match key {
            b"type" => fields.kind = value.take().name(),
            // Google's own word, where it speaks OpenAI's dialect.
            b"status" if fields.kind.is_none() => fields.kind = value.take().name(),
            b"code" => fields.code = value.take().name_or_number(),
            b"message" => fields.message = value.take().text_up_to(MAX_MESSAGE),
            _ => {},
        }
    });
    found
}
