//! The messages in a request and its response, for spans that hold what was said. It is a reading by
//! itself, away from the path of the call: what was kept there is only bytes.
//!
//! Total: of what cannot be read there is less, and the messages say that something is missing.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::Value;

use self::answer::Answer;
use super::wire::{
    framing::{Found, Framing},
    json::Json,
};
use crate::call::{content::Messages, json_path::JsonPath};

mod answer;
mod draft;
mod media;
mod part;
mod piece;
mod reason;
mod request;
mod room;
mod text;
mod told;

pub use told::told;

/// What stands in the place of what is hidden.
const HIDDEN: &str = "[redacted:path]";

/// A response's bytes, plain.
#[derive(Clone, Copy)]
pub enum Response<'a> {
    /// There is none.
    None,
    /// One document.
    Document(&'a [u8]),
    /// A stream of events, so divided.
    Stream(Framing, &'a [u8]),
    /// The messages of a socket.
    Messages(&'a [Bytes]),
}

/// Reads what was said in a request with this body, and in its response. What stands at one of the
/// `hidden` places of a document, or of a tool's arguments and results, is not read; a document that
/// no parser takes may have something there, and is not read at all then.
pub fn messages(request: &[u8], response: Response<'_>, hidden: &[JsonPath]) -> Messages {
    let mut messages = Messages::default();
    if !request.trim_ascii().is_empty() {
        messages.cut = !is_closed(request);
        match without(blunt(request), hidden) {
            Some(body) => request::read(Json::document(&body), &mut messages),
            None => messages.cut = true,
        }
    }
    let mut answer = Answer::new(hidden);
    let mut take = |bytes: &[u8]| {
        // What is none says only that the stream has ended.
        let is_json = matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'['));
        answer.cut |= is_json && !is_closed(bytes);
        match without(bytes, hidden) {
            Some(document) => answer.take(Json::document(&document)),
            None => answer.cut |= is_json,
        }
    };
    let mut is_whole = true;
    match response {
        Response::None => {},
        Response::Document(body) if is_closed(body) => take(body),
        Response::Document(body) => {
            is_whole = false;
            take(blunt(body));
        },
        Response::Stream(framing, bytes) => is_whole = events(framing, bytes, take),
        Response::Messages(all) => all.iter().for_each(|message| take(message)),
    }
    let (output, cut) = answer.finish();
    messages.output = output;
    messages.cut |= cut || !is_whole;
    if !hidden.is_empty() {
        let mut shown = true;
        for message in messages.lists_mut().into_iter().flatten() {
            shown &= hide_in_tools(message, hidden);
        }
        messages.cut |= !shown;
    }
    messages
}

/// How many bytes of what was cut are left out at its end: they may be the beginning of a key, too
/// short to be known for one.
const BLUNT: usize = 64;

/// How many more are, while they can be of one word with those.
const WORD: usize = 4 << 10;

/// How long that is which can be shown of what was cut behind it.
fn blunted(text: &[u8]) -> usize {
    let end = text.len().saturating_sub(BLUNT);
    let before = text.get(..end).unwrap_or_default();
    let is_word = |byte: &&u8| byte.is_ascii_alphanumeric() || b"-_.+/=~%@".contains(byte);
    let word = before.iter().rev().take(WORD).take_while(is_word).count();
    end - word
}

/// A document without its end, if that is missing.
fn blunt(document: &[u8]) -> &[u8] {
    if is_closed(document) {
        return document;
    }
    document.get(..blunted(document)).unwrap_or_default()
}

/// Takes their ends off the last parts of messages that were cut somewhere within them.
pub fn blunt_ends(messages: &mut [Value]) {
    for message in messages {
        let parts = message.get_mut("parts").and_then(Value::as_array_mut);
        if let Some(part) = parts.and_then(|parts| parts.last_mut()) {
            for field in ["content"].iter().chain(&FIELDS) {
                if let Some(value) = part.get_mut(field) {
                    blunt_text(value);
                }
            }
        }
    }
}

/// What is whole within it, such as arguments that could be parsed, stays.
fn blunt_text(value: &mut Value) {
    match value {
        Value::String(text) => {
            let end = text.floor_char_boundary(blunted(text.as_bytes()));
            text.truncate(end);
        },
        Value::Object(fields) => {
            if let Some(arguments) = fields.get_mut("arguments") {
                blunt_text(arguments);
            }
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {},
    }
}

/// Hands over the data of every event, that of the last one as far as it is there. Returns whether all
/// could be read.
fn events(framing: Framing, stream: &[u8], mut take: impl FnMut(&[u8])) -> bool {
    let mut all = true;
    let mut read = |bytes: &[u8]| match framing.parse(bytes) {
        Ok(Some(event)) => {
            take(&event.data);
            true
        },
        Ok(None) => true,
        Err(_) => false,
    };
    let mut splitter = framing.splitter();
    let mut rest = stream;
    while let Some(found) = splitter.next(rest) {
        let (end, is_whole) = match found {
            Found::End(end) => (end, true),
            Found::Damaged(end) => (end, false),
            Found::Lost => return false,
        };
        let (event, after) = rest.split_at_checked(end).unwrap_or((rest, b""));
        all &= is_whole && read(event);
        rest = after;
    }
    // An array's own end is no event.
    (read(rest) || matches!(rest.trim_ascii(), b"" | b"]")) && all
}

fn is_closed(document: &[u8]) -> bool {
    matches!(document.trim_ascii_end().last(), Some(b'}' | b']'))
}

/// A document without what is hidden, and with what is open in it closed; `None`: it cannot be
/// searched.
fn without<'a>(document: &'a [u8], hidden: &[JsonPath]) -> Option<Cow<'a, [u8]>> {
    let document = if is_closed(document) {
        Cow::Borrowed(document)
    } else {
        Cow::Owned(text::mended(document))
    };
    if hidden.is_empty() {
        return Some(document);
    }
    let text = String::from_utf8_lossy(&document);
    let mut value: Value = serde_json::from_str(&text).ok()?;
    for path in hidden {
        path.hide(&mut value, HIDDEN);
    }
    // Also where nothing was hidden: of two fields of one name only the last was searched.
    serde_json::to_vec(&value).ok().map(Cow::Owned)
}

/// The fields of a part that hold what a tool was given, or what came of it.
const FIELDS: [&str; 4] = [
    "arguments",
    "response",
    "server_tool_call",
    "server_tool_call_response",
];

/// So often may a text be JSON that has a text which is JSON, and so on, to be searched: each time that
/// it is written anew its escapes can double.
const NESTED: usize = 4;

/// Hides what stands at those places of a tool's arguments or results. Returns whether all could be
/// searched.
fn hide_in_tools(message: &mut Value, hidden: &[JsonPath]) -> bool {
    hide_in_parts(message, hidden, NESTED)
}

/// The same of arguments or a result alone.
fn hide_in(value: &mut Value, hidden: &[JsonPath]) -> bool {
    hide_in_value(value, hidden, NESTED)
}

fn hide_in_parts(message: &mut Value, hidden: &[JsonPath], nested: usize) -> bool {
    let mut all = true;
    if let Some(parts) = message.get_mut("parts").and_then(Value::as_array_mut) {
        for part in parts {
            all &= hide_in_parts(part, hidden, nested);
        }
        return all;
    }
    for field in FIELDS {
        if let Some(value) = message.get_mut(field) {
            all &= hide_in_value(value, hidden, nested);
        }
    }
    all
}

fn hide_in_value(value: &mut Value, hidden: &[JsonPath], nested: usize) -> bool {
    let mut all = true;
    match value {
        Value::String(written) => return hide_in_text(written, hidden, nested),
        // A result's parts.
        Value::Array(items) => {
            for item in items {
                all &= hide_in_parts(item, hidden, nested);
                if let Some(content) = item.get_mut("content") {
                    all &= hide_in_value(content, hidden, nested);
                }
            }
        },
        Value::Object(fields) => {
            if let Some(arguments) = fields.get_mut("arguments") {
                all &= hide_in_value(arguments, hidden, nested);
            }
        },
        Value::Null | Value::Bool(_) | Value::Number(_) => {},
    }
    for path in hidden {
        path.hide(value, HIDDEN);
    }
    all
}

/// Searches what is JSON in a text, or a text in JSON that is.
fn hide_in_text(written: &mut String, hidden: &[JsonPath], nested: usize) -> bool {
    let begin = written.trim_start();
    let (is_quoted, is_open) = (begin.starts_with('"'), begin.starts_with(['{', '[']));
    if !(is_quoted || is_open) || written == HIDDEN {
        return true;
    }
    match (
        serde_json::from_str::<Value>(written),
        nested.checked_sub(1),
    ) {
        (Ok(mut within), Some(nested)) => {
            let all = hide_in_value(&mut within, hidden, nested);
            *written = within.to_string();
            all
        },
        // Words may begin with a quotation mark.
        (Err(_), _) if is_quoted => true,
        // What no parser takes, or what is wrapped too often, may have something there.
        (Err(_) | Ok(_), _) => {
            HIDDEN.clone_into(written);
            false
        },
    }
}

#[cfg(test)]
mod tests;
