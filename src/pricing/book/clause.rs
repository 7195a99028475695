//! Which model names an entry of the price book means.

use serde::Deserialize;

/// A condition on a model's name, which must be in lower case, as everything in the book is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Clause {
    /// The name is this.
    Equals(Box<str>),
    /// The name starts so.
    StartsWith(Box<str>),
    /// The name ends so.
    EndsWith(Box<str>),
    /// The name has this in it.
    Contains(Box<str>),
    /// The name is this, where `#` stands for any digit.
    Shape(Box<str>),
    /// The name starts so, where `#` stands for any digit.
    StartsWithShape(Box<str>),
    /// Not that.
    Not(Box<Self>),
    /// At least one of them.
    Or(Vec<Self>),
    /// All of them.
    And(Vec<Self>),
}

impl Clause {
    /// Whether `model` is meant.
    pub(super) fn matches(&self, model: &str) -> bool {
        match self {
            Self::Equals(text) => model == &**text,
            Self::StartsWith(text) => model.starts_with(&**text),
            Self::EndsWith(text) => model.ends_with(&**text),
            Self::Contains(text) => model.contains(&**text),
            Self::Shape(shape) => model.len() == shape.len() && starts_with_shape(model, shape),
            Self::StartsWithShape(shape) => starts_with_shape(model, shape),
            Self::Not(clause) => !clause.matches(model),
            Self::Or(clauses) => clauses.iter().any(|clause| clause.matches(model)),
            Self::And(clauses) => clauses.iter().all(|clause| clause.matches(model)),
        }
    }
}

fn starts_with_shape(model: &str, shape: &str) -> bool {
    model.len() >= shape.len()
        && model
            .bytes()
            .zip(shape.bytes())
            .all(|(found, wanted)| found == wanted || (wanted == b'#' && found.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clause(json: &str) -> Clause {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_shape_wants_digits_and_the_whole_name() {
        let dated = clause(r#"{"shape":"gpt-6-sol-####-##-##"}"#);
        assert!(dated.matches("gpt-6-sol-2026-10-06"));
        for other in [
            "gpt-6-sol-2026-10-0",
            "gpt-6-sol-2026-10-066",
            "gpt-6-sol-latest-yes",
        ] {
            assert!(!dated.matches(other), "{other}");
        }
        let open = clause(r#"{"starts_with_shape":"gemini-4-#"}"#);
        assert!(open.matches("gemini-4-1-preview") && !open.matches("gemini-4-pro"));
    }

    #[test]
    fn clauses_combine() {
        let not_tts = clause(
            r#"{"and":[{"starts_with":"gemini"},{"not":{"or":[{"ends_with":"-tts"},{"contains":"-tts-"}]}}]}"#,
        );
        assert!(not_tts.matches("gemini-2.5-pro"));
        assert!(!not_tts.matches("gemini-2.5-pro-tts"));
        assert!(!not_tts.matches("gemini-2.5-pro-tts-preview"));
        assert!(!not_tts.matches("gpt-4o"));
    }
}
