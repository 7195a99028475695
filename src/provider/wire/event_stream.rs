//! AWS event streams (`application/vnd.amazon.eventstream`): binary frames with checksums.
//!
//! A frame is its total length, its headers' length, the CRC-32 of these two, the headers, the
//! payload, and the CRC-32 of all that. Numbers are big-endian. Checksums are taken while bytes
//! pass, so that they hold for frames that are too large to keep, too.
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html>.

use std::borrow::Cow;

use crc32fast::Hasher;
use serde_json::json;

use super::{super::dialect::Event, framing::Found};

/// The largest frame that is one, in bytes: AWS sends none that is larger.
const MAX_FRAME: usize = 16 << 20;
/// The lengths and their checksum.
const PRELUDE: usize = 12;
/// A frame's own checksum.
const SUM: usize = 4;

/// Finds the ends of frames, and checks their checksums.
#[derive(Clone, Debug, Default)]
pub(super) struct Splitter {
    prelude: [u8; PRELUDE],
    sum: [u8; SUM],
    /// Of the present frame: its length, once its prelude is there; and how much of it was seen.
    length: usize,
    seen: usize,
    hasher: Hasher,
    lost: bool,
}

impl Splitter {
    /// The next frame's end in `chunk`. After [`Found::Lost`] there is none.
    pub(super) fn next(&mut self, chunk: &[u8]) -> Option<Found> {
        if self.lost {
            return None;
        }
        let mut rest = chunk;
        while let [_, ..] = rest {
            let taken = if self.seen < PRELUDE {
                let taken = fill(&mut self.prelude, self.seen, rest);
                self.seen += taken;
                if self.seen == PRELUDE && self.begin().is_none() {
                    self.lost = true;
                    return Some(Found::Lost);
                }
                taken
            } else if self.seen < self.length - SUM {
                let inside = rest.len().min(self.length - SUM - self.seen);
                self.hasher.update(rest.get(..inside).unwrap_or_default());
                self.seen += inside;
                inside
            } else {
                let taken = fill(&mut self.sum, self.seen - (self.length - SUM), rest);
                self.seen += taken;
                taken
            };
            rest = rest.get(taken..).unwrap_or_default();
            if self.seen >= PRELUDE && self.seen == self.length {
                let end = chunk.len() - rest.len();
                self.seen = 0;
                let told = u32::from_be_bytes(self.sum);
                return Some(if std::mem::take(&mut self.hasher).finalize() == told {
                    Found::End(end)
                } else {
                    Found::Damaged(end)
                });
            }
        }
        None
    }

    /// The prelude is there: takes the frame's length out of it, if it is one.
    fn begin(&mut self) -> Option<()> {
        let (length, headers) = lengths(&self.prelude)?;
        let whole = PRELUDE.checked_add(headers)?.checked_add(SUM)?;
        let sum = self.prelude.last_chunk().copied().map(u32::from_be_bytes);
        let is_sound = Some(crc32fast::hash(self.prelude.get(..8)?)) == sum;
        if !is_sound || whole > length || length > MAX_FRAME {
            return None;
        }
        self.length = length;
        self.hasher.update(&self.prelude);
        Some(())
    }
}

/// Copies bytes to where they belong, from `at` on; how many.
fn fill(into: &mut [u8], at: usize, from: &[u8]) -> usize {
    let room = into.get_mut(at..).unwrap_or_default();
    let count = room.len().min(from.len());
    for (to, from) in room.iter_mut().zip(from) {
        *to = *from;
    }
    count
}

/// The lengths of a frame and of its headers.
fn lengths(prelude: &[u8]) -> Option<(usize, usize)> {
    let (length, rest) = prelude.split_first_chunk()?;
    let (headers, _) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let headers = usize::try_from(u32::from_be_bytes(*headers)).ok()?;
    Some((length, headers))
}

/// What a frame's headers say that anyone needs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head<'a> {
    /// The kind of event, or of exception, or an error's code.
    pub(super) name: Option<&'a str>,
    /// It is no event but an exception or an error.
    pub(super) fault: bool,
    /// An error has no payload but says here what it is.
    message: Option<&'a str>,
}

/// Reads a frame's headers. The bytes may end anywhere behind them: what follows is returned. `None`
/// if they end before, or are none.
pub(super) fn open(frame: &[u8]) -> Option<(Head<'_>, &[u8])> {
    let (_, headers) = lengths(frame)?;
    let (mut rest, behind) = frame.get(PRELUDE..)?.split_at_checked(headers)?;
    let mut head = Head::default();
    while !rest.is_empty() {
        let name = prefixed(&mut rest, 1)?;
        let kind = *take(&mut rest, 1)?.first()?;
        let value = match kind {
            0 | 1 => &[][..],
            2 => take(&mut rest, 1)?,
            3 => take(&mut rest, 2)?,
            4 => take(&mut rest, 4)?,
            5 | 8 => take(&mut rest, 8)?,
            6 | 7 => prefixed(&mut rest, 2)?,
            9 => take(&mut rest, 16)?,
            _ => return None,
        };
        let Some(text) = std::str::from_utf8(value).ok().filter(|_| kind == 7) else {
            continue;
        };
        match name {
            b":message-type" => head.fault = text != "event",
            b":event-type" | b":exception-type" | b":error-code" => head.name = Some(text),
            b":error-message" => head.message = Some(text),
            _ => {},
        }
    }
    Some((head, behind))
}

/// Takes so many bytes.
fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

/// Takes a length of one or two bytes, and what is so long.
fn prefixed<'a>(rest: &mut &'a [u8], size: usize) -> Option<&'a [u8]> {
    let length = take(rest, size)?
        .iter()
        .fold(0, |length, byte| (length << 8) | usize::from(*byte));
    take(rest, length)
}

/// Reads a whole frame, whose checksums the splitter has checked; `None` if it is none. Of an
/// error, which has no payload, the data is `{"message": …}` with what its header says.
pub(super) fn parse(frame: &[u8]) -> Option<Event<'_>> {
    let (length, _) = lengths(frame)?;
    let (head, behind) = open(frame)?;
    let (payload, _) = behind.split_last_chunk::<SUM>()?;
    let data = match head.message {
        Some(message) if payload.is_empty() => {
            Cow::Owned(json!({"message": message}).to_string().into_bytes())
        },
        _ => Cow::Borrowed(payload),
    };
    (length == frame.len()).then_some(Event {
        name: head.name,
        data,
        whole: false,
        fault: head.fault,
    })
}

/// Appends a frame that says what `event` does. A name of more than 64 kB is cut off.
pub(super) fn write(event: &Event<'_>, out: &mut Vec<u8>) {
    let mut headers = Vec::new();
    let mut header = |name: &str, value: &str| {
        let value = value.as_bytes();
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        headers.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        headers.extend_from_slice(name.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&length.to_be_bytes());
        headers.extend(value.iter().take(usize::from(length)));
    };
    let (kind, message_type) = if event.fault {
        (":exception-type", "exception")
    } else {
        (":event-type", "event")
    };
    if let Some(name) = event.name {
        header(kind, name);
    }
    header(":content-type", "application/json");
    header(":message-type", message_type);
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    let begin = out.len();
    out.extend(size(PRELUDE + headers.len() + event.data.len() + SUM));
    out.extend(size(headers.len()));
    let sum = |out: &[u8]| crc32fast::hash(out.get(begin..).unwrap_or_default()).to_be_bytes();
    out.extend(sum(out));
    out.extend(&headers);
    out.extend_from_slice(&event.data);
    out.extend(sum(out));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as the format's description gives it, with an exact header and payload.
    const GIVEN: &[u8] = b"\x00\x00\x00\x3d\x00\x00\x00\x20\x07\xfd\x83\x96\
        \x0ccontent-type\x07\x00\x10application/json{'foo':'bar'}\x8d\x9c\x08\xb1";

    fn ends(stream: &[u8], size: usize) -> Vec<Found> {
        let mut splitter = Splitter::default();
        let (mut found, mut before) = (Vec::new(), 0);
        for chunk in stream.chunks(size) {
            let mut at = 0;
            while let Some(next) = splitter.next(&chunk[at..]) {
                let place = |end: usize| before + at + end;
                found.push(match next {
                    Found::End(end) => Found::End(place(end)),
                    Found::Damaged(end) => Found::Damaged(place(end)),
                    Found::Lost => Found::Lost,
                });
                let (Found::End(end) | Found::Damaged(end)) = next else {
                    return found;
                };
                at += end;
            }
            before += chunk.len();
        }
        found
    }

    fn frame(name: Option<&str>, data: &[u8], fault: bool) -> Vec<u8> {
        let mut frame = Vec::new();
        let event = Event {
            name,
            fault,
            ..Event::data(data)
        };
        write(&event, &mut frame);
        frame
    }

    #[test]
    fn the_frame_that_the_format_gives_as_an_example_is_read() {
        for size in 1..=GIVEN.len() {
            assert_eq!(ends(GIVEN, size), [Found::End(61)], "chunks of {size}");
        }
        let event = parse(GIVEN).unwrap();
        assert_eq!((event.name, &*event.data), (None, &b"{'foo':'bar'}"[..]));
    }

    #[test]
    fn what_is_written_is_read() {
        for (name, fault) in [
            (Some("contentBlockDelta"), false),
            (Some("x"), true),
            (None, false),
        ] {
            let frame = frame(name, b"{\"a\":1}", fault);
            assert_eq!(ends(&frame, 5), [Found::End(frame.len())]);
            let event = parse(&frame).unwrap();
            assert_eq!((event.name, event.fault), (name, fault));
            assert_eq!(&*event.data, b"{\"a\":1}");
        }
    }

    #[test]
    fn a_wrong_checksum_spoils_one_frame_and_a_wrong_prelude_all_that_follows() {
        let sound = frame(Some("a"), b"{}", false);
        let length = sound.len();
        for at in PRELUDE..length {
            let mut stream = sound.repeat(3);
            stream[length + at] ^= 0x10;
            let expected = [
                Found::End(length),
                Found::Damaged(2 * length),
                Found::End(3 * length),
            ];
            assert_eq!(ends(&stream, 7), expected, "byte {at}");
        }
        for at in 0..PRELUDE {
            let mut stream = sound.repeat(3);
            stream[length + at] ^= 0x10;
            assert_eq!(
                ends(&stream, 7),
                [Found::End(length), Found::Lost],
                "byte {at}"
            );
        }
    }

    #[test]
    fn a_length_that_no_frame_has_is_none_even_with_its_checksum() {
        let largest = u32::try_from(MAX_FRAME).unwrap();
        for (length, headers, sound) in [
            (16, 0, true),
            (15, 0, false),
            (100, 84, true),
            (100, 85, false),
            (100, u32::MAX, false),
            (largest, 0, true),
            (largest + 1, 0, false),
        ] {
            let mut prelude = Vec::new();
            prelude.extend(u32::to_be_bytes(length));
            prelude.extend(u32::to_be_bytes(headers));
            prelude.extend(crc32fast::hash(&prelude).to_be_bytes());
            let lost = ends(&prelude, 100) == [Found::Lost];
            assert_eq!(lost, !sound, "{length} {headers}");
        }
    }

    #[test]
    fn every_type_of_header_is_passed_over_and_an_unknown_one_is_damage() {
        let values: [&[u8]; 10] = [
            b"\0",
            b"\x01",
            b"\x02a",
            b"\x03ab",
            b"\x04abcd",
            b"\x05abcdefgh",
            b"\x06\0\x01a",
            b"\x07\0\x01a",
            b"\x08abcdefgh",
            b"\x09abcdefghijklmnop",
        ];
        let mut headers: Vec<u8> = values
            .iter()
            .flat_map(|value| [b"\x01h", *value].concat())
            .collect();
        headers.extend(b"\x0b:error-code\x07\0\x03bad\x0e:error-message\x07\0\x04\"no\"");
        headers.extend(b"\x0d:message-type\x07\0\x05error");
        let frame = |headers: &[u8]| {
            let mut frame = Vec::new();
            frame.extend(u32::try_from(16 + headers.len()).unwrap().to_be_bytes());
            frame.extend(u32::try_from(headers.len()).unwrap().to_be_bytes());
            frame.extend([&[0; 4], headers, &[0; 4]].concat());
            frame
        };
        let whole = frame(&headers);
        let event = parse(&whole).unwrap();
        assert_eq!((event.name, event.fault), (Some("bad"), true));
        assert_eq!(&*event.data, br#"{"message":"\"no\""}"#);
        for end in 1..headers.len() {
            let cut = frame(&headers[..end]);
            let _read = parse(&cut);
        }
        assert_eq!(parse(&frame(b"\x01h\x0a")), None);
        assert_eq!(parse(&frame(b"\x01h\x07\0\x05a")), None);
        assert_eq!(parse(&whole[..whole.len() - 1]), None);
    }
}
