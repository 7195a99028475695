//! Answers of Cohere's API: whole ones, and events of streams.

use super::{operations, usage};
use crate::{
    call::{
        facts::{ErrorFacts, Operation, ResponseFacts},
        text::Text,
        usage::Usage,
    },
    provider::{
        dialect::Event,
        state::{Open, StreamState},
        wire::json::{Ahead, Json, Unreadable},
    },
};

/// The longest message that is kept, in bytes.
const MAX_MESSAGE: usize = 4096;

/// Reads a whole answer, or an event of a stream.
pub(super) fn read(
    op: &Operation,
    event: &Event<'_>,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    if !event.whole && event.data.starts_with(b"[DONE]") {
        facts.complete = true;
        return Ok(());
    }
    let mut found = Found {
        whole: event.whole,
        kind: event.name.map(Box::from),
        ..Found::default()
    };
    Json::document(&event.data).object(|key, value| found.field(key, value))?;
    found.give(op, facts, state);
    Ok(())
}

/// Whether an event that was not read whole may bring text: what ends a stream, or its calls, says
/// again what came before; others bring what was looked up.
pub(super) fn may_write(event: &Event<'_>) -> bool {
    let mut kind = event.name.map(Box::from);
    let mut is_last = false;
    let read = Json::document(&event.data).object(|key, value| match key {
        b"type" | b"event_type" => kind = value.take().name().or_else(|| kind.take()),
        b"is_finished" => is_last = value.take().is_true(),
        _ => {},
    });
    let kind = kind.unwrap_or_default();
    let is_none = kind.ends_with("-end")
        || kind.starts_with("citation-")
        || kind.starts_with("search-")
        || &*kind == "tool-calls-generation";
    read.is_err() || !(is_last || is_none)
}

/// Where a content block, or a tool call, stands among all that is open: they are numbered apart.
pub(super) const fn place(index: u64, is_call: bool) -> u64 {
    index.saturating_mul(2).saturating_add(is_call as u64)
}

/// What an event says. It is kept until all of it is read, for its kind may come last.
#[derive(Default)]
struct Found {
    whole: bool,
    kind: Option<Box<str>>,
    id: Option<Box<str>>,
    index: Option<u64>,
    text: Text,
    /// Choices, and why each ended.
    reasons: Vec<(u64, Box<str>)>,
    calls: Vec<Call>,
    usage: Usage,
    error: Option<Box<str>>,
    error_kind: Option<Box<str>>,
    finished: bool,
}

/// A tool call, or a piece of one.
struct Call {
    position: u64,
    id: Option<Box<str>>,
    name: Option<Box<str>>,
}

impl Found {
    fn field(&mut self, key: &[u8], value: Ahead<'_, '_>) {
        match key {
            b"type" | b"event_type" => {
                let kind = value.take().name();
                self.error_kind.clone_from(&kind);
                self.kind = kind.or_else(|| self.kind.take());
            },
            b"id" | b"response_id" => self.id = value.take().name().or_else(|| self.id.take()),
            b"index" => self.index = value.take().u64(),
            b"text" => self.text += value.count(),
            b"message" if value.is_string() => {
                self.error = value.take().text_up_to(MAX_MESSAGE);
            },
            b"message" => self.message(value),
            b"delta" => {
                value.object(|key, value| self.delta(key, value));
            },
            b"response" => {
                value.object(|key, value| self.response(key, value));
            },
            b"is_finished" => self.finished = value.take().is_true(),
            b"generations" => self.generations(value, true),
            b"tool_calls" => {
                let whole = self.whole;
                self.calls(value, whole);
            },
            b"tool_call_delta" => {
                value.object(|key, value| {
                    if key == b"parameters" {
                        self.text += value.count();
                    }
                });
            },
            b"finish_reason" | b"usage" | b"meta" => self.delta(key, value),
            _ => {},
        }
    }

    /// What comes with an event of version 2, and stands by itself in whole answers.
    fn delta(&mut self, key: &[u8], value: Ahead<'_, '_>) {
        match key {
            b"message" => self.message(value),
            b"finish_reason" => {
                let reason = value.take().name();
                self.reasons.extend(reason.map(|reason| (0, reason)));
            },
            b"usage" | b"meta" => self.usage.update(&usage::read(value)),
            b"error" => self.error = value.take().text_up_to(MAX_MESSAGE),
            _ => {},
        }
    }

    /// The whole answer that ends a stream of version 1: its text came before.
    fn response(&mut self, key: &[u8], value: Ahead<'_, '_>) {
        match key {
            b"id" | b"response_id" => self.id = value.take().name(),
            b"meta" => self.usage.update(&usage::read(value)),
            b"tool_calls" => self.calls(value, false),
            b"generations" => self.generations(value, false),
            _ => {},
        }
    }

    fn generations(&mut self, list: Ahead<'_, '_>, counts: bool) {
        let mut positions = 0..;
        list.items(|generation| {
            let position = positions.next().unwrap_or(u64::MAX);
            generation.object(|key, value| match key {
                b"text" if counts => self.text += value.count(),
                b"finish_reason" => {
                    let reason = value.take().name();
                    self.reasons.extend(reason.map(|reason| (position, reason)));
                },
                _ => {},
            });
        });
    }

    fn message(&mut self, message: Ahead<'_, '_>) {
        message.object(|key, value| match key {
            b"content" => self.content(value),
            b"tool_plan" => self.text += value.count(),
            b"tool_calls" => self.calls(value, true),
            _ => {},
        });
    }

    fn content(&mut self, content: Ahead<'_, '_>) {
        let mut part = |part: Ahead<'_, '_>| {
            part.object(|key, value| {
                if matches!(key, b"text" | b"thinking") && value.is_string() {
                    self.text += value.count();
                }
            });
        };
        if content.is_object() {
            part(content);
        } else {
            content.items(part);
        }
    }

    /// A list of calls, or the one that an event is about. `counts`: what they are called with has
    /// not been read before.
    fn calls(&mut self, calls: Ahead<'_, '_>, counts: bool) {
        if calls.is_object() {
            self.call(calls, None, counts);
            return;
        }
        let mut positions = 0..;
        calls.items(|call| {
            let position = positions.next().unwrap_or(u64::MAX);
            self.call(call, Some(position), counts);
        });
    }

    fn call(&mut self, call: Ahead<'_, '_>, position: Option<u64>, counts: bool) {
        let (mut id, mut name, mut written) = (None, None, Text::default());
        call.object(|key, value| match key {
            b"id" => id = value.take().name(),
            b"name" => name = value.take().name(),
            b"parameters" => written += value.count(),
            b"function" => {
                value.object(|key, value| match key {
                    b"name" => name = value.take().name(),
                    b"arguments" => written += value.count(),
                    _ => {},
                });
            },
            _ => {},
        });
        if counts {
            self.text += written;
        }
        if id.is_some() || name.is_some() {
            self.calls.push(Call {
                // The event's own index may follow.
                position: position.unwrap_or(u64::MAX),
                id,
                name,
            });
        }
    }

    fn give(self, op: &Operation, facts: &mut ResponseFacts, state: &mut StreamState) {
        let index = self.index.unwrap_or(0);
        let kind = self.kind.as_deref().filter(|_| !self.whole);
        match kind {
            Some("content-start") => state.begin_with(open(place(index, false), "content")),
            Some("content-end") => state.end(place(index, false)),
            Some("tool-call-start") => state.begin_with(open(place(index, true), "tool-call")),
            Some("tool-call-end") => state.end(place(index, true)),
            _ => {},
        }
        for call in self.calls {
            let position = if call.position == u64::MAX {
                index
            } else {
                call.position
            };
            state.call(facts, (0, position), call.id, call.name);
        }
        facts.output_bytes += self.text;
        facts.usage.update(&self.usage);
        if !operations::writes(op) && facts.usage.input.is_some() {
            facts.usage.output = Some(0);
        }
        let ends = matches!(kind, Some("message-end" | "stream-end"));
        let reasons = &self.reasons;
        for (choice, reason) in reasons {
            state.finish(facts, *choice, reason);
        }
        if let Some(message) = self.error {
            facts.error = Some(ErrorFacts {
                kind: self.error_kind.filter(|_| self.whole),
                code: None,
                message: Some(message),
            });
        } else if self.id.is_some() {
            // Events of a text of several have ids of their own; the answer's comes first or last.
            facts.id = self.id;
        }
        facts.complete |= self.whole || ends || self.finished;
    }
}

fn open(index: u64, kind: &str) -> Open {
    Open {
        index,
        kind: Box::from(kind),
        ..Open::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(op: &Operation, body: &str) -> ResponseFacts {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        read(op, &Event::body(body.as_bytes()), &mut facts, &mut state).unwrap();
        facts
    }

    #[test]
    fn several_texts_each_have_a_reason() {
        let facts = whole(
            &operations::GENERATE,
            r#"{"id":"g1","generations":[{"id":"a","text":"one","finish_reason":"COMPLETE"},
            {"id":"b","text":"three","finish_reason":"MAX_TOKENS"}],
            "meta":{"billed_units":{"input_tokens":1,"output_tokens":2}}}"#,
        );
        assert_eq!(facts.id.as_deref(), Some("g1"));
        let reasons = [Box::from("COMPLETE"), Box::from("MAX_TOKENS")];
        assert_eq!(facts.finish_reasons, reasons);
        assert_eq!(facts.output_bytes.bytes, 8);
        assert_eq!(facts.usage, Usage::text(1, 2));
    }

    #[test]
    fn an_error_has_a_message_and_no_answer() {
        let facts = whole(
            &operations::CHAT,
            r#"{"id":"e1","message":"no such model"}"#,
        );
        let error = facts.error.unwrap();
        assert_eq!(error.message.as_deref(), Some("no such model"));
        assert_eq!((error.kind, facts.id), (None, None));
    }

    #[test]
    fn what_does_not_write_has_no_output() {
        let body = r#"{"id":"e","embeddings":{"float":[[0.1]]},"meta":{"billed_units":{"input_tokens":4}}}"#;
        assert_eq!(whole(&operations::EMBED, body).usage, Usage::text(4, 0));
        let body = r#"{"id":"r","results":[],"meta":{"billed_units":{"search_units":1}}}"#;
        let expected = Usage {
            search_units: Some(1),
            ..Usage::NONE
        };
        assert_eq!(whole(&operations::RERANK, body).usage, expected);
    }
}
