//! Spans in, reports out.
