//! Text that must not be shown: keys, tokens, addresses with passwords in them.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// A secret. Never printed, never serialised, wiped from memory when dropped.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes the text over.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The text, for the one place that sends it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether `offered` is this secret, in a time that does not depend on where they differ.
    pub fn is(&self, offered: &[u8]) -> bool {
        same(self.expose().as_bytes(), offered)
    }
}

/// Whether both are the same bytes, in a time that does not depend on where they differ.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    // Every byte is compared; a differing length is no secret.
    let pairs = one.iter().zip(other);
    let differences = pairs.fold(0_u8, |seen, (a, b)| seen | (a ^ b));
    std::hint::black_box(differences) == 0 && one.len() == other.len()
}

/// Always `[secret]`.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.expose().as_bytes())
    }
}

impl Eq for Secret {}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_secret_is_the_secret() {
        let secret = Secret::new("open sesame");
        assert!(secret.is(b"open sesame"));
        for offered in ["", "open", "open sesame ", "open sesamf", "Open sesame"] {
            assert!(!secret.is(offered.as_bytes()), "{offered}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret::new("hush")), "[secret]");
    }
}
