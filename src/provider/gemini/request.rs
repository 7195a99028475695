//! Requests of the Gemini API: limits, labels and the size of the input.
//!
//! Google reads every field in two spellings, `maxOutputTokens` and `max_output_tokens`.

use super::operations;
use crate::{
    call::facts::{InputSize, Operation, RequestFacts},
    provider::{
        body_labels::BodyLabels,
        wire::{
            json::{Entry, Json, Unreadable},
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
    facts.model = operations::model(path).map(Box::from);
    facts.stream = *op == operations::STREAM;
    if *op == operations::EMBED {
        facts.output_limit = Some(0);
    }
    let read = read_body(Json::document(body), facts);
    // What need not be JSON (uploads, empty bodies) is not missed where nothing depends on it.
    if op.gen_ai.is_some() { read } else { Ok(()) }
}

fn read_body(body: Json<'_>, facts: &mut RequestFacts) -> Result<(), Unreadable> {
    let mut labels = BodyLabels::default();
    for entry in body.entries() {
        let entry = entry?;
        let value = entry.value;
        match &*field(&entry) {
            "generationConfig" => limits(value, facts),
            "serviceTier" => facts.service_tier = value.name(),
            "labels" => labels.add_metadata(value),
            "cachedContent" => facts.input.stored |= value.name().is_some(),
            "contents" if value.is_array() => {
                value
                    .items()
                    .for_each(|item| content(item, &mut facts.input));
            },
            "contents" | "content" | "systemInstruction" => content(value, &mut facts.input),
            "requests" => embeddings(value, &mut facts.input),
            "tools" => {
                facts.tools = value.items().flat_map(tools).take(MAX_TOOLS).collect();
                facts.input.text_bytes += value.text_bytes();
            },
            _ => facts.input.text_bytes += value.text_bytes(),
        }
    }
    labels.give(facts);
    Ok(())
}

/// A field's name in the first spelling.
fn field(entry: &Entry<'_>) -> String {
    let mut name = String::with_capacity(entry.key.len());
    let mut upper = false;
    for byte in &*entry.key {
        if *byte == b'_' {
            upper = true;
        } else {
            let letter = char::from(*byte);
            name.push(if upper {
                letter.to_ascii_uppercase()
            } else {
                letter
            });
            upper = false;
        }
    }
    name
}

fn limits(config: Json<'_>, facts: &mut RequestFacts) {
    for entry in config.entries().map_while(Result::ok) {
        match &*field(&entry) {
            "maxOutputTokens" => facts.output_limit = facts.output_limit.max(entry.value.u64()),
            "candidateCount" => {
                let count = entry.value.u64().unwrap_or(0);
                facts.choices = u32::try_from(count).unwrap_or(u32::MAX);
            },
            "temperature" => facts.temperature = entry.value.f64(),
            "topP" => facts.top_p = entry.value.f64(),
            // A schema that the answer must follow.
            _ => facts.input.text_bytes += entry.value.text_bytes(),
        }
    }
}

/// The names of a tool's functions; for those that the provider runs, what it is.
fn tools(tool: Json<'_>) -> Vec<Box<str>> {
    let mut names = Vec::new();
    for entry in tool.entries().map_while(Result::ok) {
        if field(&entry) == "functionDeclarations" {
            let functions = entry.value.items().take(MAX_TOOLS);
            names.extend(functions.filter_map(|function| function.get("name")?.name()));
        } else {
            names.push(Box::from(field(&entry)));
        }
    }
    names
}

fn embeddings(requests: Json<'_>, size: &mut InputSize) {
    for request in requests.items() {
        match request.get("content") {
            Some(inner) => content(inner, size),
            None => size.text_bytes += request.text_bytes(),
        }
    }
}

fn content(content: Json<'_>, size: &mut InputSize) {
    if !content.is_object() {
        size.text_bytes += content.text_bytes();
    }
    for entry in content.entries().map_while(Result::ok) {
        if *entry.key == *b"parts" && entry.value.is_array() {
            entry.value.items().for_each(|item| part(item, size));
        } else if *entry.key == *b"parts" {
            part(entry.value, size);
        } else {
            size.text_bytes += entry.value.text_bytes();
        }
    }
}

fn part(part: Json<'_>, size: &mut InputSize) {
    if !part.is_object() {
        size.text_bytes += part.text_bytes();
    }
    for entry in part.entries().map_while(Result::ok) {
        let value = entry.value;
        match &*field(&entry) {
            "inlineData" | "fileData" if is_image(value) => size.images += 1,
            "inlineData" => {
                size.media_bytes += value.get("data").and_then(inline_bytes).unwrap_or(0);
            },
            "fileData" => size.linked += 1,
            _ => size.text_bytes += value.text_bytes(),
        }
    }
}

fn is_image(media: Json<'_>) -> bool {
    let kind = media.get("mimeType").or_else(|| media.get("mime_type"));
    kind.and_then(Json::str)
        .is_some_and(|kind| kind.starts_with("image/"))
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
