//! Text on a terminal: how wide it is, and how it is cut to fit.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// The columns that `text` takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// `text`, cut at its end with `…` if it is wider than `room` columns.
pub fn cut_end(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    match room.checked_sub(1) {
        Some(room) => format!("{}…", beginning(text.chars(), room)),
        None => String::new(),
    }
}

/// `text`, cut in its middle with `…` if it is wider than `room` columns: of names that differ in
/// their last part, that part is still seen.
pub fn cut_middle(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let Some(room) = room.checked_sub(1) else {
        return String::new();
    };
    let end: String = beginning(text.chars().rev(), room / 2);
    let begin = beginning(text.chars(), room - room / 2);
    format!("{begin}…{}", end.chars().rev().collect::<String>())
}

/// The first letters that take no more than `room` columns.
fn beginning(letters: impl Iterator<Item = char>, room: usize) -> String {
    let mut taken = 0_usize;
    letters
        .take_while(|letter| {
            taken += letter.width().unwrap_or(0);
            taken <= room
        })
        .collect()
}

/// `text`, filled up with spaces to `room` columns, behind it or before it.
pub fn filled(text: &str, room: usize, side: Side) -> String {
    let spaces = " ".repeat(room.saturating_sub(width(text)));
    match side {
        Side::Left => format!("{text}{spaces}"),
        Side::Right => format!("{spaces}{text}"),
    }
}

/// Where text stands in its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where words stand.
    Left,
    /// Where numbers stand.
    Right,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_fits_is_left_and_the_rest_is_cut() {
        assert_eq!(cut_end("gpt-4o", 6), "gpt-4o");
        assert_eq!(cut_end("gpt-4o-mini", 6), "gpt-4…");
        assert_eq!(cut_middle("calls/user=alice", 9), "call…lice");
        assert_eq!(cut_middle("per_user", 1), "…");
        assert_eq!(cut_middle("per_user", 0), "");
        assert_eq!(filled("価格", 6, Side::Left), "価格  ");
        assert_eq!(filled("7", 3, Side::Right), "  7");
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_its_room(text in "[a-zé価☺ ]*", room in 0_usize..20) {
            prop_assert!(width(&cut_end(&text, room)) <= room);
            prop_assert!(width(&cut_middle(&text, room)) <= room);
        }
    }
}
