//! Trace context: which trace a call belongs to, and what the provider and the client are told.
//! W3C Trace Context, level 1 (`traceparent`) and 2 (`traceresponse`).

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    base::id::{SpanId, TraceId},
    pipeline::Send,
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// Where a call stands in its trace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) trace_id: TraceId,
    /// This call's own span.
    pub(super) span_id: SpanId,
    /// The client's span, if it told us.
    pub(super) parent: Option<SpanId>,
    flags: u8,
}

impl Context {
    /// Continues the client's trace, or begins one.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let span_id = SpanId::random();
        let sent = headers
            .get(TRACEPARENT)
            .and_then(|value| parse(value.to_str().ok()?));
        match sent {
            Some((trace_id, parent, flags)) => Self {
                trace_id,
                span_id,
                parent: Some(parent),
                flags,
            },
            None => Self {
                trace_id: TraceId::random(),
                span_id,
                parent: None,
                flags: 1,
            },
        }
    }

    /// What the provider is told: our span in the place of the client's, where the client sent one
    /// (`if_present`); on every call (`always`); nothing (`never`).
    pub(super) fn propagate(&self, send: Send, headers: &mut HeaderMap) {
        match (send, headers.get_mut(TRACEPARENT)) {
            // Rare, so that the order of what follows may suffer.
            (Send::Never, _) => {
                headers.remove(TRACEPARENT);
                headers.remove(TRACESTATE);
            },
            (_, Some(place)) if self.parent.is_some() => *place = self.header(),
            (Send::Always, None) => {
                headers.insert(TRACEPARENT, self.header());
            },
            _ => {},
        }
    }

    /// Tells the client which trace and span its call became.
    pub(super) fn answer(&self, headers: &mut HeaderMap) {
        headers
            .entry(TRACERESPONSE)
            .or_insert_with(|| self.header());
    }

    fn header(&self) -> HeaderValue {
        let text = format!("00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags);
        HeaderValue::try_from(text).unwrap_or_else(|_never| HeaderValue::from_static(""))
    }
}

/// Trace, span and flags. Later versions may append fields; `ff` is forbidden.
fn parse(text: &str) -> Option<(TraceId, SpanId, u8)> {
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
    Some((trace_id.parse().ok()?, span_id.parse().ok()?, hex(flags)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(traceparent: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(TRACEPARENT, HeaderValue::from_static(traceparent))])
    }

    #[test]
    fn a_valid_header_is_continued_with_our_span() {
        let mut headers = headers(VALID);
        let context = Context::of(&headers);
        assert_eq!(
            context.trace_id.to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert_eq!(context.parent.unwrap().to_string(), "b7ad6b7169203331");
        context.propagate(Send::IfPresent, &mut headers);
        let sent = headers[TRACEPARENT].to_str().unwrap();
        let ours = context.span_id;
        assert_eq!(
            sent,
            format!("00-0af7651916cd43dd8448eb211c80319c-{ours}-01")
        );
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
            let mut headers = headers(invalid);
            let context = Context::of(&headers);
            assert_eq!(context.parent, None, "{invalid}");
            context.propagate(Send::IfPresent, &mut headers);
            assert_eq!(headers[TRACEPARENT], invalid);
        }
    }

    #[test]
    fn the_provider_is_told_always_or_never_if_that_is_configured() {
        let mut untold = HeaderMap::new();
        let context = Context::of(&untold);
        context.propagate(Send::IfPresent, &mut untold);
        assert!(untold.is_empty());
        context.propagate(Send::Always, &mut untold);
        assert_eq!(untold[TRACEPARENT], context.header());
        context.propagate(Send::Never, &mut untold);
        assert!(untold.is_empty());
    }

    #[test]
    fn a_later_version_may_say_more() {
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-else";
        assert!(parse(later).is_some());
    }

    #[test]
    fn a_provider_s_own_traceresponse_is_kept() {
        let mut headers = HeaderMap::new();
        headers.insert(TRACERESPONSE, HeaderValue::from_static("theirs"));
        Context::of(&HeaderMap::new()).answer(&mut headers);
        assert_eq!(headers[TRACERESPONSE], "theirs");
    }
}
