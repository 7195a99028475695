//! Says whether what looks like something is it: check digits, ranges, lengths. Each gives the part
//! that is it, or how far to go on before it is looked for again.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
};

type Checked = Result<Range<usize>, usize>;

fn whole_if(text: &str, holds: bool) -> Checked {
    if holds { Ok(0..text.len()) } else { Err(1) }
}

/// A key has digits; a word with a hyphen has none.
pub(super) fn has_digit(text: &str) -> Checked {
    let holds = text.bytes().any(|byte| byte.is_ascii_digit());
    if holds {
        Ok(0..text.len())
    } else {
        Err(text.len())
    }
}

/// What follows `Bearer` and is no word.
pub(super) fn token(text: &str) -> Checked {
    let tail = text.get("bearer".len()..).unwrap_or_default();
    let tail = tail.trim_start_matches([' ', '\t', '\n', '\r', '+']);
    let is_word = tail.bytes().all(|byte| byte.is_ascii_alphabetic());
    whole_if(text, !is_word || tail.len() >= 20)
}

/// A number by the Luhn formula, of 13 to 19 digits of which the first is one that cards have, that no digit stands beside. Other numbers may
/// stand around it, so that every group may be its first or last.
pub(super) fn card(text: &str) -> Checked {
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let begins = |at: &usize| is_digit(*at) && (*at == 0 || !is_digit(at - 1));
    for start in (0..bytes.len()).filter(begins) {
        let mut digits = Vec::with_capacity(19);
        for end in start..bytes.len() {
            match bytes.get(end) {
                Some(byte) if byte.is_ascii_digit() => digits.push(byte - b'0'),
                _ => continue,
            }
            if digits.len() > 19 {
                break;
            }
            let is_last = !is_digit(end + 1);
            if digits.len() >= 13 && is_last && is_card(&digits) {
                return Ok(start..end + 1);
            }
        }
    }
    Err(text.len())
}

fn is_card(digits: &[u8]) -> bool {
    let doubled = |digit: u8| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let from_last = digits.iter().rev().enumerate();
    let sum: u32 = from_last
        .map(|(place, digit)| {
            u32::from(if place % 2 == 1 {
                doubled(*digit)
            } else {
                *digit
            })
        })
        .sum();
    sum.is_multiple_of(10) && matches!(digits.first(), Some(2..=6))
}

/// An account's number of its country's length, whose check digits are right.
pub(super) fn iban(text: &str) -> Checked {
    let Some(length) = iban_length(text) else {
        return Err(1);
    };
    let mut rest = 0_u32;
    let mut head = Vec::new();
    let mut seen = 0;
    for (at, letter) in text.bytes().enumerate() {
        if !letter.is_ascii_alphanumeric() {
            continue;
        }
        seen += 1;
        if seen <= 4 {
            head.push(letter);
        } else {
            rest = added(rest, letter);
        }
        if seen == length {
            let all = head.into_iter().fold(rest, added);
            let goes_on = text
                .as_bytes()
                .get(at + 1)
                .is_some_and(u8::is_ascii_alphanumeric);
            return if all == 1 && !goes_on {
                Ok(0..at + 1)
            } else {
                Err(1)
            };
        }
    }
    Err(1)
}

/// The remainder by 97 once a letter or digit follows.
fn added(rest: u32, letter: u8) -> u32 {
    if letter.is_ascii_digit() {
        (rest * 10 + u32::from(letter - b'0')) % 97
    } else {
        (rest * 100 + u32::from(letter.to_ascii_uppercase() - b'A') + 10) % 97
    }
}

/// How many letters and digits the numbers of a country have.
fn iban_length(text: &str) -> Option<usize> {
    const LENGTHS: &[(usize, &str)] = &[
        (15, "NO"),
        (16, "BE"),
        (18, "DK FK FI FO GL NL SD"),
        (19, "MK SI"),
        (20, "AT BA EE KZ LT LU MN XK"),
        (21, "CH HR LI LV"),
        (22, "BG BH CR DE GB GE IE ME RS VA"),
        (23, "AE GI IL IQ OM SO TL"),
        (24, "AD CZ ES MD PK RO SA SE SK TN VG"),
        (25, "LY PT ST"),
        (26, "IS TR"),
        (27, "BI DJ FR GR IT MC MR SM"),
        (28, "AL AZ BY CY DO GT HN HU LB NI PL SV"),
        (29, "BR EG PS QA UA"),
        (30, "JO KW MU YE"),
        (31, "MT SC"),
        (32, "LC"),
        (33, "RU"),
    ];
    let country = text.get(..2)?.to_ascii_uppercase();
    let mut rows = LENGTHS.iter();
    let row = rows.find(|(_, countries)| countries.split(' ').any(|it| it == country));
    row.map(|(length, _)| *length)
}

/// A social security number of the United States; some ranges are never given out.
pub(super) fn ssn(text: &str) -> Checked {
    let area = text.get(..3).unwrap_or_default();
    let group = text.get(4..6).unwrap_or_default();
    let serial = text.get(7..).unwrap_or_default();
    let never = matches!(area, "000" | "666") || area.starts_with('9');
    whole_if(text, !never && group != "00" && serial != "0000")
}

/// Four numbers up to 255.
pub(super) fn ipv4(text: &str) -> Checked {
    let plain = text.split('.').map(|part| part.trim_start_matches('0'));
    let plain = plain.map(|part| if part.is_empty() { "0" } else { part });
    let plain = plain.collect::<Vec<_>>().join(".");
    whole_if(text, plain.parse::<Ipv4Addr>().is_ok())
}

/// An address of IPv6; with a digit, since paths of some languages look alike.
pub(super) fn ipv6(text: &str) -> Checked {
    let begin = match text.as_bytes() {
        [b':', second, ..] if *second != b':' => 1,
        _ => 0,
    };
    let inner = text.get(begin..).unwrap_or_default();
    let mut end = inner.len();
    if inner.ends_with(':') && !inner.ends_with("::") {
        end -= 1;
    }
    let inner = inner.get(..end).unwrap_or_default();
    let is_one = inner.len() > 3
        && inner.bytes().any(|byte| byte.is_ascii_digit())
        && inner.parse::<Ipv6Addr>().is_ok();
    if is_one {
        Ok(begin..begin + end)
    } else {
        // What stands before the first colon may be a word, or the end of a time.
        Err(text.find(':').map_or(text.len(), |at| at + 1))
    }
}

/// A phone's number without its country has ten digits, or one more or less.
pub(super) fn national(text: &str) -> Checked {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    whole_if(text, (9..=12).contains(&digits))
}
