//! What every dialect needs to write an answer: names, numbers, the bill.

use bytes::Bytes;

use super::{behaviour::Behaviour, conversation::Conversation, problem::Problem, script::Said};

/// What a dialect writes an answer from.
pub(super) struct Ask<'a> {
    pub(super) asked: &'a Conversation,
    pub(super) said: &'a Said,
    pub(super) behaviour: &'a Behaviour,
    pub(super) ids: &'a mut Ids,
    /// Seconds since the Unix epoch.
    pub(super) now: u64,
}

impl Ask<'_> {
    /// The token counts to report; `None`: none at all.
    pub(super) fn counts(&self) -> Option<Reported> {
        let wanted = self.behaviour.answer.usage;
        let answers = u64::try_from(self.asked.answers.max(1)).unwrap_or(1);
        let input = wanted.input.unwrap_or_else(|| self.asked.input_tokens());
        (!wanted.absent).then_some(Reported {
            input,
            output: self.said.output.saturating_mul(answers),
            cached: wanted.cached.min(input),
            cache_write: wanted.cache_write.min(input.saturating_sub(wanted.cached)),
            reasoning: wanted.reasoning,
        })
    }

    /// The finish reason that the settings ask for, or `usual`.
    pub(super) fn finish<'s>(&'s self, usual: &'s str) -> &'s str {
        self.behaviour.answer.finish.as_deref().unwrap_or(usual)
    }
}

/// Token counts of a whole answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reported {
    /// With the cached ones.
    pub(super) input: u64,
    /// With reasoning.
    pub(super) output: u64,
    pub(super) cached: u64,
    pub(super) cache_write: u64,
    pub(super) reasoning: u64,
}

/// Makes identifiers that look like the providers'. The same seed gives the same ones.
pub(super) struct Ids(fastrand::Rng);

impl Ids {
    pub(super) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A prefix and `len` letters and digits.
    pub(super) fn make(&mut self, prefix: &str, len: usize) -> String {
        let rest = std::iter::repeat_with(|| self.0.alphanumeric()).take(len);
        prefix.chars().chain(rest).collect()
    }

    /// A prefix and `len` lower-case hexadecimal digits.
    pub(super) fn hex(&mut self, prefix: &str, len: usize) -> String {
        let rest = std::iter::repeat_with(|| self.0.digit(16)).take(len);
        prefix.chars().chain(rest).collect()
    }
}

/// The dated name under which a provider answers for a model.
pub(super) fn dated(model: &str) -> &str {
    const DATED: &[(&str, &str)] = &[
        ("gpt-3.5-turbo", "gpt-3.5-turbo-0125"),
        ("gpt-4-turbo", "gpt-4-turbo-2024-04-09"),
        ("gpt-4.1", "gpt-4.1-2025-04-14"),
        ("gpt-4.1-mini", "gpt-4.1-mini-2025-04-14"),
        ("gpt-4.1-nano", "gpt-4.1-nano-2025-04-14"),
        ("gpt-4o", "gpt-4o-2024-08-06"),
        ("gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
        ("gpt-5", "gpt-5-2025-08-07"),
        ("gpt-5-mini", "gpt-5-mini-2025-08-07"),
        ("gpt-5-nano", "gpt-5-nano-2025-08-07"),
        ("o3", "o3-2025-04-16"),
        ("o3-mini", "o3-mini-2025-01-31"),
        ("o4-mini", "o4-mini-2025-04-16"),
        ("claude-3-5-haiku-latest", "claude-3-5-haiku-20241022"),
        ("claude-haiku-4-5", "claude-haiku-4-5-20251001"),
        ("claude-opus-4-1", "claude-opus-4-1-20250805"),
        ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
    ];
    let found = DATED.iter().find(|(name, _)| *name == model);
    found.map_or(model, |(_, dated)| dated)
}

/// Whether Mistral serves the model: its API is OpenAI's but for small things, on which its SDK
/// insists.
pub(super) fn by_mistral(model: &str) -> bool {
    model.starts_with("mistral-")
}

/// Breaks a stream off after so many events if the settings say so: what follows is `failure`.
pub(super) fn failing(
    events: Vec<Bytes>,
    behaviour: &Behaviour,
    failure: impl FnOnce(&Problem) -> Bytes,
) -> Vec<Bytes> {
    let Some(after) = behaviour.answer.stream_error else {
        return events;
    };
    let mut problem = Problem::new(
        http::StatusCode::INTERNAL_SERVER_ERROR,
        "The mock was asked to fail in the middle of the stream.",
    );
    problem.code.clone_from(&behaviour.code);
    let mut events = events;
    events.truncate(after);
    events.push(failure(&problem));
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_the_seed() {
        let id = |seed| Ids::new(seed).make("chatcmpl-", 29);
        assert_eq!(id(1), id(1));
        assert_ne!(id(1), id(2));
        assert_eq!(id(1).len(), 38);
        let id = Ids::new(1).hex("", 32);
        assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    }

    #[test]
    fn only_undated_names_are_dated() {
        assert_eq!(dated("gpt-4o"), "gpt-4o-2024-08-06");
        assert_eq!(dated("gpt-4o-2024-05-13"), "gpt-4o-2024-05-13");
    }
}
