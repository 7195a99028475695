//! Streams in chunks of every size, held back, cut and damaged.

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
    pass_framed(Framing::Sse, stream, sizes, held)
}

fn pass_framed(
    framing: Framing,
    stream: &[u8],
    sizes: &[usize],
    held: bool,
) -> (Vec<u8>, Vec<String>) {
    let mut events = Events::new(framing, held, WANTED);
    let (mut out, mut read) = (VecDeque::new(), Vec::new());
    let mut judge = |event: Whole<'_>| {
        let bytes = match event {
            Whole::Bytes(bytes) | Whole::Unfinished { bytes, .. } => bytes.to_vec(),
            Whole::Reduced { event, .. } => event.data.into_owned(),
            Whole::Damaged | Whole::Lost => b"damage".to_vec(),
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
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
    let mut events = Events::new(Framing::Sse, true, WANTED);
    let mut out = VecDeque::new();
    let chunk = Bytes::from_static(b"data: a\n\ndata: half");
    events.take(&chunk, &mut out, |_| Verdict::Pass);
    assert_eq!(out.pop_front().unwrap(), "data: a\n\n");
    assert!(out.is_empty());
}

/// A stream of these words.
fn framed(framing: Framing, words: &[&str]) -> Vec<u8> {
    let data: Vec<_> = words
        .iter()
        .map(|word| format!("{{\"w\":\"{word}\"}}"))
        .collect();
    let events: Vec<_> = data
        .iter()
        .map(|data| Event::data(data.as_bytes()))
        .collect();
    framing.end(&events, false)
}

#[test]
fn a_stream_in_any_framing_can_be_cut_before_any_event_and_ended() {
    let words = ["a", "b", "cut", "c"];
    for framing in [
        Framing::Sse,
        Framing::Lines,
        Framing::Array,
        Framing::EventStream,
    ] {
        for from in 0..3 {
            let stream = framed(framing, &words[from..]);
            for size in 1..=stream.len() {
                let (mut out, _) = pass_framed(framing, &stream, &[size], true);
                let begun = from < 2;
                out.extend(framing.end(&[Event::data(b"{\"w\":\"end\"}")], begun));
                let expected = framed(framing, &[&words[from..2], &["end"]].concat());
                assert_eq!(out, expected, "{framing:?}, chunks of {size}");
            }
        }
    }
}

#[test]
fn a_damaged_event_passes_and_is_not_read_nor_is_anything_once_the_ends_are_lost() {
    let sound = framed(Framing::EventStream, &["a"]);
    let (length, stream) = (sound.len(), sound.repeat(4));
    for (damage, reads) in [(length - 1, 4), (0, 2)] {
        let mut stream = stream.clone();
        stream[length + damage] ^= 1;
        for size in [1, 7, length + 3, 4 * length] {
            for held in [true, false] {
                let (out, read) = pass_framed(Framing::EventStream, &stream, &[size], held);
                assert_eq!(out, stream, "chunks of {size}");
                assert_eq!(read.len(), reads);
                assert_eq!(read[1], "damage");
            }
        }
    }
}

#[test]
fn an_event_too_large_to_keep_still_has_its_name() {
    let long = format!("{{\"t\":\"{}\",\"usage\":7}}", "x".repeat(2 * MAX_KEPT));
    let mut event = Event::data(long.as_bytes());
    event.name = Some("{metadata}");
    let stream = Bytes::from(Framing::EventStream.end(&[event], false));
    let mut events = Events::new(Framing::EventStream, false, WANTED);
    let (mut out, mut read) = (VecDeque::new(), Vec::new());
    for at in (0..stream.len()).step_by(10_000) {
        let chunk = stream.slice(at..stream.len().min(at + 10_000));
        events.take(&chunk, &mut out, |event| {
            if let Whole::Reduced { event, rest } = event {
                let besides = usize::try_from(rest.bytes).unwrap() - 2 * MAX_KEPT;
                assert!(besides < 20, "the text and its braces: {besides}");
                let name = event.name.map(str::to_owned);
                read.push((name, event.data.into_owned()));
            }
            Verdict::Pass
        });
    }
    let expected = (Some("{metadata}".to_owned()), b"{\"usage\":7}".to_vec());
    assert_eq!(read, [expected]);
    assert_eq!(out.into_iter().flatten().collect::<Vec<_>>(), stream);
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

#[test]
fn a_stream_that_is_closed_passes_the_event_that_has_begun_and_nothing_after_it() {
    for framing in [
        Framing::Sse,
        Framing::Lines,
        Framing::Array,
        Framing::EventStream,
    ] {
        let words = ["a", "b", "c"];
        let stream = Bytes::from(framed(framing, &words));
        let (mut splitter, mut edges) = (framing.splitter(), vec![0]);
        while let Some(Found::End(length)) = splitter.next(&stream[edges[edges.len() - 1]..]) {
            edges.push(edges[edges.len() - 1] + length);
        }
        for at in 1..edges[words.len()] {
            let mut events = Events::new(framing, false, WANTED);
            let (mut out, mut read) = (VecDeque::new(), 0);
            let mut judge = |_: Whole<'_>| {
                read += 1;
                Verdict::Pass
            };
            events.take(&stream.slice(..at), &mut out, &mut judge);
            assert_eq!(events.is_within(), !edges.contains(&at), "{framing:?} {at}");
            if !events.is_within() {
                continue;
            }
            events.close();
            for byte in at..stream.len() {
                assert_eq!(
                    events.is_within(),
                    !edges.iter().any(|edge| (at..=byte).contains(edge))
                );
                events.take(&stream.slice(byte..=byte), &mut out, &mut judge);
            }
            let edge = *edges.iter().find(|edge| **edge > at).unwrap();
            let passed: Vec<u8> = out.into_iter().flatten().collect();
            assert_eq!(passed, stream[..edge], "{framing:?} {at}");
            assert_eq!(read, edges.iter().position(|one| *one == edge).unwrap());
        }
    }
}

#[test]
fn a_large_event_is_finished_as_well_when_its_stream_is_closed() {
    let long = "x".repeat(2 * MAX_KEPT);
    let stream = Bytes::from(format!(
        "data: {{\"t\":\"{long}\",\"usage\":7}}\n\ndata: b\n\n"
    ));
    let end = stream.len() - 9;
    for held in [true, false] {
        for begun in [MAX_HELD + 10, MAX_KEPT + 10] {
            let mut events = Events::new(Framing::Sse, held, WANTED);
            let mut out = VecDeque::new();
            events.take(&stream.slice(..begun), &mut out, |_| Verdict::Pass);
            assert!(events.is_within());
            events.close();
            events.take(&stream.slice(begun..), &mut out, |_| Verdict::Pass);
            assert!(events.is_between());
            let passed: Vec<u8> = out.into_iter().flatten().collect();
            assert_eq!(passed, stream[..end], "{held} {begun}");
        }
    }
}
