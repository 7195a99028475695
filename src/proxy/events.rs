//! Puts events together out of the chunks of a stream, and says which bytes may pass.
//!
//! Where nothing will be edited, chunks pass as they came and an event is copied only if it is cut
//! by a chunk's end. Where a stream may be edited or cut, the bytes of an unfinished event wait for
//! its end, up to a bound; a complete event never waits.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::{
    call::text::Text,
    provider::{
        Event,
        wire::{
            framing::{Found, Framing, Splitter},
            scan::{Reduced, Scanner, Wanted},
        },
    },
};

/// The most that is held back of an unfinished event, in bytes; then it passes.
pub(super) const MAX_HELD: usize = 64 * 1024;

/// The most that is kept of an event in order to read it whole, in bytes; beyond, it is scanned.
const MAX_KEPT: usize = 256 * 1024;

/// What becomes of an event that may be edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It passes.
    Pass,
    /// It is taken out.
    Drop,
    /// It is taken out, and everything after it.
    Cut,
}

/// An event, as whoever reads it gets it.
pub(super) enum Whole<'a> {
    /// All its bytes.
    Bytes(&'a [u8]),
    /// The stream ended in its midst.
    Unfinished {
        /// What there is of it.
        bytes: &'a [u8],
        /// No event has passed before it.
        is_first: bool,
    },
    /// It was too large: its data is the scanner's reduced document.
    Reduced {
        /// With that.
        event: Event<'a>,
        /// What else there is in it, as text.
        rest: Text,
    },
    /// Its checksum is wrong.
    Damaged,
    /// It has no end that can be found, nor has anything after it.
    Lost,
}

/// Reads an event that is too large to keep.
struct Oversize {
    name: Option<Box<str>>,
    fault: bool,
    scanner: Scanner,
}

impl Oversize {
    /// Of an event that has begun so.
    fn new(framing: Framing, begun: &[u8], mut scanner: Scanner) -> Self {
        let (event, data) = framing.open(begun);
        scanner.feed(data);
        Self {
            name: event.name.map(Box::from),
            fault: event.fault,
            scanner,
        }
    }

    fn finish(self, read: impl FnOnce(Whole<'_>) -> Verdict) -> Verdict {
        let Reduced { document, text, .. } = self.scanner.finish();
        read(Whole::Reduced {
            event: Event {
                name: self.name.as_deref(),
                fault: self.fault,
                ..Event::data(&document)
            },
            rest: text,
        })
    }
}

/// The stream so far.
pub(super) struct Events {
    framing: Framing,
    splitter: Splitter,
    /// The bytes of the unfinished event.
    tail: BytesMut,
    /// How many of them have passed already.
    passed: usize,
    oversize: Option<Oversize>,
    wanted: Wanted,
    no_text: &'static [&'static str],
    mode: Mode,
    /// Where events end can be told.
    readable: bool,
    /// An event has passed.
    begun: bool,
    /// Nothing passes any more but the rest of the event that has passed in part.
    closing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Chunks pass as they come.
    Through,
    /// Events pass when they are complete.
    Held,
    /// Nothing passes any more.
    Cut,
}

impl Events {
    /// `held`: events may be edited, so that they pass only when complete. `wanted`: the fields to
    /// keep of an event that is too large.
    pub(super) fn new(framing: Framing, held: bool, wanted: Wanted) -> Self {
        Self {
            framing,
            splitter: framing.splitter(),
            tail: BytesMut::new(),
            passed: 0,
            oversize: None,
            wanted,
            no_text: &[],
            mode: if held { Mode::Held } else { Mode::Through },
            readable: true,
            begun: false,
            closing: false,
        }
    }

    /// Fields with these names are no text, in an event that is too large.
    pub(super) fn without(self, no_text: &'static [&'static str]) -> Self {
        Self { no_text, ..self }
    }

    /// Whether events waited for their end, so that what passed ends with a whole one.
    pub(super) fn is_held(&self) -> bool {
        self.mode != Mode::Through
    }

    /// Whether further events can be put in here: none has passed in part, nor has the end.
    pub(super) fn is_between(&self) -> bool {
        !self.splitter.is_over()
            && match self.mode {
                Mode::Through => self.tail.is_empty() && self.oversize.is_none(),
                Mode::Held | Mode::Cut => self.passed == 0,
            }
    }

    /// Whether an event has passed in part, whose end can be told.
    pub(super) fn is_within(&self) -> bool {
        self.readable && !self.splitter.is_over() && !self.is_between()
    }

    /// From now on nothing passes but the rest of the event that has passed in part.
    pub(super) fn close(&mut self) {
        if self.mode == Mode::Through {
            self.mode = Mode::Held;
            // All of it has passed that there is, also where it was too large to keep.
            self.passed = self.tail.len().max(1);
        }
        self.closing = true;
    }

    /// How the stream is divided.
    pub(super) const fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether an event has passed.
    pub(super) const fn has_begun(&self) -> bool {
        self.begun
    }

    /// Takes in a chunk. `read` is called with each event that it completes; what may pass is
    /// appended to `out`. After [`Verdict::Cut`] nothing passes any more.
    pub(super) fn take(
        &mut self,
        chunk: &Bytes,
        out: &mut VecDeque<Bytes>,
        mut read: impl FnMut(Whole<'_>) -> Verdict,
    ) {
        match self.mode {
            Mode::Cut => return,
            Mode::Through if !self.readable => return push(out, chunk.clone()),
            Mode::Through | Mode::Held => {},
        }
        // Of the chunk: `at` is searched, `pass` is where bytes begin that may pass and have not.
        let (mut at, mut pass) = (0, 0);
        while let Some(found) = self.splitter.next(chunk.get(at..).unwrap_or_default()) {
            let (length, damaged) = match found {
                Found::End(length) => (length, false),
                Found::Damaged(length) => (length, true),
                Found::Lost => {
                    if read(Whole::Lost) == Verdict::Cut && self.mode == Mode::Held {
                        push(out, chunk.slice(pass.min(at)..at));
                        self.mode = Mode::Cut;
                        return;
                    }
                    return self.lose(&chunk.slice(pass..), out);
                },
            };
            let end = at + length;
            let within = chunk.get(at..end).unwrap_or_default();
            let verdict = match self.complete(within, damaged, &mut read) {
                _ if self.closing => Verdict::Cut,
                verdict => verdict,
            };
            self.begun |= verdict == Verdict::Pass || self.mode == Mode::Through;
            if self.mode == Mode::Held {
                let began_before = at == 0 && !self.tail.is_empty();
                // What has partly passed can only pass.
                let partly = self.passed > 0;
                match verdict {
                    Verdict::Pass if began_before && !partly => {
                        push(out, self.tail.split().freeze());
                        pass = end;
                    },
                    Verdict::Pass => {},
                    Verdict::Drop | Verdict::Cut if partly => {},
                    Verdict::Drop | Verdict::Cut => {
                        push(out, chunk.slice(pass.min(at)..at));
                        pass = end;
                    },
                }
                self.begun |= partly;
                if verdict == Verdict::Cut {
                    push(out, chunk.slice(pass.min(end)..end));
                    self.mode = Mode::Cut;
                }
            }
            self.tail.clear();
            self.passed = 0;
            at = end;
            if self.mode == Mode::Cut {
                return;
            }
        }
        self.keep(chunk, at, pass, out);
    }

    /// The stream has ended: an event without an end is read as if it had one, and what was held
    /// back passes.
    pub(super) fn end(
        &mut self,
        out: &mut VecDeque<Bytes>,
        read: impl FnOnce(Whole<'_>) -> Verdict,
    ) {
        let tail = self.tail.split().freeze();
        let verdict = match self.oversize.take() {
            Some(oversize) => oversize.finish(read),
            None if tail.is_empty() => return,
            None => read(Whole::Unfinished {
                bytes: &tail,
                is_first: !self.begun,
            }),
        };
        if self.mode == Mode::Held && (verdict == Verdict::Pass || self.passed > 0) {
            push(out, tail.slice(self.passed.min(tail.len())..));
        }
    }

    /// An event ends with these bytes.
    fn complete(
        &mut self,
        within: &[u8],
        damaged: bool,
        read: impl FnOnce(Whole<'_>) -> Verdict,
    ) -> Verdict {
        if let Some(mut oversize) = self.oversize.take() {
            if damaged {
                return read(Whole::Damaged);
            }
            oversize.scanner.feed(within);
            return oversize.finish(read);
        }
        let is_whole = self.tail.is_empty();
        if !is_whole {
            self.tail.extend_from_slice(within);
        }
        match (damaged, is_whole) {
            (true, _) => read(Whole::Damaged),
            (false, true) => read(Whole::Bytes(within)),
            (false, false) => read(Whole::Bytes(&self.tail)),
        }
    }

    /// Events cannot be told apart any more: what was held back passes, and so does all that comes.
    fn lose(&mut self, rest: &Bytes, out: &mut VecDeque<Bytes>) {
        let tail = self.tail.split().freeze();
        if self.mode == Mode::Held {
            push(out, tail.slice(self.passed.min(tail.len())..));
        }
        push(out, rest.clone());
        self.oversize = None;
        self.readable = false;
        self.mode = Mode::Through;
    }

    /// The rest of a chunk, from `at`, belongs to an event that goes on.
    fn keep(&mut self, chunk: &Bytes, at: usize, pass: usize, out: &mut VecDeque<Bytes>) {
        let rest = chunk.get(at..).unwrap_or_default();
        let oversize = self.oversize.is_some();
        match &mut self.oversize {
            Some(oversize) => oversize.scanner.feed(rest),
            None => self.tail.extend_from_slice(rest),
        }
        match self.mode {
            Mode::Cut => {},
            Mode::Through => push(out, chunk.clone()),
            Mode::Held if oversize || self.passed > 0 => {
                push(out, chunk.slice(pass..));
                self.passed = self.passed.saturating_add(rest.len());
            },
            Mode::Held => {
                push(out, chunk.slice(pass.min(at)..at));
                if self.tail.len() > MAX_HELD {
                    push(out, Bytes::copy_from_slice(&self.tail));
                    self.passed = self.tail.len();
                }
            },
        }
        if self.tail.len() > MAX_KEPT {
            let scanner = Scanner::new(self.wanted).counting(self.no_text);
            self.oversize = Some(Oversize::new(self.framing, &self.tail, scanner));
            self.tail = BytesMut::new();
        }
    }
}

fn push(out: &mut VecDeque<Bytes>, bytes: Bytes) {
    if !bytes.is_empty() {
        out.push_back(bytes);
    }
}

#[cfg(test)]
mod tests;
