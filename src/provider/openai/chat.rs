//! Chat completions and legacy completions: answers, whole and in chunks.

use std::mem;

use super::{fault, usage};
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

/// Reads a chunk, or a whole answer.
pub(super) fn read(
    event: &Event<'_>,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    if event.data.starts_with(b"[DONE]") {
        facts.complete = true;
        return Ok(());
    }
    if !event.whole
        && let Some(only) = state.templates.read(&event.data)
    {
        facts.output_bytes += only.text;
        return Ok(());
    }
    let document = Json::document(&event.data);
    let document = if event.whole {
        document.unwrapped()
    } else {
        document
    };
    let mut chunk = Chunk {
        whole: event.whole,
        text: Text::default(),
        news: false,
        is_error: false,
        facts,
        state,
    };
    document.object(|key, value| chunk.field(key, value))?;
    if chunk.is_error {
        chunk.error(document.read(fault::read));
    }
    let (text, news) = (chunk.text, chunk.news);
    if event.whole {
        facts.complete = true;
    } else if !news {
        state.templates.learn(&event.data, text);
    }
    facts.output_bytes += text;
    Ok(())
}

/// Whether a chunk has usage and no choice, as the one that `include_usage` asks for.
pub(super) fn is_usage_alone(data: &[u8]) -> bool {
    let (mut no_choice, mut has_usage) = (false, false);
    let read = Json::document(data).object(|key, value| match key {
        b"choices" => {
            no_choice = value.is_array();
            value.items(|_| no_choice = false);
        },
        b"usage" => has_usage = value.is_object(),
        _ => {},
    });
    read.is_ok() && no_choice && has_usage
}

/// A chunk while it is read.
struct Chunk<'a> {
    whole: bool,
    /// The text in it.
    text: Text,
    /// It says more than text.
    news: bool,
    /// It is itself an error.
    is_error: bool,
    facts: &'a mut ResponseFacts,
    state: &'a mut StreamState,
}

impl Chunk<'_> {
    fn field(&mut self, key: &[u8], value: Ahead<'_, '_>) {
        match key {
            b"id" if self.facts.id.is_none() => {
                self.facts.id = value.take().name();
                self.news |= self.facts.id.is_some();
            },
            b"model" if self.facts.model.is_none() => {
                self.facts.model = value.take().name();
                self.news |= self.facts.model.is_some();
            },
            b"created" if self.state.created.is_none() => self.state.created = value.take().u64(),
            b"service_tier" => {
                let tier = value.take();
                if !tier.is_null() {
                    self.facts.service_tier = tier.name();
                }
            },
            b"choices" => {
                let mut positions = 0..;
                value.items(|choice| {
                    self.choice(choice, positions.next().unwrap_or(u64::MAX));
                });
            },
            // Writer's completions have nothing else.
            b"value" if !self.whole && value.is_string() => self.text += value.count(),
            b"usage" => self.usage(value),
            b"x_groq" => {
                value.object(|key, value| {
                    if key == b"usage" {
                        self.usage(value);
                    }
                });
            },
            b"error" => self.error(fault::read(value)),
            b"object" => self.is_error = value.take().raw() == b"\"error\"",
            _ => {},
        }
    }

    fn error(&mut self, error: Option<ErrorFacts>) {
        if error.is_some() {
            self.news = true;
            self.facts.error = error;
        }
    }

    fn usage(&mut self, value: Ahead<'_, '_>) {
        if value.is_object() {
            let report = usage::read(value);
            self.news = true;
            self.facts.usage.update(&report.usage);
            self.facts.reported_cost = report.cost.or_else(|| self.facts.reported_cost.take());
        }
    }

    fn choice(&mut self, choice: Ahead<'_, '_>, position: u64) {
        let (mut index, mut reason, mut pieces) = (None, None, Vec::new());
        let mut said = Text::default();
        choice.object(|key, value| match key {
            b"index" => index = value.take().u64(),
            // Writer's streams say the same in both.
            b"delta" | b"message" => {
                let (before, mut found) = (mem::take(&mut self.text), Vec::new());
                self.message(value, &mut found);
                let text = mem::replace(&mut self.text, before);
                if text.bytes > said.bytes {
                    said = text;
                }
                if pieces.is_empty() {
                    pieces = found;
                }
            },
            b"text" => self.text += written(value),
            b"finish_reason" => reason = Some(value.take()),
            b"usage" => self.usage(value),
            _ => {},
        });
        self.text += said;
        let index = index.unwrap_or(position);
        self.news |= self.state.begin(index);
        for piece in pieces {
            self.news = true;
            let place = piece.place(self.state.last_call(index));
            self.state
                .call(self.facts, (index, place), piece.id, piece.name);
        }
        if let Some(reason) = reason {
            self.finish(reason, index);
        }
    }

    fn finish(&mut self, reason: Json<'_>, choice: u64) {
        // In a stream, an empty reason is how some servers write "not yet".
        if let Some(reason) = reason.str()
            && (self.whole || !reason.is_empty())
        {
            self.news = true;
            self.state.finish(self.facts, choice, &reason);
        }
    }

    fn message(&mut self, message: Ahead<'_, '_>, pieces: &mut Vec<Piece>) {
        message.object(|key, value| match key {
            b"content" | b"refusal" | b"reasoning_content" | b"reasoning" => {
                self.text += written(value);
            },
            b"audio" => {
                value.object(|key, value| {
                    if key == b"transcript" {
                        self.text += written(value);
                    }
                });
            },
            b"tool_calls" => {
                let mut positions = 0..;
                value.items(|call| {
                    let position = positions.next().unwrap_or(u64::MAX);
                    self.call(call, position, pieces);
                });
            },
            b"function_call" if value.is_object() => {
                let function = Function::read(value);
                self.text += function.written;
                pieces.extend(Piece::of(Some(0), 0, None, function.name));
            },
            _ => {},
        });
    }

    fn call(&mut self, call: Ahead<'_, '_>, position: u64, pieces: &mut Vec<Piece>) {
        let (mut index, mut id, mut function, mut custom) = (None, None, None, None);
        call.object(|key, value| match key {
            b"index" => index = value.take().u64(),
            b"id" => id = value.take().name(),
            b"function" => function = Some(Function::read(value)),
            b"custom" => custom = Some(Function::read(value)),
            _ => {},
        });
        if let Some(function) = function.or(custom) {
            let at = if self.whole { Some(position) } else { index };
            self.text += function.written;
            pieces.extend(Piece::of(at, position, id, function.name));
        }
    }
}

/// A tool call, or what a stream brings of one, until it is known which choice it is of.
struct Piece {
    /// Its place among the calls of its choice, where that is said.
    at: Option<u64>,
    /// Its place in its list.
    position: u64,
    id: Option<Box<str>>,
    name: Option<Box<str>>,
}

impl Piece {
    /// What there is to be noted, if anything is.
    fn of(
        at: Option<u64>,
        position: u64,
        id: Option<Box<str>>,
        name: Option<Box<str>>,
    ) -> Option<Self> {
        (id.is_some() || name.is_some()).then_some(Self {
            at,
            position,
            id,
            name,
        })
    }

    /// The place of the call among those of its choice, of which `last` is the last one. Pieces in
    /// a stream carry it; where a server leaves it out, a new id begins a new call.
    fn place(&self, last: Option<u64>) -> u64 {
        self.at.unwrap_or_else(|| match last {
            Some(last) if self.id.is_some() => last + 1,
            Some(last) => last,
            None => self.position,
        })
    }
}

/// What is called.
struct Function {
    name: Option<Box<str>>,
    /// The text in its arguments.
    written: Text,
}

impl Function {
    fn read(function: Ahead<'_, '_>) -> Self {
        let (mut name, mut arguments, mut input) = (None, None, None);
        function.object(|key, value| match key {
            b"name" => name = value.take().name(),
            b"arguments" => arguments = Some(written(value)),
            b"input" => input = Some(written(value)),
            _ => {},
        });
        Self {
            name,
            written: arguments.or(input).unwrap_or_default(),
        }
    }
}

/// The text in a field that is a string, or a list of parts that have texts.
fn written(value: Ahead<'_, '_>) -> Text {
    if value.is_string() || value.is_object() {
        return value.count();
    }
    let mut written = Text::default();
    value.items(|part| {
        let (mut text, mut thinking) = (None, None);
        part.object(|key, value| match key {
            b"text" => text = Some(value.count()),
            b"thinking" => thinking = Some(value.count()),
            _ => {},
        });
        written += text.or(thinking).unwrap_or_default();
    });
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{facts::ToolCall, usage::Usage};

    fn stream(chunks: &[&str]) -> ResponseFacts {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        for chunk in chunks {
            read(&Event::data(chunk.as_bytes()), &mut facts, &mut state).unwrap();
        }
        facts
    }

    fn whole(body: &str) -> ResponseFacts {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        read(&Event::body(body.as_bytes()), &mut facts, &mut state).unwrap();
        facts
    }

    fn call(id: &str, name: &str) -> ToolCall {
        ToolCall {
            id: Some(Box::from(id)),
            name: Box::from(name),
        }
    }

    #[test]
    fn a_whole_answer_is_read() {
        let facts = whole(
            r#"{"id":"c1","model":"gpt-4o-2024-08-06","service_tier":"default","choices":[
            {"index":0,"message":{"content":"Hi \u00e9","tool_calls":[
                {"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},
                {"id":"b","type":"custom","custom":{"name":"g","input":"xyz"}}]},
             "finish_reason":"tool_calls"}],
            "usage":{"prompt_tokens":7,"completion_tokens":2,"cost":0.0001}}"#,
        );
        assert_eq!(facts.model.as_deref(), Some("gpt-4o-2024-08-06"));
        assert_eq!(facts.usage, Usage::text(7, 2));
        assert_eq!(facts.tool_calls, [call("a", "f"), call("b", "g")]);
        assert_eq!(facts.finish_reasons, [Box::from("tool_calls")]);
        assert_eq!(facts.output_bytes.bytes, 5 + 2 + 3 + 2);
        assert_eq!(facts.reported_cost.as_deref(), Some("0.0001"));
        assert!(facts.complete);
    }

    #[test]
    fn a_stream_is_read_and_pieces_of_calls_are_joined() {
        let facts = stream(&[
            r#"{"id":"","model":"","choices":[],"prompt_filter_results":[]}"#,
            r#"{"id":"c1","model":"m1","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
            r#"{"id":"c1","model":"m1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":""}}]}}]}"#,
            r#"{"id":"c1","model":"m1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\""}}]}}]}"#,
            r#"{"id":"c1","model":"m1","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":"{}"}}]}}]}"#,
            r#"{"id":"c1","model":"m1","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"usage":null}"#,
            r#"{"id":"c1","model":"m1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9}}"#,
            r#"{"id":"c1","model":"m1","choices":[],"moderation":{}}"#,
            "[DONE]",
        ]);
        assert_eq!(facts.id.as_deref(), Some("c1"));
        assert_eq!(facts.tool_calls, [call("a", "f"), call("b", "g")]);
        assert_eq!(facts.usage, Usage::text(3, 9));
        assert_eq!(facts.output_bytes.bytes, 4 + 2 + 2);
        assert!(facts.complete);
    }

    #[test]
    fn calls_without_an_index_are_told_apart_by_their_ids() {
        let piece = |rest| format!(r#"{{"choices":[{{"delta":{{"tool_calls":[{rest}]}}}}]}}"#);
        let facts = stream(&[
            &piece(r#"{"id":"a","function":{"name":"f","arguments":"{"}}"#),
            &piece(r#"{"function":{"arguments":"}"}}"#),
            &piece(r#"{"id":"b","function":{"name":"g","arguments":"{}"}}"#),
        ]);
        assert_eq!(facts.tool_calls, [call("a", "f"), call("b", "g")]);
    }

    #[test]
    fn reading_at_a_glance_gives_what_reading_in_full_gives() {
        let text = |text| {
            format!(
                r#"{{"id":"c","choices":[{{"index":0,"delta":{{"content":{text}}},"finish_reason":null}}]}}"#
            )
        };
        let texts = [
            r#""a""#,
            r#""bc""#,
            r#""\n\"\u00e9""#,
            "null",
            r#""d""#,
            r#"["x"]"#,
            r#""""#,
        ];
        let chunks: Vec<_> = texts.iter().map(text).collect();
        let facts = stream(&chunks.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(facts.output_bytes.bytes, 1 + 2 + 4 + 1);
    }

    #[test]
    fn what_a_chunk_says_twice_is_counted_once() {
        let twice = |said: &str| {
            format!(r#"{{"choices":[{{"index":0,"message":{said},"delta":{said}}}]}}"#)
        };
        let chunks = [
            r#"{"content":"Hi","tool_calls":null}"#,
            r#"{"content":null,"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{}"}}]}"#,
            r#"{"content":null,"tool_calls":[{"index":1,"id":"d","function":{"name":"g","arguments":"{}"}}]}"#,
        ]
        .map(twice);
        let facts = stream(&chunks.each_ref().map(String::as_str));
        assert_eq!((facts.output_bytes.bytes, facts.tool_calls.len()), (8, 2));
    }

    #[test]
    fn usage_is_found_wherever_servers_put_it_and_counted_once() {
        let facts = stream(&[
            r#"{"x_groq":{"id":"r","usage":{"prompt_tokens":1,"completion_tokens":2}},"choices":[]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
            r#"{"choices":[{"index":0,"delta":{},"usage":{"prompt_tokens":1,"completion_tokens":4}}]}"#,
        ]);
        assert_eq!(facts.usage, Usage::text(1, 4));
    }

    #[test]
    fn an_error_in_a_stream_is_seen() {
        let facts = stream(&[
            r#"{"error":{"message":"no","code":502},"choices":[],"usage":{"prompt_tokens":5}}"#,
        ]);
        assert_eq!(facts.error.unwrap().code.as_deref(), Some("502"));
        assert_eq!(facts.usage.input, Some(5));
        assert_eq!(
            whole(r#"{"error":"broken"}"#)
                .error
                .unwrap()
                .message
                .as_deref(),
            Some("broken")
        );
        assert_eq!(whole(r#"{"error":null,"choices":[]}"#).error, None);
        let flat = whole(r#"{"object":"error","message":"no","type":"t","code":3}"#)
            .error
            .unwrap();
        assert_eq!(
            (flat.kind.as_deref(), flat.message.as_deref()),
            (Some("t"), Some("no"))
        );
    }

    #[test]
    fn only_a_chunk_that_is_nothing_but_usage_is_the_one_that_was_asked_for() {
        assert!(is_usage_alone(
            br#"{"choices":[],"usage":{"prompt_tokens":1}}"#
        ));
        assert!(is_usage_alone(
            br#"{"id":"x", "choices" : [ ] , "usage": {} }"#
        ));
        for other in [
            r#"{"choices":[],"usage":null}"#,
            r#"{"choices":[{"index":0}],"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":[],"prompt_filter_results":[]}"#,
            "[DONE]",
            "",
        ] {
            assert!(!is_usage_alone(other.as_bytes()), "{other}");
        }
    }
}
