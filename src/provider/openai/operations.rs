//! The endpoints of `OpenAI`'s API, by the end of their paths.

use http::Method;

use crate::call::{
    facts::{Operation, Spends},
    outcome::Kind,
};

/// Chat completions.
pub(super) const CHAT: Operation = generation("chat", "chat");
/// Legacy text completions.
pub(super) const COMPLETIONS: Operation = generation("completions", "text_completion");
/// A model's answer through the Responses API.
pub(super) const RESPONSES: Operation = generation("responses", "chat");
/// Compaction of a conversation: the answer names no model.
pub(super) const COMPACT: Operation = generation("responses.compact", "chat");
/// A stored response that is read, as a poll or as a stream.
pub(super) const RETRIEVE: Operation = Operation {
    spends: Spends::Once,
    ..generation("responses.retrieve", "chat")
};
/// A background response that is cancelled; the answer is the response, and its end.
pub(super) const CANCEL: Operation = Operation {
    spends: Spends::Once,
    ..free("responses.cancel")
};
/// Counting tokens without spending any.
pub(super) const INPUT_TOKENS: Operation = free("responses.input_tokens");
/// Embeddings.
pub(super) const EMBEDDINGS: Operation = Operation {
    kind: Kind::Embedding,
    ..generation("embeddings", "embeddings")
};
const MODERATIONS: Operation = Operation {
    kind: Kind::Llm,
    ..free("moderations")
};
const IMAGES: Operation = unmetered("images", Kind::Llm);
const AUDIO: Operation = unmetered("audio", Kind::Llm);
const REALTIME: Operation = unmetered("realtime", Kind::Llm);
const READ: Operation = free("http");
const OTHER: Operation = unmetered("http", Kind::Http);

const fn generation(name: &'static str, gen_ai: &'static str) -> Operation {
    Operation {
        name,
        gen_ai: Some(gen_ai),
        kind: Kind::Llm,
        spends: Spends::Tokens,
    }
}

const fn free(name: &'static str) -> Operation {
    Operation {
        name,
        gen_ai: None,
        kind: Kind::Http,
        spends: Spends::Nothing,
    }
}

const fn unmetered(name: &'static str, kind: Kind) -> Operation {
    Operation {
        name,
        gen_ai: None,
        kind,
        spends: Spends::Unknown,
    }
}

/// What a request to `path` is.
pub(super) fn of(method: &Method, path: &str) -> &'static Operation {
    let mut segments = path.trim_end_matches('/').rsplit('/');
    let mut segment = || segments.next().unwrap_or_default();
    let (last, before, first) = (segment(), segment(), segment());
    if *method == Method::POST {
        return match (first, before, last) {
            (_, "chat", "completions") => &CHAT,
            (_, _, "completions") => &COMPLETIONS,
            (_, _, "responses") => &RESPONSES,
            (_, "responses", "compact") => &COMPACT,
            (_, "responses", "input_tokens") => &INPUT_TOKENS,
            ("responses", _, "cancel") => &CANCEL,
            (_, _, "embeddings") => &EMBEDDINGS,
            (_, _, "moderations") => &MODERATIONS,
            (_, "images", _) => &IMAGES,
            (_, "audio", _) => &AUDIO,
            (_, _, "files" | "vector_stores" | "conversations") | (_, "traces", "ingest") => &READ,
            _ => &OTHER,
        };
    }
    match (before, last) {
        (_, "realtime" | "responses") if *method == Method::GET => &REALTIME,
        ("responses", _) if *method == Method::GET => &RETRIEVE,
        _ if [Method::GET, Method::HEAD, Method::OPTIONS, Method::DELETE].contains(method) => &READ,
        _ => &OTHER,
    }
}

/// The fields that bound an operation's output, the one to be put in first. Others of the kind
/// bound nothing: a server that does not know them ignores them.
pub(super) fn output_limits(op: &Operation) -> &'static [&'static str] {
    match op.name {
        "chat" => &["max_completion_tokens", "max_tokens"],
        "completions" => &["max_tokens"],
        "responses" => &["max_output_tokens"],
        _ => &[],
    }
}

/// The id in the path of a stored response.
pub(super) fn response_id(path: &str) -> Option<&str> {
    let mut segments = path.trim_end_matches('/').split('/');
    segments.find(|segment| *segment == "responses")?;
    segments.next().filter(|id| !id.is_empty())
}

/// The name of an Azure deployment in the path.
pub(super) fn deployment(path: &str) -> Option<&str> {
    let mut segments = path.split('/');
    segments.find(|segment| *segment == "deployments")?;
    segments.next().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_known_by_the_end_of_its_path() {
        for (method, path, name) in [
            (Method::POST, "/v1/chat/completions", "chat"),
            (Method::POST, "/openai/v1/chat/completions", "chat"),
            (Method::POST, "/api/v1/chat/completions/", "chat"),
            (Method::POST, "/chat/completions", "chat"),
            (
                Method::POST,
                "/openai/deployments/my-gpt/chat/completions",
                "chat",
            ),
            (Method::GET, "/v1/chat/completions/chatcmpl-1", "http"),
            (Method::POST, "/v1/completions", "completions"),
            (Method::POST, "/v1/responses", "responses"),
            (Method::POST, "/v1/responses/compact", "responses.compact"),
            (
                Method::POST,
                "/v1/responses/input_tokens",
                "responses.input_tokens",
            ),
            (Method::GET, "/v1/responses/resp_1", "responses.retrieve"),
            (
                Method::POST,
                "/v1/responses/resp_1/cancel",
                "responses.cancel",
            ),
            (Method::GET, "/v1/responses/resp_1/input_items", "http"),
            (Method::DELETE, "/v1/responses/resp_1", "http"),
            (Method::POST, "/v1/embeddings", "embeddings"),
            (Method::GET, "/v1/models", "http"),
            (Method::GET, "/v1/realtime", "realtime"),
            (Method::POST, "/v1/images/generations", "images"),
            (Method::POST, "", "http"),
        ] {
            assert_eq!(of(&method, path).name, name, "{method} {path}");
        }
    }

    #[test]
    fn what_is_not_known_may_cost_something_unless_it_only_reads() {
        assert_eq!(of(&Method::POST, "/v1/batches").spends, Spends::Unknown);
        assert_eq!(of(&Method::GET, "/v1/files/f").spends, Spends::Nothing);
        assert_eq!(of(&Method::POST, "/v1/files").spends, Spends::Nothing);
        assert_eq!(of(&Method::GET, "/v1/responses/r").spends, Spends::Once);
    }

    #[test]
    fn ids_and_deployments_are_read_from_the_path() {
        assert_eq!(response_id("/v1/responses/resp_1/cancel"), Some("resp_1"));
        assert_eq!(response_id("/v1/responses"), None);
        assert_eq!(
            deployment("/openai/deployments/my-gpt/embeddings"),
            Some("my-gpt")
        );
        assert_eq!(deployment("/v1/embeddings"), None);
    }
}
