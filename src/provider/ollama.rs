//! Ollama's own API: chat, generation and embeddings; a stream is a JSON object a line.

mod answer;
mod operations;
mod request;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::{
    dialect::{Cut, CutStyle, Dialect, Event},
    splice::Splice,
    state::StreamState,
    wire::{
        json::{Json, Unreadable},
        scan::{Wanted, Wants},
    },
};
use crate::call::{
    facts::{Operation, RequestFacts, ResponseFacts},
    refusal::{Reason, Refusal},
};

/// What is kept of bodies that are too large to hold.
const WANTS: Wants = Wants {
    request: Wanted {
        fields: &["model", "stream", "options"],
        within: &[],
    },
    response: Wanted {
        fields: &[
            "model",
            "done",
            "done_reason",
            "prompt_eval_count",
            "eval_count",
            "error",
            "type",
        ],
        within: &[],
    },
};

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct Ollama;

impl Dialect for Ollama {
    fn name(&self) -> &'static str {
        "ollama"
    }

    fn operation(&self, method: &Method, path: &str) -> &'static Operation {
        operations::of(method, path)
    }

    fn read_request(
        &self,
        op: &Operation,
        _path: &str,
        body: &[u8],
        facts: &mut RequestFacts,
    ) -> Result<(), Unreadable> {
        request::read(op, body, facts)
    }

    fn wanted(&self) -> Wants {
        WANTS
    }

    fn no_text(&self) -> &'static [&'static str] {
        &["context", "logprobs"]
    }

    fn read_event(
        &self,
        op: &Operation,
        event: &Event<'_>,
        facts: &mut ResponseFacts,
        state: &mut StreamState,
    ) -> Result<(), Unreadable> {
        answer::read(op, event, facts, state)
    }

    fn bound_output(&self, op: &Operation, body: &[u8], limit: u64) -> Option<Splice> {
        if !operations::writes(op) {
            return None;
        }
        let options = Json::document(body).get("options");
        let number = options.and_then(|options| options.get("num_predict")?.u64());
        match options.filter(|options| options.is_object()) {
            // Zero is no limit there.
            Some(options) if number != Some(0) => {
                Splice::lower(body, options, &["num_predict"], limit)
            },
            _ => Splice::set(body, &["options", "num_predict"], &limit.to_string()),
        }
    }

    fn error_body(&self, _status: u16, refusal: &Refusal, _request_id: &str) -> Bytes {
        Bytes::from(error(refusal).to_string())
    }

    fn cut(&self, op: &Operation, cut: &Cut<'_>) -> Bytes {
        let last = match cut.style {
            CutStyle::Graceful => last(op, cut),
            CutStyle::Error => error(cut.refusal),
        };
        cut.end(&[Event::data(last.to_string().as_bytes())])
    }
}

/// A refusal as an error: Ollama's is a message alone; the type is for programs.
fn error(refusal: &Refusal) -> Value {
    let kind = match refusal.reason {
        Reason::Exhausted => "quota_exhausted",
        Reason::Busy | Reason::Rate => "rate_limit",
        Reason::Denied => "blocked",
        Reason::Unauthorized => "unauthorized",
        Reason::BadRequest | Reason::Misdirected | Reason::HeadersTooLarge => "invalid_request",
        Reason::NotFound => "not_found",
        Reason::BadGateway => "bad_gateway",
        Reason::Overload => "overloaded",
        Reason::Ledger => "ledger_unavailable",
        Reason::Timeout | Reason::TooSlow => "timeout",
    };
    json!({"error": refusal.message, "type": kind})
}

/// The line that ends a stream as if its tokens had run out.
fn last(op: &Operation, cut: &Cut<'_>) -> Value {
    let mut last = json!({
        "model": cut.facts.model.as_deref().unwrap_or_default(),
        "done": true,
        "done_reason": "length",
        "prompt_eval_count": cut.usage.input.unwrap_or(0),
        "eval_count": cut.usage.output.unwrap_or(0),
    });
    let (name, nothing) = if *op == operations::CHAT {
        ("message", json!({"role": "assistant", "content": ""}))
    } else {
        ("response", json!(""))
    };
    if let Some(last) = last.as_object_mut() {
        last.insert(name.to_owned(), nothing);
    }
    last
}
