//! The sockets of the Realtime API. Responses are told apart by their ids: several may be under way,
//! and with voice detection the provider begins them by itself.

use bytes::Bytes;
use serde_json::json;

use super::{endings, fault, input, operations, request, responses};
use crate::{
    call::{
        facts::{InputSize, Operation, RequestFacts, ResponseFacts},
        refusal::Refusal,
        steps::Steps,
        text::Text,
    },
    provider::{
        socket::{Heard, Said, Session, Socket},
        state::StreamState,
        steps,
        wire::{
            json::{Json, Unreadable},
            media::inline_bytes,
            percent,
            scan::{Wanted, Wants},
        },
    },
};

/// Bytes of audio that are a token at least: the provider counts ten tokens a second of what it
/// hears, and the thinnest of its formats has 8,000 bytes a second.
const BYTES_A_TOKEN: u64 = 400;

/// What is answered as an update of the session even if it says nothing of one.
const UPDATES: [&str; 2] = ["session.update", "transcription_session.update"];

/// The Realtime API's sockets.
pub(super) struct Realtime;

const WANTED: Wanted = Wanted {
    fields: &[
        "type",
        "event_id",
        "response_id",
        "session",
        "item_id",
        "usage",
        "error",
        "status",
        "status_details",
        "id",
        "model",
        "max_output_tokens",
        "max_response_output_tokens",
        "conversation",
    ],
    within: &["response"],
};

impl Socket for Realtime {
    fn operation(&self) -> &'static Operation {
        &operations::REALTIME_RESPONSE
    }

    fn wanted(&self) -> Wants {
        Wants {
            request: WANTED,
            response: WANTED,
        }
    }

    fn open(&self, path: &str, query: Option<&str>, session: &mut Session) {
        let pairs = query.into_iter().flat_map(|query| query.split('&'));
        let named = pairs.filter_map(|pair| {
            let (key, name) = pair.split_once('=')?;
            let key = percent::decoded(key);
            // Azure has deployments, and takes names in any case.
            let names_model = ["model", "deployment"].map(|name| key.eq_ignore_ascii_case(name));
            names_model.contains(&true).then(|| percent::name(name))?
        });
        let mut named = operations::deployment(path).into_iter().chain(named);
        session.defaults.stream = true;
        session.defaults.model = named.next();
        // Which of several answers is up to the provider.
        session.defaults.hides_model =
            named.any(|name| session.defaults.model.as_ref() != Some(&name));
    }

    fn hear(&self, message: &[u8], session: &mut Session) -> Heard {
        let fields = Fields::read(message);
        let kind = fields.kind.as_deref().unwrap_or_default();
        if fields.names_session || UPDATES.contains(&kind) {
            session.update();
        }
        match kind {
            "input_audio_buffer.append" => {
                let bytes = fields.audio.and_then(inline_bytes).unwrap_or(0);
                session.add(audio(bytes));
            },
            "conversation.item.create" => {
                if let Some(item) = fields.item {
                    session.add(item_size(item));
                    session.step(|steps| item.read(|item| steps::message(item, steps)));
                }
            },
            "session.update" => {
                if let Some(update) = fields.session {
                    session.add(text(update.text()));
                    if let Some(model) = update.get("model").and_then(Json::name) {
                        session.claim(model);
                    }
                    read_session(update, session);
                }
            },
            "response.create" => {
                let request = asked(fields.response, session);
                return Heard::Begins(Box::new(request), fields.event_id);
            },
            _ => {},
        }
        Heard::Nothing
    }

    fn said(&self, message: &[u8], session: &mut Session) -> Said {
        let fields = Fields::read(message);
        let kind = fields.kind.as_deref().unwrap_or_default();
        let id = || {
            let within = fields.response.and_then(|response| response.get("id"));
            within
                .and_then(Json::name)
                .or_else(|| fields.response_id.clone())
        };
        match kind {
            "session.created" | "session.updated" => {
                if kind == "session.updated" {
                    session.answer();
                }
                if let Some(told) = fields.session {
                    if let Some(model) = told.get("model").and_then(Json::name) {
                        session.confirm(model);
                    }
                    read_session(told, session);
                }
                Said::Nothing
            },
            "transcription_session.updated" => {
                session.answer();
                Said::Nothing
            },
            "input_audio_buffer.committed" => {
                session.spoken();
                Said::Nothing
            },
            "response.created" => {
                let id = id();
                if let Some(id) = id.clone().filter(|_| fields.is_apart())
                    && session.apart.len() < Session::MOST_APART
                {
                    session.apart.push(id);
                }
                Said::Begins(id)
            },
            "response.output_item.done" => {
                let id = id();
                let is_apart = id.as_ref().is_some_and(|id| session.apart.contains(id));
                if let Some(item) = fields.item.filter(|_| !is_apart) {
                    session.step(|steps| item.read(|item| steps::message(item, steps)));
                }
                Said::Part { id, begins: false }
            },
            "response.done" => {
                let id = id();
                session.apart.retain(|apart| id.as_ref() != Some(apart));
                Said::Ends(id)
            },
            "error" => {
                let error = fields.error;
                let tag = error.and_then(|error| error.get("event_id")?.name());
                let is_refusal = error.is_some_and(|error| refuses_update(error, session));
                if is_refusal && session.refuse() && tag.is_none() {
                    // It is about no response, though there may be one without a tag.
                    return Said::Nothing;
                }
                Said::Fails {
                    tag,
                    status: None,
                    ends: false,
                }
            },
            "conversation.item.input_audio_transcription.completed" if fields.usage => {
                Said::Apart(Box::new(RequestFacts {
                    model: session.transcriber.clone(),
                    output_limit: Some(0),
                    ..RequestFacts::default()
                }))
            },
            _ if kind.starts_with("response.") => Said::Part {
                id: id(),
                begins: false,
            },
            _ => Said::Nothing,
        }
    }

    fn read(
        &self,
        message: &[u8],
        facts: &mut ResponseFacts,
        state: &mut StreamState,
    ) -> Result<(), Unreadable> {
        let (mut kind, mut delta, mut response, mut error) = (None, None, None, None);
        Json::document(message).object(|key, value| match key {
            b"type" => kind = value.take().str(),
            b"delta" => delta = Some(value.take()),
            b"response" => response = Some(value.take()),
            b"error" => error = fault::read(value),
            b"usage" => responses::read_usage(value, facts),
            _ => {},
        })?;
        let kind = kind.as_deref().unwrap_or_default();
        if let Some(response) = response.filter(|response| response.is_object()) {
            let (seen, ends) = (facts.output_bytes, kind == "response.done");
            responses::read_response(response, facts, state)?;
            facts.output_bytes = seen;
            // The session has them.
            facts.steps = None;
            read_details(response, facts);
            facts.complete |= ends;
            if !ends {
                facts.finish_reasons.clear();
            }
        } else if kind == "error" {
            facts.error = error;
        } else if kind.contains(".delta") && !kind.contains("audio.delta") {
            facts.output_bytes += delta.map(Json::text).unwrap_or_default();
        } else {
            facts.complete |= kind.ends_with("transcription.completed");
        }
        Ok(())
    }

    fn refusal(&self, refusal: &Refusal, tag: Option<&str>, request_id: &str) -> Option<Bytes> {
        let mut error = endings::fields(refusal);
        if let Some(fields) = error.as_object_mut() {
            fields.insert("event_id".to_owned(), json!(tag));
        }
        let id = format!("event_{request_id}");
        let event = json!({"type": "error", "event_id": id, "error": error});
        Some(Bytes::from(event.to_string()))
    }
}

/// Whether an error seems to be about an update of the session.
fn refuses_update(error: Json<'_>, session: &Session) -> bool {
    if let Some(param) = error.get("param").and_then(Json::str) {
        return is_of_session(param.as_bytes());
    }
    // `cannot_update_voice` comes without.
    let code = error.get("code").and_then(Json::str);
    !session.updates.voiced && code.is_some_and(|code| code.starts_with("cannot_update"))
}

/// Whether a field is the session, or seems to be in it: `session.tools[0].name`.
fn is_of_session(field: &[u8]) -> bool {
    let rest = field.strip_prefix(b"session");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"."))
}

/// Why a response did not end as it should: `status_details`, whose error stands in it.
fn read_details(response: Json<'_>, facts: &mut ResponseFacts) {
    let Some(details) = response.get("status_details") else {
        return;
    };
    facts.stop_detail = details.get("reason").and_then(Json::name);
    if let Some(error) = details.get("error") {
        facts.error = error.read(fault::read).or_else(|| facts.error.take());
    }
}

/// What a response is asked for with: what it says itself goes before the session.
fn asked(response: Option<Json<'_>>, session: &mut Session) -> RequestFacts {
    let mut asked = session.request();
    let Some(response) = response.filter(|response| response.is_object()) else {
        return asked;
    };
    take_limit(response, &mut asked.output_limit);
    session.updates.voiced |= response
        .get("voice")
        .or_else(|| response.get("audio"))
        .is_some();
    let own = response.get("input");
    if let Some(input) = own.filter(|_| session.steps().is_some()) {
        asked.steps = Steps::default();
        input.read(|input| steps::list(input, &mut asked.steps));
    }
    let apart = response.get("conversation").and_then(Json::str);
    session.strays |= own.is_some() || apart.as_deref() == Some("none");
    // The items of its own input, its instructions and tools, whatever else it holds.
    asked.input.add(list_size(response));
    let mut found = RequestFacts::default();
    if request::read_tools_and_labels(response, &mut found).is_ok() {
        if !found.tools.is_empty() {
            asked.tools = found.tools;
        }
        asked.labels = found.labels;
    }
    asked
}

/// Takes over what a session says of its responses.
fn read_session(told: Json<'_>, session: &mut Session) {
    let defaults = &mut session.defaults;
    take_limit(told, &mut defaults.output_limit);
    let mut found = RequestFacts::default();
    if request::read_tools_and_labels(told, &mut found).is_ok() && !found.tools.is_empty() {
        defaults.tools = found.tools;
    }
    let input = told.get("audio").and_then(|audio| audio.get("input"));
    let transcription = input
        .and_then(|input| input.get("transcription"))
        .or_else(|| told.get("input_audio_transcription"));
    if let Some(model) = transcription.and_then(|told| told.get("model")?.name()) {
        session.transcriber = Some(model);
    }
}

/// Takes over the limit that is told, if one is: `inf` takes it away. Which of two counts is up to
/// the provider, so that the higher one does.
fn take_limit(told: Json<'_>, limit: &mut Option<u64>) {
    let names = ["max_output_tokens", "max_response_output_tokens"];
    let told = names.into_iter().filter_map(|name| told.get(name));
    let most = told.map(Json::u64).reduce(|one, two| Some(one?.max(two?)));
    *limit = most.unwrap_or(*limit);
}

const fn text(text_bytes: Text) -> InputSize {
    InputSize {
        text_bytes,
        images: 0,
        media_bytes: 0,
        linked: 0,
        writes_cache: false,
        stored: false,
    }
}

const fn audio(bytes: u64) -> InputSize {
    InputSize {
        media_bytes: bytes.div_ceil(BYTES_A_TOKEN),
        ..text(Text::unknown(0))
    }
}

/// The size of an item of the conversation.
fn item_size(item: Json<'_>) -> InputSize {
    let mut size = InputSize::default();
    item.read(|item| {
        item.object(|key, value| match key {
            b"content" if value.is_array() => {
                value.items(|part| part_size(part.take(), &mut size));
            },
            _ => size.text_bytes += value.count(),
        })
    });
    size
}

fn part_size(part: Json<'_>, size: &mut InputSize) {
    match part.get("audio").and_then(inline_bytes) {
        Some(bytes) => size.add(audio(bytes)),
        None => part.read(|part| input::part(part, size)),
    }
}

/// The size of a response's own settings and input.
fn list_size(response: Json<'_>) -> InputSize {
    let mut size = InputSize::default();
    response.read(|response| {
        response.object(|key, value| match key {
            b"input" if value.is_array() => {
                value.items(|item| size.add(item_size(item.take())));
            },
            _ => size.text_bytes += value.count(),
        })
    });
    size
}

/// The fields of a message that matter.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<Box<str>>,
    event_id: Option<Box<str>>,
    response_id: Option<Box<str>>,
    response: Option<Json<'a>>,
    session: Option<Json<'a>>,
    /// Some field is as an error names those of a session.
    names_session: bool,
    item: Option<Json<'a>>,
    audio: Option<Json<'a>>,
    error: Option<Json<'a>>,
    usage: bool,
}

impl<'a> Fields<'a> {
    /// Whether the response is not of the conversation.
    fn is_apart(&self) -> bool {
        let conversation = |response: Json<'a>| response.get("conversation_id");
        self.response
            .and_then(conversation)
            .is_some_and(Json::is_null)
    }

    /// What could be read of it.
    fn read(message: &'a [u8]) -> Self {
        let mut found = Self::default();
        let read = Json::document(message).object(|key, value| {
            found.names_session |= is_of_session(key);
            match key {
                b"type" => found.kind = value.take().name(),
                b"event_id" => found.event_id = value.take().name(),
                b"response_id" => found.response_id = value.take().name(),
                b"response" => found.response = Some(value.take()),
                b"session" => found.session = Some(value.take()),
                b"item" => found.item = Some(value.take()),
                b"audio" => found.audio = Some(value.take()),
                b"error" => found.error = Some(value.take()),
                b"usage" => found.usage = value.is_object(),
                _ => {},
            }
        });
        // What follows a fault was not read, and may have been the type.
        read.ok();
        found
    }
}

#[cfg(test)]
mod tests;
