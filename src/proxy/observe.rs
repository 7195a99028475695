//! Reads a response while it passes: decodes a copy, puts events together, asks the dialect. Fails
//! only into [`Observer::partial`]; the bytes that pass do not depend on it, but for the edits that
//! a call was admitted with.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};

use super::{
    document::Document,
    events::{Events, Verdict, Whole},
    lines::Lines,
    said::{Kept, Said},
};
use crate::{
    call::{
        facts::{Operation, ResponseFacts},
        text::Text,
    },
    provider::{
        Dialect, Event, StreamState,
        wire::{
            encoding::{Decoder, GaveUp},
            framing::{Framing, Malformed},
            media,
        },
    },
};

/// What a span says of a stream that is none, or another kind of.
const NOT_AS_TYPED: &str = "stream is not what its content type says";

/// What reads one response.
pub(super) struct Observer {
    dialect: &'static dyn Dialect,
    operation: &'static Operation,
    /// What the response said so far.
    pub(super) facts: ResponseFacts,
    /// Where its stream stands.
    pub(super) state: StreamState,
    /// What could not be read, if anything.
    pub(super) partial: Option<&'static str>,
    /// Take out the event that is there only because we asked for usage.
    pub(super) drop_usage: bool,
    /// That event was seen and could not be taken out.
    pub(super) left_usage: bool,
    /// The dialect panicked.
    faulty: bool,
    decoder: Option<Decoder>,
    reader: Reader,
    /// What has passed, where spans hold it.
    pub(super) kept: Option<Box<Kept>>,
}

/// What is made of a response's bytes.
enum Reader {
    /// Events.
    Events(Events),
    /// One JSON document.
    Document(Document),
    /// A file of answers, one a line.
    Lines(Lines),
    /// Sound, pictures or any bytes: there is nothing to read.
    Media,
    /// Nothing that we can read.
    Opaque,
}

/// What is asked after each event: whether the stream may go on.
pub(super) trait Progress {
    /// Looks at what the response said so far. `false` cuts the stream before this event.
    fn may_go_on(&mut self, facts: &ResponseFacts) -> bool;

    /// Takes in what a line said, which is an answer of its own.
    fn line(&mut self, _facts: &ResponseFacts) {}
}

impl Observer {
    /// For a response with these headers. `edited`: events may be taken out or the stream cut, so
    /// that they pass only when complete; has no effect on what is no plain stream.
    pub(super) fn new(
        dialect: &'static dyn Dialect,
        operation: &'static Operation,
        headers: &HeaderMap,
        edited: bool,
    ) -> Self {
        let decoder = Decoder::of(headers);
        let wanted = dialect.wanted().response;
        let reader = if decoder.is_err() {
            Reader::Opaque
        } else if let Some(framing) = framing(dialect, operation, headers) {
            let held = edited && matches!(decoder, Ok(None));
            Reader::Events(Events::new(framing, held, wanted).without(dialect.no_text()))
        } else if media::is_media(headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes)) {
            Reader::Media
        } else {
            Reader::Document(Document::new(wanted))
        };
        let unread = matches!(reader, Reader::Opaque);
        let mut facts = ResponseFacts {
            unread,
            ..ResponseFacts::default()
        };
        let mut state = StreamState::default();
        dialect.read_headers(operation, headers, &mut facts, &mut state);
        Self {
            dialect,
            operation,
            facts,
            state,
            partial: unread.then(|| name(GaveUp::Unknown)),
            drop_usage: false,
            left_usage: false,
            faulty: false,
            decoder: decoder.ok().flatten(),
            reader,
            kept: None,
        }
    }

    /// Reads a file of answers, one a line, whatever its content type says.
    pub(super) fn read_lines(&mut self) {
        if !matches!(self.reader, Reader::Opaque) {
            let list = self.dialect.list(self.operation);
            self.reader = Reader::Lines(Lines::of(list));
            self.decoder = self.decoder.take().map(Decoder::of_any_length);
        }
    }

    /// From now on keeps what passes, if it is text that can be read.
    pub(super) fn keep(&mut self, said: &Said) {
        let framing = self.stream().map(|(framing, _)| framing);
        if framing.is_some() || matches!(self.reader, Reader::Document(_)) {
            self.kept = Some(Box::new(said.answer(framing)));
        }
    }

    /// Whether events can be taken out of it, and a legal end put in.
    pub(super) fn is_editable(&self) -> bool {
        matches!(&self.reader, Reader::Events(events) if events.is_held())
    }

    /// How it is divided into events, and whether one has passed; `None` if it is no stream.
    pub(super) fn stream(&self) -> Option<(Framing, bool)> {
        match &self.reader {
            Reader::Events(events) => Some((events.framing(), events.has_begun())),
            _ => None,
        }
    }

    /// A plain stream, all of whose events were read: its last ones can be put in between any two.
    pub(super) fn plain(&self) -> Option<&Events> {
        match &self.reader {
            Reader::Events(events) if self.decoder.is_none() && !self.facts.unread => Some(events),
            _ => None,
        }
    }

    /// From now on nothing passes but the rest of the event that has passed in part.
    pub(super) fn close(&mut self) {
        if let Reader::Events(events) = &mut self.reader {
            events.close();
        }
    }

    /// Takes in a chunk; what may pass of it is appended to `out`. `last`: none will follow.
    pub(super) fn take(
        &mut self,
        chunk: Bytes,
        last: bool,
        out: &mut VecDeque<Bytes>,
        progress: &mut dyn Progress,
    ) {
        if self.is_editable() {
            self.read(&chunk, last, out, progress);
        } else {
            let mut passed_already = VecDeque::new();
            self.read(&chunk, last, &mut passed_already, progress);
            out.push_back(chunk);
        }
    }

    /// The response is over, or broke off: reads what is left, and lets go of what was held back.
    pub(super) fn end(&mut self, out: &mut VecDeque<Bytes>, progress: &mut dyn Progress) {
        let editable = self.is_editable();
        let mut left = VecDeque::new();
        self.read_rest(&mut left, progress);
        if let Some(Err(reason)) = self.decoder.as_ref().map(Decoder::finish) {
            // Whatever could not be read could not for this reason.
            self.partial = Some(name(reason));
        }
        if editable {
            out.append(&mut left);
        }
    }

    /// Asks the dialect. All of what it cannot read may be text that the model wrote, if `counts`. A
    /// fault in what it makes of the bytes must never become a fault of the call, nor lose any of
    /// them; after one it is not asked again.
    fn ask(&mut self, event: &Event<'_>, what: &'static str, counts: bool) {
        if self.faulty {
            return;
        }
        let before = self.facts.output_bytes;
        let asked = catch_unwind(AssertUnwindSafe(|| {
            let (facts, state) = (&mut self.facts, &mut self.state);
            self.dialect.read_event(self.operation, event, facts, state)
        }));
        match asked {
            Ok(Ok(())) => {},
            Ok(Err(_)) => {
                self.partial.get_or_insert(what);
                self.state.lose_output();
                if counts {
                    self.facts.output_bytes = before + Text::of(&event.data);
                }
            },
            Err(_) => {
                self.faulty = true;
                self.facts.unread = true;
                self.partial = Some("the reader of this dialect panicked");
            },
        }
    }

    fn read(
        &mut self,
        chunk: &Bytes,
        last: bool,
        out: &mut VecDeque<Bytes>,
        progress: &mut dyn Progress,
    ) {
        let Some(mut decoder) = self.decoder.take() else {
            return self.read_plain(chunk, last, out, progress);
        };
        let mut plain = Vec::new();
        let outcome = decoder.feed(chunk, &mut |piece| {
            plain.extend_from_slice(piece);
            if let Reader::Lines(_) = self.reader {
                // At once, since it may be of any length.
                self.read_plain(&std::mem::take(&mut plain).into(), false, out, progress);
            }
        });
        self.read_plain(&plain.into(), last, out, progress);
        self.decoder = Some(decoder);
        if let Err(reason) = outcome {
            self.reader = Reader::Opaque;
            self.partial = None;
            self.lose(name(reason), progress);
        }
    }

    fn read_plain(
        &mut self,
        chunk: &Bytes,
        last: bool,
        out: &mut VecDeque<Bytes>,
        progress: &mut dyn Progress,
    ) {
        if let Some(kept) = &mut self.kept {
            kept.keep(chunk);
        }
        let mut reader = std::mem::replace(&mut self.reader, Reader::Opaque);
        match &mut reader {
            Reader::Events(events) => {
                let (framing, editable) = (events.framing(), events.is_held());
                events.take(chunk, out, |event| {
                    self.read_event(event, framing, editable, progress)
                });
            },
            Reader::Document(document) if last && document.is_empty() => {
                // The usual case: all of it in one piece, read where it lies.
                self.read_body(chunk);
                return;
            },
            Reader::Document(document) => document.keep(chunk),
            Reader::Lines(lines) => lines.take(chunk, |line| self.read_line(line, progress)),
            Reader::Media | Reader::Opaque => {},
        }
        self.reader = reader;
    }

    fn read_rest(&mut self, out: &mut VecDeque<Bytes>, progress: &mut dyn Progress) {
        match std::mem::replace(&mut self.reader, Reader::Opaque) {
            Reader::Events(mut events) => {
                let (framing, editable) = (events.framing(), events.is_held());
                events.end(out, |event| {
                    self.read_event(event, framing, editable, progress)
                });
            },
            Reader::Document(document) => {
                if let Some(body) = document.finish() {
                    self.read_body(&body);
                }
            },
            Reader::Lines(mut lines) => {
                lines.end(|line| self.read_line(line, progress));
                if lines.too_large() > 0 {
                    self.partial = Some("a line is too large to read");
                }
            },
            Reader::Media | Reader::Opaque => {},
        }
    }

    fn read_line(&mut self, line: &[u8], progress: &mut dyn Progress) {
        // Each is read by itself: nothing of the one before may show in it.
        let facts = std::mem::take(&mut self.facts);
        let state = std::mem::take(&mut self.state);
        self.ask(&Event::data(line), "line", false);
        let line = std::mem::replace(&mut self.facts, facts);
        self.state = state;
        progress.line(&line);
    }

    fn read_body(&mut self, body: &[u8]) {
        self.ask(&Event::body(body), "response body", true);
    }

    fn read_event(
        &mut self,
        event: Whole<'_>,
        framing: Framing,
        editable: bool,
        progress: &mut dyn Progress,
    ) -> Verdict {
        // Where a stream breaks off in the midst of an event, that part is of no account.
        let (bytes, counts) = match event {
            Whole::Bytes(bytes) => (bytes, true),
            Whole::Unfinished { bytes, is_first } => (bytes, is_first),
            Whole::Reduced { event, rest } => {
                self.ask(&event, "stream event", true);
                if self.dialect.may_write(self.operation, &event) {
                    self.facts.output_bytes += rest;
                }
                self.state.lose_output_of(&event);
                return self.judge(&event, framing, editable, progress);
            },
            Whole::Damaged => return self.lose("event with a wrong checksum", progress),
            Whole::Lost => return self.lose(NOT_AS_TYPED, progress),
        };
        match framing.parse(bytes) {
            Ok(Some(event)) => {
                self.ask(&event, "stream event", counts);
                return self.judge(&event, framing, editable, progress);
            },
            Ok(None) if framing.is_stray(bytes) => {
                self.partial.get_or_insert(NOT_AS_TYPED);
                if counts {
                    self.facts.output_bytes += Text::of(bytes);
                }
            },
            Ok(None) => {},
            Err(Malformed) if counts => return self.lose("stream event", progress),
            Err(Malformed) => {
                self.partial.get_or_insert("stream event");
            },
        }
        Verdict::Pass
    }

    /// What becomes of an event that was read.
    fn judge(
        &mut self,
        event: &Event<'_>,
        framing: Framing,
        editable: bool,
        progress: &mut dyn Progress,
    ) -> Verdict {
        // Most events come before any usage does, and need no second look.
        let may_be_asked = self.drop_usage && self.facts.usage.is_reported();
        if may_be_asked && self.dialect.is_asked_usage(event) {
            let drops = framing.can_lose_events();
            self.left_usage = !(editable && drops);
            return if drops { Verdict::Drop } else { Verdict::Pass };
        }
        verdict(progress.may_go_on(&self.facts))
    }

    /// Something was not read, and cannot be: it passes if all that it can cost may be spent.
    fn lose(&mut self, what: &'static str, progress: &mut dyn Progress) -> Verdict {
        self.partial.get_or_insert(what);
        self.facts.unread = true;
        verdict(progress.may_go_on(&self.facts))
    }
}

const fn verdict(may_go_on: bool) -> Verdict {
    if may_go_on {
        Verdict::Pass
    } else {
        Verdict::Cut
    }
}

/// What a span says of it.
const fn name(reason: GaveUp) -> &'static str {
    match reason {
        GaveUp::Unknown => "content-encoding",
        GaveUp::Damaged => "compressed body is damaged",
        GaveUp::BrokeOff => "compressed body broke off",
        GaveUp::TooLarge => "compressed body is too large",
        GaveUp::Bomb => "compressed body is a bomb",
    }
}

/// Decided by the response: the answer to a request for a stream may be a plain error.
fn framing(dialect: &dyn Dialect, operation: &Operation, headers: &HeaderMap) -> Option<Framing> {
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    dialect.framing(operation, content_type)
}

#[cfg(test)]
mod tests;
