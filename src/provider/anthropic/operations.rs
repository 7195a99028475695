//! The endpoints of Anthropic's API, by the end of their paths.

use http::Method;

use crate::call::{
    facts::{Operation, Spends},
    outcome::Kind,
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
    ..READ
};
/// Legacy text completions: they report no usage.
pub(super) const COMPLETE: Operation = Operation {
    name: "complete",
    gen_ai: Some("text_completion"),
    ..MESSAGES
};
const READ: Operation = Operation {
    name: "http",
    gen_ai: None,
    kind: Kind::Http,
    spends: Spends::Nothing,
};
const OTHER: Operation = Operation {
    spends: Spends::Unknown,
    ..READ
};

/// What a request to `path` is.
pub(super) fn of(method: &Method, path: &str) -> &'static Operation {
    if *method != Method::POST {
        let reads = method.is_safe() || *method == Method::DELETE;
        return if reads { &READ } else { &OTHER };
    }
    let mut segments = path.trim_end_matches('/').rsplit('/');
    let last = segments.next().unwrap_or_default();
    match (segments.next().unwrap_or_default(), last) {
        (_, "messages") => &MESSAGES,
        ("messages", "count_tokens") => &COUNT_TOKENS,
        (_, "complete") => &COMPLETE,
        (_, "files" | "cancel") | ("batches", _) => &READ,
        _ => &OTHER,
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
                "/v1/messages/batches",
                "http",
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
