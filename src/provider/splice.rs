//! The edit of a request: one run of bytes is replaced, all others stay as they are.

use super::wire::json::Json;

/// Replaces `remove` bytes at `at` by `insert`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    /// Where the run begins, in bytes.
    pub at: usize,
    /// How many bytes are taken out.
    pub remove: usize,
    /// What is put in their place.
    pub insert: Vec<u8>,
}

impl Splice {
    /// The body with the edit made. A splice that was made for another body changes what it can.
    pub fn apply(&self, body: &[u8]) -> Vec<u8> {
        let start = self.at.min(body.len());
        let end = start.saturating_add(self.remove).min(body.len());
        let before = body.get(..start).unwrap_or_default();
        let after = body.get(end..).unwrap_or_default();
        [before, &self.insert, after].concat()
    }

    /// Makes `value` the field at the end of `path`. Objects that are missing on the way are put
    /// in; whatever else stands in the place of one is replaced. `None` if `body` is no whole
    /// object. Where a key occurs twice, its last value is the one that counts.
    pub(super) fn set(body: &[u8], path: &[&str], value: &str) -> Option<Self> {
        let mut within = Json::document(body);
        let mut rest = path;
        while let [key, below @ ..] = rest {
            let mut found = None;
            let is_empty = look(within, |name, value| {
                if *name == *key.as_bytes() {
                    found = Some(value);
                }
            })?;
            match found {
                Some(found) if below.is_empty() => return Some(Self::replace(found, value)),
                Some(found) if found.is_object() => within = found,
                Some(found) => return Some(Self::replace(found, &nested(below, value))),
                None => {
                    let value = nested(below, value);
                    return Some(Self::append(within, is_empty, key, &value));
                },
            }
            rest = below;
        }
        None
    }

    /// Lowers every field of `within` that has one of `names` and is not a number up to `limit`;
    /// if there is none, puts in the first of `names`. `None` if nothing has to change.
    ///
    /// All of them, since which of two equal or equivalent keys counts is up to the provider.
    pub(super) fn lower(body: &[u8], within: Json<'_>, names: &[&str], limit: u64) -> Option<Self> {
        let (mut is_bounded, mut too_high) = (false, Vec::new());
        let is_empty = look(within, |name, value| {
            if names.iter().any(|known| *known.as_bytes() == *name) {
                is_bounded = true;
                if value.u64().is_none_or(|value| value > limit) {
                    too_high.push(value);
                }
            }
        })?;
        if !is_bounded {
            let name = names.first()?;
            return Some(Self::append(within, is_empty, name, &limit.to_string()));
        }
        let (first, last) = (too_high.first()?, too_high.last()?);
        let mut insert = Vec::new();
        let mut copied = first.at();
        for value in &too_high {
            insert.extend_from_slice(body.get(copied..value.at())?);
            insert.extend_from_slice(limit.to_string().as_bytes());
            copied = value.end();
        }
        Some(Self {
            at: first.at(),
            remove: last.end() - first.at(),
            insert,
        })
    }

    fn replace(old: Json<'_>, new: &str) -> Self {
        Self {
            at: old.at(),
            remove: old.raw().len(),
            insert: new.as_bytes().to_vec(),
        }
    }

    /// Puts a field before the last brace of an object.
    fn append(object: Json<'_>, is_empty: bool, key: &str, value: &str) -> Self {
        let comma = if is_empty { "" } else { "," };
        Self {
            at: object.end() - 1,
            remove: 0,
            insert: format!("{comma}\"{key}\":{value}").into_bytes(),
        }
    }
}

/// Looks at every field of an object. Whether it has none; `None` if it is no whole object.
fn look<'a>(object: Json<'a>, mut each: impl FnMut(&[u8], Json<'a>)) -> Option<bool> {
    let mut is_empty = true;
    let read = object.object(|name, value| {
        is_empty = false;
        each(name, value.take());
    });
    read.ok().map(|()| is_empty)
}

/// `value` within an object for each name of `path`.
fn nested(path: &[&str], value: &str) -> String {
    path.iter().rev().fold(value.to_owned(), |inner, key| {
        format!("{{\"{key}\":{inner}}}")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const USAGE: &[&str] = &["stream_options", "include_usage"];

    fn set(body: &str) -> Option<String> {
        Splice::set(body.as_bytes(), USAGE, "true")
            .map(|splice| String::from_utf8(splice.apply(body.as_bytes())).unwrap())
    }

    #[test]
    fn a_field_is_put_before_the_last_brace_or_into_the_object_that_is_there() {
        for (body, expected) in [
            ("{}", r#"{"stream_options":{"include_usage":true}}"#),
            (
                " { }\n",
                " { \"stream_options\":{\"include_usage\":true}}\n",
            ),
            (
                "{\"a\": \"}\\\"\" }",
                "{\"a\": \"}\\\"\" ,\"stream_options\":{\"include_usage\":true}}",
            ),
            (
                r#"{"stream_options":null,"b":1}"#,
                r#"{"stream_options":{"include_usage":true},"b":1}"#,
            ),
            (
                r#"{"stream_options": {} ,"b":1}"#,
                r#"{"stream_options": {"include_usage":true} ,"b":1}"#,
            ),
            (
                r#"{"stream_options":{"x":{"include_usage":1}}}"#,
                r#"{"stream_options":{"x":{"include_usage":1},"include_usage":true}}"#,
            ),
            (
                r#"{"stream_options":{"include_usage": false ,"x":1}}"#,
                r#"{"stream_options":{"include_usage": true ,"x":1}}"#,
            ),
            (
                r#"{"stream_options":{},"stream_options":{"a":1}}"#,
                r#"{"stream_options":{},"stream_options":{"a":1,"include_usage":true}}"#,
            ),
        ] {
            assert_eq!(set(body).as_deref(), Some(expected), "{body}");
        }
    }

    #[test]
    fn what_is_no_whole_object_is_not_edited() {
        for body in [
            "",
            "[]",
            "{\"a\":1",
            "{\"a\":1}{",
            "null",
            "{\"stream_options\":{\"a\":}}",
        ] {
            assert_eq!(set(body), None, "{body}");
        }
    }

    #[test]
    fn every_spelling_of_a_limit_is_lowered_and_none_is_raised() {
        let lower = |body: &str| {
            let names = ["max_completion_tokens", "max_tokens"];
            let document = Json::document(body.as_bytes());
            Splice::lower(body.as_bytes(), document, &names, 50)
                .map(|splice| String::from_utf8(splice.apply(body.as_bytes())).unwrap())
        };
        for (body, expected) in [
            (r#"{"a":1}"#, Some(r#"{"a":1,"max_completion_tokens":50}"#)),
            (r#"{"max_tokens":51}"#, Some(r#"{"max_tokens":50}"#)),
            (r#"{"max_tokens":null}"#, Some(r#"{"max_tokens":50}"#)),
            (r#"{"max_tokens":50}"#, None),
            (
                r#"{"max_tokens":99,"b":"c","max_tokens":3,"max_completion_tokens":1e9}"#,
                Some(r#"{"max_tokens":50,"b":"c","max_tokens":3,"max_completion_tokens":50}"#),
            ),
            (r#"{"max_tokens":51"#, None),
        ] {
            assert_eq!(lower(body).as_deref(), expected, "{body}");
        }
    }

    fn request() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Into::into),
            ".{0,9}".prop_map(Into::into)
        ];
        let any = leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map("[a-c{}\"]{0,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        (any.clone(), prop::option::of(any.clone()), any).prop_map(|(a, options, b)| {
            let mut request = json!({"a": a, "zzz": b});
            if let Some(options) = options {
                request["stream_options"] = options;
            }
            request
        })
    }

    proptest! {
        #[test]
        fn a_spliced_body_is_valid_and_equal_in_every_other_field(request in request(), pretty: bool) {
            let text = if pretty {
                serde_json::to_string_pretty(&request).unwrap()
            } else {
                request.to_string()
            };
            let splice = Splice::set(text.as_bytes(), USAGE, "true").unwrap();
            let edited: Value = serde_json::from_slice(&splice.apply(text.as_bytes())).unwrap();
            let mut expected = request;
            if !expected["stream_options"].is_object() {
                expected["stream_options"] = json!({});
            }
            expected["stream_options"]["include_usage"] = json!(true);
            prop_assert_eq!(edited, expected);
        }

        #[test]
        fn garbage_is_never_edited_beyond_its_ends(body in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(splice) = Splice::set(&body, USAGE, "true") {
                prop_assert!(splice.at + splice.remove <= body.len());
            }
        }
    }
}
