//! How much text there is, by what tokenizers make of it.
//!
//! No text has more tokens than bytes, but prose has far fewer. What a tokenizer has words for is
//! counted apart from what it may have to spell byte by byte, so that what was learned from prose
//! is never taken for a number, a key or an emoji.

use std::{
    iter::Sum,
    ops::{Add, AddAssign},
};

/// An amount of text. Adds up: cut in pieces anywhere between two characters, a text has the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// All of its bytes.
    pub bytes: u64,
    /// Those that are small letters of the Latin alphabet, or spaces.
    pub plain: u64,
    /// Those of characters in the other common scripts: Latin with accents, Greek, Cyrillic, Hebrew,
    /// Arabic, Chinese, Japanese and Korean.
    pub wide: u64,
}

impl Text {
    /// Text of which nothing but its length is known.
    pub const fn unknown(bytes: u64) -> Self {
        Self {
            bytes,
            plain: 0,
            wide: 0,
        }
    }

    /// The amount in `text`, which is UTF-8; where it is not, what is amiss counts as bytes.
    pub fn of(text: &[u8]) -> Self {
        if let Some(plain) = in_short(text) {
            return Self {
                plain,
                ..Self::unknown(u64::try_from(text.len()).unwrap_or(u64::MAX))
            };
        }
        let wide = if text.is_ascii() {
            0
        } else {
            2 * count(text, |byte| matches!(byte, 0xc3..=0xd9))
                + 3 * count(text, |byte| matches!(byte, 0xe3..=0xed))
        };
        let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let plain = count(text, |byte| matches!(byte, b'a'..=b'z' | b' '));
        Self {
            bytes,
            plain,
            wide: wide.min(bytes.saturating_sub(plain)),
        }
    }

    /// Bytes that are neither: digits, capitals, punctuation, line ends, rare scripts, emoji. Any of
    /// them may be a token.
    pub const fn hard(self) -> u64 {
        self.bytes
            .saturating_sub(self.plain)
            .saturating_sub(self.wide)
    }
}

/// The plain bytes of a short text of ASCII; `None`: it is none. Most strings of a request are short,
/// and to get ready for a long one takes longer than to count eight bytes at a time.
fn in_short(text: &[u8]) -> Option<u64> {
    const SHORT: usize = 64;
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    if text.len() > SHORT {
        return None;
    }
    let (words, rest) = text.as_chunks::<8>();
    // Filled up with zeros, which are not plain.
    let rest = rest
        .iter()
        .rfold(0, |word, byte| word << 8 | u64::from(*byte));
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let mut plain = 0;
    for word in words.chain([rest]) {
        if word & HIGH != 0 {
            return None;
        }
        // Each byte is below 128, so that none carries into the next: the high bit tells.
        let from_a = word + ONES * u64::from(128 - b'a');
        let above_z = word + ONES * u64::from(127 - b'z');
        let no_space = (word ^ (ONES * u64::from(b' '))) + ONES * 127;
        let found = ((from_a & !above_z) | !no_space) & HIGH;
        plain += (found >> 7).wrapping_mul(ONES) >> 56;
    }
    Some(plain)
}

/// How many of `text` are `wanted`. In runs short enough for a byte to count, many at a time.
fn count(text: &[u8], wanted: impl Fn(u8) -> bool) -> u64 {
    text.chunks(usize::from(u8::MAX))
        .map(|run| {
            let found = run.iter().fold(0_u8, |found, byte| {
                found.wrapping_add(u8::from(wanted(*byte)))
            });
            u64::from(found)
        })
        .sum()
}

impl Add for Text {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            plain: self.plain.saturating_add(other.plain),
            wide: self.wide.saturating_add(other.wide),
        }
    }
}

impl AddAssign for Text {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Text {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prose_is_plain_and_what_may_be_spelt_out_is_hard() {
        let hard = |text: &str| Text::of(text.as_bytes()).hard();
        assert_eq!(hard("the quick brown fox"), 0);
        assert_eq!(hard("31415926"), 8);
        assert_eq!(hard("{\n}"), 3);
        assert_eq!(hard("zażółć gęślą"), 0);
        assert_eq!(hard("мир 世界 かな 한국"), 0);
        // Ethiopic, an emoji, and what is no UTF-8.
        assert_eq!(hard("ሰላም"), 9);
        assert_eq!(hard("\u{1f984}"), 4);
        assert_eq!(
            Text::of(&[0xff, 0xe4]).hard(),
            0,
            "never more than there is"
        );
        let long = "a".repeat(1_000);
        assert_eq!(Text::of(long.as_bytes()).plain, 1_000);
    }

    proptest! {
        #[test]
        fn short_texts_count_as_long_ones_do(text in prop::collection::vec(any::<u8>(), 0..80)) {
            let plain = count(&text, |byte| matches!(byte, b'a'..=b'z' | b' '));
            prop_assert_eq!(Text::of(&text).plain, plain);
            let ascii: Vec<u8> = text.iter().map(|byte| byte & 127).collect();
            let plain = count(&ascii, |byte| matches!(byte, b'a'..=b'z' | b' '));
            prop_assert_eq!(Text::of(&ascii).plain, plain);
        }

        #[test]
        fn the_pieces_of_a_text_add_up(text in ".{0,300}", at in 0_usize..300) {
            let cut = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            let (head, tail) = text.split_at(cut);
            let (head, tail) = (Text::of(head.as_bytes()), Text::of(tail.as_bytes()));
            let whole = Text::of(text.as_bytes());
            prop_assert_eq!(head + tail, whole);
            prop_assert_eq!(whole.plain + whole.wide + whole.hard(), whole.bytes);
        }
    }
}
