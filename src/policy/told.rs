//! Which thresholds were told of, kept across restarts: each is told of once a window, however often
//! the process dies.
//!
//! A crossing is told first and journalled then. So one that a kill comes before is told by the next
//! start; only a kill between the two, which are microseconds apart, has it told twice, in the same
//! words: rule, values, level and window name it.

use std::sync::Arc;

use super::{
    counter::Counter,
    engine::Engine,
    journal::{CounterName, Entry, JournalDown},
    purse::Purse,
    table::Claim,
    threshold::{Crossing, Level},
};
use crate::base::clock::Timestamp;

/// A threshold that was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The counter that reached it.
    pub counter: CounterName,
    /// The first instant of its calendar window; zero for others.
    pub window: Timestamp,
    /// The threshold.
    pub level: Level,
    /// When.
    pub at: Timestamp,
}

impl Purse {
    /// To be called once a crossing was told of. Where it cannot be journalled it may be told of
    /// again after a restart.
    pub fn told(&self, crossing: &Crossing) {
        let told = Told {
            counter: CounterName {
                identity: Arc::clone(&crossing.identity),
                values: Arc::clone(&crossing.values),
                unit: crossing.unit,
            },
            window: crossing.window,
            level: crossing.level,
            at: crossing.at,
        };
        // The journal counts what it cannot write.
        let _position = self.journal.write(&Entry::Crossed(&told));
    }

    /// Whether the claim's counter is in memory, or has a threshold to be told of. The others stay out,
    /// since there may not be room for all.
    fn may_tell(&self, claim: &mut Claim, now: Timestamp) -> Result<bool, JournalDown> {
        if self.table.lock().find(claim) {
            return Ok(true);
        }
        let mut counter = Counter::new(claim, &self.recall(claim, now)?, now);
        counter.balance.advance(now);
        Ok(counter.crossing(now).is_some())
    }
}

impl Engine {
    /// The thresholds that `counters` have reached in windows that are not over, and that nobody was
    /// told of: what the last run did not get to say, and what was charged for its calls in flight.
    ///
    /// # Errors
    /// What a counter held before cannot be known, and calls shall not pass without.
    pub fn untold(
        &self,
        counters: &[(CounterName, Timestamp)],
        now: Timestamp,
    ) -> Result<Vec<Crossing>, JournalDown> {
        let mut claims: Vec<Claim> = Vec::new();
        for (counter, cell) in counters {
            let mut rules = self.rules.iter().filter(|rule| rule.is_budget());
            let Some(rule) = rules.find(|rule| {
                let counts = |(unit, _): &(_, _)| *unit == counter.unit;
                rule.identity == counter.identity && rule.limits.iter().any(counts)
            }) else {
                continue;
            };
            let claim = Claim::on(rule, counter.unit, &counter.values, now);
            // A rolling window has many cells, and no name.
            let is_over = claim.window != *cell && claim.window != Timestamp::default();
            let same = |other: &Claim| {
                Arc::ptr_eq(&other.rule, rule)
                    && (other.unit, &other.values) == (claim.unit, &claim.values)
            };
            if !is_over && !claims.last().is_some_and(same) {
                claims.push(claim);
            }
        }
        let mut telling = Vec::new();
        for mut claim in claims {
            if self.purse.may_tell(&mut claim, now)? {
                telling.push(claim);
            }
        }
        let mut claims = telling;
        self.purse.look(&mut claims, now)?;
        Ok(self.purse.crossings(&claims))
    }
}
