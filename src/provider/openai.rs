//! `OpenAI`'s API, and that of the many servers that speak it.

mod chat;
mod embeddings;
mod endings;
mod fault;
mod input;
mod operations;
mod request;
mod responses;
mod responses_end;
mod usage;

use bytes::Bytes;
use http::Method;

use super::{
    dialect::{Cut, Dialect, Event},
    splice::Splice,
    state::StreamState,
    wire::json::{Json, Unreadable},
};
use crate::call::{
    facts::{Operation, RequestFacts, ResponseFacts},
    refusal::Refusal,
};

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct OpenAi;

impl Dialect for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
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

    fn read_event(
        &self,
        op: &Operation,
        event: &Event<'_>,
        facts: &mut ResponseFacts,
        state: &mut StreamState,
    ) -> Result<(), Unreadable> {
        match op.name {
            "responses" | "responses.retrieve" | "responses.cancel" | "responses.compact" => {
                responses::read(event, facts, state)
            },
            "embeddings" => embeddings::read(event, facts),
            "responses.input_tokens" => Ok(()),
            _ => chat::read(event, facts, state),
        }
    }

    fn ask_usage(&self, op: &Operation, body: &[u8], facts: &RequestFacts) -> Option<Splice> {
        let silent = [operations::CHAT, operations::COMPLETIONS].contains(op);
        (silent && facts.stream && !facts.asks_usage)
            .then(|| Splice::set(body, &["stream_options", "include_usage"], "true"))
            .flatten()
    }

    fn is_asked_usage(&self, event: &Event<'_>) -> bool {
        chat::is_usage_alone(&event.data)
    }

    fn bound_output(&self, op: &Operation, body: &[u8], limit: u64) -> Option<Splice> {
        let names: &[&str] = match op.name {
            "chat" => &["max_completion_tokens", "max_tokens"],
            "completions" => &["max_tokens"],
            "responses" => &["max_output_tokens"],
            _ => return None,
        };
        Splice::lower(body, Json::document(body), names, limit)
    }

    fn error_body(&self, _status: u16, refusal: &Refusal, _request_id: &str) -> Bytes {
        Bytes::from(endings::error(refusal).to_string())
    }

    fn cut(&self, op: &Operation, cut: &Cut<'_>) -> Bytes {
        endings::cut(op, cut)
    }
}
