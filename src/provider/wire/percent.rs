//! Percent signs in paths and queries.

use std::borrow::Cow;

use super::json::{MAX_NAME, cut};

/// The name that a part of a path or a query is, if it is not empty; cut as those in JSON are.
pub fn name(text: &str) -> Option<Box<str>> {
    cut(&decoded(text), MAX_NAME)
}

/// A part of a path or a query with its percent signs resolved; what is no valid code, or no UTF-8,
/// stays as it stands.
pub fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    String::from_utf8(bytes(text)).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// All valid codes resolved: what they stand for need not be text.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let code = (*first == b'%').then(|| code(behind)).flatten();
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() {
            behind.get(2..).unwrap_or_default()
        } else {
            behind
        };
    }
    bytes
}

/// The names in a path, with everything resolved that some server resolves but `.` and `..`. One
/// code that is no text must not hide the others.
fn names(resolved: &str) -> impl Iterator<Item = &str> {
    let segments = resolved.split(['/', '\\']);
    segments.map(|segment| segment.split(';').next().unwrap_or_default())
}

/// A path as a server sees it that resolves all there is to resolve: percent codes (of slashes, too),
/// backslashes, `.` and `..`, empty segments, and parameters behind a `;`. To recognise an endpoint by; what is sent
/// is what came.
pub fn plain_path(path: &str) -> Cow<'_, str> {
    let odd = |segment: &str| segment.is_empty() || segment == "." || segment == "..";
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if !path.contains(['%', ';', '\\']) && !inner.split('/').any(odd) {
        return Cow::Borrowed(path);
    }
    let mut plain: Vec<&str> = Vec::new();
    let whole = bytes(path);
    let whole = String::from_utf8_lossy(&whole);
    for name in names(&whole) {
        match name {
            ".." => drop(plain.pop()),
            name if odd(name) => {},
            name => plain.push(name),
        }
    }
    Cow::Owned(format!("/{}", plain.join("/")))
}

/// Whether a path leads above its root, however its `..` are written.
pub fn leads_out(path: &str) -> bool {
    let mut depth = 0_usize;
    (path.contains("..") || path.contains('%'))
        && names(&String::from_utf8_lossy(&bytes(path))).any(|name| match name {
            ".." if depth == 0 => true,
            ".." => {
                depth -= 1;
                false
            },
            "" | "." => false,
            _ => {
                depth += 1;
                false
            },
        })
}

/// The byte that two hexadecimal digits stand for.
fn code(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits.get(..2)?).ok()?;
    let are_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u8::from_str_radix(digits, 16).ok().filter(|_| are_digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_resolved_and_everything_else_stays() {
        for (text, expected) in [
            ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5@20250929"),
            ("claude-sonnet-4-5%4020250929", "claude-sonnet-4-5@20250929"),
            ("a%3a0%3A1", "a:0:1"),
            ("100%", "100%"),
            ("%4", "%4"),
            ("%+1%zz", "%+1%zz"),
            ("%ff", "%ff"),
            ("%C3%A9", "\u{e9}"),
        ] {
            assert_eq!(decoded(text), expected, "{text}");
        }
    }

    #[test]
    fn a_path_is_recognised_however_it_is_written() {
        for (path, plain) in [
            ("/v1/chat/completions", "/v1/chat/completions"),
            ("/v1/chat/completions/", "/v1/chat/completions/"),
            ("/", "/"),
            ("", "/"),
            ("//v1///chat/completions//", "/v1/chat/completions"),
            ("/v1/./chat/x/../completions/.", "/v1/chat/completions"),
            ("/v1/chat/%63ompletions", "/v1/chat/completions"),
            ("/v1/chat%2Fcompletions%2f", "/v1/chat/completions"),
            ("/v1/%2e%2E/v1/chat;a=b/completions", "/v1/chat/completions"),
            ("/v1\\chat%5Ccompletions", "/v1/chat/completions"),
            ("/../../x", "/x"),
            ("/model/a%2Fb/converse", "/model/a/b/converse"),
            // One code that is no text turns nothing off.
            ("/v1/chat/completions/%ff/%2e%2e", "/v1/chat/completions"),
            ("/%ff/%2e%2e/%63", "/c"),
            ("/a/..;/b", "/b"),
        ] {
            assert_eq!(plain_path(path), plain, "{path}");
        }
    }

    #[test]
    fn what_leads_out_of_its_root_is_found() {
        for (path, leads) in [
            ("/../x", true),
            ("/v1/../../x", true),
            ("/v1//%2e./.%2E/x", true),
            ("/v1%2f..%2F..", true),
            ("/v1\\..\\..", true),
            ("/v1/./../..", true),
            ("/%ff/%2e%2e/%2e%2e/anthropic/v1/messages", true),
            ("/..;/..;/x", true),
            ("/v1/..;a=b/%2e%2e%3b/x", true),
            ("/v1/;/../..", true),
            ("/v1/../x", false),
            ("/v1/a..b/...", false),
            ("/v1/a%2Fb/..", false),
            ("/v1/%ff/..;/..", false),
            ("/v1/a;..", false),
        ] {
            assert_eq!(leads_out(path), leads, "{path}");
        }
    }

    #[test]
    fn a_name_is_cut_between_characters_and_never_empty() {
        assert_eq!(name("a%3A0").as_deref(), Some("a:0"));
        assert_eq!(name(""), None);
        let long = name(&format!("m{}", "%C3%A9".repeat(400))).unwrap();
        assert_eq!((long.len(), long.ends_with('\u{e9}')), (511, true));
    }
}
