//! The endpoints of Cohere's API, by the end of their paths.

use http::Method;

use crate::{
    call::{
        facts::{Operation, Spends},
        outcome::Kind,
    },
    provider::dialect::other_than_post,
};

/// An answer, as version 2 gives it: a stream is server-sent events.
pub(super) const CHAT: Operation = Operation {
    name: "chat",
    gen_ai: Some("chat"),
    kind: Kind::Llm,
    spends: Spends::Tokens,
};
/// An answer, as version 1 gives it: a stream is a JSON object a line.
pub(super) const CHAT_V1: Operation = Operation {
    name: "chat.v1",
    ..CHAT
};
/// Legacy text completion, of one text or several.
pub(super) const GENERATE: Operation = Operation {
    name: "generate",
    gen_ai: Some("text_completion"),
    ..CHAT
};
/// Embeddings of texts and images.
pub(super) const EMBED: Operation = Operation {
    name: "embed",
    gen_ai: Some("embeddings"),
    kind: Kind::Embedding,
    ..CHAT
};
/// Documents in the order in which they answer a question: billed by the search.
pub(super) const RERANK: Operation = Operation {
    name: "rerank",
    gen_ai: None,
    ..CHAT
};
/// Counting tokens without spending any, and the way back.
const TOKENIZE: Operation = Operation {
    name: "tokenize",
    gen_ai: None,
    spends: Spends::Nothing,
    ..CHAT
};

/// What a request to `path` is.
pub(super) fn of(method: &Method, path: &str) -> &'static Operation {
    if *method != Method::POST {
        return other_than_post(method);
    }
    let mut segments = path.trim_end_matches('/').rsplit('/');
    let last = segments.next().unwrap_or_default();
    let version = segments.next().unwrap_or_default();
    match (version, last) {
        ("v2", "chat") => &CHAT,
        ("v1", "chat") => &CHAT_V1,
        ("v1", "generate") => &GENERATE,
        ("v1" | "v2", "embed") => &EMBED,
        ("v1" | "v2", "rerank") => &RERANK,
        ("v1", "tokenize" | "detokenize") => &TOKENIZE,
        ("v1", "check-api-key") => &Operation::READ,
        _ => &Operation::OTHER,
    }
}

/// Whether the model writes a text, whose length a request can bound.
pub(super) fn writes(op: &Operation) -> bool {
    [CHAT, CHAT_V1, GENERATE].contains(op)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_known_by_the_end_of_its_path() {
        for (method, path, expected) in [
            (Method::POST, "/v2/chat", &CHAT),
            (Method::POST, "/v1/chat/", &CHAT_V1),
            (Method::POST, "/prefix/v1/generate", &GENERATE),
            (Method::POST, "/v2/embed", &EMBED),
            (Method::POST, "/v1/rerank", &RERANK),
            (Method::POST, "/v1/tokenize", &TOKENIZE),
            (Method::POST, "/v1/check-api-key", &Operation::READ),
            (Method::GET, "/v1/models", &Operation::READ),
            (Method::POST, "/v1/classify", &Operation::OTHER),
            (Method::POST, "/v1/embed-jobs", &Operation::OTHER),
            (Method::POST, "", &Operation::OTHER),
        ] {
            assert_eq!(of(&method, path), expected, "{method} {path}");
        }
    }
}
