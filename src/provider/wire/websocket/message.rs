//! The messages in the frames: put together, decompressed on the side (RFC 7692), and kept as far
//! as the bounds allow.

use flate2::{Decompress, FlushDecompress, Status};

use super::{Frames, Head, Malformed, Opcode, Sender, Step};
use crate::provider::wire::{
    encoding::Decoder,
    scan::{Reduced, Scanner, Wanted},
};

/// The largest message that is kept whole, in bytes; a larger one is scanned.
const MAX_KEPT: usize = 1 << 20;

/// Below so many bytes a ratio of compression means nothing.
const RATIO_FROM: u64 = 1 << 20;

/// What every compressed message ends with, and leaves out (RFC 7692, 7.2.1).
const LEFT_OUT: [u8; 4] = [0, 0, 0xff, 0xff];

/// What bytes that passed came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// They ended within a frame.
    Within,
    /// A control frame ended.
    Control(Opcode),
    /// A frame of a message ended, and others are to follow.
    Frame,
    /// A message ended: [`Messages::content`] has it.
    Message,
}

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// All of it.
    Whole(Vec<u8>),
    /// Too large to keep: its wanted fields, as a JSON document.
    Reduced(Reduced),
    /// It could not be decompressed.
    Unread,
}

/// Reads one direction of a connection.
#[derive(Debug)]
pub struct Messages {
    frames: Frames,
    wanted: Wanted,
    inflate: Option<Inflate>,
    /// The present message is compressed.
    compressed: bool,
    kept: Vec<u8>,
    scanner: Option<Scanner>,
    /// The present message cannot be read.
    unread: bool,
}

impl Messages {
    /// For what `sender` sends after a handshake that agreed on compression, or not. Of a message
    /// too large to keep `wanted` is.
    pub fn new(sender: Sender, may_compress: bool, wanted: Wanted) -> Self {
        Self {
            frames: Frames::new(sender, may_compress),
            wanted,
            inflate: may_compress.then(Inflate::new),
            compressed: false,
            kept: Vec::new(),
            scanner: None,
            unread: false,
        }
    }

    /// Whether a message has begun and not ended.
    pub const fn in_message(&self) -> bool {
        self.frames.in_message()
    }

    /// Whether the present message, or the last, is compressed: later ones may refer to it.
    pub const fn is_compressed(&self) -> bool {
        self.compressed
    }

    /// Takes bytes in, up to the end of the next frame. Returns how many that were.
    ///
    /// # Errors
    /// They are no frames.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, Passed), Malformed> {
        let mut rest = bytes;
        let passed = loop {
            let (step, behind) = self.frames.step(rest)?;
            rest = behind;
            match step {
                Step::Within => break Passed::Within,
                Step::Payload(head, part, begins) => self.payload(&head, part, begins),
                Step::End(head) if head.opcode.is_control() => break Passed::Control(head.opcode),
                Step::End(head) => {
                    self.begin(&head, true);
                    break if head.last {
                        Passed::Message
                    } else {
                        Passed::Frame
                    };
                },
            }
        };
        Ok((bytes.len() - rest.len(), passed))
    }

    /// The message that has ended.
    pub fn content(&mut self) -> Content {
        if self.compressed {
            self.inflate(&LEFT_OUT);
            if let Some(inflate) = &mut self.inflate {
                inflate.message = (0, 0);
            }
        }
        let kept = std::mem::take(&mut self.kept);
        match (std::mem::take(&mut self.unread), self.scanner.take()) {
            (true, _) => Content::Unread,
            (false, Some(scanner)) => Content::Reduced(scanner.finish()),
            (false, None) => Content::Whole(kept),
        }
    }

    /// The first frame of a message says whether it is compressed; an empty one has no payload.
    const fn begin(&mut self, head: &Head, is_start: bool) {
        if is_start && !matches!(head.opcode, Opcode::Continuation) {
            self.compressed = head.compressed;
        }
    }

    fn payload(&mut self, head: &Head, part: &[u8], begins: u64) {
        if head.opcode.is_control() {
            return;
        }
        self.begin(head, begins == 0);
        let mut plain = Vec::with_capacity(part.len());
        head.unmask(part, begins, &mut plain);
        if self.compressed {
            self.inflate(&plain);
        } else {
            self.keep(&plain);
        }
    }

    fn inflate(&mut self, bytes: &[u8]) {
        let Some(mut inflate) = self.inflate.take() else {
            self.unread = true;
            return;
        };
        if inflate.feed(bytes, &mut |plain| self.keep(plain)).is_none() {
            inflate.lost = true;
        }
        self.unread |= inflate.lost;
        self.inflate = Some(inflate);
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.unread {
            return;
        }
        if self.scanner.is_none() && self.kept.len() + bytes.len() > MAX_KEPT {
            let mut scanner = Scanner::new(self.wanted);
            scanner.feed(&self.kept);
            self.kept = Vec::new();
            self.scanner = Some(scanner);
        }
        match &mut self.scanner {
            Some(scanner) => scanner.feed(bytes),
            None => self.kept.extend_from_slice(bytes),
        }
    }
}

/// Decompresses one direction. Whether its sender begins each message anew makes no difference to
/// who reads: what is not referred to is not missed.
#[derive(Debug)]
struct Inflate {
    state: Decompress,
    /// Bytes of the present message, before and after.
    message: (u64, u64),
    /// Something was left out, so that nothing behind it can be read.
    lost: bool,
}

impl Inflate {
    fn new() -> Self {
        Self {
            state: Decompress::new(false),
            message: (0, 0),
            lost: false,
        }
    }

    /// Decompresses; `None`: it is damaged, or has too much in it.
    fn feed(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&[u8])) -> Option<()> {
        if self.lost {
            return None;
        }
        let mut rest = bytes;
        let mut out = [0; 8 * 1024];
        loop {
            let (before_in, before_out) = (self.state.total_in(), self.state.total_out());
            let status = self
                .state
                .decompress(rest, &mut out, FlushDecompress::None)
                .ok()?;
            let taken = self.state.total_in() - before_in;
            let made = self.state.total_out() - before_out;
            self.message.0 += taken;
            self.message.1 += made;
            let (before, after) = self.message;
            let is_bomb = after > RATIO_FROM && after / Decoder::MAX_RATIO > before;
            if is_bomb || after > Decoder::MAX_BYTES {
                return None;
            }
            let made = usize::try_from(made).ok()?;
            sink(out.get(..made)?);
            rest = rest.get(usize::try_from(taken).ok()?..)?;
            if status == Status::StreamEnd {
                // A sender may end its stream with a message, and begin another.
                self.state.reset(false);
                if rest.is_empty() || rest == LEFT_OUT {
                    return Some(());
                }
            } else if rest.is_empty() && made < out.len() {
                return Some(());
            } else if taken == 0 && made == 0 {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compress, Compression, FlushCompress};
    use proptest::prelude::*;

    use super::{super::frame, *};

    const NONE: Wanted = Wanted {
        fields: &["type"],
        within: &[],
    };

    /// Compresses messages as a sender does that refers to earlier ones.
    struct Deflate(Compress);

    impl Deflate {
        fn new() -> Self {
            Self(Compress::new(Compression::fast(), false))
        }

        fn message(&mut self, plain: &[u8]) -> Vec<u8> {
            let mut out = Vec::with_capacity(plain.len() + 1024);
            self.0
                .compress_vec(plain, &mut out, FlushCompress::Sync)
                .unwrap();
            assert!(out.ends_with(&LEFT_OUT));
            out.truncate(out.len() - 4);
            out
        }
    }

    /// Frames of a message: `cuts` says where it is divided.
    fn frames(payload: &[u8], compressed: bool, cuts: &[usize], mask: Option<[u8; 4]>) -> Vec<u8> {
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (payload.len() + 1)).collect();
        places.extend([0, payload.len()]);
        places.sort_unstable();
        let parts: Vec<&[u8]> = places
            .windows(2)
            .map(|pair| &payload[pair[0]..pair[1]])
            .collect();
        let mut out = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            let opcode = if number == 0 {
                Opcode::Text
            } else {
                Opcode::Continuation
            };
            let mut bytes = frame(opcode, part, mask);
            if number + 1 < parts.len() {
                bytes[0] &= 0x7f;
            }
            if number == 0 && compressed {
                bytes[0] |= 0x40;
            }
            out.write_all(&bytes).unwrap();
            out.write_all(&frame(Opcode::Ping, b"p", mask)).unwrap();
        }
        out
    }

    fn read(bytes: &[u8], sender: Sender, chunk: usize) -> (Vec<Content>, usize) {
        let mut messages = Messages::new(sender, true, NONE);
        let (mut contents, mut controls) = (Vec::new(), 0);
        for chunk in bytes.chunks(chunk) {
            let mut rest = chunk;
            loop {
                let (count, passed) = messages.take(rest).unwrap();
                rest = &rest[count..];
                match passed {
                    Passed::Within => break,
                    Passed::Control(_) => controls += 1,
                    Passed::Frame => assert!(messages.in_message()),
                    Passed::Message => {
                        assert!(!messages.in_message());
                        contents.push(messages.content());
                    },
                }
            }
            assert!(rest.is_empty());
        }
        (contents, controls)
    }

    proptest! {
        #[test]
        fn messages_are_read_whatever_their_frames_chunks_masks_and_compression(
            texts in prop::collection::vec("[a-c{}\":]{0,300}", 1..5),
            cuts in prop::collection::vec(any::<usize>(), 0..4),
            mask: Option<[u8; 4]>,
            compressed in prop::collection::vec(any::<bool>(), 5),
            chunk in 1_usize..70,
        ) {
            let sender = if mask.is_some() { Sender::Client } else { Sender::Server };
            let mut deflate = Deflate::new();
            let mut bytes = Vec::new();
            for (text, compressed) in texts.iter().zip(&compressed) {
                let payload = if *compressed {
                    deflate.message(text.as_bytes())
                } else {
                    text.clone().into_bytes()
                };
                bytes.extend(frames(&payload, *compressed, &cuts, mask));
            }
            let (contents, controls) = read(&bytes, sender, chunk);
            let expected: Vec<_> = texts.iter()
                .map(|text| Content::Whole(text.clone().into_bytes()))
                .collect();
            prop_assert_eq!(contents, expected);
            prop_assert_eq!(controls, texts.len() * (cuts.len() + 1));
        }

        #[test]
        fn garbage_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), client: bool) {
            let sender = if client { Sender::Client } else { Sender::Server };
            let mut messages = Messages::new(sender, true, NONE);
            let mut rest = &bytes[..];
            while let Ok((count, passed)) = messages.take(rest) {
                rest = &rest[count..];
                match passed {
                    Passed::Within => break,
                    Passed::Message => drop(messages.content()),
                    _ => {},
                }
            }
        }
    }

    #[test]
    fn a_message_too_large_to_keep_is_scanned_for_what_is_wanted() {
        let text = format!(r#"{{"audio":"{}","type":"x"}}"#, "A".repeat(3 << 20));
        let mut deflate = Deflate::new();
        // The compressed one is random enough not to be a bomb.
        for (payload, compressed) in [
            (text.clone().into_bytes(), false),
            (
                {
                    let mut random = fastrand::Rng::with_seed(7);
                    let noise: String = (0..3 << 20).map(|_| random.alphanumeric()).collect();
                    deflate.message(format!(r#"{{"audio":"{noise}","type":"x"}}"#).as_bytes())
                },
                true,
            ),
        ] {
            let bytes = frames(&payload, compressed, &[], None);
            let (contents, _) = read(&bytes, Sender::Server, 10_000);
            let [Content::Reduced(reduced)] = &contents[..] else {
                panic!("{contents:?}");
            };
            assert_eq!(reduced.document, br#"{"type":"x"}"#);
        }
    }

    #[test]
    fn a_bomb_is_left_unread_and_so_is_all_that_may_refer_to_it() {
        let mut deflate = Deflate::new();
        let bomb = deflate.message(&vec![b'a'; 4 << 20]);
        let after = deflate.message(b"{}");
        let mut bytes = frames(&bomb, true, &[], None);
        bytes.extend(frames(&after, true, &[], None));
        bytes.extend(frames(b"{}", false, &[], None));
        let (contents, _) = read(&bytes, Sender::Server, 1_000);
        let plain = Content::Whole(b"{}".to_vec());
        assert_eq!(contents, [Content::Unread, Content::Unread, plain]);
    }
}
