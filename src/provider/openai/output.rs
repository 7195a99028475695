//! What has been sent of a response's output, for the response object in the last event of a stream
//! that we end: clients take that for the whole of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    base::escape::resolved,
    provider::{
        state::Open,
        wire::{json::Json, template::OnlyText},
    },
};

/// The output of one response so far, as it is spelt: items that are done, and the texts of others.
///
/// Bounded by [`Output::MAX_BYTES`]. Beyond that, and where an event was not read, all of it is let
/// go: a part of a text would be taken for the whole.
#[derive(Clone, Debug, Default)]
pub(in crate::provider) struct Output {
    /// By their index; one that no parser takes is empty.
    done: BTreeMap<u64, Box<[u8]>>,
    texts: Vec<Text>,
    bytes: usize,
    is_lost: bool,
    /// The text that the latest event added to, and how long it was before.
    latest: Option<(usize, usize)>,
}

/// A text that comes in pieces.
#[derive(Clone, Debug)]
struct Text {
    /// The index of its item.
    item: u64,
    role: Role,
    /// Its index in the item.
    part: u64,
    /// What stands between the quotes of all pieces.
    spelt: Vec<u8>,
}

/// What a text is in its item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Said,
    Refusal,
    Reasoning,
    Summary,
    /// What a tool is called with.
    Input,
}

impl Role {
    /// Of the pieces that events of this type bring.
    fn of(kind: &str) -> Option<Self> {
        Some(match kind {
            "response.output_text.delta" => Self::Said,
            "response.refusal.delta" => Self::Refusal,
            "response.reasoning_text.delta" => Self::Reasoning,
            "response.reasoning_summary_text.delta" => Self::Summary,
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                Self::Input
            },
            _ => return None,
        })
    }
}

impl Output {
    /// The most that is kept of a response, in bytes.
    pub(in crate::provider) const MAX_BYTES: usize = 256 * 1024;

    /// What anything takes besides its text.
    const EACH: usize = 64;

    /// Stands for no text.
    pub(in crate::provider) const NONE: u32 = u32::MAX;

    /// Whether an event is of a type that brings none of it, as far as is known: a response object
    /// with all that was asked, or a picture that is not finished. Those are the ones that get large.
    pub(in crate::provider) fn is_none_of(event: &[u8]) -> bool {
        let mut kind = None;
        let read = Json::document(event).object(|key, value| {
            if key == b"type" {
                kind = value.take().str();
            }
        });
        let brings_none = matches!(
            kind.as_deref(),
            Some(
                "response.created"
                    | "response.queued"
                    | "response.in_progress"
                    | "response.image_generation_call.partial_image"
            )
        );
        read.is_ok() && brings_none
    }

    /// Another event is read.
    pub(in crate::provider) const fn next(&mut self) {
        self.latest = None;
    }

    /// An event of this type brings a piece of a text: `item` and `part` say of which. Returns a number
    /// for the text.
    pub(in crate::provider) fn add(&mut self, kind: &str, at: (u64, u64), piece: &[u8]) -> u32 {
        let (item, part) = at;
        let Some(role) = Role::of(kind).filter(|_| !self.is_lost) else {
            return Self::NONE;
        };
        let is_it = |text: &Text| (text.item, text.role, text.part) == (item, role, part);
        let known = self.texts.iter().position(is_it);
        let number = known.unwrap_or_else(|| {
            self.texts.push(Text {
                item,
                role,
                part,
                spelt: Vec::new(),
            });
            self.bytes += Self::EACH;
            self.texts.len() - 1
        });
        self.append(number, piece);
        u32::try_from(number).unwrap_or(Self::NONE)
    }

    /// `event` is like one before that brought a piece of a text and nothing else. `false`: it has to be
    /// read in full to know where the piece is.
    pub(in crate::provider) fn add_alike(&mut self, only: &OnlyText, event: &[u8]) -> bool {
        self.next();
        if self.is_lost || only.tag == Self::NONE {
            return true;
        }
        let Some((from, to)) = only.place else {
            return false;
        };
        let number = usize::try_from(only.tag).unwrap_or(usize::MAX);
        self.append(number, event.get(from..to).unwrap_or_default());
        true
    }

    fn append(&mut self, number: usize, piece: &[u8]) {
        if let Some(text) = self.texts.get_mut(number) {
            self.latest = Some((number, text.spelt.len()));
            text.spelt.extend_from_slice(piece);
            self.take(piece.len());
        }
    }

    /// An item is done.
    pub(in crate::provider) fn finish(&mut self, item: u64, whole: &[u8]) {
        if self.is_lost {
            return;
        }
        for text in self.texts.iter_mut().filter(|text| text.item == item) {
            self.bytes -= text.spelt.len();
            text.spelt = Vec::new();
        }
        // To the letter, as a client's parser does: halves of characters are none.
        let is_valid = serde_json::from_slice::<Value>(whole).is_ok();
        let whole = if is_valid { whole } else { &[] };
        self.take(whole.len() + Self::EACH);
        if !self.is_lost {
            let before = self.done.insert(item, Box::from(whole));
            self.bytes -= before.map_or(0, |before| before.len() + Self::EACH);
        }
    }

    fn take(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.bytes > Self::MAX_BYTES {
            self.lose();
        }
    }

    /// Something was not read, or there is too much: lets go of all.
    pub(in crate::provider) fn lose(&mut self) {
        *self = Self {
            is_lost: true,
            ..Self::default()
        };
    }

    /// How much is kept, in bytes.
    pub(in crate::provider) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether some of it is not there to be said again: all was let go, or an item is no valid JSON.
    pub(in crate::provider) fn lacks(&self) -> bool {
        self.is_lost || self.done.values().any(|item| item.is_empty())
    }

    /// The latest event is not sent after all.
    pub(in crate::provider) fn take_back(&mut self) {
        if let Some((number, length)) = self.latest.take()
            && let Some(text) = self.texts.get_mut(number)
        {
            self.bytes -= text.spelt.len() - length;
            text.spelt.truncate(length);
        }
    }

    /// The items that are done, by their index.
    pub(super) fn done(&self) -> BTreeMap<u64, Value> {
        let items = self.done.iter();
        items
            .filter_map(|(index, item)| Some((*index, serde_json::from_slice(item).ok()?)))
            .collect()
    }

    /// An item that is not done, with what was sent of it, closed as incomplete.
    pub(super) fn close(&self, open: &Open) -> Value {
        let mut item = json!({
            "type": &*open.kind,
            "id": open.id.as_deref().unwrap_or_default(),
            "status": "incomplete",
        });
        let (Some(fields), call) = (item.as_object_mut(), open.call.as_ref()) else {
            return item;
        };
        let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        match (&*open.kind, call) {
            ("message", _) => {
                put("role", json!("assistant"));
                put(
                    "content",
                    self.parts(open.index, &[Role::Said, Role::Refusal]),
                );
            },
            ("reasoning", _) => {
                put("summary", self.parts(open.index, &[Role::Summary]));
                let content = self.parts(open.index, &[Role::Reasoning]);
                if content.as_array().is_some_and(|parts| !parts.is_empty()) {
                    put("content", content);
                }
            },
            (kind, Some(call)) => {
                put("call_id", json!(call.id));
                put("name", json!(call.name));
                let input = if kind == "custom_tool_call" {
                    "input"
                } else {
                    "arguments"
                };
                let texts = self.of(open.index, &[Role::Input]);
                let written: String = texts.iter().map(|text| text.meaning()).collect();
                put(input, json!(written));
            },
            _ => {},
        }
        item
    }

    /// The texts of an item in these roles, in order.
    fn of(&self, item: u64, roles: &[Role]) -> Vec<&Text> {
        let is_its = |text: &&Text| text.item == item && roles.contains(&text.role);
        let mut texts: Vec<_> = self.texts.iter().filter(is_its).collect();
        texts.sort_by_key(|text| text.part);
        texts
    }

    fn parts(&self, item: u64, roles: &[Role]) -> Value {
        let texts = self.of(item, roles);
        texts.into_iter().map(Text::as_part).collect()
    }
}

impl Text {
    /// As a part of its item.
    fn as_part(&self) -> Value {
        let text = self.meaning();
        match self.role {
            Role::Said => {
                json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
            },
            Role::Refusal => json!({"type": "refusal", "refusal": text}),
            Role::Reasoning => json!({"type": "reasoning_text", "text": text}),
            Role::Summary => json!({"type": "summary_text", "text": text}),
            Role::Input => json!(text),
        }
    }

    /// The text, with escapes resolved. What no parser takes is U+FFFD, and costs nothing else.
    fn meaning(&self) -> String {
        resolved(without_half(&self.spelt))
    }
}

/// Without half a character at the end: some servers send the halves in two events.
fn without_half(spelt: &[u8]) -> &[u8] {
    let [before @ .., b'\\', b'u', b'd' | b'D', half, _, _] = spelt else {
        return spelt;
    };
    let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\');
    let is_escape = backslashes.count() % 2 == 0;
    let is_first = matches!(half, b'8' | b'9' | b'a' | b'b' | b'A' | b'B');
    if is_escape && is_first { before } else { spelt }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "response.output_text.delta";

    fn open(index: u64, kind: &str) -> Open {
        Open {
            index,
            kind: Box::from(kind),
            ..Open::default()
        }
    }

    #[test]
    fn pieces_of_a_text_are_put_together_as_they_are_spelt() {
        let mut output = Output::default();
        for piece in [r"a\n", r"\ud83d", r"\ude00", "é", r"\ud83d"] {
            output.add(SAID, (0, 1), piece.as_bytes());
        }
        output.add("response.refusal.delta", (0, 0), b"no");
        output.add(SAID, (1, 0), b"of another");
        let item = output.close(&open(0, "message"));
        assert_eq!(item["content"][0]["refusal"], "no");
        assert_eq!(item["content"][1]["text"], "a\n😀é");
        assert_eq!(item["content"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn what_no_parser_takes_costs_nothing_but_itself() {
        for (spelt, expected) in [
            (r"so \ud83d far", "so \u{fffd} far"),
            (r"so \ude00 far\ud83d", "so \u{fffd} far"),
            ("so\tfar, a tab", "so\tfar, a tab"),
            (r"C:\\ud83d", r"C:\ud83d"),
            (r"\\\ud83d", r"\"),
        ] {
            let mut output = Output::default();
            output.add(SAID, (0, 0), spelt.as_bytes());
            let item = output.close(&open(0, "message"));
            assert_eq!(item["content"][0]["text"], expected, "{spelt}");
        }
    }

    #[test]
    fn what_is_not_sent_after_all_is_taken_back_once() {
        let mut output = Output::default();
        output.add(SAID, (0, 0), b"sent");
        output.next();
        output.add(SAID, (0, 0), b" not");
        output.take_back();
        output.take_back();
        let item = output.close(&open(0, "message"));
        assert_eq!(item["content"][0]["text"], "sent");
        assert_eq!(output.bytes, Output::EACH + 4);
    }

    #[test]
    fn an_item_that_is_done_is_as_it_was_sent_and_takes_the_place_of_its_texts() {
        let mut output = Output::default();
        output.add(SAID, (3, 0), b"abc");
        output.finish(3, br#"{"type":"message","content":["abc"]}"#);
        output.finish(3, br#"{"type":"message","content":["abc"],"x":1}"#);
        assert_eq!(output.done()[&3]["x"], 1);
        assert_eq!(output.bytes, 2 * Output::EACH + 42);
    }

    #[test]
    fn an_item_that_no_parser_takes_counts_as_left_out() {
        let mut output = Output::default();
        output.finish(0, br#"{"type":"message"}"#);
        assert!(!output.lacks());
        output.finish(1, br#"{"type":"message","content":["\ud83d"]}"#);
        assert!(output.lacks());
        assert_eq!(output.done().len(), 1);
        output.finish(1, br#"{"type":"message","content":["said again"]}"#);
        assert!(!output.lacks());
    }

    #[test]
    fn of_what_was_not_read_whole_only_some_is_known_to_bring_none() {
        for (event, expected) in [
            (r#"{"type":"response.created","response":{}}"#, true),
            (r#"{"type":"response.output_item.done","item":{}}"#, false),
            (r#"{"type":"response.output_text.delta"}"#, false),
            (r#"{"type":"response.anything"}"#, false),
            (r#"{"response":{"type":"response.created"}}"#, false),
            (r#"{"type":"response.created""#, false),
        ] {
            assert_eq!(Output::is_none_of(event.as_bytes()), expected, "{event}");
        }
    }

    #[test]
    fn beyond_the_bound_nothing_is_kept() {
        for many in [true, false] {
            let mut output = Output::default();
            let piece = vec![b'x'; if many { 0 } else { 1_000 }];
            for part in 0..5_000 {
                output.add(SAID, (0, if many { part } else { 0 }), &piece);
                assert!(output.bytes <= Output::MAX_BYTES + 1_000);
            }
            assert!(output.lacks());
            assert_eq!((output.texts.len(), output.bytes), (0, 0));
            output.finish(0, b"{}");
            assert_eq!(output.close(&open(0, "message"))["content"], json!([]));
            assert!(output.done().is_empty());
        }
    }
}
