//! Requests of Anthropic's API: model, limits, labels and the size of the input.

use crate::{
    call::{
        facts::{InputSize, Operation, RequestFacts},
        labels::Label,
    },
    provider::{
        body_labels::{BodyLabels, Rank},
        wire::{
            json::{Json, Unreadable},
            media::inline_bytes,
        },
    },
};

/// The most tools that are named.
const MAX_TOOLS: usize = 128;

/// Reads a request's body.
pub(super) fn read(
    op: &Operation,
    body: &[u8],
    facts: &mut RequestFacts,
) -> Result<(), Unreadable> {
    let read = read_body(Json::document(body), facts);
    // What need not be JSON (uploads, empty bodies) is not missed where nothing depends on it.
    if op.gen_ai.is_some() { read } else { Ok(()) }
}

fn read_body(body: Json<'_>, facts: &mut RequestFacts) -> Result<(), Unreadable> {
    let mut labels = BodyLabels::default();
    for entry in body.entries() {
        let entry = entry?;
        let value = entry.value;
        match &*entry.key {
            b"model" => facts.model = value.name(),
            b"stream" => facts.stream = value.is_true(),
            b"max_tokens" | b"max_tokens_to_sample" => facts.output_limit = value.u64(),
            b"service_tier" => facts.service_tier = value.name(),
            b"temperature" => facts.temperature = value.f64(),
            b"top_p" => facts.top_p = value.f64(),
            b"metadata" => {
                labels.add(
                    Rank::Field,
                    Label::User,
                    value.get("user_id").and_then(Json::name),
                );
                labels.add_metadata(value);
            },
            b"tools" => {
                facts.tools = value.items().take(MAX_TOOLS).filter_map(tool).collect();
            },
            _ => {},
        }
        measure(&entry.key, value, &mut facts.input);
    }
    facts.input.writes_cache = memchr::memmem::find(body.raw(), b"\"cache_control\"").is_some();
    labels.give(facts);
    Ok(())
}

fn tool(tool: Json<'_>) -> Option<Box<str>> {
    tool.get("name").or_else(|| tool.get("type"))?.name()
}

/// Adds one field of the body. Whatever is not known to be media counts as text.
fn measure(key: &[u8], value: Json<'_>, size: &mut InputSize) {
    match key {
        b"messages" if value.is_array() => {
            for message in value.items() {
                size.text_bytes += message
                    .get("role")
                    .map(Json::text_bytes)
                    .unwrap_or_default();
                blocks(message.get("content"), size);
            }
        },
        b"system" => blocks(Some(value), size),
        _ => size.text_bytes += value.text_bytes(),
    }
}

/// A text, or a list of content blocks.
fn blocks(content: Option<Json<'_>>, size: &mut InputSize) {
    let Some(content) = content else {
        return;
    };
    if !content.is_array() {
        size.text_bytes += content.text_bytes();
    }
    for item in content.items() {
        block(item, size);
    }
}

fn block(block: Json<'_>, size: &mut InputSize) {
    let kind = block.get("type").and_then(Json::str).unwrap_or_default();
    match &*kind {
        "image" => size.images += 1,
        "document" => document(block, size),
        "container_upload" => size.linked += 1,
        "tool_result" => {
            for item in block.get("content").into_iter().flat_map(Json::items) {
                inner_block(item, size);
            }
            let texts = block.get("content").filter(|content| content.is_string());
            size.text_bytes += texts.map(Json::text_bytes).unwrap_or_default();
            size.text_bytes += block
                .get("tool_use_id")
                .map(Json::text_bytes)
                .unwrap_or_default();
        },
        _ => size.text_bytes += block.text_bytes(),
    }
}

/// A block within a tool's result: those hold no further results.
fn inner_block(block: Json<'_>, size: &mut InputSize) {
    let kind = block.get("type").and_then(Json::str).unwrap_or_default();
    match &*kind {
        "image" => size.images += 1,
        "document" => document(block, size),
        _ => size.text_bytes += block.text_bytes(),
    }
}

fn document(block: Json<'_>, size: &mut InputSize) {
    let source = block.get("source");
    let kind = source
        .and_then(|source| source.get("type")?.str())
        .unwrap_or_default();
    match &*kind {
        "base64" => {
            let data = source.and_then(|source| source.get("data"));
            size.media_bytes += data.and_then(inline_bytes).unwrap_or(0);
        },
        "url" | "file" => size.linked += 1,
        "content" => {
            let content = source.and_then(|source| source.get("content"));
            let texts = content.filter(|content| content.is_string());
            size.text_bytes += texts.map(Json::text_bytes).unwrap_or_default();
            for item in content.into_iter().flat_map(Json::items) {
                leaf(item, size);
            }
        },
        _ => size.text_bytes += block.text_bytes(),
    }
}

/// A block that holds no others.
fn leaf(block: Json<'_>, size: &mut InputSize) {
    if block
        .get("type")
        .is_some_and(|kind| kind.raw() == b"\"image\"")
    {
        size.images += 1;
    } else {
        size.text_bytes += block.text_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::anthropic::operations;

    fn facts(body: &str) -> RequestFacts {
        let mut facts = RequestFacts::default();
        read(&operations::MESSAGES, body.as_bytes(), &mut facts).unwrap();
        facts
    }

    #[test]
    fn a_request_is_read() {
        let facts = facts(
            r#"{"model":"claude-sonnet-4-5","max_tokens":1024,"stream":true,"system":"Be brief",
            "metadata":{"user_id":"u1"},"tools":[{"name":"look_up","input_schema":{}}],
            "messages":[{"role":"user","content":"Hello"}]}"#,
        );
        assert_eq!(facts.model.as_deref(), Some("claude-sonnet-4-5"));
        assert_eq!((facts.stream, facts.output_limit), (true, Some(1024)));
        assert_eq!(facts.labels, [(Label::User, Box::from("u1"))]);
        assert_eq!(facts.tools, [Box::from("look_up")]);
        assert!(facts.input.text_bytes.bytes >= 8 + 5, "{:?}", facts.input);
    }

    #[test]
    fn media_is_told_from_text_only_where_the_api_has_media() {
        let data = "A".repeat(40);
        let image = format!(
            r#"{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{data}"}}}}"#
        );
        let pdf = format!(r#"{{"type":"document","source":{{"type":"base64","data":"{data}"}}}}"#);
        let link =
            r#"{"type":"document","source":{"type":"url","url":"https://example.com/a.pdf"}}"#;
        let nested = format!(
            r#"{{"type":"document","source":{{"type":"content","content":[{image},{{"type":"text","text":"{data}"}}]}}}}"#
        );
        let result = format!(
            r#"{{"type":"tool_result","tool_use_id":"t","content":[{image},{{"type":"text","text":"{data}"}}]}}"#
        );
        let call = format!(r#"{{"type":"tool_use","id":"t","name":"f","input":{image}}}"#);
        let size = |block: &str| {
            facts(&format!(
                r#"{{"messages":[{{"role":"user","content":[{block}]}}]}}"#
            ))
            .input
        };
        let counts = |block: &str| {
            let size = size(block);
            (
                size.images,
                size.media_bytes,
                size.linked,
                size.text_bytes.bytes > 40,
            )
        };
        assert_eq!(counts(&image), (1, 0, 0, false));
        assert_eq!(counts(&pdf), (0, 30, 0, false));
        assert_eq!(counts(link), (0, 0, 1, false));
        assert_eq!(counts(&nested), (1, 0, 0, true));
        assert_eq!(counts(&result), (1, 0, 0, true));
        assert_eq!(counts(&call), (0, 0, 0, true));
    }

    #[test]
    fn asking_for_a_cache_is_noticed() {
        let body =
            r#"{"system":[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}]}"#;
        assert!(facts(body).input.writes_cache);
        assert!(!facts("{}").input.writes_cache);
    }
}
