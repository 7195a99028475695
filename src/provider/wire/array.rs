//! A stream that is one JSON array, an object at a time, as Gemini's is unless it was asked for
//! events. A single object (an error) is read as if it were the only one.

use memchr::memchr2;

/// Finds the ends of an array's objects. What stands between two of them belongs to the second,
/// so that no object waits for a comma; what follows the last up to the closing bracket is a piece
/// of its own that holds nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Splitter {
    /// Brackets and braces that are open, the array's own among them.
    depth: u64,
    /// The array's own bracket is open.
    in_array: bool,
    /// That bracket was closed.
    over: bool,
    in_string: bool,
    /// The last byte was a backslash in a string.
    escaped: bool,
}

impl Splitter {
    /// The offset in `chunk` just after the next object's end, or the array's.
    pub(super) fn next(&mut self, chunk: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(byte) = chunk.get(at) {
            if self.in_string && !self.escaped {
                let rest = chunk.get(at..).unwrap_or_default();
                let run = memchr2(b'"', b'\\', rest)?;
                self.escaped = rest.get(run) == Some(&b'\\');
                self.in_string = self.escaped;
                at += run + 1;
                continue;
            }
            at += 1;
            if std::mem::take(&mut self.escaped) {
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'[' if self.depth == 0 => {
                    self.in_array = true;
                    self.depth = 1;
                },
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.closes() => return Some(at),
                _ => {},
            }
        }
        None
    }

    /// Closes the innermost of what is open: whether that was an object of the array, or the array.
    const fn closes(&mut self) -> bool {
        self.depth = self.depth.saturating_sub(1);
        if self.depth == 0 {
            self.over |= self.in_array;
            self.in_array = false;
        }
        self.depth == self.in_array as u64
    }

    /// Whether the array has been closed.
    pub(super) const fn is_over(&self) -> bool {
        self.over
    }
}

/// The object in a piece; `None` if there is none.
pub(super) fn parse(piece: &[u8]) -> Option<&[u8]> {
    let piece = piece.strip_prefix(b"\xef\xbb\xbf").unwrap_or(piece);
    let piece = piece.trim_ascii();
    let object = match piece {
        [b'[' | b',', object @ ..] => object.trim_ascii_start(),
        object => object,
    };
    (!matches!(object, b"" | b"]")).then_some(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(stream: &[u8], size: usize) -> (Vec<String>, Vec<u8>) {
        let (mut splitter, mut piece, mut found) = (Splitter::default(), Vec::new(), Vec::new());
        for chunk in stream.chunks(size) {
            let mut rest = chunk;
            while let Some(end) = splitter.next(rest) {
                piece.extend_from_slice(&rest[..end]);
                found.extend(parse(&piece).map(|object| String::from_utf8_lossy(object).into()));
                piece.clear();
                rest = &rest[end..];
            }
            piece.extend_from_slice(rest);
        }
        (found, piece)
    }

    #[test]
    fn each_object_ends_with_its_brace_wherever_the_chunks_end() {
        let stream =
            "\u{feff}[{\n \"a\": \"}],\\\"{\"\n}\n,\r\n{\"b\":[{},[1]]},{}\n]\n".as_bytes();
        for size in 1..=stream.len() {
            let (found, rest) = objects(stream, size);
            let expected = ["{\n \"a\": \"}],\\\"{\"\n}", "{\"b\":[{},[1]]}", "{}"];
            assert_eq!(found, expected, "chunks of {size}");
            assert_eq!(parse(&rest), None);
        }
        let mut splitter = Splitter::default();
        splitter.next(b"[{}");
        assert!(!splitter.is_over());
        splitter.next(b"\n]");
        assert!(splitter.is_over());
    }

    #[test]
    fn an_object_alone_is_the_only_one_and_an_empty_array_holds_none() {
        assert_eq!(objects(b" {\"error\":{}} ", 3).0, ["{\"error\":{}}"]);
        assert_eq!(objects(b"[ ]", 1).0, [""; 0]);
    }

    #[test]
    fn what_is_no_object_is_handed_on_as_it_stands() {
        assert_eq!(objects(b"[1, \"a\"]", 100).0, ["1, \"a\"]"]);
        assert_eq!(parse(b"<html>"), Some(&b"<html>"[..]));
    }
}
