//! Segments: the files of a spool. Each line of one is a checksum and a span's line, so that any
//! tool can read it, and what is damaged ends at the next line's end.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// The checksum's digits, and a space.
const HEAD: usize = 9;

/// What ends the names of segments, and of those that are set aside.
pub(super) const KIND: &str = "seg";
pub(super) const BAD: &str = "bad";

/// Appends `line` as it stands in a segment.
pub(super) fn put(out: &mut Vec<u8>, line: &str) {
    out.extend_from_slice(format!("{:08x} ", crc32fast::hash(line.as_bytes())).as_bytes());
    out.extend_from_slice(line.as_bytes());
    out.push(b'\n');
}

/// How many bytes it takes there.
pub(super) const fn length(line: &str) -> usize {
    HEAD + line.len() + 1
}

/// One line of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// The span's line; none: damaged.
    pub(super) line: Option<&'a str>,
    /// Where it ends, the line's end included, from the beginning of the bytes.
    pub(super) end: usize,
}

/// The whole lines in `bytes`; what has no line's end is not one of them.
pub(super) fn entries(bytes: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut from = 0;
    memchr::memchr_iter(b'\n', bytes).map(move |at| {
        let text = bytes.get(from..at).unwrap_or_default();
        from = at + 1;
        Entry {
            line: checked(text),
            end: from,
        }
    })
}

fn checked(text: &[u8]) -> Option<&str> {
    let (head, line) = std::str::from_utf8(text).ok()?.split_at_checked(HEAD)?;
    let sum = u32::from_str_radix(head.strip_suffix(' ')?, 16).ok()?;
    // Only the digits that we write: a sign or capitals are damage too.
    let same = crc32fast::hash(line.as_bytes()) == sum && head == format!("{sum:08x} ");
    same.then_some(line)
}

/// The files in `dir` that end so, by number, the oldest first.
///
/// # Errors
/// The directory cannot be read.
pub(super) fn list(dir: &Path, kind: &str) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let stem = name.to_str().and_then(|name| name.rsplit_once('.'));
        let number = stem.and_then(|(stem, found)| {
            let number = stem.parse::<u64>().ok();
            number.filter(|_| found == kind)
        });
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Where the file of that number is.
pub(super) fn path(dir: &Path, number: u64, kind: &str) -> PathBuf {
    dir.join(format!("{number:08}.{kind}"))
}

/// Creates a segment, for appending, for nobody else to read.
///
/// # Errors
/// It cannot be created, or is there already.
pub(super) fn create(dir: &Path, number: u64) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(path(dir, number, KIND))
}

/// The bytes of a segment from `from` on, at most up to `to`.
///
/// # Errors
/// It cannot be read.
pub(super) fn read(dir: &Path, number: u64, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path(dir, number, KIND))?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(to.saturating_sub(from)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_put_is_read_and_one_wrong_byte_costs_two_lines_at_most(
            lines in prop::collection::vec("[^\n]{0,20}", 1..6),
            wrong in 1_u8..=255,
        ) {
            let mut bytes = Vec::new();
            for line in &lines {
                put(&mut bytes, line);
            }
            prop_assert_eq!(bytes.len(), lines.iter().map(|line| length(line)).sum::<usize>());
            let read: Vec<_> = entries(&bytes).map(|entry| entry.line.unwrap()).collect();
            prop_assert_eq!(&read, &lines);
            for place in 0..bytes.len() {
                let mut bytes = bytes.clone();
                bytes[place] ^= wrong;
                let good = entries(&bytes).filter_map(|entry| entry.line).count();
                prop_assert!(good < lines.len() && good + 2 >= lines.len());
            }
        }
    }
}
