//! Answers of the Gemini API: whole, in chunks, and embeddings.

use super::usage;
use crate::{
    call::{
        facts::{ErrorFacts, ResponseFacts},
        text::Text,
    },
    provider::{
        dialect::Event,
        state::StreamState,
        wire::json::{Ahead, Json, Unreadable},
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
        let mut read = Ok(());
        document.read(|chunks| {
            chunks.items(|chunk| {
                let chunk = chunk.take();
                read = read.and_then(|()| read_chunk(chunk, holds, facts, state));
            })
        });
        read?;
    } else {
        read_chunk(document, holds, facts, state)?;
    }
    if bills_by_prompt(facts.model.as_deref().unwrap_or_default()) {
        let once = facts.usage.web_searches.map(|searches| searches.min(1));
        facts.usage.web_searches = once;
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
    chunk.object(|key, value| match key {
        b"modelVersion" => facts.model = value.take().name().or_else(|| facts.model.take()),
        b"responseId" => facts.id = value.take().name().or_else(|| facts.id.take()),
        b"candidates" => {
            let mut positions = 0..;
            value.items(|candidate| {
                let position = positions.next().unwrap_or(u64::MAX);
                read_candidate(candidate, position, facts, state);
            });
        },
        b"promptFeedback" => {
            let reason = value.take().get("blockReason").and_then(Json::name);
            facts.stop_detail = reason.or_else(|| facts.stop_detail.take());
        },
        b"usageMetadata" => read_usage(value, holds, facts),
        b"error" if value.is_object() => facts.error = Some(read_error(value)),
        _ => {},
    })
}

/// Whether searches are billed by the prompt that made any, as they were before Gemini 3, and not
/// each (Google's price list, November 2026).
fn bills_by_prompt(model: &str) -> bool {
    ["gemini-1", "gemini-2"]
        .iter()
        .any(|generation| model.starts_with(generation))
}

/// Reads a usage object.
pub(super) fn read_usage(value: Ahead<'_, '_>, holds: Holds, facts: &mut ResponseFacts) {
    let report = match holds {
        Holds::Text => usage::read(value),
        Holds::Embeddings => usage::read_embedding(value),
    };
    facts.usage.update(&report.usage);
    facts.service_tier = report.tier.or_else(|| facts.service_tier.take());
}

pub(super) fn read_error(error: Ahead<'_, '_>) -> ErrorFacts {
    const MAX_MESSAGE: usize = 4096;
    let mut found = ErrorFacts::default();
    error.object(|key, value| match key {
        b"status" => found.kind = value.take().name(),
        b"code" => found.code = value.take().name_or_number(),
        b"message" => found.message = value.take().text_up_to(MAX_MESSAGE),
        _ => {},
    });
    found
}

fn read_candidate(
    candidate: Ahead<'_, '_>,
    position: u64,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) {
    let (mut index, mut reason, mut calls) = (None, None, Vec::new());
    candidate.object(|key, value| match key {
        b"index" => index = value.take().u64(),
        b"content" => {
            value.object(|key, value| {
                if key == b"parts" {
                    value.items(|part| read_part(part, &mut calls, facts, state));
                }
            });
        },
        b"finishReason" => reason = Some(value.take()),
        b"groundingMetadata" => {
            if let Some(searches) = searches(value) {
                let known = facts.usage.web_searches.unwrap_or(0);
                facts.usage.web_searches = Some(known.max(searches));
            }
        },
        _ => {},
    });
    let index = index.unwrap_or(position);
    state.begin(index);
    for (id, name) in calls {
        // Calls come whole, and often without an id: each one is a new one.
        let place = state.last_call(index).map_or(0, |last| last + 1);
        state.call(facts, (index, place), id, name);
    }
    if let Some(reason) = reason.and_then(Json::name) {
        state.finish(facts, index, &reason);
    }
}

/// How many different searches an answer rests on; empty ones are not billed. `None` if it does
/// not say.
fn searches(grounding: Ahead<'_, '_>) -> Option<u64> {
    let mut queries: Option<Vec<Json<'_>>> = None;
    grounding.object(|key, value| {
        if key == b"webSearchQueries" {
            let found = queries.get_or_insert_default();
            value.items(|query| {
                let query = query.take();
                let is_new = !found.iter().any(|known| known.raw() == query.raw());
                if is_new && query.name().is_some() && found.len() < StreamState::MAX_OPEN {
                    found.push(query);
                }
            });
        }
    });
    queries.and_then(|queries| u64::try_from(queries.len()).ok())
}

/// A call's id and name.
pub(super) type Call = (Option<Box<str>>, Option<Box<str>>);

/// Reads a part; calls in it are added to `calls`.
pub(super) fn read_part(
    part: Ahead<'_, '_>,
    calls: &mut Vec<Call>,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) {
    part.object(|key, value| match key {
        b"text" => facts.output_bytes += value.count(),
        b"functionCall" => {
            let (mut id, mut name, mut written) = (None, None, Text::default());
            value.object(|key, value| match key {
                b"id" => id = value.take().name(),
                b"name" => name = value.take().name(),
                b"args" => written = value.count(),
                _ => {},
            });
            facts.output_bytes += written;
            calls.push((id, name));
        },
        b"executableCode" => {
            let code = value.take().get("code");
            facts.output_bytes += code.map(Json::text).unwrap_or_default();
            server_call(Box::from("executableCode"), facts, state);
        },
        b"toolCall" => {
            let kind = value.take().get("toolType").and_then(Json::name);
            server_call(kind.unwrap_or_else(|| Box::from("toolCall")), facts, state);
        },
        _ => {},
    });
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
    fn searches_are_counted_each_once_and_by_the_prompt_before_gemini_3() {
        let grounded = |model: &str| {
            let grounding = r#"{"webSearchQueries":["","a","b","a"]}"#;
            let chunk = |grounding: &str| {
                format!(
                    r#"{{"candidates":[{{"groundingMetadata":{grounding}}}],"modelVersion":"{model}"}}"#
                )
            };
            let first = chunk(r#"{"webSearchQueries":["a"]}"#);
            stream(&[&first, &chunk(grounding), &chunk("{}")])
                .usage
                .web_searches
        };
        assert_eq!(grounded("gemini-3-flash-preview"), Some(2));
        assert_eq!(grounded("gemini-2.5-pro"), Some(1));
        assert_eq!(stream(&CHUNKS).usage.web_searches, None);
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
