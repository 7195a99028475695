//! IBM watsonx.ai's own text generation and embeddings. (Its chat is `OpenAI`'s but for the path.)

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::{
    dialect::{Cut, CutStyle, Dialect, Event, other_than_post},
    limit::Limit,
    splice::Splice,
    state::StreamState,
    wire::{
        json::{Ahead, Json, Unreadable},
        scan::{Wanted, Wants},
    },
};
use crate::call::{
    facts::{ErrorFacts, Operation, RequestFacts, ResponseFacts, Spends},
    outcome::Kind,
    refusal::{Reason, Refusal},
};

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct Watsonx;

/// A text, whole or as a stream: the path says which.
const GENERATION: Operation = Operation {
    name: "generation",
    gen_ai: Some("text_completion"),
    kind: Kind::Llm,
    spends: Spends::Tokens,
};
const STREAM: Operation = Operation {
    name: "generation_stream",
    ..GENERATION
};
const EMBEDDINGS: Operation = Operation {
    name: "embeddings",
    gen_ai: Some("embeddings"),
    kind: Kind::Embedding,
    ..GENERATION
};

/// What is kept of bodies that are too large to hold.
const WANTS: Wants = Wants {
    request: Wanted {
        fields: &["model_id", "parameters"],
        within: &[],
    },
    response: Wanted {
        fields: &["model_id", "input_token_count", "errors", "results"],
        within: &[],
    },
};
/// The reason that means that there is none yet.
const NOT_FINISHED: &str = "not_finished";
/// The longest message that is kept, in bytes.
const MAX_MESSAGE: usize = 4096;

impl Dialect for Watsonx {
    fn name(&self) -> &'static str {
        "watsonx"
    }

    fn operation(&self, method: &Method, path: &str) -> &'static Operation {
        if *method != Method::POST {
            return other_than_post(method);
        }
        let mut segments = path.trim_end_matches('/').rsplit('/');
        let last = segments.next().unwrap_or_default();
        // The older of the two spellings has it the other way round.
        match (segments.next().unwrap_or_default(), last) {
            ("text", "generation") | ("generation", "text") => &GENERATION,
            ("text", "generation_stream") | ("generation", "text_stream") => &STREAM,
            ("text", "embeddings") => &EMBEDDINGS,
            ("text", "tokenization") => &Operation::READ,
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
        facts.stream = *op == STREAM;
        let mut bound = Limit::default();
        let read = Json::document(body).measure(|key, value| {
            if key == b"parameters" {
                let mut within = Limit::default();
                value.object(|key, value| {
                    let value = value.take();
                    match key {
                        b"max_new_tokens" => within.add(value.u64()),
                        b"temperature" => facts.temperature = value.f64(),
                        b"top_p" => facts.top_p = value.f64(),
                        _ => {},
                    }
                });
                bound.add(within.tokens());
                return;
            }
            let value = value.take();
            facts.input.text_bytes += value.text();
            if key == b"model_id" {
                facts.model = value.name();
            }
        });
        facts.output_limit = if *op == EMBEDDINGS {
            Some(0)
        } else {
            bound.tokens()
        };
        if op.gen_ai.is_some() { read } else { Ok(()) }
    }

    fn wanted(&self) -> Wants {
        WANTS
    }

    fn no_text(&self) -> &'static [&'static str] {
        &["generated_tokens", "input_tokens", "moderations"]
    }

    fn read_event(
        &self,
        op: &Operation,
        event: &Event<'_>,
        facts: &mut ResponseFacts,
        state: &mut StreamState,
    ) -> Result<(), Unreadable> {
        Json::document(&event.data).object(|key, value| match key {
            b"model_id" if facts.model.is_none() => facts.model = value.take().name(),
            b"input_token_count" => raise(&mut facts.usage.input, value),
            b"results" => {
                let mut positions = 0..;
                value.items(|item| {
                    let position = positions.next().unwrap_or(u64::MAX);
                    result(item, position, facts, state);
                });
            },
            b"errors" => {
                value.items(|item| {
                    let error = error_facts(item);
                    facts.error.get_or_insert(error);
                });
            },
            _ => {},
        })?;
        if *op == EMBEDDINGS && facts.usage.input.is_some() {
            facts.usage.output = Some(0);
        }
        facts.complete |= event.whole || !facts.finish_reasons.is_empty();
        Ok(())
    }

    fn bound_output(&self, op: &Operation, body: &[u8], limit: u64) -> Option<Splice> {
        if ![GENERATION, STREAM].contains(op) {
            return None;
        }
        let parameters = Json::document(body).get("parameters");
        match parameters.filter(|parameters| parameters.is_object()) {
            Some(within) => Splice::lower(body, within, &["max_new_tokens"], limit),
            None => Splice::set(body, &["parameters", "max_new_tokens"], &limit.to_string()),
        }
    }

    fn error_body(&self, status: u16, refusal: &Refusal, request_id: &str) -> Bytes {
        Bytes::from(error(status, refusal, request_id).to_string())
    }

    fn cut(&self, op: &Operation, cut: &Cut<'_>) -> Bytes {
        if *op != STREAM {
            return Bytes::new();
        }
        let last = match cut.style {
            CutStyle::Graceful => json!({
                "model_id": cut.facts.model.as_deref().unwrap_or_default(),
                "results": [{
                    "generated_text": "",
                    "generated_token_count": cut.usage.output.unwrap_or(0),
                    "input_token_count": 0,
                    "stop_reason": "max_tokens",
                }],
            }),
            CutStyle::Error => error(cut.refusal.reason.status(), cut.refusal, cut.request_id),
        };
        cut.end(&[Event::data(last.to_string().as_bytes())])
    }
}

/// Takes in a count of which a stream brings parts: input is counted in its first event alone, and
/// output up to each event.
fn raise(count: &mut Option<u64>, value: Ahead<'_, '_>) {
    *count = (*count).max(value.take().u64());
}

fn result(
    result: Ahead<'_, '_>,
    position: u64,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) {
    let mut reason = None;
    result.object(|key, value| match key {
        b"generated_text" => facts.output_bytes += value.count(),
        b"generated_token_count" => raise(&mut facts.usage.output, value),
        b"input_token_count" => raise(&mut facts.usage.input, value),
        b"stop_reason" => reason = value.take().name(),
        _ => {},
    });
    if let Some(reason) = reason.filter(|reason| **reason != *NOT_FINISHED) {
        state.finish(facts, position, &reason);
    }
}

fn error_facts(error: Ahead<'_, '_>) -> ErrorFacts {
    let mut found = ErrorFacts::default();
    error.object(|key, value| match key {
        b"code" => {
            found.code = value.take().name();
            found.kind.clone_from(&found.code);
        },
        b"message" => found.message = value.take().text_up_to(MAX_MESSAGE),
        _ => {},
    });
    found
}

fn error(status: u16, refusal: &Refusal, request_id: &str) -> Value {
    let code = match refusal.reason {
        Reason::Exhausted => "token_quota_reached",
        Reason::Busy | Reason::Rate => "rate_limit_reached",
        Reason::Denied => "not_authorized",
        Reason::Unauthorized => "authentication_token_not_valid",
        Reason::BadRequest | Reason::Misdirected | Reason::HeadersTooLarge => "invalid_request",
        Reason::NotFound => "not_found",
        Reason::BadGateway | Reason::Overload | Reason::Ledger => "service_unavailable",
        Reason::Timeout | Reason::TooSlow => "timeout",
    };
    let error = json!({"code": code, "message": refusal.message});
    json!({"trace": request_id, "errors": [error], "status_code": status})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::usage::Usage;

    #[test]
    fn an_operation_is_known_by_the_end_of_its_path_in_either_spelling() {
        let name = |path| Watsonx.operation(&Method::POST, path).name;
        assert_eq!(name("/ml/v1/text/generation"), "generation");
        assert_eq!(name("/ml/v1-beta/generation/text"), "generation");
        assert_eq!(
            name("/ml/v1/deployments/d/text/generation_stream"),
            "generation_stream"
        );
        assert_eq!(
            name("/ml/v1-beta/generation/text_stream"),
            "generation_stream"
        );
        assert_eq!(name("/ml/v1/text/embeddings"), "embeddings");
        assert_eq!(name("/ml/v1/text/chat"), "http");
    }

    #[test]
    fn of_a_limit_that_is_set_twice_the_looser_holds() {
        for (body, expected) in [
            (r#"{"parameters":{"max_new_tokens":9}}"#, Some(9)),
            (
                r#"{"parameters":{"max_new_tokens":9,"max_new_tokens":5}}"#,
                Some(9),
            ),
            (
                r#"{"parameters":{"max_new_tokens":null,"max_new_tokens":5}}"#,
                None,
            ),
            (
                r#"{"parameters":{},"parameters":{"max_new_tokens":5}}"#,
                None,
            ),
        ] {
            let mut facts = RequestFacts::default();
            Watsonx
                .read_request(&GENERATION, "", body.as_bytes(), &mut facts)
                .unwrap();
            assert_eq!(facts.output_limit, expected, "{body}");
        }
    }

    #[test]
    fn an_embedding_counts_its_input_beside_the_results() {
        let body = br#"{"model_id":"m","results":[{"embedding":[0.1]}],"input_token_count":7}"#;
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        let event = Event::body(body);
        Watsonx
            .read_event(&EMBEDDINGS, &event, &mut facts, &mut state)
            .unwrap();
        assert_eq!(facts.usage, Usage::text(7, 0));
    }
}
