//! Compressed bodies, decoded on a copy for the meter. The bytes that pass stay as they are.
//!
//! It gives up at [`Decoder::MAX_BYTES`] of output, or where the output is more than
//! [`Decoder::MAX_RATIO`] times the input: that is a bomb, not an answer. Checksums are not
//! checked: the client will do that.

use flate2::{Decompress, FlushDecompress, Status};

/// How a body is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Not at all.
    #[default]
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950 as the name says, or RFC 1951 as some servers have it.
    Deflate,
}

impl Encoding {
    /// From the value of `content-encoding`; `None` for one that cannot be decoded here.
    pub fn from_header(value: &str) -> Option<Self> {
        let value = value.trim();
        let is = |name: &str| value.eq_ignore_ascii_case(name);
        if is("gzip") || is("x-gzip") {
            Some(Self::Gzip)
        } else if is("deflate") {
            Some(Self::Deflate)
        } else {
            (is("identity") || value.is_empty()).then_some(Self::Identity)
        }
    }
}

/// Why a body is not read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GaveUp {
    /// The bytes are not what the header says.
    #[error("the compressed body is damaged")]
    Damaged,
    /// More came out than an answer has.
    #[error("the compressed body holds more than {} MiB", Decoder::MAX_BYTES >> 20)]
    TooLarge,
    /// Far more came out than went in.
    #[error(
        "the compressed body holds more than {} times its size",
        Decoder::MAX_RATIO
    )]
    Bomb,
}

/// Decodes a body that arrives in chunks, each as far as it goes: nothing is held back.
#[derive(Debug)]
pub struct Decoder {
    stage: Stage,
    read: u64,
    written: u64,
}

#[derive(Debug)]
enum Stage {
    Plain,
    /// At a gzip member's header.
    Header(Header),
    /// In compressed data, behind which a trailer of so many bytes comes.
    Data {
        inflate: Decompress,
        trailer: usize,
    },
    /// In a gzip member's trailer, with so many bytes to come.
    Trailer(usize),
    /// Before the first two bytes of a deflated body, which tell its kind; the first if known.
    Kind(Option<u8>),
    Done,
    Failed(GaveUp),
}

impl Decoder {
    /// The most bytes that are decoded.
    pub const MAX_BYTES: u64 = 64 << 20;
    /// The most that is decoded for each byte of input.
    pub const MAX_RATIO: u64 = 200;
    /// Below so many decoded bytes the ratio does not matter.
    const RATIO_FROM: u64 = 1 << 20;
    /// How much is decoded at a time.
    const STEP: usize = 16 * 1024;

    /// A decoder of a body so encoded.
    pub fn new(encoding: Encoding) -> Self {
        Self {
            stage: match encoding {
                Encoding::Identity => Stage::Plain,
                Encoding::Gzip => Stage::Header(Header::default()),
                Encoding::Deflate => Stage::Kind(None),
            },
            read: 0,
            written: 0,
        }
    }

    /// Decodes a chunk and hands what is in it to `sink`, in pieces.
    ///
    /// # Errors
    /// Why it gave up; `sink` has what came before. Every later call says the same.
    pub fn feed(&mut self, chunk: &[u8], sink: &mut impl FnMut(&[u8])) -> Result<(), GaveUp> {
        let mut rest = chunk;
        while !rest.is_empty() {
            rest = match self.advance(rest, sink) {
                Ok(rest) => rest,
                Err(reason) => {
                    self.stage = Stage::Failed(reason);
                    return Err(reason);
                },
            };
        }
        Ok(())
    }

    /// Takes some of `input` and returns the rest of it.
    fn advance<'a>(
        &mut self,
        input: &'a [u8],
        sink: &mut impl FnMut(&[u8]),
    ) -> Result<&'a [u8], GaveUp> {
        let (first, tail) = input.split_first().ok_or(GaveUp::Damaged)?;
        match &mut self.stage {
            Stage::Plain => {
                sink(input);
                return Ok(&[]);
            },
            Stage::Done => return Ok(&[]),
            Stage::Failed(reason) => return Err(*reason),
            Stage::Data { .. } => return self.inflate(input, sink),
            Stage::Header(header) => {
                if header.take(*first)? {
                    self.stage = Stage::Data {
                        inflate: Decompress::new(false),
                        trailer: 8,
                    };
                }
            },
            Stage::Trailer(1) => self.stage = Stage::Header(Header::default()),
            Stage::Trailer(left) => *left -= 1,
            Stage::Kind(None) => self.stage = Stage::Kind(Some(*first)),
            Stage::Kind(Some(byte)) => {
                let start = [*byte, *first];
                let has_header = *byte & 0x0f == 8 && u16::from_be_bytes(start) % 31 == 0;
                self.stage = Stage::Data {
                    inflate: Decompress::new(has_header),
                    trailer: 0,
                };
                self.inflate(&start, sink)?;
            },
        }
        self.read += 1;
        Ok(tail)
    }

    fn inflate<'a>(
        &mut self,
        input: &'a [u8],
        sink: &mut impl FnMut(&[u8]),
    ) -> Result<&'a [u8], GaveUp> {
        let mut rest = input;
        let mut out = [0; Self::STEP];
        while let Stage::Data { inflate, trailer } = &mut self.stage {
            let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
            let status = inflate
                .decompress(rest, &mut out, FlushDecompress::None)
                .map_err(|_damage| GaveUp::Damaged)?;
            let taken = inflate.total_in() - before_in;
            let made = inflate.total_out() - before_out;
            if status == Status::StreamEnd {
                self.stage = Stage::behind_data(*trailer);
            }
            self.read += taken;
            self.written += made;
            let end = usize::try_from(made).unwrap_or(0);
            sink(out.get(..end).unwrap_or_default());
            self.check()?;
            let start = usize::try_from(taken).unwrap_or(usize::MAX);
            rest = rest.get(start..).unwrap_or_default();
            if taken == 0 && made == 0 {
                break;
            }
        }
        let is_stuck = matches!(self.stage, Stage::Data { .. }) && !rest.is_empty();
        if is_stuck {
            return Err(GaveUp::Damaged);
        }
        Ok(rest)
    }

    const fn check(&self) -> Result<(), GaveUp> {
        if self.written > Self::MAX_BYTES {
            return Err(GaveUp::TooLarge);
        }
        let allowed = self.read.saturating_mul(Self::MAX_RATIO);
        if self.written > Self::RATIO_FROM && self.written > allowed {
            return Err(GaveUp::Bomb);
        }
        Ok(())
    }
}

impl Stage {
    const fn behind_data(trailer: usize) -> Self {
        match trailer {
            0 => Self::Done,
            bytes => Self::Trailer(bytes),
        }
    }
}

/// A gzip member's header while it is read.
#[derive(Clone, Copy, Debug, Default)]
struct Header {
    at: usize,
    flags: u8,
    /// The length of the extra field, as far as it is known.
    extra: usize,
}

impl Header {
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    const CHECKSUM: u8 = 2;

    /// Takes the next byte; whether it was the last.
    fn take(&mut self, byte: u8) -> Result<bool, GaveUp> {
        const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
        let at = self.at;
        self.at += 1;
        match at {
            0..3 if MAGIC.get(at) != Some(&byte) => return Err(GaveUp::Damaged),
            3 => self.flags = byte,
            0..10 => {},
            _ => self.take_optional(at, byte),
        }
        let left = Self::EXTRA | Self::NAME | Self::COMMENT | Self::CHECKSUM;
        Ok(self.at >= 10 && self.flags & left == 0)
    }

    /// Takes a byte of the optional fields, in their order; a flag is cleared with its field's end.
    fn take_optional(&mut self, at: usize, byte: u8) {
        if self.flags & Self::EXTRA != 0 {
            match at {
                10 => self.extra = usize::from(byte),
                11 => self.extra |= usize::from(byte) << 8,
                _ => {},
            }
            if at >= 11 && at - 11 == self.extra {
                self.flags &= !Self::EXTRA;
            }
        } else if self.flags & Self::NAME != 0 {
            self.clear_if(byte == 0, Self::NAME);
        } else if self.flags & Self::COMMENT != 0 {
            self.clear_if(byte == 0, Self::COMMENT);
        } else {
            // Two bytes: the first clears nothing, so it is remembered in the extra length.
            let is_second = self.extra == usize::MAX;
            self.extra = usize::MAX;
            self.clear_if(is_second, Self::CHECKSUM);
        }
    }

    const fn clear_if(&mut self, ended: bool, flag: u8) {
        if ended {
            self.flags &= !flag;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{
        Compression, GzBuilder,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };
    use proptest::prelude::*;

    use super::*;

    fn decode(encoding: Encoding, bytes: &[u8], size: usize) -> (Vec<u8>, Result<(), GaveUp>) {
        let mut decoder = Decoder::new(encoding);
        let mut plain = Vec::new();
        for chunk in bytes.chunks(size) {
            let fed = decoder.feed(chunk, &mut |piece| plain.extend_from_slice(piece));
            if fed.is_err() {
                return (plain, fed);
            }
        }
        (plain, Ok(()))
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(plain: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn raw(plain: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    proptest! {
        #[test]
        fn every_encoding_gives_back_what_went_in(
            plain in prop::collection::vec(0_u8..4, 0..2000), size in 1_usize..300,
        ) {
            let expected = (plain.clone(), Ok(()));
            prop_assert_eq!(decode(Encoding::Identity, &plain, size), expected.clone());
            prop_assert_eq!(decode(Encoding::Gzip, &gzip(&plain), size), expected.clone());
            prop_assert_eq!(decode(Encoding::Deflate, &zlib(&plain), size), expected.clone());
            prop_assert_eq!(decode(Encoding::Deflate, &raw(&plain), size), expected);
        }

        #[test]
        fn garbage_is_given_up_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let headed = [&gzip(b"x")[..10], &*bytes].concat();
            let _decoded = (decode(Encoding::Gzip, &bytes, 7), decode(Encoding::Gzip, &headed, 7));
            let _decoded = decode(Encoding::Deflate, &bytes, 7);
        }
    }

    #[test]
    fn a_header_with_every_field_and_a_second_member_are_read() {
        let mut encoder = GzBuilder::new()
            .extra(vec![0, 1, 2])
            .filename("name")
            .comment("comment")
            .write(Vec::new(), Compression::default());
        encoder.write_all(b"one ").unwrap();
        let mut bytes = encoder.finish().unwrap();
        bytes[3] |= Header::CHECKSUM;
        let header = 10 + 2 + 3 + 5 + 8;
        bytes.splice(header..header, [7, 7]);
        bytes.extend(gzip(b"two"));
        for size in [1, 3, 1000] {
            assert_eq!(
                decode(Encoding::Gzip, &bytes, size),
                (b"one two".to_vec(), Ok(()))
            );
        }
    }

    #[test]
    fn what_was_flushed_is_read_before_the_rest_comes() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"data: x\n\n").unwrap();
        encoder.flush().unwrap();
        let first = encoder.get_ref().clone();
        assert_eq!(decode(Encoding::Gzip, &first, 1000).0, b"data: x\n\n");
    }

    #[test]
    fn a_bomb_is_given_up_early_and_stays_given_up() {
        let bomb = gzip(&vec![0; 80 << 20]);
        let mut decoder = Decoder::new(Encoding::Gzip);
        let mut plain = 0;
        assert_eq!(
            decoder.feed(&bomb, &mut |piece| plain += piece.len()),
            Err(GaveUp::Bomb)
        );
        assert!(plain < 40 << 20, "{plain}");
        assert_eq!(decoder.feed(b"x", &mut |_| ()), Err(GaveUp::Bomb));
    }

    #[test]
    fn damage_is_told_apart() {
        assert_eq!(
            decode(Encoding::Gzip, b"{\"not\":\"gzip\"}", 100).1,
            Err(GaveUp::Damaged)
        );
        let mut bytes = gzip(b"x");
        // A kind of block that there is not.
        bytes[10] = 0xff;
        assert_eq!(decode(Encoding::Gzip, &bytes, 100).1, Err(GaveUp::Damaged));
    }

    #[test]
    fn headers_are_read_in_any_case_and_unknown_encodings_are_not_guessed() {
        assert_eq!(Encoding::from_header(" GZip "), Some(Encoding::Gzip));
        assert_eq!(Encoding::from_header(""), Some(Encoding::Identity));
        assert_eq!(Encoding::from_header("br"), None);
        assert_eq!(Encoding::from_header("gzip, br"), None);
    }
}
