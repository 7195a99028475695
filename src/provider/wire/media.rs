//! The size of files that stand in JSON as base64.

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
}
