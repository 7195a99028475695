//! Which counters the books know something of, in memory: what a new counter held before is then
//! known without reading them, which is nothing. Of each counter a hash and the newest cell.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    hash::{BuildHasher as _, RandomState},
    ops::RangeInclusive,
    sync::Arc,
};

use rusqlite::{Connection, Row, params};

use super::{
    books::{BooksError, time, timestamp},
    coding::unit_numbered,
};
use crate::{
    base::clock::Timestamp,
    policy::{CounterName, Unit, Window, window_of},
};

/// The most counters that are remembered, at some 35 bytes each. Where there are more, the counters
/// of a rule are forgotten, and are read from the books again.
pub(super) const MOST: usize = 2_000_000;

/// The counters that the books know, by the identity of their rule.
#[derive(Debug)]
pub(super) struct Known {
    most: usize,
    /// Keyed at random, so that nobody can choose values that collide. Those that do by chance cost
    /// a reading, nothing else.
    hasher: RandomState,
    identities: HashMap<Arc<str>, Cells>,
    count: usize,
    /// Times that the counters of a rule were forgotten.
    given_up: u64,
}

/// What is known of the counters of one identity.
#[derive(Debug, Default)]
struct Cells {
    /// By the hash of values and unit.
    newest: HashMap<u64, Timestamp>,
    /// Nothing is known of cells before.
    since: Timestamp,
}

impl Cells {
    /// Everything has to be read.
    fn given_up() -> Self {
        Self {
            newest: HashMap::new(),
            since: Timestamp::from_nanos(u64::MAX),
        }
    }

    fn is_given_up(&self) -> bool {
        self.since == Timestamp::from_nanos(u64::MAX)
    }
}

impl Known {
    /// Nothing, of books that are empty.
    pub(super) fn nothing(most: usize) -> Self {
        Self {
            most,
            hasher: RandomState::new(),
            identities: HashMap::new(),
            count: 0,
            given_up: 0,
        }
    }

    /// The counters that have something in windows which are not over by `now`.
    ///
    /// # Errors
    /// The books cannot be read.
    pub(super) fn load(db: &Connection, now: Timestamp, most: usize) -> Result<Self, BooksError> {
        let mut known = Self::nothing(most);
        let mut starts = BTreeSet::new();
        let mut rolling = Vec::new();
        let mut identities = db.prepare(IDENTITIES)?;
        let mut rows = identities.query(())?;
        while let Some(row) = rows.next()? {
            let identity: Arc<str> = Arc::from(row.get_ref(0)?.as_str().unwrap_or_default());
            let cells = match window_of(&identity, now) {
                Some((window, since)) => {
                    if let Window::Rolling(_) = window {
                        rolling.push((Arc::clone(&identity), since));
                    } else {
                        starts.insert(since);
                    }
                    Cells {
                        since,
                        ..Cells::default()
                    }
                },
                None => Cells::given_up(),
            };
            known.identities.insert(identity, cells);
        }
        for start in starts {
            known.read(db, "cell = ?", params![time(start)], now)?;
        }
        // The clock may have stepped back.
        known.read(db, "cell > ?", params![time(now)], now)?;
        for (identity, since) in rolling {
            let between = params![identity, time(since), time(now)];
            known.read(db, "identity = ? AND cell BETWEEN ? AND ?", between, now)?;
        }
        Ok(known)
    }

    fn read(
        &mut self,
        db: &Connection,
        which: &str,
        of: &[&dyn rusqlite::ToSql],
        now: Timestamp,
    ) -> Result<(), BooksError> {
        let mut found = db.prepare(&format!(
            "SELECT identity, vals, unit, cell FROM totals JOIN counters ON id = counter
             WHERE {which}"
        ))?;
        let mut rows = found.query(of)?;
        while let Some(row) = rows.next()? {
            self.take(row, now)?;
        }
        Ok(())
    }

    fn take(&mut self, row: &Row<'_>, now: Timestamp) -> Result<(), BooksError> {
        let text = |column| Ok::<_, BooksError>(row.get_ref(column)?.as_str().unwrap_or_default());
        if let Some(unit) = unit_numbered(row.get(2)?) {
            let number = self.number(text(1)?, unit);
            self.put(text(0)?, number, timestamp(row.get(3)?), now);
        }
        Ok(())
    }

    fn number(&self, values: &str, unit: Unit) -> u64 {
        self.hasher.hash_one((values, unit))
    }

    /// Whether the books may have something of `counter` in `cells`.
    pub(super) fn may_hold(
        &self,
        counter: &CounterName,
        cells: &RangeInclusive<Timestamp>,
    ) -> bool {
        let Some(known) = self.identities.get(&counter.identity) else {
            return false;
        };
        let newest = || {
            let number = self.number(&counter.values, counter.unit);
            known.newest.get(&number)
        };
        *cells.start() < known.since || newest().is_some_and(|newest| newest >= cells.start())
    }

    /// The books have something of `counter` in `cell` from now on.
    pub(super) fn add(&mut self, counter: &CounterName, cell: Timestamp, now: Timestamp) {
        if !self.identities.contains_key(&counter.identity) {
            let identity = Arc::clone(&counter.identity);
            self.identities.insert(identity, Cells::default());
        }
        let number = self.number(&counter.values, counter.unit);
        self.put(&counter.identity, number, cell, now);
    }

    fn put(&mut self, identity: &str, number: u64, cell: Timestamp, now: Timestamp) {
        if self.count >= self.most && !self.has(identity, number) {
            self.make_room(identity, now);
        }
        let Some(cells) = self.identities.get_mut(identity) else {
            return;
        };
        if cell < cells.since {
            return; // That is read in any case.
        }
        match cells.newest.entry(number) {
            Entry::Occupied(mut newest) => {
                let newest = newest.get_mut();
                *newest = cell.max(*newest);
            },
            Entry::Vacant(place) => {
                place.insert(cell);
                self.count += 1;
            },
        }
    }

    /// Whether it needs no more room.
    fn has(&self, identity: &str, number: u64) -> bool {
        let cells = self.identities.get(identity);
        cells.is_none_or(|cells| cells.is_given_up() || cells.newest.contains_key(&number))
    }

    /// Forgets what is over; and where that is not enough, all counters of `identity`.
    fn make_room(&mut self, identity: &str, now: Timestamp) {
        self.forget_what_is_over(now);
        if self.count >= self.most
            && let Some(cells) = self.identities.get_mut(identity)
        {
            self.count -= cells.newest.len();
            *cells = Cells::given_up();
            self.given_up += 1;
        }
    }

    /// Forgets counters of windows that are over by `now`.
    pub(super) fn forget_what_is_over(&mut self, now: Timestamp) {
        for (identity, cells) in &mut self.identities {
            let Some((_, since)) = window_of(identity, now) else {
                continue;
            };
            if since > cells.since {
                cells.since = since;
                cells.newest.retain(|_, newest| *newest >= since);
            }
        }
        let left = self.identities.values();
        self.count = left.map(|cells| cells.newest.len()).sum();
    }

    /// How many counters are remembered, and how often those of a rule were forgotten.
    pub(super) const fn counts(&self) -> (usize, u64) {
        (self.count, self.given_up)
    }
}

/// Each identity once, without looking at all of its counters.
const IDENTITIES: &str = "
WITH RECURSIVE found(identity) AS (
    SELECT min(identity) FROM counters
    UNION ALL
    SELECT (SELECT min(identity) FROM counters WHERE identity > found.identity)
    FROM found WHERE found.identity IS NOT NULL)
SELECT identity FROM found WHERE identity IS NOT NULL";

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: &str = "day per=user window=day zone=UTC";
    const HOURS: &str = "six per=user window=6h zone=UTC";
    const ALL: &str = "all per=user window=total zone=UTC";
    const NOW: Timestamp = Timestamp::from_secs(1_795_618_800);
    const TODAY: Timestamp = Timestamp::from_secs(1_795_564_800);
    const HOUR: std::time::Duration = std::time::Duration::from_hours(1);

    fn counter(identity: &str, user: u32) -> CounterName {
        CounterName {
            identity: Arc::from(identity),
            values: Arc::from(format!("user={user}")),
            unit: Unit::Usd,
        }
    }

    fn only(cell: Timestamp) -> RangeInclusive<Timestamp> {
        cell..=cell
    }

    #[test]
    fn only_what_the_books_have_is_read() {
        let mut known = Known::nothing(10);
        assert!(!known.may_hold(&counter(DAY, 1), &only(TODAY)));
        known.add(&counter(DAY, 1), TODAY, NOW);
        assert!(known.may_hold(&counter(DAY, 1), &only(TODAY)));
        assert!(!known.may_hold(&counter(DAY, 2), &only(TODAY)));
        let tokens = CounterName {
            unit: Unit::Tokens,
            ..counter(DAY, 1)
        };
        assert!(!known.may_hold(&tokens, &only(TODAY)));
        let tomorrow = TODAY + 24 * HOUR;
        assert!(!known.may_hold(&counter(DAY, 1), &only(tomorrow)));
        known.add(&counter(HOURS, 1), NOW - 2 * HOUR, NOW);
        let window = |now: Timestamp| now - 6 * HOUR..=Timestamp::from_nanos(u64::MAX);
        assert!(known.may_hold(&counter(HOURS, 1), &window(NOW)));
        assert!(!known.may_hold(&counter(HOURS, 1), &window(NOW + 5 * HOUR)));
        known.add(&counter(ALL, 1), Timestamp::default(), NOW);
        assert!(known.may_hold(&counter(ALL, 1), &only(Timestamp::default())));
        assert!(!known.may_hold(&counter(ALL, 2), &only(Timestamp::default())));
    }

    #[test]
    fn what_is_over_makes_room_and_is_read_if_the_clock_steps_back() {
        let mut known = Known::nothing(2);
        let yesterday = TODAY - 24 * HOUR;
        known.add(&counter(DAY, 1), yesterday, yesterday);
        known.add(&counter(DAY, 2), yesterday, yesterday);
        known.add(&counter(DAY, 3), TODAY, NOW);
        assert_eq!(known.counts(), (1, 0));
        assert!(!known.may_hold(&counter(DAY, 4), &only(TODAY)));
        assert!(known.may_hold(&counter(DAY, 4), &only(yesterday)));
    }

    #[test]
    fn a_rule_of_too_many_counters_is_read_from_then_on() {
        let mut known = Known::nothing(2);
        known.add(&counter(ALL, 1), Timestamp::default(), NOW);
        for user in 1..5 {
            known.add(&counter(DAY, user), TODAY, NOW);
        }
        assert_eq!(known.counts(), (1, 1));
        for user in 1..9 {
            assert!(known.may_hold(&counter(DAY, user), &only(TODAY)));
        }
        assert!(!known.may_hold(&counter(ALL, 2), &only(Timestamp::default())));
    }
}
