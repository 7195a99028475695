//! `gzip` and `deflate`.

use crc32fast::Hasher;
use flate2::{Decompress, FlushDecompress, Status};

use super::{GaveUp, STEP, Sink};

/// Decodes a body that arrives in chunks.
#[derive(Debug)]
pub(super) struct Inflate {
    stage: Stage,
    /// Of what the present gzip member holds.
    sum: Hasher,
}

#[derive(Debug)]
enum Stage {
    /// At a gzip member's header.
    Header(Header),
    /// Before the first two bytes of a deflated body, which tell its kind; the first if known.
    Kind(Option<u8>),
    /// In compressed data, behind which a gzip member's trailer comes.
    Data {
        inflate: Decompress,
        has_trailer: bool,
    },
    /// In a gzip member's trailer: checksum and length.
    Trailer { at: usize, sum: u32 },
    /// Behind a deflated body.
    Done,
}

impl Inflate {
    /// RFC 1952.
    pub(super) fn gzip() -> Self {
        Self {
            stage: Stage::Header(Header::default()),
            sum: Hasher::new(),
        }
    }

    /// RFC 1950 as the name says, or RFC 1951 as some servers have it.
    pub(super) fn deflate() -> Self {
        Self {
            stage: Stage::Kind(None),
            sum: Hasher::new(),
        }
    }

    /// Decodes a chunk.
    pub(super) fn feed(&mut self, chunk: &[u8], sink: Sink<'_>) -> Result<(), GaveUp> {
        let mut rest = chunk;
        while let [first, tail @ ..] = rest {
            rest = if matches!(self.stage, Stage::Data { .. }) {
                self.inflate(rest, sink)?
            } else {
                self.step(*first, sink)?;
                tail
            };
        }
        Ok(())
    }

    /// Whether the body may end here.
    pub(super) const fn is_whole(&self) -> bool {
        match &self.stage {
            Stage::Header(header) => header.at == 0,
            Stage::Kind(first) => first.is_none(),
            Stage::Done => true,
            Stage::Data { .. } | Stage::Trailer { .. } => false,
        }
    }

    /// Takes a byte outside of compressed data.
    fn step(&mut self, byte: u8, sink: Sink<'_>) -> Result<(), GaveUp> {
        match &mut self.stage {
            Stage::Header(header) => {
                if header.take(byte)? {
                    self.stage = Stage::Data {
                        inflate: Decompress::new(false),
                        has_trailer: true,
                    };
                }
            },
            Stage::Kind(first @ None) => *first = Some(byte),
            Stage::Kind(Some(first)) => {
                let start = [*first, byte];
                let has_header = *first & 0x0f == 8 && u16::from_be_bytes(start).is_multiple_of(31);
                self.stage = Stage::Data {
                    inflate: Decompress::new(has_header),
                    has_trailer: false,
                };
                self.inflate(&start, sink)?;
            },
            Stage::Trailer { at, sum } => {
                if *at < 4 {
                    *sum = (*sum >> 8) | (u32::from(byte) << 24);
                }
                *at += 1;
                let (at, sum) = (*at, *sum);
                if at == 4 && std::mem::take(&mut self.sum).finalize() != sum {
                    return Err(GaveUp::Damaged);
                }
                if at == 8 {
                    self.stage = Stage::Header(Header::default());
                }
            },
            Stage::Data { .. } | Stage::Done => return Err(GaveUp::Damaged),
        }
        Ok(())
    }

    /// Decodes to the end of the data or of `input`, and returns what is behind.
    fn inflate<'a>(&mut self, input: &'a [u8], sink: Sink<'_>) -> Result<&'a [u8], GaveUp> {
        let mut rest = input;
        let mut out = [0; STEP];
        while let Stage::Data {
            inflate,
            has_trailer,
        } = &mut self.stage
        {
            let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
            let status = inflate
                .decompress(rest, &mut out, FlushDecompress::None)
                .map_err(|_damage| GaveUp::Damaged)?;
            let taken = usize::try_from(inflate.total_in() - before_in).unwrap_or(usize::MAX);
            let made = usize::try_from(inflate.total_out() - before_out).unwrap_or(0);
            let is_gzip = *has_trailer;
            if status == Status::StreamEnd {
                self.stage = if is_gzip {
                    Stage::Trailer { at: 0, sum: 0 }
                } else {
                    Stage::Done
                };
            }
            let made = out.get(..made).unwrap_or_default();
            if is_gzip {
                self.sum.update(made);
            }
            sink(made)?;
            rest = rest.get(taken..).unwrap_or_default();
            if taken == 0 && made.is_empty() {
                break;
            }
        }
        let is_stuck = matches!(self.stage, Stage::Data { .. }) && !rest.is_empty();
        if is_stuck {
            return Err(GaveUp::Damaged);
        }
        Ok(rest)
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
