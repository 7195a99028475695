//! Shares of a processor as people and Kubernetes write them: `100m`, `0.5`, `2`.

use std::{fmt, num::NonZeroU32, str::FromStr};

use serde::{Deserialize, Deserializer, de};

/// So much of the machine's processors, in thousandths of one. In a configuration: `500m`, `0.5`, `2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpu(NonZeroU32);

impl Cpu {
    /// How many threads can be busy at once with it, at least one.
    pub fn threads(self) -> usize {
        usize::try_from(self.0.get().div_ceil(1_000)).unwrap_or(usize::MAX)
    }
}

/// `500m`, or a whole number of processors.
impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get() {
            whole if whole.is_multiple_of(1_000) => write!(f, "{}", whole / 1_000),
            thousandths => write!(f, "{thousandths}m"),
        }
    }
}

/// The text is no share of a processor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no number of processors: expected one like 2, 0.5 or 500m")]
pub struct InvalidCpu(String);

impl FromStr for Cpu {
    type Err = InvalidCpu;

    fn from_str(text: &str) -> Result<Self, InvalidCpu> {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let read = || {
            let text = text.trim();
            let thousandths = if let Some(thousandths) = text.strip_suffix('m') {
                digits(thousandths).then(|| thousandths.parse().ok())?
            } else {
                let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
                // Kubernetes knows nothing finer than a thousandth either.
                let fits = digits(whole) && digits(fraction) && (1..=3).contains(&fraction.len());
                let whole: u32 = fits.then(|| whole.parse().ok())??;
                let fraction: u32 = format!("{fraction:0<3}").parse().ok()?;
                whole.checked_mul(1_000)?.checked_add(fraction)
            };
            NonZeroU32::new(thousandths?)
        };
        read().map(Self).ok_or_else(|| InvalidCpu(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Cpu {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl de::Visitor<'_> for Number {
            type Value = Cpu;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of processors like 2, 0.5 or 500m")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Cpu, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Cpu, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Cpu, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Cpu, E> {
                self.visit_str(&number.to_string())
            }
        }

        deserializer.deserialize_any(Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_as_kubernetes_writes_them_and_shown_so() {
        for (text, shown, threads) in [
            ("100m", "100m", 1),
            ("0.5", "500m", 1),
            ("0.25", "250m", 1),
            ("1", "1", 1),
            ("1001m", "1001m", 2),
            ("1.5", "1500m", 2),
            ("2000m", "2", 2),
            (" 4 ", "4", 4),
        ] {
            let cpu: Cpu = text.parse().unwrap();
            assert_eq!((&*cpu.to_string(), cpu.threads()), (shown, threads));
        }
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for text in [
            "", "m", "0", "0m", "0.0", "-1", "1.2345", "0.5m", "2 m", "two", ".5", "1.", "99999999",
        ] {
            let error = text.parse::<Cpu>().unwrap_err().to_string();
            assert!(error.contains("500m"), "{text}: {error}");
        }
    }

    #[test]
    fn numbers_need_no_quotes() {
        for (yaml, shown) in [("2", "2"), ("0.5", "500m"), ("500m", "500m")] {
            let cpu: Cpu = serde_saphyr::from_str(yaml).unwrap();
            assert_eq!(cpu.to_string(), shown);
        }
    }
}
