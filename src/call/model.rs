//! The name under which calls to a model are summed up.

/// The fewest digits of a version: `-001`, `-0613`, `-2024-08-06`. Fewer are part of a name.
const DIGITS: usize = 3;
/// The fewest digits between two dashes: in `-4-5-20250929` only the last are a version.
const EACH: usize = 2;

/// The model that was asked for, if the one that answered is a dated version of it; else the one
/// that answered. So calls that were refused stand beside those that were answered, and what a
/// router chose has its own name.
pub fn family<'a>(asked: Option<&'a str>, answered: Option<&'a str>) -> Option<&'a str> {
    match (asked, answered) {
        (Some(asked), Some(answered)) if !is_version(answered, asked) => Some(answered),
        (asked, answered) => asked.or(answered),
    }
}

/// Whether `model` is `of`, or `of` with a date or a number behind it.
fn is_version(model: &str, of: &str) -> bool {
    let name = of.strip_suffix("-latest").unwrap_or(of);
    let Some(rest) = model.strip_prefix(name) else {
        return false;
    };
    let mut parts = rest.split(['-', '@']);
    let version = parts.next() == Some("")
        && parts.all(|part| part.len() >= EACH && part.bytes().all(|byte| byte.is_ascii_digit()))
        && rest.bytes().filter(u8::is_ascii_digit).count() >= DIGITS;
    rest.is_empty() || version
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dated_version_counts_as_what_was_asked_for() {
        for (asked, answered) in [
            ("gpt-4o", "gpt-4o-2024-08-06"),
            ("gpt-4", "gpt-4-0613"),
            ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
            ("claude-3-5-haiku-latest", "claude-3-5-haiku-20241022"),
            ("claude-sonnet-4", "claude-sonnet-4@20250514"),
            ("gemini-2.0-flash", "gemini-2.0-flash-001"),
            ("gpt-4o-2024-08-06", "gpt-4o-2024-08-06"),
        ] {
            assert_eq!(family(Some(asked), Some(answered)), Some(asked));
        }
    }

    #[test]
    fn another_model_counts_as_itself() {
        for (asked, answered) in [
            ("gpt-4o", "gpt-4o-mini-2024-07-18"),
            ("gpt-4", "gpt-4-32k"),
            ("claude-sonnet-4", "claude-sonnet-4-5-20250929"),
            ("auto", "gpt-4.1"),
            ("gpt-4", "gpt-4-1"),
        ] {
            assert_eq!(family(Some(asked), Some(answered)), Some(answered));
        }
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        assert_eq!(family(Some("gpt-4o"), None), Some("gpt-4o"));
        assert_eq!(family(None, Some("gpt-4o")), Some("gpt-4o"));
        assert_eq!(family(None, None), None);
    }
}
