//! A tariff: the prices of one model at one time, and what a usage costs by them.

use std::{fmt, sync::Arc};

use super::{
    factor::Factor,
    price::{Price, Prices},
    unit::Unit,
};
use crate::{
    base::{
        clock::Timestamp,
        money::{Bill, PerMillion, Usd},
    },
    call::usage::Usage,
};

/// The prices of one model at one time, and where they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tariff {
    prices: Prices,
    origin: Origin,
    notes: Vec<Arc<str>>,
}

/// Where a tariff comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The price book.
    Book {
        /// Name and version of the book: `genai-prices 0.2.3`.
        book: Arc<str>,
        /// The provider whose list the entry is in; not always the one asked for (Azure sells
        /// OpenAI's models).
        provider: Arc<str>,
        /// The entry's id: a family of model names that cost the same.
        entry: Arc<str>,
        /// Since when these prices hold; `None` where the book does not say.
        since: Option<Timestamp>,
    },
    /// This key of `pricing:` in the configuration.
    Override(Arc<str>),
    /// `price: free` in the configuration: a known zero.
    Free,
    /// `pricing.unknown_price`: an upper bound for a model without a price.
    Unknown,
}

/// Why a usage has no cost: the cost is then unknown, which is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BillError {
    /// Nothing was reported of what it is billed by.
    #[error("nothing was reported of what the call is billed by, so it cannot be priced")]
    NotReported,
    /// The parts are more than the whole, so one of the two is wrong and nobody knows which.
    #[error("the reported parts of `{}` are more than its {count}, so the call cannot be priced", .whole.name())]
    Inconsistent {
        /// What is less than the sum of its parts.
        whole: Unit,
        /// How much of it was reported.
        count: u64,
    },
}

/// Where it comes from, in a line: `genai-prices 0.2.3, openai: gpt-4o, since 2024-10-01`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Book {
                book,
                provider,
                entry,
                since,
            } => {
                write!(f, "{book}, {provider}: {entry}")?;
                since.map_or(Ok(()), |since| {
                    write!(f, ", since {}", since.to_jiff().strftime("%F"))
                })
            },
            Self::Override(key) => write!(f, "pricing.{key} in the configuration"),
            Self::Free => f.write_str("a provider that the configuration says is free"),
            Self::Unknown => f.write_str("pricing.unknown_price in the configuration"),
        }
    }
}

impl Tariff {
    /// Of these prices, from there.
    pub const fn new(prices: Prices, origin: Origin) -> Self {
        Self {
            prices,
            origin,
            notes: Vec::new(),
        }
    }

    /// With a note of what made these prices of the usual ones: `service_tier=flex`.
    #[must_use]
    pub(super) fn noting(mut self, notes: impl IntoIterator<Item = Arc<str>>) -> Self {
        self.notes.extend(notes);
        self
    }

    /// The same, `factor` times as dear (all that is counted in tokens), and a note of why.
    #[must_use]
    pub(super) fn times(&self, factor: Factor, why: Arc<str>) -> Self {
        self.times_some(factor, why, |unit| unit.is_input() || unit.is_output())
    }

    /// The same of some units.
    #[must_use]
    pub(super) fn times_some(
        &self,
        factor: Factor,
        why: Arc<str>,
        some: impl Fn(Unit) -> bool,
    ) -> Self {
        let dearer = self.prices.iter().map(|(unit, price)| {
            (
                unit,
                if some(unit) {
                    price.times(factor)
                } else {
                    price.clone()
                },
            )
        });
        Self {
            prices: dearer.collect(),
            origin: self.origin.clone(),
            notes: self.notes.clone(),
        }
        .noting([why])
    }

    /// What made these prices of the usual ones, in the order in which it did.
    pub fn notes(&self) -> &[Arc<str>] {
        &self.notes
    }

    /// Costs nothing, and that is known.
    pub const fn free() -> Self {
        Self::new(Prices::NONE, Origin::Free)
    }

    /// The prices.
    pub const fn prices(&self) -> &Prices {
        &self.prices
    }

    /// Where they come from.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What was asked for these prices, with its version: `genai-prices 0.2.3`, `configuration`.
    pub fn version(&self) -> &str {
        match &self.origin {
            Origin::Book { book, .. } => book,
            Origin::Override(_) | Origin::Free | Origin::Unknown => "configuration",
        }
    }

    /// Whether every call costs nothing, whatever it uses.
    pub fn is_free(&self) -> bool {
        let zero = |price: &Price| price.highest_up_to(u64::MAX) == PerMillion::default();
        self.prices.iter().all(|(_, price)| zero(price))
    }

    /// What `usage` costs, to the nano-dollar: each unit is charged for what no more specific unit
    /// with a price takes. A part that is not reported counts as none of it.
    ///
    /// # Errors
    /// The cost is unknown: what it is billed by was not reported (tokens of input, where any token
    /// has a price), or the parts are more than the whole. A free tariff knows its cost without any
    /// usage.
    pub fn bill(&self, usage: &Usage) -> Result<Usd, BillError> {
        self.exact(usage, true).map(Bill::total)
    }

    /// As [`Tariff::bill`], not yet rounded. `whole`: the call itself is charged too.
    pub(super) fn exact(&self, usage: &Usage, whole: bool) -> Result<Bill, BillError> {
        if self.is_free() {
            return Ok(Bill::default());
        }
        let by_tokens = |unit: Unit| unit.is_input() || unit.is_output();
        let known = if self.prices.iter().any(|(unit, _)| by_tokens(unit)) {
            usage.input.is_some()
        } else {
            let mut units = self.prices.iter();
            units.any(|(unit, _)| unit.reported(usage).is_some())
        };
        if !known {
            return Err(BillError::NotReported);
        }
        let input = usage.input.unwrap_or(0);
        let mut bill = Bill::default();
        let mut taken: [(Unit, u64); Unit::ALL.len()] = [(Unit::Requests, 0); Unit::ALL.len()];
        for ((unit, price), place) in self.prices.iter().zip(0..) {
            let count = unit.reported(usage).unwrap_or(0);
            let parts = taken
                .iter()
                .take(place)
                .filter(|(part, _)| unit.contains(*part));
            let parts = parts.fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
            let own = count
                .checked_sub(parts)
                .ok_or(BillError::Inconsistent { whole: unit, count })?;
            if let Some(slot) = taken.get_mut(place) {
                *slot = (unit, own);
            }
            if whole || unit != Unit::Requests {
                bill = bill.with(own, price.at(input));
            }
        }
        Ok(bill)
    }

    /// The part of [`Tariff::bill`] that is fees for tools which the provider ran.
    pub fn tool_fees(&self, usage: &Usage) -> Usd {
        let fees = self.prices.iter().filter(|(unit, _)| unit.is_tool_fee());
        let input = usage.input.unwrap_or(0);
        let sum = fees.fold(Bill::default(), |sum, (unit, price)| {
            sum.with(unit.reported(usage).unwrap_or(0), price.at(input))
        });
        sum.total()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dollars(text: &str) -> PerMillion {
        text.parse().unwrap()
    }

    fn tariff(written: &[(Unit, &str)]) -> Tariff {
        let prices = written.iter().map(|(unit, price)| {
            (
                *unit,
                Price::flat(unit.per_million(dollars(price)).unwrap()),
            )
        });
        Tariff::new(prices.collect(), Origin::Unknown)
    }

    #[test]
    fn a_part_with_a_price_is_taken_out_of_the_whole() {
        let prices = [
            (Unit::Input, "2"),
            (Unit::Output, "8"),
            (Unit::CacheRead, "0.5"),
        ];
        let usage = Usage {
            cache_read: Some(600),
            reasoning: Some(100),
            ..Usage::text(1_000, 200)
        };
        let nanos = 400 * 2_000 + 600 * 500 + 200 * 8_000;
        assert_eq!(tariff(&prices).bill(&usage), Ok(Usd::from_nanos(nanos)));
    }

    #[test]
    fn a_token_of_two_parts_is_charged_once() {
        let prices = [
            (Unit::Input, "1"),
            (Unit::CacheRead, "0.1"),
            (Unit::InputAudio, "10"),
            (Unit::CacheAudioRead, "3"),
        ];
        let usage = Usage {
            cache_read: Some(50),
            input_audio: Some(40),
            cache_audio_read: Some(30),
            ..Usage::text(100, 0)
        };
        // 30 of both, 20 cached text, 10 fresh audio, 40 fresh text.
        let nanos = 30 * 3_000 + 20 * 100 + 10 * 10_000 + 40 * 1_000;
        assert_eq!(tariff(&prices).bill(&usage), Ok(Usd::from_nanos(nanos)));
    }

    #[test]
    fn a_tier_starts_above_its_threshold_and_holds_for_every_token() {
        let mut tiered = tariff(&[(Unit::Output, "10")]);
        let price = Price::tiered(
            dollars("1"),
            vec![(200_000, dollars("2")), (100, dollars("1.5"))],
        );
        tiered.prices.set(Unit::Input, price);
        let output = Price::tiered(dollars("10"), vec![(200_000, dollars("15"))]);
        tiered.prices.set(Unit::Output, output);
        for (input, nanos) in [
            (100, 100 * 1_000 + 10_000),
            (101, 101 * 1_500 + 10_000),
            (200_000, 200_000 * 1_500 + 10_000),
            (200_001, 200_001 * 2_000 + 15_000),
        ] {
            let bill = tiered.bill(&Usage::text(input, 1));
            assert_eq!(bill, Ok(Usd::from_nanos(nanos)), "{input}");
        }
    }

    #[test]
    fn parts_beyond_the_whole_are_refused_and_not_clamped() {
        let prices = [
            (Unit::Input, "2"),
            (Unit::CacheRead, "0.5"),
            (Unit::CacheWrite, "1"),
        ];
        let usage = Usage {
            cache_read: Some(2_161),
            cache_write: Some(2_161),
            ..Usage::text(2_168, 9)
        };
        let whole = Unit::Input;
        let error = BillError::Inconsistent {
            whole,
            count: 2_168,
        };
        assert_eq!(tariff(&prices).bill(&usage), Err(error));
    }

    #[test]
    fn what_has_no_price_of_its_own_is_not_looked_at() {
        let usage = Usage {
            cache_read: Some(2_000),
            ..Usage::text(1_000, 0)
        };
        let bill = tariff(&[(Unit::Input, "1")]).bill(&usage);
        assert_eq!(bill, Ok(Usd::from_nanos(1_000_000)));
    }

    #[test]
    fn nothing_reported_is_unknown_unless_the_tariff_is_free() {
        let priced = tariff(&[(Unit::Input, "1")]);
        assert_eq!(priced.bill(&Usage::NONE), Err(BillError::NotReported));
        assert_eq!(Tariff::free().bill(&Usage::NONE), Ok(Usd::ZERO));
        let zero = tariff(&[(Unit::Input, "0"), (Unit::Output, "0")]);
        assert_eq!(zero.bill(&Usage::NONE), Ok(Usd::ZERO));
    }

    #[test]
    fn searches_and_the_call_itself_are_priced_per_thousand() {
        let prices = [
            (Unit::Input, "0"),
            (Unit::WebSearches, "10"),
            (Unit::Requests, "5"),
        ];
        let usage = Usage {
            web_searches: Some(3),
            ..Usage::text(1, 1)
        };
        let bill = tariff(&prices).bill(&usage);
        assert_eq!(bill, Ok(Usd::from_nanos(3 * 10_000_000 + 5_000_000)));
    }

    #[test]
    fn what_is_not_billed_by_tokens_needs_none() {
        let by_the_second = tariff(&[(Unit::AudioSeconds, "0.1")]);
        let heard = |seconds| Usage {
            audio_seconds: seconds,
            ..Usage::NONE
        };
        assert_eq!(
            by_the_second.bill(&heard(Some(9))),
            Ok(Usd::from_nanos(900_000))
        );
        assert_eq!(
            by_the_second.bill(&heard(None)),
            Err(BillError::NotReported)
        );
        assert_eq!(
            by_the_second.bill(&Usage::text(5, 5)),
            Err(BillError::NotReported)
        );
        let by_the_image = tariff(&[(Unit::Images, "40")]);
        let drawn = Usage {
            images: Some(2),
            ..Usage::NONE
        };
        assert_eq!(by_the_image.bill(&drawn), Ok(Usd::from_nanos(80_000_000)));
        let by_the_call = tariff(&[(Unit::Requests, "40")]);
        assert_eq!(
            by_the_call.bill(&Usage::NONE),
            Ok(Usd::from_nanos(40_000_000))
        );
    }

    #[test]
    fn the_higher_of_two_price_lists_knows_what_either_leaves_out() {
        let one = tariff(&[
            (Unit::Input, "2"),
            (Unit::Output, "8"),
            (Unit::CacheRead, "1"),
        ]);
        let two = tariff(&[(Unit::Input, "3"), (Unit::Output, "4")]);
        let highest = one.prices.max(&two.prices);
        let base = |unit| highest.get(unit).map(Price::base);
        assert_eq!(base(Unit::Input), Some(dollars("3")));
        assert_eq!(base(Unit::Output), Some(dollars("8")));
        assert_eq!(base(Unit::CacheRead), Some(dollars("3")));
    }

    /// Bills token by token: each token is a set of properties, charged by the priced unit that
    /// covers it with the fewest other tokens.
    fn reference(tokens: &[(u64, &[Unit])], tariff: &Tariff, input: u64) -> i128 {
        tokens
            .iter()
            .map(|(count, units)| {
                let priced = |unit: &&Unit| tariff.prices.get(**unit).is_some();
                let unit = units.iter().find(priced);
                let price = unit.and_then(|unit| tariff.prices.get(*unit));
                let nanos = price.map_or(0, |price| price.at(input).nanos());
                i128::from(*count) * i128::from(nanos)
            })
            .sum()
    }

    prop_compose! {
        fn some_price()(base in 0_i64..100_000_000_000, above in 0_u64..4_000, over in 0_i64..100_000_000_000, tiered: bool) -> Price {
            let tiers = if tiered { vec![(above, PerMillion::from_nanos(over))] } else { Vec::new() };
            Price::tiered(PerMillion::from_nanos(base), tiers)
        }
    }

    prop_compose! {
        fn some_prices()(priced in proptest::collection::vec((0_usize..15, some_price()), 0..12), input in some_price(), output in some_price()) -> Prices {
            let mut prices: Prices = priced
                .into_iter()
                .map(|(unit, price)| (Unit::ALL[unit], price))
                // Leaf counts are only defined where a common part of two priced units is priced.
                .filter(|(unit, _)| !matches!(unit, Unit::InputAudio | Unit::InputImage))
                .collect();
            prices.set(Unit::Input, input);
            prices.set(Unit::Output, output);
            prices
        }
    }

    proptest! {
        #[test]
        fn a_bill_equals_that_of_a_count_token_by_token(
            prices in some_prices(),
            [fresh, cached, written, hour, video, plain, thought, spoken] in proptest::array::uniform8(0_u64..1_000),
        ) {
            let tariff = Tariff::new(prices, Origin::Unknown);
            let input = fresh + cached + written + hour + video;
            let usage = Usage {
                cache_read: Some(cached),
                cache_write: Some(written + hour),
                cache_write_1h: Some(hour),
                input_video: Some(video),
                reasoning: Some(thought),
                output_audio: Some(spoken),
                ..Usage::text(input, plain + thought + spoken)
            };
            let tokens: [(u64, &[Unit]); 8] = [
                (fresh, &[Unit::Input]),
                (cached, &[Unit::CacheRead, Unit::Input]),
                (written, &[Unit::CacheWrite, Unit::Input]),
                (hour, &[Unit::CacheWrite1h, Unit::CacheWrite, Unit::Input]),
                (video, &[Unit::InputVideo, Unit::Input]),
                (plain, &[Unit::Output]),
                (thought, &[Unit::Reasoning, Unit::Output]),
                (spoken, &[Unit::OutputAudio, Unit::Output]),
            ];
            let exact = reference(&tokens, &tariff, input);
            let bill = i128::from(tariff.bill(&usage).unwrap().nanos());
            // Within half a nano-dollar, and to the even one at exactly half.
            let off = (bill * 1_000_000 - exact).abs();
            prop_assert!(off < 500_000 || (off == 500_000 && bill % 2 == 0), "{off}");
        }

        #[test]
        fn the_higher_of_two_price_lists_never_bills_less(
            one in some_prices(),
            two in some_prices(),
            [input, cached, hour, output, thought] in proptest::array::uniform5(0_u64..3_000),
        ) {
            let usage = Usage {
                cache_read: Some(cached),
                cache_write: Some(hour),
                cache_write_1h: Some(hour),
                reasoning: Some(thought),
                ..Usage::text(input + cached + hour, output + thought)
            };
            let highest = Tariff::new(one.max(&two), Origin::Unknown).bill(&usage).unwrap();
            for prices in [one, two] {
                prop_assert!(Tariff::new(prices, Origin::Unknown).bill(&usage).unwrap() <= highest);
            }
        }
    }
}
