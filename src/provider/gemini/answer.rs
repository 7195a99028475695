//! Answers of the Gemini API: whole, in chunks, and embeddings.

use super::usage;
use crate::{
    call::facts::{ErrorFacts, ResponseFacts},
    provider::{
        dialect::Event,
        state::StreamState,
        wire::json::{Json, Unreadable},
    },
};

/// What an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Candidates.
    Text,
    /// Vectors.
    Embeddings,
}

/// Reads a chunk, or a whole answer. A stream that was not asked for as events is one array of
/// chunks; errors come wrapped so as well.
pub(super) fn read(
    event: &Event<'_>,
    holds: Holds,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    let document = Json::document(&event.data);
    if document.is_array() {
        for chunk in document.items() {
            read_chunk(chunk, holds, facts, state)?;
        }
    } else {
        read_chunk(document, holds, facts, state)?;
    }
    // Nothing marks the end of a stream but that every candidate has ended.
    let ended = !facts.finish_reasons.is_empty() && state.open.is_empty();
    facts.complete = event.whole || ended || facts.stop_detail.is_some();
    Ok(())
}

fn read_chunk(
    chunk: Json<'_>,
    holds: Holds,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    for entry in chunk.entries() {
        let entry = entry?;
        let value = entry.value;
        match &*entry.key {
            b"modelVersion" => facts.model = value.name().or_else(|| facts.model.take()),
            b"responseId" => facts.id = value.name().or_else(|| facts.id.take()),
            b"candidates" => {
                for (position, candidate) in (0..).zip(value.items()) {
                    read_candidate(candidate, position, facts, state);
                }
            },
            b"promptFeedback" => {
                let reason = value.get("blockReason").and_then(Json::name);
                facts.stop_detail = reason.or_else(|| facts.stop_detail.take());
            },
            b"usageMetadata" => read_usage(value, holds, facts),
            b"error" if value.is_object() => facts.error = Some(read_error(value)),
            _ => {},
        }
    }
    Ok(())
}

fn read_usage(value: Json<'_>, holds: Holds, facts: &mut ResponseFacts) {
    let found = match holds {
        Holds::Text => usage::read(value),
        Holds::Embeddings => usage::read_embedding(value),
    };
    facts.usage.update(&found);
    let tier = value.get("serviceTier").and_then(Json::name);
    facts.service_tier = tier.or_else(|| facts.service_tier.take());
}

fn read_error(error: Json<'_>) -> ErrorFacts {
    const MAX_MESSAGE: usize = 4096;
    ErrorFacts {
        kind: error.get("status").and_then(Json::name),
        code: error.get("code").and_then(Json::name_or_number),
        message: error
            .get("message")
            .and_then(|message| message.text_up_to(MAX_MESSAGE)),
    }
}

fn read_candidate(
    candidate: Json<'_>,
    position: u64,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) {
    let index = candidate
        .get("index")
        .and_then(Json::u64)
        .unwrap_or(position);
    state.begin(index);
    let parts = candidate.at_path(&["content", "parts"]);
    for part in parts.into_iter().flat_map(Json::items) {
        read_part(part, index, facts, state);
    }
    if let Some(reason) = candidate.get("finishReason").and_then(Json::name) {
        state.finish(facts, index, &reason);
    }
}

fn read_part(part: Json<'_>, candidate: u64, facts: &mut ResponseFacts, state: &mut StreamState) {
    for entry in part.entries().map_while(Result::ok) {
        let value = entry.value;
        match &*entry.key {
            b"text" => facts.output_bytes += value.text_bytes(),
            b"functionCall" => {
                // Calls come whole, and often without an id: each one is a new one.
                let place = state.last_call(candidate).map_or(0, |last| last + 1);
                let id = value.get("id").and_then(Json::name);
                let name = value.get("name").and_then(Json::name);
                facts.output_bytes += value.get("args").map(Json::text_bytes).unwrap_or_default();
                state.call(facts, (candidate, place), id, name);
            },
            b"executableCode" => {
                facts.output_bytes += value.get("code").map(Json::text_bytes).unwrap_or_default();
                server_call(Box::from("executableCode"), facts, state);
            },
            b"toolCall" => {
                let kind = value.get("toolType").and_then(Json::name);
                server_call(kind.unwrap_or_else(|| Box::from("toolCall")), facts, state);
            },
            _ => {},
        }
    }
}

fn server_call(kind: Box<str>, facts: &mut ResponseFacts, state: &mut StreamState) {
    let position = u64::try_from(facts.server_tools.len()).unwrap_or(u64::MAX);
    state.server_call(facts, position, kind);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::usage::Usage;

    fn stream(chunks: &[&str]) -> ResponseFacts {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        for chunk in chunks {
            read(
                &Event::data(chunk.as_bytes()),
                Holds::Text,
                &mut facts,
                &mut state,
            )
            .unwrap();
        }
        facts
    }

    const CHUNKS: [&str; 3] = [
        r#"{"candidates":[{"content":{"parts":[{"text":"Hel","thought":true}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":2,"totalTokenCount":7},"modelVersion":"gemini-x","responseId":"r1"}"#,
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":1}}},{"functionCall":{"name":"g","args":{}}}]}}],"usageMetadata":{"promptTokenCount":5}}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":""}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":9,"thoughtsTokenCount":4,"totalTokenCount":18}}"#,
    ];

    #[test]
    fn a_stream_is_read_and_the_last_usage_holds() {
        let facts = stream(&CHUNKS);
        assert_eq!(
            (facts.id.as_deref(), facts.model.as_deref()),
            (Some("r1"), Some("gemini-x"))
        );
        assert_eq!(
            facts.usage,
            Usage {
                reasoning: Some(4),
                ..Usage::text(5, 13)
            }
        );
        let names: Vec<_> = facts.tool_calls.iter().map(|call| &*call.name).collect();
        assert_eq!(names, ["f", "g"]);
        assert_eq!(facts.finish_reasons, [Box::from("STOP")]);
        assert_eq!(facts.output_bytes.bytes, 3 + 2 + 2);
        assert!(facts.complete);
        assert!(!stream(&CHUNKS[..2]).complete);
    }

    #[test]
    fn a_stream_that_is_one_array_says_the_same() {
        let body = format!("[{}\n]", CHUNKS.join(",\n"));
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        read(
            &Event::body(body.as_bytes()),
            Holds::Text,
            &mut facts,
            &mut state,
        )
        .unwrap();
        assert_eq!(facts, stream(&CHUNKS));
    }

    #[test]
    fn a_blocked_prompt_and_an_error_are_seen() {
        let blocked = stream(&[
            r#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":5}}"#,
        ]);
        assert_eq!(blocked.stop_detail.as_deref(), Some("SAFETY"));
        assert!(blocked.complete);
        let error = stream(&[r#"[{"error":{"code":404,"message":"no","status":"NOT_FOUND"}}]"#]);
        assert_eq!(error.error.unwrap().kind.as_deref(), Some("NOT_FOUND"));
    }
}
