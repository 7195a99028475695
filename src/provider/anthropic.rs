//! Anthropic's Messages API.

mod endings;
mod messages;
mod operations;
mod request;
mod usage;

use std::time::Duration;

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
use crate::{
    base::clock::Timestamp,
    call::{
        facts::{Operation, RequestFacts, ResponseFacts},
        refusal::{Rate, Refusal},
    },
};

/// What is kept of bodies that are too large to hold.
const WANTS: Wants = Wants {
    request: Wanted {
        fields: &[
            "model",
            "stream",
            "max_tokens",
            "max_tokens_to_sample",
            "service_tier",
            "temperature",
            "top_p",
            "metadata",
        ],
        within: &[],
    },
    response: Wanted {
        fields: &[
            "id",
            "type",
            "index",
            "model",
            "stop_reason",
            "stop_sequence",
            "usage",
            "error",
        ],
        within: &["message", "delta"],
    },
};

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct Anthropic;

impl Dialect for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
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

    fn read_event(
        &self,
        _op: &Operation,
        event: &Event<'_>,
        facts: &mut ResponseFacts,
        state: &mut StreamState,
    ) -> Result<(), Unreadable> {
        messages::read(event, facts, state)
    }

    fn bound_output(&self, op: &Operation, body: &[u8], limit: u64) -> Option<Splice> {
        let names: &[&str] = match op.name {
            "messages" => &["max_tokens"],
            "complete" => &["max_tokens_to_sample"],
            _ => return None,
        };
        Splice::lower(body, Json::document(body), names, limit)
    }

    fn error_body(&self, _status: u16, refusal: &Refusal, request_id: &str) -> Bytes {
        Bytes::from(endings::error(refusal, request_id).to_string())
    }

    fn rate_headers(&self, rate: &Rate, _wait: Duration, at: Timestamp) -> [(String, String); 3] {
        let name = |what| format!("anthropic-ratelimit-{}-{what}", rate.unit);
        [
            (name("limit"), rate.limit.to_string()),
            (name("remaining"), rate.remaining.to_string()),
            (name("reset"), at.to_string()),
        ]
    }

    fn cut(&self, _op: &Operation, cut: &Cut<'_>) -> Bytes {
        Bytes::from(endings::cut(cut))
    }
}
