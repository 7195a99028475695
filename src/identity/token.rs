//! The secret that a client shows: `tg_`, 43 random letters and digits, and 6 that tell a slip of
//! the pen from a key that nobody gave out.

use std::fmt;

use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom as _, SystemRandom},
};
use serde::{Deserialize, Serialize};

use crate::base::{
    id::hex_text,
    secret::{Secret, same},
};

/// What every key begins with.
const PREFIX: &str = "tg_";
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Random characters: 62^43 is a little more than 2^256.
const RANDOM: usize = 43;
/// Characters of the checksum: 62^6 is more than 2^32.
const CHECK: usize = 6;

/// Makes a key.
///
/// # Errors
/// The system gives no random numbers.
pub fn mint() -> Result<Secret, NoRandomness> {
    let mut body = String::with_capacity(RANDOM);
    let random = SystemRandom::new();
    let mut bytes = [0; 64];
    while body.len() < RANDOM {
        random
            .fill(&mut bytes)
            .map_err(|_unspecified| NoRandomness)?;
        // What is beyond the last whole alphabet would make some letters more likely.
        let letters = bytes.iter().filter(|byte| usize::from(**byte) < 4 * 62);
        let letters = letters.filter_map(|byte| ALPHABET.get(usize::from(*byte) % 62));
        let missing = RANDOM - body.len();
        body.extend(letters.take(missing).copied().map(char::from));
    }
    let check = checksum(&body);
    Ok(Secret::new(format!("{PREFIX}{body}{check}")))
}

/// The system gives no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomness;

/// Whether `text` is meant to be a key of ours.
pub fn is_like_one(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// Whether `text` is as [`mint`] makes them. If not, it was mistyped or cut short.
pub(super) fn is_whole(text: &str) -> bool {
    let parts = text
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_at_checked(RANDOM));
    parts.is_some_and(|(body, check)| checksum(body) == check)
}

/// Whether a whole key stands anywhere in `bytes`.
pub fn is_in(bytes: &[u8]) -> bool {
    const LENGTH: usize = PREFIX.len() + RANDOM + CHECK;
    let found = memchr::memmem::find_iter(bytes, PREFIX);
    let mut keys = found.filter_map(|at| bytes.get(at..at.saturating_add(LENGTH)));
    keys.any(|key| std::str::from_utf8(key).is_ok_and(is_whole))
}

/// The CRC-32 of the random part, in the same letters.
fn checksum(body: &str) -> String {
    let mut left = crc32fast::hash(body.as_bytes());
    let mut check = [b'0'; CHECK];
    for place in check.iter_mut().rev() {
        let letter = usize::try_from(left % 62).unwrap_or_default();
        *place = ALPHABET.get(letter).copied().unwrap_or(b'0');
        left /= 62;
    }
    check.iter().copied().map(char::from).collect()
}

/// The SHA-256 of a key: what is kept of it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of a key.
    pub fn of(key: &str) -> Self {
        let mut bytes = [0; 32];
        let hash = digest(&SHA256, key.as_bytes());
        bytes.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| {
            *to = *from;
        });
        Self(bytes)
    }

    /// Whether both are the same, in a time that does not depend on where they differ.
    pub(super) fn is(&self, other: &Self) -> bool {
        same(&self.0, &other.0)
    }

    /// The first bytes, by which keys are told apart in a map.
    pub(super) fn place(&self) -> u64 {
        let first = self.0.first_chunk().copied().unwrap_or_default();
        u64::from_be_bytes(first)
    }
}

/// 64 hexadecimal digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex_text(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parse = || {
            let mut bytes = [0; 32];
            let mut rest = text.as_str();
            for byte in &mut bytes {
                let (digits, after) = rest.split_at_checked(2)?;
                let hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                *byte = u8::from_str_radix(digits, 16).ok().filter(|_| hex)?;
                rest = after;
            }
            rest.is_empty().then_some(Self(bytes))
        };
        parse().ok_or("a SHA-256 has 64 hexadecimal digits")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_differ_are_whole_and_stand_anywhere_in_a_url() {
        let keys: Vec<Secret> = (0..100).map(|_| mint().unwrap()).collect();
        for (index, key) in keys.iter().enumerate() {
            let text = key.expose();
            assert_eq!(text.len(), PREFIX.len() + RANDOM + CHECK);
            assert!(is_like_one(text) && is_whole(text), "{text}");
            let letters = text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
            assert!(letters, "{text}");
            assert!(keys.iter().skip(index + 1).all(|other| other != key));
        }
    }

    #[test]
    fn every_letter_is_used() {
        let keys: String = (0..200)
            .map(|_| mint().unwrap().expose().to_owned())
            .collect();
        let unused = ALPHABET
            .iter()
            .find(|letter| !keys.contains(char::from(**letter)));
        assert_eq!(unused, None);
    }

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let digest = Digest::of("tg_");
        let text = String::from(digest);
        let first = text.chars().next().unwrap();
        assert_eq!(Digest::try_from(text.clone()), Ok(digest));
        for wrong in [
            text.trim_start_matches(first),
            &format!("{text}0"),
            &text.replace(first, "+"),
            "é",
        ] {
            assert!(Digest::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn one_wrong_letter_or_a_missing_end_is_told(at in 3_usize..52, letter in "[0-9A-Za-z]") {
            let key = mint().unwrap().expose().to_owned();
            prop_assert!(!is_whole(key.split_at(at).0));
            let mut wrong = key.clone();
            wrong.replace_range(at..=at, &letter);
            prop_assert_eq!(is_whole(&wrong), wrong == key);
            prop_assert!(is_in(["tg_", &key, "!"].concat().as_bytes()));
            prop_assert!(!is_in(&key.as_bytes()[..at]));
        }

        #[test]
        fn any_text_can_be_looked_at(text in ".*") {
            let _either_way = is_whole(&text);
            let _either_way = is_whole(&format!("tg_{text}"));
        }
    }
}
