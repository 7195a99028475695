//! Cohere's API, in both of its versions.

mod answer;
mod endings;
mod operations;
mod request;
mod usage;

use bytes::Bytes;
use http::Method;

use super::{
    dialect::{Cut, Dialect, Event},
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
        fields: &[
            "model",
            "stream",
            "max_tokens",
            "num_generations",
            "temperature",
            "p",
            "conversation_id",
        ],
        within: &[],
    },
    response: Wanted {
        fields: &[
            "id",
            "response_id",
            "type",
            "event_type",
            "is_finished",
            "index",
            "finish_reason",
            "usage",
            "meta",
            "message",
            "error",
        ],
        within: &["response", "delta"],
    },
};

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct Cohere;

impl Dialect for Cohere {
    fn name(&self) -> &'static str {
        "cohere"
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
        &["citations", "documents", "logprobs", "sources"]
    }

    fn may_write(&self, _op: &Operation, event: &Event<'_>) -> bool {
        answer::may_write(event)
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
        operations::writes(op)
            .then(|| Splice::lower(body, Json::document(body), &["max_tokens"], limit))
            .flatten()
    }

    /// Its SDKs try every 429 again, whatever the headers say.
    fn refusal_status(&self, reason: Reason, usual: u16) -> u16 {
        match reason {
            Reason::Exhausted if usual == 429 => 403,
            _ => usual,
        }
    }

    fn error_body(&self, _status: u16, refusal: &Refusal, request_id: &str) -> Bytes {
        Bytes::from(endings::error(refusal, request_id).to_string())
    }

    fn cut(&self, op: &Operation, cut: &Cut<'_>) -> Bytes {
        endings::cut(op, cut)
    }
}
