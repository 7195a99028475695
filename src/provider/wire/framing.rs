//! How a stream is divided into events. Each framing is a file; this one picks it.

use super::{super::dialect::Event, array, event_stream, lines, sse};

/// How a stream is divided into events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Server-sent events.
    #[default]
    Sse,
    /// A JSON object a line.
    Lines,
    /// The objects of one JSON array.
    Array,
    /// AWS event-stream frames.
    EventStream,
}

/// What a [`Splitter`] came upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// An event ends at this offset.
    End(usize),
    /// An event ends at this offset whose checksum is wrong: it is not to be read.
    Damaged(usize),
    /// Nothing that follows can be told apart.
    Lost,
}

/// Finds the ends of events in a stream that arrives in chunks, however they are cut.
#[derive(Clone, Debug)]
pub struct Splitter(Inner);

#[derive(Clone, Debug)]
enum Inner {
    Sse(sse::Splitter),
    Lines,
    Array(array::Splitter),
    EventStream(event_stream::Splitter),
}

impl Framing {
    /// The framing that a content type names; `None` if it names no stream.
    pub fn of(content_type: &str) -> Option<Self> {
        const TYPES: [(&str, Framing); 8] = [
            ("text/event-stream", Framing::Sse),
            ("application/x-ndjson", Framing::Lines),
            ("application/ndjson", Framing::Lines),
            ("application/jsonl", Framing::Lines),
            ("application/x-jsonl", Framing::Lines),
            ("application/jsonlines", Framing::Lines),
            ("application/stream+json", Framing::Lines),
            ("application/vnd.amazon.eventstream", Framing::EventStream),
        ];
        let media = media_type(content_type);
        let found = TYPES
            .iter()
            .find(|(name, _)| media.eq_ignore_ascii_case(name));
        found.map(|(_, framing)| *framing)
    }

    /// A splitter of a stream so framed.
    pub fn splitter(self) -> Splitter {
        Splitter(match self {
            Self::Sse => Inner::Sse(sse::Splitter::default()),
            Self::Lines => Inner::Lines,
            Self::Array => Inner::Array(array::Splitter::default()),
            Self::EventStream => Inner::EventStream(event_stream::Splitter::default()),
        })
    }

    /// Reads the bytes of one event; `None` if it holds nothing (comments, empty lines, brackets).
    ///
    /// # Errors
    /// The bytes are not framed so.
    pub fn parse(self, bytes: &[u8]) -> Result<Option<Event<'_>>, Malformed> {
        match self {
            Self::Sse => Ok(sse::parse(bytes)),
            Self::Lines => Ok(lines::parse(bytes).map(Event::data)),
            Self::Array => Ok(array::parse(bytes).map(Event::data)),
            Self::EventStream => event_stream::parse(bytes).map(Some).ok_or(Malformed),
        }
    }

    /// Whether bytes in which [`Framing::parse`] found nothing are no such stream's at all.
    pub fn is_stray(self, bytes: &[u8]) -> bool {
        self == Self::Sse && sse::is_stray(bytes)
    }

    /// What is known of an event from its beginning, its data left out; and where in `begun` the
    /// data begins. For events that are too large to keep.
    pub fn open(self, begun: &[u8]) -> (Event<'_>, &[u8]) {
        let mut event = Event::data(&[]);
        if self != Self::EventStream {
            return (event, begun);
        }
        let Some((head, data)) = event_stream::open(begun) else {
            return (event, begun);
        };
        event.name = head.name;
        event.fault = head.fault;
        (event, data)
    }

    /// Whether an event can be taken out, and leave a stream that is framed as it should be.
    pub const fn can_lose_events(self) -> bool {
        // With an array's first object its bracket would go.
        !matches!(self, Self::Array)
    }

    /// The bytes that end a stream with these events. `begun`: it has had events before.
    pub fn end(self, events: &[Event<'_>], begun: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for (n, event) in events.iter().enumerate() {
            match self {
                Self::Sse => {
                    if let Some(name) = event.name {
                        put(&mut out, &[b"event: ", name.as_bytes(), b"\n"]);
                    }
                    put(&mut out, &[b"data: ", &event.data, b"\n\n"]);
                },
                Self::Lines => put(&mut out, &[&event.data, b"\n"]),
                Self::Array => {
                    let before: &[u8] = if begun || n > 0 { b",\n" } else { b"[" };
                    put(&mut out, &[before, &event.data]);
                },
                Self::EventStream => event_stream::write(event, &mut out),
            }
        }
        if self == Self::Array && !out.is_empty() {
            put(&mut out, &[b"\n]"]);
        }
        out
    }
}

/// A content type without its parameters.
pub fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// An event's bytes are not what its framing says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event is not whole, or not framed as its content type says")]
pub struct Malformed;

impl Splitter {
    /// The next event's end in `chunk`, or `None` if it does not end there; then the whole chunk
    /// has been taken in. Go on with the rest of the chunk, then the next one.
    pub fn next(&mut self, chunk: &[u8]) -> Option<Found> {
        let end = match &mut self.0 {
            Inner::Sse(splitter) => splitter.next(chunk),
            Inner::Lines => lines::next(chunk),
            Inner::Array(splitter) => splitter.next(chunk),
            Inner::EventStream(splitter) => return splitter.next(chunk),
        };
        end.map(Found::End)
    }

    /// Whether the stream has said that nothing follows.
    pub const fn is_over(&self) -> bool {
        matches!(&self.0, Inner::Array(splitter) if splitter.is_over())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Framing; 4] = [
        Framing::Sse,
        Framing::Lines,
        Framing::Array,
        Framing::EventStream,
    ];

    /// Every event in a stream that arrives in chunks of these sizes, and what is left.
    fn read(framing: Framing, stream: &[u8], sizes: &[usize]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut splitter = framing.splitter();
        let (mut event, mut found) = (Vec::new(), Vec::new());
        let mut left = stream;
        for size in sizes.iter().cycle() {
            if left.is_empty() {
                break;
            }
            let (chunk, behind) = left.split_at((*size).clamp(1, left.len()));
            let mut rest = chunk;
            while let Some(Found::End(end) | Found::Damaged(end)) = splitter.next(rest) {
                event.extend_from_slice(&rest[..end]);
                if let Ok(Some(event)) = framing.parse(&event) {
                    found.push(event.data.into_owned());
                }
                event.clear();
                rest = &rest[end..];
            }
            event.extend_from_slice(rest);
            left = behind;
        }
        (found, event)
    }

    #[test]
    fn the_content_type_names_the_framing_whatever_its_case_and_parameters() {
        let of = Framing::of;
        assert_eq!(of("text/event-stream; charset=utf-8"), Some(Framing::Sse));
        assert_eq!(of("Application/X-NDJSON"), Some(Framing::Lines));
        assert_eq!(of("application/stream+json"), Some(Framing::Lines));
        let binary = of("application/vnd.amazon.eventstream");
        assert_eq!(binary, Some(Framing::EventStream));
        assert_eq!(of("application/json"), None);
        assert_eq!(of("text/event-streams"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_is_cut(
            data in prop::collection::vec("\\{\"a\":\"([a-z{}\\[, ]|\\\\\\\\|\\\\\")*\"\\}", 1..9),
            sizes in prop::collection::vec(1_usize..40, 1..10),
        ) {
            let events: Vec<_> = data.iter().map(|data| Event::data(data.as_bytes())).collect();
            let expected: Vec<_> = data.iter().map(|data| data.as_bytes().to_vec()).collect();
            for framing in ALL {
                let stream = framing.end(&events, false);
                let (found, rest) = read(framing, &stream, &sizes);
                prop_assert_eq!(&found, &expected, "{:?}", framing);
                prop_assert_eq!(&rest, b"", "{:?}", framing);
                // In two parts, as a stream that is cut is written.
                let (first, last) = events.split_at(events.len() / 2);
                let mut stream = framing.end(first, false);
                if framing == Framing::Array && !first.is_empty() {
                    stream.truncate(stream.len() - 2);
                }
                stream.extend(framing.end(last, !first.is_empty()));
                prop_assert_eq!(&read(framing, &stream, &sizes).0, &expected, "{:?}", framing);
            }
        }

        #[test]
        fn no_bytes_do_harm_and_their_cuts_do_not_matter(
            stream in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"[]{}\",\\\n:"[..])], 0..200),
            sizes in prop::collection::vec(1_usize..40, 1..10),
        ) {
            // A line feed that belongs to the end of a server-sent event may come with the next.
            for framing in [Framing::Lines, Framing::Array, Framing::EventStream] {
                let whole = read(framing, &stream, &[usize::MAX]);
                prop_assert_eq!(read(framing, &stream, &sizes), whole, "{:?}", framing);
                let _read = framing.parse(&stream);
                let _opened = framing.open(&stream);
            }
        }
    }
}
