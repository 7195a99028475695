//! JSON read in place: a view of the bytes that finds what is asked for and builds no tree.
//!
//! Made for watching traffic: a field of an unexpected type is absent instead of an error that
//! hides all others, a body of megabytes costs no memory, and every value knows where in the
//! document it stands. It does not validate: whatever has balanced brackets and closed strings is
//! read. A key that occurs twice has its last value, as with the parsers that providers use.

use std::borrow::Cow;

use memchr::memchr2;

use crate::call::text::Text;

/// The bytes are not what was expected, and nothing more can be read of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub &'static str);

const BROKEN: Unreadable = Unreadable("the body is not whole and valid JSON");
const NOT_AN_OBJECT: Unreadable = Unreadable("the body is not a JSON object");

/// A JSON value as it stands in a document.
#[derive(Clone, Copy, Debug)]
pub struct Json<'a> {
    raw: &'a [u8],
    at: usize,
}

/// One field of an object.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Its name, with escapes resolved.
    pub key: Cow<'a, [u8]>,
    /// Its value.
    pub value: Json<'a>,
}

impl<'a> Json<'a> {
    /// A whole document. Nothing is checked yet: [`Json::entries`] finds what is broken.
    pub fn document(bytes: &'a [u8]) -> Self {
        let unmarked = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let raw = unmarked.trim_ascii();
        let at = bytes.len() - unmarked.trim_ascii_start().len();
        Self { raw, at }
    }

    /// The bytes of the value.
    pub const fn raw(self) -> &'a [u8] {
        self.raw
    }

    /// Where the value begins in its document, in bytes.
    pub const fn at(self) -> usize {
        self.at
    }

    /// Where the value ends in its document, in bytes.
    pub const fn end(self) -> usize {
        self.at + self.raw.len()
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        self.raw.first() == Some(&b'{')
    }

    /// Whether it is an array.
    pub fn is_array(self) -> bool {
        self.raw.first() == Some(&b'[')
    }

    /// Whether it is a string.
    pub fn is_string(self) -> bool {
        self.raw.first() == Some(&b'"')
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.raw == b"null"
    }

    /// The fields of an object, in their order. Whatever breaks it is the last item.
    pub fn entries(self) -> Entries<'a> {
        let state = if self.is_object() {
            State::First
        } else {
            State::Refused
        };
        Entries {
            within: self,
            at: 1,
            state,
        }
    }

    /// The field of that name; the last one if there are several.
    pub fn get(self, key: &str) -> Option<Self> {
        self.entries()
            .map_while(Result::ok)
            .filter(|entry| *entry.key == *key.as_bytes())
            .last()
            .map(|entry| entry.value)
    }

    /// The value at the end of a path of field names.
    pub fn at_path(self, path: &[&str]) -> Option<Self> {
        path.iter().try_fold(self, |value, key| value.get(key))
    }

    /// The items of an array; none if it is not one. Ends early where the array is broken.
    pub fn items(self) -> Items<'a> {
        let at = if self.is_array() { 1 } else { self.raw.len() };
        Items { within: self, at }
    }

    /// The text of a string.
    pub fn str(self) -> Option<Cow<'a, str>> {
        let inner = self.raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        if memchr::memchr(b'\\', inner).is_none() {
            return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
        }
        serde_json::from_slice(self.raw).ok().map(Cow::Owned)
    }

    /// The text of a string that is not empty, cut at 512 bytes: for names and identifiers.
    pub fn name(self) -> Option<Box<str>> {
        self.text_up_to(512)
    }

    /// The text of a string that is not empty, cut at `max` bytes.
    pub fn text_up_to(self, max: usize) -> Option<Box<str>> {
        let text = self.str()?;
        let end = text.floor_char_boundary(max);
        text.get(..end)
            .filter(|text| !text.is_empty())
            .map(Box::from)
    }

    /// A string, or a number in its own spelling: for codes that are either.
    pub fn name_or_number(self) -> Option<Box<str>> {
        match self.raw.first()? {
            b'"' => self.name(),
            b'0'..=b'9' | b'-' => std::str::from_utf8(self.raw).ok().map(Box::from),
            _ => None,
        }
    }

    /// A whole number that is not negative; `25.0` is one.
    pub fn u64(self) -> Option<u64> {
        let text = std::str::from_utf8(self.raw).ok()?;
        if let Ok(whole) = text.parse() {
            return Some(whole);
        }
        let number = self.f64()?;
        // By way of text: it refuses what is out of range, and needs no cast.
        (number >= 0.0 && number.fract() == 0.0)
            .then(|| format!("{number:.0}").parse().ok())
            .flatten()
    }

    /// A number.
    pub fn f64(self) -> Option<f64> {
        if !matches!(self.raw.first()?, b'0'..=b'9' | b'-') {
            return None;
        }
        let text = std::str::from_utf8(self.raw).ok()?;
        text.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// Whether it is `true`.
    pub fn is_true(self) -> bool {
        self.raw == b"true"
    }

    /// The text in the value, with escapes resolved: a string's own; for objects and arrays, that
    /// of all keys, strings, numbers and words in it.
    pub fn text_bytes(self) -> Text {
        let mut text = Text::default();
        let mut rest = self.raw;
        while let [first, tail @ ..] = rest {
            rest = tail;
            match first {
                b'"' => {
                    let end = string_end(tail, 0).unwrap_or(tail.len());
                    text += tail.get(..end).map(unescaped).unwrap_or_default();
                    rest = tail.get(end + 1..).unwrap_or_default();
                },
                b'{' | b'}' | b'[' | b']' | b',' | b':' => {},
                space if space.is_ascii_whitespace() => {},
                _ => text += Text::unknown(1),
            }
        }
        text
    }
}

/// The fields of an object: see [`Json::entries`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    within: Json<'a>,
    at: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    First,
    Next,
    Refused,
    Done,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        let state = std::mem::replace(&mut self.state, State::Done);
        match state {
            State::Done => return None,
            State::Refused => return Some(Err(NOT_AN_OBJECT)),
            State::First | State::Next => {},
        }
        let raw = self.within.raw;
        let at = skip_space(raw, self.at);
        if raw.get(at) == Some(&b'}') {
            return (at + 1 != raw.len()).then_some(Err(BROKEN));
        }
        let entry = self.read(at, state);
        if entry.is_some() {
            self.state = State::Next;
        }
        Some(entry.ok_or(BROKEN))
    }
}

impl<'a> Entries<'a> {
    /// The field that begins at `at`, behind a comma if it is not the first; `None` if none does.
    fn read(&mut self, mut at: usize, state: State) -> Option<Entry<'a>> {
        let raw = self.within.raw;
        if state == State::Next {
            at = skip_space(raw, expect(raw, at, b',')?);
        }
        let start = expect(raw, at, b'"')?;
        let end = string_end(raw, start)?;
        let key = unescape(raw.get(start..end)?);
        at = expect(raw, skip_space(raw, end + 1), b':')?;
        at = skip_space(raw, at);
        self.at = value_end(raw, at)?;
        let value = Json {
            raw: raw.get(at..self.at)?,
            at: self.within.at + at,
        };
        Some(Entry { key, value })
    }
}

/// The items of an array: see [`Json::items`].
#[derive(Clone, Debug)]
pub struct Items<'a> {
    within: Json<'a>,
    at: usize,
}

impl<'a> Iterator for Items<'a> {
    type Item = Json<'a>;

    fn next(&mut self) -> Option<Json<'a>> {
        let raw = self.within.raw;
        let mut at = skip_space(raw, self.at);
        if raw.get(at) == Some(&b',') {
            at = skip_space(raw, at + 1);
        }
        if matches!(raw.get(at)?, b']' | b'}') {
            return None;
        }
        self.at = value_end(raw, at)?;
        Some(Json {
            raw: raw.get(at..self.at)?,
            at: self.within.at + at,
        })
    }
}

/// The offset behind `byte`, if that is what stands at `at`.
fn expect(raw: &[u8], at: usize, byte: u8) -> Option<usize> {
    (raw.get(at) == Some(&byte)).then_some(at + 1)
}

fn skip_space(raw: &[u8], from: usize) -> usize {
    let rest = raw.get(from..).unwrap_or_default();
    let space = rest
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t'))
        .count();
    from + space
}

/// Where the string that began just before `from` has its closing quote.
pub(super) fn string_end(raw: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr2(b'"', b'\\', raw.get(at..)?)?;
        if raw.get(at) == Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

/// The end of the value that begins at `from`.
fn value_end(raw: &[u8], from: usize) -> Option<usize> {
    match raw.get(from)? {
        b'"' => string_end(raw, from + 1).map(|end| end + 1),
        b'{' | b'[' => container_end(raw, from),
        _ => {
            let rest = raw.get(from..)?;
            let len = rest
                .iter()
                .position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t'))
                .unwrap_or(rest.len());
            (len > 0).then_some(from + len)
        },
    }
}

fn container_end(raw: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = from;
    loop {
        match raw.get(at)? {
            b'"' => at = string_end(raw, at + 1)?,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at + 1);
                }
            },
            _ => {},
        }
        at += 1;
    }
}

fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', raw).is_none() {
        return Cow::Borrowed(raw);
    }
    let quoted = [b"\"", raw, b"\""].concat();
    serde_json::from_slice::<String>(&quoted)
        .map_or(Cow::Borrowed(raw), |text| Cow::Owned(text.into_bytes()))
}

/// The text that the inside of a string stands for. A lone half of a surrogate pair, which some
/// servers send when they cut a text between two events, counts as half the pair.
pub(super) fn unescaped(raw: &[u8]) -> Text {
    let mut text = Text::default();
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (before, escape) = rest.split_at(at);
        text += Text::of(before);
        let escape = escape.get(1..).unwrap_or_default();
        let (taken, stands_for) = match escape {
            [b'u', digits @ ..] => (5, escaped_char(digits)),
            _ => (1, Text::unknown(1)),
        };
        text += stands_for;
        rest = escape.get(taken..).unwrap_or_default();
    }
    text + Text::of(rest)
}

fn escaped_char(digits: &[u8]) -> Text {
    let code = digits
        .get(..4)
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| u32::from_str_radix(digits, 16).ok());
    match code {
        Some(0xd800..0xe000) => Text::unknown(2),
        Some(code) => {
            let char = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
            Text::of(char.encode_utf8(&mut [0; 4]).as_bytes())
        },
        None => Text::unknown(3),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".{0,12}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                prop::collection::btree_map("[a-e\"\\\\\u{e9}]{0,3}", inner, 0..5)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_field_and_item_is_what_a_parser_finds(value in any_json(), pretty: bool) {
            let text = if pretty {
                serde_json::to_string_pretty(&value).unwrap()
            } else {
                value.to_string()
            };
            compare(Json::document(text.as_bytes()), &value, text.as_bytes());
        }

        #[test]
        fn garbage_is_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let json = Json::document(&bytes);
            let _read = (json.entries().count(), json.items().count(), json.text_bytes());
            let _read = (json.str(), json.u64(), json.f64(), json.name_or_number());
        }

        #[test]
        fn a_document_cut_anywhere_is_broken(value in any_json(), cut: prop::sample::Index) {
            let text = serde_json::json!({"a": value, "b": {}}).to_string();
            let at = cut.index(text.len());
            let broken = Json::document(&text.as_bytes()[..at]).entries().any(|e| e.is_err());
            prop_assert!(broken);
        }

        #[test]
        fn text_is_as_long_as_it_will_be_when_parsed(text in ".{0,40}") {
            let escaped = text.chars().fold(String::new(), |mut all, c| {
                let mut units = [0; 2];
                let units = c.encode_utf16(&mut units).iter();
                all.extend(units.map(|unit| format!("\\u{unit:04x}")));
                all
            });
            let plain = serde_json::to_string(&text).unwrap();
            let expected = Text::of(text.as_bytes());
            prop_assert_eq!(Json::document(plain.as_bytes()).text_bytes(), expected);
            prop_assert_eq!(unescaped(escaped.as_bytes()), expected);
        }
    }

    fn compare(json: Json<'_>, value: &serde_json::Value, document: &[u8]) {
        assert_eq!(&document[json.at()..json.end()], json.raw());
        match value {
            serde_json::Value::Object(map) => {
                let entries: Vec<_> = json.entries().collect::<Result<_, _>>().unwrap();
                assert_eq!(entries.len(), map.len());
                for (key, value) in map {
                    compare(json.get(key).unwrap(), value, document);
                }
            },
            serde_json::Value::Array(items) => {
                assert_eq!(json.items().count(), items.len());
                for (json, value) in json.items().zip(items) {
                    compare(json, value, document);
                }
            },
            serde_json::Value::String(text) => assert_eq!(json.str().as_deref(), Some(&**text)),
            serde_json::Value::Number(number) => assert_eq!(json.u64(), number.as_u64()),
            serde_json::Value::Bool(flag) => assert_eq!(json.is_true(), *flag),
            serde_json::Value::Null => assert!(json.is_null()),
        }
    }

    #[test]
    fn a_key_that_occurs_twice_has_its_last_value_however_it_is_spelt() {
        let json = Json::document(br#"{"n":1,"\u006e":2}"#);
        assert_eq!(json.get("n").and_then(Json::u64), Some(2));
    }

    #[test]
    fn numbers_are_whole_only_if_they_are() {
        let number = |text: &str| Json::document(text.as_bytes()).u64();
        assert_eq!(number("25.0"), Some(25));
        assert_eq!(number("1e3"), Some(1000));
        assert_eq!(number("2.5"), None);
        assert_eq!(number("-1"), None);
        assert_eq!(number("\"3\""), None);
        assert_eq!(number("18446744073709551616"), None);
    }

    #[test]
    fn what_follows_a_document_breaks_it() {
        let ends = |text: &str| Json::document(text.as_bytes()).entries().all(|e| e.is_ok());
        assert!(ends("\u{feff} {\"a\":1}\n"));
        assert!(!ends("{\"a\":1} {}"));
        assert!(!ends("{\"a\":1"));
        assert!(!ends("[1]"));
        assert!(!ends(""));
    }
}
