//! Takes the chunked transfer coding off a stream of bytes, wherever they were cut.

use std::io;

/// Where the decoder stands.
#[derive(Default)]
pub(crate) struct Chunked {
    place: Place,
    /// Bytes left of this chunk, and the size line read so far.
    left: usize,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Place {
    #[default]
    Size,
    Data,
    /// In the line end after a chunk.
    Gap,
    /// In the line end after the last one.
    Last,
    End,
}

impl Chunked {
    /// Moves the content of `wire` to `content`. True once the last chunk has been read.
    pub(crate) fn decode(&mut self, mut wire: &[u8], content: &mut Vec<u8>) -> io::Result<bool> {
        while let Some((&byte, rest)) = wire.split_first() {
            if self.place != Place::Data {
                self.step(byte)?;
                wire = rest;
                continue;
            }
            let (data, rest) = wire.split_at(self.left.min(wire.len()));
            content.extend_from_slice(data);
            wire = rest;
            self.left -= data.len();
            self.place = if self.left == 0 {
                Place::Gap
            } else {
                Place::Data
            };
        }
        Ok(self.place == Place::End)
    }

    /// One byte of what is not content.
    fn step(&mut self, byte: u8) -> io::Result<()> {
        self.place = match (self.place, byte) {
            (Place::Size, b'\n') if self.left == 0 => Place::Last,
            (Place::Size, b'\n') => Place::Data,
            (Place::Size, b'\r') | (Place::Gap, b'\n') => Place::Size,
            (Place::Size, _) => {
                let digit = char::from(byte).to_digit(16);
                let digit = digit.ok_or_else(|| io::Error::other("a chunk without a size"))?;
                self.left = self.left * 16 + usize::try_from(digit).unwrap_or(0);
                Place::Size
            },
            (Place::Last, b'\n') => Place::End,
            (Place::End, _) => return Err(io::Error::other("bytes after the answer")),
            (place, _) => place,
        };
        Ok(())
    }
}
