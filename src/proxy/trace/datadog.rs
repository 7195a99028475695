//! Datadog's trace context: decimal ids of 64 bits, the upper half of the trace's in a tag.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    Context,
    wire::{Sent, text},
};
use crate::base::id::{SpanId, TraceId};

const TRACE: HeaderName = HeaderName::from_static("x-datadog-trace-id");
const PARENT: HeaderName = HeaderName::from_static("x-datadog-parent-id");
const PRIORITY: HeaderName = HeaderName::from_static("x-datadog-sampling-priority");
const TAGS: HeaderName = HeaderName::from_static("x-datadog-tags");
const ORIGIN: HeaderName = HeaderName::from_static("x-datadog-origin");

/// The tag with the upper half of the trace's id.
const UPPER: &str = "_dd.p.tid";

pub(super) static NAMES: [HeaderName; 5] = [TRACE, PARENT, PRIORITY, TAGS, ORIGIN];

/// What these headers say, if they name a trace and a span in it. What they say besides is left aside
/// where it cannot be read.
pub(super) fn read(headers: &HeaderMap) -> Option<Sent> {
    let lower = number(text(headers, &TRACE)?)?;
    let parent = number(text(headers, &PARENT)?)?;
    let tags = text(headers, &TAGS).unwrap_or_default().split(',');
    let upper = tags.filter_map(|tag| tag.trim().split_once('='));
    let upper = upper.filter(|(name, _)| *name == UPPER);
    let is_half = |it: &str| it.len() == 16 && it.bytes().all(|byte| byte.is_ascii_hexdigit());
    let upper = upper.map(|(_, value)| value).find(|it| is_half(it));
    let upper = upper.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let upper = upper.unwrap_or(0);
    // Kept by a rule or a person (1, 2), left out by a rule or a person (0, -1).
    let priority = text(headers, &PRIORITY).and_then(|it| it.trim().parse::<i64>().ok());
    let flags = u8::from(priority.is_none_or(|it| it > 0));
    Some(Sent {
        trace_id: format!("{upper:016x}{lower:016x}").parse().ok()?,
        span_id: format!("{parent:016x}").parse().ok()?,
        flags,
        is_decided: priority.is_some(),
    })
}

/// Puts `ours` in the place of the client's span.
pub(super) fn replace(headers: &mut HeaderMap, ours: SpanId) {
    if let Some(parent) = headers.get_mut(PARENT) {
        *parent = HeaderValue::from(u64::from_be_bytes(ours.bytes()));
    }
}

/// Says it anew.
pub(super) fn add(headers: &mut HeaderMap, context: &Context) {
    let (upper, lower) = halves(context.trace_id);
    let span = u64::from_be_bytes(context.span_id.bytes());
    headers.insert(TRACE, HeaderValue::from(lower));
    headers.insert(PARENT, HeaderValue::from(span));
    headers.insert(PRIORITY, HeaderValue::from(u16::from(context.flags & 1)));
    if upper > 0
        && let Ok(tag) = HeaderValue::try_from(format!("{UPPER}={upper:016x}"))
    {
        headers.insert(TAGS, tag);
    }
}

/// The upper and the lower half of an id.
fn halves(id: TraceId) -> (u64, u64) {
    let id = u128::from_be_bytes(id.bytes());
    let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(u64::MAX);
    (half(id >> 64), half(id))
}

/// A whole number without a sign.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[(&'static str, String)]) -> HeaderMap {
        let pairs = lines.iter().map(|(name, value)| {
            let value = HeaderValue::try_from(value).unwrap();
            (HeaderName::from_static(name), value)
        });
        pairs.collect()
    }

    fn sent(trace: &str, parent: &str, priority: &str, tags: &str) -> Option<Sent> {
        let lines = [
            ("x-datadog-trace-id", trace.to_owned()),
            ("x-datadog-parent-id", parent.to_owned()),
            ("x-datadog-sampling-priority", priority.to_owned()),
            ("x-datadog-tags", tags.to_owned()),
        ];
        read(&headers(&lines))
    }

    #[test]
    fn both_halves_of_a_trace_s_id_are_read() {
        let tags = "_dd.p.dm=-0,_dd.p.tid=640cfd8d00000000";
        let read = sent("1234567890", "987654321", "2", tags).unwrap();
        assert_eq!(
            read.trace_id.to_string(),
            "640cfd8d0000000000000000499602d2"
        );
        assert_eq!(read.span_id.to_string(), "000000003ade68b1");
        assert_eq!(read.flags, 1);
        let read = sent("1", "2", "-1", "").unwrap();
        assert!(read.trace_id.to_string().ends_with("0001"));
        assert_eq!(read.flags, 0);
    }

    #[test]
    fn what_is_not_right_is_not_read() {
        for (trace, parent, priority, tags) in [
            ("", "2", "1", ""),
            ("0", "2", "1", ""),
            ("1", "0", "1", ""),
            ("+1", "2", "1", ""),
            ("18446744073709551616", "2", "1", ""),
            ("a1", "2", "1", ""),
        ] {
            let read = sent(trace, parent, priority, tags);
            assert_eq!(read, None, "{trace} {parent} {priority} {tags}");
        }
    }

    #[test]
    fn one_odd_field_leaves_the_others_in_force() {
        for (priority, tags, flags, is_decided) in [
            ("7", "", 1, true),
            ("-3", "", 0, true),
            ("maybe", "", 1, false),
            ("1", "_dd.p.tid=12", 1, true),
            ("0", "_dd.p.tid=640cfd8d0000000g", 0, true),
            ("1", "_dd.p.tid=+40cfd8d00000000", 1, true),
        ] {
            let read = sent("1", "2", priority, tags).unwrap();
            assert_eq!(read.trace_id.to_string(), format!("{:032x}", 1), "{tags}");
            assert_eq!(
                (read.flags, read.is_decided),
                (flags, is_decided),
                "{priority}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_said_anew_is_read_again(trace in 1_u128.., span in 1_u64.., sampled in 0_u8..2) {
            let context = Context {
                trace_id: TraceId::from_bytes(trace.to_be_bytes()),
                span_id: SpanId::from_bytes(span.to_be_bytes()),
                parent: None,
                sampled: Some(sampled == 1),
                flags: sampled,
            };
            let mut said = HeaderMap::new();
            add(&mut said, &context);
            let again = read(&said).unwrap();
            prop_assert_eq!(again.trace_id, context.trace_id);
            prop_assert_eq!(again.span_id, context.span_id);
            prop_assert_eq!(again.flags, sampled);
            replace(&mut said, SpanId::from_bytes([0, 0, 0, 0, 0, 0, 0, 9]));
            prop_assert_eq!(&said[PARENT], "9");
            prop_assert_eq!(read(&said).unwrap().trace_id, context.trace_id);
        }
    }
}
