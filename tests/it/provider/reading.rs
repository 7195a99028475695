//! Reads responses as the proxy does, however they are cut.

use http::HeaderMap;
use tollgate::{
    call::facts::{Operation, ResponseFacts},
    provider::{
        Dialect, Event, StreamState, Unreadable,
        wire::framing::{Found, Framing},
    },
};

/// What was read of a response, and what could not be.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) facts: ResponseFacts,
    pub(super) state: StreamState,
    pub(super) unreadable: Vec<Unreadable>,
}

impl Read {
    /// With what the response's headers say.
    pub(super) fn begin(dialect: &dyn Dialect, op: &Operation, headers: &HeaderMap) -> Self {
        let mut read = Self::default();
        dialect.read_headers(op, headers, &mut read.facts, &mut read.state);
        read
    }

    /// Then a plain JSON body.
    pub(super) fn body(mut self, dialect: &dyn Dialect, op: &Operation, bytes: &[u8]) -> Self {
        self.event(dialect, op, &Event::body(bytes));
        self
    }

    /// Or a stream of events that arrives in `chunks`, to its last complete event.
    pub(super) fn stream(
        mut self,
        dialect: &dyn Dialect,
        op: &Operation,
        framing: Framing,
        chunks: &[&[u8]],
    ) -> Self {
        let mut splitter = framing.splitter();
        let mut unfinished = Vec::new();
        for chunk in chunks {
            let mut chunk = *chunk;
            while let Some(Found::End(end)) = splitter.next(chunk) {
                unfinished.extend_from_slice(&chunk[..end]);
                if let Ok(Some(event)) = framing.parse(&unfinished) {
                    self.event(dialect, op, &event);
                }
                unfinished.clear();
                chunk = &chunk[end..];
            }
            unfinished.extend_from_slice(chunk);
        }
        self
    }

    fn event(&mut self, dialect: &dyn Dialect, op: &Operation, event: &Event<'_>) {
        let read = dialect.read_event(op, event, &mut self.facts, &mut self.state);
        self.unreadable.extend(read.err());
    }
}

/// Reads a plain JSON body.
pub(super) fn body(dialect: &dyn Dialect, op: &Operation, bytes: &[u8]) -> Read {
    Read::default().body(dialect, op, bytes)
}

/// Reads a stream of events that arrives in `chunks`, to its last complete event.
pub(super) fn stream(
    dialect: &dyn Dialect,
    op: &Operation,
    framing: Framing,
    chunks: &[&[u8]],
) -> Read {
    Read::default().stream(dialect, op, framing, chunks)
}
