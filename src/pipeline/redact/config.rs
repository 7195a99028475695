//! `tracing.redaction:` — what is taken out of content besides what is built in.

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::call::json_path::JsonPath;

/// The most patterns, and the most paths.
const MOST: usize = 64;

/// The most memory that one pattern may take, in bytes.
const MAX_PATTERN: usize = 1 << 20;

/// `tracing.redaction` — what `content: redacted` takes out besides what is built in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redaction {
    /// Whatever these match.
    #[serde(deserialize_with = "at_most")]
    pub patterns: Vec<OwnPattern>,
    /// Whatever stands at these places of a request, of a response or one of its events, and of a
    /// tool's arguments and results.
    #[serde(deserialize_with = "paths")]
    pub paths: Vec<JsonPath>,
}

/// `{name: customer, pattern: 'C-[0-9]{6}'}` — in its place stands `[redacted:customer]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnPattern {
    name: Name,
    pattern: Compiled,
}

impl OwnPattern {
    pub(super) fn name(&self) -> &str {
        &self.name.0
    }

    pub(super) const fn regex(&self) -> &Regex {
        &self.pattern.0
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Name(Box<str>);

/// It matches in a time that grows only with the text, whatever it is.
#[derive(Clone, Debug)]
struct Compiled(Regex);

impl PartialEq for Compiled {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Compiled {}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Box::<str>::deserialize(deserializer)?;
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if (1..=32).contains(&name.len()) && name.bytes().all(is_fine) {
            return Ok(Self(name));
        }
        let rule = "the name of a pattern has up to 32 letters, digits, `_` and `-`";
        Err(D::Error::custom(rule))
    }
}

impl<'de> Deserialize<'de> for Compiled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pattern = Box::<str>::deserialize(deserializer)?;
        let compiled = RegexBuilder::new(&pattern).size_limit(MAX_PATTERN).build();
        let regex = compiled.map_err(|error| {
            // The last line says what is wrong; those before show the pattern.
            let shown = error.to_string();
            let why = shown.lines().last().unwrap_or_default();
            let why = why.trim_start_matches("error: ");
            D::Error::custom(format!("the pattern cannot be compiled: {why}"))
        })?;
        if regex.is_match("") {
            return Err(D::Error::custom(
                "the pattern matches an empty text, so everywhere",
            ));
        }
        Ok(Self(regex))
    }
}

fn at_most<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<OwnPattern>, D::Error> {
    let patterns = Vec::deserialize(deserializer)?;
    if patterns.len() > MOST {
        return Err(D::Error::custom(format!("at most {MOST} patterns")));
    }
    Ok(patterns)
}

fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<JsonPath>, D::Error> {
    let written = Vec::<Box<str>>::deserialize(deserializer)?;
    if written.len() > MOST {
        return Err(D::Error::custom(format!("at most {MOST} paths")));
    }
    let parsed = written.iter().map(|path| {
        path.parse()
            .map_err(|error| D::Error::custom(format!("`{path}`: {error}")))
    });
    parsed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Redaction, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn patterns_and_paths_are_read() {
        let yaml =
            "{patterns: [{name: ticket, pattern: 'T-\\d{4}'}], paths: ['$.metadata.customer']}";
        let found = read(yaml).unwrap();
        assert_eq!(found, read(yaml).unwrap());
        assert_eq!(found.patterns[0].name(), "ticket");
        assert!(found.patterns[0].regex().is_match("T-1234"));
        assert_eq!(read("{}").unwrap(), Redaction::default());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let huge = "{patterns: [{name: a, pattern: '(\\w{100}){100}'}]}";
        for (yaml, word) in [
            ("{patterns: [{name: a, pattern: '('}]}", "unclosed"),
            ("{patterns: [{name: a, pattern: 'x*'}]}", "empty"),
            (huge, "size limit"),
            ("{patterns: [{name: 'a b', pattern: x}]}", "letters"),
            ("{patterns: [{name: a, patern: x}]}", "patern"),
            ("{paths: [metadata]}", "$.metadata.customer"),
        ] {
            let error = read(yaml).unwrap_err();
            assert!(error.contains(word), "{yaml}: {error}");
        }
    }
}
