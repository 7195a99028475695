//! The size of a request's input, as far as its bytes tell: an upper bound for its tokens.

use crate::{
    call::{facts::InputSize, text::Text},
    provider::wire::{json::Json, media::inline_bytes},
};

/// Adds one field of the body. Whatever is not known to be media counts as text that the model
/// reads: names and punctuation that it does not read make up for the tokens around messages.
pub(super) fn measure(key: &[u8], value: Json<'_>, size: &mut InputSize) {
    match key {
        b"messages" | b"input" if value.is_array() => {
            for item in value.items() {
                message(item, size);
            }
        },
        b"prompt" if value.is_object() => {
            size.stored = true;
            size.text_bytes += value.text_bytes();
        },
        _ => size.text_bytes += value.text_bytes(),
    }
}

fn message(message: Json<'_>, size: &mut InputSize) {
    if !message.is_object() {
        size.text_bytes += message.text_bytes();
        return;
    }
    let kind = message.get("type").and_then(Json::str).unwrap_or_default();
    match &*kind {
        "item_reference" => size.stored = true,
        "image_generation_call" => size.images += 1,
        _ => {
            for entry in message.entries().map_while(Result::ok) {
                match &*entry.key {
                    b"content" | b"output" if !entry.value.is_string() => parts(entry.value, size),
                    key => {
                        size.text_bytes += Text::of(key);
                        size.text_bytes += entry.value.text_bytes();
                    },
                }
            }
        },
    }
}

/// The parts of a message: a list of them, or a single one.
fn parts(content: Json<'_>, size: &mut InputSize) {
    if content.is_object() {
        part(content, size);
    }
    for item in content.items() {
        part(item, size);
    }
}

fn part(part: Json<'_>, size: &mut InputSize) {
    let kind = part.get("type").and_then(Json::str).unwrap_or_default();
    match &*kind {
        "image_url" | "input_image" | "image" | "computer_screenshot" => size.images += 1,
        "input_audio" | "file" | "input_file" | "video_url" | "input_video" => media(part, size),
        _ => size.text_bytes += part.text_bytes(),
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
