//! What is found, what is left, and that nothing slips through escapes.

use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn redactor() -> Redactor {
    let own = "{patterns: [{name: ticket, pattern: 'T-[0-9]{4}'}]}";
    Redactor::new(&serde_saphyr::from_str(own).unwrap()).unwrap()
}

fn redacted(text: &str, level: Content) -> String {
    redactor()
        .text(text, level)
        .unwrap_or_else(|| text.to_owned())
}

/// One of each kind, with its name. None is anybody's.
const SECRETS: &[(&str, &str)] = &[
    ("key", "sk-proj-Ab3dEfGh1jKlMnOpQrSt"),
    ("key", "sk-ant-api03-Ab3dEfGh1jKlMnOp_QrSt-uv"),
    ("key", "AIzaSyA1bcdefghijklmnopqrstuvwxyz0123456"),
    ("key", "AKIAIOSFODNN7EXAMPLE"),
    ("key", "ghp_Ab3dEfGh1jKlMnOpQrStUvWxYz0123456789"),
    ("key", "github_pat_11ABCDEFG0abcdefghij_klmnop"),
    ("key", "xoxb-123456789012-abcdefABCDEF"),
    (
        "key",
        "tg_Ab3dEfGh1jKlMnOpQrStUvWxYz0123456789Ab3dEfGh1jKlM",
    ),
    ("key", "hf_AbcdEfGhIjKlMnOpQrStUvWx"),
    ("token", "Bearer abcdef1234567890"),
    ("token", "Bearer abcdef12/34567890+abcdefg/hijklmnop"),
    (
        "token",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    ),
    (
        "private_key",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow+/=\nabc\n-----END RSA PRIVATE KEY-----",
    ),
];

const PERSONAL: &[(&str, &str)] = &[
    ("email", "ann.lee+x@mail.example.com"),
    ("email", "j\u{f6}rg@m\u{fc}ller.example"),
    ("phone", "+49 (0)30 1234567"),
    ("phone", "+15550123456"),
    ("phone", "(555) 012-3456"),
    ("phone", "0171 2345678"),
    ("card", "4111 1111 1111 1111"),
    ("card", "4111111111111111"),
    ("card", "3782-822463-10005"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("iban", "GB82WEST12345698765432"),
    ("ssn", "078-05-1120"),
    ("ip", "203.0.113.77"),
    ("ip", "2001:db8::ff00:42:8329"),
    ("ticket", "T-1234"),
];

#[test]
fn keys_and_tokens_are_taken_out_at_every_level() {
    for (name, secret) in SECRETS {
        for level in [Content::Redacted, Content::Full] {
            let found = redacted(&format!("say {secret} now"), level);
            assert_eq!(found, format!("say [redacted:{name}] now"), "{secret}");
        }
    }
}

#[test]
fn what_is_personal_is_taken_out_of_redacted_content_only() {
    for (name, personal) in PERSONAL {
        let text = format!("say {personal} now");
        let found = redacted(&text, Content::Redacted);
        assert_eq!(found, format!("say [redacted:{name}] now"));
        assert_eq!(redacted(&text, Content::Full), text);
    }
}

#[test]
fn what_only_looks_like_it_stays() {
    for text in [
        "a task-oriented-dialogue-system, a risk-adjusted-return-model",
        "the bearer of bad news, Bearer certificates",
        "at 12:34:56 on 2024-01-02T03:04:05Z, 01-02-2024",
        "std::fmt::Debug and a::b, $x::y, 16:9",
        "4111 1111 1111 1112",
        "GB82 WEST 1234 5698 7654 33",
        "version 1.2.3, build 300.1.2.3, chapter 1.2.3",
        "000-12-3456 and 123-00-4567",
        "user@localhost, @everyone, a @ b",
        "0.1234567 and 1,234,567.89 and 3.14159265358979",
        "call_abc123 msg_01XFDUDYJgAACzvnptvVoYEL resp_67ccd2bed1ec8190b14f964abc054267",
    ] {
        assert_eq!(redacted(text, Content::Redacted), text);
    }
}

#[test]
fn a_number_is_found_among_others() {
    for (text, expected) in [
        ("12 4111 1111 1111 1111 99", "12 [redacted:card] 99"),
        ("12345678 4111 1111 1111 1111", "12345678 [redacted:card]"),
        (
            "DE89 3704 0044 0532 0130 00 IS MINE",
            "[redacted:iban] IS MINE",
        ),
        (
            "no DE12 DE89370400440532013000.",
            "no DE12 [redacted:iban].",
        ),
        (
            "addr:2001:db8::1:2, [2001:db8::7]:443",
            "addr:[redacted:ip], [[redacted:ip]]:443",
        ),
        (
            "source:2001:db8:0:0:0:ff00:42:8329 12:34:56:2001:db8:0:0:0:ff00:42:8329",
            "source:[redacted:ip] 12:34:56:[redacted:ip]",
        ),
        (
            "4111111111111111 4111-1111-1111-1111 1",
            "[redacted:card] [redacted:card] 1",
        ),
        ("T-1234T-5678", "[redacted:ticket][redacted:ticket]"),
    ] {
        assert_eq!(redacted(text, Content::Redacted), expected);
    }
}

#[test]
fn values_names_and_numbers_are_searched() {
    let mut value = json!({"a@b.example": {"card": 4_111_111_111_111_111_u64, "n": 7},
        "list": ["x", "call +15550123456"]});
    redactor().redact(&mut value, Content::Redacted);
    let expected = json!({"[redacted:email]": {"card": "[redacted:card]", "n": 7},
        "list": ["x", "call [redacted:phone]"]});
    assert_eq!(value, expected);
}

#[test]
fn megabytes_that_nearly_match_take_no_long_time() {
    for piece in [
        "a@",
        "4111 ",
        "DE89 ",
        "1.",
        "a:b:",
        "sk-",
        "eyJ.",
        "-----BEGIN PRIVATE KEY",
        "\\u",
    ] {
        let text = piece.repeat(200_000 / piece.len());
        let _found = redacted(&text, Content::Redacted);
    }
}

#[test]
fn megabytes_of_cards_take_no_long_time() {
    let card = "4111111111111111 ";
    let text = card.repeat((4 << 20) / card.len());
    let found = redacted(&text, Content::Redacted);
    assert_eq!(
        found.matches("[redacted:card] ").count(),
        (4 << 20) / card.len()
    );
}

#[test]
fn names_that_become_the_same_lose_nothing() {
    let mut value = json!({"a@b.example": 1, "c@d.example": 2, "e@f.example": 3});
    redactor().redact(&mut value, Content::Redacted);
    let expected = json!({"[redacted:email]": 1, "[redacted:email] 2": 2, "[redacted:email] 3": 3});
    assert_eq!(value, expected);
}

#[test]
fn what_is_found_without_resolving_stays_as_it_is_written() {
    let text = r#"{"a":"x\ny","mail":"ann@mail.example","b":"\u00e9"}"#;
    let expected = text.replace("ann@mail.example", "[redacted:email]");
    assert_eq!(redacted(text, Content::Redacted), expected);
}

/// The text as JSON, with some of its characters as escapes, `times` within each other.
fn escaped(text: &str, which: &[bool], times: usize) -> String {
    let mut text = text.to_owned();
    for _ in 0..times {
        let mut out = String::new();
        for (place, letter) in text.chars().enumerate() {
            let quoted = serde_json::to_string(&letter).unwrap();
            if which[place % which.len()] {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").unwrap();
                }
            } else {
                out.push_str(quoted.strip_prefix('"').unwrap().strip_suffix('"').unwrap());
            }
        }
        text = out;
    }
    text
}

proptest! {
    #[test]
    fn a_planted_secret_is_found_whatever_stands_around_it_and_however_it_is_written(
        which in 0..SECRETS.len() + PERSONAL.len(),
        before in "[ \\n\"{}:,;!?(\u{e9}]{0,6}", after in "[ \\n\"{},;!?)\u{e9}]{0,6}",
        escapes in prop::collection::vec(any::<bool>(), 1..8), times in 0..4_usize,
    ) {
        let (name, secret) = SECRETS.iter().chain(PERSONAL).nth(which).unwrap();
        // Letters beyond ASCII would be part of an address.
        let (before, after) = if *name == "email" {
            (before.replace('\u{e9}', ""), after.replace('\u{e9}', ""))
        } else {
            (before, after)
        };
        let text = escaped(&format!("{before} {secret} {after}"), &escapes, times);
        let found = redacted(&text, Content::Redacted);
        let mut seen = found.clone();
        for _ in 0..=times {
            let mut runs = secret.as_bytes().windows(8);
            let left = runs.find(|run| seen.as_bytes().windows(8).any(|other| other == *run));
            prop_assert!(left.is_none(), "{text} -> {found}");
            seen = resolved(seen.as_bytes());
        }
        let mark = format!("[redacted:{name}]");
        prop_assert!(found.contains(&mark), "{text} -> {found}");
    }

    #[test]
    fn any_text_is_searched_without_harm(text in "\\PC{0,60}") {
        let _found = redacted(&text, Content::Redacted);
    }

    #[test]
    fn numbers_and_escapes_in_any_order_do_no_harm(text in "[0-9 .:@+a-fDE\\\\u-]{0,60}") {
        let _found = redacted(&text, Content::Redacted);
    }
}
