//! The sockets of the Live API. A turn of the model is a response: it has no id, and with voice
//! detection begins by itself.

use bytes::Bytes;

use super::{answer, operations, request};
use crate::{
    call::{
        facts::{InputSize, Operation, RequestFacts, ResponseFacts},
        refusal::Refusal,
        steps::Steps,
    },
    provider::{
        socket::{Heard, Said, Session, Socket},
        state::StreamState,
        steps,
        wire::{
            canonical::hash,
            json::{Ahead, Json, Unreadable},
            media::inline_bytes,
            scan::{Wanted, Wants},
        },
    },
};

/// Bytes of media that are a token at least: the provider counts 25 to 32 tokens a second of what
/// it hears, which has 32,000 bytes a second, and 258 an image, which has thousands.
const BYTES_A_TOKEN: u64 = 16;

/// The Live API's sockets.
pub(super) struct Live;

const WANTED: Wanted = Wanted {
    fields: &["setup", "turnComplete", "interrupted", "usageMetadata"],
    within: &["serverContent", "clientContent"],
};

impl Socket for Live {
    fn operation(&self) -> &'static Operation {
        &operations::LIVE_TURN
    }

    fn wanted(&self) -> Wants {
        Wants {
            request: WANTED,
            response: WANTED,
        }
    }

    fn open(&self, _path: &str, _query: Option<&str>, session: &mut Session) {
        session.defaults.stream = true;
        session.unasked = true;
    }

    fn hear(&self, message: &[u8], session: &mut Session) -> Heard {
        let (mut size, mut begins) = (InputSize::default(), false);
        let read = Json::document(message).object(|key, value| match &*request::spelled(key) {
            "setup" => setup(value.take(), session),
            "clientContent" => {
                let content = value.take();
                begins = content.read(|content| client_content(content, &mut size));
                session.step(|steps| content.read(|content| said_turns(content, steps)));
            },
            "realtimeInput" => {
                let input = value.take();
                begins = input.read(|input| realtime_input(input, &mut size));
                match input.get("text").filter(|_| begins) {
                    Some(text) => session.step(|steps| steps.push(steps::said(hash(text)))),
                    None if begins => session.spoken(),
                    None => {},
                }
            },
            "toolResponse" => {
                let response = value.take();
                size.text_bytes += response.text();
                session.step(|steps| response.read(|response| results(response, steps)));
                begins = true;
            },
            _ => {},
        });
        // What follows a fault was not read; the provider will not read it either.
        read.ok();
        session.add(size);
        if begins {
            session.unasked = false;
            Heard::Begins(Box::new(session.request()), None)
        } else {
            Heard::Nothing
        }
    }

    fn said(&self, message: &[u8], session: &mut Session) -> Said {
        let (mut begins, mut ends, mut is_part) = (false, false, false);
        let read = Json::document(message).object(|key, value| match &*request::spelled(key) {
            "serverContent" => {
                is_part = true;
                value.object(|key, value| match &*request::spelled(key) {
                    "modelTurn" => {
                        begins = value.is_object();
                        answers(begins, session);
                    },
                    "turnComplete" => ends = value.take().is_true(),
                    "interrupted" if value.take().is_true() => session.spoken(),
                    _ => {},
                });
            },
            "toolCall" => {
                begins = value.is_object();
                answers(begins, session);
                each_of("functionCalls", value, |call| {
                    session.step(|steps| steps::call(call, steps));
                });
            },
            "usageMetadata" => is_part |= value.is_object(),
            _ => {},
        });
        read.ok();
        session.unasked |= ends;
        match (ends, begins || is_part) {
            (true, _) => Said::Ends(None),
            (false, true) => Said::Part { id: None, begins },
            (false, false) => Said::Nothing,
        }
    }

    fn read(
        &self,
        message: &[u8],
        facts: &mut ResponseFacts,
        state: &mut StreamState,
    ) -> Result<(), Unreadable> {
        Json::document(message).object(|key, value| match &*request::spelled(key) {
            "serverContent" => server_content(value, facts, state),
            "toolCall" => {
                each_of("functionCalls", value, |call| {
                    tool_call(call, facts, state);
                });
            },
            "usageMetadata" => answer::read_usage(value, answer::Holds::Text, facts),
            _ => {},
        })
    }

    fn is_serial(&self) -> bool {
        true
    }

    /// There is no error message: the provider itself closes the socket with a reason.
    fn refusal(&self, _refusal: &Refusal, _tag: Option<&str>, _request_id: &str) -> Option<Bytes> {
        None
    }
}

/// The model begins, or goes on. Where nothing asked for its turn it answers what it heard: by default
/// nothing else tells that the user has spoken, and what was heard comes in pieces at any time, if
/// at all.
fn answers(begins: bool, session: &mut Session) {
    if begins && std::mem::take(&mut session.unasked) {
        session.spoken();
    }
}

/// Goes over the items of the list of that name.
fn each_of<'a>(name: &str, value: Ahead<'_, 'a>, mut each: impl FnMut(Ahead<'_, 'a>)) {
    value.object(|key, value| {
        if *request::spelled(key) == *name {
            value.items(&mut each);
        }
    });
}

/// Reads what the user says, and what else stands in the turns, as steps of the conversation.
fn said_turns(content: Ahead<'_, '_>, steps: &mut Steps) {
    content.object(|key, value| {
        if *request::spelled(key) == *"turns" {
            steps::list(value, steps);
        }
    });
}

/// Reads what came of calls.
fn results(response: Ahead<'_, '_>, steps: &mut Steps) {
    each_of("functionResponses", response, |result| {
        steps::result(result, steps);
    });
}

/// The first message: the model, its limits, and what it is told.
fn setup(setup: Json<'_>, session: &mut Session) {
    let mut facts = RequestFacts::default();
    request::read_body(setup, &mut facts).ok();
    let model = setup.get("model").and_then(Json::name);
    let model = model.map(|model| match model.rsplit_once('/') {
        Some((_, name)) => Box::from(name),
        None => model,
    });
    let resumes = ["sessionResumption", "session_resumption"]
        .iter()
        .find_map(|name| setup.get(name)?.get("handle")?.name());
    facts.input.stored |= resumes.is_some();
    facts.model = model;
    facts.stream = true;
    session.add(std::mem::take(&mut facts.input));
    session.strays |= resumes.is_some();
    session.defaults = facts;
    session.defaults.input.stored = resumes.is_some();
}

/// Adds the turns; whether they are all, so that the model answers.
fn client_content(content: Ahead<'_, '_>, size: &mut InputSize) -> bool {
    let mut complete = false;
    content.object(|key, value| match &*request::spelled(key) {
        "turnComplete" => complete = value.take().is_true(),
        "turns" if value.is_array() => {
            value.items(|turn| request::content(turn, size));
        },
        "turns" => request::content(value, size),
        _ => {},
    });
    complete
}

/// Adds what is heard, seen and typed; whether the model answers whatever it hears.
fn realtime_input(input: Ahead<'_, '_>, size: &mut InputSize) -> bool {
    let mut begins = false;
    input.object(|key, value| match &*request::spelled(key) {
        "audio" | "video" => blob(value.take(), size),
        "mediaChunks" => {
            value.items(|chunk| blob(chunk.take(), size));
        },
        "text" => {
            size.text_bytes += value.count();
            begins = true;
        },
        "activityEnd" => begins = true,
        _ => {},
    });
    begins
}

fn blob(blob: Json<'_>, size: &mut InputSize) {
    let bytes = blob.get("data").and_then(inline_bytes).unwrap_or(0);
    size.media_bytes += bytes.div_ceil(BYTES_A_TOKEN);
}

fn server_content(content: Ahead<'_, '_>, facts: &mut ResponseFacts, state: &mut StreamState) {
    let (mut ends, mut interrupted) = (false, false);
    content.object(|key, value| match &*request::spelled(key) {
        "modelTurn" => {
            let mut calls = Vec::new();
            value.object(|key, value| {
                if key == b"parts" {
                    value.items(|part| answer::read_part(part, &mut calls, facts, state));
                }
            });
        },
        "outputTranscription" => {
            let text = value.take().get("text");
            facts.output_bytes += text.map(Json::text).unwrap_or_default();
        },
        "turnComplete" => ends = value.take().is_true(),
        "interrupted" => interrupted = value.take().is_true(),
        _ => {},
    });
    if interrupted {
        facts.stop_detail = Some(Box::from("interrupted"));
    }
    facts.complete |= ends;
}

fn tool_call(call: Ahead<'_, '_>, facts: &mut ResponseFacts, state: &mut StreamState) {
    let (mut id, mut name) = (None, None);
    call.object(|key, value| match key {
        b"id" => id = value.take().name(),
        b"name" => name = value.take().name(),
        b"args" => facts.output_bytes += value.count(),
        _ => {},
    });
    let place = state.last_call(0).map_or(0, |last| last + 1);
    state.call(facts, (0, place), id, name);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::usage::Usage;

    fn begun(message: &str, session: &mut Session) -> Option<RequestFacts> {
        match Live.hear(message.as_bytes(), session) {
            Heard::Begins(request, None) => Some(*request),
            _ => None,
        }
    }

    const SETUP: &str = r#"{"setup":{"model":"models/gemini-3.8-live","generationConfig":{"maxOutputTokens":100,
        "responseModalities":["AUDIO"]},"systemInstruction":{"parts":[{"text":"Be brief."}]}}}"#;

    #[test]
    fn a_turn_is_asked_for_with_the_setup_and_all_that_was_said() {
        let mut session = Session::default();
        Live.open("", None, &mut session);
        assert_eq!(begun(SETUP, &mut session), None);
        let more = r#"{"client_content":{"turns":[{"role":"user","parts":[{"text":"Hello"}]}],"turn_complete":false}}"#;
        assert_eq!(begun(more, &mut session), None);
        let heard = r#"{"realtimeInput":{"audio":{"mimeType":"audio/pcm","data":"AAAAAAAAAAAAAAAAAAAAAA=="}}}"#;
        assert_eq!(begun(heard, &mut session), None);
        let last =
            r#"{"clientContent":{"turns":{"parts":[{"text":"there"}]},"turnComplete":true}}"#;
        let request = begun(last, &mut session).unwrap();
        assert_eq!(request.model.as_deref(), Some("gemini-3.8-live"));
        assert_eq!((request.stream, request.output_limit), (true, Some(100)));
        assert_eq!(request.input.media_bytes, 2);
        assert!((19..120).contains(&request.input.text_bytes.bytes));
        for message in [
            r#"{"realtimeInput":{"text":"Hi"}}"#,
            r#"{"realtimeInput":{"activityEnd":{}}}"#,
            r#"{"toolResponse":{"functionResponses":[]}}"#,
        ] {
            assert!(begun(message, &mut session).is_some(), "{message}");
        }
        assert_eq!(begun("x", &mut session), None);
    }

    #[test]
    fn calls_their_results_and_what_the_user_does_are_the_steps_of_a_session_that_is_followed() {
        let call = r#"{"toolCall":{"functionCalls":[{"id":"1","name":"f","args":{"a":1}}]}}"#;
        let result =
            r#"{"tool_response":{"function_responses":[{"id":"1","name":"f","response":{}}]}}"#;
        let follows = |follows: bool| {
            let mut session = Session::default();
            if follows {
                session.follow();
            }
            begun(
                r#"{"clientContent":{"turns":[{"role":"user","parts":[{"text":"Go"}]}]}}"#,
                &mut session,
            );
            begun(r#"{"realtimeInput":{"text":"Now"}}"#, &mut session);
            begun(r#"{"realtimeInput":{"activityEnd":{}}}"#, &mut session);
            Live.said(call.as_bytes(), &mut session);
            Live.said(br#"{"serverContent":{"interrupted":true}}"#, &mut session);
            begun(result, &mut session).unwrap().steps
        };
        let steps = follows(true);
        let tools: Vec<_> = steps.iter().map(|step| step.tool.as_deref()).collect();
        assert_eq!(tools, [None, None, None, Some("f"), None]);
        let results = steps.iter().filter(|step| step.result.is_some());
        assert_eq!(results.count(), 1);
        assert!(follows(false).is_empty());
    }

    #[test]
    fn what_the_user_says_aloud_is_one_step_before_each_turn_that_answers_it() {
        let mut session = Session::default();
        Live.open("", None, &mut session);
        session.follow();
        let call = r#"{"toolCall":{"functionCalls":[{"id":"1","name":"f","args":{}}]}}"#;
        let heard = r#"{"serverContent":{"inputTranscription":{"text":"ag"}}}"#;
        let result =
            r#"{"toolResponse":{"functionResponses":[{"id":"1","name":"f","response":{}}]}}"#;
        for _turn in 0..2 {
            for message in [heard, call, heard] {
                Live.said(message.as_bytes(), &mut session);
            }
            begun(result, &mut session);
            for message in [
                call,
                heard,
                r#"{"serverContent":{"modelTurn":{"parts":[]}}}"#,
                r#"{"serverContent":{"turnComplete":true}}"#,
            ] {
                Live.said(message.as_bytes(), &mut session);
            }
        }
        let steps = session.steps().unwrap();
        let calls: Vec<_> = steps.iter().map(|step| step.tool.is_some()).collect();
        assert_eq!(calls, [false, true, true, false, true, true]);
    }

    #[test]
    fn a_session_that_is_resumed_may_have_any_length() {
        let mut session = Session::default();
        let setup = r#"{"setup":{"model":"m","sessionResumption":{"handle":"h"}}}"#;
        begun(setup, &mut session);
        let request = begun(r#"{"clientContent":{"turnComplete":true}}"#, &mut session);
        assert!(request.unwrap().input.stored);
    }

    #[test]
    fn a_turn_s_messages_are_read_to_its_usage() {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        let mut session = Session::default();
        let part = |begins| Said::Part { id: None, begins };
        for (message, said) in [
            (r#"{"setupComplete":{}}"#, Said::Nothing),
            (
                r#"{"serverContent":{"modelTurn":{"parts":[{"inlineData":{"mimeType":"audio/pcm","data":"AAAA"}}]}}}"#,
                part(true),
            ),
            (
                r#"{"serverContent":{"outputTranscription":{"text":"Hello"}}}"#,
                part(false),
            ),
            (
                r#"{"toolCall":{"functionCalls":[{"id":"1","name":"f","args":{}}]}}"#,
                part(true),
            ),
            (
                r#"{"serverContent":{"turnComplete":true}}"#,
                Said::Ends(None),
            ),
            (
                r#"{"usageMetadata":{"promptTokenCount":30,"responseTokenCount":20,"thoughtsTokenCount":5,
                    "totalTokenCount":55,"promptTokensDetails":[{"modality":"AUDIO","tokenCount":25}],
                    "responseTokensDetails":[{"modality":"AUDIO","tokenCount":20}]}}"#,
                part(false),
            ),
        ] {
            assert_eq!(
                Live.said(message.as_bytes(), &mut session),
                said,
                "{message}"
            );
            Live.read(message.as_bytes(), &mut facts, &mut state)
                .unwrap();
        }
        let expected = Usage {
            input_audio: Some(25),
            output_audio: Some(20),
            reasoning: Some(5),
            ..Usage::text(30, 25)
        };
        assert_eq!(facts.usage, expected);
        assert_eq!(&*facts.tool_calls[0].name, "f");
        assert!(facts.complete);
    }
}
