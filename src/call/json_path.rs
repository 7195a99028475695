//! Places in JSON documents, written as `$.metadata.customer`, `$.messages[*].name` or `$..email`.

use std::{fmt, str::FromStr};

use serde_json::Value;

/// Some places of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath {
    written: Box<str>,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// The field of that name.
    Field(Box<str>),
    /// The item at that place, from 0.
    Item(usize),
    /// Every field or item.
    All,
    /// The value, and everything within it.
    Deep,
}

/// What is written is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a path is `$`, and then any of `.name`, `['name']`, `[0]`, `[*]`, `.*` and `..name`, \
     as in `$.metadata.customer`"
)]
pub struct NoPath;

impl FromStr for JsonPath {
    type Err = NoPath;

    fn from_str(text: &str) -> Result<Self, NoPath> {
        let mut rest = text.strip_prefix('$').ok_or(NoPath)?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(inside) = rest.strip_prefix('[') {
                let (step, after) = bracket(inside).ok_or(NoPath)?;
                steps.push(step);
                rest = after;
                continue;
            }
            let mut named = rest.strip_prefix('.').ok_or(NoPath)?;
            if let Some(deep) = named.strip_prefix('.') {
                steps.push(Step::Deep);
                named = deep;
                if named.starts_with('[') {
                    rest = named;
                    continue;
                }
            }
            let end = named.find(['.', '[']).unwrap_or(named.len());
            let (name, after) = named.split_at_checked(end).ok_or(NoPath)?;
            steps.push(match name {
                "" => return Err(NoPath),
                "*" => Step::All,
                name => Step::Field(name.into()),
            });
            rest = after;
        }
        if steps.is_empty() {
            return Err(NoPath);
        }
        Ok(Self {
            written: text.into(),
            steps,
        })
    }
}

/// What stands in brackets, and what follows them.
fn bracket(inside: &str) -> Option<(Step, &str)> {
    for quote in ['\'', '"'] {
        if let Some(quoted) = inside.strip_prefix(quote) {
            let (name, after) = quoted.split_once(quote)?;
            return Some((Step::Field(name.into()), after.strip_prefix(']')?));
        }
    }
    let (place, after) = inside.split_once(']')?;
    let step = match place {
        "*" => Step::All,
        place => Step::Item(place.parse().ok()?),
    };
    Some((step, after))
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl JsonPath {
    /// Puts `mark` in the place of whatever stands there in `document`. Returns how often it did.
    pub fn hide(&self, document: &mut Value, mark: &str) -> u64 {
        hide(&self.steps, document, mark)
    }
}

fn hide(steps: &[Step], value: &mut Value, mark: &str) -> u64 {
    let Some((step, rest)) = steps.split_first() else {
        if value.as_str() == Some(mark) {
            return 0;
        }
        *value = Value::from(mark);
        return 1;
    };
    match (step, value) {
        (Step::Field(name), Value::Object(fields)) => fields
            .get_mut(&**name)
            .map_or(0, |value| hide(rest, value, mark)),
        (Step::Item(place), Value::Array(items)) => items
            .get_mut(*place)
            .map_or(0, |value| hide(rest, value, mark)),
        (Step::All, Value::Object(fields)) => {
            fields.values_mut().map(|it| hide(rest, it, mark)).sum()
        },
        (Step::All, Value::Array(items)) => items.iter_mut().map(|it| hide(rest, it, mark)).sum(),
        (Step::Deep, value) => {
            let here = hide(rest, value, mark);
            let within: u64 = match value {
                Value::Object(fields) => fields.values_mut().map(|it| hide(steps, it, mark)).sum(),
                Value::Array(items) => items.iter_mut().map(|it| hide(steps, it, mark)).sum(),
                _ => 0,
            };
            here + within
        },
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_stands_at_a_path_is_hidden_and_nothing_else() {
        let document = json!({"a": {"b": [1, {"b": 2}], "c d": 3}, "b": null});
        for (path, expected) in [
            ("$.a.b", json!({"a": {"b": "-", "c d": 3}, "b": null})),
            (
                "$.a.b[1].b",
                json!({"a": {"b": [1, {"b": "-"}], "c d": 3}, "b": null}),
            ),
            (
                "$['a'][\"c d\"]",
                json!({"a": {"b": [1, {"b": 2}], "c d": "-"}, "b": null}),
            ),
            (
                "$.a.b[*]",
                json!({"a": {"b": ["-", "-"], "c d": 3}, "b": null}),
            ),
            ("$.a.*", json!({"a": {"b": "-", "c d": "-"}, "b": null})),
            ("$..b", json!({"a": {"b": "-", "c d": 3}, "b": "-"})),
            ("$.a..b", json!({"a": {"b": "-", "c d": 3}, "b": null})),
            ("$.x.y", document.clone()),
            ("$.a[0]", document.clone()),
        ] {
            let mut found = document.clone();
            path.parse::<JsonPath>().unwrap().hide(&mut found, "-");
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [
            "", "$", "a.b", "$a", "$.", "$..", "$.a.", "$[", "$[x]", "$['a'", "$.a[1",
        ] {
            assert_eq!(text.parse::<JsonPath>(), Err(NoPath), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_path_or_is_not(text in "[$.\\[\\]*'a0]{0,12}") {
            if let Ok(path) = text.parse::<JsonPath>() {
                prop_assert_eq!(path.to_string(), text);
                let mut document = json!({"a": [{"a": {"a0": []}}, 0]});
                path.hide(&mut document, "-");
            }
        }
    }
}
