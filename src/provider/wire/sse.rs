//! Server-sent events: where they end, and what one says.
//!
//! Two pieces that know nothing of each other, so that bytes which are only passed on are searched
//! for ends and never copied: [`Splitter`] finds where events end in untouched chunks, [`parse`]
//! reads the bytes of one.

use std::borrow::Cow;

use memchr::memchr2;

use super::super::dialect::Event;

/// Finds the ends of events in a stream that arrives in chunks, however they are cut. An event is
/// over with its empty line; if that ends in CR it is over at once, and an LF that follows counts
/// as the beginning of the next event's bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Splitter {
    /// The last line has begun and has not ended.
    in_line: bool,
    /// The last byte was a CR: an LF now belongs to it.
    after_cr: bool,
    /// Some byte of the present event has been seen.
    begun: bool,
}

impl Splitter {
    /// The offset in `chunk` just after the next event's end, or `None` if it does not end there;
    /// then the whole chunk has been taken in. Go on with the rest of the chunk, then the next one.
    /// Empty lines between events end one that [`parse`] finds nothing in.
    pub fn next(&mut self, chunk: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(byte) = chunk.get(at) {
            self.begun = true;
            if !matches!(byte, b'\n' | b'\r') {
                self.in_line = true;
                self.after_cr = false;
                let rest = chunk.get(at..).unwrap_or_default();
                at += memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                continue;
            }
            at += 1;
            if *byte == b'\n' && std::mem::take(&mut self.after_cr) {
                continue;
            }
            self.after_cr = *byte == b'\r';
            if !std::mem::take(&mut self.in_line) {
                return Some(self.end(chunk, at));
            }
        }
        None
    }

    /// Ends the event at `at`, or after the line feed that stands there and belongs to its end.
    fn end(&mut self, chunk: &[u8], at: usize) -> usize {
        self.begun = false;
        let has_more = self.after_cr && chunk.get(at) == Some(&b'\n');
        self.after_cr &= !has_more;
        at + usize::from(has_more)
    }

    /// Whether bytes of an event have been seen whose end has not.
    pub const fn is_within_event(&self) -> bool {
        self.begun
    }
}

/// Reads the bytes of one event; `None` if it has no data (comments, empty lines).
pub fn parse(bytes: &[u8]) -> Option<Event<'_>> {
    let mut name = None;
    let mut data: Option<Cow<'_, [u8]>> = None;
    let mut rest = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    while !rest.is_empty() {
        let end = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let line = rest.get(..end).unwrap_or_default();
        rest = rest.get(end + 1..).unwrap_or_default();
        match field(line) {
            (b"data", value) => match &mut data {
                None => data = Some(Cow::Borrowed(value)),
                Some(data) => {
                    let data = data.to_mut();
                    data.push(b'\n');
                    data.extend_from_slice(value);
                },
            },
            (b"event", value) => name = std::str::from_utf8(value).ok(),
            _ => {},
        }
    }
    data.map(|data| Event {
        name: name.filter(|name| !name.is_empty()),
        data,
        whole: false,
        fault: false,
    })
}

/// Whether bytes in which [`parse`] finds nothing have a line that no server-sent event has, so that
/// they are something else.
pub fn is_stray(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut lines = bytes.split(|byte| matches!(byte, b'\n' | b'\r'));
    lines.any(|line| !matches!(field(line).0, b"" | b"data" | b"event" | b"id" | b"retry"))
}

/// A line's name and value, without the one space that may follow the colon.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    let Some(colon) = memchr::memchr(b':', line) else {
        return (line, &[]);
    };
    let name = line.get(..colon).unwrap_or_default();
    let value = line.get(colon + 1..).unwrap_or_default();
    (name, value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll, Waker},
    };

    use eventsource_stream::Eventsource as _;
    use futures_core::Stream;
    use proptest::prelude::*;

    use super::*;

    type Found = Vec<(String, String)>;

    /// What this file makes of a stream that arrives in `chunks`.
    fn ours(chunks: &[&[u8]]) -> Found {
        let mut splitter = Splitter::default();
        let (mut event, mut found) = (Vec::new(), Vec::new());
        for chunk in chunks {
            let mut rest = *chunk;
            while let Some(end) = splitter.next(rest) {
                event.extend_from_slice(&rest[..end]);
                found.extend(parse(&event).map(owned));
                event.clear();
                rest = &rest[end..];
            }
            event.extend_from_slice(rest);
            assert_eq!(splitter.is_within_event(), !event.is_empty());
        }
        found
    }

    fn owned(event: Event<'_>) -> (String, String) {
        let data = String::from_utf8(event.data.into_owned()).unwrap_or_default();
        (event.name.unwrap_or("message").to_owned(), data)
    }

    struct Once(Option<Vec<u8>>);

    impl Stream for Once {
        type Item = Result<Vec<u8>, std::convert::Infallible>;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Ready(self.0.take().map(Ok))
        }
    }

    /// What another implementation makes of the same bytes.
    fn theirs(bytes: &[u8]) -> Found {
        let mut stream = std::pin::pin!(Once(Some(bytes.to_vec())).eventsource());
        let mut context = Context::from_waker(Waker::noop());
        let mut found = Vec::new();
        while let Poll::Ready(Some(Ok(event))) = stream.as_mut().poll_next(&mut context) {
            found.push((event.event, event.data));
        }
        found
    }

    fn stream() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            4 => "data: ?[a-z{}\" :]{0,8}",
            1 => "event: ?[a-z]{1,4}",
            1 => ":[a-z ]{0,4}",
            1 => "id: ?[0-9]{0,2}",
            1 => "[a-z]{1,4}",
            3 => Just(String::new()),
        ];
        let end = prop_oneof![Just("\n"), Just("\r\n"), Just("\r")];
        prop::collection::vec((line, end), 0..12).prop_map(|lines| {
            let lines = lines
                .into_iter()
                .flat_map(|(line, end)| [line, end.to_owned()]);
            // The other implementation waits at a CR for what may follow; an event ends the wait.
            format!("{}\n\ndata: end\n\n:\n", lines.collect::<String>())
        })
    }

    proptest! {
        #[test]
        fn any_stream_in_any_chunks_reads_as_another_implementation_reads_it(
            stream in stream(),
            cuts in prop::collection::vec(0_usize..200, 0..6),
        ) {
            let bytes = stream.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<_> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let expected = theirs(bytes);
            prop_assert_eq!(ours(&chunks), expected.clone());
            prop_assert_eq!(ours(&bytes.chunks(1).collect::<Vec<_>>()), expected);
        }

        #[test]
        fn garbage_splits_and_reads_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _found = ours(&bytes.chunks(7).collect::<Vec<_>>());
            let _event = parse(&bytes);
        }
    }

    #[test]
    fn an_event_is_over_with_its_empty_line_and_never_waits() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.next(b"data: a\r\n\r"), Some(10));
        assert!(!splitter.is_within_event());
        assert_eq!(splitter.next(b"\ndata: b\n"), None);
        assert!(splitter.is_within_event());
        assert_eq!(splitter.next(b"\ndata: c"), Some(1));
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        let bytes = "\u{feff}data: a\n\ndata: b\n\n".as_bytes();
        let found = ours(&bytes.chunks(2).collect::<Vec<_>>());
        let expected = ["a", "b"].map(|data| ("message".to_owned(), data.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn an_event_takes_the_line_feed_of_its_end_if_that_is_there() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.next(b"data: a\r\n\r\ndata"), Some(11));
    }

    #[test]
    fn data_of_several_lines_is_joined_and_comments_are_not_data() {
        let event = parse(b": hi\nevent: x\ndata: {\ndata:}\nid: 3\n\n").unwrap();
        assert_eq!((event.name, &*event.data), (Some("x"), &b"{\n}"[..]));
        assert_eq!(parse(b": OPENROUTER PROCESSING\n\n"), None);
        assert_eq!(parse(b"\r\n"), None);
        assert_eq!(parse(b"data\n\n").unwrap().data.len(), 0);
    }

    #[test]
    fn what_is_no_event_at_all_is_told_from_one_without_data() {
        for quiet in [
            ": hi\n\n",
            "\u{feff}\r\n",
            "event: ping\rid: 3\r\r",
            "retry: 5\n\n",
        ] {
            assert!(!is_stray(quiet.as_bytes()), "{quiet:?}");
        }
        for stray in ["{\"id\": \"x\"}", "<html>\n\n", "event: x\nno field\n\n"] {
            assert!(is_stray(stray.as_bytes()), "{stray:?}");
        }
    }
}
