//! Puts events together out of the chunks of a stream, and says which bytes may pass.
//!
//! Where nothing will be edited, chunks pass as they came and an event is copied only if it is cut
//! by a chunk's end. Where a stream may be edited or cut, the bytes of an unfinished event wait for
//! its end, up to a bound; a complete event never waits.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::provider::wire::{
    scan::{Scanner, Wanted},
    sse::Splitter,
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
    /// It was too large: the scanner's reduced document.
    Reduced(&'a [u8]),
}

/// The stream so far.
pub(super) struct Events {
    splitter: Splitter,
    /// The bytes of the unfinished event.
    tail: BytesMut,
    /// How many of them have passed already.
    passed: usize,
    /// Reads an event that is too large to keep.
    scanner: Option<Scanner>,
    wanted: Wanted,
    mode: Mode,
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
    pub(super) fn new(held: bool, wanted: Wanted) -> Self {
        Self {
            splitter: Splitter::default(),
            tail: BytesMut::new(),
            passed: 0,
            scanner: None,
            wanted,
            mode: if held { Mode::Held } else { Mode::Through },
        }
    }

    /// Whether events waited for their end, so that what passed ends with a whole one.
    pub(super) fn is_held(&self) -> bool {
        self.mode != Mode::Through
    }

    /// Whether no event has passed in part.
    pub(super) fn is_between(&self) -> bool {
        match self.mode {
            Mode::Through => self.tail.is_empty() && self.scanner.is_none(),
            Mode::Held | Mode::Cut => self.passed == 0,
        }
    }

    /// Takes in a chunk. `read` is called with each event that it completes; what may pass is
    /// appended to `out`. After [`Verdict::Cut`] nothing passes any more.
    pub(super) fn take(
        &mut self,
        chunk: &Bytes,
        out: &mut VecDeque<Bytes>,
        mut read: impl FnMut(Whole<'_>) -> Verdict,
    ) {
        // Of the chunk: `at` is searched, `pass` is where bytes begin that may pass and have not.
        let (mut at, mut pass) = (0, 0);
        while let Some(length) = self.splitter.next(chunk.get(at..).unwrap_or_default()) {
            let end = at + length;
            let within = chunk.get(at..end).unwrap_or_default();
            let verdict = if let Some(mut scanner) = self.scanner.take() {
                scanner.feed(within);
                read(Whole::Reduced(&scanner.finish().document))
            } else if self.tail.is_empty() {
                read(Whole::Bytes(within))
            } else {
                self.tail.extend_from_slice(within);
                read(Whole::Bytes(&self.tail))
            };
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
        let verdict = match self.scanner.take() {
            Some(scanner) => read(Whole::Reduced(&scanner.finish().document)),
            None if tail.is_empty() => return,
            None => read(Whole::Bytes(&tail)),
        };
        if self.mode == Mode::Held && (verdict == Verdict::Pass || self.passed > 0) {
            push(out, tail.slice(self.passed.min(tail.len())..));
        }
    }

    /// The rest of a chunk, from `at`, belongs to an event that goes on.
    fn keep(&mut self, chunk: &Bytes, at: usize, pass: usize, out: &mut VecDeque<Bytes>) {
        let rest = chunk.get(at..).unwrap_or_default();
        let oversize = self.scanner.is_some();
        match &mut self.scanner {
            Some(scanner) => scanner.feed(rest),
            None => self.tail.extend_from_slice(rest),
        }
        match self.mode {
            Mode::Cut => {},
            Mode::Through => push(out, chunk.slice(..)),
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
            let mut scanner = Scanner::new(self.wanted);
            scanner.feed(&self.tail);
            self.scanner = Some(scanner);
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WANTED: Wanted = Wanted {
        fields: &["usage"],
        within: &[],
    };

    /// Passes a stream in chunks of the given sizes, dropping events that hold `drop` and cutting
    /// at one that holds `cut`. Returns what passed and the events that were read. (Of a dropped
    /// event that ends in CRLF CRLF and is cut before its last LF, that LF may pass: it is an empty
    /// line, which means nothing.)
    fn pass(stream: &[u8], sizes: &[usize], held: bool) -> (Vec<u8>, Vec<String>) {
        let mut events = Events::new(held, WANTED);
        let (mut out, mut read) = (VecDeque::new(), Vec::new());
        let mut judge = |event: Whole<'_>| {
            let (Whole::Bytes(bytes) | Whole::Reduced(bytes)) = event;
            let text = String::from_utf8_lossy(bytes).into_owned();
            let has = |word: &str| text.contains(word);
            let verdict = match () {
                () if has("drop") => Verdict::Drop,
                () if has("cut") => Verdict::Cut,
                () => Verdict::Pass,
            };
            read.push(text);
            verdict
        };
        let mut rest = Bytes::copy_from_slice(stream);
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let chunk = rest.split_to((*size).clamp(1, rest.len()));
            events.take(&chunk, &mut out, &mut judge);
        }
        events.end(&mut out, &mut judge);
        (out.into_iter().flatten().collect(), read)
    }

    #[test]
    fn what_is_not_edited_passes_byte_for_byte() {
        let stream = b"data: a\n\n: comment\n\ndata: drop me not\r\n\r\ndata: half";
        for size in 1..stream.len() {
            let (out, read) = pass(stream, &[size], false);
            assert_eq!(out, stream, "chunks of {size}");
            assert_eq!(read.len(), 4);
        }
    }

    #[test]
    fn an_event_is_taken_out_and_the_others_pass() {
        let stream = b"data: a\n\ndata: drop\n\ndata: b\n\n";
        for size in 1..=stream.len() {
            let (out, _) = pass(stream, &[size], true);
            assert_eq!(out, b"data: a\n\ndata: b\n\n", "chunks of {size}");
        }
    }

    #[test]
    fn after_a_cut_nothing_passes() {
        let stream = b"data: a\n\ndata: b\n\ndata: cut\n\ndata: c\n\n";
        for size in 1..=stream.len() {
            let (out, _) = pass(stream, &[size], true);
            assert_eq!(out, b"data: a\n\ndata: b\n\n", "chunks of {size}");
        }
    }

    #[test]
    fn a_complete_event_never_waits() {
        let mut events = Events::new(true, WANTED);
        let mut out = VecDeque::new();
        let chunk = Bytes::from_static(b"data: a\n\ndata: half");
        events.take(&chunk, &mut out, |_| Verdict::Pass);
        assert_eq!(out.pop_front().unwrap(), "data: a\n\n");
        assert!(out.is_empty());
    }

    #[test]
    fn an_event_too_large_to_hold_passes_and_is_still_read() {
        let long = "x".repeat(3 * MAX_KEPT);
        let stream = format!("data: {{\"t\":\"{long}\",\"usage\":7}}\n\ndata: drop\n\n");
        for held in [true, false] {
            let (out, read) = pass(stream.as_bytes(), &[10_000], held);
            let kept = if held {
                stream.len() - "data: drop\n\n".len()
            } else {
                stream.len()
            };
            assert_eq!(out.len(), kept);
            assert_eq!(read.first().unwrap(), r#"{"usage":7}"#);
        }
    }

    proptest! {
        #[test]
        fn any_chunking_passes_the_same(
            parts in prop::collection::vec(
                prop_oneof!["data: [e-z]{0,9}\n\n", "data: drop\n\n", "data: [e-z]{70}\n\n", "\n"],
                0..20,
            ),
            sizes in prop::collection::vec(1_usize..40, 1..10),
            held: bool,
        ) {
            let stream = parts.concat();
            let (out, read) = pass(stream.as_bytes(), &sizes, held);
            let passes = |part: &&String| !held || !part.contains("drop");
            let expected: String = parts.iter().filter(passes).cloned().collect();
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
            prop_assert_eq!(read.concat(), stream);
        }
    }
}
