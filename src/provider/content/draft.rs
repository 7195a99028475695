//! One choice of an answer, put together of what comes of it: whole parts, and pieces of text that
//! are joined where they belong.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{reason, text::parsed};

/// The most parts of one choice; the rest is left out.
const MAX_PARTS: usize = 4_096;

/// Where `tool_calls` begin among the parts, behind all others.
pub(super) const CALLS: u64 = 1 << 32;

/// What a piece is a piece of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Reasoning,
    Text,
    /// The arguments of a call.
    Call,
    /// Something that comes whole.
    Whole,
}

/// Where a part stands: which block or item it is (of), and which part of that.
pub(super) type Place = (u64, u64);

/// A choice so far.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) role: Option<String>,
    pub(super) finish: Option<String>,
    parts: BTreeMap<(u64, u64, Kind), Piece>,
    /// There were too many parts, or something in one goes too deep.
    pub(super) is_full: bool,
}

#[derive(Default)]
struct Piece {
    /// What is known of it besides its text.
    part: Value,
    text: String,
}

impl Draft {
    /// Why it ended, if that is said.
    pub(super) fn stop(&mut self, reason: Option<String>) {
        if reason.is_some() {
            self.finish = reason;
        }
    }

    /// Whose message it is, if that is said.
    pub(super) fn play(&mut self, role: Option<String>) {
        if role.is_some() {
            self.role = role;
        }
    }

    /// A further piece of what stands at `place`.
    pub(super) fn say(&mut self, kind: Kind, place: Place, text: &str) {
        if text.is_empty() {
            return;
        }
        if let Some(piece) = self.piece(kind, place) {
            piece.text.push_str(text);
        }
    }

    /// A further piece of what came last, if that is of the same kind; else a new part.
    pub(super) fn go_on(&mut self, kind: Kind, text: &str) {
        let place = match self.parts.last_key_value() {
            Some(((item, part, last), _)) if *last == kind => (*item, *part),
            _ => self.next(),
        };
        self.say(kind, place, text);
    }

    /// The place behind all others.
    pub(super) fn next(&self) -> Place {
        let last = self.parts.last_key_value();
        (last.map_or(0, |((item, ..), _)| item.saturating_add(1)), 0)
    }

    /// A part, or as much of it as is known: the arguments of a call may follow.
    pub(super) fn put(&mut self, place: Place, part: Value) {
        let content = |part: &Value| {
            let text = part.get("content").and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let (kind, text) = match part.get("type").and_then(Value::as_str) {
            Some("text") => (Kind::Text, content(&part)),
            Some("reasoning") => (Kind::Reasoning, content(&part)),
            Some("tool_call" | "server_tool_call") => (Kind::Call, String::new()),
            _ => (Kind::Whole, String::new()),
        };
        if let Some(piece) = self.piece(kind, place) {
            piece.text.push_str(&text);
            piece.part.merge(part);
        }
    }

    /// The parts of an item, whole, in the place of what there was of it.
    pub(super) fn replace(&mut self, item: u64, parts: Vec<Value>) {
        self.parts.retain(|(of, ..), _| *of != item);
        for (place, part) in (0..).zip(parts) {
            self.put((item, place), part);
        }
    }

    /// Forgets its parts.
    pub(super) fn clear(&mut self) {
        self.parts.clear();
    }

    /// Whether something was said.
    pub(super) fn has(&self, kind: Kind) -> bool {
        self.parts.keys().any(|(.., other)| *other == kind)
    }

    fn piece(&mut self, kind: Kind, (item, part): Place) -> Option<&mut Piece> {
        let key = (item, part, kind);
        if self.parts.len() >= MAX_PARTS && !self.parts.contains_key(&key) {
            self.is_full = true;
            return None;
        }
        Some(self.parts.entry(key).or_default())
    }

    /// It as a message; `None`: nothing came of it.
    pub(super) fn finish(self) -> Option<Value> {
        let has_calls = self.has(Kind::Call);
        let pieces = self.parts.into_iter();
        let parts: Vec<Value> = pieces
            .filter_map(|((.., kind), piece)| piece.finish(kind))
            .collect();
        if parts.is_empty() && self.finish.is_none() {
            return None;
        }
        let raw = self.finish.as_deref();
        let reason = match raw.map(reason::common) {
            // Responses has no word for it.
            Some(_) if raw == Some("completed") && has_calls => "tool_call".to_owned(),
            Some(reason) => reason,
            None => "unknown".to_owned(),
        };
        let role = self.role.filter(|role| role != "model");
        let role = role.unwrap_or_else(|| "assistant".to_owned());
        Some(json!({"role": role, "parts": parts, "finish_reason": reason}))
    }
}

impl Piece {
    fn finish(self, kind: Kind) -> Option<Value> {
        let Self { mut part, text } = self;
        let is_said = !text.is_empty();
        match kind {
            Kind::Text => is_said.then(|| json!({"type": "text", "content": text})),
            Kind::Reasoning => is_said.then(|| json!({"type": "reasoning", "content": text})),
            Kind::Whole => Some(part),
            Kind::Call => {
                let call = match part.get_mut("server_tool_call") {
                    Some(call) => call,
                    None => &mut part,
                };
                if is_said {
                    call.merge(json!({"arguments": parsed(text)}));
                }
                part.merge(json!({}));
                let has_type = part.get("type").is_some();
                if !has_type {
                    part.merge(json!({"type": "tool_call"}));
                }
                Some(part)
            },
        }
    }
}

/// Takes in what another object says.
trait Merge {
    fn merge(&mut self, other: Self);
}

impl Merge for Value {
    fn merge(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Object(fields), Self::Object(others)) => {
                // What says nothing takes nothing away.
                let told = others.into_iter().filter(|(_, value)| !value.is_null());
                for (name, value) in told {
                    fields.insert(name, value);
                }
            },
            (this, other) => *this = other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_joined_where_they_belong() {
        let mut draft = Draft::default();
        draft.say(Kind::Text, (1, 0), "a");
        draft.put(
            (2, 0),
            json!({"type": "tool_call", "id": "c", "name": "f", "arguments": null}),
        );
        draft.say(Kind::Call, (2, 0), "{\"n\"");
        draft.say(Kind::Text, (1, 0), "b");
        draft.say(Kind::Call, (2, 0), ":1}");
        draft.say(Kind::Reasoning, (0, 0), "hm");
        draft.finish = Some("tool_use".to_owned());
        let expected = json!({"role": "assistant", "finish_reason": "tool_call", "parts": [
            {"type": "reasoning", "content": "hm"},
            {"type": "text", "content": "ab"},
            {"type": "tool_call", "id": "c", "name": "f", "arguments": {"n": 1}}]});
        assert_eq!(draft.finish(), Some(expected));
    }

    #[test]
    fn a_whole_item_takes_the_place_of_its_pieces() {
        let mut draft = Draft::default();
        draft.say(Kind::Text, (0, 0), "a");
        draft.say(Kind::Text, (0, 1), "b");
        draft.replace(0, vec![json!({"type": "text", "content": "whole"})]);
        let found = draft.finish().unwrap();
        assert_eq!(
            found["parts"],
            json!([{"type": "text", "content": "whole"}])
        );
        assert_eq!(found["finish_reason"], "unknown");
    }

    #[test]
    fn parts_are_bounded() {
        let mut draft = Draft::default();
        for place in 0..MAX_PARTS as u64 + 3 {
            draft.say(Kind::Text, (place, 0), "x");
        }
        assert!(draft.is_full);
        assert_eq!(
            draft.finish().unwrap()["parts"].as_array().unwrap().len(),
            MAX_PARTS
        );
        assert_eq!(Draft::default().finish(), None);
    }
}
