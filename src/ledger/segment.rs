//! Segments: the journal's files, and how records stand in them. A frame is a mark, the payload's
//! length, a checksum over both and the payload. Reading goes on behind what is damaged, at the
//! next frame that is whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

const MARK: u8 = 0xA7;
/// Mark, length and checksum.
const HEAD: usize = 1 + 4 + 4;
/// The longest payload in bytes; a longer one is damage.
const LONGEST: usize = 1 << 20;

/// Appends a frame to `out`, whose payload `fill` writes. False if it is too long; `out` is then
/// as it was.
pub(super) fn frame(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) -> bool {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    fill(out);
    let Some((head, payload)) = out
        .get_mut(start..)
        .and_then(|frame| frame.split_at_mut_checked(HEAD))
    else {
        return false;
    };
    match u32::try_from(payload.len()) {
        Ok(length) if payload.len() <= LONGEST => {
            let length = length.to_le_bytes();
            let sum = checksum(length, payload).to_le_bytes();
            let bytes = [MARK].into_iter().chain(length).chain(sum);
            for (place, byte) in head.iter_mut().zip(bytes) {
                *place = byte;
            }
            true
        },
        _ => {
            out.truncate(start);
            false
        },
    }
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&length);
    sum.update(payload);
    sum.finalize()
}

/// The frame at the beginning of `bytes`: its payload, and what follows it.
fn first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mark, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let size = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if *mark != MARK || size > LONGEST {
        return None;
    }
    let (payload, rest) = rest.split_at_checked(size)?;
    (checksum(*length, payload) == u32::from_le_bytes(*sum)).then_some((payload, rest))
}

/// Whether `bytes` may begin a frame that goes on behind them.
fn is_unfinished(bytes: &[u8]) -> bool {
    let Some((mark, rest)) = bytes.split_first() else {
        return false;
    };
    let size = rest.first_chunk().map(|length| u32::from_le_bytes(*length));
    let size = size.map_or(Ok(0), usize::try_from);
    *mark == MARK && size.is_ok_and(|size| size <= LONGEST && bytes.len() < HEAD + size)
}

/// The payloads in a segment's bytes, in order, and what could not be read.
#[derive(Debug)]
pub(super) struct Frames<'a> {
    rest: &'a [u8],
    length: usize,
    /// Where the first damage begins that a whole frame follows.
    pub(super) hole: Option<u64>,
    /// Where the damage begins that no whole frame follows: once all is read, the torn end.
    pub(super) torn: Option<u64>,
    /// Bytes that belong to no whole frame: damage, or a torn end.
    pub(super) damaged: u64,
    /// More bytes follow that are not here.
    goes_on: bool,
}

impl<'a> Frames<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            length: bytes.len(),
            hole: None,
            torn: None,
            damaged: 0,
            goes_on: false,
        }
    }

    /// Of bytes that others follow: reading stops at a frame that goes on behind them. What is in
    /// that frame is no frame, whatever it looks like: callers choose part of it.
    pub(super) fn of_piece(bytes: &'a [u8]) -> Self {
        Self {
            goes_on: true,
            ..Self::of(bytes)
        }
    }

    /// How many bytes were not read.
    pub(super) fn unread(&self) -> u64 {
        u64::try_from(self.rest.len()).unwrap_or(u64::MAX)
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            if let Some((payload, rest)) = first(self.rest) {
                self.rest = rest;
                let damage = self.torn.take();
                self.hole = self.hole.or(damage);
                return Some(payload);
            }
            if self.goes_on && is_unfinished(self.rest) {
                return None;
            }
            let (_, rest) = self.rest.split_first()?;
            let at = self.length - self.rest.len();
            self.torn = self.torn.or_else(|| u64::try_from(at).ok());
            let next = memchr::memchr(MARK, rest).unwrap_or(rest.len());
            self.damaged += 1 + u64::try_from(next).unwrap_or(0);
            self.rest = rest.get(next..).unwrap_or_default();
        }
    }
}

/// The segments in `dir`, by number, the oldest first.
///
/// # Errors
/// The directory cannot be read.
pub(super) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(".log"))
            .and_then(|number| number.parse::<u64>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Where segment `number` is.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:012}.log"))
}

/// Creates segment `number`, for appending, for nobody else to read.
///
/// # Errors
/// It cannot be created, or is there already.
pub(super) fn create(dir: &Path, number: u64) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(path(dir, number))
}

/// The bytes of segment `number` from `from` on, at most up to `to`; nothing if it is gone.
///
/// # Errors
/// It cannot be read.
pub(super) fn read(dir: &Path, number: u64, from: u64, to: Option<u64>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = match File::open(path(dir, number)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(bytes),
        Err(error) => return Err(error),
    };
    file.seek(SeekFrom::Start(from))?;
    let length = to.map_or(u64::MAX, |to| to.saturating_sub(from));
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for payload in payloads {
            assert!(frame(&mut bytes, |out| out.extend_from_slice(payload)));
        }
        bytes
    }

    #[test]
    fn a_frame_that_is_too_long_is_not_written() {
        let mut bytes = framed(&[vec![1]]);
        let before = bytes.clone();
        assert!(!frame(&mut bytes, |out| out.resize(out.len() + LONGEST + 1, 0)));
        assert_eq!(bytes, before);
    }

    proptest! {
        #[test]
        fn a_cut_loses_only_the_frame_that_it_cuts(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
        ) {
            let bytes = framed(&payloads);
            for cut in 0..=bytes.len() {
                let whole = payloads.iter().scan(0, |end, payload| {
                    *end += HEAD + payload.len();
                    Some(*end)
                });
                let whole = whole.filter(|end| *end <= cut).count();
                let mut frames = Frames::of(&bytes[..cut]);
                let read: Vec<_> = frames.by_ref().map(<[u8]>::to_vec).collect();
                prop_assert_eq!(&read[..], &payloads[..whole]);
                let end: usize = read.iter().map(|payload| HEAD + payload.len()).sum();
                let torn = (end < cut).then(|| u64::try_from(end).unwrap());
                prop_assert_eq!((frames.hole, frames.torn), (None, torn));
            }
        }

        #[test]
        fn pieces_hold_what_the_whole_does(
            inner in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..4),
            outer in prop::collection::vec(any::<u8>(), 0..20),
            piece in 200_usize..300,
        ) {
            // A payload that looks like frames itself.
            let inner = framed(&inner);
            let payloads = [outer.clone(), inner, outer];
            let bytes = framed(&payloads);
            let (mut rest, mut read) = (&bytes[..], Vec::new());
            for end in 1..piece {
                let end = end.min(rest.len());
                let mut frames = if end < rest.len() {
                    Frames::of_piece(&rest[..end])
                } else {
                    Frames::of(rest)
                };
                read.extend(frames.by_ref().map(<[u8]>::to_vec));
                prop_assert_eq!(frames.damaged, 0);
                rest = &rest[end - usize::try_from(frames.unread()).unwrap()..];
            }
            prop_assert_eq!(&read[..], &payloads[..]);
        }

        #[test]
        fn a_wrong_byte_loses_only_its_own_frame(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
            wrong in 1_u8..=255,
        ) {
            let bytes = framed(&payloads);
            for place in 0..bytes.len() {
                let mut bytes = bytes.clone();
                bytes[place] ^= wrong;
                let mut end = 0;
                let damaged = payloads.iter().position(|payload| {
                    end += HEAD + payload.len();
                    place < end
                });
                let damaged = damaged.unwrap();
                let mut left = payloads.clone();
                left.remove(damaged);
                let mut frames = Frames::of(&bytes);
                let read: Vec<_> = frames.by_ref().map(<[u8]>::to_vec).collect();
                prop_assert_eq!(read, left);
                let before = payloads.iter().take(damaged);
                let start: usize = before.map(|payload| HEAD + payload.len()).sum();
                let start = Some(u64::try_from(start).unwrap());
                let last = damaged == payloads.len() - 1;
                let found = if last { (None, start) } else { (start, None) };
                prop_assert_eq!((frames.hole, frames.torn), found);
            }
        }
    }
}
