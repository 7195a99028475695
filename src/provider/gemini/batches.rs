//! Results of batches: a document that lists the answers, or a file with one a line. Other files are
//! read the same way, and have no such lines.

use super::answer::{self, Holds};
use crate::{
    call::facts::ResponseFacts,
    provider::{
        dialect::Event,
        state::StreamState,
        wire::json::{Json, Unreadable},
    },
};

/// The name of the list in a batch that was given its requests in line.
pub(super) const LIST: &str = "inlinedResponses";

/// Reads one: the answer in it, or the answer that it is.
pub(super) fn read_one(
    one: &[u8],
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    let document = Json::document(one);
    let within = document.get("response");
    let answer = within.filter(|answer| answer.is_object());
    let answer = answer.unwrap_or(document);
    answer::read(&Event::body(answer.raw()), Holds::Text, facts, state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::usage::Usage;

    fn read(one: &str) -> ResponseFacts {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        read_one(one.as_bytes(), &mut facts, &mut state).unwrap();
        facts
    }

    #[test]
    fn the_answer_is_read_whatever_is_around_it() {
        let answer = r#"{"modelVersion":"gemini-2.0-flash","candidates":[{"finishReason":"STOP"}],
            "usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":4}}"#;
        let keyed = format!(r#"{{"key":"a","response":{answer}}}"#);
        let inlined = format!(r#"{{"response":{answer},"metadata":{{"key":"a"}}}}"#);
        for one in [answer, &keyed, &inlined] {
            let facts = read(one);
            assert_eq!(facts.usage, Usage::text(3, 4), "{one}");
            assert_eq!(facts.model.as_deref(), Some("gemini-2.0-flash"));
        }
    }

    #[test]
    fn what_is_no_answer_costs_nothing() {
        for other in [
            r#"{"key":"a","error":{"code":3,"message":"no"}}"#,
            r#"{"key":"a","request":{"contents":[{"parts":[{"text":"hi"}]}]}}"#,
            "{}",
        ] {
            assert_eq!(read(other).usage, Usage::NONE, "{other}");
        }
    }
}
