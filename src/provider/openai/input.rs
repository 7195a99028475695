//! The size of a request's input, as far as its bytes tell: an upper bound for its tokens. Whatever
//! is not known to be media counts as text that the model reads: names and punctuation that it does
//! not read make up for the tokens around messages.

use crate::{
    call::{facts::InputSize, text::Text},
    provider::wire::{
        json::{Ahead, Json},
        media::inline_bytes,
    },
};

/// Adds the messages, or the items of the input.
pub(in crate::provider) fn messages(list: Ahead<'_, '_>, size: &mut InputSize) {
    list.items(|item| message(item, size));
}

/// Adds images to be changed, or to be followed: one, or a list of them.
pub(super) fn images<'a>(value: Ahead<'_, 'a>, size: &mut InputSize) -> Json<'a> {
    let mut several = 0_u32;
    let value = value.items(|image| {
        image.take();
        several = several.saturating_add(1);
    });
    size.images = size.images.saturating_add(several.max(1));
    value
}

fn message(message: Ahead<'_, '_>, size: &mut InputSize) {
    if !message.is_object() {
        size.text_bytes += message.take().text();
        return;
    }
    let mut kind = None;
    let mut own = InputSize::default();
    message.object(|key, value| match key {
        b"content" | b"output" if !value.is_string() => parts(value, &mut own),
        _ => {
            let value = value.take();
            own.text_bytes += Text::of(key);
            own.text_bytes += value.text();
            if key == b"type" {
                kind = Some(value);
            }
        },
    });
    match kind.and_then(Json::str).as_deref() {
        Some("item_reference") => size.stored = true,
        Some("image_generation_call") => size.images += 1,
        _ => size.add(own),
    }
}

/// The parts of a message: a list of them, or a single one.
fn parts(content: Ahead<'_, '_>, size: &mut InputSize) {
    if content.is_object() {
        part(content, size);
    } else {
        content.items(|item| part(item, size));
    }
}

/// Adds a part.
pub(super) fn part(part: Ahead<'_, '_>, size: &mut InputSize) {
    let mut kind = None;
    let part = part.object(|key, value| {
        if key == b"type" {
            kind = Some(value.take());
        }
    });
    match kind.and_then(Json::str).as_deref() {
        Some("image_url" | "input_image" | "image" | "computer_screenshot") => size.images += 1,
        Some("input_audio" | "file" | "input_file" | "video_url" | "input_video") => {
            media(part, size);
        },
        _ => size.text_bytes += part.text(),
    }
}

/// A part whose content is a file: in the body, or elsewhere.
fn media(part: Json<'_>, size: &mut InputSize) {
    const WITHIN: [&str; 4] = ["input_audio", "file", "video_url", "input_video"];
    let inner = WITHIN
        .iter()
        .find_map(|name| part.get(name))
        .filter(|inner| inner.is_object());
    let file = inner.unwrap_or(part);
    let data = ["data", "file_data", "url", "video_url"]
        .iter()
        .find_map(|name| file.get(name).and_then(inline_bytes));
    match data {
        Some(bytes) => size.media_bytes += bytes,
        None => size.linked += 1,
    }
}
