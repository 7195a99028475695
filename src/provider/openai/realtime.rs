//! The sockets of the Realtime API. Responses are told apart by their ids: several may be under way,
//! and with voice detection the provider begins them by itself.

use bytes::Bytes;
use serde_json::json;

use super::{endings, fault, input, operations, request, responses};
use crate::{
    call::{
        facts::{InputSize, Operation, RequestFacts, ResponseFacts},
        refusal::Refusal,
        text::Text,
    },
    provider::{
        socket::{Heard, Said, Session, Socket},
        state::StreamState,
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
        let named = query.and_then(|query| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            // Azure has deployments.
            let mut names = pairs.filter(|(key, _)| ["model", "deployment"].contains(key));
            names.next().and_then(|(_, name)| percent::name(name))
        });
        session.defaults.stream = true;
        session.defaults.model = named.or_else(|| operations::deployment(path));
    }

    fn hear(&self, message: &[u8], session: &mut Session) -> Heard {
        let fields = Fields::read(message);
        match fields.kind.as_deref().unwrap_or_default() {
            "input_audio_buffer.append" => {
                let bytes = fields.audio.and_then(inline_bytes).unwrap_or(0);
                session.add(audio(bytes));
            },
            "conversation.item.create" => {
                if let Some(item) = fields.item {
                    session.add(item_size(item));
                }
            },
            "session.update" => {
                if let Some(update) = fields.session {
                    session.add(text(update.text()));
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
                if let Some(told) = fields.session {
                    read_session(told, session);
                }
                Said::Nothing
            },
            "response.created" => Said::Begins(id()),
            "response.done" => Said::Ends(id()),
            "error" => {
                let tag = fields.error.and_then(|error| error.get("event_id"));
                Said::Fails {
                    tag: tag.and_then(Json::name),
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
    let own = response.get("input").is_some();
    let apart = response.get("conversation").and_then(Json::str);
    session.strays |= own || apart.as_deref() == Some("none");
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
    defaults.model = defaults
        .model
        .take()
        .or_else(|| told.get("model").and_then(Json::name));
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
    item: Option<Json<'a>>,
    audio: Option<Json<'a>>,
    error: Option<Json<'a>>,
    usage: bool,
}

impl<'a> Fields<'a> {
    /// What could be read of it.
    fn read(message: &'a [u8]) -> Self {
        let mut found = Self::default();
        let read = Json::document(message).object(|key, value| match key {
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
        });
        // What follows a fault was not read, and may have been the type.
        read.ok();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{call::usage::Usage, provider::wire::scan::Scanner};

    fn session() -> Session {
        let mut session = Session::default();
        let query = Some("foo=1&model=gpt%2Drealtime");
        Realtime.open("/v1/realtime", query, &mut session);
        session
    }

    fn begun(message: &str, session: &mut Session) -> (RequestFacts, Option<Box<str>>) {
        match Realtime.hear(message.as_bytes(), session) {
            Heard::Begins(request, tag) => (*request, tag),
            Heard::Nothing => panic!("{message}"),
        }
    }

    #[test]
    fn a_response_is_asked_for_with_the_session_and_all_that_was_said() {
        let mut session = session();
        for message in [
            r#"{"type":"session.update","session":{"type":"realtime","instructions":"Be brief.",
                "max_output_tokens":500,"tools":[{"type":"function","name":"f"}],
                "audio":{"input":{"transcription":{"model":"gpt-4o-transcribe"}}}}}"#,
            r#"{"type":"conversation.item.create","item":{"type":"message","role":"user",
                "content":[{"type":"input_text","text":"Hello"},
                {"type":"input_image","image_url":"data:image/png;base64,AAAA"}]}}"#,
            &format!(
                r#"{{"type":"input_audio_buffer.append","audio":"{}"}}"#,
                "A".repeat(4_000)
            ),
            "not JSON",
        ] {
            let heard = Realtime.hear(message.as_bytes(), &mut session);
            assert_eq!(heard, Heard::Nothing);
        }
        let (request, tag) = begun(
            r#"{"type":"response.create","event_id":"e1","response":{"metadata":{"user_id":"u"}}}"#,
            &mut session,
        );
        assert_eq!(tag.as_deref(), Some("e1"));
        assert_eq!(request.model.as_deref(), Some("gpt-realtime"));
        assert_eq!((request.stream, request.output_limit), (true, Some(500)));
        assert_eq!(request.tools, [Box::from("f")]);
        let input = request.input;
        assert_eq!((input.images, input.media_bytes), (1, 8));
        assert!((60..300).contains(&input.text_bytes.bytes), "{input:?}");
        let own = r#"{"type":"response.create","response":{"max_output_tokens":20}}"#;
        assert_eq!(begun(own, &mut session).0.output_limit, Some(20));
        for unlimited in [
            r#"{"max_output_tokens":"inf"}"#,
            r#"{"max_output_tokens":20,"max_response_output_tokens":"inf"}"#,
        ] {
            let own = format!(r#"{{"type":"response.create","response":{unlimited}}}"#);
            let mut scanner = Scanner::new(WANTED);
            scanner.feed(own.as_bytes());
            let reduced = String::from_utf8(scanner.finish().document).unwrap();
            for own in [own, reduced] {
                assert_eq!(begun(&own, &mut session).0.output_limit, None, "{own}");
            }
        }
        let inf = r#"{"type":"session.update","session":{"max_output_tokens":"inf"}}"#;
        Realtime.hear(inf.as_bytes(), &mut session);
        let next = begun(r#"{"type":"response.create"}"#, &mut session);
        assert_eq!(next, (session.request(), None));
        assert_eq!(next.0.output_limit, None);
        assert_eq!(session.transcriber.as_deref(), Some("gpt-4o-transcribe"));
    }

    const DONE: &str = r#"{"type":"response.done","event_id":"e","response":{"object":"realtime.response",
        "id":"resp_1","status":"incomplete","status_details":{"type":"incomplete","reason":"max_output_tokens"},
        "output":[{"id":"i","type":"function_call","call_id":"c","name":"f","arguments":"{}"}],
        "usage":{"total_tokens":370,"input_tokens":250,"output_tokens":120,
        "input_token_details":{"text_tokens":50,"audio_tokens":200,"image_tokens":0,"cached_tokens":64,
            "cached_tokens_details":{"text_tokens":14,"audio_tokens":50,"image_tokens":0}},
        "output_token_details":{"text_tokens":20,"audio_tokens":100}}}}"#;

    #[test]
    fn a_response_s_messages_are_told_apart_and_read() {
        let mut session = session();
        let created = br#"{"type":"response.created","response":{"id":"resp_1","status":"in_progress","output":[],"usage":null}}"#;
        let delta = br#"{"type":"response.output_audio_transcript.delta","response_id":"resp_1","delta":"Hello"}"#;
        let sound =
            br#"{"type":"response.output_audio.delta","response_id":"resp_1","delta":"AAAA"}"#;
        let id = || Some(Box::from("resp_1"));
        let part = || Said::Part {
            id: id(),
            begins: false,
        };
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        for (message, said) in [
            (&created[..], Said::Begins(id())),
            (delta, part()),
            (sound, part()),
        ] {
            assert_eq!(Realtime.said(message, &mut session), said);
            Realtime.read(message, &mut facts, &mut state).unwrap();
        }
        assert_eq!((facts.output_bytes.bytes, facts.complete), (5, false));
        assert!(facts.finish_reasons.is_empty());
        assert_eq!(
            Realtime.said(DONE.as_bytes(), &mut session),
            Said::Ends(id())
        );
        Realtime
            .read(DONE.as_bytes(), &mut facts, &mut state)
            .unwrap();
        let expected = Usage {
            cache_read: Some(64),
            cache_audio_read: Some(50),
            cache_image_read: Some(0),
            input_audio: Some(200),
            input_image: Some(0),
            output_audio: Some(100),
            ..Usage::text(250, 120)
        };
        assert_eq!(facts.usage, expected);
        assert_eq!(facts.id.as_deref(), Some("resp_1"));
        assert_eq!(facts.finish_reasons, [Box::from("incomplete")]);
        assert_eq!(facts.stop_detail.as_deref(), Some("max_output_tokens"));
        assert_eq!(&*facts.tool_calls[0].name, "f");
        assert!(facts.complete);
    }

    #[test]
    fn an_error_names_the_event_that_it_is_about() {
        let error = br#"{"type":"error","event_id":"x","error":{"type":"invalid_request_error","code":"c","event_id":"e9"}}"#;
        let said = Realtime.said(error, &mut session());
        let expected = Said::Fails {
            tag: Some(Box::from("e9")),
            status: None,
            ends: false,
        };
        assert_eq!(said, expected);
        assert_eq!(Realtime.said(b"{", &mut session()), Said::Nothing);
    }

    #[test]
    fn a_transcript_is_a_work_of_its_own_model() {
        let mut session = session();
        session.transcriber = Some(Box::from("gpt-4o-transcribe"));
        let message =
            br#"{"type":"conversation.item.input_audio_transcription.completed","item_id":"i",
            "transcript":"Hello","usage":{"type":"tokens","total_tokens":22,"input_tokens":13,
            "input_token_details":{"text_tokens":0,"audio_tokens":13},"output_tokens":9}}"#;
        let Said::Apart(request) = Realtime.said(message, &mut session) else {
            panic!();
        };
        assert_eq!(request.model.as_deref(), Some("gpt-4o-transcribe"));
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        Realtime.read(message, &mut facts, &mut state).unwrap();
        assert_eq!((facts.usage.total(), facts.complete), (22, true));
    }
}
