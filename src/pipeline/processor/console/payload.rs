//! What was said in a call, below its span: a line for each part, cut so that one call never fills
//! the screen.

use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::{
    base::text::cut_end,
    call::{
        content::{CUT, INPUT, OUTPUT, SYSTEM},
        line::{DIM, Look, clean},
        span::{Span, Value},
    },
};

/// The most parts of one call that are shown: the last ones.
const MOST: usize = 12;

/// The widest that a part is shown, in columns.
const WIDEST: usize = 600;

/// The lines, each with a line's end before it; empty if the span holds nothing of it.
pub(super) fn lines(span: &Span, look: &Look) -> String {
    let mut said: Vec<(String, String)> = Vec::new();
    for part in list(span, SYSTEM) {
        said.push(("system".to_owned(), shown(&part)));
    }
    for message in list(span, INPUT).into_iter().chain(list(span, OUTPUT)) {
        let role = text(&message, "role");
        let parts = message.get("parts").and_then(Json::as_array);
        let parts = parts.into_iter().flatten();
        said.extend(parts.map(|part| (role.clone(), shown(part))));
    }
    let mut out = String::new();
    let left_out = said.len().saturating_sub(MOST);
    if left_out > 0 {
        let note = format!("({left_out} more before)");
        let _ok = write!(out, "\n         {}", look.paint(DIM, note));
    }
    for (role, words) in said.iter().skip(left_out) {
        let words = clean(words);
        let room = look.room.map_or(WIDEST, |room| WIDEST.min(room * 4));
        let words = cut_end(&words, room);
        let role = clean(role);
        let _ok = write!(
            out,
            "\n         {} {words}",
            look.paint(DIM, format!("{role}:"))
        );
    }
    if span.attributes.contains(&(CUT, Value::Bool(true))) {
        let _ok = write!(
            out,
            "\n         {}",
            look.paint(DIM, "(not all of it is there)")
        );
    }
    out
}

fn list(span: &Span, name: &str) -> Vec<Json> {
    let found = span.attributes.iter().find(|(other, _)| *other == name);
    match found {
        Some((_, Value::Json(json))) => serde_json::from_str(json).unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn text(value: &Json, name: &str) -> String {
    let text = value.get(name).and_then(Json::as_str);
    text.unwrap_or_default().to_owned()
}

/// A part in words.
fn shown(part: &Json) -> String {
    let kind = text(part, "type");
    let field = |name: &str| match part.get(name) {
        Some(Json::String(text)) => text.clone(),
        Some(Json::Null) | None => String::new(),
        Some(value) => value.to_string(),
    };
    match &*kind {
        "text" => field("content"),
        "reasoning" => format!("(thinking) {}", field("content")),
        "tool_call" => format!("{}({})", field("name"), field("arguments")),
        "server_tool_call" => format!("{} {}", field("name"), field("server_tool_call")),
        "tool_call_response" => format!("= {}", field("response")),
        "server_tool_call_response" => format!("= {}", field("server_tool_call_response")),
        "uri" | "file" => format!(
            "[{}] {}{}",
            field("modality"),
            field("uri"),
            field("file_id")
        ),
        "blob" => format!("[{}, {} bytes]", field("modality"), field("bytes")),
        other => format!("[{other}]"),
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use serde_json::json;

    use super::*;
    use crate::call::span::tests::example;

    fn with(name: &'static str, list: &Json) -> Span {
        let mut span = example();
        span.attributes
            .push((name, Value::Json(list.to_string().into())));
        span
    }

    #[test]
    fn each_part_has_a_line_without_anything_that_moves_the_cursor() {
        let list = json!([{"role": "user", "parts": [{"type": "text", "content": "a\u{1b}[2Jb\nc"},
            {"type": "blob", "modality": "image", "content": "", "bytes": 9}]},
            {"role": "assistant", "parts": [
                {"type": "tool_call", "name": "f", "arguments": {"n": 1}}]}]);
        let found = lines(&with(INPUT, &list), &Look::plain(TimeZone::UTC));
        assert!(!found.contains('\u{1b}'), "{found:?}");
        let shown: Vec<_> = found.lines().skip(1).map(str::trim).collect();
        assert_eq!(shown.len(), 3, "{found:?}");
        assert_eq!(
            shown[1..],
            ["user: [image, 9 bytes]", "assistant: f({\"n\":1})"]
        );
        assert_eq!(lines(&example(), &Look::plain(TimeZone::UTC)), "");
    }

    #[test]
    fn a_long_conversation_is_cut() {
        let said =
            json!({"role": "user", "parts": [{"type": "text", "content": "x".repeat(9_000)}]});
        let list = Json::Array(vec![said; 100]);
        let found = lines(&with(INPUT, &list), &Look::plain(TimeZone::UTC));
        assert_eq!(found.lines().skip(1).count(), MOST + 1);
        assert!(found.contains("(88 more before)") && found.len() < 10_000);
    }
}
