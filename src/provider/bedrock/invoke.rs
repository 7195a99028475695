//! `InvokeModel`: answers in the vendors' own forms, whole and as chunks of a stream. Which form it
//! is, its fields tell; the model's name may hide it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;

use super::{converse, endings, operations::EMBED, usage};
use crate::{
    call::{
        facts::{Operation, ResponseFacts},
        text::Text,
    },
    provider::{
        anthropic::Anthropic,
        dialect::{Dialect, Event},
        openai::OpenAi,
        state::StreamState,
        wire::json::{Ahead, Json, Unreadable},
    },
};

/// Whose form an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider) enum Vendor {
    /// Anthropic's messages.
    Anthropic,
    /// Amazon's Nova: as Converse.
    Amazon,
    /// Chat completions: AI21, Mistral, Qwen, DeepSeek, OpenAI and others.
    OpenAi,
    /// Amazon's Titan.
    Titan,
    /// Meta's Llama.
    Llama,
    /// Mistral's completions.
    Mistral,
    /// Cohere's Command.
    Cohere,
}

const NOT_BASE64: Unreadable = Unreadable("a chunk of the stream is not base64");

/// Reads one event, or a whole answer.
pub(super) fn read(
    op: &Operation,
    event: &Event<'_>,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    if event.whole {
        read_form(&event.data, true, facts, state)?;
        if *op == EMBED && facts.error.is_none() {
            facts.usage.output = facts.usage.output.or(Some(0));
        }
        facts.complete = true;
        return Ok(());
    }
    let mut bytes = None;
    Json::document(&event.data).object(|key, value| {
        if key == b"bytes" {
            bytes = Some(value.take());
        }
    })?;
    // Other events hold none.
    let Some(bytes) = bytes.and_then(Json::str) else {
        return Ok(());
    };
    let inner = STANDARD.decode(bytes.as_bytes());
    let inner = inner.map_err(|_invalid| NOT_BASE64)?;
    read_form(&inner, false, facts, state)
}

fn read_form(
    data: &[u8],
    whole: bool,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    let document = Json::document(data);
    let mut form = Form::default();
    document.object(|key, value| form.field(key, value))?;
    state.vendor = form.vendor.or(state.vendor);
    let event = if whole {
        Event::body(data)
    } else {
        Event::data(data)
    };
    match form.vendor {
        Some(Vendor::Anthropic) => {
            let op = Anthropic.operation(&Method::POST, "/v1/messages");
            Anthropic.read_event(op, &event, facts, state)?;
        },
        Some(Vendor::OpenAi) => {
            let chat = OpenAi::Compatible;
            let op = chat.operation(&Method::POST, "/v1/chat/completions");
            chat.read_event(op, &event, facts, state)?;
            plain(document, facts, state)?;
        },
        Some(Vendor::Amazon) if whole => converse::read_answer(document, facts, state)?,
        Some(Vendor::Amazon) => converse::read_named(document, facts, state)?,
        _ => plain(document, facts, state)?,
    }
    if form.embeds {
        // What embeds writes nothing.
        facts.usage.output = facts.usage.output.or(Some(0));
        facts.id = None;
    }
    if let Some(metrics) = form.metrics {
        metrics.read(|metrics| usage::read_metrics(metrics, facts, state));
        facts.complete = true;
    }
    Ok(())
}

/// What the names of the fields tell.
#[derive(Default)]
struct Form<'a> {
    vendor: Option<Vendor>,
    embeds: bool,
    metrics: Option<Json<'a>>,
}

impl<'a> Form<'a> {
    fn field(&mut self, key: &[u8], value: Ahead<'_, 'a>) {
        let vendor = match key {
            b"type" | b"completion" if value.is_string() => Some(Vendor::Anthropic),
            b"output" | b"messageStart" | b"contentBlockStart" | b"contentBlockDelta"
            | b"contentBlockStop" | b"messageStop" | b"metadata"
                if value.is_object() =>
            {
                Some(Vendor::Amazon)
            },
            b"choices" => Some(Vendor::OpenAi),
            b"results" | b"outputText" => Some(Vendor::Titan),
            b"generation" => Some(Vendor::Llama),
            b"outputs" => Some(Vendor::Mistral),
            b"generations" | b"is_finished" | b"event_type" => Some(Vendor::Cohere),
            _ => None,
        };
        self.vendor = self.vendor.or(vendor);
        match key {
            b"embedding" | b"embeddings" | b"embeddingsByType" => self.embeds = true,
            b"amazon-bedrock-invocationMetrics" => self.metrics = Some(value.take()),
            _ => {},
        }
    }
}

/// The fields of all forms that are like no other API's.
fn plain(
    document: Json<'_>,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    let mut choice = Choice::default();
    let (mut response_id, mut id) = (None, None);
    document.object(|key, value| match key {
        b"response_id" => response_id = value.take().name_or_number(),
        b"id" => id = value.take().name_or_number(),
        b"inputTextTokenCount" | b"prompt_token_count" => {
            let count = value.take().u64();
            state.uncached_input = count.or(state.uncached_input);
            facts.usage.input = count.or(facts.usage.input);
        },
        b"totalOutputTextTokenCount" | b"generation_token_count" => {
            facts.usage.output = value.take().u64().or(facts.usage.output);
        },
        b"results" => {
            let tokens = choices(value, facts, state);
            facts.usage.output = tokens.or(facts.usage.output);
        },
        b"outputs" | b"generations" | b"completions" => {
            choices(value, facts, state);
        },
        b"message" | b"Message" | b"__type" => endings::read_error_field(key, value, facts),
        _ => choice.field(key, value),
    })?;
    choice.note(0, facts, state);
    facts.id = facts.id.take().or(response_id).or(id);
    Ok(())
}

/// Reads every choice of a list; the tokens in all of them, where that is said.
fn choices(list: Ahead<'_, '_>, facts: &mut ResponseFacts, state: &mut StreamState) -> Option<u64> {
    let (mut tokens, mut indexes) = (None::<u64>, 0..);
    list.items(|item| {
        let mut choice = Choice::default();
        item.object(|key, value| choice.field(key, value));
        if let Some(more) = choice.tokens {
            tokens = Some(tokens.unwrap_or(0).saturating_add(more));
        }
        choice.note(indexes.next().unwrap_or(u64::MAX), facts, state);
    });
    tokens
}

/// One choice, or a piece of one.
#[derive(Default)]
struct Choice {
    written: Text,
    reason: Option<Box<str>>,
    tokens: Option<u64>,
    /// Ids and names.
    calls: Vec<[Option<Box<str>>; 2]>,
}

impl Choice {
    /// The most calls that are looked at.
    const MAX_CALLS: usize = StreamState::MAX_OPEN;

    fn field(&mut self, key: &[u8], value: Ahead<'_, '_>) {
        match key {
            b"text" | b"outputText" | b"generation" => self.written += value.count(),
            // AI21's: the text is one level deeper.
            b"data" if value.is_object() => {
                value.object(|key, value| {
                    if key == b"text" {
                        self.written += value.count();
                    }
                });
            },
            b"tokenCount" => self.tokens = value.take().u64(),
            b"finish_reason" | b"stop_reason" | b"completionReason" => {
                self.reason = value.take().name().or_else(|| self.reason.take());
            },
            b"finishReason" => {
                let reason = value.take();
                let inner = reason.get("reason").and_then(Json::name);
                self.reason = reason.name().or(inner).or_else(|| self.reason.take());
            },
            b"tool_calls" => {
                value.items(|call| self.call(call));
            },
            _ => {},
        }
    }

    fn call(&mut self, call: Ahead<'_, '_>) {
        let (mut id, mut name) = (None, None);
        call.object(|key, value| match key {
            b"id" => id = value.take().name(),
            b"name" => name = value.take().name(),
            b"parameters" | b"arguments" => self.written += value.count(),
            b"function" => {
                value.object(|key, value| match key {
                    b"name" => name = value.take().name(),
                    b"arguments" => self.written += value.count(),
                    _ => {},
                });
            },
            _ => {},
        });
        if self.calls.len() < Self::MAX_CALLS {
            self.calls.push([id, name]);
        }
    }

    fn note(self, index: u64, facts: &mut ResponseFacts, state: &mut StreamState) {
        facts.output_bytes += self.written;
        for (position, [id, name]) in (0..).zip(self.calls) {
            state.call(facts, (index, position), id, name);
        }
        if let Some(reason) = self.reason {
            state.finish(facts, index, &reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        call::usage::Usage,
        provider::bedrock::operations::{INVOKE, INVOKE_STREAM},
    };

    fn answer(body: &str) -> ResponseFacts {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        read(
            &INVOKE,
            &Event::body(body.as_bytes()),
            &mut facts,
            &mut state,
        )
        .unwrap();
        facts
    }

    fn stream(chunks: &[&str]) -> (ResponseFacts, StreamState) {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        for chunk in chunks {
            let data = format!(r#"{{"bytes":"{}","p":"ab"}}"#, STANDARD.encode(chunk));
            let event = Event {
                name: Some("chunk"),
                ..Event::data(data.as_bytes())
            };
            read(&INVOKE_STREAM, &event, &mut facts, &mut state).unwrap();
        }
        (facts, state)
    }

    const METRICS: &str = r#""amazon-bedrock-invocationMetrics":{"inputTokenCount":7,"outputTokenCount":9,"invocationLatency":1,"firstByteLatency":1}"#;

    #[test]
    fn each_vendors_answer_is_read() {
        for (body, usage, reasons, text) in [
            (
                r#"{"id":"m","type":"message","model":"claude","content":[{"type":"text","text":"Hello"}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":4}}"#,
                Usage::text(3, 4),
                "end_turn",
                5,
            ),
            (
                r#"{"output":{"message":{"content":[{"text":"Hello"}]}},"stopReason":"end_turn","usage":{"inputTokens":3,"outputTokens":4}}"#,
                Usage::text(3, 4),
                "end_turn",
                5,
            ),
            (
                r#"{"inputTextTokenCount":3.0,"results":[{"tokenCount":4.0,"outputText":"Hello","completionReason":"FINISH"}]}"#,
                Usage::text(3, 4),
                "FINISH",
                5,
            ),
            (
                r#"{"generation":"Hello","prompt_token_count":3,"generation_token_count":4,"stop_reason":"stop"}"#,
                Usage::text(3, 4),
                "stop",
                5,
            ),
            (
                r#"{"outputs":[{"text":"Hello","stop_reason":"stop"}]}"#,
                Usage::NONE,
                "stop",
                5,
            ),
            (
                r#"{"id":"g","generations":[{"id":"x","text":"Hello","finish_reason":"COMPLETE"}],"prompt":"Hi"}"#,
                Usage::NONE,
                "COMPLETE",
                5,
            ),
            (
                r#"{"response_id":"r","generation_id":"g","text":"Hello","finish_reason":"COMPLETE","chat_history":[{"message":"Hi"}]}"#,
                Usage::NONE,
                "COMPLETE",
                5,
            ),
            (
                r#"{"id":1234,"prompt":{"text":"Hi"},"completions":[{"data":{"text":"Hello","tokens":[]},"finishReason":{"reason":"endoftext"}}]}"#,
                Usage::NONE,
                "endoftext",
                5,
            ),
            (
                r#"{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#,
                Usage::text(3, 4),
                "stop",
                5,
            ),
            (
                r#"{"completion":"Hello","stop_reason":"stop_sequence","stop":"\n\nHuman:"}"#,
                Usage::NONE,
                "stop_sequence",
                5,
            ),
        ] {
            let facts = answer(body);
            assert_eq!(facts.usage, usage, "{body}");
            assert_eq!(facts.finish_reasons, [Box::from(reasons)], "{body}");
            assert_eq!(facts.output_bytes.bytes, text, "{body}");
            assert!(facts.complete && facts.error.is_none(), "{body}");
        }
    }

    #[test]
    fn what_embeds_writes_nothing() {
        let facts = answer(r#"{"embedding":[0.1],"inputTextTokenCount":5}"#);
        assert_eq!(facts.usage, Usage::text(5, 0));
        let facts = answer(r#"{"embeddings":{"float":[[0.1]]},"id":"e","texts":["x"]}"#);
        assert_eq!((facts.usage.output, facts.id), (Some(0), None));
    }

    #[test]
    fn an_error_is_read() {
        let facts = answer(r#"{"message":"no such model"}"#);
        assert_eq!(
            facts.error.unwrap().message.as_deref(),
            Some("no such model")
        );
    }

    #[test]
    fn each_vendors_stream_ends_with_its_metrics() {
        let streams: [(&[&str], &str, Vendor); 5] = [
            (
                &[
                    r#"{"type":"message_start","message":{"id":"m","model":"c","usage":{"input_tokens":7,"output_tokens":1}}}"#,
                    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
                    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}"#,
                    r#"{"type":"content_block_stop","index":0}"#,
                    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}"#,
                    r#"{"type":"message_stop",METRICS}"#,
                ],
                "end_turn",
                Vendor::Anthropic,
            ),
            (
                &[
                    r#"{"messageStart":{"role":"assistant"}}"#,
                    r#"{"contentBlockDelta":{"delta":{"text":"Hello"},"contentBlockIndex":0}}"#,
                    r#"{"contentBlockStop":{"contentBlockIndex":0}}"#,
                    r#"{"messageStop":{"stopReason":"end_turn"}}"#,
                    r#"{"metadata":{"usage":{"inputTokens":7,"outputTokens":9},"metrics":{},"trace":{}},METRICS}"#,
                ],
                "end_turn",
                Vendor::Amazon,
            ),
            (
                &[
                    r#"{"outputText":"Hel","index":0,"totalOutputTextTokenCount":null,"completionReason":null,"inputTextTokenCount":7}"#,
                    r#"{"outputText":"lo","index":0,"totalOutputTextTokenCount":9,"completionReason":"FINISH","inputTextTokenCount":7,METRICS}"#,
                ],
                "FINISH",
                Vendor::Titan,
            ),
            (
                &[
                    r#"{"generation":"Hel","prompt_token_count":7,"generation_token_count":1,"stop_reason":null}"#,
                    r#"{"generation":"lo","prompt_token_count":null,"generation_token_count":9,"stop_reason":"stop",METRICS}"#,
                ],
                "stop",
                Vendor::Llama,
            ),
            (
                &[
                    r#"{"text":"Hello","is_finished":false}"#,
                    r#"{"is_finished":true,"finish_reason":"COMPLETE",METRICS}"#,
                ],
                "COMPLETE",
                Vendor::Cohere,
            ),
        ];
        for (chunks, reason, vendor) in streams {
            let chunks: Vec<_> = chunks
                .iter()
                .map(|chunk| chunk.replace("METRICS", METRICS))
                .collect();
            let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
            let (facts, state) = stream(&chunks);
            assert_eq!(facts.usage, Usage::text(7, 9), "{vendor:?}");
            assert_eq!(facts.finish_reasons, [Box::from(reason)], "{vendor:?}");
            assert_eq!(facts.output_bytes.bytes, 5, "{vendor:?}");
            assert_eq!(state.vendor, Some(vendor));
            assert!(facts.complete, "{vendor:?}");
            assert!(
                !stream(&chunks[..chunks.len() - 1]).0.complete,
                "{vendor:?}"
            );
        }
    }

    #[test]
    fn what_is_no_base64_is_unreadable() {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        let event = Event::data(br#"{"bytes":"***"}"#);
        assert_eq!(
            read(&INVOKE_STREAM, &event, &mut facts, &mut state),
            Err(NOT_BASE64)
        );
    }
}
