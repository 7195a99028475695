//! Takes the results of a batch apart while they pass: a file of JSON lines, or a document with a list
//! of answers. Lines that hold no object are not kept, so that any other file costs no memory.

use memchr::memchr;

use crate::provider::wire::items::Items;

/// The largest line that is kept in order to read it, in bytes; a larger one is left out.
const MAX_LINE: usize = 8 * 1024 * 1024;

/// The file so far.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The answers are items of a list.
    items: Option<Items>,
    /// The beginning of the line that has not ended.
    begun: Vec<u8>,
    /// The rest of this line is passed over.
    skips: bool,
    /// Lines that were too large to read.
    too_large: u64,
}

impl Lines {
    /// A line each; or, if they are in one document, in the list of that name.
    pub(super) fn of(list: Option<&'static str>) -> Self {
        Self {
            items: list.map(|list| Items::new(list, MAX_LINE)),
            ..Self::default()
        }
    }

    /// Takes in a chunk; `read` is called with each line that ends in it and may hold an object.
    pub(super) fn take(&mut self, mut chunk: &[u8], mut read: impl FnMut(&[u8])) {
        if let Some(items) = &mut self.items {
            return items.take(chunk, read);
        }
        while let Some(end) = memchr(b'\n', chunk) {
            let (line, rest) = chunk.split_at(end + 1);
            if self.begun.is_empty() && !self.skips {
                if begins(line) == Some(b'{') {
                    read(line);
                }
            } else {
                self.go_on(line);
                self.end(&mut read);
            }
            self.skips = false;
            chunk = rest;
        }
        self.go_on(chunk);
    }

    /// The file has ended: a line without an end is read as if it had one.
    pub(super) fn end(&mut self, mut read: impl FnMut(&[u8])) {
        if begins(&self.begun) == Some(b'{') {
            read(&self.begun);
        }
        // Not cleared: what one long line took is not kept for the short ones.
        self.begun = Vec::new();
    }

    /// How many lines were too large to read.
    pub(super) fn too_large(&self) -> u64 {
        let items = self.items.as_ref().map_or(0, Items::too_large);
        self.too_large + items
    }

    fn go_on(&mut self, piece: &[u8]) {
        if self.skips {
            return;
        }
        let grown = self.begun.len() + piece.len();
        if grown > MAX_LINE {
            self.too_large += 1;
        }
        let is_other = self.begun.is_empty() && begins(piece).is_some_and(|first| first != b'{');
        if grown > MAX_LINE || is_other {
            self.begun = Vec::new();
            self.skips = true;
        } else if !self.begun.is_empty() || begins(piece).is_some() {
            self.begun.extend_from_slice(piece);
        }
    }
}

/// What a line begins with, white space and a byte order mark aside.
fn begins(line: &[u8]) -> Option<u8> {
    let mut bytes = line.iter().copied();
    bytes.find(|byte| !byte.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(file: &[u8], size: usize) -> Vec<Vec<u8>> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        let mut keep = |line: &[u8]| found.push(line.trim_ascii().to_vec());
        for chunk in file.chunks(size) {
            lines.take(chunk, &mut keep);
        }
        lines.end(&mut keep);
        found
    }

    #[test]
    fn objects_are_found_whatever_stands_between_them() {
        let file = b"{\"a\":1}\r\nPDF\x00\x01\n\n{\"b\":2}\n[3]\n{\"c\":4}";
        let expected: [&[u8]; 3] = [b"{\"a\":1}", b"{\"b\":2}", b"{\"c\":4}"];
        for size in 1..=file.len() {
            assert_eq!(lines(file, size), expected, "{size}");
        }
    }

    #[test]
    fn a_line_that_is_too_large_is_left_out_and_counted() {
        let mut lines = Lines::default();
        let mut found = 0;
        let mut read = |_: &[u8]| found += 1;
        lines.take(b"{\"a\":\"", &mut read);
        for _ in 0..9 {
            lines.take(&vec![b'x'; 1024 * 1024], &mut read);
        }
        assert!(lines.begun.is_empty());
        lines.take(b"\"}\n{\"b\":1}\n", &mut read);
        assert_eq!((found, lines.too_large()), (1, 1));
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(file in "[{}a\n ]{0,60}", size in 1_usize..20) {
            prop_assert_eq!(lines(file.as_bytes(), size), lines(file.as_bytes(), usize::MAX));
        }
    }
}
