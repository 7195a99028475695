//! Requests: Converse, and `InvokeModel` in the vendors' own forms. Model, limits, labels and the
//! size of the input.

use http::Method;

use super::operations::{CONVERSE, CONVERSE_STREAM, EMBED, INVOKE, INVOKE_STREAM, model};
use crate::{
    call::facts::{InputSize, Operation, RequestFacts},
    provider::{
        anthropic::Anthropic,
        body_labels::BodyLabels,
        dialect::Dialect,
        limit::Limit,
        openai::OpenAi,
        splice::Splice,
        wire::{
            json::{Ahead, Json, Unreadable},
            media::inline_bytes,
        },
    },
};

/// The most tools that are named.
const MAX_TOOLS: usize = 128;

/// Names under which vendors know the output limit, at the top of a body.
const LIMITS: [&str; 6] = [
    "max_tokens",
    "max_tokens_to_sample",
    "max_completion_tokens",
    "max_gen_len",
    "maxTokens",
    "max_new_tokens",
];

/// Whose form the body of an `InvokeModel` has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Anthropic,
    /// Amazon's Nova: as Converse.
    Amazon,
    Titan,
    Chat,
    /// Any other: a prompt, or what is to be embedded.
    Other,
}

/// Reads a request's path and body.
pub(super) fn read(
    op: &Operation,
    path: &str,
    body: &[u8],
    facts: &mut RequestFacts,
) -> Result<(), Unreadable> {
    let document = Json::document(body);
    let read = match *op {
        CONVERSE | CONVERSE_STREAM => read_converse(document, facts),
        INVOKE | INVOKE_STREAM | EMBED => read_invoke(path, body, facts),
        _ => Ok(()),
    };
    facts.model = model(path);
    facts.stream = [CONVERSE_STREAM, INVOKE_STREAM].contains(op);
    if *op == EMBED {
        facts.output_limit = Some(0);
    }
    // A prompt that is kept at AWS: only its variables are in the body.
    let model = facts.model.as_deref().unwrap_or_default();
    facts.input.stored |= model.starts_with("arn:") && model.contains(":prompt/");
    let asks_cache = |name: &[u8]| memchr::memmem::find(body, name).is_some();
    facts.input.writes_cache |= asks_cache(b"\"cachePoint\"");
    read
}

/// The edit that bounds the output.
pub(super) fn bound_output(op: &Operation, body: &[u8], limit: u64) -> Option<Splice> {
    let document = Json::document(body);
    let within = |object: &str, names: &[&str], puts_in: bool| {
        let found = document.get(object).filter(|found| found.is_object());
        match (found, names) {
            (Some(found), _) => Splice::lower(body, found, names, limit),
            (None, [name, ..]) if puts_in => Splice::set(body, &[object, name], &limit.to_string()),
            (None, _) => None,
        }
    };
    match *op {
        CONVERSE | CONVERSE_STREAM => within("inferenceConfig", &["maxTokens"], true),
        INVOKE | INVOKE_STREAM => match form(document)? {
            Form::Anthropic => Splice::lower(body, document, &["max_tokens"], limit),
            Form::Chat => Splice::lower(
                body,
                document,
                &["max_tokens", "max_completion_tokens"],
                limit,
            ),
            Form::Amazon => within("inferenceConfig", &["maxTokens", "max_new_tokens"], true),
            // Without its configuration it may as well be something to embed.
            Form::Titan => within("textGenerationConfig", &["maxTokenCount"], false),
            // Each vendor refuses the others' names, so that none can be put in.
            Form::Other => LIMITS
                .iter()
                .any(|name| document.get(name).is_some())
                .then(|| Splice::lower(body, document, &LIMITS, limit))?,
        },
        _ => None,
    }
}

/// Whose form it is; `None` if it is no object.
fn form(document: Json<'_>) -> Option<Form> {
    let mut found = Form::Other;
    let mut has_config = false;
    document
        .object(|key, value| match key {
            b"anthropic_version" => found = Form::Anthropic,
            b"inferenceConfig" | b"schemaVersion" => has_config = true,
            b"inputText" => found = Form::Titan,
            b"messages" if found != Form::Anthropic => found = form_of_messages(value),
            _ => {},
        })
        .ok()?;
    Some(match found {
        Form::Chat | Form::Other if has_config => Form::Amazon,
        found => found,
    })
}

/// Content parts of Amazon's have no type.
fn form_of_messages(messages: Ahead<'_, '_>) -> Form {
    let mut untyped = false;
    messages.items(|message| {
        message.object(|key, value| {
            if key == b"content" {
                value.items(|part| {
                    let mut typed = false;
                    part.object(|key, _| typed |= key == b"type");
                    untyped |= !typed;
                });
            }
        });
    });
    if untyped { Form::Amazon } else { Form::Chat }
}

fn read_invoke(path: &str, body: &[u8], facts: &mut RequestFacts) -> Result<(), Unreadable> {
    let document = Json::document(body);
    match form(document) {
        Some(Form::Anthropic) => {
            let op = Anthropic.operation(&Method::POST, "/v1/messages");
            Anthropic.read_request(op, path, body, facts)
        },
        Some(Form::Chat) => {
            let chat = OpenAi::Compatible;
            let op = chat.operation(&Method::POST, "/v1/chat/completions");
            chat.read_request(op, path, body, facts)
        },
        Some(Form::Amazon) => read_converse(document, facts),
        _ => read_plain(document, facts),
    }
}

fn read_plain(document: Json<'_>, facts: &mut RequestFacts) -> Result<(), Unreadable> {
    let mut bound = Limit::default();
    let read = document.measure(|key, value| match key {
        b"inputImage" => facts.input.images = facts.input.images.saturating_add(1),
        b"images" if value.is_array() => {
            value.items(|_| facts.input.images = facts.input.images.saturating_add(1));
        },
        b"textGenerationConfig" => {
            let mut within = Limit::default();
            value.object(|key, value| match key {
                b"maxTokenCount" => within.add(value.take().u64()),
                b"temperature" => facts.temperature = value.take().f64(),
                b"topP" => facts.top_p = value.take().f64(),
                _ => {},
            });
            bound.add(within.tokens());
        },
        b"num_generations" | b"numResults" | b"n" => {
            let choices = value.take().u64().unwrap_or(0);
            facts.choices = u32::try_from(choices).unwrap_or(u32::MAX);
        },
        b"temperature" => facts.temperature = value.take().f64(),
        b"top_p" | b"p" | b"topP" => facts.top_p = value.take().f64(),
        // Of several names the looser holds, too: which of them counts is up to the model.
        _ if LIMITS.iter().any(|name| name.as_bytes() == key) => bound.add(value.take().u64()),
        _ => facts.input.text_bytes += value.take().text(),
    });
    facts.output_limit = bound.tokens();
    read
}

fn read_converse(document: Json<'_>, facts: &mut RequestFacts) -> Result<(), Unreadable> {
    let mut labels = BodyLabels::default();
    let mut bound = Limit::default();
    document.measure(|key, value| match key {
        b"messages" if value.is_array() => {
            value.items(|message| {
                message.object(|key, value| match key {
                    b"content" if value.is_array() => {
                        value.items(|part| block(part, &mut facts.input));
                    },
                    _ => facts.input.text_bytes += value.take().text(),
                });
            });
        },
        b"system" if value.is_array() => {
            value.items(|part| block(part, &mut facts.input));
        },
        b"inferenceConfig" => {
            let mut within = Limit::default();
            value.object(|key, value| match key {
                b"maxTokens" | b"max_new_tokens" => within.add(value.take().u64()),
                b"temperature" => facts.temperature = value.take().f64(),
                b"topP" | b"top_p" => facts.top_p = value.take().f64(),
                _ => {},
            });
            bound.add(within.tokens());
        },
        b"toolConfig" => {
            let config = value.object(|key, value| {
                if key == b"tools" {
                    facts.tools.clear();
                    value.items(|item| tool(item, &mut facts.tools));
                }
            });
            facts.input.text_bytes += config.text();
        },
        b"serviceTier" => facts.service_tier = value.take().get("type").and_then(Json::name),
        b"requestMetadata" => drop(labels.add_metadata(value)),
        b"guardrailConfig" | b"performanceConfig" | b"schemaVersion" => {},
        _ => facts.input.text_bytes += value.take().text(),
    })?;
    facts.output_limit = bound.tokens();
    labels.give(facts);
    Ok(())
}

/// `{"toolSpec": {"name": …}}`; one that the provider runs is a `systemTool`.
fn tool(tool: Ahead<'_, '_>, names: &mut Vec<Box<str>>) {
    tool.object(|_, value| {
        let mut name = None;
        value.object(|key, value| {
            if key == b"name" {
                name = value.take().name();
            }
        });
        if names.len() < MAX_TOOLS {
            names.extend(name);
        }
    });
}

fn block(block: Ahead<'_, '_>, size: &mut InputSize) {
    if !block.is_object() {
        size.text_bytes += block.take().text();
        return;
    }
    block.object(|key, value| match key {
        b"toolResult" => {
            value.object(|key, value| match key {
                b"content" if value.is_array() => {
                    value.items(|part| leaf(part, size));
                },
                _ => size.text_bytes += value.take().text(),
            });
        },
        b"guardContent" => leaf(value, size),
        _ => field(key, value, size),
    });
}

/// A block that holds no others.
fn leaf(block: Ahead<'_, '_>, size: &mut InputSize) {
    block.object(|key, value| field(key, value, size));
}

fn field(key: &[u8], value: Ahead<'_, '_>, size: &mut InputSize) {
    match key {
        b"image" => size.images = size.images.saturating_add(1),
        b"document" | b"video" | b"audio" => {
            value.object(|key, value| {
                if key == b"source" {
                    source(value, size);
                } else {
                    size.text_bytes += value.take().text();
                }
            });
        },
        b"cachePoint" => {},
        _ => size.text_bytes += value.take().text(),
    }
}

fn source(source: Ahead<'_, '_>, size: &mut InputSize) {
    source.object(|key, value| match key {
        b"bytes" => {
            let bytes = inline_bytes(value.take()).unwrap_or(0);
            size.media_bytes = size.media_bytes.saturating_add(bytes);
        },
        b"s3Location" => size.linked = size.linked.saturating_add(1),
        _ => size.text_bytes += value.take().text(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(op: &Operation, body: &str) -> RequestFacts {
        let mut facts = RequestFacts::default();
        read(op, "/model/m%3A0/x", body.as_bytes(), &mut facts).unwrap();
        facts
    }

    #[test]
    fn a_request_to_converse_is_read() {
        let facts = facts(
            &CONVERSE_STREAM,
            r#"{"messages":[{"role":"user","content":[{"text":"Hello"},{"cachePoint":{"type":"default"}},
            {"image":{"format":"png","source":{"bytes":"AAAA"}}},
            {"document":{"format":"pdf","name":"d","source":{"bytes":"AAAAAAAA"}}},
            {"video":{"format":"mp4","source":{"s3Location":{"uri":"s3://b/v"}}}},
            {"toolResult":{"toolUseId":"t","content":[{"image":{"source":{"bytes":"AAAA"}}},{"text":"x"}]}}]}],
            "system":[{"text":"Be brief"}],"inferenceConfig":{"maxTokens":64,"topP":0.5},
            "toolConfig":{"tools":[{"toolSpec":{"name":"f","inputSchema":{}}},{"systemTool":{"name":"s"}}]},
            "serviceTier":{"type":"flex"},"requestMetadata":{"session_id":"s1"}}"#,
        );
        assert_eq!(facts.model.as_deref(), Some("m:0"));
        assert_eq!((facts.stream, facts.output_limit), (true, Some(64)));
        assert_eq!(facts.tools, [Box::from("f"), Box::from("s")]);
        assert_eq!(facts.service_tier.as_deref(), Some("flex"));
        assert_eq!(facts.labels.len(), 1);
        let InputSize {
            images,
            media_bytes,
            linked,
            writes_cache,
            text_bytes,
            ..
        } = facts.input;
        assert_eq!((images, media_bytes, linked, writes_cache), (2, 6, 1, true));
        assert!((20..120).contains(&text_bytes.bytes), "{text_bytes:?}");
    }

    #[test]
    fn of_a_limit_that_is_set_twice_the_looser_holds() {
        let limit = |op, body| facts(op, body).output_limit;
        for (body, expected) in [
            (
                r#"{"inferenceConfig":{"maxTokens":9},"inferenceConfig":{"maxTokens":5}}"#,
                Some(9),
            ),
            (
                r#"{"inferenceConfig":{"maxTokens":9,"maxTokens":null}}"#,
                None,
            ),
            (
                r#"{"inferenceConfig":{"maxTokens":9},"inferenceConfig":{}}"#,
                None,
            ),
        ] {
            assert_eq!(limit(&CONVERSE, body), expected, "{body}");
        }
        for (body, expected) in [
            (
                r#"{"textGenerationConfig":{"maxTokenCount":9},"textGenerationConfig":{}}"#,
                None,
            ),
            (
                r#"{"textGenerationConfig":{"maxTokenCount":9,"maxTokenCount":5}}"#,
                Some(9),
            ),
            (r#"{"prompt":"","max_gen_len":9,"max_gen_len":"x"}"#, None),
            (r#"{"prompt":"","max_gen_len":9,"maxTokens":5}"#, Some(9)),
        ] {
            assert_eq!(limit(&INVOKE, body), expected, "{body}");
        }
    }

    #[test]
    fn every_vendors_limit_is_read_and_lowered_in_its_place() {
        for (body, limit, bounded) in [
            (
                r#"{"anthropic_version":"b","max_tokens":90,"messages":[{"role":"user","content":"Hi"}]}"#,
                Some(90),
                Some(
                    r#"{"anthropic_version":"b","max_tokens":50,"messages":[{"role":"user","content":"Hi"}]}"#,
                ),
            ),
            (
                r#"{"messages":[{"role":"user","content":[{"text":"Hi"}]}]}"#,
                None,
                Some(
                    r#"{"messages":[{"role":"user","content":[{"text":"Hi"}]}],"inferenceConfig":{"maxTokens":50}}"#,
                ),
            ),
            (
                r#"{"messages":[{"role":"user","content":"Hi"}]}"#,
                None,
                Some(r#"{"messages":[{"role":"user","content":"Hi"}],"max_tokens":50}"#),
            ),
            (
                r#"{"inputText":"Hi","textGenerationConfig":{"maxTokenCount":90}}"#,
                Some(90),
                Some(r#"{"inputText":"Hi","textGenerationConfig":{"maxTokenCount":50}}"#),
            ),
            (r#"{"inputText":"Hi"}"#, None, None),
            (
                r#"{"prompt":"Hi","max_gen_len":90}"#,
                Some(90),
                Some(r#"{"prompt":"Hi","max_gen_len":50}"#),
            ),
            (
                r#"{"prompt":"Hi","maxTokens":90,"numResults":2}"#,
                Some(90),
                Some(r#"{"prompt":"Hi","maxTokens":50,"numResults":2}"#),
            ),
            (r#"{"prompt":"Hi"}"#, None, None),
        ] {
            assert_eq!(facts(&INVOKE, body).output_limit, limit, "{body}");
            assert!(facts(&INVOKE, body).input.text_bytes.bytes >= 2, "{body}");
            let edited = bound_output(&INVOKE, body.as_bytes(), 50)
                .map(|splice| String::from_utf8(splice.apply(body.as_bytes())).unwrap());
            assert_eq!(edited.as_deref(), bounded, "{body}");
        }
        assert_eq!(facts(&INVOKE, r#"{"prompt":"","numResults":2}"#).choices, 2);
        assert_eq!(facts(&EMBED, r#"{"inputText":"Hi"}"#).output_limit, Some(0));
        assert_eq!(bound_output(&EMBED, br#"{"inputText":"Hi"}"#, 5), None);
    }

    #[test]
    fn a_prompt_that_is_kept_at_aws_is_input_that_is_not_in_the_body() {
        let mut facts = RequestFacts::default();
        let path = "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aprompt%2FP1/converse";
        read(&CONVERSE, path, br#"{"promptVariables":{}}"#, &mut facts).unwrap();
        assert!(facts.input.stored);
    }
}
