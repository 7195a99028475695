//! The endpoints of Ollama's API, by the end of their paths.

use http::Method;

use crate::{
    call::{
        facts::{Operation, Spends},
        outcome::Kind,
    },
    provider::dialect::other_than_post,
};

/// An answer in a conversation.
pub(super) const CHAT: Operation = Operation {
    name: "chat",
    gen_ai: Some("chat"),
    kind: Kind::Llm,
    spends: Spends::Tokens,
};
/// The continuation of a text.
pub(super) const GENERATE: Operation = Operation {
    name: "generate",
    gen_ai: Some("text_completion"),
    ..CHAT
};
/// Embeddings. (`/api/embeddings` is the older name, whose answers count nothing.)
pub(super) const EMBED: Operation = Operation {
    name: "embed",
    gen_ai: Some("embeddings"),
    kind: Kind::Embedding,
    ..CHAT
};

/// What a request to `path` is.
pub(super) fn of(method: &Method, path: &str) -> &'static Operation {
    if *method != Method::POST {
        return other_than_post(method);
    }
    let mut segments = path.trim_end_matches('/').rsplit('/');
    let last = segments.next().unwrap_or_default();
    match (segments.next().unwrap_or_default(), last) {
        ("api", "chat") => &CHAT,
        ("api", "generate") => &GENERATE,
        ("api", "embed" | "embeddings") => &EMBED,
        ("api", "show") => &Operation::READ,
        _ => &Operation::OTHER,
    }
}

/// Whether the model writes a text, whose length a request can bound.
pub(super) fn writes(op: &Operation) -> bool {
    [CHAT, GENERATE].contains(op)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_known_by_the_end_of_its_path() {
        for (method, path, expected) in [
            (Method::POST, "/api/chat", &CHAT),
            (Method::POST, "/prefix/api/generate/", &GENERATE),
            (Method::POST, "/api/embed", &EMBED),
            (Method::POST, "/api/embeddings", &EMBED),
            (Method::POST, "/api/show", &Operation::READ),
            (Method::GET, "/api/tags", &Operation::READ),
            (Method::DELETE, "/api/delete", &Operation::READ),
            (Method::POST, "/api/pull", &Operation::OTHER),
            (Method::POST, "/v1/chat", &Operation::OTHER),
        ] {
            assert_eq!(of(&method, path), expected, "{method} {path}");
        }
    }
}
