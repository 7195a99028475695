//! Percent signs in paths and queries.

use std::borrow::Cow;

/// A part of a path or a query with its percent signs resolved; what is no valid code, or no UTF-8,
/// stays as it stands.
pub fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
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
    String::from_utf8(bytes).map_or(Cow::Borrowed(text), Cow::Owned)
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
}
