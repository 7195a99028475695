//! One response of Realtime's: its events, and what it has used.

use std::borrow::Cow;

use serde_json::Value;

use super::{super::sound, event};
use crate::mock::{
    answer::Ask,
    chat::halves,
    conversation::Turn,
    json::{Json, Members, object, value},
    script::Finish,
};

/// What a response has used.
#[derive(Clone, Copy)]
pub(super) struct Usage {
    pub(super) text: u64,
    pub(super) audio: u64,
    pub(super) cached: u64,
    pub(super) output: u64,
    pub(super) spoken: bool,
}

impl Usage {
    /// As the provider reports it. Of what is spoken a quarter is text, its transcript.
    pub(super) fn told(self) -> Json {
        let input = self.text + self.audio;
        let text_cached = self.cached.min(self.text);
        let text_said = if self.spoken {
            self.output / 4
        } else {
            self.output
        };
        object! {
            "total_tokens": input.saturating_add(self.output),
            "input_tokens": input,
            "output_tokens": self.output,
            "input_token_details": object! {
                "text_tokens": self.text,
                "audio_tokens": self.audio,
                "image_tokens": 0,
                "cached_tokens": self.cached,
                "cached_tokens_details": object! {
                    "text_tokens": text_cached,
                    "audio_tokens": self.cached - text_cached,
                    "image_tokens": 0,
                },
            },
            "output_token_details": object! {
                "text_tokens": text_said,
                "audio_tokens": self.output - text_said,
            },
        }
    }
}

/// One response on its way to the wire.
pub(super) struct Answer<'a, 'b> {
    pub(super) id: String,
    pub(super) ask: &'a mut Ask<'b>,
    pub(super) usage: Usage,
    pub(super) modalities: &'a Value,
    pub(super) metadata: Option<&'a Value>,
}

impl Answer<'_, '_> {
    /// The events, and what they add to the conversation.
    pub(super) fn write(&mut self) -> (Vec<Json>, Vec<Turn>) {
        let said = self.ask.said;
        let (mut events, mut turns, mut items) = (Vec::new(), Vec::new(), Vec::new());
        let running = self.response("in_progress", &[]);
        events.push(
            self.event("response.created")
                .with("response", &running)
                .close(),
        );
        if !said.pieces.is_empty() || said.calls.is_empty() {
            items.push(self.say(&mut events));
            turns.push(Turn::Assistant(said.text()));
        }
        for (name, arguments) in &said.calls {
            let id = self.ask.ids.make("call_", 16);
            items.push(self.call(&mut events, items.len(), [&id, name, arguments]));
            let (name, arguments) = (name.clone(), arguments.clone());
            turns.push(Turn::Call {
                id,
                name,
                arguments,
            });
        }
        let mut status = match said.finish {
            Finish::Stop | Finish::Calls => "completed",
            Finish::Length => "incomplete",
        };
        if let Some(after) = self.ask.behaviour.answer.stream_error {
            events.truncate(after);
            status = "failed";
        }
        let done = self.response(status, &items);
        events.push(self.event("response.done").with("response", &done).close());
        (events, turns)
    }

    fn event(&mut self, kind: &str) -> Members {
        event(kind, self.ask.ids)
    }

    /// The response in this status; only an ended one has output and usage.
    fn response(&self, status: &str, items: &[Json]) -> Json {
        let details = match status {
            "incomplete" => Some(object! {"type": "incomplete", "reason": "max_output_tokens"}),
            "failed" => {
                let code = self.ask.behaviour.code.as_deref();
                let message = "The mock was asked to fail in the middle of the response.";
                let error = object! {"type": "server_error", "code": code, "message": message};
                Some(object! {"type": "failed", "error": error})
            },
            _ => None,
        };
        let ended = !["in_progress", "failed"].contains(&status);
        let usage = ended && !self.ask.behaviour.answer.usage.absent;
        Members::new()
            .with("object", &"realtime.response")
            .with("id", &self.id)
            .with("status", &status)
            .with("status_details", &details)
            .with("output", &items)
            .with("conversation_id", &"conv_mock")
            .with("output_modalities", self.modalities)
            .with(
                "max_output_tokens",
                &match self.ask.asked.max_tokens {
                    Some(limit) => value(&limit),
                    None => value("inf"),
                },
            )
            .with("usage", &usage.then(|| self.usage.told()))
            .with("metadata", &self.metadata)
            .close()
    }

    /// Begins an event of an item.
    fn within(&mut self, kind: &str, item: &str, at: usize) -> Members {
        let id = self.id.clone();
        let event = self.event(kind).with("response_id", &id);
        event.with("item_id", &item).with("output_index", &at)
    }

    /// The events around an item: it is added, in the response and in the conversation, or done.
    fn frame(&mut self, events: &mut Vec<Json>, at: usize, item: &Json, done: bool) {
        let word = if done { "done" } else { "added" };
        let id = self.id.clone();
        let in_response = self.event(&format!("response.output_item.{word}"));
        let in_response = in_response
            .with("response_id", &id)
            .with("output_index", &at);
        events.push(in_response.with("item", item).close());
        let added = self.event(&format!("conversation.item.{word}"));
        events.push(
            added
                .with("previous_item_id", &())
                .with("item", item)
                .close(),
        );
    }

    /// A message: read aloud with its transcript, or in text.
    fn say(&mut self, events: &mut Vec<Json>) -> Json {
        let (said, spoken) = (self.ask.said, self.usage.spoken);
        let id = self.ask.ids.make("item_", 21);
        let message = |status: &str, content: &[Json]| {
            object! {
                "id": id, "object": "realtime.item", "type": "message", "status": status,
                "role": "assistant", "content": content,
            }
        };
        self.frame(events, 0, &message("in_progress", &[]), false);
        let part = |kind: &str, text: &str| {
            let key = if spoken { "transcript" } else { "text" };
            Members::new().with("type", &kind).with(key, &text).close()
        };
        let short = if spoken { "audio" } else { "text" };
        let begins = self.within("response.content_part.added", &id, 0);
        events.push(
            begins
                .with("content_index", &0)
                .with("part", &part(short, ""))
                .close(),
        );
        let name = if spoken {
            "output_audio_transcript"
        } else {
            "output_text"
        };
        for piece in &said.pieces {
            let delta = self.within(&format!("response.{name}.delta"), &id, 0);
            events.push(delta.with("content_index", &0).with("delta", piece).close());
            if spoken {
                let delta = self.within("response.output_audio.delta", &id, 0);
                let audio = sound::speak(piece);
                events.push(
                    delta
                        .with("content_index", &0)
                        .with("delta", &audio)
                        .close(),
                );
            }
        }
        let text = said.text();
        if spoken {
            let done = self.within("response.output_audio.done", &id, 0);
            events.push(done.with("content_index", &0).close());
        }
        let key = if spoken { "transcript" } else { "text" };
        let done = self.within(&format!("response.{name}.done"), &id, 0);
        events.push(done.with("content_index", &0).with(key, &text).close());
        let done = self.within("response.content_part.done", &id, 0);
        events.push(
            done.with("content_index", &0)
                .with("part", &part(short, &text))
                .close(),
        );
        let long: Cow<'_, str> = format!("output_{short}").into();
        let item = message("completed", &[part(&long, &text)]);
        self.frame(events, 0, &item, true);
        item
    }

    /// A tool call.
    fn call(&mut self, events: &mut Vec<Json>, at: usize, call: [&str; 3]) -> Json {
        let [call_id, name, arguments] = call;
        let id = self.ask.ids.make("item_", 21);
        let item = |status: &str, arguments: &str| {
            object! {
                "id": id, "object": "realtime.item", "type": "function_call", "status": status,
                "call_id": call_id, "name": name, "arguments": arguments,
            }
        };
        self.frame(events, at, &item("in_progress", ""), false);
        for part in halves(arguments) {
            let delta = self.within("response.function_call_arguments.delta", &id, at);
            events.push(delta.with("call_id", &call_id).with("delta", &part).close());
        }
        let done = self.within("response.function_call_arguments.done", &id, at);
        let done = done.with("call_id", &call_id).with("name", &name);
        events.push(done.with("arguments", &arguments).close());
        let item = item("completed", arguments);
        self.frame(events, at, &item, true);
        item
    }
}
