//! Patterns in which `*` stands for any run of characters.

/// A pattern, kept. Case matters; nothing but `*` is special.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Box<str>);

impl Glob {
    /// The pattern that `text` writes.
    pub fn new(text: &str) -> Self {
        Self(Box::from(text))
    }

    /// Whether all of `text` is as the pattern says.
    pub fn matches(&self, text: &str) -> bool {
        matches(&self.0, text)
    }

    /// How many bytes the pattern fixes: of two that match, the one that fixes more says more.
    pub fn fixed(&self) -> usize {
        self.0.bytes().filter(|byte| *byte != b'*').count()
    }
}

/// Whether all of `text` is as `pattern` says.
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(inner) = text.strip_prefix(first) else {
        return false;
    };
    let Some(mut inner) = inner.strip_suffix(last) else {
        return false;
    };
    // Taking the first place of each piece leaves the most for those that follow.
    for piece in middle.split('*') {
        match inner.split_once(piece) {
            Some((_, after)) => inner = after,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, text, matches) in [
            ("gpt-*", "gpt-4o", true),
            ("gpt-*", "Gpt-4o", false),
            ("gpt-4o", "gpt-4o-mini", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*b*c", "abbc", true),
            ("a**c", "abc", true),
            ("a.c", "abc", false),
        ] {
            assert_eq!(
                Glob::new(pattern).matches(text),
                matches,
                "{pattern} {text}"
            );
        }
        assert_eq!(Glob::new("*b*cd").fixed(), 3);
    }

    /// The definition, by trying everything.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        let Some((first, rest)) = pattern.split_first() else {
            return text.is_empty();
        };
        let tail = text.split_first();
        match first {
            b'*' => slow(rest, text) || tail.is_some_and(|(_, tail)| slow(pattern, tail)),
            _ => tail.is_some_and(|(found, tail)| found == first && slow(rest, tail)),
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_trying_everything(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(Glob::new(&pattern).matches(&text), slow(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
