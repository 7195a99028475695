//! At which part of a limit to speak up, and to stop. Each crossing is reported once a window and
//! limit: what was reported is reported anew if the counter was brought under the threshold by hand (a
//! reset, a raise, another limit in the configuration) and reaches it again.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, de};

use super::counter::Unit;
use crate::base::clock::Timestamp;

/// A part of a whole, in millionths: 0.75 is 750,000. Above 0, at most 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fraction(u32);

impl Fraction {
    const WHOLE: u32 = 1_000_000;

    /// All of it.
    pub const ONE: Self = Self(Self::WHOLE);

    /// From millionths.
    ///
    /// # Errors
    /// `None` unless it is above 0 and at most 1.
    pub const fn from_millionths(millionths: u32) -> Option<Self> {
        if millionths == 0 || millionths > Self::WHOLE {
            None
        } else {
            Some(Self(millionths))
        }
    }

    /// This part of `amount`, rounded down.
    pub fn of(self, amount: i64) -> i64 {
        if self.0 == Self::WHOLE {
            return amount;
        }
        let part = i128::from(amount) * i128::from(self.0) / i128::from(Self::WHOLE);
        i64::try_from(part).unwrap_or(amount)
    }

    /// Whether `part` is at least this part of `whole`.
    pub fn is_reached(self, part: u64, whole: u64) -> bool {
        u128::from(part) * u128::from(Self::WHOLE) >= u128::from(whole) * u128::from(self.0)
    }
}

/// A decimal: `0.75`.
impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:06}", self.0 / Self::WHOLE, self.0 % Self::WHOLE);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// The thresholds of every budget, as parts of its limit. What counts is what was spent; what is
/// only reserved crosses nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Worth knowing.
    pub warning: Fraction,
    /// Nearly used up.
    pub critical: Fraction,
    /// Where calls are stopped: below 1 it lowers the limit.
    pub cutoff: Fraction,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            warning: Fraction(750_000),
            critical: Fraction(900_000),
            cutoff: Fraction::ONE,
        }
    }
}

/// The highest threshold that was crossed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// None.
    #[default]
    Below,
    /// `warning`.
    Warning,
    /// `critical`.
    Critical,
    /// `cutoff`: nothing more fits.
    Cutoff,
}

impl Level {
    /// Its name, as in `budget.warning`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Below => "below",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Cutoff => "cutoff",
        }
    }
}

impl Thresholds {
    /// The highest threshold that `spent` has reached. `limit` is the written one.
    pub fn level(&self, spent: i64, limit: i64) -> Level {
        let reached = |part: Fraction| spent > 0 && spent >= part.of(limit);
        if reached(self.cutoff) {
            Level::Cutoff
        } else if reached(self.critical) {
            Level::Critical
        } else if reached(self.warning) {
            Level::Warning
        } else {
            Level::Below
        }
    }
}

/// A counter reached a threshold: one log line and one span event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// The rule's name.
    pub rule: Arc<str>,
    /// The rule's identity, by which its counters are named.
    pub identity: Arc<str>,
    /// Whose counter: `user=42`, or empty.
    pub values: Arc<str>,
    /// What it counts.
    pub unit: Unit,
    /// The threshold.
    pub level: Level,
    /// What was spent by then.
    pub spent: i64,
    /// The limit with its raises; the threshold is a part of it.
    pub limit: i64,
    /// When the window began; zero for a window without end.
    pub window: Timestamp,
    /// When it was found; later than any other of its counter was, though the clock steps back.
    pub at: Timestamp,
}

impl<'de> Deserialize<'de> for Fraction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FractionVisitor)
    }
}

struct FractionVisitor;

impl de::Visitor<'_> for FractionVisitor {
    type Value = Fraction;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fraction between 0 and 1, like 0.75, of at most six decimals")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Fraction, E> {
        parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_u64<E: de::Error>(self, whole: u64) -> Result<Fraction, E> {
        self.visit_str(&whole.to_string())
    }

    fn visit_i64<E: de::Error>(self, whole: i64) -> Result<Fraction, E> {
        self.visit_str(&whole.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Fraction, E> {
        self.visit_str(&number.to_string())
    }
}

fn parse(text: &str) -> Option<Fraction> {
    // An amount has nine decimals; a fraction six.
    let nanos = text.parse::<crate::base::money::Usd>().ok()?.nanos();
    if nanos % 1_000 != 0 {
        return None;
    }
    Fraction::from_millionths(u32::try_from(nanos / 1_000).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_an_amount_is_exact_and_rounded_down() {
        let part = parse("0.333333").unwrap();
        assert_eq!(part.of(10), 3);
        assert_eq!(Fraction::ONE.of(i64::MAX), i64::MAX);
        assert_eq!(parse("0.5").unwrap().of(i64::MAX), i64::MAX / 2);
        assert_eq!(part.to_string(), "0.333333");
        for text in ["0", "1.1", "-0.5", "0.0000001", "x"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_level_is_reached_at_its_very_amount() {
        let thresholds = Thresholds::default();
        assert_eq!(thresholds.level(74, 100), Level::Below);
        assert_eq!(thresholds.level(75, 100), Level::Warning);
        assert_eq!(thresholds.level(90, 100), Level::Critical);
        assert_eq!(thresholds.level(100, 100), Level::Cutoff);
        assert_eq!(thresholds.level(0, 0), Level::Below);
    }
}
