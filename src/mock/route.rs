//! Which operation a path names. Only the path's end is looked at, so that every prefix works:
//! `/openai/v1/chat/completions`, `/api/v1/chat/completions`, Azure's deployments.

use http::{HeaderMap, Method};

use super::problem::Dialect;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Chat,
    Embeddings,
    Models(Dialect),
    Echo,
}

impl Operation {
    pub(super) fn of(method: &Method, path: &str, headers: &HeaderMap) -> Self {
        if *method == Method::POST {
            return Self::of_post(path);
        }
        if *method == Method::GET && path.ends_with("/models") {
            return Self::Models(if headers.contains_key("anthropic-version") {
                Dialect::Anthropic
            } else if path.ends_with("/v1beta/models") {
                Dialect::Gemini
            } else {
                Dialect::OpenAi
            });
        }
        Self::Echo
    }

    fn of_post(path: &str) -> Self {
        if path.ends_with("/chat/completions") {
            Self::Chat
        } else if path.ends_with("/embeddings") {
            Self::Embeddings
        } else {
            Self::Echo
        }
    }

    /// Whose errors are spoken.
    pub(super) const fn dialect(&self) -> Dialect {
        match self {
            Self::Models(dialect) => *dialect,
            Self::Chat | Self::Embeddings | Self::Echo => Dialect::OpenAi,
        }
    }
}
