//! Results of message batches: a line for each request of the batch, most with a message.

use super::messages::{self, read_error};
use crate::{
    call::facts::ResponseFacts,
    provider::{
        dialect::Event,
        state::StreamState,
        wire::json::{Json, Unreadable},
    },
};

/// Reads a line: the message in it.
pub(super) fn read_line(
    line: &[u8],
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    let line = Json::document(line);
    let Some(result) = line.get("result") else {
        return Ok(());
    };
    if let Some(message) = result.get("message").filter(|message| message.is_object()) {
        return messages::read(&Event::body(message.raw()), facts, state);
    }
    let error = result.get("error");
    facts.error = error.map(|error| error.get("error").unwrap_or(error).read(read_error));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::usage::Usage;

    fn read(line: &str) -> ResponseFacts {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        read_line(line.as_bytes(), &mut facts, &mut state).unwrap();
        facts
    }

    #[test]
    fn a_message_is_read_and_whatever_went_wrong_used_nothing() {
        let facts = read(
            r#"{"custom_id":"a","result":{"type":"succeeded","message":{"id":"msg_1",
            "model":"claude-sonnet-4-5","content":[],"stop_reason":"end_turn",
            "usage":{"input_tokens":10,"output_tokens":4,"service_tier":"batch"}}}}"#,
        );
        assert_eq!(
            (facts.id.as_deref(), facts.usage),
            (Some("msg_1"), Usage::text(10, 4))
        );
        let failed = read(
            r#"{"custom_id":"b","result":{"type":"errored","error":{"type":"error",
            "error":{"type":"invalid_request_error","message":"no"}}}}"#,
        );
        assert_eq!(failed.usage, Usage::NONE);
        assert_eq!(
            failed.error.unwrap().kind.as_deref(),
            Some("invalid_request_error")
        );
        assert_eq!(
            read(r#"{"custom_id":"c","result":{"type":"expired"}}"#).error,
            None
        );
    }
}
