//! A finished span on its way out, with its JSON made once for everybody.

use crate::call::span::Span;

/// What processors are given.
#[derive(Debug)]
pub struct Record {
    /// The span.
    pub span: Span,
    /// The span as one line of JSON, without the line's end.
    pub line: String,
}

impl Record {
    /// Freezes `span`. Done where the call ended: making the line costs less than handing the
    /// parts to another thread and freeing them there.
    pub fn new(span: Span) -> Self {
        let line = span.to_json();
        Self { span, line }
    }
}
