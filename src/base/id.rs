//! Identifiers: making, parsing and printing them.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use super::clock::Timestamp;

/// A byte as two lower-case hexadecimal digits.
pub fn hex(byte: u8) -> [u8; 2] {
    [byte >> 4, byte & 15].map(|digit| {
        if digit < 10 {
            b'0' + digit
        } else {
            b'a' + digit - 10
        }
    })
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex_text(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| hex(*byte));
    digits.map(char::from).collect()
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// From its bytes.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub const fn bytes(self) -> [u8; $bytes] {
                self.0
            }
        }

        impl $name {
            /// Its digits: lower-case hexadecimal, as it is printed.
            pub fn digits(self) -> [u8; $bytes * 2] {
                let mut text = [0_u8; $bytes * 2];
                for (pair, byte) in text.as_chunks_mut().0.iter_mut().zip(self.0) {
                    *pair = hex(byte);
                }
                text
            }
        }

        /// Lower-case hexadecimal.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(std::str::from_utf8(&self.digits()).unwrap_or_default())
            }
        }

        /// Accepts hexadecimal of exactly the right length that is not all zeros.
        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let mut bytes = [0_u8; $bytes];
                if text.len() != $bytes * 2 {
                    return Err(InvalidId);
                }
                for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                    for digit in pair {
                        let digit = char::from(*digit).to_digit(16).ok_or(InvalidId)?;
                        *byte = (*byte << 4) | u8::try_from(digit).unwrap_or(0);
                    }
                }
                if bytes == [0; $bytes] { Err(InvalidId) } else { Ok(Self(bytes)) }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

hex_id!(
    /// A W3C trace id: 16 bytes, printed as 32 hex digits.
    TraceId,
    16
);
hex_id!(
    /// A W3C span id: 8 bytes, printed as 16 hex digits.
    SpanId,
    8
);
hex_id!(
    /// Names one call through Tollgate (`x-tollgate-request-id`). Laid out as a UUID of version 7
    /// (RFC 9562), so that ids sort by time; printed as 32 hex digits.
    RequestId,
    16
);

/// The text is not an identifier of the expected length, or it is all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid identifier: expected hexadecimal digits of the right length, not all zero")]
pub struct InvalidId;

impl TraceId {
    /// A random id.
    pub fn random() -> Self {
        Self(fastrand::u128(1..).to_be_bytes())
    }
}

impl SpanId {
    /// A random id.
    pub fn random() -> Self {
        Self(fastrand::u64(1..).to_be_bytes())
    }
}

impl RequestId {
    /// Of what is no call.
    pub const NONE: Self = Self([0; 16]);

    /// A new id for a call that arrived at `now`.
    pub fn new(now: Timestamp) -> Self {
        let millis = u128::from(now.as_micros() / 1_000) & 0xffff_ffff_ffff;
        let random = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) & (u128::MAX >> 48);
        Self(((millis << 80) | (0x7 << 76) | (0x2 << 62) | random).to_be_bytes())
    }

    /// When the call arrived, to the millisecond.
    pub fn time(self) -> Timestamp {
        let millis = u64::try_from(u128::from_be_bytes(self.0) >> 80).unwrap_or(u64::MAX);
        Timestamp::from_nanos(millis.saturating_mul(1_000_000))
    }

    /// The lowest and the highest id that begin with these hexadecimal digits.
    ///
    /// # Errors
    /// There are none or too many digits, or others.
    pub fn starting_with(digits: &str) -> Result<[Self; 2], InvalidId> {
        let all_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if digits.is_empty() || digits.len() > 32 || !all_hex {
            return Err(InvalidId);
        }
        let bound = |fill: &str| {
            let text = format!("{digits}{}", fill.repeat(32 - digits.len()));
            u128::from_str_radix(&text, 16).map_err(|_invalid| InvalidId)
        };
        Ok([bound("0")?, bound("f")?].map(|id| Self(id.to_be_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_parsed() {
        let id = TraceId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        let id = SpanId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn zeros_short_text_and_other_characters_are_refused() {
        for text in [
            "0000000000000000",
            "12",
            "zzzzzzzzzzzzzzzz",
            "12345678901234é",
        ] {
            assert_eq!(text.parse::<SpanId>(), Err(InvalidId), "{text}");
        }
    }

    #[test]
    fn the_beginning_of_a_request_id_bounds_it() {
        let id = RequestId::new(Timestamp::from_nanos(1_795_328_714_017_417_999));
        assert_eq!(id.time(), Timestamp::from_nanos(1_795_328_714_017_000_000));
        for length in 1..=32 {
            let beginning: String = id.to_string().chars().take(length).collect();
            let [from, to] = RequestId::starting_with(&beginning).unwrap();
            assert!(from <= id && id <= to);
        }
        let [from, to] = RequestId::starting_with("01").unwrap();
        assert_eq!(from.to_string(), format!("01{}", "0".repeat(30)));
        assert_eq!(to.to_string(), format!("01{}", "f".repeat(30)));
        for wrong in ["", "xyz", "-1", &"0".repeat(33)] {
            assert_eq!(RequestId::starting_with(wrong), Err(InvalidId));
        }
    }

    #[test]
    fn request_ids_sort_by_time_and_are_version_7() {
        let early = RequestId::new(Timestamp::from_secs(1_000_000));
        let late = RequestId::new(Timestamp::from_secs(1_000_001));
        assert!(early < late);
        assert_eq!(early.to_string().chars().nth(12), Some('7'));
    }
}
