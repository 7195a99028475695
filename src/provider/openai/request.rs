//! Requests of `OpenAI`'s API: model, limits, labels and the size of the input.

use super::{audio, images, input, operations};
use crate::{
    call::{
        facts::{Continued, Operation, RequestFacts, Spends},
        labels::Label,
    },
    provider::{
        body_labels::{BodyLabels, Rank},
        limit::Limit,
        vertex,
        wire::json::{Ahead, Json, Unreadable},
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
    facts.response_id = operations::stored_id(op, path).map(Box::from);
    let body = Json::document(body);
    let read = read_body(op, body, facts);
    let raw = vertex::raw(path).map(|raw| raw.model);
    facts.deployment = raw.or_else(|| operations::deployment(path));
    facts.model = facts.model.take().or_else(|| facts.deployment.clone());
    // watsonx.ai's streams have a path of their own, and report usage unasked.
    if operations::is_stream(path) {
        (facts.stream, facts.asks_usage) = (true, true);
    }
    match *op {
        operations::EMBEDDINGS | operations::RERANK => facts.output_limit = Some(0),
        operations::IMAGES | operations::IMAGE_EDITS => images::ask(facts),
        operations::SPEECH | operations::TRANSCRIPTIONS => audio::ask(op, body, facts),
        // It goes on without us, so that no cut would bound it; and reads what its thread holds.
        operations::RUNS => {
            facts.background = true;
            facts.input.stored = true;
        },
        _ => {},
    }
    // What need not be JSON (uploads, empty bodies) is not missed where nothing depends on it.
    if op.spends == Spends::Tokens {
        read
    } else {
        Ok(())
    }
}

fn read_body(op: &Operation, body: Json<'_>, facts: &mut RequestFacts) -> Result<(), Unreadable> {
    let mut labels = BodyLabels::default();
    let limits = operations::output_limits(op);
    let mut bounds = vec![Limit::default(); limits.len()];
    let (mut answers, mut prompts) = (1, 1);
    body.measure(|key, value| {
        let value = match key {
            b"messages" | b"input" if value.is_array() => {
                input::messages(value, &mut facts.input);
                return;
            },
            b"prompt" => {
                facts.input.stored |= value.is_object();
                let count = *op == operations::COMPLETIONS;
                if count {
                    prompt(value, &mut prompts)
                } else {
                    value.take()
                }
            },
            b"image" | b"images" | b"mask" => {
                input::images(value, &mut facts.input);
                return;
            },
            b"metadata" => labels.add_metadata(value),
            b"tools" | b"functions" => tools(value, &mut facts.tools),
            _ => value.take(),
        };
        // Whatever is not known to be media counts as text that the model reads.
        facts.input.text_bytes += value.text();
        match key {
            b"n" | b"best_of" => answers = value.u64().unwrap_or(1).max(answers),
            b"safety_identifier" => labels.add(Rank::Field, Label::User, value.name()),
            b"user" => labels.add(Rank::OldField, Label::User, value.name()),
            b"conversation" => {
                let id = conversation(value);
                labels.add(Rank::Conversation, Label::Session, id.clone());
                let id = id.map(Continued::Conversation);
                facts.continues = facts.continues.take().or(id);
            },
            b"prompt_cache_key" => labels.add(Rank::CacheKey, Label::Session, value.name()),
            _ => {},
        }
        let named = |(name, _): &(&&str, &mut Limit)| *name.as_bytes() == *key;
        if let Some((_, bound)) = limits.iter().zip(&mut bounds).find(named) {
            bound.add(value.u64());
        }
        read_field(key, value, facts);
    })?;
    // Of two names the higher limit counts, since which one does is up to the provider.
    facts.output_limit = bounds.into_iter().filter_map(Limit::tokens).max();
    facts.choices = u32::try_from(prompts.saturating_mul(answers)).unwrap_or(u32::MAX);
    facts.input.writes_cache |= memchr::memmem::find(body.raw(), b"\"cache_control\"").is_some();
    labels.give(facts);
    Ok(())
}

/// Reads only the names of tools, and labels (Realtime).
pub(super) fn read_tools_and_labels(
    body: Json<'_>,
    facts: &mut RequestFacts,
) -> Result<(), Unreadable> {
    let mut labels = BodyLabels::default();
    body.object(|key, value| match key {
        b"tools" => drop(tools(value, &mut facts.tools)),
        b"metadata" => drop(labels.add_metadata(value)),
        _ => {},
    })?;
    labels.give(facts);
    Ok(())
}

fn read_field(key: &[u8], value: Json<'_>, facts: &mut RequestFacts) {
    match key {
        b"model" => facts.model = value.name(),
        // watsonx.ai
        b"model_id" => facts.model = value.name().or_else(|| facts.model.take()),
        b"stream" => facts.stream = value.is_true(),
        b"stream_options" => {
            facts.asks_usage = value.get("include_usage").is_some_and(Json::is_true);
        },
        b"service_tier" => facts.service_tier = value.name(),
        b"temperature" => facts.temperature = value.f64(),
        b"top_p" => facts.top_p = value.f64(),
        b"background" => facts.background = value.is_true(),
        b"previous_response_id" => {
            let id = value.name().map(Continued::Response);
            facts.continues = id.or_else(|| facts.continues.take());
        },
        _ => {},
    }
}

fn conversation(value: Json<'_>) -> Option<Box<str>> {
    value.name().or_else(|| value.get("id")?.name())
}

/// Names the tools.
fn tools<'a>(tools: Ahead<'_, 'a>, names: &mut Vec<Box<str>>) -> Json<'a> {
    let mut seen = 0;
    names.clear();
    tools.items(|item| {
        seen += 1;
        if seen <= MAX_TOOLS {
            names.extend(tool(item));
        }
    })
}

/// A tool's name; for those that the provider runs, what it is.
fn tool(tool: Ahead<'_, '_>) -> Option<Box<str>> {
    let (mut function, mut custom, mut name, mut kind) = (None, None, None, None);
    let own = |nested: Ahead<'_, '_>| {
        let mut name = None;
        nested.object(|key, value| {
            if key == b"name" {
                name = value.take().name();
            }
        });
        name
    };
    tool.object(|key, value| match key {
        b"function" => function = Some(own(value)),
        b"custom" => custom = Some(own(value)),
        b"name" => name = Some(value.take()),
        b"type" => kind = Some(value.take()),
        _ => {},
    });
    let nested = function.or(custom).flatten();
    nested.or_else(|| name?.name()).or_else(|| kind?.name())
}

/// Counts the prompts of a legacy completion: a list of texts, or of lists of tokens, is several.
fn prompt<'a>(prompt: Ahead<'_, 'a>, count: &mut u64) -> Json<'a> {
    let mut several = 0;
    let prompt = prompt.items(|item| several += u64::from(item.is_string() || item.is_array()));
    *count = several.max(1);
    prompt
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::facts::InputSize;

    fn facts(op: &Operation, path: &str, body: &str) -> RequestFacts {
        let mut facts = RequestFacts::default();
        read(op, path, body.as_bytes(), &mut facts).unwrap();
        facts
    }

    #[test]
    fn a_chat_request_is_read() {
        let body = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},
            "max_completion_tokens":100,"n":2,"temperature":0.5,"user":"old","safety_identifier":"u1",
            "metadata":{"session_id":"s1","agent_name":"support"},"prompt_cache_key":"k",
            "tools":[{"type":"function","function":{"name":"look_up"}},{"type":"web_search"}],
            "messages":[{"role":"user","content":"Hello"}]}"#;
        let facts = facts(&operations::CHAT, "/v1/chat/completions", body);
        assert_eq!(facts.model.as_deref(), Some("gpt-4o"));
        assert!(facts.stream && facts.asks_usage);
        assert_eq!((facts.output_limit, facts.choices), (Some(100), 2));
        assert_eq!(facts.temperature, Some(0.5));
        assert_eq!(facts.tools, [Box::from("look_up"), Box::from("web_search")]);
        assert_eq!(
            facts.labels,
            [
                (Label::Agent, Box::from("support")),
                (Label::User, Box::from("u1")),
                (Label::Session, Box::from("s1")),
            ]
        );
    }

    #[test]
    fn a_path_can_say_that_a_stream_is_wanted() {
        let asked = |path| facts(&operations::CHAT, path, r#"{"model_id":"m"}"#);
        let stream = asked("/ml/v1/text/chat_stream");
        assert!(stream.stream && stream.asks_usage);
        assert!(!asked("/ml/v1/text/chat").stream);
    }

    #[test]
    fn of_two_limits_the_higher_bounds_what_it_can_cost() {
        let body = r#"{"max_tokens":10,"max_completion_tokens":20,"max_tokens":null}"#;
        let facts = facts(&operations::CHAT, "", body);
        assert_eq!(facts.output_limit, Some(20));
    }

    #[test]
    fn a_limit_that_the_operation_does_not_know_bounds_nothing() {
        let body = r#"{"max_output_tokens":1,"max_tokens":10}"#;
        let limit = |op| facts(op, "", body).output_limit;
        assert_eq!(limit(&operations::CHAT), Some(10));
        assert_eq!(limit(&operations::RESPONSES), Some(1));
        assert_eq!(limit(&operations::COMPACT), None);
    }

    #[test]
    fn a_completion_of_several_prompts_is_several_answers() {
        let count = |body| facts(&operations::COMPLETIONS, "", body).choices();
        assert_eq!(count(r#"{"prompt":["a","b","c"],"n":2}"#), 6);
        assert_eq!(count(r#"{"prompt":[1,2,3],"best_of":4}"#), 4);
        assert_eq!(count(r#"{"prompt":[[1,2],[3]]}"#), 2);
        assert_eq!(count("{}"), 1);
    }

    #[test]
    fn a_continuation_names_what_it_continues() {
        let read = |body| facts(&operations::RESPONSES, "/v1/responses", body).continues;
        let response = Some(Continued::Response("resp_1".into()));
        let conversation = Some(Continued::Conversation("conv_1".into()));
        for (body, expected) in [
            (
                r#"{"conversation":"conv_1","previous_response_id":"resp_1"}"#,
                &response,
            ),
            (
                r#"{"previous_response_id":"resp_1","conversation":"conv_1"}"#,
                &response,
            ),
            (
                r#"{"previous_response_id":null,"conversation":{"id":"conv_1"}}"#,
                &conversation,
            ),
            (r#"{"conversation":null}"#, &None),
        ] {
            assert_eq!(read(body), *expected, "{body}");
        }
    }

    #[test]
    fn a_stored_response_is_named_by_the_path_and_has_no_body() {
        let path = "/v1/responses/resp_1";
        let read = facts(&operations::RETRIEVE, path, "");
        assert_eq!(read.response_id.as_deref(), Some("resp_1"));
        assert_eq!(
            facts(&operations::RESPONSES, "/v1/responses", "{}").response_id,
            None
        );
    }

    #[test]
    fn a_model_in_the_path_is_the_one_that_answers_whatever_the_body_says() {
        let body = r#"{"model":"cheap"}"#;
        for (path, model) in [
            ("/openai/deployments/my-gpt/chat/completions", "my-gpt"),
            ("/openai/Deployments/my-gpt/chat/completions", "my-gpt"),
            ("/serving-endpoints/llama/invocations", "llama"),
            (
                "/v1/projects/p/locations/l/publishers/mistralai/models/m:rawPredict",
                "m",
            ),
            // Here it is in the body.
            ("/serving-endpoints/chat/completions", "cheap"),
            ("/openai/v1/chat/completions", "cheap"),
        ] {
            let named = facts(&operations::CHAT, path, body);
            assert_eq!(named.answering(), Some(model), "{path}");
            assert_eq!(named.model.as_deref(), Some("cheap"), "{path}");
            let unnamed = facts(&operations::CHAT, path, "{}").model;
            assert_eq!(
                unnamed.as_deref(),
                Some(model).filter(|model| *model != "cheap")
            );
        }
    }

    #[test]
    fn a_body_that_is_no_object_is_an_error_only_where_it_matters() {
        let mut facts = RequestFacts::default();
        for body in ["", "[]", "{\"model\":", "\u{0}"] {
            assert!(read(&operations::CHAT, "", body.as_bytes(), &mut facts).is_err());
            assert!(read(&operations::RERANK, "", body.as_bytes(), &mut facts).is_err());
        }
        let files = operations::of(&http::Method::POST, "/v1/files");
        assert!(read(files, "", b"--boundary", &mut facts).is_ok());
    }

    #[test]
    fn the_size_of_the_input_is_text_and_media_apart() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":[
            {"type":"text","text":"Hello"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAAAAAA"}},
            {"type":"input_audio","input_audio":{"data":"AAAAAAAA","format":"wav"}},
            {"type":"file","file":{"file_data":"data:application/pdf;base64,AAAAAAAAAAAA"}},
            {"type":"file","file":{"file_id":"file-1"}}]}]}"#;
        let size = facts(&operations::CHAT, "", body).input;
        assert!((5..80).contains(&size.text_bytes.bytes), "{size:?}");
        let expected = InputSize {
            text_bytes: size.text_bytes,
            images: 1,
            media_bytes: 6 + 9,
            linked: 1,
            writes_cache: false,
            stored: false,
        };
        assert_eq!(size, expected);
    }

    #[test]
    fn text_that_looks_like_media_is_text_unless_it_is_a_part_of_a_message() {
        let body = r#"{"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f",
            "arguments":"{\"type\":\"image_url\",\"data\":\"AAAAAAAAAAAAAAAAAAAA\"}"}}]}],
            "tools":[{"type":"image_url","image_url":"data:image/png;base64,AAAAAAAAAAAAAAAA"}]}"#;
        let size = facts(&operations::CHAT, "", body).input;
        assert!(size.text_bytes.bytes > 90, "{size:?}");
        assert_eq!((size.images, size.media_bytes), (0, 0));
    }

    #[test]
    fn stored_input_and_cache_writes_are_noticed() {
        let read = |body| facts(&operations::RESPONSES, "", body).input;
        assert!(read(r#"{"input":[{"type":"item_reference","id":"msg_1"}]}"#).stored);
        assert!(read(r#"{"prompt":{"id":"pmpt_1"}}"#).stored);
        let cached = r#"{"messages":[{"content":[{"cache_control":{"type":"ephemeral"}}]}]}"#;
        assert!(read(cached).writes_cache);
        let screen = r#"{"input":[{"type":"computer_call_output",
            "output":{"type":"computer_screenshot","image_url":"data:image/png;base64,AAAA"}}]}"#;
        assert_eq!(read(screen).images, 1);
    }
}
