//! The output limit that a request sets under one name.

/// What was said of it so far. A name that occurs twice counts as the looser of both, and a value that
/// is no number as none at all: which of two equal names counts is up to the provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Limit {
    /// Nothing yet.
    #[default]
    Unsaid,
    /// So many tokens.
    Tokens(u64),
    /// Nothing that bounds the output.
    Loose,
}

impl Limit {
    /// The name occurs, with this number of tokens.
    pub(super) fn add(&mut self, tokens: Option<u64>) {
        *self = match (*self, tokens) {
            (Self::Unsaid, Some(tokens)) => Self::Tokens(tokens),
            (Self::Tokens(before), Some(tokens)) => Self::Tokens(before.max(tokens)),
            (Self::Loose, _) | (_, None) => Self::Loose,
        };
    }

    /// The most tokens that it lets the model make; `None` if it bounds nothing.
    pub(super) const fn tokens(self) -> Option<u64> {
        match self {
            Self::Tokens(tokens) => Some(tokens),
            Self::Unsaid | Self::Loose => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[Option<u64>]) -> Option<u64> {
        let mut limit = Limit::default();
        for value in values {
            limit.add(*value);
        }
        limit.tokens()
    }

    #[test]
    fn of_two_that_have_one_name_the_looser_counts() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[Some(5)]), Some(5));
        assert_eq!(of(&[Some(5), Some(3)]), Some(5));
        assert_eq!(of(&[Some(5), None]), None);
        assert_eq!(of(&[None, Some(5)]), None);
        assert_eq!(of(&[Some(5), None, Some(9)]), None);
    }
}
