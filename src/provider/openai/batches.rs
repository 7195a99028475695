//! Results of batches: files in which each line holds the answer to one request of the batch.
//! Other files are read the same way, and have no such lines.

use super::{chat, embeddings, fault, images, responses};
use crate::{
    call::facts::ResponseFacts,
    provider::{
        dialect::Event,
        state::StreamState,
        wire::json::{Json, Unreadable},
    },
};

/// Reads a line: the answer in it, by what it says that it is.
pub(super) fn read_line(
    line: &[u8],
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    let line = Json::document(line);
    let response = line.get("response").filter(|response| response.is_object());
    let (Some(_), Some(response)) = (line.get("custom_id"), response) else {
        return Ok(());
    };
    let Some(body) = response.get("body").filter(|body| body.is_object()) else {
        return Ok(());
    };
    let status = response.get("status_code").and_then(Json::u64);
    if status.is_some_and(|status| status >= 400) {
        facts.error = body.get("error").and_then(|error| error.read(fault::read));
        return Ok(());
    }
    let event = Event::body(body.raw());
    let object = body.get("object").and_then(Json::str);
    match object.as_deref() {
        Some("response") => responses::read(&event, facts, state),
        Some("list") => embeddings::read(&event, facts),
        None if is_moderation(body) => Ok(()),
        None if body.get("created").is_some() => images::read(&event, facts, state),
        _ => chat::read(&event, facts, state),
    }
}

/// Moderations are free.
fn is_moderation(body: Json<'_>) -> bool {
    let id = body.get("id").and_then(Json::str);
    id.is_some_and(|id| id.starts_with("modr"))
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

    fn line(body: &str) -> String {
        format!(
            r#"{{"id":"batch_req_1","custom_id":"a","response":{{"status_code":200,"request_id":"r","body":{body}}},"error":null}}"#
        )
    }

    #[test]
    fn a_line_is_read_as_the_answer_that_it_holds() {
        let chat = read(&line(
            r#"{"id":"c1","object":"chat.completion","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
        ));
        assert_eq!(
            (chat.id.as_deref(), chat.usage),
            (Some("c1"), Usage::text(3, 4))
        );
        let response = read(&line(
            r#"{"id":"resp_1","object":"response","status":"completed","model":"gpt-5","output":[],"usage":{"input_tokens":5,"output_tokens":6}}"#,
        ));
        assert_eq!(response.usage, Usage::text(5, 6));
        let embedded = read(&line(
            r#"{"object":"list","model":"text-embedding-3-small","data":[],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
        ));
        assert_eq!(embedded.usage, Usage::text(8, 0));
    }

    #[test]
    fn what_is_no_answer_costs_nothing() {
        for other in [
            r#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m"}}"#,
            r#"{"messages":[{"role":"user","content":"hi"}]}"#,
            r#"{"custom_id":"a","response":null,"error":{"code":"batch_expired"}}"#,
            r#"{"custom_id":"a","response":{"status_code":400,"body":{"error":{"message":"no"}}}}"#,
            r#"{"custom_id":"a","response":{"status_code":200,"body":{"id":"modr-1","model":"omni-moderation-latest","results":[{"flagged":false}]}}}"#,
            "[1]",
        ] {
            let facts = read(other);
            let of_an_answer = (facts.id, facts.model, facts.usage);
            assert_eq!(of_an_answer, (None, None, Usage::NONE), "{other}");
        }
    }
}
