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
        match without(request, hidden) {
            Some(body) => request::read(Json::document(&body), &mut messages),
            None => messages.cut = true,
        }
    }
    let mut answer = Answer::default();
    let mut take = |bytes: &[u8]| {
        // What is none says only that the stream has ended.
        let is_json = matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'['));
        answer.cut |= is_json && !is_closed(bytes);
        match without(bytes, hidden) {
            Some(document) => answer.take(Json::document(&document)),
            None => answer.cut |= is_json,
        }
    };
    match response {
        Response::None => {},
        Response::Document(body) => take(body),
        Response::Stream(framing, bytes) => events(framing, bytes, take),
        Response::Messages(all) => all.iter().for_each(|message| take(message)),
    }
    let (output, cut) = answer.finish();
    messages.output = output;
    messages.cut |= cut;
    if !hidden.is_empty() {
        for message in messages.lists_mut().into_iter().flatten() {
            hide_in_tools(message, hidden);
        }
    }
    messages
}

/// Hands over the data of every event, that of the last one as far as it is there.
fn events(framing: Framing, stream: &[u8], mut take: impl FnMut(&[u8])) {
    let mut read = |bytes: &[u8]| {
        if let Ok(Some(event)) = framing.parse(bytes) {
            take(&event.data);
        }
    };
    let mut splitter = framing.splitter();
    let mut rest = stream;
    while let Some(found) = splitter.next(rest) {
        let (end, is_whole) = match found {
            Found::End(end) => (end, true),
            Found::Damaged(end) => (end, false),
            Found::Lost => return,
        };
        let (event, after) = rest.split_at_checked(end).unwrap_or((rest, b""));
        if is_whole {
            read(event);
        }
        rest = after;
    }
    read(rest);
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
    let hits: u64 = hidden
        .iter()
        .map(|path| path.hide(&mut value, HIDDEN))
        .sum();
    if hits == 0 {
        return Some(document);
    }
    serde_json::to_vec(&value).ok().map(Cow::Owned)
}

/// Hides what stands at those places of a tool's arguments or results.
fn hide_in_tools(message: &mut Value, hidden: &[JsonPath]) {
    const FIELDS: [&str; 4] = [
        "arguments",
        "response",
        "server_tool_call",
        "server_tool_call_response",
    ];
    match message.get_mut("parts").and_then(Value::as_array_mut) {
        Some(parts) => parts
            .iter_mut()
            .for_each(|part| hide_in_tools(part, hidden)),
        None => {
            for field in FIELDS {
                if let Some(value) = message.get_mut(field) {
                    hide_in(value, hidden);
                }
            }
        },
    }
}

fn hide_in(value: &mut Value, hidden: &[JsonPath]) {
    if let Value::String(written) = value {
        let Ok(mut within) = serde_json::from_str::<Value>(written) else {
            return;
        };
        let hits: u64 = hidden
            .iter()
            .map(|path| path.hide(&mut within, HIDDEN))
            .sum();
        if hits > 0 {
            *written = within.to_string();
        }
        return;
    }
    if let Some(arguments) = value.get_mut("arguments") {
        hide_in(arguments, hidden);
    }
    for path in hidden {
        path.hide(value, HIDDEN);
    }
}

#[cfg(test)]
mod tests;
