//! One entry of the price book: a family of model names that cost the same, and its prices by date
//! and by how the provider served the call.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, de};

use super::clause::Clause;
use crate::{
    base::clock::Timestamp,
    pricing::{
        price::Prices,
        tariff::{Origin, Tariff},
    },
};

/// How the provider served a call, where that changes the price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context<'a> {
    /// The service tier as served, verbatim.
    pub service_tier: Option<&'a str>,
    /// Anthropic's `speed`.
    pub speed: Option<&'a str>,
    /// Where it was served: Anthropic's `inference_geo`.
    pub region: Option<&'a str>,
    /// The call was part of a batch.
    pub batch: bool,
}

/// An entry as it stands in the book.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    id: Box<str>,
    #[serde(rename = "match")]
    clause: Clause,
    window: Option<u64>,
    prices: Vec<Dated>,
    #[serde(default)]
    variants: Vec<Variant>,
}

/// An entry, ready to be asked.
#[derive(Debug)]
pub(super) struct Entry {
    clause: Clause,
    window: Option<u64>,
    dated: Vec<(When, Arc<Tariff>)>,
    /// Each with what it says of itself.
    variants: Vec<(Arc<str>, Variant)>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dated {
    from: Option<Day>,
    daily: Option<(TimeOfDay, TimeOfDay)>,
    usd: Prices,
}

/// Prices that replace the entry's own where the call was served so.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Variant {
    #[serde(deserialize_with = "pairs")]
    when: Pairs,
    from: Option<Day>,
    daily: Option<(TimeOfDay, TimeOfDay)>,
    usd: Prices,
}

/// When prices hold, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct When {
    from: Option<Timestamp>,
    /// Seconds of the day: from the first, inclusive, to the second, exclusive; may pass midnight.
    daily: Option<(u32, u32)>,
}

impl Line {
    /// Its id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Every set of prices, the last being the latest that is no variant.
    pub(super) fn sets(&self) -> impl Iterator<Item = &Prices> {
        let variants = self.variants.iter().map(|variant| &variant.usd);
        variants.chain(self.prices.iter().map(|dated| &dated.usd))
    }
}

impl Entry {
    /// The latest prices.
    pub(super) fn latest(&self) -> Option<&Prices> {
        self.dated.last().map(|(_, tariff)| tariff.prices())
    }

    /// An entry of `provider`'s list in `book`.
    pub(super) fn new(line: Line, book: &Arc<str>, provider: &Arc<str>) -> Self {
        let entry: Arc<str> = line.id.into();
        let dated = line.prices.into_iter().map(|dated| {
            let when = When::new(dated.from.as_ref(), dated.daily.as_ref());
            let origin = Origin::Book {
                book: Arc::clone(book),
                provider: Arc::clone(provider),
                entry: Arc::clone(&entry),
                since: when.from,
            };
            (when, Arc::new(Tariff::new(dated.usd, origin)))
        });
        Self {
            clause: line.clause,
            window: line.window,
            dated: dated.collect(),
            variants: line
                .variants
                .into_iter()
                .map(|variant| (variant.to_string().into(), variant))
                .collect(),
        }
    }

    /// Whether the entry is for `model` (in lower case).
    pub(super) fn matches(&self, model: &str) -> bool {
        self.clause.matches(model)
    }

    /// The most tokens of input, where the book knows.
    pub(super) const fn window(&self) -> Option<u64> {
        self.window
    }

    /// The prices at `at` for a call served as `context` says. `None`: the model is billed by
    /// something that Tollgate does not count.
    pub(super) fn tariff(&self, at: Timestamp, context: &Context<'_>) -> Option<Arc<Tariff>> {
        let standard = self.standard(at)?;
        let mut replaced = Prices::default();
        let mut notes = Vec::new();
        let variants = self.variants.iter();
        for (name, variant) in variants.filter(|(_, variant)| variant.applies(at, context)) {
            let before = replaced.iter().count();
            for (unit, price) in variant.usd.iter() {
                if replaced.get(unit).is_none() {
                    replaced.set(unit, price.clone());
                }
            }
            if replaced.iter().count() > before {
                notes.push(Arc::clone(name));
            }
        }
        if replaced.is_empty() {
            return Some(Arc::clone(standard));
        }
        let mut prices = standard.prices().clone();
        for (unit, price) in replaced.iter() {
            prices.set(unit, price.clone());
        }
        let tariff = Tariff::new(prices, standard.origin().clone());
        Some(Arc::new(tariff.noting(notes)))
    }

    /// Whether it has prices of its own for the service tier that `context` names. Before they
    /// begin, if they do, the usual ones hold.
    pub(super) fn has_tier(&self, context: &Context<'_>) -> bool {
        self.variants.iter().any(|(_, variant)| {
            let of_a_tier = variant.when.iter().any(|(key, _)| &**key == "service_tier");
            of_a_tier && variant.is_for(context)
        })
    }

    /// Prices that no call of that day can exceed, if it is served as `context` asks or as usual.
    /// (A call may be billed by an hour that has not come yet, and by the usual tier if the one
    /// asked for is full.)
    pub(super) fn highest(&self, at: Timestamp, context: &Context<'_>) -> Option<Arc<Tariff>> {
        let standard = self.standard(at)?;
        let served = self.tariff(at, context)?;
        let hourly = self.dated.iter().filter(|(when, _)| when.daily.is_some());
        let first = self
            .dated
            .first()
            .filter(|_| hourly.clone().next().is_some());
        let others = hourly.chain(first).map(|(_, tariff)| tariff);
        let others: Vec<_> = others
            .chain([&served])
            .filter(|other| other.prices() != standard.prices())
            .collect();
        if others.is_empty() {
            return Some(Arc::clone(standard));
        }
        let prices = others
            .into_iter()
            .fold(standard.prices().clone(), |highest, other| {
                highest.max(other.prices())
            });
        Some(Arc::new(Tariff::new(prices, standard.origin().clone())))
    }

    /// Every set of prices that the entry has, with when it holds, in the book's order.
    pub(super) fn all(&self) -> Vec<(String, Prices)> {
        let dated = self
            .dated
            .iter()
            .map(|(when, tariff)| (when.to_string(), tariff.prices().clone()));
        let variants = self
            .variants
            .iter()
            .map(|(name, variant)| (name.to_string(), variant.usd.clone()));
        dated.chain(variants).collect()
    }

    /// The last prices that hold at `at`, else the first.
    fn standard(&self, at: Timestamp) -> Option<&Arc<Tariff>> {
        let holding = self.dated.iter().rev().find(|(when, _)| when.holds(at));
        holding
            .or_else(|| self.dated.first())
            .map(|(_, tariff)| tariff)
    }
}

impl Variant {
    fn when(&self) -> When {
        When::new(self.from.as_ref(), self.daily.as_ref())
    }

    fn applies(&self, at: Timestamp, context: &Context<'_>) -> bool {
        self.when().holds(at) && self.is_for(context)
    }

    /// Whether it is for calls served so, at any time.
    fn is_for(&self, context: &Context<'_>) -> bool {
        let mut conditions = self.when.iter();
        conditions.all(|(key, value)| context.get(key) == Some(&**value))
    }
}

impl<'a> Context<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        match key {
            "service_tier" => self.service_tier,
            "speed" => self.speed,
            // Anthropic says of a batch's answer that its tier is that.
            "processing" => (self.batch || self.service_tier == Some("batch")).then_some("batch"),
            _ => None,
        }
    }
}

impl When {
    fn new(from: Option<&Day>, daily: Option<&(TimeOfDay, TimeOfDay)>) -> Self {
        Self {
            from: from.map(|day| day.0),
            daily: daily.map(|(start, end)| (start.0, end.0)),
        }
    }

    fn holds(self, at: Timestamp) -> bool {
        let second = u32::try_from(at.as_secs() % 86_400).unwrap_or(0);
        let in_hours = self.daily.is_none_or(|(start, end)| {
            if start <= end {
                start <= second && second < end
            } else {
                start <= second || second < end
            }
        });
        in_hours && self.from.is_none_or(|from| at >= from)
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |second: u32| format!("{:02}:{:02}", second / 3_600, second / 60 % 60);
        match (self.from, self.daily) {
            (None, None) => f.write_str("always"),
            (Some(from), None) => write!(f, "from {}", from.to_jiff().strftime("%F")),
            (_, Some((start, end))) => write!(f, "{} to {} UTC", clock(start), clock(end)),
        }
    }
}

/// `service_tier=flex, from 2026-10-14`.
impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, value) in &self.when {
            write!(f, "{key}={value}, ")?;
        }
        self.when().fmt(f)
    }
}

/// The first instant of a day in UTC, written `2026-10-14`.
#[derive(Clone, Copy, Debug)]
struct Day(Timestamp);

/// Seconds since midnight, written `16:30:00`.
#[derive(Clone, Copy, Debug)]
struct TimeOfDay(u32);

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        let date: jiff::civil::Date = text.parse().map_err(de::Error::custom)?;
        let days = date
            .since(jiff::civil::date(1970, 1, 1))
            .map_err(de::Error::custom)?
            .get_days();
        let days = u64::try_from(days).map_err(de::Error::custom)?;
        Ok(Self(Timestamp::from_secs(days * 86_400)))
    }
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        let time: jiff::civil::Time = text.parse().map_err(de::Error::custom)?;
        let fields = [time.hour(), time.minute(), time.second()];
        let seconds = fields
            .into_iter()
            .map(i32::from)
            .fold(0, |sum, field| sum * 60 + field);
        u32::try_from(seconds).map(Self).map_err(de::Error::custom)
    }
}

type Pairs = Vec<(Box<str>, Box<str>)>;

/// Reads a map of text to text as pairs.
fn pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pairs, D::Error> {
    let map = std::collections::BTreeMap::<Box<str>, Box<str>>::deserialize(deserializer)?;
    if map.is_empty() {
        return Err(de::Error::custom("a variant needs at least one condition"));
    }
    Ok(map.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::unit::Unit;

    fn entry(json: &str) -> Entry {
        Entry::new(
            serde_json::from_str(json).unwrap(),
            &Arc::from("a book"),
            &Arc::from("a provider"),
        )
    }

    fn at(text: &str) -> Timestamp {
        let at: jiff::Timestamp = text.parse().unwrap();
        Timestamp::from_nanos(at.as_nanosecond().try_into().unwrap())
    }

    fn input(tariff: Option<Arc<Tariff>>) -> String {
        let price = tariff.unwrap().prices().get(Unit::Input).unwrap().base();
        crate::base::money::Usd::from_nanos(price.nanos())
            .short()
            .to_string()
    }

    #[test]
    fn the_last_prices_that_hold_are_taken_else_the_first() {
        let entry = entry(
            r#"{"id":"m","match":{"equals":"m"},"prices":[
                {"from":"2026-01-01","usd":{"input":"1"}},
                {"from":"2026-05-01","usd":{"input":"2"}},
                {"from":"2026-03-01","usd":{"input":"3"}}]}"#,
        );
        let price = |text| input(entry.tariff(at(text), &Context::default()));
        assert_eq!(price("2025-12-31T00:00:00Z"), "$1.00");
        assert_eq!(price("2026-02-28T23:59:59Z"), "$1.00");
        assert_eq!(price("2026-03-01T00:00:00Z"), "$3.00");
        assert_eq!(price("2026-06-01T00:00:00Z"), "$3.00");
    }

    #[test]
    fn an_hourly_price_starts_at_its_first_second_and_may_pass_midnight() {
        let entry = entry(
            r#"{"id":"m","match":{"equals":"m"},"prices":[
                {"usd":{"input":"1"}},
                {"daily":["16:30:00","00:30:00"],"usd":{"input":"2"}}]}"#,
        );
        let price = |text| input(entry.tariff(at(text), &Context::default()));
        assert_eq!(price("2026-01-01T16:29:59Z"), "$1.00");
        assert_eq!(price("2026-01-01T16:30:00Z"), "$2.00");
        assert_eq!(price("2026-01-02T00:29:59.9Z"), "$2.00");
        assert_eq!(price("2026-01-02T00:30:00Z"), "$1.00");
        let highest = input(entry.highest(at("2026-01-01T12:00:00Z"), &Context::default()));
        assert_eq!(highest, "$2.00");
    }

    #[test]
    fn the_first_variant_that_sets_a_price_wins_and_the_rest_stays() {
        let entry = entry(
            r#"{"id":"m","match":{"equals":"m"},"prices":[{"usd":{"input":"2","output":"8"}}],"variants":[
                {"when":{"service_tier":"flex"},"from":"2026-10-14","usd":{"input":"1"}},
                {"when":{"service_tier":"flex"},"usd":{"input":"1.5","output":"6"}},
                {"when":{"service_tier":"priority","speed":"fast"},"usd":{"input":"9"}}]}"#,
        );
        let served = |service_tier, speed| Context {
            service_tier: Some(service_tier),
            speed,
            ..Context::default()
        };
        let flex = served("flex", None);
        let early = entry.tariff(at("2026-10-13T23:59:59Z"), &flex).unwrap();
        assert_eq!(input(Some(Arc::clone(&early))), "$1.50");
        let late = entry.tariff(at("2026-10-14T00:00:00Z"), &flex).unwrap();
        assert_eq!(input(Some(Arc::clone(&late))), "$1.00");
        assert_eq!(
            early.prices().get(Unit::Output),
            late.prices().get(Unit::Output)
        );
        let later = at("2026-10-14T00:00:00Z");
        for standard in [
            served("Flex", None),
            served("priority", None),
            served("auto", None),
        ] {
            assert_eq!(input(entry.tariff(later, &standard)), "$2.00");
        }
        let fast = served("priority", Some("fast"));
        assert_eq!(input(entry.tariff(later, &fast)), "$9.00");
        assert_eq!(input(entry.highest(later, &fast)), "$9.00");
        assert_eq!(input(entry.highest(later, &flex)), "$2.00");
    }

    #[test]
    fn an_entry_without_prices_has_no_tariff() {
        let entry = entry(r#"{"id":"whisper","match":{"equals":"whisper"},"prices":[]}"#);
        assert!(
            entry
                .tariff(Timestamp::default(), &Context::default())
                .is_none()
        );
    }

    #[test]
    fn a_wrong_entry_says_what_is_wrong() {
        for (json, error) in [
            (
                r#"{"id":"m","match":{"equals":"m"},"prices":[{"usd":{"inptu":"1"}}]}"#,
                "inptu",
            ),
            (r#"{"id":"m","match":{"is":"m"},"prices":[]}"#, "is"),
            (
                r#"{"id":"m","match":{"equals":"m"},"prices":[{"from":"soon","usd":{}}]}"#,
                "year",
            ),
            (
                r#"{"id":"m","match":{"equals":"m"},"prices":[{"usd":{"input":"-1"}}]}"#,
                "below zero",
            ),
        ] {
            let found = serde_json::from_str::<Line>(json).unwrap_err().to_string();
            assert!(found.contains(error), "{found}");
        }
    }
}
