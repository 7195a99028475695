//! The inside of a JSON string: where it ends, and how much text it stands for.

use memchr::memchr2;

use crate::call::text::Text;

/// A string from behind its opening quote to before its closing one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quoted<'a> {
    /// What stands between the quotes, as it is spelt.
    pub(super) inner: &'a [u8],
    /// Whether it has escapes.
    pub(super) is_escaped: bool,
}

impl<'a> Quoted<'a> {
    /// The string that begins at `from`; `None` if it has no end.
    pub(super) fn read(raw: &'a [u8], from: usize) -> Option<Self> {
        let mut at = from;
        let mut is_escaped = false;
        loop {
            at = quote_or_backslash(raw, at)?;
            if raw.get(at) == Some(&b'"') {
                let inner = raw.get(from..at)?;
                return Some(Self { inner, is_escaped });
            }
            is_escaped = true;
            at += 2;
        }
    }

    /// The text that it stands for. A lone half of a surrogate pair, which some servers send when
    /// they cut a text between two events, counts as half the pair.
    pub(super) fn text(self) -> Text {
        let spelt = Text::of(self.inner);
        if !self.is_escaped {
            return spelt;
        }
        let (mut spelling, mut meaning) = (Text::default(), Text::default());
        let mut rest = self.inner;
        while let Some(at) = memchr::memchr(b'\\', rest) {
            spelling.bytes += 1;
            rest = rest.get(at + 1..).unwrap_or_default();
            let taken = match rest {
                [b'u', digits @ ..] if let Some(text) = escaped(digits) => {
                    spelling += Text::of(rest.get(..5).unwrap_or_default());
                    meaning += text;
                    5
                },
                [letter, ..] => {
                    spelling.bytes += 1;
                    spelling.plain += u64::from(letter.is_ascii_lowercase());
                    meaning.bytes += 1;
                    1
                },
                [] => 0,
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        let resolved = Text {
            bytes: spelt.bytes.saturating_sub(spelling.bytes),
            plain: spelt.plain.saturating_sub(spelling.plain),
            wide: spelt.wide,
        };
        resolved + meaning
    }
}

/// The text that four hexadecimal digits stand for; `None` if they are none.
fn escaped(digits: &[u8]) -> Option<Text> {
    let digits = digits.first_chunk::<4>()?;
    let code = digits.iter().try_fold(0, |code, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(code * 16 + digit)
    })?;
    Some(char::from_u32(code).map_or(Text::unknown(2), |char| {
        Text::of(char.encode_utf8(&mut [0; 4]).as_bytes())
    }))
}

/// The next quote or backslash, from `from` on. Most strings are short: the first bytes are looked
/// at eight at a time, without a call.
fn quote_or_backslash(raw: &[u8], from: usize) -> Option<usize> {
    const NEAR: usize = 4;
    let rest = raw.get(from..)?;
    let (words, _) = rest.as_chunks::<8>();
    for (place, word) in words.iter().take(NEAR).enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = has(word, b'"') | has(word, b'\\');
        if found != 0 {
            let within = usize::try_from(found.trailing_zeros() / 8).ok()?;
            return Some(from + place * 8 + within);
        }
    }
    let seen = words.len().min(NEAR) * 8;
    memchr2(b'"', b'\\', rest.get(seen..)?).map(|at| from + seen + at)
}

/// The high bit of every byte of `word` that is `byte`, and perhaps of bytes above the lowest one.
const fn has(word: u64, byte: u8) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let differs = word ^ (ONES * byte as u64);
    differs.wrapping_sub(ONES) & !differs & (ONES << 7)
}
