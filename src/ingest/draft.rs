//! What both formats need to make a span: ids, times, and texts that are kept short.

use std::time::Duration;

use crate::{
    base::{
        clock::Timestamp,
        id::{SpanId, TraceId},
    },
    call::span::Value,
};

/// The longest text that is kept, in bytes.
const TEXT: usize = 1_024;

/// The longest text that names an error, in bytes.
const ERROR: usize = 128;

/// The most texts of a list.
const TEXTS: usize = 128;

/// The most attributes of a span.
pub(super) const ATTRIBUTES: usize = 128;

/// What began longer ago is not taken: the agent's clock is wrong, or the report is of another day.
const AGE: Duration = Duration::from_hours(24);

/// By how much an agent's clock may be fast.
const AHEAD: Duration = Duration::from_mins(5);

/// The times of a span as they are kept.
///
/// # Errors
/// They cannot be, seen from `now`.
pub(super) fn times(
    start: Timestamp,
    end: Timestamp,
    now: Timestamp,
) -> Result<(Timestamp, Duration), &'static str> {
    if start > end {
        return Err("it ended before it began");
    }
    if end > now + AHEAD {
        return Err("it ended in the future: set the clock right");
    }
    if start < now - AGE {
        return Err("it began more than a day ago");
    }
    Ok((start, end.since(start)))
}

/// A time of ISO 8601.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_nanosecond())
        .ok()
        .map(Timestamp::from_nanos)
}

/// The beginning of a text.
pub(super) fn short(text: &str) -> &str {
    cut(text, TEXT)
}

/// The beginning of a text that names an error.
pub(super) fn error(text: &str) -> &str {
    cut(text, ERROR)
}

fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most))
        .unwrap_or_default()
}

/// A text as an attribute.
pub(super) fn text(text: &str) -> Value {
    Value::Text(Box::from(short(text)))
}

/// A whole number as an attribute.
pub(super) fn whole(number: i64) -> Value {
    u64::try_from(number).map_or(Value::Negative(number), Value::Int)
}

/// Several texts as an attribute.
pub(super) fn texts<T: AsRef<str>>(texts: impl Iterator<Item = T>) -> Value {
    Value::Texts(
        texts
            .take(TEXTS)
            .map(|text| Box::from(short(text.as_ref())))
            .collect(),
    )
}

/// The id of a trace that is named `trace_<32 hexadecimal digits>`, or in any other way.
pub(super) fn trace_id(name: &str) -> Option<TraceId> {
    let digits = name.strip_prefix("trace_").unwrap_or(name);
    if let Ok(id) = digits.parse() {
        return Some(id);
    }
    let digest = digest(name)?;
    Some(TraceId::from_bytes(*digest.first_chunk()?))
}

/// The id of a span that is named `span_<24 hexadecimal digits>`, or in any other way. Ours have
/// fewer digits: they are random, so that the first ones tell them apart.
pub(super) fn span_id(name: &str) -> Option<SpanId> {
    let digits = name.strip_prefix("span_").unwrap_or(name);
    let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_hex
        && matches!(digits.len(), 16 | 24)
        && let Some(Ok(id)) = digits.get(..16).map(str::parse)
    {
        return Some(id);
    }
    let digest = digest(name)?;
    Some(SpanId::from_bytes(*digest.first_chunk()?))
}

fn digest(name: &str) -> Option<[u8; 32]> {
    if name.is_empty() || name.len() > TEXT {
        return None;
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
    digest.as_ref().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_keep_their_digits_and_other_names_get_some() {
        let trace = trace_id(&format!("trace_{}", "0a".repeat(16))).unwrap();
        assert_eq!(trace, TraceId::from_bytes([10; 16]));
        let span = span_id("span_0b0b0b0b0b0b0b0bffffffff").unwrap();
        assert_eq!(span, SpanId::from_bytes([11; 8]));
        assert_eq!(span_id("0b0b0b0b0b0b0b0b"), Some(span));
        let [one, other] = ["trace_mine", "trace_yours"].map(|name| trace_id(name).unwrap());
        assert_ne!(one, other);
        assert_eq!(Some(one), trace_id("trace_mine"));
        assert_ne!(span_id("span_a"), span_id("span_b"));
        assert_eq!(trace_id(""), None);
        assert_eq!(span_id(&"x".repeat(TEXT + 1)), None);
    }

    #[test]
    fn times_that_cannot_be_are_refused() {
        let now = Timestamp::from_secs(1_795_328_714);
        let at = |seconds| now - Duration::from_secs(seconds);
        assert_eq!(
            times(at(9), at(7), now),
            Ok((at(9), Duration::from_secs(2)))
        );
        assert!(times(at(7), at(9), now).is_err());
        assert!(times(at(86_401), at(7), now).is_err());
        assert!(times(at(9), now + AHEAD + AHEAD, now).is_err());
        assert_eq!(
            time("2026-11-22T06:25:14.017417+00:00")
                .unwrap()
                .as_micros()
                % 1_000_000,
            17_417
        );
        assert_eq!(time("yesterday"), None);
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let long = "\u{e9}".repeat(TEXT);
        assert_eq!(short(&long).len(), TEXT);
        assert_eq!(error(&format!("a{long}")).len(), ERROR - 1);
    }
}
