//! JSON lines: an object a line. `Ollama` and `Cohere` (v1) stream so.

use memchr::memchr;

/// The offset in `chunk` just after the next line's end.
pub(super) fn next(chunk: &[u8]) -> Option<usize> {
    memchr(b'\n', chunk).map(|at| at + 1)
}

/// What stands on a line; `None` if nothing does.
pub(super) fn parse(line: &[u8]) -> Option<&[u8]> {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    Some(line.trim_ascii()).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_with_its_line_feed_and_white_space_is_nothing() {
        assert_eq!(next(b"{\"a\":1}\r\n{"), Some(9));
        assert_eq!(next(b"{\"a\":\r1}"), None);
        assert_eq!(parse(b"\xef\xbb\xbf{\"a\":1}\r\n"), Some(&b"{\"a\":1}"[..]));
        assert_eq!(parse(b" \r\n"), None);
    }
}
