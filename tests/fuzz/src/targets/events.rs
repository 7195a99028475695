//! Streams in every framing, passed on, held back, and with events taken out.
//!
//! What must hold: bytes that nobody edits come out as they went in; any chunking reads the same
//! events; what is left when some are taken out reads as the others; what is written is read.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    super::events::{Events, Verdict, Whole},
    chunks, steered,
};
use crate::provider::{
    Event,
    wire::{framing::Framing, scan::Wanted},
};

const FRAMINGS: [Framing; 4] = [
    Framing::Sse,
    Framing::Lines,
    Framing::Array,
    Framing::EventStream,
];
const WANTED: Wanted = Wanted {
    fields: &["usage", "id"],
    within: &["response"],
};

/// What became of a stream.
#[derive(Debug, Default, PartialEq)]
struct Passed {
    out: Vec<u8>,
    read: Vec<Read>,
}

/// An event, or why there is none.
#[derive(Clone, Debug, PartialEq)]
enum Read {
    Event(Option<String>, Vec<u8>, bool),
    Malformed,
    Damaged,
    Lost,
}

pub fn run(input: &[u8]) {
    let Some((bytes, [framing, size, drop])) = steered(input) else {
        return;
    };
    let framing = FRAMINGS[usize::from(framing) % FRAMINGS.len()];
    // Large ones in small chunks would take all the time there is.
    let bytes = grown(bytes, size == 0 || size > 250);
    let bytes = match framing {
        Framing::EventStream if drop & 0x80 != 0 => mended(bytes),
        _ => bytes,
    };
    let is_small = bytes.len() < 64 * 1024;
    let keep = |_: &[u8]| Verdict::Pass;
    let whole = pass(framing, &bytes, 0, true, keep);
    assert_eq!(whole.out, bytes, "held back");
    for (size, held) in [(size, true), (size, false), (0, false)] {
        let cut = pass(framing, &bytes, size, held, keep);
        assert_eq!(cut.out, bytes, "chunks of {size}, held {held}");
        // What is too large to be held in parts is read less well than in one piece.
        assert!(
            !is_small || cut.read == whole.read,
            "chunks of {size}: {cut:?} {whole:?}"
        );
    }
    if is_small && framing.can_lose_events() {
        without_some(framing, &bytes, size, drop);
    }
    what_is_written_is_read(framing, &whole.read);
    let _opened = framing.open(&bytes);
    let _stray = framing.is_stray(&bytes);
}

/// Takes out the events whose data sums up to a multiple of `drop`.
fn without_some(framing: Framing, bytes: &[u8], size: u8, drop: u8) {
    let is_dropped = |data: &[u8]| {
        let sum = data.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        sum % (drop % 4 + 1) == 0
    };
    let left = pass(framing, bytes, size, true, |data| {
        if is_dropped(data) {
            Verdict::Drop
        } else {
            Verdict::Pass
        }
    });
    if left.read.contains(&Read::Lost) {
        return;
    }
    let kept = left.read.iter().filter(|read| match read {
        Read::Event(_, data, _) => !is_dropped(data),
        Read::Malformed | Read::Damaged | Read::Lost => true,
    });
    let kept: Vec<_> = kept.cloned().collect();
    let again = pass(framing, &left.out, 0, true, |_| Verdict::Pass);
    assert_eq!(again.read, kept, "what is left reads as the others");
}

fn what_is_written_is_read(framing: Framing, read: &[Read]) {
    // Only what may stand in an event of this framing can be written.
    let events: Vec<_> = read
        .iter()
        .filter_map(|read| match read {
            Read::Event(_, data, _)
                if serde_json::from_slice::<serde_json::Value>(data).is_ok() =>
            {
                let compact =
                    data.starts_with(b"{") && !data.contains(&b'\n') && !data.contains(&b'\r');
                compact.then(|| data.trim_ascii().to_vec())
            },
            _ => None,
        })
        .collect();
    let written: Vec<_> = events.iter().map(|data| Event::data(data)).collect();
    let stream = framing.end(&written, false);
    let again = pass(framing, &stream, 3, false, |_| Verdict::Pass);
    let data: Vec<_> = again
        .read
        .into_iter()
        .filter_map(|read| match read {
            Read::Event(_, data, _) => Some(data),
            _ => None,
        })
        .collect();
    assert_eq!(data, events, "what is written is read");
}

fn pass(
    framing: Framing,
    bytes: &[u8],
    size: u8,
    held: bool,
    mut judge: impl FnMut(&[u8]) -> Verdict,
) -> Passed {
    let mut events = Events::new(framing, held, WANTED);
    let (mut out, mut passed) = (VecDeque::new(), Passed::default());
    let mut read = |event: Whole<'_>| {
        let event = match event {
            Whole::Bytes(bytes) | Whole::Unfinished { bytes, .. } => match framing.parse(bytes) {
                Ok(Some(event)) => event,
                Ok(None) => return Verdict::Pass,
                Err(_) => {
                    passed.read.push(Read::Malformed);
                    return Verdict::Pass;
                },
            },
            Whole::Reduced { event, .. } => event,
            Whole::Damaged => {
                passed.read.push(Read::Damaged);
                return Verdict::Pass;
            },
            Whole::Lost => {
                passed.read.push(Read::Lost);
                return Verdict::Pass;
            },
        };
        let verdict = judge(&event.data);
        let name = event.name.map(str::to_owned);
        passed
            .read
            .push(Read::Event(name, event.data.into_owned(), event.fault));
        verdict
    };
    for chunk in chunks(bytes, size) {
        events.take(&chunk, &mut out, &mut read);
    }
    events.end(&mut out, &mut read);
    passed.out = out.into_iter().flatten().collect();
    passed
}

/// With the checksums that its frames should have, which no mutation would guess.
fn mended(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while let Some(length) = bytes[at..].first_chunk().copied().map(u32::from_be_bytes) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(frame) = bytes[at..].get_mut(..length).filter(|_| length >= 16) else {
            break;
        };
        let sum = crc32fast::hash(&frame[..8]);
        frame[8..12].copy_from_slice(&sum.to_be_bytes());
        let sum = crc32fast::hash(&frame[..length - 4]);
        frame[length - 4..].copy_from_slice(&sum.to_be_bytes());
        at += length;
    }
    bytes
}

/// Three `\x07` stand for an event that is too large to hold.
fn grown(bytes: &[u8], may_grow: bool) -> Vec<u8> {
    const BELLS: &[u8] = b"\x07\x07\x07";
    match memchr::memmem::find(bytes, BELLS) {
        Some(at) if may_grow => {
            let (before, after) = bytes.split_at(at);
            [before, &[b'x'; 300 * 1024], &after[BELLS.len()..]].concat()
        },
        _ => bytes.to_vec(),
    }
}

/// Every response as each framing has it, and the odd ends of each.
pub fn seeds() -> Vec<Vec<u8>> {
    const EVENTS: [&[u8]; 3] = [
        b"{\"id\":\"a\"}",
        b"{\"b\":\"}\\\"[\"}",
        b"{\"usage\":{\"n\":1}}",
    ];
    let events = EVENTS.map(Event::data);
    let mut seeds: Vec<_> = (0..)
        .zip(FRAMINGS)
        .map(|(place, framing)| [framing.end(&events, false), vec![place, 3, 0x81]].concat())
        .collect();
    let odd: [(&[u8], u8); 8] = [
        (
            b"\xef\xbb\xbf: hi\revent: x\r\ndata: {\ndata:}\r\rid: 3\n\n",
            0,
        ),
        (b"data: a\r\n\r\ndata: b", 0),
        (b"data: \x07\x07\x07\n\ndata: b\n\n", 0),
        (b"<html>\n\n", 0),
        (b"{\"a\":1}\r\n\n {\"b\"", 1),
        (b"[1, \"a\"]", 2),
        (b" {\"error\":{}} ", 2),
        (b"\0\0\0\x10\0\0\0\0\x05\xc2\x48\xeb\x7d\x98\xc8\xff", 3),
    ];
    seeds.extend(odd.map(|(bytes, framing)| [bytes, &[framing, 1, 0]].concat()));
    seeds
}
