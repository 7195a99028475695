//! The embedded store of spans.
