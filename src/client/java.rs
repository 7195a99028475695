//! Java's options, which every Java takes from a variable.

use std::fmt::Write as _;

/// The variable.
pub(super) const OPTIONS: &str = "JAVA_TOOL_OPTIONS";

/// These options with ours, properties and their values, in the place of such as set the same.
pub(super) fn with(options: &str, ours: &[(&str, &str)]) -> String {
    let mut all = String::new();
    for option in split(options) {
        let is_ours = property(option).is_some_and(|(name, _)| {
            let mut ours = ours.iter();
            ours.any(|(own, _)| *own == name)
        });
        if !is_ours {
            all.push_str(option);
            all.push(' ');
        }
    }
    for (name, value) in ours {
        let quote = if value.contains(' ') { "\"" } else { "" };
        // Writing to a string does not fail.
        let _written = write!(all, "{quote}-D{name}={value}{quote} ");
    }
    all.truncate(all.trim_end().len());
    all
}

/// The value of a property in options, the last if there are several.
pub(super) fn value(options: &str, name: &str) -> Option<String> {
    let all = split(options).filter_map(property);
    let own = all.filter(|(of, _)| *of == name);
    own.last().map(|(_, value)| value.to_owned())
}

/// Name and value of an option that sets a property.
fn property(option: &str) -> Option<(&str, &str)> {
    let bare = option.trim_matches(['"', '\'']);
    bare.strip_prefix("-D")?.split_once('=')
}

/// Options, each as it is written, quotes and all: what is quoted may have spaces.
fn split(options: &str) -> impl Iterator<Item = &str> {
    let mut quote = None;
    let words = options.split(move |letter: char| {
        match (quote, letter) {
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            _ => {},
        }
        quote.is_none() && letter.is_whitespace()
    });
    words.filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_options_stay_as_they_are_written() {
        let ours = [("a.b", "/x/y"), ("c", "1")];
        assert_eq!(with("", &ours), "-Da.b=/x/y -Dc=1");
        let with_others = with("-Xmx1g  -Da.bc=2 '-Dd=a b'", &ours);
        assert_eq!(with_others, "-Xmx1g -Da.bc=2 '-Dd=a b' -Da.b=/x/y -Dc=1");
        assert_eq!(with(&with_others, &ours), with_others, "once");
        let spaced = with("-Dc=0", &[("a.b", "/x y"), ("c", "1")]);
        assert_eq!(spaced, "\"-Da.b=/x y\" -Dc=1");
        assert_eq!(with(&spaced, &ours), "-Da.b=/x/y -Dc=1");
    }

    #[test]
    fn the_last_value_of_a_property_holds() {
        let options = "-Da=1 \"-Da=2 3\" -Dab=4";
        assert_eq!(value(options, "a").as_deref(), Some("2 3"));
        assert_eq!(value(options, "b"), None);
    }
}
