//! Reads responses as the proxy does, however they are cut.

use tollgate::{
    call::facts::{Operation, ResponseFacts},
    provider::{
        Dialect, Event, StreamState, Unreadable,
        wire::sse::{Splitter, parse},
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
    fn event(&mut self, dialect: &dyn Dialect, op: &Operation, event: &Event<'_>) {
        let read = dialect.read_event(op, event, &mut self.facts, &mut self.state);
        self.unreadable.extend(read.err());
    }
}

/// Reads a plain JSON body.
pub(super) fn body(dialect: &dyn Dialect, op: &Operation, bytes: &[u8]) -> Read {
    let mut read = Read::default();
    read.event(dialect, op, &Event::body(bytes));
    read
}

/// Reads a stream of events that arrives in `chunks`, to its last complete event.
pub(super) fn stream(dialect: &dyn Dialect, op: &Operation, chunks: &[&[u8]]) -> Read {
    let (mut splitter, mut read) = (Splitter::default(), Read::default());
    let mut unfinished = Vec::new();
    for chunk in chunks {
        let mut chunk = *chunk;
        while let Some(end) = splitter.next(chunk) {
            unfinished.extend_from_slice(&chunk[..end]);
            if let Some(event) = parse(&unfinished) {
                read.event(dialect, op, &event);
            }
            unfinished.clear();
            chunk = &chunk[end..];
        }
        unfinished.extend_from_slice(chunk);
    }
    read
}
