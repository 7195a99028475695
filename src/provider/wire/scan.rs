//! Bodies and events too large to hold: the few fields that matter are kept, the rest is counted.
//!
//! What is kept makes a JSON document of its own, to be read like a small one. Bounded by
//! [`Scanner::MAX_VALUE`] a value and [`Scanner::MAX_KEPT`] in all; a value that does not fit is
//! left out and counted.

use memchr::memchr2;

use crate::call::{facts::InputSize, text::Text};

/// The fields to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Names of fields, at the top and within the objects below.
    pub fields: &'static [&'static str],
    /// Names of objects at the top whose fields are looked at as well.
    pub within: &'static [&'static str],
}

/// The fields to keep of requests and of responses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Of requests.
    pub request: Wanted,
    /// Of whole responses, and of events.
    pub response: Wanted,
}

/// Looks for fields in a JSON object that arrives in chunks, however they are cut. Whatever comes
/// before the first brace (the `data:` of an event) is passed over.
#[derive(Clone, Debug)]
pub struct Scanner {
    wanted: Wanted,
    kept: Vec<u8>,
    /// Where the field that is being kept began in `kept`.
    keeping: Option<usize>,
    /// The name of the field that is being looked at, as it is spelt.
    key: Vec<u8>,
    /// Whose fields the second level has, if it is looked at.
    within: Option<&'static str>,
    depth: usize,
    place: Place,
    seen: u64,
    too_large: u64,
}

/// Where in the text the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the first brace.
    Before,
    /// Where a field's name is to come.
    BeforeKey,
    /// In a field's name.
    Key,
    /// Anywhere else outside a string.
    Outside,
    /// In any other string.
    Text,
    /// Behind a backslash in a field's name, or in any other string.
    Escape { in_key: bool },
    /// Behind the last brace.
    After,
}

/// What is left of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduced {
    /// A JSON object with the fields that were kept.
    pub document: Vec<u8>,
    /// How many bytes were not kept.
    pub skipped: u64,
    /// How many wanted values did not fit.
    pub too_large: u64,
    /// The object was seen to its end.
    pub whole: bool,
}

impl Reduced {
    /// Makes `input` an upper bound for a request that was read from what is left of it: all that
    /// was skipped may be text, and may be asked to be cached.
    pub fn bound(&self, input: &mut InputSize) {
        input.text_bytes += Text::unknown(self.skipped);
        input.writes_cache = true;
    }
}

impl Scanner {
    /// The longest value that is kept, in bytes.
    pub const MAX_VALUE: usize = 64 * 1024;
    /// The most that is kept in all, in bytes.
    pub const MAX_KEPT: usize = 256 * 1024;
    /// The longest name that is looked at, in bytes.
    const MAX_KEY: usize = 64;

    /// Looks for `wanted`.
    pub fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            kept: vec![b'{'],
            keeping: None,
            key: Vec::new(),
            within: None,
            depth: 0,
            place: Place::Before,
            seen: 0,
            too_large: 0,
        }
    }

    /// Takes in the next chunk.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.seen += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        let mut rest = chunk;
        while let [byte, tail @ ..] = rest {
            let run = match self.place {
                Place::After => return,
                Place::Text => memchr2(b'"', b'\\', rest).unwrap_or(rest.len()),
                _ => 0,
            };
            if run > 0 {
                let (inside, after) = rest.split_at(run);
                self.keep(inside);
                rest = after;
            } else {
                self.step(*byte);
                rest = tail;
            }
        }
    }

    /// What is left when the body has ended, wherever it ended.
    pub fn finish(mut self) -> Reduced {
        self.drop_unfinished();
        if self.within.is_some() {
            self.kept.push(b'}');
        }
        self.kept.push(b'}');
        let kept = u64::try_from(self.kept.len()).unwrap_or(u64::MAX);
        Reduced {
            skipped: self.seen.saturating_sub(kept),
            document: self.kept,
            too_large: self.too_large,
            whole: self.place == Place::After,
        }
    }

    fn step(&mut self, byte: u8) {
        match (self.place, byte) {
            (Place::Before, b'{') => {
                self.depth = 1;
                self.place = Place::BeforeKey;
            },
            (Place::Before | Place::After, _) => {},
            (Place::BeforeKey, b'"') => {
                self.key.clear();
                self.place = Place::Key;
            },
            (Place::Key, b'"') => self.place = Place::Outside,
            (Place::Key, b'\\') => {
                self.push_key(byte);
                self.place = Place::Escape { in_key: true };
            },
            (Place::Key, _) => self.push_key(byte),
            (Place::Text, _) => {
                self.keep(&[byte]);
                match byte {
                    b'"' => self.place = Place::Outside,
                    b'\\' => self.place = Place::Escape { in_key: false },
                    _ => {},
                }
            },
            (Place::Escape { in_key: true }, _) => {
                self.push_key(byte);
                self.place = Place::Key;
            },
            (Place::Escape { in_key: false }, _) => {
                self.keep(&[byte]);
                self.place = Place::Text;
            },
            (Place::Outside | Place::BeforeKey, _) => self.outside(byte),
        }
    }

    fn push_key(&mut self, byte: u8) {
        // A longer name is none that is wanted; it only must not become one by being cut.
        if self.key.len() <= Self::MAX_KEY {
            self.key.push(byte);
        }
    }

    fn outside(&mut self, byte: u8) {
        let at_fields = self.is_at_fields();
        match byte {
            b'"' => {
                self.keep(&[byte]);
                self.place = Place::Text;
            },
            b':' if at_fields && self.keeping.is_none() => self.begin_value(),
            b',' if at_fields => {
                self.keeping = None;
                self.place = Place::BeforeKey;
            },
            b'{' | b'[' => {
                self.keep(&[byte]);
                self.depth += 1;
                let enters = byte == b'{' && self.depth == 2 && self.keeping.is_none();
                if enters && let Some(name) = self.named_object() {
                    self.enter(name);
                }
            },
            b'}' | b']' => self.close(byte),
            _ => self.keep(&[byte]),
        }
    }

    /// Whether the fields at this depth are looked at.
    const fn is_at_fields(&self) -> bool {
        self.depth == 1 || (self.depth == 2 && self.within.is_some())
    }

    fn named_object(&self) -> Option<&'static str> {
        let mut names = self.wanted.within.iter().copied();
        names.find(|name| *name.as_bytes() == *self.key)
    }

    fn begin_value(&mut self) {
        let mut fields = self.wanted.fields.iter();
        if let Some(name) = fields.find(|name| *name.as_bytes() == *self.key) {
            self.keeping = Some(self.kept.len());
            self.write_key(name);
        }
    }

    fn enter(&mut self, name: &'static str) {
        if self.kept.len() < Self::MAX_KEPT {
            self.write_key(name);
            self.kept.push(b'{');
            self.within = Some(name);
            self.place = Place::BeforeKey;
        } else {
            self.too_large += 1;
        }
    }

    fn write_key(&mut self, name: &str) {
        if self.kept.last() != Some(&b'{') {
            self.kept.push(b',');
        }
        self.kept.push(b'"');
        self.kept.extend_from_slice(name.as_bytes());
        self.kept.extend_from_slice(b"\":");
    }

    fn close(&mut self, byte: u8) {
        if self.is_at_fields() {
            self.keeping = None;
        } else {
            self.keep(&[byte]);
        }
        self.depth -= 1;
        if self.depth == 1 && self.within.take().is_some() {
            self.kept.push(b'}');
        }
        self.place = if self.depth == 0 {
            Place::After
        } else {
            Place::Outside
        };
    }

    /// Adds bytes to the value that is being kept, if one is.
    fn keep(&mut self, bytes: &[u8]) {
        let Some(start) = self.keeping else {
            return;
        };
        let end = self.kept.len() + bytes.len();
        if end - start > Self::MAX_VALUE || end > Self::MAX_KEPT {
            self.too_large += 1;
            self.drop_unfinished();
        } else {
            self.kept.extend_from_slice(bytes);
        }
    }

    fn drop_unfinished(&mut self) {
        if let Some(start) = self.keeping.take() {
            self.kept.truncate(start);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const WANTED: Wanted = Wanted {
        fields: &["model", "usage", "n"],
        within: &["response"],
    };

    fn scan(bytes: &[u8], chunk_size: usize) -> Reduced {
        let mut scanner = Scanner::new(WANTED);
        bytes
            .chunks(chunk_size)
            .for_each(|chunk| scanner.feed(chunk));
        scanner.finish()
    }

    fn document(text: &str) -> Value {
        serde_json::from_slice(&scan(text.as_bytes(), 3).document).unwrap()
    }

    #[test]
    fn wanted_fields_are_kept_at_both_levels_and_nowhere_else() {
        let found = document(
            r#"data: {"model": "a\"}b", "x": {"model": 1, "response": {"n": 2}}, "usage": {"n": [1, {}]},
            "response": {"y": [{"n": 3}], "usage": {"z": null}, "n" : -1.5e3 }, "text": "\"n\":4", "n": true }"#,
        );
        let expected = json!({"model": "a\"}b", "usage": {"n": [1, {}]},
            "response": {"usage": {"z": null}, "n": -1500.0}, "n": true});
        assert_eq!(found, expected);
    }

    #[test]
    fn what_breaks_off_keeps_what_was_whole() {
        let found = scan(br#"{"n":1,"response":{"model":"m","usage":{"a":"#, 1000);
        assert_eq!(found.document, br#"{"n":1,"response":{"model":"m"}}"#);
        assert!(!found.whole);
        assert!(scan(b"{}", 1000).whole);
    }

    #[test]
    fn a_value_that_is_too_large_is_left_out_and_counted() {
        let body = format!(r#"{{"model":"{}","n":1}}"#, "x".repeat(Scanner::MAX_VALUE));
        let found = scan(body.as_bytes(), 1000);
        assert_eq!(
            (found.document, found.too_large),
            (br#"{"n":1}"#.to_vec(), 1)
        );
        assert!(found.skipped > 60_000);
    }

    #[test]
    fn what_is_kept_is_bounded_however_often_a_field_is_repeated() {
        let field = format!(r#""model":"{}","#, "x".repeat(50_000));
        let body = format!("{{{}\"n\":1}}", field.repeat(100));
        let found = scan(body.as_bytes(), 4096);
        assert!(
            found.document.len() <= Scanner::MAX_KEPT + 64,
            "{}",
            found.document.len()
        );
        assert!(found.too_large > 90);
    }

    #[test]
    fn a_long_name_does_not_become_a_wanted_one() {
        let name = format!("n{}", "x".repeat(1000));
        assert_eq!(document(&json!({name: 1}).to_string()), json!({}));
    }

    #[test]
    fn a_bound_takes_all_that_was_skipped_for_text() {
        let mut input = InputSize::default();
        let reduced = scan(br#"{"n":1,"messages":"0123456789"}"#, 1000);
        reduced.bound(&mut input);
        assert!(input.text_bytes.bytes >= 10 && input.writes_cache);
    }

    fn body() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Into::into),
            ".{0,9}".prop_map(Into::into),
        ];
        let any = leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map("model|usage|n|response|[a-c{}\"]{0,3}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        prop::collection::btree_map("model|usage|n|response|[a-c]", any, 0..6)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    /// What a parser would keep.
    fn expected(body: &Value, depth: usize) -> Value {
        let fields = body.as_object().unwrap().iter();
        let kept = fields.filter_map(|(key, value)| {
            if WANTED.fields.contains(&&**key) {
                Some((key.clone(), value.clone()))
            } else {
                let enters = depth == 1 && WANTED.within.contains(&&**key) && value.is_object();
                enters.then(|| (key.clone(), expected(value, 2)))
            }
        });
        Value::Object(kept.collect())
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_a_parser_would_keep_whatever_the_chunking(
            body in body(), pretty: bool, size in 1_usize..40,
        ) {
            let text = if pretty {
                serde_json::to_string_pretty(&body).unwrap()
            } else {
                body.to_string()
            };
            let found = scan(text.as_bytes(), size);
            let kept: Value = serde_json::from_slice(&found.document).unwrap();
            prop_assert_eq!(kept, expected(&body, 1));
            prop_assert!(found.whole);
        }

        #[test]
        fn garbage_and_cuts_never_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..90)) {
            let braced = [b"{\"n\":", &*bytes].concat();
            let _found = (scan(&bytes, 5), scan(&braced, 1));
        }
    }
}
