//! What providers bill of a stream that its reader leaves before its end.
//!
//! Hardly one says so. The table has those of which somebody compared the bill; of all others it is
//! taken that work stops when the connection is closed, and that what was made until then is billed
//! (`budgets.cut_margin` is for what was under way).

/// What is billed of a stream whose connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abandoned {
    /// Its input, and what was made until the provider noticed.
    UntilThen,
    /// All of it, as if it had been read to its end.
    InFull,
}

/// By the provider's name. Sources, read in November 2026:
///
/// - `bedrock`: cost and usage reports have the full tokens of interrupted streams, and so has the
///   invocation log (BerriAI/litellm, issue 34147 and pull request 36008).
const KNOWN: &[(&str, Abandoned)] = &[("bedrock", Abandoned::InFull)];

impl Abandoned {
    /// What `provider` bills.
    pub fn by(provider: &str) -> Self {
        let known = KNOWN.iter().find(|(name, _)| *name == provider);
        known.map_or(Self::UntilThen, |(_, billed)| *billed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_of_which_it_is_known_bill_in_full() {
        assert_eq!(Abandoned::by("bedrock"), Abandoned::InFull);
        assert_eq!(Abandoned::by("openai"), Abandoned::UntilThen);
        assert_eq!(Abandoned::by("my-vllm"), Abandoned::UntilThen);
    }
}
