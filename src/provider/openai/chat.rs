//! Chat completions and legacy completions: answers, whole and in chunks.

use super::{fault, usage};
use crate::{
    call::{facts::ResponseFacts, text::Text},
    provider::{
        dialect::Event,
        state::StreamState,
        wire::json::{Json, Unreadable},
    },
};

/// What a chunk without a choice, and with usage, looks like at a glance.
const NO_CHOICES: &[u8] = b"\"choices\"";

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
    let mut chunk = Chunk {
        whole: event.whole,
        text: Text::default(),
        news: false,
        facts,
        state,
    };
    chunk.read(Json::document(&event.data))?;
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
    let near = |needle| memchr::memmem::find(data, needle).is_some();
    if !near(NO_CHOICES) || !near(b"\"usage\"") {
        return false;
    }
    let chunk = Json::document(data);
    let no_choice = chunk
        .get("choices")
        .is_some_and(|choices| choices.is_array() && choices.items().next().is_none());
    no_choice && chunk.get("usage").is_some_and(Json::is_object)
}

/// A chunk while it is read.
struct Chunk<'a> {
    whole: bool,
    /// Bytes of text in it.
    text: Text,
    /// It says more than text.
    news: bool,
    facts: &'a mut ResponseFacts,
    state: &'a mut StreamState,
}

impl Chunk<'_> {
    fn read(&mut self, chunk: Json<'_>) -> Result<(), Unreadable> {
        for entry in chunk.entries() {
            let entry = entry?;
            let value = entry.value;
            match &*entry.key {
                b"id" if self.facts.id.is_none() => {
                    self.facts.id = value.name();
                    self.news |= self.facts.id.is_some();
                },
                b"model" if self.facts.model.is_none() => {
                    self.facts.model = value.name();
                    self.news |= self.facts.model.is_some();
                },
                b"created" => self.state.created = self.state.created.or_else(|| value.u64()),
                b"service_tier" if !value.is_null() => self.facts.service_tier = value.name(),
                b"choices" => self.choices(value),
                b"usage" => self.usage(Some(value)),
                b"x_groq" => self.usage(value.get("usage")),
                b"error" if fault::is_one(value) => {
                    self.news = true;
                    self.facts.error = Some(fault::read(value));
                },
                b"object" if value.raw() == b"\"error\"" => {
                    self.news = true;
                    self.facts.error = Some(fault::read(chunk));
                },
                _ => {},
            }
        }
        Ok(())
    }

    fn usage(&mut self, value: Option<Json<'_>>) {
        let Some(value) = value.filter(|value| value.is_object()) else {
            return;
        };
        self.news = true;
        self.facts.usage.update(&usage::read(value));
        if let Some(cost) = value.get("cost").and_then(Json::name_or_number) {
            self.facts.reported_cost = Some(cost);
        }
    }

    fn choices(&mut self, choices: Json<'_>) {
        for (position, choice) in (0..).zip(choices.items()) {
            self.choice(choice, position);
        }
    }

    fn choice(&mut self, choice: Json<'_>, position: u64) {
        let index = choice.get("index").and_then(Json::u64).unwrap_or(position);
        self.news |= self.state.begin(index);
        for entry in choice.entries().map_while(Result::ok) {
            let value = entry.value;
            match &*entry.key {
                b"delta" | b"message" => self.message(value, index, *entry.key == *b"message"),
                b"text" => self.text += written(value),
                b"finish_reason" => self.finish(value, index),
                b"usage" => self.usage(Some(value)),
                _ => {},
            }
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

    fn message(&mut self, message: Json<'_>, choice: u64, whole: bool) {
        for entry in message.entries().map_while(Result::ok) {
            let value = entry.value;
            match &*entry.key {
                b"content" | b"refusal" | b"reasoning_content" | b"reasoning" => {
                    self.text += written(value);
                },
                b"audio" => self.text += value.get("transcript").map(written).unwrap_or_default(),
                b"tool_calls" => self.calls(value, choice, whole),
                b"function_call" if value.is_object() => self.function(value, (choice, 0), None),
                _ => {},
            }
        }
    }

    fn calls(&mut self, calls: Json<'_>, choice: u64, whole: bool) {
        for (position, call) in (0..).zip(calls.items()) {
            let at = self.place(call, choice, position, whole);
            let id = call.get("id").and_then(Json::name);
            if let Some(function) = call.get("function").or_else(|| call.get("custom")) {
                self.function(function, (choice, at), id);
            }
        }
    }

    /// The position of a call among those of its choice. Pieces in a stream carry it; where a
    /// server leaves it out, a new id begins a new call.
    fn place(&self, call: Json<'_>, choice: u64, position: u64, whole: bool) -> u64 {
        let index = call.get("index").and_then(Json::u64);
        if whole {
            return position;
        }
        index.unwrap_or_else(|| {
            let last = self.state.last_call(choice);
            let has_id = call.get("id").and_then(Json::name).is_some();
            match last {
                Some(last) if has_id => last + 1,
                Some(last) => last,
                None => position,
            }
        })
    }

    fn function(&mut self, function: Json<'_>, place: (u64, u64), id: Option<Box<str>>) {
        let name = function.get("name").and_then(Json::name);
        let arguments = function.get("arguments").or_else(|| function.get("input"));
        self.text += arguments.map(written).unwrap_or_default();
        if id.is_some() || name.is_some() {
            self.news = true;
            self.state.call(self.facts, place, id, name);
        }
    }
}

/// The text in a field that is a string, or a list of parts that have texts.
fn written(value: Json<'_>) -> Text {
    if value.is_string() || value.is_object() {
        return value.text_bytes();
    }
    value
        .items()
        .filter_map(|part| part.get("text").or_else(|| part.get("thinking")))
        .map(Json::text_bytes)
        .sum()
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
