//! JSON read in place: a view of the bytes that finds what is asked for and builds no tree.
//!
//! Made for watching traffic: a field of an unexpected type is absent instead of an error that
//! hides all others, a body of megabytes costs no memory, and every value knows where in the
//! document it stands. It does not validate: whatever has balanced brackets and closed strings is
//! read. A key that occurs twice has its last value, as with the parsers that providers use.
//!
//! A document is read once, from front to back: [`Json::object`] goes over its fields, and
//! [`Ahead`] is what there is to be done with the value of each.

use std::borrow::Cow;

pub use super::cursor::Ahead;
use super::cursor::{Counting, Cursor};
use crate::call::text::Text;

/// The longest name of a model, an id or the like that is kept, in bytes.
pub(super) const MAX_NAME: usize = 512;

/// `text` as far as `max` bytes; `None`: it is empty.
pub(super) fn cut(text: &str, max: usize) -> Option<Box<str>> {
    let end = text.floor_char_boundary(max);
    text.get(..end)
        .filter(|text| !text.is_empty())
        .map(Box::from)
}

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
    text: Option<Text>,
}

impl<'a> Json<'a> {
    /// A whole document. Nothing of it is checked or counted yet: see [`Json::object`].
    pub fn document(bytes: &'a [u8]) -> Self {
        let unmarked = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let at = bytes.len() - unmarked.trim_ascii_start().len();
        Self::passed(unmarked.trim_ascii(), at, None)
    }

    /// A value that has been passed, and the text in it if that was counted.
    pub(super) const fn passed(raw: &'a [u8], at: usize, text: Option<Text>) -> Self {
        Self { raw, at, text }
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

    /// Goes over the fields of an object: `each` gets every name, with escapes resolved, and may
    /// read the value.
    ///
    /// # Errors
    /// It is no object, it is broken, or something follows it. `each` has got what comes before
    /// the place, and of the value in which that is as much as it entered.
    pub fn object(self, each: impl FnMut(&[u8], Ahead<'_, 'a>)) -> Result<(), Unreadable> {
        self.whole_object(Counting::Off, each)
    }

    /// As [`Json::object`], and counts the text in everything on the way.
    ///
    /// # Errors
    /// As there.
    pub fn measure(self, each: impl FnMut(&[u8], Ahead<'_, 'a>)) -> Result<(), Unreadable> {
        self.whole_object(Counting::On, each)
    }

    fn whole_object(
        self,
        counting: Counting,
        each: impl FnMut(&[u8], Ahead<'_, 'a>),
    ) -> Result<(), Unreadable> {
        if !self.is_object() {
            return Err(NOT_AN_OBJECT);
        }
        let mut cursor = Cursor::new(self.raw, self.at, counting);
        cursor.whole_object(each).ok_or(BROKEN)
    }

    /// Reads it once more.
    pub fn read<T>(self, read: impl FnOnce(Ahead<'_, 'a>) -> T) -> T {
        read(Cursor::new(self.raw, self.at, Counting::Off).ahead())
    }

    /// The last item of an array, or the value itself if it is none: Google wraps errors so.
    #[must_use]
    pub fn unwrapped(self) -> Self {
        let mut only = None;
        if self.is_array() {
            self.read(|items| items.items(|item| only = Some(item.take())));
        }
        only.unwrap_or(self)
    }

    /// The field of that name; the last one if there are several. This goes over all
    /// fields: for what is rare or small.
    pub fn get(self, name: &str) -> Option<Self> {
        let mut found = None;
        self.read(|value| {
            value.object(|key, value| {
                if *key == *name.as_bytes() {
                    found = Some(value.take());
                }
            })
        });
        found
    }

    /// The text of a string.
    pub fn str(self) -> Option<Cow<'a, str>> {
        let inner = self.raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        if memchr::memchr(b'\\', inner).is_none() {
            return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
        }
        serde_json::from_slice(self.raw).ok().map(Cow::Owned)
    }

    /// The text of a string that is not empty, cut at [`MAX_NAME`] bytes: for names and identifiers.
    pub fn name(self) -> Option<Box<str>> {
        self.text_up_to(MAX_NAME)
    }

    /// The text of a string that is not empty, cut at `max` bytes.
    pub fn text_up_to(self, max: usize) -> Option<Box<str>> {
        cut(&self.str()?, max)
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
    /// of all names, strings, numbers and words in it. Where it was not counted when the value was
    /// passed, that is done now.
    pub fn text(self) -> Text {
        self.text
            .unwrap_or_else(|| Cursor::new(self.raw, self.at, Counting::On).ahead().count())
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

    fn text(value: &serde_json::Value, pretty: bool) -> String {
        if pretty {
            serde_json::to_string_pretty(value).unwrap()
        } else {
            value.to_string()
        }
    }

    /// The text in a value, from its tree.
    fn text_of(value: &serde_json::Value) -> Text {
        match value {
            serde_json::Value::String(text) => Text::of(text.as_bytes()),
            serde_json::Value::Array(items) => items.iter().map(text_of).sum(),
            serde_json::Value::Object(map) => map
                .iter()
                .map(|(key, value)| Text::of(key.as_bytes()) + text_of(value))
                .sum(),
            word => Text::unknown(u64::try_from(word.to_string().len()).unwrap()),
        }
    }

    /// Enters `json` everywhere, and compares what is found with the tree.
    fn compare(ahead: Ahead<'_, '_>, value: &serde_json::Value, document: &[u8]) {
        use serde_json::Value;

        let json = match value {
            Value::Object(map) => {
                assert!(ahead.is_object());
                let mut found = 0;
                let json = ahead.object(|key, ahead| {
                    found += 1;
                    compare(ahead, &map[str::from_utf8(key).unwrap()], document);
                });
                assert_eq!(found, map.len());
                json
            },
            Value::Array(items) => {
                assert!(ahead.is_array());
                let mut expected = items.iter();
                let json = ahead.items(|ahead| compare(ahead, expected.next().unwrap(), document));
                assert_eq!(expected.next(), None);
                json
            },
            Value::String(_) => {
                assert!(ahead.is_string());
                // Of what is no object there are no fields.
                ahead.object(|_, _| panic!("a field of a string"))
            },
            _ => ahead.items(|_| panic!("an item of a word")),
        };
        assert_eq!(&document[json.at()..json.end()], json.raw());
        assert_eq!(json.text(), text_of(value));
        match value {
            Value::String(text) => assert_eq!(json.str().as_deref(), Some(&**text)),
            Value::Number(number) => assert_eq!(json.u64(), number.as_u64()),
            Value::Bool(flag) => assert_eq!(json.is_true(), *flag),
            Value::Null => assert!(json.is_null()),
            Value::Object(map) => {
                let found = |key: &String| json.get(key).unwrap().raw();
                assert!(map.iter().all(|(key, value)| {
                    serde_json::from_slice::<Value>(found(key)).unwrap() == *value
                }));
            },
            Value::Array(_) => {},
        }
    }

    /// Reads as much of a value as there is, entering some of what it holds.
    fn wander(ahead: Ahead<'_, '_>, way: u64) {
        match way % 4 {
            0 => drop(ahead.take()),
            1 => {},
            2 if ahead.is_array() => drop(ahead.items(|ahead| wander(ahead, way / 4))),
            _ => drop(ahead.object(|_, ahead| wander(ahead, way / 4))),
        }
    }

    proptest! {
        #[test]
        fn every_field_and_item_is_what_a_parser_finds(value in any_json(), pretty: bool) {
            let text = text(&value, pretty);
            let document = Json::document(text.as_bytes());
            document.read(|ahead| compare(ahead, &value, text.as_bytes()));
            if value.is_object() {
                let mut counted = Text::default();
                let read = document.measure(|key, ahead| {
                    counted += Text::of(key) + ahead.items(|_| ()).text();
                });
                prop_assert_eq!((read, counted), (Ok(()), text_of(&value)));
            }
        }

        #[test]
        fn a_field_is_found_whether_those_before_it_are_entered_or_passed(
            value in any_json(), pretty: bool, way: u64,
        ) {
            let text = text(&serde_json::json!({"a": value, "z": [1, {"b": value}]}), pretty);
            let mut found = None;
            let read = Json::document(text.as_bytes()).object(|key, ahead| match key {
                b"z" => found = Some(ahead.take()),
                _ => wander(ahead, way),
            });
            prop_assert_eq!(read, Ok(()));
            let parsed: serde_json::Value = serde_json::from_slice(found.unwrap().raw()).unwrap();
            prop_assert_eq!(&parsed[1]["b"], &value);
        }

        #[test]
        fn what_is_broken_ends_where_its_brackets_close(
            value in any_json(), way: u64, place: prop::sample::Index,
            other in "[a-z0-9 :,]",
        ) {
            // Some byte that is outside of strings, and no bracket, is another one.
            let inner = serde_json::json!({"a": value, "b": [value]}).to_string();
            let mut bytes = inner.into_bytes();
            let (mut outside, mut quoted, mut escaped) = (Vec::new(), false, false);
            for (at, byte) in bytes.iter().enumerate() {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => quoted = !quoted,
                    b'{' | b'}' | b'[' | b']' => {},
                    _ if !quoted => outside.push(at),
                    _ => {},
                }
            }
            bytes[outside[place.index(outside.len())]] = other.as_bytes()[0];
            let text = [b"{\"broken\":", &*bytes, b",\"z\":7}"].concat();
            let (mut broken, mut found) = (None, None);
            let read = Json::document(&text).object(|key, ahead| match key {
                b"broken" => {
                    let passed = ahead.object(|_, ahead| wander(ahead, way));
                    broken = Some(passed.raw());
                },
                _ => found = ahead.take().u64(),
            });
            prop_assert_eq!(read, Ok(()));
            prop_assert_eq!((broken, found), (Some(&*bytes), Some(7)));
        }

        #[test]
        fn garbage_is_read_without_harm(
            bytes in prop::collection::vec(
                prop_oneof![any::<u8>(), prop::sample::select(&b"{}[]\",:\\u0 "[..])], 0..64,
            ),
            way: u64,
        ) {
            let json = Json::document(&bytes);
            json.read(|ahead| wander(ahead, way));
            let _read = json.object(|_, ahead| wander(ahead, way));
            let _read = (json.str(), json.u64(), json.f64(), json.name_or_number());
        }

        #[test]
        fn a_document_cut_anywhere_is_broken(
            value in any_json(), cut: prop::sample::Index, way: u64,
        ) {
            let text = serde_json::json!({"a": value, "b": {}}).to_string();
            let document = Json::document(&text.as_bytes()[..cut.index(text.len())]);
            prop_assert!(document.object(|_, ahead| wander(ahead, way)).is_err());
            prop_assert_eq!(document.read(|ahead| ahead.take().raw()), b"");
        }

        #[test]
        fn text_is_as_long_as_it_will_be_when_parsed(text in ".{0,80}") {
            let escaped = text.chars().fold(String::new(), |mut all, c| {
                let mut units = [0; 2];
                let units = c.encode_utf16(&mut units).iter();
                all.extend(units.map(|unit| format!("\\u{unit:04x}")));
                all
            });
            let plain = serde_json::to_string(&text).unwrap();
            let expected = Text::of(text.as_bytes());
            for spelled in [plain, format!("\"{escaped}\"")] {
                let document = Json::document(spelled.as_bytes());
                prop_assert_eq!(document.text(), expected);
                prop_assert_eq!(document.read(|ahead| ahead.take().raw()), spelled.as_bytes());
            }
        }
    }

    #[test]
    fn a_key_that_occurs_twice_has_its_last_value_however_it_is_spelt() {
        let json = Json::document(br#"{"n":1,"\u006e":2}"#);
        assert_eq!(json.get("n").and_then(Json::u64), Some(2));
    }

    #[test]
    fn escapes_that_mean_nothing_do_not_move_the_end_of_a_string() {
        for (spelled, len) in [
            (r#""\u00g9""#, 5),
            (r#""\u12""#, 3),
            (r#""\u""#, 1),
            (r#""\q\"\\""#, 3),
            (r#""\ud83d""#, 2),
        ] {
            let text = format!("[{spelled},1]");
            let mut found = Vec::new();
            Json::document(text.as_bytes())
                .read(|ahead| ahead.items(|item| found.push(item.take())));
            assert_eq!(found[0].raw(), spelled.as_bytes());
            assert_eq!((found[0].text().bytes, found.len()), (len, 2), "{spelled}");
        }
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
        let ends = |text: &str| Json::document(text.as_bytes()).object(|_, _| ()).is_ok();
        assert!(ends("\u{feff} {\"a\":1}\n"));
        assert!(!ends("{\"a\":1} {}"));
        assert!(!ends("{\"a\":1"));
        assert!(!ends("{\"a\":1,}"));
        assert!(!ends("{\"a\":}"));
        assert!(!ends("[1]"));
        assert!(!ends(""));
    }
}
