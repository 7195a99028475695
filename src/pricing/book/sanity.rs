//! Whether the prices of a book can be meant: mistaken units are the likeliest mistake, and the
//! costliest.

use super::{Book, entry::Line};
use crate::pricing::{config::plausible, price::Prices};

/// How many times as dear or as cheap as in the built-in book a model may be.
const TIMES: i64 = 100;

/// Refuses an entry of `provider`'s whose prices cannot be meant per million tokens, or are far from
/// those that `known` has for the same model.
pub(super) fn check(provider: &str, line: &Line, known: &Book) -> Result<(), String> {
    let id = line.id();
    for (unit, price) in line.sets().flat_map(Prices::iter) {
        let tiers = price.tiers().iter().map(|(_, price)| *price);
        for price in tiers.chain([price.base()]) {
            plausible(unit, price).map_err(|error| format!("{provider}: {id}: {error}"))?;
        }
    }
    let Some(found) = known.find(provider, id) else {
        return Ok(());
    };
    let (Some(latest), Some(usual)) = (line.sets().last(), found.entry.latest()) else {
        return Ok(());
    };
    for (unit, price) in latest.iter() {
        let now = price.base().nanos();
        let before = usual.get(unit).map_or(0, |price| price.base().nanos());
        let far = |one: i64, other: i64| one > other.saturating_mul(TIMES);
        if now > 0 && before > 0 && (far(now, before) || far(before, now)) {
            return Err(format!(
                "{provider}: {id}: `{}` is more than {TIMES} times off what {} has; if it is meant, \
                 set it under `pricing:` in the configuration",
                unit.name(),
                known.name(),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(input: &str) -> Result<Book, String> {
        let text = format!(
            r#"{{"book":"own","version":"1","licence":"none"}}
{{"provider":"openai"}}
{{"id":"gpt-4o","match":{{"equals":"gpt-4o"}},"prices":[{{"usd":{{"input":"{input}","output":"10"}}}}]}}
"#
        );
        Book::parse(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn prices_a_token_and_prices_a_hundred_times_off_are_refused_by_name() {
        assert!(book("2.5").is_ok() && book("200").is_ok() && book("0").is_ok());
        for (price, why) in [
            ("0.0000025", "multiply it by 1,000,000"),
            ("0.0025", "more than 100 times off"),
            ("2500", "more than 100 times off"),
            ("25000", "above $10,000"),
        ] {
            let error = book(price).unwrap_err();
            assert!(
                error.contains("openai: gpt-4o") && error.contains(why),
                "{error}"
            );
        }
    }
}
