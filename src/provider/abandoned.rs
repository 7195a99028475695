//! What providers bill of a stream that its reader leaves before its end.
//!
//! Hardly one says so itself. `docs/aborts.md` has who says it of whom; of a provider of which
//! nobody does, it is taken that work stops when the connection is closed, and that what was made
//! until then is billed (`budgets.cut_margin` is for what was under way).

use serde::Deserialize;

use super::dialect::Dialect;

/// What is billed of a stream whose connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Abandoned {
    /// Its input, and what was made until the provider noticed.
    UntilThen,
    /// All of it, as if it had been read to its end: a cut of ours bounds nothing.
    InFull,
}

/// Those that bill in full, by name. Sources, read in November 2026:
///
/// - `bedrock`, `bedrock-mantle`: cost and usage reports have the full tokens of interrupted
///   streams, and so has the invocation log (BerriAI/litellm, issue 34147 and pull request 36008).
/// - `gemini`, `vertex`: Google's SDK says of its abort signal that the service goes on and that
///   usage is charged (googleapis/js-genai, `abortSignal`).
/// - `groq`, `huggingface`, `minimax`, `mistral`, `nebius`, `perplexity`, `replicate`, `sambanova`:
///   `OpenRouter` finds that they cannot be stopped, and bills such streams in full (its page on
///   streaming, "Stream Cancellation").
/// - `openrouter`: so says the same page; which provider it turns to is not known before.
const IN_FULL: &[&str] = &[
    "bedrock",
    "bedrock-mantle",
    "gemini",
    "groq",
    "huggingface",
    "minimax",
    "mistral",
    "nebius",
    "openrouter",
    "perplexity",
    "replicate",
    "sambanova",
    "vertex",
];

impl Abandoned {
    /// What the provider of this name bills; of one that is not known, whoever has its dialect to
    /// themselves.
    pub(super) fn by(provider: &str, dialect: &dyn Dialect) -> Self {
        // A dialect of one vendor is named as the vendor's own provider is.
        if IN_FULL.contains(&provider) || IN_FULL.contains(&dialect.name()) {
            Self::InFull
        } else {
            Self::UntilThen
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Bedrock, Gemini, OpenAi, known::KNOWN};

    #[test]
    fn only_those_of_which_it_is_known_bill_in_full() {
        let by = |name| Abandoned::by(name, &OpenAi::Compatible);
        assert_eq!(by("bedrock"), Abandoned::InFull);
        assert_eq!(by("openai"), Abandoned::UntilThen);
        assert_eq!(by("my-vllm"), Abandoned::UntilThen);
    }

    #[test]
    fn who_speaks_a_vendor_s_own_dialect_bills_as_the_vendor_does() {
        assert_eq!(Abandoned::by("aws-eu", &Bedrock), Abandoned::InFull);
        assert_eq!(Abandoned::by("google", &Gemini), Abandoned::InFull);
    }

    #[test]
    fn the_page_says_of_every_known_provider_what_it_bills() {
        let page = include_str!("../../docs/aborts.md");
        for known in KNOWN {
            let billed = match Abandoned::by(known.name, known.dialect) {
                Abandoned::UntilThen => "until then",
                Abandoned::InFull => "in full",
            };
            let row = format!("| {} | {billed} |", known.name);
            assert!(page.contains(&row), "docs/aborts.md lacks `{row}`");
        }
    }
}
