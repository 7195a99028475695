//! What is looked for, a table: the regular expression finds what may be it, and where that is not
//! enough a check says what of that it is.

use std::ops::Range;

use regex::Regex;

use super::{check, config::OwnPattern};

/// A kind of thing that is taken out.
#[derive(Debug)]
pub(super) struct Pattern {
    mark: String,
    regex: Regex,
    is_secret: bool,
    check: Option<Check>,
}

/// Which part of what was found it is; else where in it, in bytes, the search goes on.
pub(super) type Check = fn(&str) -> Result<Range<usize>, usize>;

/// A row of the table.
pub(super) struct Row {
    /// What stands in its place: `[redacted:name]`.
    name: &'static str,
    /// Taken out at every level, since it opens doors.
    is_secret: bool,
    regex: &'static str,
    check: Option<Check>,
}

const fn secret(name: &'static str, regex: &'static str) -> Row {
    Row {
        name,
        is_secret: true,
        regex,
        check: None,
    }
}

const fn personal(name: &'static str, regex: &'static str, check: Option<Check>) -> Row {
    Row {
        name,
        is_secret: false,
        regex,
        check,
    }
}

/// What is built in. Secrets first: a key may hold what looks like a number of some kind.
pub(super) const BUILT_IN: &[Row] = &[
    secret(
        "private_key",
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z)",
    ),
    Row {
        name: "key",
        is_secret: true,
        regex: r"(?:(?-u:\b)|_)[sr]k[-_][A-Za-z0-9_\-]{16,}",
        check: Some(check::has_digit),
    },
    secret("key", r"AIza[A-Za-z0-9_\-]{30,}"),
    secret("key", r"(?:AKIA|ASIA|ABSK)[A-Za-z0-9+/]{16,}=*"),
    secret(
        "key",
        r"gh[opusr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}",
    ),
    secret("key", r"glpat-[A-Za-z0-9_\-]{16,}"),
    secret("key", r"xox[a-z]-[A-Za-z0-9\-]{8,}|xapp-[A-Za-z0-9\-]{8,}"),
    secret("key", r"(?:(?-u:\b)|_)tg_[A-Za-z0-9]{20,}"),
    secret(
        "key",
        r"(?:(?-u:\b)|_)(?:hf_|gsk_|r8_|xai-|pplx-|nvapi-|fw_|csk-|tgp_v1_|ya29\.)[A-Za-z0-9_\-]{20,}",
    ),
    secret(
        "key",
        r#"(?i:aws_?secret_?access_?key|secretAccessKey)["'\\]*\s*[:=]\s*["'\\]*[A-Za-z0-9/+=]{30,}"#,
    ),
    secret(
        "token",
        r"eyJ[A-Za-z0-9_\-]{6,}\.[A-Za-z0-9_\-]{6,}(?:\.[A-Za-z0-9_\-]*)*",
    ),
    Row {
        name: "token",
        is_secret: true,
        regex: r"(?i:bearer)(?:\s|%20|\+)+[A-Za-z0-9._~+/=\-]{8,}",
        check: Some(check::token),
    },
    personal(
        "email",
        r"[A-Za-z0-9._%+'\-\x{80}-\x{10FFFF}]+(?:@|%40)[A-Za-z0-9\-\x{80}-\x{10FFFF}]+(?:\.[A-Za-z0-9\-\x{80}-\x{10FFFF}]+)*\.[A-Za-z\x{80}-\x{10FFFF}]{2,}",
        None,
    ),
    personal(
        "iban",
        r"(?-u:\b)[A-Za-z]{2}[0-9]{2}(?:[ \-]?[A-Za-z0-9]){11,30}",
        Some(check::iban),
    ),
    personal("card", r"[0-9](?:[ \-]?[0-9]){12,}", Some(check::card)),
    personal(
        "ssn",
        r"(?-u:\b)[0-9]{3}[ \-][0-9]{2}[ \-][0-9]{4}(?-u:\b)",
        Some(check::ssn),
    ),
    personal(
        "ip",
        r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,8}(?:\.[0-9]{1,3}){0,3}",
        Some(check::ipv6),
    ),
    personal(
        "ip",
        r"(?-u:\b)(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?-u:\b)",
        Some(check::ipv4),
    ),
    personal(
        "phone",
        r"(?:\+|(?-u:\b)00)[1-9](?:[ ().\-/\x{a0}]{0,3}[0-9]){6,14}",
        None,
    ),
    personal(
        "phone",
        r"\(?(?-u:\b)[0-9]{3}\)?[ .\-]{1,2}[0-9]{3}[ .\-][0-9]{4}(?-u:\b)",
        None,
    ),
    personal(
        "phone",
        r"(?-u:\b)0[1-9][0-9]{0,4}(?:[ /.\-]{1,3}[0-9]{2,8}){1,5}(?-u:\b)",
        Some(check::national),
    ),
];

impl Pattern {
    pub(super) fn built_in(row: &Row) -> Result<Self, regex::Error> {
        Ok(Self {
            mark: mark(row.name),
            regex: Regex::new(row.regex)?,
            is_secret: row.is_secret,
            check: row.check,
        })
    }

    pub(super) fn own(own: &OwnPattern) -> Self {
        Self {
            mark: mark(own.name()),
            regex: own.regex().clone(),
            is_secret: false,
            check: None,
        }
    }

    pub(super) const fn is_secret(&self) -> bool {
        self.is_secret
    }

    /// The text with the mark wherever it was found; `None`: nowhere.
    pub(super) fn replace(&self, text: &str) -> Option<String> {
        let mut out: Option<String> = None;
        let (mut from, mut at) = (0, 0);
        while let Some(found) = self.regex.find_at(text, at) {
            at = found.start();
            // What is left of it is not matched again: a run of numbers may be megabytes long.
            while let Some(rest) = text.get(at..found.end()).filter(|rest| !rest.is_empty()) {
                let checked = self.check.map_or(Ok(0..rest.len()), |check| check(rest));
                match checked {
                    Ok(part) => {
                        let out = out.get_or_insert_default();
                        let start = at + part.start;
                        out.push_str(text.get(from..start).unwrap_or_default());
                        out.push_str(&self.mark);
                        from = at + part.end;
                        at = from.max(at + 1);
                    },
                    Err(further) => {
                        at += further.max(1);
                        break;
                    },
                }
            }
            at = text.ceil_char_boundary(at);
            if at > text.len() {
                break;
            }
        }
        if let Some(out) = &mut out {
            out.push_str(text.get(from..).unwrap_or_default());
        }
        out
    }
}

fn mark(name: &str) -> String {
    format!("[redacted:{name}]")
}
