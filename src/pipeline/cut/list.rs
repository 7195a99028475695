//! A list of messages that is too long for a destination: its longest texts are cut, and if that is
//! not enough, its first messages are left out.

use serde_json::Value;

use super::shortened;

/// Texts are not cut shorter than that, in bytes: rather messages are left out.
const SHORTEST: usize = 64;

/// The list as JSON of at most `most` bytes, or an empty one if none of it fits.
pub(super) fn shorter(json: &str, most: usize) -> Box<str> {
    let mut list: Vec<Value> = serde_json::from_str(json).unwrap_or_default();
    let mut sizes: Vec<usize> = list.iter().map(size).collect();
    let mut longest = most;
    while total(&sizes) > most && longest > SHORTEST {
        longest = (longest / 2).max(SHORTEST);
        for (item, size_of) in list.iter_mut().zip(&mut sizes) {
            cut_texts(item, longest);
            *size_of = size(item);
        }
    }
    let mut left = total(&sizes);
    let first_ones = sizes.iter().take_while(|size| {
        let is_too_much = left > most;
        left = left.saturating_sub(**size + 1);
        is_too_much
    });
    let left_out = first_ones.count();
    list.drain(..left_out);
    serde_json::to_string(&list).unwrap_or_default().into()
}

fn size(item: &Value) -> usize {
    serde_json::to_string(item).map_or(0, |json| json.len())
}

/// What a list of items takes that have these sizes.
fn total(sizes: &[usize]) -> usize {
    sizes.iter().map(|size| size + 1).sum::<usize>() + 1
}

fn cut_texts(value: &mut Value, longest: usize) {
    match value {
        Value::String(text) if text.len() > longest => {
            *text = shortened(text, longest).into_string();
        },
        Value::Array(items) => items.iter_mut().for_each(|item| cut_texts(item, longest)),
        Value::Object(fields) => fields.values_mut().for_each(|it| cut_texts(it, longest)),
        _ => {},
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn said(text: &str) -> Value {
        json!({"role": "user", "parts": [{"type": "text", "content": text}]})
    }

    #[test]
    fn the_longest_texts_are_cut_first_and_the_last_messages_stay() {
        let list = json!([said("short"), said(&"x".repeat(5_000))]).to_string();
        let cut: Vec<Value> = serde_json::from_str(&shorter(&list, 1_000)).unwrap();
        assert_eq!(cut[0], said("short"));
        let text = cut[1]["parts"][0]["content"].as_str().unwrap();
        assert!(text.starts_with("xxxx") && text.ends_with('…'), "{text}");
        let many = json!(vec![said("word"); 100]).to_string();
        let few: Vec<Value> = serde_json::from_str(&shorter(&many, 1_000)).unwrap();
        assert!(few.len() > 5 && few.len() < 20);
        assert_eq!(&*shorter(&many, 10), "[]");
    }

    proptest! {
        #[test]
        fn whatever_it_is_it_fits_and_is_valid(
            texts in prop::collection::vec("[a-z\\\\\"\u{e9}\u{1}]{0,300}", 0..8), most in 2..3_000_usize,
        ) {
            let list = texts.iter().map(|text| said(text)).collect::<Value>().to_string();
            let cut = shorter(&list, most);
            prop_assert!(cut.len() <= most, "{cut}");
            prop_assert!(serde_json::from_str::<Vec<Value>>(&cut).is_ok());
        }
    }
}
