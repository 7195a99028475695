//! How far a spool is delivered: one line of fixed length, written over at its place.

use std::{fs::File, io, os::unix::fs::FileExt as _};

/// How far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The first segment that is not all delivered.
    pub(super) segment: u64,
    /// How many of its bytes are.
    pub(super) offset: u64,
}

/// It is not as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

impl Cursor {
    /// Two numbers of twenty digits and their checksum.
    pub(super) fn text(self) -> String {
        let numbers = format!("{:020} {:020}", self.segment, self.offset);
        format!("{numbers} {:08x}\n", crc32fast::hash(numbers.as_bytes()))
    }

    /// What the file says; the beginning if it is empty.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn read(file: &File) -> io::Result<Result<Self, Damaged>> {
        let mut text = [0; 51];
        let mut length = 0;
        while let Some(rest) = text.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, u64::try_from(length).unwrap_or(u64::MAX))? {
                0 => break,
                more => length += more,
            }
        }
        let text = text.get(..length).unwrap_or_default();
        if text.is_empty() {
            return Ok(Ok(Self::default()));
        }
        let cursor = std::str::from_utf8(text).ok().and_then(Self::parse);
        Ok(cursor.ok_or(Damaged))
    }

    fn parse(text: &str) -> Option<Self> {
        let (segment, rest) = text.split_once(' ')?;
        let cursor = Self {
            segment: segment.parse().ok()?,
            offset: rest.split_once(' ')?.0.parse().ok()?,
        };
        (cursor.text() == text).then_some(cursor)
    }
}
