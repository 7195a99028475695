//! Requests of the Gemini API: limits, labels and the size of the input.
//!
//! Google reads every field in two spellings, `maxOutputTokens` and `max_output_tokens`.

use std::borrow::Cow;

use super::{operations, predict};
use crate::{
    call::facts::{InputSize, Operation, RequestFacts},
    provider::{
        body_labels::BodyLabels,
        limit::Limit,
        wire::{
            json::{Ahead, Json, Unreadable},
            media::inline_bytes,
        },
    },
};

/// The most tools that are named.
const MAX_TOOLS: usize = 128;

/// Reads a request's path and body.
pub(super) fn read(
    op: &Operation,
    path: &str,
    body: &[u8],
    facts: &mut RequestFacts,
) -> Result<(), Unreadable> {
    facts.model = operations::model(op, path);
    facts.response_id = operations::stored_id(path).map(Box::from);
    facts.stream = *op == operations::STREAM;
    if [operations::EMBED, operations::PREDICT].contains(op) {
        facts.output_limit = Some(0);
    }
    let read = read_body(Json::document(body), facts);
    if *op == operations::IMAGES {
        predict::ask_images(facts);
    }
    // What need not be JSON (uploads, empty bodies) is not missed where nothing depends on it.
    if op.gen_ai.is_some() { read } else { Ok(()) }
}

/// Reads the fields of a body.
pub(super) fn read_body(body: Json<'_>, facts: &mut RequestFacts) -> Result<(), Unreadable> {
    let mut labels = BodyLabels::default();
    let mut bound = Limit::default();
    body.measure(|key, value| match &*spelled(key) {
        "generationConfig" => bound.add(limits(value, facts)),
        "serviceTier" => facts.service_tier = value.take().name(),
        "labels" => drop(labels.add_metadata(value)),
        "cachedContent" => facts.input.stored |= value.take().name().is_some(),
        "contents" if value.is_array() => {
            value.items(|item| content(item, &mut facts.input));
        },
        "contents" | "content" | "systemInstruction" => content(value, &mut facts.input),
        "requests" => embeddings(value, &mut facts.input),
        "parameters" => predict::parameters(value, facts),
        "tools" => {
            facts.tools.clear();
            let tools = value.items(|item| tool(item, &mut facts.tools));
            facts.tools.truncate(MAX_TOOLS);
            facts.input.text_bytes += tools.text();
        },
        _ => facts.input.text_bytes += value.take().text(),
    })?;
    facts.output_limit = facts.output_limit.max(bound.tokens());
    labels.give(facts);
    Ok(())
}

/// A field's name in the first spelling.
pub(super) fn spelled(name: &[u8]) -> Cow<'_, str> {
    let name = String::from_utf8_lossy(name);
    if !name.contains('_') {
        return name;
    }
    let mut first = String::with_capacity(name.len());
    for (place, word) in name.split('_').enumerate() {
        match word.as_bytes() {
            [letter, ..] if place > 0 && letter.is_ascii() => {
                first.push(char::from(letter.to_ascii_uppercase()));
                first.extend(word.get(1..));
            },
            _ => first.push_str(word),
        }
    }
    Cow::Owned(first)
}

/// Reads a configuration. Returns the most tokens that it lets the model make.
fn limits(config: Ahead<'_, '_>, facts: &mut RequestFacts) -> Option<u64> {
    let mut bound = Limit::default();
    config.object(|key, value| {
        let value = value.take();
        match &*spelled(key) {
            "maxOutputTokens" => bound.add(value.u64()),
            "candidateCount" => {
                let count = u32::try_from(value.u64().unwrap_or(0)).unwrap_or(u32::MAX);
                facts.choices = facts.choices.max(count);
            },
            "temperature" => facts.temperature = value.f64(),
            "topP" => facts.top_p = value.f64(),
            // A schema that the answer must follow.
            _ => facts.input.text_bytes += value.text(),
        }
    });
    bound.tokens()
}

/// Adds the names of a tool's functions; for those that the provider runs, what it is.
fn tool(tool: Ahead<'_, '_>, names: &mut Vec<Box<str>>) {
    tool.object(|key, value| {
        let key = spelled(key);
        if names.len() >= MAX_TOOLS {
            return;
        }
        if key != "functionDeclarations" {
            names.push(Box::from(key));
            return;
        }
        value.items(|function| {
            let mut name = None;
            function.object(|key, value| {
                if key == b"name" {
                    name = value.take().name();
                }
            });
            names.extend(name);
        });
    });
}

fn embeddings(requests: Ahead<'_, '_>, size: &mut InputSize) {
    requests.items(|request| {
        let mut inner = None;
        let request = request.object(|key, value| {
            if key == b"content" {
                let mut size = InputSize::default();
                content(value, &mut size);
                inner = Some(size);
            }
        });
        match inner {
            Some(inner) => size.add(inner),
            None => size.text_bytes += request.text(),
        }
    });
}

/// Adds a content: a list of parts.
pub(super) fn content(content: Ahead<'_, '_>, size: &mut InputSize) {
    if !content.is_object() {
        size.text_bytes += content.take().text();
        return;
    }
    content.object(|key, value| match key {
        b"parts" if value.is_array() => {
            value.items(|item| part(item, size));
        },
        b"parts" => part(value, size),
        _ => size.text_bytes += value.take().text(),
    });
}

fn part(part: Ahead<'_, '_>, size: &mut InputSize) {
    if !part.is_object() {
        size.text_bytes += part.take().text();
        return;
    }
    part.object(|key, value| match &*spelled(key) {
        "inlineData" => match file(value) {
            File::Image => size.images += 1,
            File::Other(bytes) => size.media_bytes += bytes.unwrap_or(0),
        },
        "fileData" => match file(value) {
            File::Image => size.images += 1,
            File::Other(_) => size.linked += 1,
        },
        _ => size.text_bytes += value.take().text(),
    });
}

enum File {
    Image,
    /// Anything else, and its bytes if they are in the body.
    Other(Option<u64>),
}

fn file(value: Ahead<'_, '_>) -> File {
    let (mut kind, mut second, mut data) = (None, None, None);
    value.object(|key, value| match key {
        b"mimeType" => kind = Some(value.take()),
        b"mime_type" => second = Some(value.take()),
        b"data" => data = Some(value.take()),
        _ => {},
    });
    let kind = kind.or(second).and_then(Json::str).unwrap_or_default();
    if kind.starts_with("image/") {
        File::Image
    } else {
        File::Other(data.and_then(inline_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(op: &Operation, body: &str) -> RequestFacts {
        let mut facts = RequestFacts::default();
        let path = "/v1beta/models/gemini-x:generateContent";
        read(op, path, body.as_bytes(), &mut facts).unwrap();
        facts
    }

    #[test]
    fn a_request_is_read_in_both_spellings() {
        for body in [
            r#"{"contents":[{"parts":[{"text":"Hello"}]}],"tools":[{"functionDeclarations":[{"name":"f"}]},{"googleSearch":{}}],
                "generationConfig":{"maxOutputTokens":64,"candidateCount":2,"topP":0.5}}"#,
            r#"{"contents":[{"parts":[{"text":"Hello"}]}],"tools":[{"function_declarations":[{"name":"f"}]},{"google_search":{}}],
                "generation_config":{"max_output_tokens":64,"candidate_count":2,"top_p":0.5}}"#,
        ] {
            let facts = facts(&operations::STREAM, body);
            assert_eq!(facts.model.as_deref(), Some("gemini-x"));
            assert!(facts.stream);
            assert_eq!(
                (facts.output_limit, facts.choices, facts.top_p),
                (Some(64), 2, Some(0.5))
            );
            assert_eq!(facts.tools, [Box::from("f"), Box::from("googleSearch")]);
        }
    }

    #[test]
    fn the_size_of_the_input_is_text_and_media_apart() {
        let size = facts(
            &operations::GENERATE,
            r#"{"systemInstruction":{"parts":[{"text":"abc"}]},"cachedContent":"cachedContents/1",
            "contents":{"role":"user","parts":[{"text":"defgh"},
            {"inlineData":{"mimeType":"image/png","data":"AAAAAAAA"}},
            {"inline_data":{"mime_type":"audio/wav","data":"AAAAAAAA"}},
            {"fileData":{"mimeType":"video/mp4","fileUri":"gs://b/v"}},
            {"functionResponse":{"name":"f","response":{"data":"xxxxxxxxxx"}}}]}}"#,
        )
        .input;
        assert!((18..60).contains(&size.text_bytes.bytes), "{size:?}");
        assert_eq!(
            (size.images, size.media_bytes, size.linked, size.stored),
            (1, 6, 1, true)
        );
    }

    #[test]
    fn of_a_limit_that_is_set_twice_the_looser_holds() {
        for (body, expected) in [
            (
                r#"{"generationConfig":{"maxOutputTokens":9},"generation_config":{"maxOutputTokens":5}}"#,
                Some(9),
            ),
            (
                r#"{"generationConfig":{"maxOutputTokens":9,"max_output_tokens":null}}"#,
                None,
            ),
            (
                r#"{"generationConfig":{"maxOutputTokens":9},"generationConfig":{"topP":1}}"#,
                None,
            ),
        ] {
            let read = facts(&operations::GENERATE, body);
            assert_eq!(read.output_limit, expected, "{body}");
        }
    }

    #[test]
    fn an_embedding_has_no_output() {
        let body = r#"{"requests":[{"model":"models/e","content":{"parts":[{"text":"abcde"}]}}]}"#;
        let facts = facts(&operations::EMBED, body);
        assert_eq!(
            (facts.output_limit, facts.input.text_bytes.bytes),
            (Some(0), 5)
        );
    }

    #[test]
    fn the_path_is_read_though_the_body_cannot_be() {
        let mut facts = RequestFacts::default();
        let path = "/v1beta/models/gemini-x:generateContent";
        assert!(read(&operations::GENERATE, path, b"{", &mut facts).is_err());
        assert_eq!(facts.model.as_deref(), Some("gemini-x"));
    }
}
