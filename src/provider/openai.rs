//! `OpenAI`'s API, and that of the many servers that speak it.

mod audio;
mod batches;
mod chat;
mod embeddings;
mod endings;
mod fault;
mod images;
pub(super) mod input;
mod operations;
mod output;
mod realtime;
mod request;
mod responses;
mod responses_end;
mod responses_socket;
mod runs;
mod usage;

pub(super) use output::Output;

use bytes::Bytes;
use http::Method;

use super::{
    dialect::{Cut, CutStyle, Dialect, Event},
    socket::Socket,
    splice::Splice,
    state::StreamState,
    wire::{
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
            "model",
            "stream",
            "stream_options",
            "max_tokens",
            "max_completion_tokens",
            "max_output_tokens",
            "n",
            "best_of",
            "service_tier",
            "temperature",
            "top_p",
            "background",
            "previous_response_id",
            "conversation",
            "safety_identifier",
            "user",
            "prompt_cache_key",
            "metadata",
            "stream_format",
            "input",
            "file",
            "image",
            "mask",
        ],
        within: &[],
    },
    response: Wanted {
        fields: &[
            "id",
            "model",
            "object",
            "type",
            "created",
            "created_at",
            "sequence_number",
            "output_index",
            "service_tier",
            "status",
            "background",
            "incomplete_details",
            "usage",
            "x_groq",
            "error",
            "duration",
            "last_error",
        ],
        within: &["response"],
    },
};

/// The `OpenAI` dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenAi {
    /// As `OpenAI` speaks it now: chat's output limit is `max_completion_tokens`, and its reasoning
    /// models refuse `max_tokens`.
    Current,
    /// As most servers that speak it know it: they have `max_tokens`, and some refuse the other.
    Compatible,
    /// As Azure speaks it in API versions before [`OpenAi::NEW_LIMIT_SINCE`]: what is newer it
    /// refuses.
    Early,
}

impl OpenAi {
    /// Azure's first API version with `max_completion_tokens` and `stream_options`.
    const NEW_LIMIT_SINCE: &str = "2024-09-01";

    /// Whether a query asks for an API version of before that.
    pub(super) fn is_early(query: &str) -> bool {
        let version = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("api-version="));
        version.is_some_and(|version| version.starts_with("20") && version < Self::NEW_LIMIT_SINCE)
    }
}

impl Dialect for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn operation(&self, method: &Method, path: &str) -> &'static Operation {
        match *self {
            // At Mistral a conversation is not only stored: the model answers in it.
            Self::Compatible if operations::is_conversation(method, path) => &Operation::OTHER,
            _ => operations::of(method, path),
        }
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
            "all_retrieved_documents",
            "annotations",
            "audio",
            "citations",
            "image_url",
            "images",
            "logprobs",
            "obfuscation",
            "prompt_logprobs",
            "prompt_token_ids",
            "reasoning_details",
            "search_results",
        ]
    }

    fn may_write(&self, op: &Operation, event: &Event<'_>) -> bool {
        match op.name {
            "responses" | "responses.retrieve" | "responses.cancel" | "responses.compact" => {
                responses::may_write(event)
            },
            "audio.transcriptions" => audio::may_write(event),
            "runs" | "runs.retrieve" => runs::may_write(event),
            "images.generations" | "images.edits" | "audio.speech" => false,
            _ => true,
        }
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
            "embeddings" | "rerank" => embeddings::read(event, facts),
            "images.generations" | "images.edits" => images::read(event, facts, state),
            "audio.speech" | "audio.transcriptions" => audio::read(event, facts),
            "runs" | "runs.retrieve" => runs::read(event, facts, state),
            "files.content" if !event.whole => batches::read_line(&event.data, facts, state),
            // What costs nothing says nothing that is kept, but for errors. What is not known, or
            // any file's content, need not be JSON, and is not missed where it is not.
            "responses.input_tokens" | "moderations" | "batches" => fault::read_only(event, facts),
            "files.content" | "http" => {
                let _need_not_be_json = fault::read_only(event, facts);
                Ok(())
            },
            _ => chat::read(event, facts, state),
        }
    }

    fn ask_usage(&self, op: &Operation, body: &[u8], facts: &RequestFacts) -> Option<Splice> {
        let can_ask = *self != Self::Early;
        let silent = can_ask && [operations::CHAT, operations::COMPLETIONS].contains(op);
        (silent && facts.stream && !facts.asks_usage)
            .then(|| Splice::set(body, &["stream_options", "include_usage"], "true"))
            .flatten()
    }

    fn is_asked_usage(&self, event: &Event<'_>) -> bool {
        chat::is_usage_alone(&event.data)
    }

    fn bound_output(&self, op: &Operation, body: &[u8], limit: u64) -> Option<Splice> {
        let names = operations::output_limits(op);
        // The first is put in where there is none.
        let mut names = names.to_vec();
        if *self != Self::Current {
            names.reverse();
        }
        if names.is_empty() {
            return None;
        }
        Splice::lower(body, Json::document(body), &names, limit)
    }

    fn socket(&self, path: &str) -> Option<&'static dyn Socket> {
        match path.trim_end_matches('/').rsplit('/').next()? {
            "realtime" => Some(&realtime::Realtime),
            "responses" => Some(&responses_socket::Responses),
            _ => None,
        }
    }

    fn error_body(&self, _status: u16, refusal: &Refusal, _request_id: &str) -> Bytes {
        Bytes::from(endings::error(refusal).to_string())
    }

    fn cut(&self, op: &Operation, cut: &Cut<'_>) -> Bytes {
        endings::cut(op, cut)
    }

    fn repeats_output(&self, op: &Operation, style: CutStyle) -> bool {
        endings::repeats_output(op, style)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::facts::Spends;

    #[test]
    fn a_conversation_costs_nothing_where_it_is_only_stored() {
        let spends = |dialect: OpenAi, path| dialect.operation(&Method::POST, path).spends;
        let conversation = "/v1/conversations";
        assert_eq!(spends(OpenAi::Current, conversation), Spends::Nothing);
        assert_eq!(spends(OpenAi::Compatible, conversation), Spends::Unknown);
        let answer = "/v1/conversations/c1";
        assert_eq!(spends(OpenAi::Compatible, answer), Spends::Unknown);
        assert_eq!(spends(OpenAi::Compatible, "/v1/files"), Spends::Nothing);
    }

    #[test]
    fn servers_that_speak_it_are_given_the_limit_that_they_know() {
        let bounded = |dialect: OpenAi| {
            let splice = dialect.bound_output(&operations::CHAT, b"{}", 9).unwrap();
            String::from_utf8(splice.apply(b"{}")).unwrap()
        };
        assert_eq!(bounded(OpenAi::Current), r#"{"max_completion_tokens":9}"#);
        assert_eq!(bounded(OpenAi::Compatible), r#"{"max_tokens":9}"#);
        assert_eq!(bounded(OpenAi::Early), r#"{"max_tokens":9}"#);
    }

    #[test]
    fn an_early_version_of_azure_is_told_by_its_date() {
        for (query, early) in [
            ("api-version=2024-02-01", true),
            ("a=b&api-version=2024-08-01-preview", true),
            ("api-version=2024-09-01-preview", false),
            ("api-version=2025-04-01-preview&a=b", false),
            ("api-version=preview", false),
            ("api-version=1", false),
            ("", false),
        ] {
            assert_eq!(OpenAi::is_early(query), early, "{query}");
        }
        let facts = RequestFacts {
            stream: true,
            ..RequestFacts::default()
        };
        let asked = |dialect: OpenAi| {
            dialect
                .ask_usage(&operations::CHAT, b"{}", &facts)
                .is_some()
        };
        assert!(asked(OpenAi::Current) && !asked(OpenAi::Early));
    }
}
