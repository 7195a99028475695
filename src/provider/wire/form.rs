//! Forms (`multipart/form-data`): the fields that matter are kept, files are only measured. What is
//! kept makes a JSON document, to be read like any other: a field is its text (a number or a
//! boolean, where it is spelt like one), a file is `{"bytes": 12}`.
//!
//! Bounded as [`Scanner`] is; any chunking gives the same document, and anything may be fed.

use memchr::memmem::Finder;

use super::scan::{Reduced, Scanner, Wanted};
use crate::call::text::Text;

/// Reads a request's body while it passes: JSON, or a form.
#[derive(Debug)]
pub enum BodyScanner {
    /// JSON, or what is taken for it.
    Json(Scanner),
    /// A form.
    Form(Box<Form>),
}

impl BodyScanner {
    /// For a body with this `content-type`.
    pub fn new(content_type: Option<&[u8]>, wanted: Wanted) -> Self {
        let boundary = content_type.and_then(boundary);
        boundary.map_or_else(
            || Self::Json(Scanner::new(wanted)),
            |boundary| Self::Form(Box::new(Form::new(boundary, wanted))),
        )
    }

    /// Whether it is a form.
    pub const fn is_form(&self) -> bool {
        matches!(self, Self::Form(_))
    }

    /// Takes in the next chunk.
    pub fn feed(&mut self, chunk: &[u8]) {
        match self {
            Self::Json(scanner) => scanner.feed(chunk),
            Self::Form(form) => form.feed(chunk),
        }
    }

    /// What is left when the body has ended, wherever it ended.
    pub fn finish(self) -> Reduced {
        match self {
            Self::Json(scanner) => scanner.finish(),
            Self::Form(form) => form.finish(),
        }
    }
}

/// The boundary that a `content-type` names, if it is a form's.
fn boundary(content_type: &[u8]) -> Option<&[u8]> {
    const MAX: usize = 200; // RFC 2046 allows 70
    let (kind, parameters) = content_type.split_at_checked(b"multipart/form-data".len())?;
    if !kind.eq_ignore_ascii_case(b"multipart/form-data") {
        return None;
    }
    let value = parameter(parameters, b"boundary")?;
    (!value.is_empty() && value.len() <= MAX).then_some(value)
}

/// The value of `name` in `; name=value; other="value"`.
fn parameter<'a>(mut parameters: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    loop {
        let start = memchr::memchr(b';', parameters)? + 1;
        parameters = parameters.get(start..)?.trim_ascii_start();
        let equals = memchr::memchr2(b'=', b';', parameters)?;
        let (found, value) = parameters.split_at_checked(equals)?;
        let Some(value) = value.strip_prefix(b"=") else {
            continue;
        };
        let quoted = value.strip_prefix(b"\"");
        let end = match quoted {
            Some(inner) => memchr::memchr(b'"', inner),
            None => memchr::memchr(b';', value),
        };
        let inner = quoted.unwrap_or(value);
        let text = inner.get(..end.unwrap_or(inner.len()))?;
        if found.trim_ascii().eq_ignore_ascii_case(name) {
            return Some(text.trim_ascii());
        }
        // What is quoted may hold anything.
        parameters = inner.get(text.len()..)?;
    }
}

/// A form that arrives in chunks.
#[derive(Debug)]
pub struct Form {
    wanted: Wanted,
    /// What stands before each part: a line's end, two hyphens, the boundary.
    delimiter: Finder<'static>,
    /// The end of what was fed, as long as it may be the beginning of a delimiter.
    held: Vec<u8>,
    place: Place,
    kept: Vec<u8>,
    /// Bytes of text that were not kept.
    skipped: u64,
    too_large: u64,
}

/// Where in the form the next byte is.
#[derive(Debug)]
enum Place {
    /// Before the first part, or in one that says nothing.
    Between,
    /// Behind a delimiter, in what a part says of itself.
    Head(Vec<u8>),
    /// In a field's text; kept, if it is wanted.
    Field {
        name: Option<&'static str>,
        text: Vec<u8>,
    },
    /// In a file of so many bytes so far.
    File {
        name: Option<&'static str>,
        bytes: u64,
    },
    /// Behind the last part.
    After,
}

impl Form {
    /// The longest head of a part, in bytes.
    const MAX_HEAD: usize = 16 * 1024;

    fn new(boundary: &[u8], wanted: Wanted) -> Self {
        let delimiter = [b"\r\n--", boundary].concat();
        Self {
            wanted,
            delimiter: Finder::new(&delimiter).into_owned(),
            // The first delimiter may stand at the very beginning.
            held: b"\r\n".to_vec(),
            place: Place::Between,
            kept: vec![b'{'],
            skipped: 0,
            too_large: 0,
        }
    }

    fn feed(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while !rest.is_empty() {
            rest = match &mut self.place {
                Place::After => return,
                Place::Head(head) => {
                    let (byte, tail) = rest.split_at(1);
                    head.extend_from_slice(byte);
                    self.head();
                    tail
                },
                _ => self.content(rest),
            };
        }
    }

    /// Looks for the end of a part's content. Returns what follows.
    fn content<'a>(&mut self, chunk: &'a [u8]) -> &'a [u8] {
        let length = self.delimiter.needle().len();
        let near = length - 1;
        if self.held.is_empty() {
            if let Some(at) = self.delimiter.find(chunk) {
                let (inside, after) = chunk.split_at(at);
                self.inside(inside);
                self.end_part();
                return after.get(length..).unwrap_or_default();
            }
            let (inside, end) = chunk.split_at(chunk.len().saturating_sub(near));
            self.inside(inside);
            self.held.extend_from_slice(end);
            return &[];
        }
        // A delimiter that began before ends within the next few bytes, if it is one.
        let mut joint = std::mem::take(&mut self.held);
        let before = joint.len();
        let (first, _) = chunk.split_at(near.min(chunk.len()));
        joint.extend_from_slice(first);
        match self.delimiter.find(&joint) {
            Some(at) => {
                self.inside(joint.get(..at).unwrap_or_default());
                self.end_part();
                chunk
                    .get((at + length).saturating_sub(before)..)
                    .unwrap_or_default()
            },
            None if first.len() == near => {
                self.inside(joint.get(..before).unwrap_or_default());
                chunk
            },
            None => {
                let (inside, end) = joint.split_at(joint.len().saturating_sub(near));
                self.inside(inside);
                self.held = end.to_vec();
                &[]
            },
        }
    }

    /// Takes in bytes of a part's content.
    fn inside(&mut self, bytes: &[u8]) {
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        match &mut self.place {
            Place::Field {
                name: Some(_),
                text,
            } if text.len() + bytes.len() <= Scanner::MAX_VALUE => text.extend_from_slice(bytes),
            Place::Field { name, text } => {
                if name.take().is_some() {
                    self.too_large += 1;
                    self.skipped += u64::try_from(text.len()).unwrap_or(u64::MAX);
                    *text = Vec::new();
                }
                self.skipped = self.skipped.saturating_add(count);
            },
            Place::File { bytes, .. } => *bytes = bytes.saturating_add(count),
            Place::Between | Place::Head(_) | Place::After => {},
        }
    }

    /// A part has ended: writes down what it was.
    fn end_part(&mut self) {
        match std::mem::replace(&mut self.place, Place::Head(Vec::new())) {
            Place::Field {
                name: Some(name),
                text,
            } => self.put(name, &written(&text)),
            Place::File {
                name: Some(name),
                bytes,
            } => self.put(name, format!("{{\"bytes\":{bytes}}}").as_bytes()),
            _ => {},
        }
    }

    fn put(&mut self, name: &str, value: &[u8]) {
        if self.kept.len() + value.len() > Scanner::MAX_KEPT {
            self.too_large += 1;
            return;
        }
        if self.kept.len() > 1 {
            self.kept.push(b',');
        }
        self.kept.push(b'"');
        self.kept.extend_from_slice(name.as_bytes());
        self.kept.extend_from_slice(b"\":");
        self.kept.extend_from_slice(value);
    }

    /// A part's head has a byte more: it may be whole.
    fn head(&mut self) {
        let Place::Head(head) = &self.place else {
            return;
        };
        if head == b"--" {
            self.place = Place::After;
        } else if head.ends_with(b"\r\n\r\n") {
            self.place = self.begun(head);
        } else if head.len() > Self::MAX_HEAD {
            self.too_large += 1;
            self.place = Place::Between;
        }
    }

    /// The part that such a head begins.
    fn begun(&self, head: &[u8]) -> Place {
        let lines = head.split(|byte| *byte == b'\n');
        let is_disposition = |line: &&[u8]| {
            let name = line.split(|byte| *byte == b':').next();
            name.is_some_and(|name| {
                name.trim_ascii()
                    .eq_ignore_ascii_case(b"content-disposition")
            })
        };
        let disposition = lines.into_iter().find(is_disposition).unwrap_or_default();
        let name = parameter(disposition, b"name").unwrap_or_default();
        // Lists are named with brackets.
        let name = name.strip_suffix(b"[]").unwrap_or(name);
        let mut wanted = self.wanted.fields.iter().copied();
        let name = wanted.find(|wanted| wanted.as_bytes() == name);
        let is_file = [&b"filename"[..], b"filename*"]
            .iter()
            .any(|wanted| parameter(disposition, wanted).is_some());
        if is_file {
            Place::File { name, bytes: 0 }
        } else {
            Place::Field {
                name,
                text: Vec::new(),
            }
        }
    }

    fn finish(mut self) -> Reduced {
        self.kept.push(b'}');
        Reduced {
            document: self.kept,
            skipped: self.skipped,
            text: Text::default(),
            too_large: self.too_large,
            whole: matches!(self.place, Place::After),
        }
    }
}

/// A field's text as JSON.
fn written(text: &[u8]) -> Vec<u8> {
    let is_number = !text.is_empty() && text.len() <= 15 && text.iter().all(u8::is_ascii_digit);
    let plain = is_number && (text.len() == 1 || !text.starts_with(b"0"));
    if plain || matches!(text, b"true" | b"false") {
        return text.to_vec();
    }
    // A text is always valid JSON once it is quoted.
    serde_json::to_vec(&String::from_utf8_lossy(text)).unwrap_or_else(|_| b"null".to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const WANTED: Wanted = Wanted {
        fields: &["model", "stream", "file", "image", "n"],
        within: &[],
    };
    const KIND: &[u8] = b"multipart/form-data; charset=utf-8; boundary=\"x-y\"";

    fn scan(body: &[u8], size: usize) -> Reduced {
        let mut scanner = BodyScanner::new(Some(KIND), WANTED);
        body.chunks(size).for_each(|chunk| scanner.feed(chunk));
        scanner.finish()
    }

    fn document(reduced: &Reduced) -> Value {
        serde_json::from_slice(&reduced.document).unwrap()
    }

    const FORM: &str = "--x-y\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n\
        whisper-1\r\n--x-y\r\ncontent-disposition: form-data; name=stream\r\n\r\ntrue\r\n\
        --x-y\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\nSix by nine\r\n\
        --x-y\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a; name=b.mp3\"\r\n\
        Content-Type: audio/mpeg\r\n\r\n\r\n--x-\r\n--\r\n--x-y\r\n\
        Content-Disposition: form-data; name=\"n\"\r\n\r\n2\r\n--x-y--\r\nafter";

    #[test]
    fn fields_are_kept_and_files_are_measured_however_they_arrive() {
        let expected = json!({"model": "whisper-1", "stream": true, "n": 2,
            "file": {"bytes": 10}});
        for size in 1..=FORM.len() {
            let found = scan(FORM.as_bytes(), size);
            assert_eq!(document(&found), expected, "{size}");
            assert_eq!((found.skipped, found.whole), (11, true), "{size}");
        }
    }

    #[test]
    fn a_list_of_files_is_several_of_one_name() {
        let image = "\r\n--x-y\r\nContent-Disposition: form-data; name=\"image[]\"; filename=\"a\"\
            \r\n\r\npng";
        let found = scan(format!("{image}{image}\r\n--x-y--").as_bytes(), 7);
        let text = String::from_utf8(found.document).unwrap();
        assert_eq!(text, r#"{"image":{"bytes":3},"image":{"bytes":3}}"#);
    }

    #[test]
    fn what_breaks_off_keeps_the_parts_that_were_whole() {
        let end = FORM.find("--x-\r\n").unwrap();
        let found = scan(&FORM.as_bytes()[..end], 5);
        assert_eq!(
            document(&found),
            json!({"model": "whisper-1", "stream": true})
        );
        assert!(!found.whole);
    }

    #[test]
    fn a_field_that_is_too_large_is_left_out_and_counted() {
        let long = "m".repeat(Scanner::MAX_VALUE + 1);
        let form = format!(
            "--x-y\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{long}\r\n--x-y--"
        );
        let found = scan(form.as_bytes(), 1000);
        assert_eq!(document(&found), json!({}));
        assert_eq!(found.too_large, 1);
        assert_eq!(found.skipped, u64::try_from(long.len()).unwrap());
    }

    #[test]
    fn only_a_form_with_a_boundary_is_one() {
        let is_form = |kind: &str| BodyScanner::new(Some(kind.as_bytes()), WANTED).is_form();
        assert!(is_form("Multipart/Form-Data;boundary=a"));
        for other in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary",
            "multipart/mixed; boundary=a",
            "application/json",
            "",
        ] {
            assert!(!is_form(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn anything_may_be_fed_in_any_chunks(
            pieces in prop::collection::vec(prop_oneof![
                Just("\r\n--x-y"), Just("--x-y"), Just("\r\n\r\n"), Just("\r\n"), Just("-"),
                Just("Content-Disposition: form-data; name=\"model\""), Just("abc"), Just("\r"),
            ], 0..20),
            size in 1_usize..9,
        ) {
            let body = pieces.concat();
            let found = scan(body.as_bytes(), size);
            prop_assert_eq!(&found, &scan(body.as_bytes(), usize::MAX));
            let _valid = document(&found);
        }
    }
}
