//! Files: the size of those that stand in JSON as base64, and the types of those that stand alone.

use super::json::Json;

/// How far into a URL its scheme can reach. Base64, which has no colon, may go on for megabytes.
const MAX_SCHEME: usize = 32;

/// The bytes that a base64 string or a `data:` URL stands for; `None` for any other URL, and where
/// there is nothing.
pub fn inline_bytes(value: Json<'_>) -> Option<u64> {
    let inner = value.raw().strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let data = if inner.starts_with(b"data:") {
        let comma = memchr::memchr(b',', inner)?;
        inner.get(comma + 1..)?
    } else if memchr::memmem::find(inner.get(..MAX_SCHEME).unwrap_or(inner), b"://").is_some() {
        return None;
    } else {
        inner
    };
    let len = u64::try_from(data.len()).unwrap_or(u64::MAX);
    (len > 0).then(|| len.saturating_mul(3).div_ceil(4))
}

/// Whether a `content-type` says that there is no text of any kind.
pub fn is_media(content_type: Option<&[u8]>) -> bool {
    const KINDS: [&[u8]; 4] = [b"audio/", b"image/", b"video/", b"application/octet-stream"];
    let said = content_type.unwrap_or_default();
    KINDS.iter().any(|kind| {
        said.get(..kind.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(kind))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_measured_bare_or_in_a_url_and_links_are_not() {
        let bytes = |text: &str| inline_bytes(Json::document(text.as_bytes()));
        assert_eq!(bytes(r#""AAAAAAAA""#), Some(6));
        assert_eq!(bytes(r#""data:audio/wav;base64,AAAA""#), Some(3));
        assert_eq!(bytes(r#""https://example.com/a.pdf""#), None);
        assert_eq!(bytes(r#""gs://bucket/a.pdf""#), None);
        assert_eq!(bytes(r#""""#), None);
        assert_eq!(bytes("null"), None);
    }

    #[test]
    fn sound_and_pictures_are_told_from_text() {
        for kind in ["audio/mpeg", "Image/png", "application/octet-stream"] {
            assert!(is_media(Some(kind.as_bytes())), "{kind}");
        }
        for kind in ["application/json", "text/plain; charset=utf-8", "audio", ""] {
            assert!(!is_media(Some(kind.as_bytes())), "{kind}");
        }
        assert!(!is_media(None));
    }
}
