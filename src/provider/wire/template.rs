//! Telling at a glance that an event of a stream brings nothing but text.
//!
//! Events of one stream repeat each other byte for byte, but for the piece of text in them. Once a
//! dialect has read such an event in full, and found that it changed nothing but the amount of
//! text, its bytes become a template with holes: an event that is equal outside the holes is worth
//! what it was worth, and only the text in it is counted. This knows nothing of any dialect and
//! cannot mistake one event for another, since every byte outside the holes is compared.

use super::quoted::Quoted;
use crate::call::text::Text;

/// Names of fields whose strings are text that the model wrote.
const TEXT: &[&[u8]] = &[
    b"arguments",
    b"content",
    b"delta",
    b"partial_json",
    b"reasoning",
    b"reasoning_content",
    b"text",
    b"thinking",
];
/// Names of fields whose strings differ in every event and say nothing.
const PADDING: &[&[u8]] = &[b"obfuscation", b"p"];
/// The name of the number that counts the events of a stream.
const SEQUENCE: &[u8] = b"sequence_number";

/// The shapes of a stream's latest events that brought nothing but text. At most two, of at most
/// 4 kB: a longer event is read in full each time.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    kept: [Option<Template>; 2],
}

/// What an event brings that fits a template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnlyText {
    /// The text, with escapes resolved.
    pub text: Text,
    /// The event's number in the stream.
    pub sequence: Option<u64>,
    /// From where to where the text stands in the event, in bytes; `None`: in several places.
    pub place: Option<(usize, usize)>,
    /// What the dialect noted with the template.
    pub tag: u32,
}

impl Templates {
    const MAX_BYTES: usize = 4096;

    /// What `event` brings, if it is like one that brought nothing but text.
    pub fn read(&self, event: &[u8]) -> Option<OnlyText> {
        self.kept
            .iter()
            .flatten()
            .find_map(|known| known.read(event))
    }

    /// Keeps the shape of `event`, of which the dialect says that it brought `text` and nothing
    /// else. It is not kept if that text is not where it was looked for.
    pub fn learn(&mut self, event: &[u8], text: Text) {
        self.learn_as(event, text, 0);
    }

    /// The same, and notes `tag` with it.
    pub fn learn_as(&mut self, event: &[u8], text: Text, tag: u32) {
        if event.len() > Self::MAX_BYTES {
            return;
        }
        let mut learnt = Template::of(event);
        learnt.tag = tag;
        if learnt.read(event).is_some_and(|found| found.text == text) {
            self.kept.rotate_right(1);
            if let Some(first) = self.kept.first_mut() {
                *first = Some(learnt);
            }
        }
    }
}

/// Bytes that must be equal, each run of them followed by a hole.
#[derive(Clone, Debug, Default)]
struct Template {
    fixed: Vec<(Box<[u8]>, Hole)>,
    end: Box<[u8]>,
    tag: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hole {
    Text,
    Padding,
    Sequence,
}

impl Template {
    fn of(event: &[u8]) -> Self {
        let mut template = Self::default();
        let mut fixed_from = 0;
        let mut at = 0;
        while let Some((hole, start, end)) = next_hole(event, at) {
            let fixed = event.get(fixed_from..start).unwrap_or_default();
            template.fixed.push((Box::from(fixed), hole));
            (fixed_from, at) = (end, end);
            if hole != Hole::Sequence {
                at += 1;
            }
        }
        template.end = Box::from(event.get(fixed_from..).unwrap_or_default());
        template
    }

    fn read(&self, event: &[u8]) -> Option<OnlyText> {
        let mut found = OnlyText {
            tag: self.tag,
            ..OnlyText::default()
        };
        let mut texts = 0_u32;
        let mut rest = event;
        for (fixed, hole) in &self.fixed {
            rest = rest.strip_prefix(&**fixed)?;
            let len = match hole {
                Hole::Text => {
                    let string = Quoted::read(rest, 0)?;
                    found.text += string.text();
                    let from = event.len() - rest.len();
                    texts += 1;
                    found.place = (texts == 1).then_some((from, from + string.inner.len()));
                    string.inner.len()
                },
                Hole::Padding => Quoted::read(rest, 0)?.inner.len(),
                Hole::Sequence => {
                    let number = rest.get(..digits(rest))?;
                    found.sequence = std::str::from_utf8(number).ok()?.parse().ok();
                    number.len()
                },
            };
            rest = rest.get(len..)?;
        }
        (*rest == *self.end).then_some(found)
    }
}

/// The next hole in `event` from `at` on, which must be outside any string: what it is, its start
/// and its end.
fn next_hole(event: &[u8], mut at: usize) -> Option<(Hole, usize, usize)> {
    loop {
        at += memchr::memchr(b'"', event.get(at..)?)?;
        let key = Quoted::read(event, at + 1)?.inner;
        at += key.len() + 2;
        // A string that no colon follows is a value.
        let value = event.get(at..)?;
        let Some(value) = value.strip_prefix(b":") else {
            continue;
        };
        let space = value.iter().take_while(|byte| **byte == b' ').count();
        let start = at + 1 + space;
        if key == SEQUENCE && digits(event.get(start..)?) > 0 {
            return Some((Hole::Sequence, start, start + digits(event.get(start..)?)));
        }
        let hole = if TEXT.contains(&key) {
            Hole::Text
        } else if PADDING.contains(&key) {
            Hole::Padding
        } else {
            continue;
        };
        if event.get(start) == Some(&b'"') {
            let inside = Quoted::read(event, start + 1)?.inner;
            if hole == Hole::Text && inside.is_empty() {
                // It is not known whether text here would have been counted.
                at = start + 2;
                continue;
            }
            return Some((hole, start + 1, start + 1 + inside.len()));
        }
    }
}

fn digits(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(text: &str, reason: &str) -> Vec<u8> {
        format!(
            r#"{{"id":"c1","choices":[{{"index":0,"delta":{{"content":{text}}},"finish_reason":{reason}}}],"obfuscation":"{}"}}"#,
            "x".repeat(text.len() % 5)
        )
        .into_bytes()
    }

    #[test]
    fn an_event_that_differs_only_in_its_text_is_counted_and_any_other_is_not_known() {
        let mut templates = Templates::default();
        assert_eq!(templates.read(&chunk("\"a\"", "null")), None);
        templates.learn(&chunk("\"a\"", "null"), Text::of(b"a"));
        let read = |text, reason| {
            templates
                .read(&chunk(text, reason))
                .map(|found| found.text.bytes)
        };
        assert_eq!(read(r#""""#, "null"), Some(0));
        assert_eq!(read(r#""a \"quoted\" \u00e9\n""#, "null"), Some(14));
        assert_eq!(read("\"a\"", "\"stop\""), None);
        assert_eq!(read("null", "null"), None);
        assert_eq!(read(r#""a","tool_calls":"b""#, "null"), None);
        for end in 0..chunk("\"a\"", "null").len() {
            assert_eq!(templates.read(&chunk("\"a\"", "null")[..end]), None);
        }
    }

    #[test]
    fn the_number_of_the_event_is_read() {
        let mut templates = Templates::default();
        templates.learn(
            br#"{"sequence_number":4,"delta":"In","x":[]}"#,
            Text::of(b"In"),
        );
        let found = templates.read(br#"{"sequence_number":105,"delta":"Out","x":[]}"#);
        let expected = OnlyText {
            text: Text::of(b"Out"),
            sequence: Some(105),
            place: Some((32, 35)),
            tag: 0,
        };
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn an_event_whose_text_is_elsewhere_is_not_learnt() {
        let mut templates = Templates::default();
        templates.learn(br#"{"odd":"text","content":"x"}"#, Text::of(b"text"));
        templates.learn(br#"{"odd":"text""#, Text::default());
        assert_eq!(templates.read(br#"{"odd":"text","content":"x"}"#), None);
    }

    #[test]
    fn where_there_was_no_text_none_is_counted() {
        let mut templates = Templates::default();
        templates.learn(br#"{"odd":{"text":""},"content":"x"}"#, Text::of(b"x"));
        templates.learn(br#"{"odd":{"text":""}}"#, Text::default());
        let read = |event: &[u8]| templates.read(event).map(|found| found.text.bytes);
        assert_eq!(read(br#"{"odd":{"text":""},"content":"two"}"#), Some(3));
        assert_eq!(read(br#"{"odd":{"text":"y"},"content":"x"}"#), None);
        assert_eq!(read(br#"{"odd":{"text":"y"}}"#), None);
    }

    #[test]
    fn a_name_that_stands_in_a_text_makes_no_hole() {
        let mut templates = Templates::default();
        let event = br#"{"content":"say \"delta\":\"x\" now","other":"delta"}"#;
        templates.learn(event, Text::of(br#"say "delta":"x" now"#));
        assert_eq!(
            templates.read(event).map(|found| found.text.bytes),
            Some(19)
        );
        assert_eq!(templates.read(br#"{"content":"y","other":"deltb"}"#), None);
    }
}
