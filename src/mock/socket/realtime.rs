//! OpenAI's Realtime: a conversation that lasts as long as the socket, and one response at a time.
//! With voice detection a response begins by itself once speech has ended.

mod answer;

use serde_json::{Map, Value};

use super::{
    Desk, Dialogue,
    outbox::Outbox,
    sound::{self, Ear},
};
use crate::mock::{
    answer::Ids,
    call::Call,
    conversation::{Conversation, list_at, str_at, tokens},
    json::{Json, Members, object},
    problem::{Dialect, Problem},
    responses,
};
use answer::{Answer, Usage};

/// What was said in one socket.
pub(super) struct Realtime {
    model: String,
    /// As the client set it.
    session: Map<String, Value>,
    said: Conversation,
    /// Tokens of audio in it.
    heard: u64,
    ear: Ear,
    running: Option<Running>,
}

/// The response that is under way.
struct Running {
    id: String,
    /// How many messages it has.
    messages: usize,
    usage: Usage,
}

impl Dialogue for Realtime {
    fn greet(&mut self, desk: &mut Desk, out: &mut Outbox) {
        self.model = desk.model(&self.model);
        out.say(&self.told("session.created", &mut desk.ids));
    }

    fn hear(&mut self, message: &Value, desk: &mut Desk, out: &mut Outbox) {
        if !out.is_busy() {
            self.running = None;
        }
        let heard = match str_at(message, "type") {
            "session.update" => {
                let update = message.get("session").and_then(Value::as_object);
                self.session.extend(update.cloned().unwrap_or_default());
                out.say(&self.told("session.updated", &mut desk.ids));
                Ok(())
            },
            "conversation.item.create" => {
                let item = message.get("item").cloned().unwrap_or_default();
                self.add(item, &mut desk.ids, out);
                Ok(())
            },
            "input_audio_buffer.append" => self.listen(str_at(message, "audio"), desk, out),
            "input_audio_buffer.clear" => {
                self.ear = Ear::default();
                out.say(&event("input_audio_buffer.cleared", &mut desk.ids).close());
                Ok(())
            },
            "input_audio_buffer.commit" => self.commit(desk, out),
            "response.create" => {
                self.respond(message.get("response").unwrap_or(&Value::Null), desk, out)
            },
            "response.cancel" => self.cancel(desk, out),
            other => Err(invalid(
                "invalid_value",
                format!("Invalid value: '{other}'."),
            )),
        };
        if let Err(problem) = heard {
            let told = problem.body(Dialect::OpenAi, "");
            let told: Value = serde_json::from_str(told.get()).unwrap_or_default();
            let mut error = told.get("error").cloned().unwrap_or_default();
            if let Some(error) = error.as_object_mut() {
                let tag = message.get("event_id").cloned().unwrap_or_default();
                error.insert("event_id".to_owned(), tag);
            }
            out.say(&event("error", &mut desk.ids).with("error", &error).close());
        }
    }
}

fn invalid(code: &str, message: impl Into<String>) -> Problem {
    Problem::invalid(message).code(code)
}

/// Begins an event.
fn event(kind: &str, ids: &mut Ids) -> Members {
    let id = ids.make("event_", 21);
    Members::new().with("type", &kind).with("event_id", &id)
}

impl Realtime {
    pub(super) fn new(call: &Call) -> Self {
        let query = call.target.split_once('?').map_or("", |(_, query)| query);
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut named = pairs.filter(|(key, _)| ["model", "deployment"].contains(key));
        let model = named.next().map_or("gpt-realtime", |(_, name)| name);
        Self {
            // Clients may encode what separates settings.
            model: model.replace("%3B", ";").replace("%3D", "="),
            session: Map::new(),
            said: Conversation::default(),
            heard: 0,
            ear: Ear::default(),
            running: None,
        }
    }

    /// An event with the whole session.
    fn told(&self, kind: &str, ids: &mut Ids) -> Json {
        let mut session = Members::new()
            .with("type", &"realtime")
            .with("object", &"realtime.session")
            .with("id", &"sess_mock")
            .with("model", &self.model)
            .with("output_modalities", &self.modalities(&Value::Null));
        for (key, member) in &self.session {
            if !["type", "model", "output_modalities"].contains(&key.as_str()) {
                session.put(key, member);
            }
        }
        event(kind, ids).with("session", &session.close()).close()
    }

    /// What a response is to be: audio, unless it or the session says otherwise.
    fn modalities(&self, response: &Value) -> Value {
        let key = "output_modalities";
        let told = response.get(key).or_else(|| self.session.get(key));
        told.cloned().unwrap_or_else(|| vec!["audio"].into())
    }

    /// Adds an item to the conversation.
    fn add(&mut self, item: Value, ids: &mut Ids, out: &mut Outbox) {
        let mut item = item;
        if let Some(item) = item.as_object_mut() {
            item.entry("id")
                .or_insert_with(|| ids.make("item_", 21).into());
            item.insert("object".to_owned(), "realtime.item".into());
            item.entry("status").or_insert_with(|| "completed".into());
        }
        for kind in ["conversation.item.added", "conversation.item.done"] {
            let event = event(kind, ids).with("previous_item_id", &());
            out.say(&event.with("item", &item).close());
        }
        let audio = list_at(&item, "content").iter();
        self.heard += audio
            .map(|part| sound::tokens_of(str_at(part, "audio")))
            .sum::<u64>();
        responses::add(&mut self.said, &item);
    }

    fn detection(&self, key: &str) -> Option<&Value> {
        let input = self.session.get("audio")?.get("input")?;
        input.get(key).filter(|told| !told.is_null())
    }

    /// Takes audio in; with voice detection, silence after speech is answered.
    fn listen(&mut self, audio: &str, desk: &mut Desk, out: &mut Outbox) -> Result<(), Problem> {
        let ended = self.ear.hear(audio);
        let Some(detection) = self.detection("turn_detection").filter(|_| ended) else {
            return Ok(());
        };
        let answers = detection.get("create_response") != Some(&Value::Bool(false));
        self.commit(desk, out)?;
        if answers && !out.is_busy() {
            self.respond(&Value::Null, desk, out)?;
        }
        Ok(())
    }

    /// What was heard becomes an item, which is written down if the session wants that.
    fn commit(&mut self, desk: &mut Desk, out: &mut Outbox) -> Result<(), Problem> {
        let tokens_heard = self.ear.commit();
        if tokens_heard == 0 {
            let message = "Error committing input audio buffer: buffer too small.";
            return Err(invalid("input_audio_buffer_commit_empty", message));
        }
        self.heard += tokens_heard;
        let ids = &mut desk.ids;
        let id = ids.make("item_", 21);
        let committed = event("input_audio_buffer.committed", ids);
        out.say(
            &committed
                .with("previous_item_id", &())
                .with("item_id", &id)
                .close(),
        );
        let content = serde_json::json!([{"type": "input_audio", "transcript": null}]);
        let item =
            serde_json::json!({"id": id, "type": "message", "role": "user", "content": content});
        self.add(item, ids, out);
        if self.detection("transcription").is_some() {
            let text = format!("{tokens_heard} tokens of audio.");
            let made = tokens(text.len());
            let usage = object! {
                "type": "tokens",
                "total_tokens": tokens_heard + made,
                "input_tokens": tokens_heard,
                "input_token_details": object! {"text_tokens": 0, "audio_tokens": tokens_heard},
                "output_tokens": made,
            };
            let kind = "conversation.item.input_audio_transcription.completed";
            let event = event(kind, ids)
                .with("item_id", &id)
                .with("content_index", &0);
            out.say(
                &event
                    .with("transcript", &text)
                    .with("usage", &usage)
                    .close(),
            );
        }
        Ok(())
    }

    fn respond(
        &mut self,
        response: &Value,
        desk: &mut Desk,
        out: &mut Outbox,
    ) -> Result<(), Problem> {
        if out.is_busy() {
            let code = "conversation_already_has_active_response";
            let message = "Conversation already has an active response in progress.";
            return Err(invalid(code, message));
        }
        let told = |key: &str| response.get(key).or_else(|| self.session.get(key));
        let tools = told("tools").and_then(Value::as_array);
        let mut asked = Conversation {
            model: self.model.clone(),
            tools: tools
                .into_iter()
                .flatten()
                .filter_map(responses::tool)
                .collect(),
            max_tokens: told("max_output_tokens").and_then(Value::as_u64),
            answers: 1,
            stream: true,
            ..self.said.clone()
        };
        if let Some(instructions) = told("instructions").and_then(Value::as_str) {
            asked.add_system(instructions);
        }
        let is_apart = str_at(response, "conversation") == "none";
        if let Some(input) = response.get("input").and_then(Value::as_array) {
            asked.turns.clear();
            for item in input {
                responses::add(&mut asked, item);
            }
        }
        let modalities = self.modalities(response);
        let (heard, metadata) = (self.heard, response.get("metadata"));
        let (written, behaviour) = desk.answer(&asked, |ask| {
            let wanted = ask.behaviour.answer.usage;
            let audio = wanted.input.map_or(heard, |input| heard.min(input));
            let counts = ask.counts().unwrap_or_default();
            let input = wanted.input.unwrap_or(counts.input + audio);
            let usage = Usage {
                text: input - audio,
                audio,
                cached: wanted.cached.min(input),
                output: counts.output,
                spoken: modalities.to_string().contains("audio"),
            };
            let id = ask.ids.make("resp_", 21);
            let mut answer = Answer {
                id,
                ask,
                usage,
                modalities: &modalities,
                metadata,
            };
            let (messages, turns) = answer.write();
            (answer.id, messages, turns, usage)
        })?;
        let (id, messages, turns, usage) = written;
        if !is_apart {
            self.said.turns.extend(turns);
        }
        out.respond(&messages, &behaviour);
        self.running = Some(Running {
            id,
            messages: messages.len(),
            usage,
        });
        Ok(())
    }

    /// Ends the response that is under way: what was said of it is billed.
    fn cancel(&mut self, desk: &mut Desk, out: &mut Outbox) -> Result<(), Problem> {
        let Some(running) = self.running.take() else {
            let message = "Cancellation failed: no active response found";
            return Err(invalid("response_cancel_not_active", message));
        };
        let left = u64::try_from(out.cancel()).unwrap_or(0);
        let all = u64::try_from(running.messages).unwrap_or(0).max(1);
        let mut usage = running.usage;
        usage.output = usage.output * all.saturating_sub(left) / all;
        let details = object! {"type": "cancelled", "reason": "client_cancelled"};
        let response = Members::new()
            .with("object", &"realtime.response")
            .with("id", &running.id)
            .with("status", &"cancelled")
            .with("status_details", &details)
            .with("output", &[(); 0])
            .with("usage", &usage.told())
            .close();
        out.say(
            &event("response.done", &mut desk.ids)
                .with("response", &response)
                .close(),
        );
        Ok(())
    }
}
