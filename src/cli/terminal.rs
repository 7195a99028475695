//! The terminal that a command writes to.

use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;

use crate::{base::text::width as columns, config::Sources};

/// The columns of the terminal that `out` is. Where it is none, `COLUMNS` counts, which `watch`
/// sets; else there is no limit.
pub(super) fn width(out: impl AsFd) -> Option<usize> {
    let terminal = tcgetwinsize(out).map_or(0, |size| usize::from(size.ws_col));
    let variable = || (Sources::SYSTEM.variable)("COLUMNS")?.parse().ok();
    let columns = Some(terminal).filter(|columns| *columns > 0);
    columns.or_else(variable).filter(|columns| *columns > 0)
}

/// Lines of at most `room` columns, if no word is longer.
pub(super) fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if columns(line) + 1 + columns(word) <= room => {
                line.push(' ');
                line.push_str(word);
            },
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_between_words() {
        let text = "one two three four";
        assert_eq!(wrapped(text, 9), ["one two", "three", "four"]);
        assert_eq!(wrapped("incomprehensible", 4), ["incomprehensible"]);
        assert!(wrapped(" ", 4).is_empty());
    }
}
