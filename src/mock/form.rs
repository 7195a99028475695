//! Forms (`multipart/form-data`), read as if they were JSON: texts are strings, and of a file there
//! is its name.

use bytes::Bytes;
use serde_json::{Map, Value};

/// What a form holds.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Form {
    /// Its fields. A `[]` at the end of a name is left out, and of several fields of one name all
    /// but the last.
    pub(super) fields: Map<String, Value>,
    /// The content of the first file.
    pub(super) file: Bytes,
}

/// Reads a body that this content type says is a form; `None` if it is none.
pub(super) fn read(content_type: &str, body: &Bytes) -> Option<Form> {
    let (_, boundary) = content_type.split_once("boundary=")?;
    let boundary = boundary.split(';').next()?.trim().trim_matches('"');
    let marker = format!("--{boundary}");
    let mut form = Form::default();
    let mut files = 0_u32;
    let mut starts = memchr::memmem::find_iter(body, marker.as_bytes());
    let mut from = starts.next()?;
    for to in starts {
        let part = body.slice(from + marker.len()..to);
        from = to;
        let Some(end) = memchr::memmem::find(&part, b"\r\n\r\n") else {
            continue;
        };
        let (head, content) = (part.slice(..end), part.slice(end + 4..));
        let content = content.slice(..content.len().saturating_sub(2));
        let head = String::from_utf8_lossy(&head);
        let Some(name) = quoted(&head, " name=\"") else {
            continue;
        };
        let value = match quoted(&head, "filename=\"") {
            Some(file) => {
                if files == 0 {
                    form.file = content;
                }
                files += 1;
                file.into()
            },
            None => String::from_utf8_lossy(&content).into_owned().into(),
        };
        let name = name.strip_suffix("[]").unwrap_or(name);
        form.fields.insert(name.to_owned(), value);
    }
    Some(form)
}

fn quoted<'a>(head: &'a str, before: &str) -> Option<&'a str> {
    let (_, rest) = head.split_once(before)?;
    rest.split_once('"').map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_strings_and_the_first_file_is_kept() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b\r\n\
                    Content-Disposition: form-data; name=\"file[]\"; filename=\"a.mp3\"\r\n\
                    Content-Type: audio/mpeg\r\n\r\nID3\r\n\r\nx\r\n--b--\r\n";
        let form = read("multipart/form-data; boundary=\"b\"", &Bytes::from(body)).unwrap();
        let fields = serde_json::json!({"model": "whisper-1", "file": "a.mp3"});
        assert_eq!(Value::Object(form.fields), fields);
        assert_eq!(form.file, "ID3\r\n\r\nx");
        assert_eq!(read("application/json", &Bytes::from(body)), None);
    }
}
