//! The sockets of the Responses API: requests and events as over HTTP, one response after another.

use bytes::Bytes;
use serde_json::json;

use super::{WANTS, endings, operations, request, responses};
use crate::{
    call::{
        facts::{Operation, RequestFacts, ResponseFacts},
        refusal::Refusal,
    },
    provider::{
        dialect::Event,
        socket::{Heard, Said, Session, Socket},
        state::StreamState,
        wire::{
            json::{Json, Unreadable},
            scan::Wants,
        },
    },
};

/// The Responses API's sockets.
pub(super) struct Responses;

impl Socket for Responses {
    fn operation(&self) -> &'static Operation {
        &operations::RESPONSES
    }

    fn wanted(&self) -> Wants {
        let mut wants = WANTS;
        wants.request.fields = REQUEST;
        wants
    }

    fn hear(&self, message: &[u8], _session: &mut Session) -> Heard {
        if !is(message, "response.create") {
            return Heard::Nothing;
        }
        let mut facts = RequestFacts::default();
        // Where it breaks off the provider will say so.
        let read = request::read(&operations::RESPONSES, "", message, &mut facts);
        read.ok();
        facts.stream = true;
        facts.background = false;
        Heard::Begins(Box::new(facts), None)
    }

    fn said(&self, message: &[u8], _session: &mut Session) -> Said {
        let document = Json::document(message);
        let Some(kind) = document.get("type").and_then(Json::str) else {
            return Said::Nothing;
        };
        match &*kind {
            "response.created" => Said::Begins(None),
            "error" => {
                let status = document.get("status").and_then(Json::u64);
                Said::Fails {
                    tag: None,
                    status: status.and_then(|status| u16::try_from(status).ok()),
                    ends: true,
                }
            },
            kind if responses::is_last(kind) => Said::Ends(None),
            kind if kind.starts_with("response.") => Said::Part {
                id: None,
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
        responses::read(&Event::data(message), facts, state)
    }

    fn refusal(&self, refusal: &Refusal, _tag: Option<&str>, _request_id: &str) -> Option<Bytes> {
        let error = endings::fields(refusal);
        // The event of a stream has code and message a level higher.
        let event = json!({
            "type": "error",
            "status": refusal.reason.status(),
            "error": error,
            "code": error.get("code"),
            "message": refusal.message,
            "param": null,
            "sequence_number": 0,
        });
        Some(Bytes::from(event.to_string()))
    }
}

/// The fields of a request over HTTP, and what says that it is one.
const REQUEST: &[&str] = &[
    "type",
    "model",
    "max_output_tokens",
    "service_tier",
    "temperature",
    "top_p",
    "previous_response_id",
    "conversation",
    "safety_identifier",
    "user",
    "prompt_cache_key",
    "metadata",
];

fn is(message: &[u8], wanted: &str) -> bool {
    let kind = Json::document(message).get("type").and_then(Json::str);
    kind.as_deref() == Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_and_its_events_are_as_over_http() {
        let mut session = Session::default();
        let create =
            br#"{"type":"response.create","model":"gpt-4o","max_output_tokens":9,"input":"Hello"}"#;
        let Heard::Begins(request, None) = Responses.hear(create, &mut session) else {
            panic!();
        };
        assert_eq!(request.model.as_deref(), Some("gpt-4o"));
        assert_eq!((request.stream, request.output_limit), (true, Some(9)));
        let steer = br#"{"type":"response.steer","input":"Wait"}"#;
        assert_eq!(Responses.hear(steer, &mut session), Heard::Nothing);
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        for (message, said) in [
            (
                r#"{"type":"response.created","sequence_number":0,"response":{"id":"r","model":"gpt-4o-x","status":"in_progress"}}"#,
                Said::Begins(None),
            ),
            (
                r#"{"type":"response.output_text.delta","sequence_number":1,"delta":"Hi"}"#,
                Said::Part {
                    id: None,
                    begins: false,
                },
            ),
            (
                r#"{"type":"response.completed","response":{"id":"r","status":"completed","usage":{"input_tokens":3,"output_tokens":1}}}"#,
                Said::Ends(None),
            ),
        ] {
            assert_eq!(Responses.said(message.as_bytes(), &mut session), said);
            Responses
                .read(message.as_bytes(), &mut facts, &mut state)
                .unwrap();
        }
        assert_eq!((facts.usage.total(), facts.complete), (4, true));
        let error =
            br#"{"type":"error","status":400,"error":{"code":"previous_response_not_found"}}"#;
        let expected = Said::Fails {
            tag: None,
            status: Some(400),
            ends: true,
        };
        assert_eq!(Responses.said(error, &mut session), expected);
        assert_eq!(Responses.said(b"[", &mut session), Said::Nothing);
    }
}
