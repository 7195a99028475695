//! Anthropic's Messages API.

mod batches;
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
        path: &str,
        body: &[u8],
        facts: &mut RequestFacts,
    ) -> Result<(), Unreadable> {
        if *op == operations::RESULTS {
            facts.response_id = operations::batch_id(path).map(Box::from);
        }
        request::read(op, path, body, facts)
    }

    fn wanted(&self) -> Wants {
        WANTS
    }

    fn no_text(&self) -> &'static [&'static str] {
        &["citation", "signature"]
    }

    fn may_write(&self, _op: &Operation, event: &Event<'_>) -> bool {
        messages::may_write(event)
    }

    fn read_event(
        &self,
        op: &Operation,
        event: &Event<'_>,
        facts: &mut ResponseFacts,
        state: &mut StreamState,
    ) -> Result<(), Unreadable> {
        match op.name {
            "messages" | "complete" => messages::read(event, facts, state),
            // An error is one document, whatever was asked for.
            "messages.batches.results" if !event.whole => {
                batches::read_line(&event.data, facts, state)
            },
            "messages.count_tokens" => messages::read_only_error(event, facts),
            _ => {
                let _need_not_be_json = messages::read_only_error(event, facts);
                Ok(())
            },
        }
    }

    fn bound_output(&self, op: &Operation, body: &[u8], limit: u64) -> Option<Splice> {
        let name = operations::output_limit(op)?;
        Splice::lower(body, Json::document(body), &[name], limit)
    }

    fn key_header(&self) -> &'static str {
        "x-api-key"
    }

    fn error_body(&self, _status: u16, refusal: &Refusal, request_id: &str) -> Bytes {
        Bytes::from(endings::error(refusal, request_id).to_string())
    }

    fn rate_headers(&self, rate: &Rate, _wait: Duration, at: Timestamp) -> [(String, String); 3] {
        let name = |what| ["anthropic-ratelimit-", rate.unit, "-", what].concat();
        [
            (name("limit"), rate.limit.to_string()),
            (name("remaining"), rate.remaining.to_string()),
            (name("reset"), at.to_string()),
        ]
    }

    fn cut(&self, op: &Operation, cut: &Cut<'_>) -> Bytes {
        Bytes::from(endings::cut(op, cut))
    }
}
