//! Requests of Anthropic's API: model, limits, labels and the size of the input.

use std::borrow::Cow;

use super::operations;
use crate::{
    call::{
        facts::{InputSize, Operation, RequestFacts},
        labels::Label,
        text::Text,
    },
    provider::{
        body_labels::{BodyLabels, Rank},
        limit::Limit,
        vertex,
        wire::{
            json::{Ahead, Json, Unreadable},
            media::inline_bytes,
        },
    },
};

/// The most tools that are named.
const MAX_TOOLS: usize = 128;

/// Reads a request's path and body. Vertex AI has the model in the path.
pub(super) fn read(
    op: &Operation,
    path: &str,
    body: &[u8],
    facts: &mut RequestFacts,
) -> Result<(), Unreadable> {
    let read = read_body(op, Json::document(body), facts);
    if let Some(raw) = vertex::raw(path) {
        facts.stream |= raw.stream;
        // Tokens are counted for a model in the body.
        if *op != operations::COUNT_TOKENS || facts.model.is_none() {
            facts.deployment = Some(raw.model);
        }
        facts.model = facts.model.take().or_else(|| facts.deployment.clone());
    }
    // What need not be JSON (uploads, empty bodies) is not missed where nothing depends on it.
    if op.gen_ai.is_some() { read } else { Ok(()) }
}

fn read_body(op: &Operation, body: Json<'_>, facts: &mut RequestFacts) -> Result<(), Unreadable> {
    let mut labels = BodyLabels::default();
    let limit = operations::output_limit(op).map(str::as_bytes);
    let mut bound = Limit::default();
    body.measure(|key, value| {
        let value = match key {
            b"messages" if value.is_array() => {
                value.items(|item| message(item, &mut facts.input));
                return;
            },
            b"system" => {
                blocks(value, &mut facts.input);
                return;
            },
            b"tools" => tools(value, &mut facts.tools),
            _ => value.take(),
        };
        // Whatever is not known to be media counts as text.
        facts.input.text_bytes += value.text();
        match key {
            b"model" => facts.model = value.name(),
            b"stream" => facts.stream = value.is_true(),
            key if Some(key) == limit => bound.add(value.u64()),
            b"service_tier" => facts.service_tier = value.name(),
            b"inference_geo" => facts.region = value.name(),
            b"temperature" => facts.temperature = value.f64(),
            b"top_p" => facts.top_p = value.f64(),
            b"metadata" => {
                let user = value.get("user_id").and_then(Json::name);
                labels.add(Rank::Field, Label::User, user);
                value.read(|metadata| labels.add_metadata(metadata));
            },
            _ => {},
        }
    })?;
    facts.output_limit = bound.tokens();
    facts.input.writes_cache |= memchr::memmem::find(body.raw(), b"\"cache_control\"").is_some();
    labels.give(facts);
    Ok(())
}

/// Names the tools.
fn tools<'a>(tools: Ahead<'_, 'a>, names: &mut Vec<Box<str>>) -> Json<'a> {
    let mut seen = 0;
    names.clear();
    tools.items(|tool| {
        let (mut name, mut kind) = (None, None);
        tool.object(|key, value| match key {
            b"name" => name = Some(value.take()),
            b"type" => kind = Some(value.take()),
            _ => {},
        });
        seen += 1;
        if seen <= MAX_TOOLS {
            names.extend(name.or(kind).and_then(Json::name));
        }
    })
}

fn message(message: Ahead<'_, '_>, size: &mut InputSize) {
    message.object(|key, value| match key {
        b"role" => size.text_bytes += value.take().text(),
        b"content" => blocks(value, size),
        _ => {},
    });
}

/// A text, or a list of content blocks.
fn blocks(content: Ahead<'_, '_>, size: &mut InputSize) {
    if content.is_array() {
        content.items(|item| block(item, size));
    } else {
        size.text_bytes += content.take().text();
    }
}

fn block(block: Ahead<'_, '_>, size: &mut InputSize) {
    let mut found = Block::default();
    let mut results = InputSize::default();
    let block = block.object(|key, value| match key {
        b"content" => {
            results = InputSize::default();
            let is_text = value.is_string();
            let content = value.items(|item| inner_block(item, &mut results));
            if is_text {
                results.text_bytes = content.text();
            }
        },
        b"tool_use_id" => found.answers = value.take().text(),
        _ => found.field(key, value),
    });
    match found.kind().as_deref() {
        Some("container_upload") => size.linked += 1,
        Some("tool_result") => {
            size.add(results);
            size.text_bytes += found.answers;
        },
        _ => found.measure(block, size),
    }
}

/// A block within a tool's result: those hold no further results.
fn inner_block(block: Ahead<'_, '_>, size: &mut InputSize) {
    let mut found = Block::default();
    let block = block.object(|key, value| found.field(key, value));
    found.measure(block, size);
}

/// The fields of a block that say how large it is.
#[derive(Default)]
struct Block<'a> {
    kind: Option<Json<'a>>,
    source: Option<Json<'a>>,
    /// What a document says of itself beside its source.
    beside: Text,
    /// The name of the call of which it is the result.
    answers: Text,
}

impl<'a> Block<'a> {
    fn kind(&self) -> Option<Cow<'a, str>> {
        self.kind.and_then(Json::str)
    }

    /// Takes in a field that any block may have.
    fn field(&mut self, key: &[u8], value: Ahead<'_, 'a>) {
        match key {
            b"type" => self.kind = Some(value.take()),
            b"source" => self.source = Some(value.take()),
            b"title" | b"context" => self.beside += value.take().text(),
            _ => {},
        }
    }

    /// Adds an image, a document, or whatever else as text.
    fn measure(&self, block: Json<'_>, size: &mut InputSize) {
        match self.kind().as_deref() {
            Some("image") => size.images += 1,
            Some("document") => self.document(block, size),
            _ => size.text_bytes += block.text(),
        }
    }

    fn document(&self, block: Json<'_>, size: &mut InputSize) {
        let field = |name| self.source.and_then(|source| source.get(name));
        match field("type").and_then(Json::str).as_deref() {
            Some("base64") => {
                size.media_bytes += field("data").and_then(inline_bytes).unwrap_or(0);
            },
            Some("url" | "file") => size.linked += 1,
            Some("content") => {
                if let Some(content) = field("content") {
                    if content.is_string() {
                        size.text_bytes += content.text();
                    }
                    content.read(|content| content.items(|item| leaf(item, size)));
                }
            },
            _ => {
                size.text_bytes += block.text();
                return;
            },
        }
        size.text_bytes += self.beside;
    }
}

/// A block that holds no others.
fn leaf(block: Ahead<'_, '_>, size: &mut InputSize) {
    let mut is_image = false;
    let block = block.object(|key, value| {
        if key == b"type" {
            is_image = value.take().raw() == b"\"image\"";
        }
    });
    if is_image {
        size.images += 1;
    } else {
        size.text_bytes += block.text();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(body: &str) -> RequestFacts {
        let mut facts = RequestFacts::default();
        let path = "/v1/messages";
        read(&operations::MESSAGES, path, body.as_bytes(), &mut facts).unwrap();
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
    fn a_model_in_the_path_is_the_one_that_answers_unless_tokens_are_counted() {
        let model = |name: &str, body: &str| {
            let base = "/v1/projects/p/locations/l/publishers/anthropic/models";
            let path = format!("{base}/{name}:rawPredict");
            let op = operations::of(&http::Method::POST, &path);
            let mut facts = RequestFacts::default();
            read(op, &path, body.as_bytes(), &mut facts).unwrap();
            facts.answering().map(Box::<str>::from)
        };
        let body = r#"{"model":"cheap"}"#;
        assert_eq!(model("dear", body).as_deref(), Some("dear"));
        assert_eq!(model("count-tokens", body).as_deref(), Some("cheap"));
    }

    #[test]
    fn the_limit_of_another_operation_is_none_and_the_highest_counts() {
        let limit = |op, body: &str| {
            let mut facts = RequestFacts::default();
            read(op, "", body.as_bytes(), &mut facts).unwrap();
            facts.output_limit
        };
        let body = r#"{"max_tokens":9,"max_tokens":8,"max_tokens_to_sample":1}"#;
        assert_eq!(limit(&operations::MESSAGES, body), Some(9));
        let complete = operations::of(&http::Method::POST, "/v1/complete");
        assert_eq!(limit(complete, body), Some(1));
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
    fn what_stands_beside_the_source_of_a_document_is_text() {
        let text = "A".repeat(400);
        for source in [
            r#"{"type":"base64","data":"AAAA"}"#,
            r#"{"type":"url","url":"https://example.com/a.pdf"}"#,
            r#"{"type":"file","file_id":"file_1"}"#,
            r#"{"type":"content","content":"x"}"#,
        ] {
            let document = format!(
                r#"{{"type":"document","source":{source},"title":"{text}","context":"{text}"}}"#
            );
            let result = format!(r#"{{"type":"tool_result","content":[{document}]}}"#);
            for block in [&document, &result] {
                let message = format!(r#"{{"role":"user","content":[{block}]}}"#);
                let input = facts(&format!(r#"{{"messages":[{message}]}}"#)).input;
                assert!(input.text_bytes.bytes >= 800, "{block} {input:?}");
            }
        }
    }

    #[test]
    fn asking_for_a_cache_is_noticed() {
        let body =
            r#"{"system":[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}]}"#;
        assert!(facts(body).input.writes_cache);
        assert!(!facts("{}").input.writes_cache);
    }
}
