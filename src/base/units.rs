//! Byte sizes and durations as people write them: `4MiB`, `256Mi`, `30s`, `1h30m`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The units of a byte size, each with its bytes. Kubernetes' spellings are among them.
const SIZES: [(&str, u64); 19] = [
    ("", 1),
    ("B", 1),
    ("k", 1_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("M", 1_000_000),
    ("MB", 1_000_000),
    ("G", 1_000_000_000),
    ("GB", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("Ki", 1 << 10),
    ("KiB", 1 << 10),
    ("Mi", 1 << 20),
    ("MiB", 1 << 20),
    ("Gi", 1 << 30),
    ("GiB", 1 << 30),
    ("Ti", 1 << 40),
    ("TiB", 1 << 40),
];

/// The units that a byte size is shown in, the largest that divides it without a rest.
const SHOWN_SIZES: [&str; 8] = ["TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB", "kB"];

/// The units of a duration, each with its nanoseconds, the largest first.
const TIMES: [(&str, u64); 8] = [
    ("w", 604_800_000_000_000),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// A number of bytes. In a configuration: a number of bytes, or a number and a unit of `B kB MB GB
/// TB KiB MiB GiB TiB`, or of Kubernetes' `k M G T Ki Mi Gi Ti`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

impl ByteSize {
    /// From bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// From kibibytes (1024 bytes), saturating.
    pub const fn kib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 10))
    }

    /// From mebibytes (1024 KiB), saturating.
    pub const fn mib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 20))
    }

    /// From gibibytes (1024 MiB), saturating.
    pub const fn gib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 30))
    }

    /// In bytes.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// In bytes, for lengths in memory; saturates where addresses have 32 bits.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Exact, in the largest unit that leaves no rest: `4MiB`, `1MB`, `1025B`.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = SHOWN_SIZES
            .iter()
            .filter_map(|shown| SIZES.iter().find(|(unit, _)| unit == shown))
            .find(|(_, scale)| self.0 != 0 && self.0.is_multiple_of(*scale));
        match fits {
            Some((unit, scale)) => write!(f, "{}{unit}", self.0 / scale),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// The text is not a byte size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a byte size: expected a number and B, kB, MB, GB, KiB, MiB or GiB, like 4MiB"
)]
pub struct InvalidSize(String);

impl FromStr for ByteSize {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let parse = || {
            let (number, unit) = split_number(text.trim())?;
            let (_, scale) = SIZES.iter().find(|(name, _)| *name == unit.trim())?;
            scaled(number, *scale).map(Self)
        };
        parse().ok_or_else(|| InvalidSize(text.to_owned()))
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text {
            parse: Self::from_str,
            what: "a byte size like 4MiB, or a number of bytes",
        })
    }
}

/// The text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: expected a number and ms, s, m, h, d or w, like 30s or 1h30m")]
pub struct InvalidDuration(String);

/// Reads `250ms`, `30s`, `5m`, `1.5h`, `1h30m`, `30d`; a bare number is seconds. Units are `ns us
/// ms s m h d w`. At most about 584 years.
///
/// # Errors
/// Anything else.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let parse = || {
        let mut rest = text.trim();
        if let Some(nanos) = scaled(rest, 1_000_000_000) {
            return Some(nanos);
        }
        let mut total = 0_u64;
        while !rest.is_empty() {
            let (number, after) = split_number(rest)?;
            let end = after
                .find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(after.len());
            let (unit, after) = after.split_at_checked(end)?;
            let (_, scale) = TIMES.iter().find(|(name, _)| *name == unit)?;
            total = total.checked_add(scaled(number, *scale)?)?;
            rest = after;
        }
        (!text.trim().is_empty()).then_some(total)
    };
    parse()
        .map(Duration::from_nanos)
        .ok_or_else(|| InvalidDuration(text.to_owned()))
}

/// A duration as [`parse_duration`] reads it, exact, in the largest unit that leaves no rest:
/// `30s`, `90m`, `250ms`.
pub fn show_duration(duration: Duration) -> impl fmt::Display {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let fits = TIMES
        .iter()
        .filter(|(unit, _)| *unit != "w")
        .find(|(_, scale)| nanos != 0 && nanos.is_multiple_of(*scale));
    fits.map_or_else(
        || "0s".to_owned(),
        |(unit, scale)| format!("{}{unit}", nanos / scale),
    )
}

/// For a field of type [`Duration`]: `#[serde(with = "crate::base::units::duration")]`.
pub mod duration {
    use super::{Deserializer, Duration, Serializer, Text, parse_duration, show_duration};

    /// Writes it as text, exact.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&show_duration(*value))
    }

    /// Reads a number of seconds, or text as [`parse_duration`] does.
    ///
    /// # Errors
    /// Anything else.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_any(Text {
            parse: parse_duration,
            what: "a duration like 30s, or a number of seconds",
        })
    }
}

/// For a field of type `Option<Duration>`, with `#[serde(default, with =
/// "crate::base::units::optional_duration")]`; null is none.
pub mod optional_duration {
    use super::{Deserialize, Deserializer, Duration, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Wrapped(#[serde(with = "super::duration")] Duration);

    /// Writes it as text, exact, or null.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(Wrapped).serialize(serializer)
    }

    /// Reads null, or what [`super::duration`] reads.
    ///
    /// # Errors
    /// Anything else.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|Wrapped(duration)| duration))
    }
}

/// Reads a number, or text with a unit.
struct Text<T, E> {
    parse: fn(&str) -> Result<T, E>,
    what: &'static str,
}

impl<T, E: fmt::Display> de::Visitor<'_> for Text<T, E> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_str<D: de::Error>(self, text: &str) -> Result<T, D> {
        (self.parse)(text).map_err(D::custom)
    }

    fn visit_u64<D: de::Error>(self, number: u64) -> Result<T, D> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<D: de::Error>(self, number: i64) -> Result<T, D> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<D: de::Error>(self, number: f64) -> Result<T, D> {
        self.visit_str(&number.to_string())
    }
}

/// The number that `text` begins with, and what follows it.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    text.split_at_checked(end)
}

/// `number`, a decimal without sign, times `scale`: a whole number in range, or nothing.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if digits().next().is_none() || !digits().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let mut value = 0_u128;
    for digit in digits() {
        value = value
            .checked_mul(10)?
            .checked_add(u128::from(digit - b'0'))?;
    }
    let value = value.checked_mul(u128::from(scale))?;
    let divisor = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    if value % divisor == 0 {
        u64::try_from(value / divisor).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_in_every_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65_536),
            ("12B", 12),
            ("3kB", 3_000),
            ("4MiB", 4 << 20),
            ("256Mi", 256 << 20),
            ("1.5 GiB", 3 << 29),
            ("2G", 2_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in [
            "",
            "MiB",
            "4 mib",
            "-1",
            "1.2.3MB",
            "0.5B",
            "99999999TiB",
            "4MiBs",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_in_every_unit() {
        for (text, millis) in [
            ("0", 0),
            ("30", 30_000),
            ("0.25", 250),
            ("250ms", 250),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("30d", 2_592_000_000),
            ("1w", 604_800_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in [
            "",
            " ",
            "s",
            "5 minutes",
            "-1s",
            "1h30",
            "1e3",
            "999999999999d",
            "5µs",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn both_are_shown_in_the_largest_exact_unit() {
        assert_eq!(ByteSize::mib(4).to_string(), "4MiB");
        assert_eq!(ByteSize::bytes(1_000_000).to_string(), "1MB");
        assert_eq!(ByteSize::bytes(1_025).to_string(), "1025B");
        assert_eq!(ByteSize::bytes(0).to_string(), "0B");
        let shown = |millis| show_duration(Duration::from_millis(millis)).to_string();
        assert_eq!(shown(0), "0s");
        assert_eq!(shown(250), "250ms");
        assert_eq!(shown(90_000), "90s");
        assert_eq!(shown(5_400_000), "90m");
        assert_eq!(shown(2_592_000_000), "30d");
    }

    #[test]
    fn fields_take_numbers_text_and_null() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Fields {
            size: ByteSize,
            #[serde(with = "duration")]
            wait: Duration,
            #[serde(default, with = "optional_duration")]
            most: Option<Duration>,
        }
        let read = |json| serde_json::from_str::<Fields>(json);
        let fields = Fields {
            size: ByteSize::kib(64),
            wait: Duration::from_millis(1_500),
            most: None,
        };
        let texts = [
            r#"{"size": 65536, "wait": 1.5}"#,
            r#"{"size": "64KiB", "wait": "1500ms", "most": null}"#,
        ];
        for json in texts {
            assert_eq!(read(json).unwrap(), fields, "{json}");
        }
        let written = serde_json::to_string(&fields).unwrap();
        assert_eq!(written, r#"{"size":"64KiB","wait":"1500ms","most":null}"#);
        let wrong = read(r#"{"size": "4 apples", "wait": 1}"#).unwrap_err();
        assert!(wrong.to_string().contains("like 4MiB"), "{wrong}");
        assert!(read(r#"{"size": 1, "wait": true}"#).is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(number: u64) {
            prop_assert_eq!(ByteSize(number).to_string().parse(), Ok(ByteSize(number)));
            let duration = Duration::from_nanos(number);
            prop_assert_eq!(parse_duration(&show_duration(duration).to_string()), Ok(duration));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text: String) {
            let _either_is_fine = (text.parse::<ByteSize>(), parse_duration(&text));
        }
    }
}
