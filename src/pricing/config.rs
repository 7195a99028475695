//! `pricing:` in the configuration: prices that stand over the price book, and what to do with
//! models that have none.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, de};

use super::{
    factor::Factor,
    price::{Price, Prices},
    unit::Unit,
};
use crate::base::{money::PerMillion, secret::Secret, units};

/// What to do with a call that a budget in US dollars matches and whose model has no price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownModel {
    /// Refuse it.
    #[default]
    Deny,
    /// Charge budgets by `unknown_price`.
    Ceiling,
    /// Let it pass: it counts towards limits in tokens and requests only.
    CountTokens,
}

/// The section `pricing:`. Every key that is not one of those here is a model's name, a
/// `provider/model`, or either with `*` in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// A price book to use in place of the built-in one; a path.
    pub file: Option<PathBuf>,
    /// Where a price book is fetched from, to be used in place of the built-in one; may hold a
    /// token.
    pub url: Option<Secret>,
    /// How often it is fetched; at most once a minute.
    pub refresh: Duration,
    /// What to do with models without a price.
    pub unknown_model: UnknownModel,
    /// The prices that `unknown_model: ceiling` charges.
    pub unknown_price: Prices,
    /// By how much the book's prices of a provider's tokens are multiplied: contracts, and regions
    /// and endpoints that cost more.
    pub factors: BTreeMap<Box<str>, Factor>,
    /// Prices by model, as written.
    pub models: BTreeMap<Box<str>, Prices>,
}

impl Default for Config {
    fn default() -> Self {
        let dollars = |whole: i64| Price::flat(PerMillion::from_nanos(whole * 1_000_000_000));
        let unknown = [(Unit::Input, dollars(10)), (Unit::Output, dollars(50))];
        Self {
            file: None,
            url: None,
            refresh: Duration::from_hours(24),
            unknown_model: UnknownModel::default(),
            unknown_price: unknown.into_iter().collect(),
            factors: BTreeMap::new(),
            models: BTreeMap::new(),
        }
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Section)
    }
}

struct Section;

impl<'de> de::Visitor<'de> for Section {
    type Value = Config;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("prices by model, like `gpt-4o: {input: 2.50, output: 10.00}`")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Config, A::Error> {
        let mut config = Config::default();
        while let Some(key) = map.next_key::<Box<str>>()? {
            match &*key {
                "file" => config.file = map.next_value()?,
                "url" => config.url = map.next_value::<Option<Address>>()?.map(|url| url.0),
                "refresh" => config.refresh = map.next_value::<Every>()?.0,
                "unknown_model" => config.unknown_model = map.next_value()?,
                "factors" => config.factors = map.next_value()?,
                "unknown_price" => config.unknown_price = map.next_value::<Plausible>()?.0,
                model if config.models.contains_key(model) => {
                    return Err(de::Error::custom(format_args!("`{model}` is given twice")));
                },
                _ => {
                    let Plausible(prices) = map.next_value()?;
                    config.models.insert(key, prices);
                },
            }
        }
        if config.file.is_some() && config.url.is_some() {
            return Err(de::Error::custom(
                "`file` and `url` both name the price book: leave one out",
            ));
        }
        Ok(config)
    }
}

/// A length of time.
#[derive(Deserialize)]
struct Every(#[serde(with = "units::duration")] Duration);

/// An address that a book can be fetched from.
struct Address(Secret);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let uri: Option<http::Uri> = text.parse().ok();
        let is_one = uri.is_some_and(|uri| {
            let scheme = uri.scheme_str().unwrap_or_default();
            // What stands before the @ would not be sent.
            let has_user = uri.authority().is_some_and(|at| at.as_str().contains('@'));
            ["http", "https"].contains(&scheme) && !has_user
        });
        if !is_one {
            return Err(de::Error::custom(
                "this is no address of a price book: expected https://host/path, or http://",
            ));
        }
        Ok(Self(Secret::new(text)))
    }
}

/// Prices in which nothing is missing that would make calls free by mistake, and nothing is so
/// small or so large that it must be meant per token or per thousand.
struct Plausible(Prices);

impl<'de> Deserialize<'de> for Plausible {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let prices = Prices::deserialize(deserializer)?;
        let by_the_piece = prices.iter().any(|(unit, _)| unit.is_piece());
        for unit in [Unit::Input, Unit::Output] {
            if prices.get(unit).is_none() && !by_the_piece {
                return Err(de::Error::custom(format_args!(
                    "`{0}` is missing: a price needs `input` and `output`; write `{0}: 0` if it \
                     costs nothing",
                    unit.name()
                )));
            }
        }
        let written = prices.iter().flat_map(|(unit, price)| {
            let tiers = price.tiers().iter().map(|(_, tier)| *tier);
            tiers.chain([price.base()]).map(move |price| (unit, price))
        });
        for (unit, price) in written {
            plausible(unit, price).map_err(de::Error::custom)?;
        }
        Ok(Self(prices))
    }
}

/// Refuses a price of tokens, in dollars per million, that cannot be meant.
pub(super) fn plausible(unit: Unit, price: PerMillion) -> Result<(), String> {
    const LEAST: i64 = 100_000; // $0.0001: a tenth of the cheapest in the book when this was written
    const MOST: i64 = 10_000_000_000_000; // $10,000: sixteen times the dearest
    let name = unit.name();
    if unit.per() != 1_000_000 || price.nanos() == 0 {
        Ok(())
    } else if price.nanos() < LEAST {
        Err(format!(
            "`{name}` is below $0.0001 per million tokens; is it meant per token? Prices here are \
             US dollars per million tokens, so multiply it by 1,000,000"
        ))
    } else if price.nanos() > MOST {
        Err(format!(
            "`{name}` is above $10,000 per million tokens; prices here are US dollars per million \
             tokens"
        ))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Config, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn models_and_settings_share_the_section() {
        let config = read(
            "gpt-4o: {input: 5.00, output: 15.00, cache_read: 2.5}\n\
             anthropic/claude-*: {input: {base: 3, tiers: [[200000, 6]]}, output: 15}\n\
             unknown_model: ceiling\n\
             unknown_price: {input: 1, output: 2}\n",
        )
        .unwrap();
        assert_eq!(config.models.len(), 2);
        assert_eq!(config.unknown_model, UnknownModel::Ceiling);
        let price = |prices: &Prices, unit| prices.get(unit).unwrap().at(200_001).nanos();
        assert_eq!(
            price(&config.models["gpt-4o"], Unit::CacheRead),
            2_500_000_000
        );
        assert_eq!(
            price(&config.models["anthropic/claude-*"], Unit::Input),
            6_000_000_000
        );
        assert_eq!(price(&config.unknown_price, Unit::Output), 2_000_000_000);
    }

    #[test]
    fn an_empty_section_is_the_default() {
        assert_eq!(read("{}").unwrap(), Config::default());
    }

    #[test]
    fn what_is_billed_by_the_piece_needs_no_price_of_tokens() {
        let config = read("dall-e-3: {images: 40}\nmy-whisper: {audio_seconds: 0.1}").unwrap();
        let price = config.models["dall-e-3"].get(Unit::Images).unwrap().base();
        assert_eq!(price.nanos(), 40_000_000_000_000);
    }

    #[test]
    fn a_mistake_is_named() {
        for (yaml, error) in [
            ("gpt-4o: {input: 5}", "`output` is missing"),
            ("gpt-4o: {output: 5}", "`input` is missing"),
            ("gpt-4o: {input: 5, output: 1, cached: 2}", "cached"),
            (
                "gpt-4o: {input: 0.0000025, output: 0.00001}",
                "multiply it by 1,000,000",
            ),
            ("gpt-4o: {input: 2500000, output: 1}", "above $10,000"),
            ("gpt-4o: {input: -1, output: 1}", "below zero"),
            ("gpt-4o: cheap", "line 1 column 9"),
            ("unknown_model: allow", "allow"),
            ("url: prices.example/book", "expected https://"),
            ("url: \"ftp://prices.example/book\"", "expected https://"),
            (
                "url: \"https://me:hush@prices.example/\"",
                "expected https://",
            ),
            (
                "url: \"https://prices.example/\"\nfile: book.jsonl",
                "leave one out",
            ),
            ("refresh: daily", "not a duration"),
            ("unknown_price: {input: 1}", "`output` is missing"),
        ] {
            let found = read(yaml).unwrap_err();
            assert!(found.contains(error), "{yaml}: {found}");
        }
    }
}
