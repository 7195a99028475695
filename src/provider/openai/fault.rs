//! Errors as `OpenAI` and its likes report them.

use crate::{call::facts::ErrorFacts, provider::wire::json::Json};

/// Whether the value of an `error` field is one: not `null`, `false`, `""` or `{}`.
pub(super) fn is_one(error: Json<'_>) -> bool {
    error.name().is_some() || error.entries().next().is_some_and(|entry| entry.is_ok())
}

/// Reads an error: an object with a message, or only the message.
pub(super) fn read(error: Json<'_>) -> ErrorFacts {
    const MAX_MESSAGE: usize = 4096;
    if error.is_string() {
        return ErrorFacts {
            message: error.text_up_to(MAX_MESSAGE),
            ..ErrorFacts::default()
        };
    }
    ErrorFacts {
        kind: error.get("type").and_then(Json::name),
        code: error.get("code").and_then(Json::name_or_number),
        message: error
            .get("message")
            .and_then(|message| message.text_up_to(MAX_MESSAGE)),
    }
}
