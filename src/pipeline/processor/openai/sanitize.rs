//! Makes a span fit for OpenAI's own server, which refuses a whole request for one unknown key or
//! one large value. What is done here is what the Agents SDK does before it sends.

use std::{cmp::Reverse, collections::BinaryHeap};

use serde_json::{Map, Value};

/// The most bytes of JSON that `input` and `output` may each have.
const MOST: usize = 100_000;

/// What a text that was cut ends with.
const MARK: &str = "... [truncated]";

/// Changes what the server would refuse.
pub(super) fn span(item: &mut Value) {
    let Some(data) = item.get_mut("span_data").and_then(Value::as_object_mut) else {
        return;
    };
    let is_generation = data.get("type").and_then(Value::as_str) == Some("generation");
    let usage = data.remove("usage").filter(|_| is_generation);
    if let Some(usage) = usage.and_then(known_usage) {
        data.insert("usage".to_owned(), usage);
    }
    for field in ["input", "output"] {
        if let Some(value) = data.get_mut(field) {
            *value = fitting(value.take(), MOST).unwrap_or(Value::Null);
        }
    }
}

/// The two counts that the server knows, and the rest as their details; nothing if one of them is
/// not known.
fn known_usage(usage: Value) -> Option<Value> {
    let Value::Object(mut usage) = usage else {
        return None;
    };
    let mut known = Map::new();
    for name in ["input_tokens", "output_tokens"] {
        let count = usage.remove(name).filter(Value::is_number)?;
        known.insert(name.to_owned(), count);
    }
    let mut details = match usage.remove("details") {
        Some(Value::Object(details)) => details,
        _ => Map::new(),
    };
    details.extend(usage.into_iter().filter(|(_, value)| !value.is_null()));
    if !details.is_empty() {
        known.insert("details".to_owned(), Value::Object(details));
    }
    Some(Value::Object(known))
}

/// The value in at most `most` bytes of JSON, its shape kept as far as it goes; nothing if there is
/// nothing of it that small.
fn fitting(value: Value, most: usize) -> Option<Value> {
    if size(&value) <= most {
        return Some(value);
    }
    match value {
        Value::String(text) => shortened(&text, most).map(Value::String),
        Value::Array(items) => {
            let items = items.into_iter().map(|item| (0, item)).collect();
            let kept = fitting_members(items, most)?;
            let kept = kept.into_iter().flatten();
            Some(Value::Array(kept.collect()))
        },
        Value::Object(members) => {
            let (names, members): (Vec<String>, Vec<Value>) = members.into_iter().unzip();
            let sized = names.iter().map(|name| text_size(name) + 1).zip(members);
            let kept = fitting_members(sized.collect(), most)?;
            let kept = names.into_iter().zip(kept);
            let kept = kept.filter_map(|(name, member)| Some((name, member?)));
            Some(Value::Object(kept.collect()))
        },
        // Not to be had any shorter.
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// Shortens the largest member, and removes it if that is not enough, until all fit in `most` bytes
/// with the brackets around them. Each has the size of its name before it.
fn fitting_members(members: Vec<(usize, Value)>, most: usize) -> Option<Vec<Option<Value>>> {
    const BRACKETS: usize = 2;
    let sizes: Vec<usize> = members.iter().map(|(_, member)| size(member)).collect();
    let names = members.iter().map(|(name, _)| name);
    let commas = members.len().saturating_sub(1);
    let mut total = BRACKETS + commas + sizes.iter().chain(names).sum::<usize>();
    let largest = sizes.iter().enumerate();
    let mut largest: BinaryHeap<_> = largest
        .map(|(place, size)| (*size, Reverse(place)))
        .collect();
    let (names, members): (Vec<usize>, Vec<Value>) = members.into_iter().unzip();
    let mut members: Vec<Option<Value>> = members.into_iter().map(Some).collect();
    while total > most {
        let (before, Reverse(place)) = largest.pop()?;
        let member = members.get_mut(place)?;
        let room = before.checked_sub(total - most);
        let shorter = room.and_then(|room| fitting(member.take()?, room));
        if let Some(shorter) = shorter {
            total = total - before + size(&shorter);
            *member = Some(shorter);
        } else {
            *member = None;
            let comma = usize::from(!largest.is_empty());
            total -= before + names.get(place)? + comma;
        }
    }
    Some(members)
}

/// The longest beginning of `text` that fits with the mark behind it; empty if not even that does.
fn shortened(text: &str, most: usize) -> Option<String> {
    const QUOTES: usize = 2;
    let room = most.checked_sub(QUOTES)?;
    let Some(mut room) = room.checked_sub(MARK.len()) else {
        return Some(String::new());
    };
    let mut end = 0;
    for letter in text.chars() {
        let Some(left) = room.checked_sub(escaped_size(letter)) else {
            break;
        };
        room = left;
        end += letter.len_utf8();
    }
    let kept = text.get(..end).unwrap_or_default();
    Some(format!("{kept}{MARK}"))
}

/// How many bytes of JSON a value takes.
fn size(value: &Value) -> usize {
    match value {
        Value::Null => 4,
        Value::Bool(flag) => 5 - usize::from(*flag),
        Value::Number(number) => number.to_string().len(),
        Value::String(text) => text_size(text),
        Value::Array(items) => {
            let commas = items.len().saturating_sub(1);
            2 + commas + items.iter().map(size).sum::<usize>()
        },
        Value::Object(members) => {
            let commas = members.len().saturating_sub(1);
            let sizes = members
                .iter()
                .map(|(name, member)| text_size(name) + 1 + size(member));
            2 + commas + sizes.sum::<usize>()
        },
    }
}

fn text_size(text: &str) -> usize {
    2 + text.chars().map(escaped_size).sum::<usize>()
}

/// How many bytes a character takes within a text.
const fn escaped_size(letter: char) -> usize {
    match letter {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => letter.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn sanitized(data: &Value) -> Value {
        let mut item = json!({"span_data": data});
        span(&mut item);
        item["span_data"].take()
    }

    #[test]
    fn only_a_generation_keeps_its_usage_and_only_what_is_known_on_top() {
        let usage = json!({
            "requests": 1, "input_tokens": 120, "output_tokens": 45, "total_tokens": 165,
            "input_tokens_details": {"cached_tokens": 100}, "cost": null,
            "details": {"audio": 3},
        });
        let found = sanitized(&json!({"type": "generation", "usage": usage}));
        let expected = json!({
            "input_tokens": 120, "output_tokens": 45,
            "details": {
                "requests": 1, "total_tokens": 165, "audio": 3,
                "input_tokens_details": {"cached_tokens": 100},
            },
        });
        assert_eq!(found["usage"], expected);
        let found = sanitized(&json!({"type": "response", "response_id": "r", "usage": usage}));
        assert_eq!(found, json!({"type": "response", "response_id": "r"}));
        for usage in [
            json!({"input_tokens": 120, "output_tokens": null}),
            json!({"input_tokens": true, "output_tokens": 1}),
            json!({"output_tokens": 1}),
            json!(null),
            json!([1]),
        ] {
            let found = sanitized(&json!({"type": "generation", "usage": usage}));
            assert_eq!(found, json!({"type": "generation"}), "{usage}");
        }
    }

    #[test]
    fn a_hundred_kilobytes_pass_and_one_byte_more_is_cut() {
        let whole = "x".repeat(MOST - 2);
        let data = json!({"type": "function", "input": whole, "output": format!("{whole}x")});
        let found = sanitized(&data);
        assert_eq!(found["input"], json!(whole));
        let cut = found["output"].as_str().unwrap();
        assert_eq!(cut.len(), MOST - 2);
        assert!(cut.ends_with("x... [truncated]"));
    }

    #[test]
    fn the_largest_member_is_cut_first_and_what_cannot_be_cut_goes() {
        let input = json!([
            {"role": "system", "content": "short"},
            {"role": "user", "content": "y".repeat(2 * MOST)},
        ]);
        let found = sanitized(&json!({"type": "generation", "input": input}));
        assert_eq!(found["input"][0], input[0]);
        assert_eq!(found["input"][1]["role"], "user");
        assert!(
            found["input"][1]["content"]
                .as_str()
                .unwrap()
                .ends_with(MARK)
        );
        assert!(size(&found["input"]) <= MOST);
        let numbers = json!(vec![1_000_000_000; MOST]);
        let found = sanitized(&json!({"type": "generation", "input": numbers}));
        let left = found["input"].as_array().unwrap().len();
        assert_eq!(left, (MOST - 1) / 11);
        assert_eq!(fitting(json!("long enough"), 5), Some(json!("")));
        assert_eq!(fitting(json!(12345), 4), None);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,60}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::hash_map(".{0,8}", inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_comes_out_fits_and_what_fits_comes_out_as_it_was(
            value in values(), most in 0_usize..200,
        ) {
            let before = value.to_string().len();
            prop_assert_eq!(size(&value), before);
            match fitting(value.clone(), most) {
                Some(found) if before <= most => prop_assert_eq!(found, value),
                Some(found) => prop_assert!(found.to_string().len() <= most, "{}", found),
                None => prop_assert!(before > most),
            }
        }
    }
}
