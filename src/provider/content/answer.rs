//! What a model answers: documents, and streams put together. The dialects' forms do not get in each
//! other's way, so that one reading knows all of them, whatever the operation.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    super::wire::json::{Ahead, Json},
    draft::{Draft, Kind},
    piece::{content, delta, gemini, item, message, put_at, put_calls},
    text::{text, words},
};
use crate::call::json_path::JsonPath;

/// The most choices of one answer; the rest is left out.
const MAX_CHOICES: usize = 128;

/// How deep an event's own wrappings are entered.
const MAX_DEPTH: u8 = 4;

/// An answer so far.
#[derive(Default)]
pub(super) struct Answer<'p> {
    /// What is not read of documents within documents.
    hidden: &'p [JsonPath],
    choices: BTreeMap<u64, Draft>,
    /// Something is missing.
    pub(super) cut: bool,
}

/// What an event says of itself.
#[derive(Default)]
pub(super) struct Head {
    kind: String,
    /// The choice, block or item that it is of.
    pub(super) index: u64,
    /// The part of that.
    part: u64,
}

impl Head {
    fn read(json: Json<'_>) -> Self {
        let mut head = Self::default();
        json.read(|value| {
            value.object(|key, value| match key {
                b"type" => head.kind = text(value.take()).unwrap_or_default(),
                b"event_type" | b"object" if head.kind.is_empty() => {
                    head.kind = text(value.take()).unwrap_or_default();
                },
                b"index" | b"output_index" | b"contentBlockIndex" => {
                    head.index = value.take().u64().unwrap_or_default();
                },
                b"content_index" | b"summary_index" => {
                    head.part = value.take().u64().unwrap_or_default();
                },
                _ => {},
            })
        });
        head
    }

    /// It repeats what came before it.
    fn repeats(&self) -> bool {
        let last = self.kind.rsplit_once('.').map(|(_, last)| last);
        last == Some("done") && !self.kind.ends_with("output_item.done")
            || self.kind.starts_with("response.content_part")
    }
}

impl<'p> Answer<'p> {
    /// One of which nothing has come, and what stands at those places never will.
    pub(super) fn new(hidden: &'p [JsonPath]) -> Self {
        Self {
            hidden,
            ..Self::default()
        }
    }

    /// Takes in a document, or the data of an event.
    pub(super) fn take(&mut self, document: Json<'_>) {
        document.read(|value| self.enter(value, 0));
    }

    /// The messages, one for each choice.
    pub(super) fn finish(mut self) -> (Vec<Value>, bool) {
        self.cut |= self.choices.values().any(|draft| draft.is_full);
        let drafts = self.choices.into_values();
        (drafts.filter_map(Draft::finish).collect(), self.cut)
    }

    fn choice(&mut self, index: u64) -> Option<&mut Draft> {
        if self.choices.len() >= MAX_CHOICES && !self.choices.contains_key(&index) {
            self.cut = true;
            return None;
        }
        Some(self.choices.entry(index).or_default())
    }

    fn with(&mut self, index: u64, change: impl FnOnce(&mut Draft)) {
        if let Some(draft) = self.choice(index) {
            change(draft);
        }
    }

    fn enter(&mut self, value: Ahead<'_, '_>, depth: u8) {
        if depth > MAX_DEPTH {
            value.take();
        } else if value.is_array() {
            // Google wraps documents so, as does Hugging Face.
            value.items(|item| self.enter(item, depth + 1));
        } else {
            let json = value.take();
            let head = Head::read(json);
            json.read(|value| {
                value.object(|key, value| self.field(&head, key, value, depth));
            });
        }
    }

    fn field(&mut self, head: &Head, key: &[u8], value: Ahead<'_, '_>, depth: u8) {
        match key {
            b"choices" | b"candidates" | b"generations" | b"completions" => {
                let mut place = 0;
                value.items(|item| {
                    self.one_of(place, item);
                    place += 1;
                });
            },
            b"results" | b"outputs" => {
                value.items(|item| self.output(head, item));
            },
            b"message" if value.is_object() => self.with(0, |draft| message(draft, head, value)),
            b"delta" => self.delta(head, value),
            b"content_block" | b"start" if value.is_object() => {
                self.with(0, |draft| put_at((head.index, 0), value, draft));
            },
            b"item" if head.kind.contains("output_item") => {
                self.with(0, |draft| item(draft, head.index, value));
            },
            b"content" => self.with(0, |draft| content(draft, value)),
            b"output" => self.whole(head, value, depth),
            b"response" => self.response(head, value, depth),
            b"status" if head.kind == "response" => self.stop(value),
            b"incomplete_details" => {
                let reason = value.take().get("reason");
                self.with(0, |draft| {
                    draft.stop(reason.and_then(text));
                });
            },
            b"serverContent" | b"contentBlockDelta" | b"contentBlockStart" | b"messageStart"
            | b"messageStop" => self.enter(value, depth + 1),
            b"bytes" => self.chunk(value, depth),
            b"role" => {
                let role = text(value.take());
                self.with(0, |draft| draft.role = role);
            },
            b"modelTurn" => self.with(0, |draft| gemini(draft, value)),
            b"toolCall" => {
                value.object(|_, value| self.with(0, |draft| put_calls(draft, value)));
            },
            _ => self.words(head, key, value),
        }
    }

    /// A field that is a text.
    fn words(&mut self, head: &Head, key: &[u8], value: Ahead<'_, '_>) {
        match key {
            b"stop_reason" | b"stopReason" | b"finish_reason" | b"done_reason"
            | b"completionReason" => self.stop(value),
            // What a stream has said piece by piece is said once more at its end.
            b"generated_text" | b"text" | b"completion" | b"transcript"
                if head.repeats() || key == b"generated_text" =>
            {
                let words = words(value);
                self.with(0, |draft| {
                    if !draft.has(Kind::Text) {
                        draft.say(Kind::Text, (0, 0), &words);
                    }
                });
            },
            b"text"
            | b"completion"
            | b"generation"
            | b"outputText"
            | b"token"
            | b"outputTranscription" => {
                let words = words(value);
                self.with(0, |draft| draft.go_on(Kind::Text, &words));
            },
            b"thinking" => {
                let words = words(value);
                self.with(0, |draft| draft.go_on(Kind::Reasoning, &words));
            },
            b"tool_calls" => self.with(0, |draft| put_calls(draft, value)),
            _ => {},
        }
    }

    fn stop(&mut self, value: Ahead<'_, '_>) {
        let reason = text(value.take()).filter(|reason| !reason.is_empty());
        self.with(0, |draft| {
            // The details of it may have come before.
            let keeps = reason.as_deref() == Some("incomplete") && draft.finish.is_some();
            if !keeps {
                draft.stop(reason);
            }
        });
    }

    /// One choice, candidate or the like; `place`: where it stands in its list.
    fn one_of(&mut self, place: u64, value: Ahead<'_, '_>) {
        let json = value.take();
        let index = json.get("index").and_then(Json::u64).unwrap_or(place);
        let Some(draft) = self.choice(index) else {
            return;
        };
        json.read(|value| {
            value.object(|key, value| match key {
                b"message" | b"delta" => message(draft, &Head::default(), value),
                b"content" => {
                    let json = value.take();
                    let role = json.get("role").and_then(text);
                    draft.play(role);
                    json.read(|value| gemini(draft, value));
                },
                b"text" | b"completion" => draft.go_on(Kind::Text, &words(value)),
                b"finish_reason" | b"finishReason" => {
                    draft.stop(text(value.take()));
                },
                _ => {},
            })
        });
    }

    /// One of several results, of which all but items are said to the first choice.
    fn output(&mut self, head: &Head, value: Ahead<'_, '_>) {
        let json = value.take();
        let is_item = json.get("type").is_some_and(Json::is_string);
        if is_item {
            self.with(0, |draft| {
                let (next, _) = draft.next();
                json.read(|value| item(draft, next, value));
            });
            return;
        }
        json.read(|value| {
            value.object(|key, value| match key {
                b"generated_text" => {
                    let words = words(value);
                    self.with(0, |draft| draft.go_on(Kind::Text, &words));
                },
                _ => self.words(head, key, value),
            })
        });
    }

    /// All that was put out: the items of Responses, or Converse's message.
    fn whole(&mut self, head: &Head, value: Ahead<'_, '_>, depth: u8) {
        if value.is_array() {
            let json = value.take();
            self.with(0, |draft| {
                // At the end of a stream it may be left out, where it was said already.
                if json.read(|items| {
                    let mut any = false;
                    items.items(|_| any = true);
                    any
                }) {
                    draft.clear();
                }
                let mut place = 0;
                json.read(|items| {
                    items.items(|value| {
                        item(draft, place, value);
                        place += 1;
                    })
                });
            });
        } else if value.is_object() {
            self.enter(value, depth + 1);
        } else if value.is_string() && !head.repeats() {
            let words = words(value);
            self.with(0, |draft| draft.go_on(Kind::Text, &words));
        }
    }

    fn response(&mut self, head: &Head, value: Ahead<'_, '_>, depth: u8) {
        if value.is_string() {
            // Ollama's.
            let words = words(value);
            self.with(0, |draft| draft.go_on(Kind::Text, &words));
        } else if head.kind == "stream-end" {
            // Cohere says all of it once more.
            let reason = value.take().get("finish_reason");
            self.with(0, |draft| {
                draft.stop(reason.and_then(text));
            });
        } else {
            let json = value.take();
            let status = json
                .get("status")
                .filter(|_| head.kind != "response.created");
            json.read(|value| self.enter(value, depth + 1));
            let open = ["in_progress", "queued"];
            if let Some(status) = status
                .and_then(text)
                .filter(|status| !open.contains(&&**status))
            {
                self.with(0, |draft| {
                    if status != "incomplete" || draft.finish.is_none() {
                        draft.finish = Some(status);
                    }
                });
            }
        }
    }

    /// A piece of a stream.
    fn delta(&mut self, head: &Head, value: Ahead<'_, '_>) {
        if !value.is_string() {
            return self.with(0, |draft| delta(draft, head, value));
        }
        let kind = match &*head.kind {
            kind if kind.contains("reasoning") => Kind::Reasoning,
            kind if kind.ends_with("arguments.delta") || kind.ends_with("call_input.delta") => {
                Kind::Call
            },
            kind if kind.ends_with("text.delta")
                || kind.ends_with("transcript.delta")
                || kind.ends_with("refusal.delta") =>
            {
                Kind::Text
            },
            // Sound, pictures, the code of tools: they come whole later, or say nothing.
            _ => return,
        };
        let words = words(value);
        self.with(0, |draft| draft.say(kind, (head.index, head.part), &words));
    }

    /// Bedrock's wrapping of what a model's own stream says.
    fn chunk(&mut self, value: Ahead<'_, '_>, depth: u8) {
        let Some(inner) = value
            .take()
            .str()
            .and_then(|text| STANDARD.decode(&*text).ok())
        else {
            return;
        };
        match super::without(&inner, self.hidden) {
            Some(inner) => Json::document(&inner).read(|value| self.enter(value, depth + 1)),
            None => self.cut = true,
        }
    }
}

#[cfg(test)]
mod tests;
