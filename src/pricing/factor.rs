//! Factors on prices: where a call is served, whether it is part of a batch, and what a contract says.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, de};

use super::{tariff::Tariff, unit::Unit};
use crate::base::money::PerMillion;

/// By how much prices are multiplied, in billionths: above zero, at most 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor(i64);

const ONE: i64 = 1_000_000_000;

impl Factor {
    /// So many hundredths.
    const fn percent(percent: i64) -> Self {
        Self(percent * (ONE / 100))
    }

    /// The price so many times, rounded to what a price can be, halves to even.
    pub(super) fn of(self, price: PerMillion) -> PerMillion {
        let one = i128::from(ONE);
        let exact = i128::from(price.nanos()) * i128::from(self.0);
        let (whole, rest) = (exact.div_euclid(one), exact.rem_euclid(one));
        let up = match (rest * 2).cmp(&one) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => whole & 1,
            std::cmp::Ordering::Greater => 1,
        };
        PerMillion::from_nanos(i64::try_from(whole + up).unwrap_or(i64::MAX))
    }
}

/// As it is written: `1.1`.
impl std::fmt::Display for Factor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{}.{:09}", self.0 / ONE, self.0 % ONE);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl<'de> Deserialize<'de> for Factor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let nanos = PerMillion::deserialize(deserializer)?.nanos();
        if nanos <= 0 || nanos > 100 * ONE {
            return Err(de::Error::custom(
                "a factor on prices is above 0 and at most 100: 1.1 is ten per cent more",
            ));
        }
        Ok(Self(nanos))
    }
}

/// What a provider adds where the answer says that it was made in a certain region.
struct Surcharge {
    provider: &'static str,
    region: &'static str,
    factor: Factor,
    source: &'static str,
}

/// Those that answers tell of; others are for `pricing.factors` in the configuration, as they depend
/// on contracts and endpoints.
const SURCHARGES: &[Surcharge] = &[Surcharge {
    provider: "anthropic",
    region: "us",
    // All token prices; models before Opus 4.6 refuse to be asked for it, and do not report it.
    factor: Factor::percent(110),
    source: "platform.claude.com/docs/en/manage-claude/data-residency",
}];

/// Providers whose batches cost half, and where they say so. The book knows it of others.
const HALVED: &[(&str, &str)] = &[("gemini", "ai.google.dev/gemini-api/docs/batch-api")];

/// The prices of an answer: half if it was made in a batch, where the provider says that it is and
/// the book does not. What was cached keeps its own discount.
pub(super) fn in_batch(provider: &str, batch: bool, tariff: Arc<Tariff>) -> Arc<Tariff> {
    let mut halved = HALVED.iter().filter(|_| batch);
    let halved = halved.find(|(name, _)| *name == provider);
    let is_known = tariff.notes().iter().any(|note| note.contains("batch"));
    let Some((_, source)) = halved.filter(|_| !is_known) else {
        return tariff;
    };
    let half = Factor::percent(50);
    let why = format!("{half} times in a batch: {source}");
    let is_cached = |unit| unit == Unit::CacheRead || Unit::CacheRead.contains(unit);
    Arc::new(tariff.times_some(half, why.into(), |unit| {
        unit.is_output() || unit.is_input() && !is_cached(unit)
    }))
}

/// The factor for a call to `provider` that is served in `region`, and where it comes from.
fn for_region(provider: &str, region: Option<&str>) -> Option<(Factor, Arc<str>)> {
    let region = region?;
    let found = SURCHARGES
        .iter()
        .find(|one| one.provider == provider && one.region == region)?;
    let why = format!("{} times in {region}: {}", found.factor, found.source);
    Some((found.factor, why.into()))
}

/// The factor for a call that asks `provider` to be served in `region`, at most: where it does not
/// say, an account's default may be the dearest.
fn at_most(provider: &str, region: Option<&str>) -> Option<(Factor, Arc<str>)> {
    let dearest = SURCHARGES
        .iter()
        .filter(|one| one.provider == provider)
        .max_by_key(|one| one.factor.0);
    for_region(provider, region.or_else(|| Some(dearest?.region)))
}

/// The factor for a call to `provider`: that of the `region` in which it was served; `bound`: the
/// highest that it can have, if it asks for that one.
pub(super) fn there(
    provider: &str,
    region: Option<&str>,
    bound: bool,
) -> Option<(Factor, Arc<str>)> {
    if bound {
        at_most(provider, region)
    } else {
        for_region(provider, region)
    }
}

/// A factor of `pricing.factors`, with what is said of it.
pub(super) fn agreed(provider: &str, factor: Factor) -> (Factor, Arc<str>) {
    let why = format!("{factor} times: pricing.factors.{provider} in the configuration");
    (factor, why.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pricing::{
        price::{Price, Prices},
        tariff::Origin,
    };

    #[test]
    fn a_factor_is_read_as_a_number_and_shown_as_it_was_written() {
        for (text, factor) in [("1.1", Factor::percent(110)), ("0.85", Factor::percent(85))] {
            let read: Factor = serde_json::from_str(text).unwrap();
            assert_eq!((read, read.to_string().as_str()), (factor, text));
        }
        for text in ["0", "-1", "101", "\"a\""] {
            assert!(serde_json::from_str::<Factor>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_the_provider_that_charges_more_there_does() {
        assert!(for_region("anthropic", Some("us")).is_some());
        assert!(for_region("anthropic", Some("global")).is_none());
        assert!(for_region("anthropic", None).is_none());
        assert!(for_region("bedrock", Some("us")).is_none());
        assert!(at_most("anthropic", None).is_some() && at_most("bedrock", None).is_none());
        assert!(at_most("anthropic", Some("global")).is_none());
    }

    #[test]
    fn a_batch_costs_half_where_the_book_has_no_price_for_it() {
        let prices: Prices = [
            (Unit::Input, "0.1"),
            (Unit::CacheRead, "0.025"),
            (Unit::Output, "0.4"),
        ]
        .into_iter()
        .map(|(unit, price)| (unit, Price::flat(price.parse().unwrap())))
        .collect();
        let usual = Arc::new(Tariff::new(prices, Origin::Free));
        let nanos = |provider, batch, tariff: &Arc<Tariff>| {
            let tariff = in_batch(provider, batch, Arc::clone(tariff));
            [Unit::Input, Unit::CacheRead, Unit::Output]
                .map(|unit| tariff.prices().get(unit).unwrap().base().nanos())
        };
        let full = [100_000_000, 25_000_000, 400_000_000];
        let half = [50_000_000, 25_000_000, 200_000_000];
        assert_eq!(nanos("gemini", true, &usual), half);
        assert_eq!(nanos("gemini", false, &usual), full);
        assert_eq!(nanos("openai", true, &usual), full);
        let known = Tariff::clone(&usual).noting([Arc::from("processing=batch")]);
        assert_eq!(nanos("gemini", true, &Arc::new(known)), full);
    }

    proptest! {
        #[test]
        fn a_price_times_a_factor_is_rounded_once_and_to_even(
            nanos in 0_i64..1_000_000_000_000, factor in 1_i64..10 * ONE,
        ) {
            let found = i128::from(Factor(factor).of(PerMillion::from_nanos(nanos)).nanos());
            let off = (found * i128::from(ONE) - i128::from(nanos) * i128::from(factor)).abs();
            let half = i128::from(ONE / 2);
            prop_assert!(off < half || (off == half && found % 2 == 0));
        }
    }
}
