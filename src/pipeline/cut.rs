//! Long texts on spans, cut for a destination that takes only short ones.

use super::record::Record;
use crate::call::{
    content::CUT,
    span::{Span, Value},
};

mod list;

/// What a text that was cut ends with.
const MARK: &str = "…";

/// The record with every text cut to `most` bytes, and how many were; none if all are short.
pub(super) fn cut(record: &Record, most: usize) -> Option<(Record, u64)> {
    if record.line.len() <= most {
        return None;
    }
    let mut span = record.span.clone();
    let mut cuts = 0;
    for text in texts(&mut span) {
        if text.len() > most {
            *text = shortened(text, most);
            cuts += 1;
        }
    }
    let lists = cut_lists(&mut span, most);
    if lists > 0 && !span.attributes.iter().any(|(name, _)| *name == CUT) {
        span.attributes.push((CUT, Value::Bool(true)));
    }
    cuts += lists;
    (cuts > 0).then(|| (Record::new(span), cuts))
}

/// Cuts what is a list of messages, or the like. Returns how many were.
fn cut_lists(span: &mut Span, most: usize) -> u64 {
    let mut cuts = 0;
    for (_, value) in &mut span.attributes {
        if let Value::Json(json) = value
            && json.len() > most
        {
            *json = list::shorter(json, most);
            cuts += 1;
        }
    }
    cuts
}

/// Every text that a client or a provider can make as long as they like.
fn texts(span: &mut Span) -> impl Iterator<Item = &mut Box<str>> {
    let attributes = span.attributes.iter_mut();
    let values = attributes.flat_map(|(_, value)| match value {
        Value::Text(text) => std::slice::from_mut(text).iter_mut(),
        Value::Texts(texts) => texts.iter_mut(),
        Value::Bool(_) | Value::Int(_) | Value::Negative(_) | Value::Float(_) | Value::Json(_) => {
            [].iter_mut()
        },
    });
    let own = [&mut span.path, &mut span.method].into_iter();
    let optional = [&mut span.error_type, &mut span.response_id];
    let tools = span.tool_calls.iter_mut();
    values
        .chain(own)
        .chain(optional.into_iter().flatten())
        .chain(&mut span.finish_reasons)
        .chain(tools.flat_map(|tool| tool.id.iter_mut().chain([&mut tool.name])))
}

/// The beginning of `text`, marked as cut, in `most` bytes.
fn shortened(text: &str, most: usize) -> Box<str> {
    let end = text.floor_char_boundary(most.saturating_sub(MARK.len()));
    let (kept, _) = text.split_at_checked(end).unwrap_or_default();
    if most < MARK.len() {
        return Box::from(kept);
    }
    format!("{kept}{MARK}").into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::testing::span, *};

    #[test]
    fn long_texts_are_cut_and_the_line_with_them() {
        let mut long = span(1);
        long.attributes = vec![
            ("input", Value::Text("x".repeat(5_000).into())),
            ("number", Value::Int(7)),
            ("short", Value::Text("y".into())),
        ];
        long.path = "/p".repeat(500).into();
        let record = Record::new(long);
        let (short, cuts) = cut(&record, 100).unwrap();
        assert_eq!(cuts, 2);
        assert!(short.line.contains("…\"") && short.line.len() < record.line.len() - 5_000);
        assert_eq!(short.span.span_id, record.span.span_id);
        assert!(cut(&record, 10_000).is_none());
        assert!(cut(&Record::new(span(1)), 100).is_none());
    }

    proptest! {
        #[test]
        fn what_was_cut_is_short_enough_and_was_the_beginning(text in ".{0,60}", most in 0_usize..50) {
            let short = shortened(&text, most);
            prop_assert!(short.len() <= most);
            prop_assert!(text.starts_with(short.trim_end_matches('…')));
        }
    }
}
