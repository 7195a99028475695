//! The price book: which models cost what, by provider and date.
//!
//! Its text is `prices.jsonl`, compiled in; `refresh.py` writes it anew. A provider's list is only
//! parsed when one of its models is asked for, so the book costs nothing at the start.
//!
//! # The format
//! JSON, an object a line. The first names the book. A line with `provider` opens that provider's
//! list (`fallback`: whose lists are searched when its own has no match); every line after it is an
//! entry: `match` says which model names it is for (the first that matches holds), `window` is the
//! context window in tokens, `prices` are US dollars per million tokens or per thousand searches or
//! requests (`usd`; none at all is a known zero), with `from` (a UTC date, inclusive) or `daily` (a
//! UTC time of day, from and to), the last that holds; `variants` replace single prices where the
//! provider served the call so. An entry without `prices` is billed by something that is not
//! counted, so its price is unknown.

mod clause;
mod entry;
mod sanity;

use std::{borrow::Cow, collections::HashMap, ops::Range, sync::Arc};

use parking_lot::RwLock;
use serde::Deserialize;

pub use entry::Context;
use entry::{Entry, Line};

use super::{price::Prices, tariff::Tariff};
use crate::base::clock::Timestamp;

const BUILT_IN: &str = include_str!("prices.jsonl");

/// A price book.
#[derive(Debug)]
pub struct Book {
    text: Cow<'static, str>,
    name: Arc<str>,
    lists: HashMap<Box<str>, List>,
}

/// What the book says about one model of one provider.
#[derive(Clone, Debug)]
pub struct Found {
    entry: Arc<Entry>,
    /// The entry is of another provider, which this one resells; its variants then do not apply.
    borrowed: bool,
}

/// The text is not a price book.
#[derive(Debug, thiserror::Error)]
#[error(
    "line {line} of the price book is wrong: {source}; the format is that of the built-in book"
)]
pub struct BookError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub source: serde_json::Error,
}

type Entries = Arc<[Arc<Entry>]>;

/// One provider's list.
#[derive(Debug)]
struct List {
    id: Arc<str>,
    fallback: Vec<Box<str>>,
    lines: Range<usize>,
    /// Parsed when first asked for; as large as the list.
    entries: RwLock<Option<Entries>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Title {
    book: Box<str>,
    version: Box<str>,
    #[serde(rename = "licence")]
    _licence: Box<str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Opening {
    provider: Box<str>,
    #[serde(default)]
    fallback: Vec<Box<str>>,
}

impl Book {
    /// The book that is compiled in.
    pub fn built_in() -> Self {
        // A test reads every line of it.
        Self::open(Cow::Borrowed(BUILT_IN)).unwrap_or_else(|_| Self {
            text: Cow::Borrowed(""),
            name: Arc::from("no book"),
            lists: HashMap::new(),
        })
    }

    /// A book of the user's own. Reads all of it, so that mistakes show now.
    ///
    /// # Errors
    /// The first line that is wrong, or whose prices cannot be meant.
    pub fn parse(text: &str) -> Result<Self, BookError> {
        let book = Self::open(Cow::Owned(text.to_owned()))?;
        let known = Self::built_in();
        let mut provider = Box::default();
        for (line, number) in text.lines().zip(1..).skip(1) {
            if opens(line) {
                provider = read::<Opening>(line, number)?.provider;
                continue;
            }
            let entry = read::<Line>(line, number)?;
            sanity::check(&provider, &entry, &known).map_err(|error| BookError {
                line: number,
                source: serde::de::Error::custom(error),
            })?;
        }
        Ok(book)
    }

    /// Its name and version: `genai-prices 0.2.3`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The providers that it has lists of, by its own ids, sorted.
    pub fn providers(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = self.lists.keys().map(|id| &**id).collect();
        ids.sort_unstable();
        ids
    }

    /// The providers of which the built-in book has models and this one has none, sorted.
    pub fn lacks(&self) -> Vec<Box<str>> {
        let known = Self::built_in();
        let mut lacking = known.lists;
        lacking.retain(|id, list| {
            let own = self.lists.get(id);
            !list.lines.is_empty() && own.is_none_or(|own| own.lines.is_empty())
        });
        let mut lacking: Vec<_> = lacking.into_keys().collect();
        lacking.sort_unstable();
        lacking
    }

    /// Whether it was read from exactly this text.
    pub fn is_text(&self, text: &str) -> bool {
        self.text == text
    }

    /// What it says about `model` of `provider`, one of its own provider ids.
    pub fn find(&self, provider: &str, model: &str) -> Option<Found> {
        let list = self.lists.get(provider)?;
        let model = model.to_lowercase();
        self.search(list, &model)
            .or_else(|| self.search(list, &with_dashed_date(&model)?))
    }

    /// Finds the lists without reading them.
    fn open(text: Cow<'static, str>) -> Result<Self, BookError> {
        let mut lines = text.split_inclusive('\n').zip(1..);
        let title = lines.next().map_or("", |(line, _)| line);
        let title: Title = read(title, 1)?;
        let mut lists: HashMap<Box<str>, List> = HashMap::new();
        let mut list: Option<List> = None;
        let mut start = text.find('\n').map_or(text.len(), |end| end + 1);
        for (line, number) in lines {
            let end = start + line.len();
            if opens(line) {
                let opening = read(line, number)?;
                lists.extend(list.replace(List::new(opening, end)).map(List::by_id));
            } else if let Some(list) = &mut list {
                list.lines.end = end;
            }
            start = end;
        }
        lists.extend(list.map(List::by_id));
        let name = format!("{} {}", title.book, title.version).into();
        Ok(Self { text, name, lists })
    }

    /// The first match in the provider's own list, else in those it falls back to (one step).
    fn search(&self, list: &List, model: &str) -> Option<Found> {
        let own = std::iter::once((list, false));
        let others = list.fallback.iter().filter_map(|id| self.lists.get(id));
        own.chain(others.map(|other| (other, true)))
            .find_map(|(list, borrowed)| {
                let entries = self.entries(list);
                let entry = entries.iter().find(|entry| entry.matches(model))?;
                Some(Found {
                    entry: Arc::clone(entry),
                    borrowed,
                })
            })
    }

    fn entries(&self, list: &List) -> Entries {
        if let Some(entries) = &*list.entries.read() {
            return Arc::clone(entries);
        }
        let text = self.text.get(list.lines.clone()).unwrap_or_default();
        // A line that cannot be read was refused by `parse`, or by the test of the built-in book.
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Line>(line).ok());
        let read = lines.map(|line| Arc::new(Entry::new(line, &self.name, &list.id)));
        Arc::clone(list.entries.write().get_or_insert_with(|| read.collect()))
    }
}

impl List {
    /// An empty list whose first line starts at `start`.
    fn new(opening: Opening, start: usize) -> Self {
        Self {
            id: opening.provider.into(),
            fallback: opening.fallback,
            lines: start..start,
            entries: RwLock::new(None),
        }
    }

    fn by_id(self) -> (Box<str>, Self) {
        (Box::from(&*self.id), self)
    }
}

impl Found {
    /// The prices at `at` for a call served as `context` says. `None`: the model is known, but
    /// billed by something that Tollgate does not count (hours of audio, pages).
    pub fn tariff(&self, at: Timestamp, context: &Context<'_>) -> Option<Arc<Tariff>> {
        self.entry.tariff(at, self.applicable(context))
    }

    /// Prices that a call made at `at` cannot exceed, if it is served as `context` asks or as usual.
    pub fn highest(&self, at: Timestamp, context: &Context<'_>) -> Option<Arc<Tariff>> {
        self.entry.highest(at, self.applicable(context))
    }

    /// Whether it has prices of its own for the service tier that `context` names.
    pub fn has_tier(&self, context: &Context<'_>) -> bool {
        self.entry.has_tier(self.applicable(context))
    }

    /// The context window in tokens, where the book knows it.
    pub fn window(&self) -> Option<u64> {
        self.entry.window()
    }

    /// Every set of prices that the entry has, with when it holds.
    pub fn all(&self) -> Vec<(String, Prices)> {
        self.entry.all()
    }

    fn applicable<'a>(&self, context: &'a Context<'a>) -> &'a Context<'a> {
        const USUAL: Context<'static> = Context {
            service_tier: None,
            speed: None,
            region: None,
            batch: false,
        };
        if self.borrowed { &USUAL } else { context }
    }
}

fn read<'a, T: Deserialize<'a>>(line: &'a str, number: usize) -> Result<T, BookError> {
    serde_json::from_str(line).map_err(|source| BookError {
        line: number,
        source,
    })
}

/// Whether the line opens a provider's list.
fn opens(line: &str) -> bool {
    line.starts_with(r#"{"provider""#)
}

/// `gpt-5.2-20251211` as `gpt-5.2-2025-12-11`, which is how the book has dated names of OpenAI's;
/// `None` if there is no such date in `model`.
fn with_dashed_date(model: &str) -> Option<String> {
    let mut rewritten = String::with_capacity(model.len() + 2);
    let mut changed = false;
    for (place, part) in model.split('-').enumerate() {
        if place > 0 {
            rewritten.push('-');
        }
        // A date may be followed by `:free` and the like.
        let (date, rest) = part.split_at_checked(8).unwrap_or((part, ""));
        let dated =
            place > 0 && (rest.is_empty() || rest.starts_with(':')) && date.starts_with("20");
        if let Some(date) = dated.then(|| calendar_date(date)).flatten() {
            changed = true;
            rewritten.push_str(&date.to_string());
            rewritten.push_str(rest);
        } else {
            rewritten.push_str(part);
        }
    }
    changed.then_some(rewritten)
}

/// `20251211` as a date, if it is one.
fn calendar_date(text: &str) -> Option<jiff::civil::Date> {
    let all_digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit());
    let digits: i32 = all_digits.then(|| text.parse().ok()).flatten()?;
    let (year, month, day) = (digits / 10_000, digits / 100 % 100, digits % 100);
    let (year, month, day) = (
        year.try_into().ok()?,
        month.try_into().ok()?,
        day.try_into().ok()?,
    );
    jiff::civil::Date::new(year, month, day).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"{"book":"small","version":"1","licence":"none"}
{"provider":"reseller","fallback":["maker"]}
{"id":"own","match":{"equals":"own"},"prices":[{"usd":{"input":"7"}}]}
{"provider":"maker"}
{"id":"first","match":{"starts_with":"m"},"prices":[{"usd":{"input":"1"}}],"variants":[{"when":{"service_tier":"flex"},"usd":{"input":"2"}}]}
{"id":"second","match":{"equals":"m-2"},"prices":[{"usd":{"input":"3"}}]}
{"id":"dated","match":{"equals":"x-2025-12-11:free"},"window":128000,"prices":[{"usd":{"input":"4"}}]}
"#;

    fn input(book: &Book, provider: &str, model: &str, tier: Option<&str>) -> Option<i64> {
        let context = Context {
            service_tier: tier,
            ..Context::default()
        };
        let tariff = book
            .find(provider, model)?
            .tariff(Timestamp::default(), &context)?;
        let price = tariff.prices().get(super::super::unit::Unit::Input)?;
        Some(price.base().nanos() / 1_000_000_000)
    }

    #[test]
    fn every_line_of_the_built_in_book_can_be_read() {
        let book = Book::parse(BUILT_IN).unwrap();
        assert!(book.name().starts_with("genai-prices "));
        let lists = book.lists.values();
        let entries: usize = lists.map(|list| book.entries(list).len()).sum();
        assert_eq!(entries + book.lists.len() + 1, BUILT_IN.lines().count());
        assert!(book.lists.len() > 40 && entries > 2_000);
        let mut fallbacks = book.lists.values().flat_map(|list| &list.fallback);
        assert!(fallbacks.all(|id| book.lists.contains_key(id)));
    }

    #[test]
    fn the_first_match_holds_and_names_ignore_case() {
        let book = Book::parse(SMALL).unwrap();
        assert_eq!(input(&book, "maker", "m-2", None), Some(1));
        assert_eq!(input(&book, "maker", "M-3", None), Some(1));
        assert_eq!(input(&book, "maker", "own", None), None);
        assert_eq!(input(&book, "nobody", "m", None), None);
    }

    #[test]
    fn a_reseller_falls_back_to_the_makers_list_without_its_variants() {
        let book = Book::parse(SMALL).unwrap();
        assert_eq!(input(&book, "reseller", "own", None), Some(7));
        assert_eq!(input(&book, "reseller", "m-2", Some("flex")), Some(1));
        assert_eq!(input(&book, "maker", "m-2", Some("flex")), Some(2));
    }

    #[test]
    fn a_compact_date_is_tried_with_dashes() {
        let book = Book::parse(SMALL).unwrap();
        assert_eq!(input(&book, "maker", "x-20251211:free", None), Some(4));
        assert_eq!(input(&book, "reseller", "x-20251211:free", None), Some(4));
        assert_eq!(input(&book, "maker", "x-20251311:free", None), None);
        assert_eq!(with_dashed_date("a-20250230-b"), None);
        assert_eq!(with_dashed_date("a-20250228-b").unwrap(), "a-2025-02-28-b");
        assert_eq!(with_dashed_date("20250228"), None);
        assert_eq!(with_dashed_date("a-2025022é"), None);
    }

    #[test]
    fn a_wrong_book_names_the_line() {
        for (text, line) in [
            ("", 1),
            ("{}", 1),
            ("not json", 1),
            (
                &*SMALL.replace(r#""usd":{"input":"3"}"#, r#""usd":{"input":"three"}"#),
                6,
            ),
            (&*SMALL.replace(r#""fallback""#, r#""falback""#), 2),
        ] {
            assert_eq!(Book::parse(text).unwrap_err().line, line, "{text}");
        }
    }
}
