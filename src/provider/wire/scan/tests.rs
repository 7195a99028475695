//! Tests of the scanner.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const WANTED: Wanted = Wanted {
    fields: &["model", "usage", "n"],
    within: &["response"],
};

fn scan(bytes: &[u8], chunk_size: usize) -> Reduced {
    let mut scanner = Scanner::new(WANTED);
    bytes
        .chunks(chunk_size)
        .for_each(|chunk| scanner.feed(chunk));
    scanner.finish()
}

fn document(text: &str) -> Value {
    serde_json::from_slice(&scan(text.as_bytes(), 3).document).unwrap()
}

#[test]
fn wanted_fields_are_kept_at_both_levels_and_nowhere_else() {
    let found = document(
        r#"data: {"model": "a\"}b", "x": {"model": 1, "response": {"n": 2}}, "usage": {"n": [1, {}]},
        "response": {"y": [{"n": 3}], "usage": {"z": null}, "n" : -1.5e3 }, "text": "\"n\":4", "n": true }"#,
    );
    let expected = json!({"model": "a\"}b", "usage": {"n": [1, {}]},
        "response": {"usage": {"z": null}, "n": -1500.0}, "n": true});
    assert_eq!(found, expected);
}

#[test]
fn what_breaks_off_keeps_what_was_whole() {
    let found = scan(br#"{"n":1,"response":{"model":"m","usage":{"a":"#, 1000);
    assert_eq!(found.document, br#"{"n":1,"response":{"model":"m"}}"#);
    assert!(!found.whole);
    assert!(scan(b"{}", 1000).whole);
}

#[test]
fn a_value_that_is_too_large_is_left_out_and_counted() {
    let body = format!(r#"{{"model":"{}","n":1}}"#, "x".repeat(Scanner::MAX_VALUE));
    let found = scan(body.as_bytes(), 1000);
    assert_eq!(
        (found.document, found.too_large),
        (br#"{"n":1}"#.to_vec(), 1)
    );
    assert!(found.skipped > 60_000);
}

#[test]
fn what_is_not_kept_is_counted_as_the_text_that_it_is_but_for_what_is_named() {
    const NONE: &[&str] = &["data", "n"];
    let prose = "so it is said ".repeat(10_000);
    let picture = "iVBOR".repeat(10_000);
    for body in [
        json!({"n": 1, "parts": [{"text": prose}, {"inline": {"data": picture}}]}),
        json!({"data": {"x": [picture], "y": "}\"],"}, "parts": [[{"text": prose}]]}),
        json!({"response": {"data": picture, "text": prose}, "n": {"text": 1}}),
        json!({"model": prose, "data": [{"text": picture}]}),
        json!({"parts": [{"data": null, "text": prose}, {"data": [[]]}, "data"]}),
    ] {
        let stream = format!("data: {body}");
        for size in [1, 7, 4096, usize::MAX] {
            let mut scanner = Scanner::new(WANTED).counting(NONE);
            let chunks = stream.as_bytes().chunks(size);
            chunks.for_each(|chunk| scanner.feed(chunk));
            let found = scanner.finish().text;
            let (of, besides) = (Text::of(prose.as_bytes()), found.bytes - 140_000);
            assert!(besides < 150, "{besides} {size}");
            assert!(found.plain - of.plain < 100, "{size}");
        }
    }
    assert_eq!(scan(prose.as_bytes(), 9).text, Text::default());
}

#[test]
fn what_is_kept_is_bounded_however_often_a_field_is_repeated() {
    let field = format!(r#""model":"{}","#, "x".repeat(50_000));
    let body = format!("{{{}\"n\":1}}", field.repeat(100));
    let found = scan(body.as_bytes(), 4096);
    assert!(
        found.document.len() <= Scanner::MAX_KEPT + 64,
        "{}",
        found.document.len()
    );
    assert!(found.too_large > 90);
}

#[test]
fn a_long_name_does_not_become_a_wanted_one() {
    let name = format!("n{}", "x".repeat(1000));
    assert_eq!(document(&json!({name: 1}).to_string()), json!({}));
}

#[test]
fn a_bound_takes_all_that_was_skipped_for_text() {
    let mut input = InputSize::default();
    let reduced = scan(br#"{"n":1,"messages":"0123456789"}"#, 1000);
    reduced.bound(&mut input);
    assert!(input.text_bytes.bytes >= 10 && input.writes_cache);
}

fn body() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i32>().prop_map(Into::into),
        ".{0,9}".prop_map(Into::into),
    ];
    let any = leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map("model|usage|n|response|[a-c{}\"]{0,3}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("model|usage|n|response|[a-c]", any, 0..6)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

/// What a parser would keep.
fn expected(body: &Value, depth: usize) -> Value {
    let fields = body.as_object().unwrap().iter();
    let kept = fields.filter_map(|(key, value)| {
        if WANTED.fields.contains(&&**key) {
            Some((key.clone(), value.clone()))
        } else {
            let enters = depth == 1 && WANTED.within.contains(&&**key) && value.is_object();
            enters.then(|| (key.clone(), expected(value, 2)))
        }
    });
    Value::Object(kept.collect())
}

proptest! {
    #[test]
    fn what_is_kept_is_what_a_parser_would_keep_whatever_the_chunking(
        body in body(), pretty: bool, size in 1_usize..40,
    ) {
        let text = if pretty {
            serde_json::to_string_pretty(&body).unwrap()
        } else {
            body.to_string()
        };
        let found = scan(text.as_bytes(), size);
        let kept: Value = serde_json::from_slice(&found.document).unwrap();
        prop_assert_eq!(kept, expected(&body, 1));
        prop_assert!(found.whole);
    }

    #[test]
    fn garbage_and_cuts_never_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..90)) {
        let braced = [b"{\"n\":", &*bytes].concat();
        let _found = (scan(&bytes, 5), scan(&braced, 1));
    }
}
