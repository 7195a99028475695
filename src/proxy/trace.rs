//! Trace context: which trace a call belongs to, and what the provider and the client are told.

mod datadog;
mod wire;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    base::id::{SpanId, TraceId, hex},
    pipeline::{Propagation, Send, TraceFormat},
};

/// W3C Trace Context, level 2.
const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// Where a call stands in its trace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) trace_id: TraceId,
    /// This call's own span.
    pub(super) span_id: SpanId,
    /// The client's span, if it told us.
    pub(super) parent: Option<SpanId>,
    /// Whether the client keeps the trace, if it said so.
    pub(super) sampled: Option<bool>,
    flags: u8,
}

impl Context {
    /// Continues the client's trace, as the first of `formats` says that is there, or begins one.
    pub(super) fn of(headers: &HeaderMap, formats: &[TraceFormat]) -> Self {
        let span_id = SpanId::random();
        let sent = formats
            .iter()
            .find_map(|format| wire::read(*format, headers));
        match sent {
            Some(sent) => Self {
                trace_id: sent.trace_id,
                span_id,
                parent: Some(sent.span_id),
                sampled: sent.is_decided.then_some(sent.flags & 1 == 1),
                flags: sent.flags,
            },
            None => Self {
                trace_id: TraceId::random(),
                span_id,
                parent: None,
                sampled: None,
                flags: 1,
            },
        }
    }

    /// A call within this one.
    pub(super) fn within(&self) -> Self {
        Self {
            span_id: SpanId::random(),
            parent: Some(self.span_id),
            ..*self
        }
    }

    /// What the provider is told: our span in the place of the client's, in every format in which
    /// the client told of this trace (`if_present`); where it told of none, in the preferred one
    /// (`always`); nothing (`never`). Headers that `is_signed` stay as they are.
    pub(super) fn propagate(
        &self,
        propagation: &Propagation,
        headers: &mut HeaderMap,
        is_signed: impl Fn(&HeaderMap, &HeaderName) -> bool,
    ) {
        let Propagation { formats, send } = propagation;
        if *send == Send::Never {
            for name in wire::ALL.into_iter().flat_map(wire::names) {
                // Rare, so that the order of what follows may suffer.
                if headers.contains_key(name) && !is_signed(headers, name) {
                    headers.remove(name);
                }
            }
            return;
        }
        let is_free = |format, headers: &HeaderMap| {
            let mut names = wire::names(format).iter();
            !names.any(|name| is_signed(headers, name))
        };
        if self.parent.is_some() {
            for format in formats {
                let sent = wire::read(*format, headers);
                let same = sent.is_some_and(|sent| sent.trace_id == self.trace_id);
                if same && is_free(*format, headers) {
                    wire::replace(*format, headers, self.span_id);
                }
            }
        } else if *send == Send::Always {
            let format = formats.first().copied().unwrap_or(TraceFormat::W3c);
            let mut names = wire::names(format).iter();
            // What the client said wrongly stays its own affair.
            if !names.any(|name| headers.contains_key(name)) {
                wire::add(format, headers, self);
            }
        }
    }

    /// Tells the client which trace and span its call became.
    pub(super) fn answer(&self, headers: &mut HeaderMap) {
        headers
            .entry(TRACERESPONSE)
            .or_insert_with(|| self.header());
    }

    fn header(&self) -> HeaderValue {
        // Without formatting, since every response gets one.
        let mut text = Vec::with_capacity(64);
        text.extend_from_slice(b"00-");
        text.extend_from_slice(&self.trace_id.digits());
        text.push(b'-');
        text.extend_from_slice(&self.span_id.digits());
        text.push(b'-');
        text.extend_from_slice(&hex(self.flags));
        HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
            .unwrap_or_else(|_never| HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACEPARENT: &str = "traceparent";
    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const SAME_B3: &str = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1";
    const OTHER: &str = "463ac35c9f6413ad48485a3953bb6124:a2fb4a1d1a96d312:0:1";

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = lines.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        pairs.collect()
    }

    fn settings(send: Send) -> Propagation {
        Propagation {
            send,
            ..Propagation::default()
        }
    }

    fn read(headers: &HeaderMap) -> Context {
        Context::of(headers, &Propagation::default().formats)
    }

    fn pass(context: &Context, send: Send, headers: &mut HeaderMap) {
        context.propagate(&settings(send), headers, |_, _| false);
    }

    #[test]
    fn a_valid_header_is_continued_with_our_span() {
        let mut headers = headers(&[(TRACEPARENT, VALID)]);
        let context = read(&headers);
        assert_eq!(
            context.trace_id.to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert_eq!(context.parent.unwrap().to_string(), "b7ad6b7169203331");
        pass(&context, Send::IfPresent, &mut headers);
        assert_eq!(headers[TRACEPARENT], context.header());
    }

    #[test]
    fn all_that_tell_of_the_same_trace_are_continued_and_others_pass() {
        let lines = [
            ("uber-trace-id", OTHER),
            ("b3", SAME_B3),
            (TRACEPARENT, VALID),
        ];
        let mut all = headers(&lines);
        let context = read(&all);
        pass(&context, Send::IfPresent, &mut all);
        assert_eq!(all[TRACEPARENT], context.header());
        let b3 = format!("{}-{}-1", context.trace_id, context.span_id);
        assert_eq!(all["b3"], b3);
        assert_eq!(all["uber-trace-id"], OTHER);

        // What is preferred decides, and what is not read passes.
        let all = headers(&lines);
        let context = Context::of(&all, &[TraceFormat::Jaeger, TraceFormat::W3c]);
        assert_eq!(context.parent.unwrap().to_string(), "a2fb4a1d1a96d312");
        let context = Context::of(&all, &[]);
        assert_eq!(context.parent, None);
    }

    #[test]
    fn what_is_signed_stays_as_it_is() {
        for send in [Send::IfPresent, Send::Never] {
            let mut all = headers(&[(TRACEPARENT, VALID), ("b3", SAME_B3)]);
            let context = read(&all);
            context.propagate(&settings(send), &mut all, |_, name| name == TRACEPARENT);
            assert_eq!(all[TRACEPARENT], VALID);
            assert_ne!(all.get("b3"), Some(&HeaderValue::from_static(SAME_B3)));
        }
    }

    #[test]
    fn invalid_headers_begin_a_new_trace_and_pass_unchanged() {
        for invalid in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-+1",
        ] {
            for send in [Send::IfPresent, Send::Always] {
                let mut headers = headers(&[(TRACEPARENT, invalid)]);
                let context = read(&headers);
                assert_eq!(context.parent, None, "{invalid}");
                pass(&context, send, &mut headers);
                assert_eq!(headers[TRACEPARENT], invalid);
            }
        }
    }

    #[test]
    fn the_provider_is_told_always_or_never_if_that_is_configured() {
        let mut untold = HeaderMap::new();
        let context = read(&untold);
        pass(&context, Send::IfPresent, &mut untold);
        assert!(untold.is_empty());
        for (format, name) in [
            (TraceFormat::W3c, TRACEPARENT),
            (TraceFormat::B3, "b3"),
            (TraceFormat::Jaeger, "uber-trace-id"),
            (TraceFormat::Datadog, "x-datadog-trace-id"),
        ] {
            let always = Propagation {
                formats: vec![format],
                send: Send::Always,
            };
            context.propagate(&always, &mut untold, |_, _| false);
            let told = Context::of(&untold, &[format]);
            assert_eq!(told.trace_id, context.trace_id, "{name}");
            assert_eq!(told.parent, Some(context.span_id), "{name}");
            pass(&context, Send::Never, &mut untold);
            assert!(untold.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_later_version_may_say_more() {
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-else";
        assert!(read(&headers(&[(TRACEPARENT, later)])).parent.is_some());
    }

    #[test]
    fn a_provider_s_own_traceresponse_is_kept() {
        let mut headers = HeaderMap::new();
        headers.insert(TRACERESPONSE, HeaderValue::from_static("theirs"));
        read(&HeaderMap::new()).answer(&mut headers);
        assert_eq!(headers[TRACERESPONSE], "theirs");
    }
}
