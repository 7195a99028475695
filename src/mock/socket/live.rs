//! Gemini's Live: a setup, then turns. What the client says while the model speaks interrupts it; a
//! failure closes the socket. With the setup as it comes, silence after speech is answered.

use serde_json::{Map, Value, json};

use super::{
    Desk, Dialogue,
    outbox::Outbox,
    sound::{self, Ear},
};
use crate::mock::{
    conversation::str_at,
    gemini::{self, field},
    json::{Json, Members, object},
    problem::Problem,
};

/// What was said in one socket.
#[derive(Default)]
pub(super) struct Live {
    model: String,
    /// What was set up, and `contents`: all that was said.
    body: Map<String, Value>,
    contents: Vec<Value>,
    /// Tokens of audio in it.
    heard: u64,
    ear: Ear,
    /// What the turn that is under way has used.
    running: Option<Json>,
}

impl Dialogue for Live {
    fn hear(&mut self, message: &Value, desk: &mut Desk, out: &mut Outbox) {
        let mut answers = false;
        if let Some(setup) = field(message, "setup") {
            self.model = desk.model(
                str_at(setup, "model")
                    .rsplit('/')
                    .next()
                    .unwrap_or_default(),
            );
            self.body = setup.as_object().cloned().unwrap_or_default();
            out.say(&object! {"setupComplete": object! {"sessionId": "mock"}});
        } else if self.model.is_empty() {
            return out.close(1007, "The first message must be a setup.");
        } else if let Some(content) = field(message, "clientContent") {
            match field(content, "turns") {
                Some(Value::Array(turns)) => self.contents.extend(turns.iter().cloned()),
                Some(turn) => self.contents.push(turn.clone()),
                None => {},
            }
            answers = field(content, "turnComplete").and_then(Value::as_bool) == Some(true);
        } else if let Some(input) = field(message, "realtimeInput") {
            answers = self.listen(input);
        } else if let Some(response) = field(message, "toolResponse") {
            let results = field(response, "functionResponses")
                .cloned()
                .unwrap_or_default();
            let parts = results.as_array().into_iter().flatten();
            let parts = parts.map(|result| json!({"functionResponse": result}));
            let parts: Vec<Value> = parts.collect();
            self.contents.push(json!({"role": "user", "parts": parts}));
            answers = true;
        }
        if answers && let Err(problem) = self.respond(desk, out) {
            out.close(1011, &problem.message);
        }
    }
}

impl Live {
    /// Hears, sees and reads. Whether that is to be answered.
    fn listen(&mut self, input: &Value) -> bool {
        let text = field(input, "text").and_then(Value::as_str);
        if let Some(text) = text {
            self.contents.push(user(text));
        }
        let audio = field(input, "audio").map(|audio| str_at(audio, "data"));
        let spoken = audio.is_some_and(|audio| self.ear.hear(audio));
        let ends = ["activityEnd", "audioStreamEnd"];
        if spoken || ends.iter().any(|key| field(input, key).is_some()) {
            let tokens = self.ear.commit();
            self.heard += tokens;
            self.contents.push(user(""));
            return tokens > 0 || field(input, "activityEnd").is_some();
        }
        text.is_some()
    }

    fn respond(&mut self, desk: &mut Desk, out: &mut Outbox) -> Result<(), Problem> {
        if let Some(usage) = self.running.take().filter(|_| out.is_busy()) {
            out.cancel();
            out.say(&object! {"serverContent": object! {"interrupted": true}});
            let ends = object! {"turnComplete": true};
            out.say(&object! {"serverContent": ends, "usageMetadata": usage});
        }
        let mut body = Value::Object(self.body.clone());
        if let Some(body) = body.as_object_mut() {
            body.insert("contents".to_owned(), self.contents.clone().into());
        }
        let asked = gemini::read(&body, &self.model)?;
        let config = field(&body, "generationConfig").unwrap_or(&Value::Null);
        let spoken = field(config, "responseModalities")
            .is_none_or(|modalities| modalities.to_string().contains("AUDIO"));
        let transcribed = field(&body, "outputAudioTranscription").is_some();
        let heard = self.heard;
        let (written, behaviour) = desk.answer(&asked, |ask| {
            let mut messages = Vec::new();
            for piece in &ask.said.pieces {
                let part = if spoken {
                    let audio =
                        object! {"mimeType": "audio/pcm;rate=24000", "data": sound::speak(piece)};
                    object! {"inlineData": audio}
                } else {
                    object! {"text": piece}
                };
                let turn = object! {"modelTurn": object! {"role": "model", "parts": [part]}};
                messages.push(object! {"serverContent": turn});
                if spoken && transcribed {
                    let text = object! {"outputTranscription": object! {"text": piece}};
                    messages.push(object! {"serverContent": text});
                }
            }
            let usage = ask.counts().map(|counts| {
                let wanted = ask.behaviour.answer.usage;
                let audio = wanted.input.map_or(heard, |input| heard.min(input));
                let text = wanted.input.map_or(counts.input, |input| input - audio);
                usage(
                    [text, audio, counts.cached, counts.reasoning, counts.output],
                    spoken,
                )
            });
            let mut said = vec![json!({"text": ask.said.text()})];
            let mut calls = Vec::new();
            for (name, arguments) in &ask.said.calls {
                let id = ask.ids.make("", 16);
                let args: Value = serde_json::from_str(arguments).unwrap_or_default();
                let call = json!({"id": id, "name": name, "args": args});
                said.push(json!({"functionCall": call}));
                calls.push(call);
            }
            if calls.is_empty() {
                messages.push(object! {"serverContent": object! {"generationComplete": true}});
                let mut last = Members::new();
                last.put("serverContent", &object! {"turnComplete": true});
                if let Some(usage) = &usage {
                    last.put("usageMetadata", usage);
                }
                messages.push(last.close());
            } else {
                // The turn goes on with the tools' results.
                messages.push(object! {"toolCall": object! {"functionCalls": calls}});
            }
            (messages, usage, json!({"role": "model", "parts": said}))
        })?;
        let (mut messages, usage, turn) = written;
        self.contents.push(turn);
        self.running = usage;
        let fails = behaviour.answer.stream_error;
        messages.truncate(fails.unwrap_or(usize::MAX));
        out.respond(&messages, &behaviour);
        if fails.is_some() {
            out.close(
                1011,
                "The mock was asked to fail in the middle of the turn.",
            );
        }
        Ok(())
    }
}

fn user(text: &str) -> Value {
    json!({"role": "user", "parts": [{"text": text}]})
}

/// What a turn has used: text and audio that came in, how much of them was cached, thoughts, and all
/// that was made.
fn usage([text, audio, cached, thoughts, output]: [u64; 5], spoken: bool) -> Json {
    let input = text.saturating_add(audio);
    let detail = |modality: &str, count: u64| object! {"modality": modality, "tokenCount": count};
    let mut heard = vec![detail("TEXT", text)];
    if audio > 0 {
        heard.push(detail("AUDIO", audio));
    }
    let answer = output.saturating_sub(thoughts);
    let said = detail(if spoken { "AUDIO" } else { "TEXT" }, answer);
    let mut members = Members::new()
        .with("promptTokenCount", &input)
        .with("responseTokenCount", &answer)
        .with("totalTokenCount", &input.saturating_add(output))
        .with("promptTokensDetails", &heard)
        .with("responseTokensDetails", &[said]);
    if cached > 0 {
        members.put("cachedContentTokenCount", &cached);
    }
    if thoughts > 0 {
        members.put("thoughtsTokenCount", &thoughts);
    }
    members.close()
}
