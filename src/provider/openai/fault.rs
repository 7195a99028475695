//! Errors as `OpenAI` and its likes report them.

use crate::{call::facts::ErrorFacts, provider::wire::json::Ahead};

/// The longest message that is kept, in bytes.
const MAX_MESSAGE: usize = 4096;

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
            b"code" => fields.code = value.take().name_or_number(),
            b"message" => fields.message = value.take().text_up_to(MAX_MESSAGE),
            _ => {},
        }
    });
    found
}
