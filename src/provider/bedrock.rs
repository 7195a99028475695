//! Amazon Bedrock's runtime: Converse, and `InvokeModel` with its vendors' own bodies.
//!
//! The model is in the path. Streams are AWS event streams; what one of `InvokeModel` holds is the
//! vendor's own events, each within a `chunk`.

mod converse;
mod endings;
mod invoke;
mod operations;
mod request;
mod usage;

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::{
    dialect::{Cut, Dialect, Event},
    splice::Splice,
    state::StreamState,
    wire::{
        json::Unreadable,
        scan::{Wanted, Wants},
    },
};
use crate::call::{
    facts::{Operation, RequestFacts, ResponseFacts},
    refusal::{Reason, Refusal},
};

pub(super) use invoke::Vendor;

/// What is kept of bodies that are too large to hold.
const WANTS: Wants = Wants {
    request: Wanted {
        fields: &[
            "inferenceConfig",
            "serviceTier",
            "requestMetadata",
            "anthropic_version",
            "schemaVersion",
            "textGenerationConfig",
            "max_tokens",
            "max_tokens_to_sample",
            "max_completion_tokens",
            "max_gen_len",
            "maxTokens",
            "num_generations",
            "numResults",
            "n",
            "temperature",
            "top_p",
        ],
        within: &[],
    },
    response: Wanted {
        fields: &[
            "bytes",
            "id",
            "type",
            "model",
            "usage",
            "stopReason",
            "stop_reason",
            "serviceTier",
            "contentBlockIndex",
            "inputTextTokenCount",
            "prompt_token_count",
            "generation_token_count",
            "amazon-bedrock-invocationMetrics",
            "message",
            "__type",
        ],
        within: &[],
    },
};

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct Bedrock;

impl Dialect for Bedrock {
    fn name(&self) -> &'static str {
        "bedrock"
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
        request::read(op, path, body, facts)
    }

    fn wanted(&self) -> Wants {
        WANTS
    }

    fn no_text(&self) -> &'static [&'static str] {
        &["citation", "image", "signature", "toolResult"]
    }

    /// Of the events of a conversation only pieces bring text; what a guardrail found says some of it
    /// again. So does a vendor's chunk of that size: pieces are small, and the end has all of them.
    fn may_write(&self, op: &Operation, event: &Event<'_>) -> bool {
        let is_piece = event.name.is_none_or(|name| name == "contentBlockDelta");
        let is_end = *op == operations::INVOKE_STREAM;
        !event.fault && !is_end && (*op != operations::CONVERSE_STREAM || is_piece)
    }

    fn read_headers(
        &self,
        _op: &Operation,
        headers: &HeaderMap,
        facts: &mut ResponseFacts,
        state: &mut StreamState,
    ) {
        usage::read_headers(headers, facts, state);
        endings::read_error_type(headers, facts);
    }

    fn read_event(
        &self,
        op: &Operation,
        event: &Event<'_>,
        facts: &mut ResponseFacts,
        state: &mut StreamState,
    ) -> Result<(), Unreadable> {
        if event.fault {
            return endings::read_exception(event, facts);
        }
        if *op == operations::CONVERSE || *op == operations::CONVERSE_STREAM {
            converse::read(event, facts, state)
        } else {
            invoke::read(op, event, facts, state)
        }
    }

    fn bound_output(&self, op: &Operation, body: &[u8], limit: u64) -> Option<Splice> {
        request::bound_output(op, body, limit)
    }

    fn error_body(&self, _status: u16, refusal: &Refusal, _request_id: &str) -> Bytes {
        Bytes::from(endings::error(refusal).to_string())
    }

    /// AWS's SDKs retry every 429, and heed no header that forbids it.
    fn refusal_status(&self, reason: Reason, usual: u16) -> u16 {
        match reason {
            Reason::Exhausted => Reason::Denied.status(),
            _ => usual,
        }
    }

    fn error_header(&self, reason: Reason) -> Option<(&'static str, &'static str)> {
        Some((endings::ERROR_TYPE, endings::type_of(reason)))
    }

    fn cut(&self, op: &Operation, cut: &Cut<'_>) -> Bytes {
        endings::cut(op, cut)
    }
}
