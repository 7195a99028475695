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
pub fn bytes(text: &str) -> Vec<u8> {
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

/// Whether a path leads above its root however its `..` are written, or somewhere that servers do not
/// agree on: an encoded slash or a backslash divides names to some, and is a part of one to others,
/// so that a `..` in or behind such names takes away more or less.
pub fn leads_astray(path: &str) -> bool {
    if !path.contains("..") && !path.contains('%') {
        return false;
    }
    // Of each name that one is within: whether it is one name to every server.
    let mut within = Vec::new();
    path.split('/').any(|segment| {
        let resolved = bytes(segment);
        let resolved = String::from_utf8_lossy(&resolved);
        let is_one = !resolved.contains(['/', '\\']);
        let mut names = names(&resolved);
        if !is_one {
            within.push(false);
            return names.any(|name| name == "..");
        }
        match names.next() {
            Some("..") => return within.pop() != Some(true),
            None | Some("" | ".") => {},
            Some(_) => within.push(true),
        }
        false
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
    fn what_leads_out_of_its_root_or_to_nobody_knows_where_is_found() {
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
            // What divides names to some servers is a part of one to others.
            ("/a%2Fb/../../anthropic/v1/messages", true),
            ("/a\\b/../..", true),
            ("/a%5cb/%2e%2e/..", true),
            ("/a\\b/..%2F../x", true),
            ("/;a%2Fb/..", true),
            ("/v1/chat/threads%2Fx/../completions", true),
            ("/v1/../x", false),
            ("/v1/a..b/...", false),
            ("/v1/a%2Fb/./...", false),
            ("/a\\b", false),
            ("/v1/at%2fall//x/../y", false),
            ("/a%2Fb/x/../..", true),
            ("/v1/%ff/..;/..", false),
            ("/v1/a;..", false),
        ] {
            assert_eq!(leads_astray(path), leads, "{path}");
        }
    }

    /// How deep a server gets that takes `divides` for slashes, and cuts parameters off before that,
    /// after it or never; `None`: above the root.
    fn depth(path: &str, divides: &[&str], parameters: Parameters) -> Option<usize> {
        let mut path = path.to_owned();
        let cut = |name: &str| name.split(';').next().unwrap_or_default().to_owned();
        if parameters == Parameters::First {
            path = path.split('/').map(cut).collect::<Vec<_>>().join("/");
        }
        for mark in divides {
            path = path.replace(mark, "/");
        }
        let mut depth = 0_usize;
        for name in path.split('/') {
            let mut name = name.replace("%2e", ".").replace("%3b", ";");
            if parameters == Parameters::Last {
                name = cut(&name);
            }
            match &*name {
                "" | "." => {},
                ".." => depth = depth.checked_sub(1)?,
                _ => depth += 1,
            }
        }
        Some(depth)
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Parameters {
        None,
        First,
        Last,
    }

    proptest::proptest! {
        #[test]
        fn a_path_that_leads_out_for_any_server_is_found(
            path in "(/|a|\\.\\.|\\.|%2e|%2f|\\\\|%5c|;|%3b){0,12}",
        ) {
            let marks = ["%2f", "\\", "%5c"];
            for set in 0..8_usize {
                let divides: Vec<&str> = marks.iter().enumerate()
                    .filter(|(place, _)| set >> place & 1 == 1)
                    .map(|(_, mark)| *mark)
                    .collect();
                for parameters in [Parameters::None, Parameters::First, Parameters::Last] {
                    if depth(&path, &divides, parameters).is_none() {
                        proptest::prop_assert!(leads_astray(&path), "{path} {divides:?}");
                    }
                }
            }
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
