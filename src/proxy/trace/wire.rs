//! The formats of trace context: W3C's `traceparent`, B3 in one header or several, Jaeger's
//! `uber-trace-id`, and Datadog's. What is sent on is what the client sent, with another span in its place.

use std::{fmt::Display, str::FromStr};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Context, datadog};
use crate::{
    base::id::{SpanId, TraceId},
    pipeline::TraceFormat,
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");
const UBER: HeaderName = HeaderName::from_static("uber-trace-id");

static IN_W3C: [HeaderName; 2] = [TRACEPARENT, TRACESTATE];
static IN_B3: [HeaderName; 6] = [B3, B3_TRACE, B3_SPAN, B3_PARENT, B3_SAMPLED, B3_FLAGS];
static IN_JAEGER: [HeaderName; 1] = [UBER];

/// All formats.
pub(super) const ALL: [TraceFormat; 4] = [
    TraceFormat::W3c,
    TraceFormat::B3,
    TraceFormat::Jaeger,
    TraceFormat::Datadog,
];

/// What a client says of its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) trace_id: TraceId,
    /// The client's own span.
    pub(super) span_id: SpanId,
    /// As W3C has them: 1 is sampled.
    pub(super) flags: u8,
    /// Whether it says whether the trace is sampled.
    pub(super) is_decided: bool,
}

/// The headers of a format.
pub(super) fn names(format: TraceFormat) -> &'static [HeaderName] {
    match format {
        TraceFormat::W3c => &IN_W3C,
        TraceFormat::B3 => &IN_B3,
        TraceFormat::Jaeger => &IN_JAEGER,
        TraceFormat::Datadog => &datadog::NAMES,
    }
}

/// What these headers say in a format, if they say it rightly.
pub(super) fn read(format: TraceFormat, headers: &HeaderMap) -> Option<Sent> {
    match format {
        TraceFormat::W3c => traceparent(text(headers, &TRACEPARENT)?),
        TraceFormat::B3 => match text(headers, &B3) {
            Some(single) => b3(single),
            None => b3_in_several(headers),
        },
        TraceFormat::Jaeger => uber(text(headers, &UBER)?),
        TraceFormat::Datadog => datadog::read(headers),
    }
}

/// Puts `ours` in the place of the client's span. To be called where [`read`] found one.
pub(super) fn replace(format: TraceFormat, headers: &mut HeaderMap, ours: SpanId) {
    match format {
        TraceFormat::W3c => edit(headers, &TRACEPARENT, |sent| {
            // Later versions may say more, which is not ours to repeat.
            let mut fields = sent.trim().split('-').skip(1);
            let trace = fields.next()?;
            let flags = fields.nth(1)?;
            Some(format!("00-{trace}-{ours}-{flags}"))
        }),
        TraceFormat::B3 if text(headers, &B3).is_some() => edit(headers, &B3, |sent| {
            let mut fields = sent.trim().split('-');
            let trace = fields.next()?;
            let sampled = fields.nth(1);
            Some(match sampled {
                Some(sampled) => format!("{trace}-{ours}-{sampled}"),
                None => format!("{trace}-{ours}"),
            })
        }),
        TraceFormat::B3 => {
            let theirs = headers.get(B3_SPAN).cloned();
            edit(headers, &B3_SPAN, |_| Some(ours.to_string()));
            if let (Some(parent), Some(theirs)) = (headers.get_mut(B3_PARENT), theirs) {
                *parent = theirs;
            }
        },
        TraceFormat::Jaeger => edit(headers, &UBER, |sent| {
            let sent = sent.trim();
            let colon = if sent.contains(':') { ":" } else { "%3A" };
            let [trace, _, flags] = uber_fields(sent)?;
            Some([trace, &ours.to_string(), "0", flags].join(colon))
        }),
        TraceFormat::Datadog => datadog::replace(headers, ours),
    }
}

/// Says it anew, in headers that are not there yet.
pub(super) fn add(format: TraceFormat, headers: &mut HeaderMap, context: &Context) {
    let (trace, span, flags) = (context.trace_id, context.span_id, context.flags);
    let sampled = flags & 1;
    let mut put = |name, text: String| {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    };
    match format {
        TraceFormat::W3c => put(TRACEPARENT, format!("00-{trace}-{span}-{flags:02x}")),
        TraceFormat::B3 => put(B3, format!("{trace}-{span}-{sampled}")),
        TraceFormat::Jaeger => put(UBER, format!("{trace}:{span}:0:{sampled:02x}")),
        TraceFormat::Datadog => datadog::add(headers, context),
    }
}

/// The text of a header that is there once.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).into_iter();
    let first = values.next()?;
    values.next().is_none().then(|| first.to_str().ok())?
}

fn edit(headers: &mut HeaderMap, name: &HeaderName, edited: impl FnOnce(&str) -> Option<String>) {
    if let Some(place) = headers.get_mut(name)
        && let Some(text) = place.to_str().ok().and_then(edited)
        && let Ok(value) = HeaderValue::try_from(text)
    {
        *place = value;
    }
}

/// Trace, span and flags. Later versions may append fields; `ff` is forbidden.
fn traceparent(text: &str) -> Option<Sent> {
    let mut fields = text.trim().split('-');
    let version = fields.next()?;
    let trace_id = fields.next()?;
    let span_id = fields.next()?;
    let flags = fields.next()?;
    let hex = |text: &str| {
        (text.len() == 2
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
        .then(|| u8::from_str_radix(text, 16).ok())
        .flatten()
    };
    let version = hex(version)?;
    if version == 0xff || (version == 0 && fields.next().is_some()) {
        return None;
    }
    Some(Sent {
        trace_id: trace_id.parse().ok()?,
        span_id: span_id.parse().ok()?,
        flags: hex(flags)?,
        is_decided: true,
    })
}

/// `trace-span`, with the sampling and the parent after it where they are known. (`0` alone says
/// only that nothing shall be sampled.)
fn b3(text: &str) -> Option<Sent> {
    let mut fields = text.trim().split('-');
    let (trace, span) = (fields.next()?, fields.next()?);
    let sampled = fields.next();
    let parent = fields.next();
    let known = parent.is_none_or(|parent| parent.len() == 16) && fields.next().is_none();
    known.then(|| b3_ids(trace, span, sampled))?
}

fn b3_in_several(headers: &HeaderMap) -> Option<Sent> {
    let trace = text(headers, &B3_TRACE)?;
    let span = text(headers, &B3_SPAN)?;
    let sampled = match text(headers, &B3_FLAGS) {
        Some("1") => Some("d"),
        _ => text(headers, &B3_SAMPLED),
    };
    b3_ids(trace, span, sampled)
}

/// Traces may be of 64 bits.
fn b3_ids(trace: &str, span: &str, sampled: Option<&str>) -> Option<Sent> {
    let flags = match sampled {
        Some("0" | "false") => 0,
        // Where it is left open, we decide.
        None | Some("1" | "d" | "true") => 1,
        Some(_) => return None,
    };
    let whole = matches!(trace.len(), 16 | 32) && span.len() == 16;
    whole.then(|| {
        Some(Sent {
            trace_id: padded(trace, 32)?,
            span_id: span.parse().ok()?,
            flags,
            is_decided: sampled.is_some(),
        })
    })?
}

/// `trace:span:parent:flags`, leading zeros left out or not, the colons encoded or not.
fn uber(text: &str) -> Option<Sent> {
    let [trace, span, flags] = uber_fields(text.trim())?;
    Some(Sent {
        trace_id: padded(trace, 32)?,
        span_id: padded(span, 16)?,
        flags: u8::from_str_radix(flags, 16).ok()? & 1,
        is_decided: true,
    })
}

/// Trace, span and flags; the parent is of no use any more.
fn uber_fields(text: &str) -> Option<[&str; 3]> {
    let (trace, rest) = split_once(text)?;
    let (span, rest) = split_once(rest)?;
    let (_parent, flags) = split_once(rest)?;
    Some([trace, span, flags])
}

fn split_once(text: &str) -> Option<(&str, &str)> {
    text.split_once(':')
        .or_else(|| text.split_once("%3A"))
        .or_else(|| text.split_once("%3a"))
}

/// An id without its leading zeros.
fn padded<T: FromStr + Display>(text: &str, digits: usize) -> Option<T> {
    let short = (1..=digits).contains(&text.len());
    short.then(|| format!("{text:0>digits$}").parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "463ac35c9f6413ad48485a3953bb6124";
    const SPAN: &str = "a2fb4a1d1a96d312";

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let pairs = lines.iter().map(|(name, value)| {
            let value = HeaderValue::try_from(*value).unwrap();
            (HeaderName::try_from(*name).unwrap(), value)
        });
        pairs.collect()
    }

    /// What is read, and what is sent on with another span.
    fn pass(format: TraceFormat, lines: &[(&str, &str)]) -> Option<(Sent, Vec<String>)> {
        let mut headers = headers(lines);
        let sent = read(format, &headers)?;
        replace(format, &mut headers, "0000000000000001".parse().unwrap());
        let values = headers
            .values()
            .map(|value| value.to_str().unwrap().to_owned());
        Some((sent, values.collect()))
    }

    #[test]
    fn each_format_is_read_and_sent_on_as_it_came() {
        let (b3, jaeger) = (TraceFormat::B3, TraceFormat::Jaeger);
        for (format, sent, passed, flags) in [
            (
                TraceFormat::W3c,
                format!("00-{TRACE}-{SPAN}-01"),
                format!("00-{TRACE}-0000000000000001-01"),
                1,
            ),
            (
                b3,
                format!("{TRACE}-{SPAN}"),
                format!("{TRACE}-0000000000000001"),
                1,
            ),
            (
                b3,
                format!("{TRACE}-{SPAN}-0-05e3ac9a4f6e3b90"),
                format!("{TRACE}-0000000000000001-0"),
                0,
            ),
            (
                b3,
                format!("{TRACE}-{SPAN}-d"),
                format!("{TRACE}-0000000000000001-d"),
                1,
            ),
            (
                jaeger,
                format!("{TRACE}:{SPAN}:0:1"),
                format!("{TRACE}:0000000000000001:0:1"),
                1,
            ),
            (
                jaeger,
                format!("{TRACE}%3A{SPAN}%3A0%3A0a"),
                format!("{TRACE}%3A0000000000000001%3A0%3A0a"),
                0,
            ),
        ] {
            let name = names(format)[0].as_str();
            let (read, values) = pass(format, &[(name, &sent)]).unwrap();
            assert_eq!(read.trace_id.to_string(), TRACE, "{sent}");
            assert_eq!(read.span_id.to_string(), SPAN, "{sent}");
            assert_eq!(read.flags, flags, "{sent}");
            assert_eq!(read.is_decided, sent != format!("{TRACE}-{SPAN}"), "{sent}");
            assert_eq!(values, [passed]);
        }
    }

    #[test]
    fn b3_in_several_headers_names_the_client_s_span_as_parent() {
        let lines = [
            ("x-b3-traceid", "48485a3953bb6124"),
            ("x-b3-spanid", SPAN),
            ("x-b3-parentspanid", "05e3ac9a4f6e3b90"),
            ("x-b3-sampled", "0"),
        ];
        let (read, values) = pass(TraceFormat::B3, &lines).unwrap();
        let long = "000000000000000048485a3953bb6124";
        assert_eq!(read.trace_id.to_string(), long);
        assert_eq!(read.flags, 0);
        let ours = "0000000000000001";
        assert_eq!(values, ["48485a3953bb6124", ours, SPAN, "0"]);
        let debug = [lines[0], lines[1], ("x-b3-flags", "1")];
        assert_eq!(pass(TraceFormat::B3, &debug).unwrap().0.flags, 1);
    }

    #[test]
    fn our_span_stands_where_the_next_reader_looks_though_b3_occurs_twice() {
        let lines = [
            ("b3", "x"),
            ("b3", "y"),
            ("x-b3-traceid", TRACE),
            ("x-b3-spanid", SPAN),
        ];
        let (_, values) = pass(TraceFormat::B3, &lines).unwrap();
        assert_eq!(values, ["x", "y", TRACE, "0000000000000001"]);
    }

    #[test]
    fn jaeger_leaves_out_leading_zeros() {
        let (read, values) = pass(TraceFormat::Jaeger, &[("uber-trace-id", "a1:b:c:3")]).unwrap();
        assert!(read.trace_id.to_string().ends_with("00a1"));
        assert_eq!(read.span_id.to_string(), "000000000000000b");
        assert_eq!(values, ["a1:0000000000000001:0:3"]);
    }

    #[test]
    fn what_is_not_right_is_not_read() {
        let invalid = [
            ("b3", "0"),
            ("b3", "463ac35c9f6413ad-a2fb"),
            ("b3", "0000000000000000-a2fb4a1d1a96d312-1"),
            ("b3", "463ac35c9f6413ad-a2fb4a1d1a96d312-7"),
            (
                "b3",
                "463ac35c9f6413ad-a2fb4a1d1a96d312-1-05e3ac9a4f6e3b90-9",
            ),
            ("x-b3-traceid", "463ac35c9f6413ad"),
            ("uber-trace-id", "a1:b:c"),
            ("uber-trace-id", "0:b:0:1"),
            ("uber-trace-id", ":b:0:1"),
            ("uber-trace-id", "a1:b:0:x"),
        ];
        for line in invalid {
            let found = ALL.iter().find_map(|format| pass(*format, &[line]));
            assert_eq!(found, None, "{line:?}");
        }
        let mut twice = headers(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))]);
        let value = twice[TRACEPARENT].clone();
        twice.append(TRACEPARENT, value);
        assert_eq!(read(TraceFormat::W3c, &twice), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_not_and_what_was_read_is_read_again(
            text in "[0-9a-fA%:d-]{0,80}", name in 0_usize..3,
        ) {
            let format = ALL[name];
            let line = [(names(format)[0].as_str(), text.as_str())];
            if let Some((sent, values)) = pass(format, &line) {
                let again = headers(&[(line[0].0, &values[0])]);
                let again = read(format, &again).unwrap();
                prop_assert_eq!(again.trace_id, sent.trace_id);
                prop_assert_eq!(again.flags, sent.flags);
            }
        }
    }
}
