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
    /// Text is counted, but for the values of fields with these names; `None`: it is not.
    no_text: Option<&'static [&'static str]>,
    text: Text,
    /// The latest string below the fields, as it is spelt: a name, if a colon comes.
    latest: Vec<u8>,
    /// How deep the value stands that is not counted, if it is in one.
    passing_over: Option<usize>,
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
    /// The text that was not kept, the names in it and all that makes it JSON included; none unless
    /// it was to be counted ([`Scanner::counting`]).
    pub text: Text,
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
            no_text: None,
            text: Text::default(),
            latest: Vec::new(),
            passing_over: None,
        }
    }

    /// Counts the text that is not kept as well, without the values of fields with these names,
    /// however deep they stand.
    #[must_use]
    pub fn counting(self, all_but: &'static [&'static str]) -> Self {
        Self {
            no_text: Some(all_but),
            ..self
        }
    }

    /// Takes in the next chunk.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.seen += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        let mut rest = chunk;
        while let [byte, tail @ ..] = rest {
            let run = match self.place {
                Place::After => return,
                Place::Before => {
                    let brace = memchr::memchr(b'{', rest);
                    rest = rest.get(brace.unwrap_or(rest.len())..).unwrap_or_default();
                    if let Some((brace, tail)) = rest.split_first() {
                        self.step(*brace);
                        rest = tail;
                    }
                    continue;
                },
                Place::Text => memchr2(b'"', b'\\', rest).unwrap_or(rest.len()),
                _ => 0,
            };
            if run > 0 {
                let (inside, after) = rest.split_at(run);
                self.keep(inside);
                self.spell(inside);
                self.count(inside);
                rest = after;
            } else {
                self.step(*byte);
                self.count(&[*byte]);
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
            text: self.text,
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
                    b'\\' => {
                        self.spell(&[byte]);
                        self.place = Place::Escape { in_key: false };
                    },
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
        let ends_value = matches!(byte, b',' | b'}' | b']');
        if ends_value && self.passing_over == Some(self.depth) {
            self.passing_over = None;
        }
        if byte == b':' {
            self.pass_over(at_fields);
        }
        match byte {
            b'"' => {
                self.latest.clear();
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

    /// A value begins: it is not counted if it has one of the names.
    fn pass_over(&mut self, at_fields: bool) {
        let name = if at_fields { &self.key } else { &self.latest };
        let mut names = self.no_text.unwrap_or_default().iter();
        let is_one = names.any(|none| none.as_bytes() == *name);
        if is_one && self.passing_over.is_none() && self.keeping.is_none() {
            self.passing_over = Some(self.depth);
        }
    }

    /// These bytes stand in a string that may be a name.
    fn spell(&mut self, bytes: &[u8]) {
        // As with fields' names.
        let room = (Self::MAX_KEY + 1).saturating_sub(self.latest.len());
        if self.no_text.is_some() {
            let start = bytes.get(..room).unwrap_or(bytes);
            self.latest.extend_from_slice(start);
        }
    }

    /// Counts bytes that are not kept.
    fn count(&mut self, bytes: &[u8]) {
        let counts = self.keeping.is_none() && self.passing_over.is_none();
        if counts && self.no_text.is_some() {
            self.text += Text::of(bytes);
        }
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
            if self.no_text.is_some() {
                self.text += Text::of(self.kept.get(start..).unwrap_or_default());
            }
            self.kept.truncate(start);
        }
    }
}

#[cfg(test)]
mod tests;
