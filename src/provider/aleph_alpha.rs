//! Aleph Alpha's own completion. (Its chat is `OpenAI`'s.)

use bytes::Bytes;
use http::Method;
use serde_json::json;

use super::{
    dialect::{Dialect, Event, other_than_post},
    limit::Limit,
    splice::Splice,
    state::StreamState,
    wire::{
        json::{Ahead, Json, Unreadable},
        scan::{Wanted, Wants},
    },
};
use crate::call::{
    facts::{ErrorFacts, InputSize, Operation, RequestFacts, ResponseFacts, Spends},
    outcome::Kind,
    refusal::{Reason, Refusal},
};

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct AlephAlpha;

const COMPLETE: Operation = Operation {
    name: "complete",
    gen_ai: Some("text_completion"),
    kind: Kind::Llm,
    spends: Spends::Tokens,
};

/// What is kept of bodies that are too large to hold.
const WANTS: Wants = Wants {
    request: Wanted {
        fields: &[
            "model",
            "maximum_tokens",
            "n",
            "best_of",
            "temperature",
            "top_p",
            "stream",
        ],
        within: &[],
    },
    response: Wanted {
        fields: &[
            "model_version",
            "num_tokens_prompt_total",
            "num_tokens_generated",
            "error",
            "code",
        ],
        within: &[],
    },
};
/// The longest message that is kept, in bytes.
const MAX_MESSAGE: usize = 4096;

impl Dialect for AlephAlpha {
    fn name(&self) -> &'static str {
        "alephalpha"
    }

    fn operation(&self, method: &Method, path: &str) -> &'static Operation {
        if *method != Method::POST {
            return other_than_post(method);
        }
        let mut segments = path.trim_end_matches('/').rsplit('/');
        let last = segments.next().unwrap_or_default();
        match (segments.next().unwrap_or_default(), last) {
            ("", "complete") => &COMPLETE,
            (_, "tokenize" | "detokenize") => &Operation::READ,
            _ => &Operation::OTHER,
        }
    }

    fn read_request(
        &self,
        op: &Operation,
        _path: &str,
        body: &[u8],
        facts: &mut RequestFacts,
    ) -> Result<(), Unreadable> {
        let mut bound = Limit::default();
        let read = Json::document(body).measure(|key, value| {
            if key == b"prompt" && value.is_array() {
                value.items(|item| prompt(item, &mut facts.input));
                return;
            }
            let value = value.take();
            facts.input.text_bytes += value.text();
            match key {
                b"model" => facts.model = value.name(),
                b"maximum_tokens" => bound.add(value.u64()),
                b"n" | b"best_of" => {
                    let count = u32::try_from(value.u64().unwrap_or(0)).unwrap_or(u32::MAX);
                    facts.choices = facts.choices.max(count);
                },
                b"stream" => facts.stream = value.is_true(),
                b"temperature" => facts.temperature = value.f64(),
                b"top_p" => facts.top_p = value.f64(),
                _ => {},
            }
        });
        facts.output_limit = bound.tokens();
        if op.gen_ai.is_some() { read } else { Ok(()) }
    }

    fn wanted(&self) -> Wants {
        WANTS
    }

    fn read_event(
        &self,
        _op: &Operation,
        event: &Event<'_>,
        facts: &mut ResponseFacts,
        state: &mut StreamState,
    ) -> Result<(), Unreadable> {
        if event.data.starts_with(b"[DONE]") {
            facts.complete = true;
            return Ok(());
        }
        let mut error = ErrorFacts::default();
        let (mut choice, mut reason) = (None, None);
        Json::document(&event.data).object(|key, value| match key {
            b"model_version" => facts.model = value.take().name(),
            b"num_tokens_prompt_total" => facts.usage.input = value.take().u64(),
            b"num_tokens_generated" => facts.usage.output = value.take().u64(),
            b"completions" => {
                let mut positions = 0..;
                value.items(|item| {
                    let position = positions.next().unwrap_or(u64::MAX);
                    completion(item, position, facts, state);
                });
            },
            // The summary of one text of a stream.
            b"index" => choice = value.take().u64(),
            b"finish_reason" => reason = value.take().name(),
            b"completion" => facts.output_bytes += value.count(),
            b"error" => error.message = value.take().text_up_to(MAX_MESSAGE),
            b"code" => error.kind = value.take().name(),
            _ => {},
        })?;
        if let Some(reason) = reason {
            state.finish(facts, choice.unwrap_or(0), &reason);
        }
        if error.message.is_some() {
            error.code.clone_from(&error.kind);
            facts.error = Some(error);
        }
        facts.complete |= event.whole;
        Ok(())
    }

    fn bound_output(&self, op: &Operation, body: &[u8], limit: u64) -> Option<Splice> {
        (*op == COMPLETE)
            .then(|| Splice::lower(body, Json::document(body), &["maximum_tokens"], limit))
            .flatten()
    }

    fn error_body(&self, _status: u16, refusal: &Refusal, _request_id: &str) -> Bytes {
        let code = match refusal.reason {
            Reason::Exhausted => "OUT_OF_CREDITS",
            Reason::Busy | Reason::Rate => "TOO_MANY_REQUESTS",
            Reason::Denied => "FORBIDDEN",
            Reason::Unauthorized => "UNAUTHENTICATED",
            Reason::BadRequest | Reason::Misdirected | Reason::HeadersTooLarge => "BAD_REQUEST",
            Reason::NotFound => "NOT_FOUND",
            Reason::BadGateway | Reason::Overload | Reason::Ledger => "UNAVAILABLE",
            Reason::Timeout | Reason::TooSlow => "TIMEOUT",
        };
        Bytes::from(json!({"error": refusal.message, "code": code}).to_string())
    }
}

/// A part of a prompt: a text, tokens, or an image.
fn prompt(part: Ahead<'_, '_>, size: &mut InputSize) {
    let (mut is_image, mut image) = (false, None);
    let part = part.object(|key, value| match key {
        b"type" => is_image = value.take().raw() == b"\"image\"",
        b"data" => image = Some(value.take()),
        _ => {},
    });
    if is_image && image.is_some_and(Json::is_string) {
        size.images = size.images.saturating_add(1);
    } else {
        size.text_bytes += part.text();
    }
}

fn completion(
    completion: Ahead<'_, '_>,
    position: u64,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) {
    let mut reason = None;
    completion.object(|key, value| match key {
        b"completion" => facts.output_bytes += value.count(),
        b"finish_reason" => reason = value.take().name(),
        _ => {},
    });
    if let Some(reason) = reason {
        state.finish(facts, position, &reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::usage::Usage;

    #[test]
    fn only_its_own_paths_are_known() {
        let name = |path| AlephAlpha.operation(&Method::POST, path).name;
        assert_eq!(name("/complete"), "complete");
        assert_eq!(name("/v1/uploads/upload_1/complete"), "http");
        assert_eq!(name("/chat/completions"), "http");
        assert_eq!(
            AlephAlpha.operation(&Method::POST, "/embed").spends,
            Spends::Unknown
        );
    }

    #[test]
    fn a_stream_says_why_each_text_ended_and_then_what_all_took() {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        for event in [
            r#"{"type":"stream_chunk","index":0,"completion":"Hi"}"#,
            r#"{"type":"stream_summary","index":1,"model_version":"v","finish_reason":"end_of_text"}"#,
            r#"{"type":"stream_summary","index":0,"model_version":"v","finish_reason":"maximum_tokens"}"#,
            r#"{"type":"completion_summary","num_tokens_prompt_total":9,"num_tokens_generated":4}"#,
        ] {
            let event = Event::data(event.as_bytes());
            AlephAlpha
                .read_event(&COMPLETE, &event, &mut facts, &mut state)
                .unwrap();
        }
        let reasons: Vec<_> = facts
            .finish_reasons
            .iter()
            .map(|reason| &**reason)
            .collect();
        assert_eq!(reasons, ["maximum_tokens", "end_of_text"]);
        assert_eq!(facts.usage, Usage::text(9, 4));
    }

    #[test]
    fn of_a_limit_that_is_set_twice_the_looser_holds() {
        for (body, expected) in [
            (r#"{"maximum_tokens":9,"maximum_tokens":5}"#, Some(9)),
            (r#"{"maximum_tokens":null,"maximum_tokens":5}"#, None),
        ] {
            let mut facts = RequestFacts::default();
            AlephAlpha
                .read_request(&COMPLETE, "", body.as_bytes(), &mut facts)
                .unwrap();
            assert_eq!(facts.output_limit, expected, "{body}");
        }
    }

    #[test]
    fn an_image_in_a_prompt_is_no_text() {
        let body = br#"{"model":"m","maximum_tokens":9,"n":2,"prompt":[{"type":"text","data":"Hi"},
            {"type":"image","data":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#;
        let mut facts = RequestFacts::default();
        AlephAlpha
            .read_request(&COMPLETE, "", body, &mut facts)
            .unwrap();
        assert_eq!((facts.input.images, facts.choices()), (1, 2));
        assert_eq!(facts.output_limit, Some(9));
        assert!(facts.input.text_bytes.bytes < 30, "{:?}", facts.input);
    }
}
