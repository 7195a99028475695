//! Pictures, sound and files within a message: only what they are is said, and how large. Nobody can
//! tell what is in them.

use serde_json::{Map, Value};

use super::{
    super::wire::json::{Ahead, Json},
    part::said,
    text::text,
};

/// A picture, sound or file, as it stands.
pub(super) struct Media<'a> {
    /// Empty if the name does not say.
    pub(super) modality: &'static str,
    /// It is the id of a file.
    pub(super) is_id: bool,
    pub(super) found: Json<'a>,
}

impl Media<'_> {
    /// Where it is, or how large.
    pub(super) fn part(self, kind: &str, beside: Option<Json<'_>>) -> Value {
        let mut seen = Seen {
            mime: beside.and_then(text),
            ..Seen::default()
        };
        let key: &[u8] = if self.is_id { b"file_id" } else { b"url" };
        if self.found.is_string() {
            seen.take(key, self.found);
        } else {
            self.found.read(|value| seen.enter(value, 0));
        }
        seen.part(&format!("{} {kind}", self.modality))
    }
}

/// What was found of a picture, sound or file.
#[derive(Default)]
struct Seen<'a> {
    mime: Option<String>,
    uri: Option<String>,
    id: Option<String>,
    /// What is in it stands here as text.
    is_text: bool,
    data: Option<Json<'a>>,
    /// Bytes of it, as far as that can be told from its base64.
    bytes: usize,
}

impl<'a> Seen<'a> {
    /// What is said of it, where `hint` tells the modality unless the type does.
    fn part(self, hint: &str) -> Value {
        if let Some(text) = self.data.filter(|_| self.is_text).and_then(text) {
            return said(text);
        }
        let hint = format!("{hint} {}", self.mime.as_deref().unwrap_or_default());
        let mut known = ["image", "audio", "video"].into_iter();
        let modality = known.find(|known| hint.contains(known));
        let mut part = Map::new();
        part.insert("modality".into(), modality.unwrap_or("document").into());
        if let Some(mime) = self.mime {
            part.insert("mime_type".into(), mime.into());
        }
        let kind = if let Some(uri) = self.uri {
            part.insert("uri".into(), uri.into());
            "uri"
        } else if let Some(id) = self.id {
            part.insert("file_id".into(), id.into());
            "file"
        } else {
            part.insert("content".into(), "".into());
            part.insert("bytes".into(), self.bytes.into());
            "blob"
        };
        part.insert("type".into(), kind.into());
        Value::Object(part)
    }

    fn enter(&mut self, value: Ahead<'_, 'a>, depth: u8) {
        value.object(|key, value| {
            if value.is_object() && depth < 3 {
                self.enter(value, depth + 1);
            } else {
                self.take(key, value.take());
            }
        });
    }

    fn take(&mut self, key: &[u8], json: Json<'a>) {
        match key {
            b"mime_type" | b"media_type" | b"mimeType" | b"format" => {
                self.mime = text(json).or_else(|| self.mime.take());
            },
            b"type" => self.is_text |= json.raw() == b"\"text\"",
            b"file_id" | b"id" => self.id = text(json),
            b"data" | b"bytes" | b"file_data" | b"url" | b"uri" | b"fileUri" | b"file_uri" => {
                let raw = json.raw();
                self.data = Some(json);
                if raw.starts_with(b"\"data:") || !has_scheme(raw) {
                    self.embedded(raw);
                } else {
                    self.uri = text(json);
                }
            },
            _ => {},
        }
    }

    /// What is in it by itself, as base64 or a `data:` URL.
    fn embedded(&mut self, raw: &[u8]) {
        let inner = raw.strip_prefix(b"\"").unwrap_or(raw);
        let begin = memchr::memchr(b',', inner.get(..256.min(inner.len())).unwrap_or_default());
        let data = begin.filter(|_| inner.starts_with(b"data:"));
        if let Some(comma) = data {
            let head = inner.get(5..comma).unwrap_or_default();
            let mime = head.split(|byte| *byte == b';').next().unwrap_or_default();
            self.mime = Some(String::from_utf8_lossy(mime).into_owned());
        }
        let length = inner.len() - data.map_or(0, |comma| comma + 1);
        self.bytes = length.saturating_sub(1) / 4 * 3;
    }
}

/// Whether a string begins as an address does.
fn has_scheme(raw: &[u8]) -> bool {
    let head = raw.get(..24.min(raw.len())).unwrap_or_default();
    memchr::memmem::find(head, b":/").is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::part::parts, *};

    fn read(value: &Value) -> Vec<Value> {
        let text = value.to_string();
        let mut out = Vec::new();
        Json::document(text.as_bytes())
            .read(|value| parts(value, &mut out, &mut super::super::room::Room::default()));
        out
    }

    #[test]
    fn of_pictures_and_files_is_said_what_they_are() {
        let blob = |mime: &str, bytes| {
            json!({"type": "blob", "modality": "image", "mime_type": mime, "content": "",
                "bytes": bytes})
        };
        let png = "iVBORw0KGgoA";
        for (form, expected) in [
            (
                json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{png}")}}),
                blob("image/png", 9),
            ),
            (
                json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": png}}),
                blob("image/png", 9),
            ),
            (
                json!({"inlineData": {"mimeType": "image/png", "data": png}}),
                blob("image/png", 9),
            ),
            (
                json!({"image": {"format": "png", "source": {"bytes": png}}}),
                blob("png", 9),
            ),
            (
                json!({"type": "input_image", "image_url": "https://x.test/a.png"}),
                json!({"type": "uri", "modality": "image", "uri": "https://x.test/a.png"}),
            ),
            (
                json!({"type": "input_file", "file_id": "file-1"}),
                json!({"type": "file", "modality": "document", "file_id": "file-1"}),
            ),
            (
                json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}}),
                said("hi"),
            ),
        ] {
            let found = read(&form);
            assert_eq!(found, [expected], "{form}");
            assert!(!format!("{found:?}").contains(png));
        }
    }
}
