//! Google's Gemini API, and its twin on Vertex AI.

mod answer;
mod batches;
mod endings;
mod live;
mod operations;
mod predict;
mod request;
mod usage;

use bytes::Bytes;
use http::Method;

use self::answer::Holds;
use super::{
    dialect::{Cut, Dialect, Event},
    socket::Socket,
    splice::Splice,
    state::StreamState,
    wire::{
        framing::{Framing, media_type},
        json::{Json, Unreadable},
        scan::{Wanted, Wants},
    },
};
use crate::call::{
    facts::{Operation, RequestFacts, ResponseFacts},
    refusal::Refusal,
};

/// What is kept of bodies that are too large to hold.
const WANTS: Wants = Wants {
    request: Wanted {
        fields: &[
            "generationConfig",
            "generation_config",
            "cachedContent",
            "cached_content",
            "serviceTier",
            "service_tier",
            "labels",
            "parameters",
        ],
        within: &[],
    },
    response: Wanted {
        fields: &[
            "modelVersion",
            "responseId",
            "promptFeedback",
            "usageMetadata",
            "error",
            "predictions",
        ],
        within: &[],
    },
};

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct Gemini;

impl Dialect for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
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
        &[
            "citationMetadata",
            "codeExecutionResult",
            "groundingMetadata",
            "inlineData",
            "logprobsResult",
            "thoughtSignature",
            "urlContextMetadata",
        ]
    }

    /// A stream that was not asked for as events is one array of chunks.
    fn framing(&self, op: &Operation, content_type: &str) -> Option<Framing> {
        let is_array = *op == operations::STREAM
            && media_type(content_type).eq_ignore_ascii_case("application/json");
        is_array
            .then_some(Framing::Array)
            .or_else(|| Framing::of(content_type))
    }

    fn list(&self, op: &Operation) -> Option<&'static str> {
        (*op == operations::BATCH_RESULTS).then_some(batches::LIST)
    }

    fn read_event(
        &self,
        op: &Operation,
        event: &Event<'_>,
        facts: &mut ResponseFacts,
        state: &mut StreamState,
    ) -> Result<(), Unreadable> {
        let holds = match op.name {
            "embedContent" => Holds::Embeddings,
            "batches.get" | "files.download" if !event.whole => {
                return batches::read_one(&event.data, facts, state);
            },
            "predict" | "images.predict" => return predict::read(op, event, facts),
            _ => Holds::Text,
        };
        answer::read(event, holds, facts, state)
    }

    fn bound_output(&self, op: &Operation, body: &[u8], limit: u64) -> Option<Splice> {
        const NAMES: [&str; 2] = ["maxOutputTokens", "max_output_tokens"];
        if ![operations::GENERATE, operations::STREAM].contains(op) {
            return None;
        }
        let document = Json::document(body);
        let (config, found) = ["generationConfig", "generation_config"]
            .into_iter()
            .find_map(|name| Some((name, Some(document.get(name)?))))
            .unwrap_or(("generationConfig", None));
        match found.filter(|config| config.is_object()) {
            Some(within) => Splice::lower(body, within, &NAMES, limit),
            None => Splice::set(body, &[config, "maxOutputTokens"], &limit.to_string()),
        }
    }

    fn socket(&self, path: &str) -> Option<&'static dyn Socket> {
        let last = path.trim_end_matches('/').rsplit(['/', '.']).next()?;
        last.starts_with("BidiGenerateContent")
            .then_some(&live::Live)
    }

    fn key_header(&self) -> &'static str {
        "x-goog-api-key"
    }

    fn error_body(&self, status: u16, refusal: &Refusal, _request_id: &str) -> Bytes {
        Bytes::from(endings::error(status, refusal).to_string())
    }

    fn cut(&self, _op: &Operation, cut: &Cut<'_>) -> Bytes {
        endings::cut(cut)
    }
}
