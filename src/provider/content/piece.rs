//! Messages, blocks, items and calls of an answer, whole or in pieces, on their way into its draft.

use serde_json::{Value, json};

use super::{
    super::wire::json::{Ahead, Json},
    answer::Head,
    draft::{CALLS, Draft, Kind, Place},
    part::{calls, parts},
    room::Room,
    text::{text, words},
};

/// A message, or a piece of one.
pub(super) fn message(draft: &mut Draft, head: &Head, value: Ahead<'_, '_>) {
    let mut has_thought = false;
    value.object(|key, value| match key {
        b"role" => draft.play(text(value.take())),
        b"content" if value.is_object() => cohere(draft, head, value),
        b"content" => content(draft, value),
        b"reasoning_content" | b"reasoning" | b"thinking" if !has_thought => {
            let words = words(value);
            has_thought = !words.is_empty();
            draft.say(Kind::Reasoning, (0, 0), &words);
        },
        b"tool_plan" => draft.say(Kind::Reasoning, (0, 0), &words(value)),
        b"refusal" => draft.say(Kind::Text, (0, 1), &words(value)),
        b"audio" => {
            let transcript = value.take().get("transcript").and_then(text);
            draft.say(Kind::Text, (0, 1), &transcript.unwrap_or_default());
        },
        b"tool_calls" if value.is_object() => {
            call(draft, (CALLS.saturating_add(head.index), 0), value);
        },
        b"tool_calls" => put_calls(draft, value),
        b"function_call" if value.is_object() => call(draft, (CALLS, 0), value),
        b"stop_reason" | b"finish_reason" => {
            draft.stop(text(value.take()));
        },
        _ => {},
    });
}

/// The content of a message: a text, or blocks.
pub(super) fn content(draft: &mut Draft, value: Ahead<'_, '_>) {
    if value.is_string() {
        draft.say(Kind::Text, (0, 1), &words(value));
    } else {
        value.items(|block| {
            if block.is_object() {
                gemini_part(draft, block);
            }
        });
    }
}

/// A piece of a block of Cohere's.
fn cohere(draft: &mut Draft, head: &Head, value: Ahead<'_, '_>) {
    value.object(|key, value| match key {
        b"text" => draft.say(Kind::Text, (head.index, 1), &words(value)),
        b"thinking" => draft.say(Kind::Reasoning, (head.index, 0), &words(value)),
        _ => {},
    });
}

/// The parts of a content of Gemini's, whose stream goes on with them.
pub(super) fn gemini(draft: &mut Draft, value: Ahead<'_, '_>) {
    value.object(|key, value| {
        if key == b"parts" {
            value.items(|part| gemini_part(draft, part));
        }
    });
}

fn gemini_part(draft: &mut Draft, value: Ahead<'_, '_>) {
    for part in found(draft, value) {
        let kind = match part.get("type").and_then(Value::as_str) {
            Some("text") => Kind::Text,
            Some("reasoning") => Kind::Reasoning,
            _ => {
                let next = draft.next();
                draft.put(next, part);
                continue;
            },
        };
        let content = part.get("content").and_then(Value::as_str);
        draft.go_on(kind, content.unwrap_or_default());
    }
}

/// A part whose place is known.
pub(super) fn put_at(place: Place, value: Ahead<'_, '_>, draft: &mut Draft) {
    let found = found(draft, value);
    for (further, mut part) in (0..).zip(found) {
        // Of a call that begins there are no arguments yet.
        let is_call = part.get("type").is_some_and(|kind| kind == "tool_call");
        if is_call && let Some(part) = part.as_object_mut() {
            part.remove("arguments");
        }
        draft.put((place.0, place.1.saturating_add(further)), part);
    }
}

/// An item of Responses, as far as it is there.
pub(super) fn item(draft: &mut Draft, place: u64, value: Ahead<'_, '_>) {
    let json = value.take();
    let kind = json.get("type").and_then(text).unwrap_or_default();
    let of = match &*kind {
        message if message == "message" || message.starts_with("message.") => json.get("content"),
        _ => Some(json),
    };
    let mut found = of.map_or_else(Vec::new, |json| json.read(|value| found(draft, value)));
    for part in &mut found {
        let unasked = part.get("arguments").is_some_and(|it| it == "");
        if unasked && let Some(part) = part.as_object_mut() {
            part.remove("arguments");
        }
    }
    draft.replace(place, found);
}

/// The parts in a value; of what goes too far the draft says that it is missing.
fn found(draft: &mut Draft, value: Ahead<'_, '_>) -> Vec<Value> {
    let (mut found, mut room) = (Vec::new(), Room::default());
    parts(value, &mut found, &mut room);
    draft.is_full |= room.is_cut;
    found
}

pub(super) fn put_calls(draft: &mut Draft, value: Ahead<'_, '_>) {
    let mut place = 0;
    value.items(|item| {
        let json = item.take();
        let index = json.get("index").and_then(Json::u64).unwrap_or(place);
        json.read(|value| call(draft, (CALLS.saturating_add(index), 0), value));
        place += 1;
    });
}

/// A call, or a piece of one.
fn call(draft: &mut Draft, place: Place, value: Ahead<'_, '_>) {
    let json = value.take();
    let inner = json.get("function").unwrap_or(json);
    let arguments = inner.get("arguments").or_else(|| json.get("arguments"));
    let pieces = arguments.filter(|it| it.is_string()).and_then(text);
    let (mut found, mut room) = (Vec::new(), Room::default());
    json.read(|value| calls(value, &mut found, &mut room));
    draft.is_full |= room.is_cut;
    let mut part = found.pop().unwrap_or_else(|| json!({"type": "tool_call"}));
    if pieces.is_some()
        && let Some(part) = part.as_object_mut()
    {
        part.remove("arguments");
    }
    // A piece may have the kind of a call for its only word.
    let named = inner
        .get("name")
        .is_some_and(|name| name.is_string() && name.raw() != b"\"\"");
    if !named && let Some(part) = part.as_object_mut() {
        part.remove("name");
    }
    draft.put(place, part);
    draft.say(Kind::Call, place, &pieces.unwrap_or_default());
}

/// A piece of a block, of Anthropic's, Converse's or Cohere's streams.
pub(super) fn delta(draft: &mut Draft, head: &Head, value: Ahead<'_, '_>) {
    let place = (head.index, 0);
    value.object(|key, value| match key {
        b"text" => draft.say(Kind::Text, place, &words(value)),
        b"thinking" | b"reasoningContent" => draft.say(Kind::Reasoning, place, &words(value)),
        b"partial_json" => draft.say(Kind::Call, place, &words(value)),
        b"toolUse" => {
            let input = value.take().get("input").and_then(text);
            draft.say(Kind::Call, place, &input.unwrap_or_default());
        },
        b"message" => message(draft, head, value),
        b"content" => content(draft, value),
        b"stop_reason" | b"finish_reason" | b"stopReason" => {
            draft.stop(text(value.take()));
        },
        _ => {},
    });
}
