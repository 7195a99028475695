//! Prices as they are written, in the price book and under `pricing:`.
//!
//! A map of unit names to US dollars per million tokens (per thousand searches or requests); in
//! place of a number, `{base: 1.25, tiers: [[200000, 2.50]]}` is a price that depends on the input.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, IntoDeserializer as _},
};

use super::{
    price::{Price, Prices},
    unit::Unit,
};
use crate::base::money::PerMillion;

impl<'de> Deserialize<'de> for Prices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ByUnit)
    }
}

struct ByUnit;

impl<'de> de::Visitor<'de> for ByUnit {
    type Value = Prices;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("prices in US dollars per million tokens, like {input: 2.50, output: 10.00}")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Prices, A::Error> {
        let mut prices = Prices::default();
        while let Some(unit) = map.next_key::<Unit>()? {
            let written: Written = map.next_value()?;
            if prices.get(unit).is_some() {
                return Err(de::Error::custom(format_args!(
                    "`{}` is given twice",
                    unit.name()
                )));
            }
            prices.set(unit, written.price(unit).map_err(de::Error::custom)?);
        }
        Ok(prices)
    }
}

/// A number, or a number with tiers.
struct Written(Tiered);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tiered {
    base: PerMillion,
    tiers: Vec<(u64, PerMillion)>,
}

impl Written {
    fn price(self, unit: Unit) -> Result<Price, String> {
        let Self(Tiered { base, tiers }) = self;
        let checked = |written: PerMillion| {
            if written.nanos() < 0 {
                return Err(format!("`{}` is below zero", unit.name()));
            }
            let price = unit.per_million(written);
            price.ok_or_else(|| format!("`{}` is too large", unit.name()))
        };
        let tiers = tiers
            .into_iter()
            .map(|(above, price)| Ok((above, checked(price)?)))
            .collect::<Result<_, String>>()?;
        Ok(Price::tiered(checked(base)?, tiers))
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyWritten)
    }
}

struct AnyWritten;

impl<'de> de::Visitor<'de> for AnyWritten {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a price in US dollars, like 2.50, or {base: 1.25, tiers: [[200000, 2.50]]}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Written, E> {
        flat(PerMillion::deserialize(text.into_deserializer()))
    }

    fn visit_u64<E: de::Error>(self, whole: u64) -> Result<Written, E> {
        flat(PerMillion::deserialize(whole.into_deserializer()))
    }

    fn visit_i64<E: de::Error>(self, whole: i64) -> Result<Written, E> {
        flat(PerMillion::deserialize(whole.into_deserializer()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Written, E> {
        flat(PerMillion::deserialize(number.into_deserializer()))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Written, A::Error> {
        Tiered::deserialize(de::value::MapAccessDeserializer::new(map)).map(Written)
    }
}

fn flat<E>(base: Result<PerMillion, E>) -> Result<Written, E> {
    base.map(|base| {
        Written(Tiered {
            base,
            tiers: Vec::new(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_texts_and_tiers_are_read_exactly() {
        let json = r#"{"output":10,"input":{"base":1.25,"tiers":[[200000,"2.5"]]},"cache_read":"0.125","web_searches":10}"#;
        let prices: Prices = serde_json::from_str(json).unwrap();
        let input = prices.get(Unit::Input).unwrap();
        assert_eq!(input.at(200_000).nanos(), 1_250_000_000);
        assert_eq!(input.at(200_001).nanos(), 2_500_000_000);
        assert_eq!(
            prices.get(Unit::CacheRead).unwrap().base().nanos(),
            125_000_000
        );
        assert_eq!(
            prices.get(Unit::WebSearches).unwrap().base().nanos(),
            10_000_000_000_000
        );
    }

    #[test]
    fn what_is_not_a_price_is_refused() {
        for json in [
            r#"{"input":-1}"#,
            r#"{"input":"1,5"}"#,
            r#"{"input":true}"#,
            r#"{"input":1,"input":2}"#,
            r#"{"input":{"base":1}}"#,
            r#"{"web_searches":9000000000}"#,
            r#"{"cached":1}"#,
        ] {
            assert!(serde_json::from_str::<Prices>(json).is_err(), "{json}");
        }
    }
}
