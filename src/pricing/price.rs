//! Prices: of one unit, which may depend on the size of the call, and of all units together.

use super::{factor::Factor, unit::Unit};
use crate::base::money::PerMillion;

/// The price of one unit, which may depend on how much input the call has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Price {
    base: PerMillion,
    tiers: Box<[(u64, PerMillion)]>,
}

/// Prices by unit, the most specific unit first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices(Vec<(Unit, Price)>);

impl Price {
    /// The same whatever the size of the call.
    pub fn flat(base: PerMillion) -> Self {
        Self {
            base,
            tiers: Box::default(),
        }
    }

    /// `base`, or the price of the highest tier whose threshold is **below** the number of input
    /// tokens; it then holds for every token of the call (a cliff, not a margin).
    pub fn tiered(base: PerMillion, mut tiers: Vec<(u64, PerMillion)>) -> Self {
        tiers.sort_by_key(|(above, _)| *above);
        Self {
            base,
            tiers: tiers.into(),
        }
    }

    /// The price in a call with `input` input tokens.
    pub fn at(&self, input: u64) -> PerMillion {
        let tier = self.tiers.iter().rev().find(|(above, _)| input > *above);
        tier.map_or(self.base, |(_, price)| *price)
    }

    /// The highest price in any call with at most `input` input tokens.
    pub fn highest_up_to(&self, input: u64) -> PerMillion {
        let tiers = self.tiers.iter().filter(|(above, _)| input > *above);
        tiers.fold(self.base, |highest, (_, price)| highest.max(*price))
    }

    /// The price without any tier.
    pub const fn base(&self) -> PerMillion {
        self.base
    }

    /// Thresholds in input tokens with their prices, ascending.
    pub fn tiers(&self) -> &[(u64, PerMillion)] {
        &self.tiers
    }

    /// The price `factor` times, tiers too.
    pub(super) fn times(&self, factor: Factor) -> Self {
        let tiers = self.tiers.iter();
        let tiers = tiers.map(|(above, price)| (*above, factor.of(*price)));
        Self {
            base: factor.of(self.base),
            tiers: tiers.collect(),
        }
    }

    /// A price that is never below either.
    fn max(&self, other: &Self) -> Self {
        let thresholds = self
            .tiers
            .iter()
            .chain(&other.tiers)
            .map(|(above, _)| *above);
        let tiers = thresholds
            .map(|above| {
                let just_over = above.saturating_add(1);
                (above, self.at(just_over).max(other.at(just_over)))
            })
            .collect();
        Self::tiered(self.base.max(other.base), tiers)
    }
}

impl Prices {
    /// Nothing has a price.
    pub const NONE: Self = Self(Vec::new());

    /// The price of `unit`, if it has one of its own.
    pub fn get(&self, unit: Unit) -> Option<&Price> {
        let found = self.0.iter().find(|(known, _)| *known == unit);
        found.map(|(_, price)| price)
    }

    /// Every unit that has a price of its own, the most specific first.
    pub fn iter(&self) -> impl Iterator<Item = (Unit, &Price)> {
        self.0.iter().map(|(unit, price)| (*unit, price))
    }

    /// Whether nothing has a price.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets the price of `unit`.
    pub fn set(&mut self, unit: Unit, price: Price) {
        match self.0.binary_search_by_key(&unit, |(known, _)| *known) {
            Ok(place) => {
                if let Some((_, known)) = self.0.get_mut(place) {
                    *known = price;
                }
            },
            Err(place) => self.0.insert(place, (unit, price)),
        }
    }

    /// The price that is charged for a token of `unit`: its own, or that of what contains it.
    fn charged(&self, unit: Unit) -> Option<&Price> {
        self.get(unit).or_else(|| {
            self.0
                .iter()
                .find(|(known, _)| known.contains(unit))
                .map(|(_, price)| price)
        })
    }

    /// Prices that are never below either's, whatever the usage.
    #[must_use]
    pub(super) fn max(&self, other: &Self) -> Self {
        let mut highest = Self::default();
        for (unit, _) in self.iter().chain(other.iter()) {
            let none = Price::default();
            let (one, two) = (self.charged(unit), other.charged(unit));
            highest.set(unit, one.unwrap_or(&none).max(two.unwrap_or(&none)));
        }
        highest
    }
}

impl FromIterator<(Unit, Price)> for Prices {
    fn from_iter<I: IntoIterator<Item = (Unit, Price)>>(pairs: I) -> Self {
        let mut prices = Self::default();
        for (unit, price) in pairs {
            prices.set(unit, price);
        }
        prices
    }
}
