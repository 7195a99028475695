//! The endpoints of Anthropic's API, by the end of their paths.

use http::Method;

use crate::{
    call::{
        facts::{Operation, Spends},
        outcome::Kind,
    },
    provider::{dialect::other_than_post, vertex},
};

/// Messages.
pub(super) const MESSAGES: Operation = Operation {
    name: "messages",
    gen_ai: Some("chat"),
    kind: Kind::Llm,
    spends: Spends::Tokens,
};
/// Counting tokens without spending any.
pub(super) const COUNT_TOKENS: Operation = Operation {
    name: "messages.count_tokens",
    kind: Kind::Llm,
    ..Operation::READ
};
/// Legacy text completions: they report no usage.
pub(super) const COMPLETE: Operation = Operation {
    name: "complete",
    gen_ai: Some("text_completion"),
    ..MESSAGES
};
/// The results of a batch.
pub(super) const RESULTS: Operation = Operation {
    name: "messages.batches.results",
    spends: Spends::Lines,
    ..Operation::READ
};
/// A batch is made: it spends when its results are there.
const BATCHES: Operation = Operation {
    name: "messages.batches",
    ..Operation::OTHER
};

/// What a request to `path` is.
pub(super) fn of(method: &Method, path: &str) -> &'static Operation {
    if *method == Method::GET && batch_id(path).is_some() && path.ends_with("/results") {
        return &RESULTS;
    }
    if *method != Method::POST {
        return other_than_post(method);
    }
    if let Some(raw) = vertex::raw(path).filter(|raw| raw.publisher == "anthropic") {
        let counts = *raw.model == *"count-tokens";
        return if counts { &COUNT_TOKENS } else { &MESSAGES };
    }
    let mut segments = path.trim_end_matches('/').rsplit('/');
    let last = segments.next().unwrap_or_default();
    match (segments.next().unwrap_or_default(), last) {
        (_, "messages") => &MESSAGES,
        ("messages", "count_tokens") => &COUNT_TOKENS,
        ("v1", "complete") => &COMPLETE,
        ("messages", "batches") => &BATCHES,
        (_, "files" | "cancel") | ("batches", _) => &Operation::READ,
        _ => &Operation::OTHER,
    }
}

/// The id in the path of a batch.
pub(super) fn batch_id(path: &str) -> Option<&str> {
    let mut segments = path.trim_end_matches('/').split('/');
    segments.find(|segment| *segment == "batches")?;
    segments.next().filter(|id| !id.is_empty())
}

/// The field that bounds an operation's output. The other one bounds nothing.
pub(super) fn output_limit(op: &Operation) -> Option<&'static str> {
    match op.name {
        "messages" => Some("max_tokens"),
        "complete" => Some("max_tokens_to_sample"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_known_by_the_end_of_its_path() {
        for (method, path, name, spends) in [
            (Method::POST, "/v1/messages", "messages", Spends::Tokens),
            (
                Method::POST,
                "/anthropic/v1/messages",
                "messages",
                Spends::Tokens,
            ),
            (
                Method::POST,
                "/v1/messages/count_tokens",
                "messages.count_tokens",
                Spends::Nothing,
            ),
            (Method::POST, "/v1/complete", "complete", Spends::Tokens),
            (
                Method::POST,
                "/v1/uploads/upload_1/complete",
                "http",
                Spends::Unknown,
            ),
            (
                Method::POST,
                "/v1/projects/p/locations/l/publishers/anthropic/models/claude-x:streamRawPredict",
                "messages",
                Spends::Tokens,
            ),
            (
                Method::POST,
                "/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict",
                "messages.count_tokens",
                Spends::Nothing,
            ),
            (
                Method::POST,
                "/v1/projects/p/locations/l/publishers/mistralai/models/m:rawPredict",
                "http",
                Spends::Unknown,
            ),
            (
                Method::POST,
                "/v1/messages/batches",
                "messages.batches",
                Spends::Unknown,
            ),
            (
                Method::POST,
                "/v1/messages/batches/b1/cancel",
                "http",
                Spends::Nothing,
            ),
            (
                Method::GET,
                "/v1/messages/batches/b1",
                "http",
                Spends::Nothing,
            ),
            (
                Method::GET,
                "/v1/messages/batches/b1/results",
                "messages.batches.results",
                Spends::Lines,
            ),
            (Method::GET, "/v1/models", "http", Spends::Nothing),
        ] {
            let found = of(&method, path);
            assert_eq!(
                (found.name, found.spends),
                (name, spends),
                "{method} {path}"
            );
        }
    }
}
