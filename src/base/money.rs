//! Money, in integers: nano-dollars, and nano-dollars per million tokens. No floats.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign, Neg, Sub, SubAssign},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const MILLION: i128 = 1_000_000;

/// An amount in nano-dollars: 1 is $0.000000001. Range about ±9.2 billion dollars; arithmetic
/// saturates there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(i64);

/// A price in nano-dollars per million units (tokens, mostly): $0.0075 per million is 7,500,000.
/// A price per thousand events is a thousand times that of one per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PerMillion(i64);

/// A sum of counts times prices, exact until [`Bill::total`] rounds it once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bill(i128);

impl Usd {
    /// Nothing. Not the same as unknown, which is the absence of a `Usd`.
    pub const ZERO: Self = Self(0);
    /// The largest amount.
    pub const MAX: Self = Self(i64::MAX);

    /// From nano-dollars.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nano-dollars.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// `self` × `by`, saturating.
    #[must_use]
    pub const fn times(self, by: i64) -> Self {
        Self(self.0.saturating_mul(by))
    }

    /// With as many decimals as the amount needs, at least two: `$0.0125`, `$3.00`.
    pub fn short(self) -> impl fmt::Display {
        let full = self.to_string();
        let kept = full.trim_end_matches('0');
        let decimals = kept.len() - kept.find('.').map_or(0, |dot| dot + 1);
        let padding = 2_usize.saturating_sub(decimals);
        let (sign, digits) = kept
            .strip_prefix('-')
            .map_or(("", kept), |digits| ("-", digits));
        format!("{sign}${digits}{:0<padding$}", "")
    }
}

impl PerMillion {
    /// From nano-dollars per million units.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nano-dollars per million units.
    pub const fn nanos(self) -> i64 {
        self.0
    }
}

impl Bill {
    /// With `count` units at `price` added.
    #[must_use]
    pub const fn with(self, count: u64, price: PerMillion) -> Self {
        Self(
            self.0
                .saturating_add((count as i128).saturating_mul(price.0 as i128)),
        )
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The whole amount, rounded to the nano-dollar, halves to even.
    pub fn total(self) -> Usd {
        let (whole, rest) = (self.0.div_euclid(MILLION), self.0.rem_euclid(MILLION));
        let up = match (rest * 2).cmp(&MILLION) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => whole & 1,
            std::cmp::Ordering::Greater => 1,
        };
        Usd(saturate(whole + up))
    }

    /// The whole amount rounded up: for reservations, which must never be below the bill.
    pub fn ceiling(self) -> Usd {
        Usd(saturate(-((-self.0).div_euclid(MILLION))))
    }
}

fn saturate(nanos: i128) -> i64 {
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

/// Nine decimals: `0.000625000`.
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand, since every span prints two; the largest amount has as many digits.
        let mut text = *b"0000000000.000000000";
        let mut nanos = self.0.unsigned_abs();
        for digit in text.iter_mut().rev().filter(|digit| **digit != b'.') {
            *digit = b'0' + u8::try_from(nanos % 10).unwrap_or_default();
            nanos /= 10;
        }
        let leading = text.iter().take(9).take_while(|digit| **digit == b'0');
        let text = text.get(leading.count()..).unwrap_or_default();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        f.write_str(std::str::from_utf8(text).unwrap_or_default())
    }
}

/// The text is not a decimal number of at most nine decimals, or out of range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount: expected a decimal number with at most nine decimals, like 4.50")]
pub struct InvalidAmount(String);

/// Accepts `4`, `4.50`, `-0.5`, `1e-7`; at most nine decimals after the exponent is applied.
impl FromStr for Usd {
    type Err = InvalidAmount;

    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        parse_decimal(text)
            .map(Self)
            .ok_or_else(|| InvalidAmount(text.to_owned()))
    }
}

/// Dollars per million units, as [`Usd`] is parsed.
impl FromStr for PerMillion {
    type Err = InvalidAmount;

    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        parse_decimal(text)
            .map(Self)
            .ok_or_else(|| InvalidAmount(text.to_owned()))
    }
}

/// A decimal number times 10^9, if that is a whole number in range.
fn parse_decimal(text: &str) -> Option<i64> {
    let text = text.trim();
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if digits().next().is_none() || !digits().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let mut value: i128 = 0;
    for digit in digits() {
        value = value
            .checked_mul(10)?
            .checked_add(i128::from(digit - b'0'))?;
    }
    let shift = 9_i32
        .checked_add(exponent)?
        .checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let power = 10_i128.checked_pow(shift.unsigned_abs());
    let value = if value == 0 {
        0
    } else if shift >= 0 {
        value.checked_mul(power?)?
    } else {
        let power = power?;
        (value % power == 0).then_some(value / power)?
    };
    i64::try_from(if negative { -value } else { value }).ok()
}

impl Add for Usd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Usd {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Neg for Usd {
    type Output = Self;

    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Usd {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// A string with nine decimals: JSON numbers would pass through floats on the way.
impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(Decimal("an amount in US dollars"))
            .map(Self)
    }
}

impl<'de> Deserialize<'de> for PerMillion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(Decimal("a price in US dollars per million"))
            .map(Self)
    }
}

/// Reads a number or a string. A float's shortest decimal form is what its author wrote.
struct Decimal(&'static str);

impl de::Visitor<'_> for Decimal {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, a decimal number with at most nine decimals", self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<i64, E> {
        parse_decimal(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_u64<E: de::Error>(self, whole: u64) -> Result<i64, E> {
        self.visit_str(&whole.to_string())
    }

    fn visit_i64<E: de::Error>(self, whole: i64) -> Result<i64, E> {
        self.visit_str(&whole.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<i64, E> {
        self.visit_str(&number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bill_rounds_once_and_halves_to_even() {
        let half = PerMillion::from_nanos(500_000);
        assert_eq!(Bill::default().with(1, half).total(), Usd::from_nanos(0));
        assert_eq!(Bill::default().with(3, half).total(), Usd::from_nanos(2));
        assert_eq!(Bill::default().with(5, half).total(), Usd::from_nanos(2));
        assert_eq!(Bill::default().with(1, half).ceiling(), Usd::from_nanos(1));
        let cached = "0.0075".parse().unwrap();
        assert_eq!(
            Bill::default().with(1, cached).with(1, cached).total(),
            Usd::from_nanos(15)
        );
    }

    #[test]
    fn amounts_are_read_as_people_write_them() {
        for (text, nanos) in [
            ("4.50", 4_500_000_000),
            ("100", 100_000_000_000),
            ("1e-7", 100),
            ("2.5E2", 250_000_000_000),
            (".5", 500_000_000),
            ("-0.000000001", -1),
            ("0e99999", 0),
        ] {
            assert_eq!(text.parse(), Ok(Usd(nanos)), "{text}");
        }
        for text in [
            "",
            ".",
            "-",
            "1,5",
            "0.0000000001",
            "1e99",
            "NaN",
            "99999999999",
            "1_000",
        ] {
            assert!(text.parse::<Usd>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_amount_is_shown_with_two_decimals_or_more() {
        let shown = |nanos| Usd(nanos).short().to_string();
        assert_eq!(shown(3_000_000_000), "$3.00");
        assert_eq!(shown(12_500_000), "$0.0125");
        assert_eq!(shown(-1_500_000_000), "-$1.50");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(nanos: i64) {
            const UNIT: u64 = 1_000_000_000;
            let (sign, amount) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
            let printed = Usd(nanos).to_string();
            prop_assert_eq!(&printed, &format!("{sign}{}.{:09}", amount / UNIT, amount % UNIT));
            prop_assert_eq!(printed.parse(), Ok(Usd(nanos)));
        }

        #[test]
        fn a_ceiling_is_never_below_the_total(count in 0_u64..1 << 40, price in 0_i64..1 << 50) {
            let bill = Bill::default().with(count, PerMillion(price));
            prop_assert!(bill.ceiling() >= bill.total());
            prop_assert!(bill.ceiling().nanos() - bill.total().nanos() <= 1);
        }
    }
}
