//! The table inside the purse: counters by key, and the time as it was told.

use std::{sync::Arc, time::Duration};

use super::{
    counter::{Counter, Recalled, Seen, Unit, Verdict},
    index::Index,
    queue::Waiting,
    rule::Rule,
    slots::Slots,
    told,
};
use crate::base::clock::Timestamp;

/// A part of an admission: so much of one rule's counter. Before admission it says what is asked,
/// after it what is held.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) rule: Arc<Rule>,
    pub(super) unit: Unit,
    pub(super) values: Arc<str>,
    /// The first instant of the calendar window; zero for others. Names the counter.
    pub(super) window: Timestamp,
    /// The cell of a rolling window that it was admitted in; else as `window`.
    pub(super) cell: Timestamp,
    /// What is asked, or held. `None`: nothing, whatever the counter says.
    pub(super) ask: Option<i64>,
    /// The next change: what it shall grow by, or what was spent.
    pub(super) change: i64,
    /// The counter's place in the table, once it was looked up.
    pub(super) place: u32,
    /// How the counter stood when it was looked at.
    pub(super) seen: Seen,
}

impl Claim {
    /// Names a counter in its present window.
    pub(super) fn on(rule: &Arc<Rule>, unit: Unit, values: &Arc<str>, now: Timestamp) -> Self {
        let window = rule.window_of(unit, now);
        Self {
            rule: Arc::clone(rule),
            unit,
            values: Arc::clone(values),
            window,
            cell: window,
            ask: None,
            change: 0,
            place: u32::MAX,
            seen: Seen::NOTHING,
        }
    }

    /// Whether a rule that only watches would have stopped the call.
    pub(super) fn is_shadowed(&self) -> bool {
        !self.rule.enforces() && self.seen.verdict != Verdict::Fits
    }

    /// What it holds.
    pub(super) fn held(&self) -> i64 {
        self.ask.unwrap_or(0)
    }
}

/// Counters by rule, unit, window and values. Places stay the same as long as a counter is in use.
#[derive(Debug, Default)]
pub(super) struct Table {
    index: Index,
    counters: Slots<Counter>,
    pub(super) waiting: Waiting,
    clock: Told,
}

/// What the table knows of the time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// The wall clock.
    pub(super) wall: Timestamp,
    /// The sum of its steps forward: goes on whatever the clock does. Rate limits live by it.
    pub(super) elapsed: Duration,
}

impl Told {
    /// The time that a rule lives by.
    fn of(self, rule: &Rule) -> Timestamp {
        if rule.is_budget() {
            self.wall
        } else {
            Timestamp::default() + self.elapsed
        }
    }
}

impl Table {
    /// Takes note of the time.
    pub(super) fn tell(&mut self, now: Timestamp) -> Told {
        if self.clock.wall != Timestamp::default() {
            self.clock.elapsed += now.since(self.clock.wall);
        }
        self.clock.wall = now;
        self.clock
    }

    /// The counter at `place`, with what has left its window let go, and the time that it lives by.
    pub(super) fn at(&mut self, place: u32) -> Option<(&mut Counter, Timestamp)> {
        let clock = self.clock;
        let counter = self.counters.get_mut(place)?;
        let now = clock.of(&counter.rule);
        counter.balance.advance(now);
        counter.touch(clock.elapsed);
        Some((counter, now))
    }

    /// Finds the claim's counter; false if it is not there.
    pub(super) fn find(&self, claim: &mut Claim) -> bool {
        let is_its = |place: u32| {
            let found = self.counters.get(place);
            found.is_some_and(|counter| counter.is_of(claim))
        };
        // It was looked up before, and its counter is still where it was.
        if is_its(claim.place) {
            return true;
        }
        let Some(place) = self.index.find(claim, is_its) else {
            return false;
        };
        claim.place = place;
        true
    }

    /// Brings the claim's counter into being, unless it is there by now.
    pub(super) fn open(&mut self, claim: &mut Claim, recalled: &Recalled, now: Timestamp) {
        if self.find(claim) {
            return;
        }
        if let Some(place) = self.counters.put(Counter::new(claim, recalled, now)) {
            claim.place = place;
            self.index.insert(place, &self.counters);
        }
    }

    /// The claim's rule asks its counter; see [`Counter::ask_by`].
    pub(super) fn ask(&mut self, claim: &Claim) -> Option<told::Told> {
        let (counter, now) = self.at(claim.place)?;
        counter.ask_by(&claim.rule, now)
    }

    /// Sets aside what the claim asks for.
    pub(super) fn hold(&mut self, claim: &mut Claim) {
        if let Some((counter, _)) = self.at(claim.place) {
            claim.cell = counter.balance.cell(claim.window);
            self.hold_again(claim);
        }
    }

    /// Sets aside what the claim holds, in the cell that it was admitted in.
    pub(super) fn hold_again(&mut self, claim: &Claim) {
        if let Some((counter, _)) = self.at(claim.place) {
            // The clock may have stepped back since.
            counter.balance.advance(claim.cell);
            counter.balance.reserve(claim.cell, claim.held());
            counter.holds += 1;
        }
    }

    /// How many counters there are.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Every counter, with what has left its window let go.
    pub(super) fn all(&mut self) -> impl Iterator<Item = &Counter> {
        let clock = self.clock;
        self.counters.iter_mut().map(move |counter| {
            counter.balance.advance(clock.of(&counter.rule));
            &*counter
        })
    }

    /// Lets counters go that nobody uses and that were not looked at for `idle`, if `may_go`.
    pub(super) fn forget(&mut self, idle: Duration, may_go: impl Fn(&Counter) -> bool) {
        let Self {
            index,
            counters,
            clock,
            ..
        } = self;
        index.retain(|place| {
            let stays = counters
                .get(place)
                .is_some_and(|counter| !counter.is_idle(clock.elapsed, idle) || !may_go(counter));
            if !stays {
                counters.clear(place);
            }
            stays
        });
    }
}
