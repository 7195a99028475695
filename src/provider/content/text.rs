//! Text and values out of JSON that may be broken, cut or no UTF-8: what cannot be resolved becomes
//! U+FFFD, and nothing is an error.

use serde_json::Value;

use super::super::wire::json::{Ahead, Json};
use crate::base::escape::resolved;

/// The text of a string; `None` if it is none.
pub(super) fn text(json: Json<'_>) -> Option<String> {
    if let Some(text) = json.str() {
        return Some(text.into_owned());
    }
    let inner = json.raw().strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    Some(resolved(inner))
}

/// The text in a value, in whatever way it is wrapped: a string, an object with a `text`, `value` or
/// the like, or a list of them.
pub(super) fn words(value: Ahead<'_, '_>) -> String {
    let mut words = String::new();
    add_words(value, &mut words, 0);
    words
}

fn add_words(value: Ahead<'_, '_>, words: &mut String, depth: u8) {
    if value.is_string() {
        words.push_str(&text(value.take()).unwrap_or_default());
    } else if depth > 4 {
        value.take();
    } else if value.is_array() {
        value.items(|item| add_words(item, words, depth + 1));
    } else {
        value.object(|key, value| match key {
            b"text" | b"value" | b"thinking" | b"reasoningText" | b"transcript" | b"content"
            | b"parts" => add_words(value, words, depth + 1),
            _ => {},
        });
    }
}

/// The value; one that cannot be parsed as it is, by its bytes as text.
pub(super) fn value(json: Json<'_>) -> Value {
    if json.is_string() {
        return Value::String(text(json).unwrap_or_default());
    }
    let parsed = serde_json::from_slice(json.raw());
    parsed.unwrap_or_else(|_broken| Value::String(String::from_utf8_lossy(json.raw()).into_owned()))
}

/// The arguments of a tool: an object, also where it is written in a string; else what there is.
pub(super) fn arguments(json: Json<'_>) -> Value {
    match value(json) {
        Value::String(text) => parsed(text),
        value => value,
    }
}

/// The object or list that is written in `text`, else the text.
pub(super) fn parsed(text: String) -> Value {
    let value = serde_json::from_str(&text).ok();
    value
        .filter(|value: &Value| value.is_object() || value.is_array())
        .unwrap_or(Value::String(text))
}

/// A document that was cut, with its open strings and brackets closed, so that what is there of it
/// can be read.
pub(super) fn mended(cut: &[u8]) -> Vec<u8> {
    const DEEPEST: usize = 512;
    let mut closers = Vec::new();
    let mut place = Place::Outside;
    for (at, byte) in cut.iter().enumerate() {
        if let Place::Unicode { .. } = place
            && !byte.is_ascii_hexdigit()
        {
            place = Place::Inside;
        }
        place = match (place, byte) {
            (Place::Outside, b'"') | (Place::Escape { .. }, _) if *byte != b'u' => Place::Inside,
            (Place::Escape { from }, _) => Place::Unicode { from, left: 4 },
            (Place::Unicode { left: 1, .. }, _) => Place::Inside,
            (Place::Unicode { from, left }, _) => Place::Unicode {
                from,
                left: left - 1,
            },
            (Place::Inside, b'\\') => Place::Escape { from: at },
            (Place::Inside, b'"') => Place::Outside,
            (Place::Outside, b'{' | b'[') if closers.len() < DEEPEST => {
                closers.push(if *byte == b'{' { b'}' } else { b']' });
                Place::Outside
            },
            (Place::Outside, b'}' | b']') => {
                closers.pop();
                Place::Outside
            },
            (same, _) => same,
        };
    }
    let end = match place {
        Place::Escape { from } | Place::Unicode { from, .. } => from,
        Place::Outside | Place::Inside => cut.len(),
    };
    let mut mended = cut.get(..end).unwrap_or_default().to_vec();
    mended.extend((place != Place::Outside).then_some(b'"'));
    mended.extend(closers.into_iter().rev());
    mended
}

/// Where a byte of a document stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    Inside,
    /// Behind the backslash at `from`.
    Escape {
        from: usize,
    },
    /// Within the digits of the escape that begins at `from`.
    Unicode {
        from: usize,
        left: u8,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn text_that_no_parser_takes_is_read_as_far_as_it_can_be() {
        for (raw, expected) in [
            (&b"\"a\\u0040b\\n\\\"\\u00e9\""[..], "a@b\n\"\u{e9}"),
            (b"\"x\xff\\u0040y\"", "x\u{fffd}@y"),
            (b"\"tab\there\"", "tab\there"),
        ] {
            assert_eq!(text(Json::document(raw)).unwrap(), expected);
        }
        assert_eq!(text(Json::document(b"7")), None);
    }

    #[test]
    fn words_are_found_however_they_are_wrapped() {
        for text in [
            r#""ab""#,
            r#"[{"type":"text","text":"a"},"b"]"#,
            r#"{"text":{"value":"ab","annotations":["x"]}}"#,
            r#"{"content":[{"thinking":[{"text":"ab"}]}]}"#,
        ] {
            assert_eq!(Json::document(text.as_bytes()).read(words), "ab", "{text}");
        }
    }

    #[test]
    fn arguments_are_objects_wherever_they_can_be() {
        let of = |text: &str| arguments(Json::document(text.as_bytes()));
        assert_eq!(of(r#"{"a":1}"#), json!({"a": 1}));
        assert_eq!(of(r#""{\"a\":1}""#), json!({"a": 1}));
        assert_eq!(of(r#""{\"a\":""#), json!("{\"a\":"));
        assert_eq!(of(r#""7""#), json!("7"));
    }

    proptest! {
        #[test]
        fn what_was_cut_in_a_text_is_whole_again(
            text in "[a\"\\\\\n\u{1}\u{e9}]{1,8}", cut: prop::sample::Index,
        ) {
            let whole = json!([{"a": {"b": text}}]).to_string();
            let from = whole.find(":{\"b\":\"").unwrap() + 7;
            let to = whole.len() - 4;
            let end = from + cut.index(to - from + 1);
            let mended = mended(&whole.as_bytes()[..end]);
            let lossy = String::from_utf8_lossy(&mended).into_owned();
            let found: Value = serde_json::from_str(&lossy).unwrap();
            let found = found[0]["a"]["b"].as_str().unwrap();
            prop_assert!(text.starts_with(found.trim_end_matches('\u{fffd}')), "{found:?}");
        }

        #[test]
        fn any_bytes_can_be_mended(bytes in prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(&b"{}[]\"\\u0"[..])], 0..40,
        )) {
            let mended = mended(&bytes);
            let json = Json::document(&mended);
            let _read = (text(json), value(json), arguments(json), json.read(words));
        }
    }
}
