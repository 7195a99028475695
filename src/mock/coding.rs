//! Content codings: an answer's pieces compressed.

use std::{collections::VecDeque, io::Write};

use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};

use super::{
    behaviour::Encoding,
    reply::{Piece, write},
};

/// The pieces compressed as one body, flushed after each, so that each can be read as it comes.
pub(super) fn encoded(pieces: &VecDeque<Piece>, encoding: Encoding) -> VecDeque<Piece> {
    let level = Compression::fast();
    match encoding {
        Encoding::Gzip => squeeze(GzEncoder::new(Vec::new(), level), pieces),
        Encoding::Deflate => squeeze(ZlibEncoder::new(Vec::new(), level), pieces),
        Encoding::Brotli => squeeze(Brotli::default(), pieces),
        Encoding::Zstd => zstd::Encoder::new(Vec::new(), 1)
            .map(|encoder| squeeze(encoder, pieces))
            .unwrap_or_default(), // Only for want of memory.
    }
}

/// An encoder that writes into a vector; so its writes do not fail.
trait Squeeze: Write {
    /// What it has written since the last call.
    fn take(&mut self) -> Vec<u8>;
    /// Ends the body, and gives what [`Squeeze::take`] did not.
    fn end(self) -> Vec<u8>;
}

macro_rules! squeeze {
    ($($encoder:ty),*) => {$(
        impl Squeeze for $encoder {
            fn take(&mut self) -> Vec<u8> {
                std::mem::take(self.get_mut())
            }

            fn end(self) -> Vec<u8> {
                self.finish().unwrap_or_default()
            }
        }
    )*};
}
squeeze!(
    GzEncoder<Vec<u8>>,
    ZlibEncoder<Vec<u8>>,
    zstd::Encoder<'static, Vec<u8>>
);

/// `br` without compression, so that it takes no encoder: blocks of bytes as they are (RFC 7932,
/// section 9.2).
#[derive(Debug, Default)]
struct Brotli {
    out: Vec<u8>,
    begun: bool,
}

impl Brotli {
    /// Bytes of a block.
    const BLOCK: usize = 1 << 15;

    /// The bits that come next; before the first ones stands the window's size, a zero.
    fn bits(&mut self, bits: u32) -> [u8; 4] {
        let begun = std::mem::replace(&mut self.begun, true);
        (bits << u32::from(!begun)).to_le_bytes()
    }
}

impl Write for Brotli {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for block in bytes.chunks(Self::BLOCK) {
            // Not the last, four digits of length less one, and it is not compressed.
            let length = u32::try_from(block.len()).unwrap_or(1).saturating_sub(1);
            let header = self.bits((length << 3) | (1 << 19));
            self.out.extend(header.iter().take(3));
            self.out.extend_from_slice(block);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Squeeze for Brotli {
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn end(mut self) -> Vec<u8> {
        // The last block, which is empty.
        let [end, ..] = self.bits(0b11);
        self.out.push(end);
        self.out
    }
}

fn squeeze(mut encoder: impl Squeeze, pieces: &VecDeque<Piece>) -> VecDeque<Piece> {
    let mut out = VecDeque::new();
    for piece in pieces {
        if write(&mut encoder, piece).is_ok() {
            out.push_back(Piece::Bytes(encoder.take().into()));
        }
    }
    out.push_back(Piece::Bytes(encoder.end().into()));
    out.retain(|piece| piece.len() > 0);
    out
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn brotli_that_is_not_compressed_is_brotli() {
        for size in [0, 1, Brotli::BLOCK, 3 * Brotli::BLOCK + 7] {
            let plain: Vec<u8> = (0..=255).cycle().take(size).collect();
            let pieces = encoded(
                &[Piece::Bytes(plain.clone().into())].into(),
                Encoding::Brotli,
            );
            let mut coded = Vec::new();
            for piece in &pieces {
                write(&mut coded, piece).unwrap();
            }
            let mut read = Vec::new();
            brotli_decompressor::Decompressor::new(&coded[..], 4096)
                .read_to_end(&mut read)
                .unwrap();
            assert_eq!(read, plain);
        }
    }
}
