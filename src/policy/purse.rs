//! The purse: every live counter in one table behind one short lock.
//!
//! An admission takes the lock once, looks at every counter that matches the call, and sets its
//! amounts aside in all of them or in none. What was set aside becomes what was spent exactly
//! once, by the [`Hold`](super::hold::Hold) that owns it. At all times, for each counter,
//! limit = spent + reserved + free - overrun.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};

use super::{
    counter::{Counter, Raise, Recalled, Standing, Verdict},
    journal::{CounterName, Entry, Journal, JournalDown},
    matcher::OVERFLOW,
    queue::{Ticket, Waiting, Wakers},
    subject::Amounts,
    table::{Claim, Table, Told},
    tally::{Counts, Tallies},
    threshold::Crossing,
    told,
    window::Window,
};
use crate::base::clock::Timestamp;

/// The table of live counters. It outlives the rules: an edited rule finds its counters again by
/// its identity.
#[derive(Debug)]
pub struct Purse {
    pub(super) table: Mutex<Table>,
    /// The most counters; beyond, new values share their rule's counter `overflow`.
    bound: usize,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) tallies: Tallies,
}

/// Whether whoever settles can report a crossing. One that is not reported is reported by the next
/// who can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    Now,
    Later,
}

impl Purse {
    /// An empty purse of at most `bound` counters (`limits.counters`). What a counter held before
    /// is asked of `journal` when the counter is first needed.
    pub fn new(journal: Arc<dyn Journal>, bound: usize) -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::default(),
            bound,
            journal,
            tallies: Tallies::default(),
        })
    }

    pub(super) const fn bound(&self) -> usize {
        self.bound
    }

    /// Sets aside again what `claims` held when the last run ended, whether or not it fits.
    pub(super) fn hold_again(
        &self,
        claims: &mut [Claim],
        now: Timestamp,
    ) -> Result<(), JournalDown> {
        let (mut table, _) = self.opened(claims, now)?;
        for claim in claims {
            table.hold_again(claim);
        }
        drop(table);
        Ok(())
    }

    /// Takes `claims` in with what they ask for, whether or not it fits.
    pub(super) fn take_in(&self, claims: &mut [Claim], now: Timestamp) -> Result<(), JournalDown> {
        let (mut table, _) = self.opened(claims, now)?;
        for claim in claims {
            table.hold(claim);
        }
        drop(table);
        Ok(())
    }

    /// Journals that a response was billed; see [`Entry::Billed`].
    pub fn note_billed(&self, response: u64) {
        self.journal.note(&Entry::Billed(response));
    }

    /// Looks at every claim's counter as an admission would, and sets nothing aside.
    pub(super) fn look(&self, claims: &mut [Claim], now: Timestamp) -> Result<(), JournalDown> {
        let (mut table, _) = self.opened(claims, now)?;
        for claim in claims {
            if let Some((counter, now)) = table.at(claim.place) {
                let verdict = claim
                    .ask
                    .map_or(Verdict::Fits, |ask| counter.judge(ask, now));
                claim.seen = counter.seen(verdict, now);
            }
        }
        drop(table);
        Ok(())
    }

    /// Sets `change` aside for each claim that is held, in all counters or in none; the number of
    /// the claim that refused, otherwise. Giving back (a change below zero) is never refused.
    pub(super) fn grow(&self, claims: &mut [Claim], now: Timestamp) -> Result<(), usize> {
        let mut table = self.table.lock();
        table.tell(now);
        for (number, claim) in claims.iter_mut().enumerate() {
            let Some((counter, now)) = table.at(claim.place) else {
                continue;
            };
            let verdict = counter.judge_more(claim.held(), claim.change, now);
            if claim.change > 0 && claim.rule.enforces() && verdict != Verdict::Fits {
                claim.seen = counter.seen(verdict, now);
                return Err(number);
            }
        }
        for claim in claims.iter_mut().filter(|claim| claim.change != 0) {
            if let Some((counter, _)) = table.at(claim.place) {
                counter.balance.reserve(claim.cell, claim.change);
                claim.ask = Some(claim.held().saturating_add(claim.change));
            }
        }
        drop(table);
        Ok(())
    }

    /// Turns what each claim holds into its `change`, what was spent, and wakes those who wait.
    pub(super) fn settle(&self, claims: &[Claim], report: Report) -> Vec<Crossing> {
        let mut crossings = Vec::new();
        let mut wakers = Wakers::default();
        let mut table = self.table.lock();
        for claim in claims {
            let Some((counter, now)) = table.at(claim.place) else {
                continue;
            };
            counter
                .balance
                .settle(claim.cell, claim.held(), claim.change);
            counter.holds = counter.holds.saturating_sub(1);
            if report == Report::Now {
                crossings.extend(counter.crossing(now));
            }
            if let Some(first) = counter.first_waiting() {
                wakers.add(table.waiting.wake(first));
            }
        }
        drop(table);
        wakers.wake();
        self.tallies.overruns(claims);
        crossings
    }

    pub(super) fn tally_unsettled(&self) {
        self.tallies.unsettled();
    }

    /// The least that is free in the counters of `claims`, by unit; those that only watch aside.
    pub(super) fn left(&self, claims: &[Claim], now: Timestamp) -> Amounts {
        let mut left = Amounts::default();
        let mut table = self.table.lock();
        table.tell(now);
        for claim in claims.iter().filter(|claim| claim.rule.enforces()) {
            if let Some((counter, now)) = table.at(claim.place) {
                left.lower(claim.unit, counter.free(now));
            }
        }
        drop(table);
        left
    }

    /// Crossings that nobody has reported yet.
    pub(super) fn crossings(&self, claims: &[Claim]) -> Vec<Crossing> {
        let mut table = self.table.lock();
        let crossing = |claim: &Claim| {
            let (counter, now) = table.at(claim.place)?;
            counter.crossing(now)
        };
        claims.iter().filter_map(crossing).collect()
    }

    /// How long until enough has left a rolling window for the claim to fit, if it ever will.
    pub(super) fn clears_in(&self, claim: &Claim) -> Option<Duration> {
        let mut table = self.table.lock();
        let (counter, now) = table.at(claim.place)?;
        let wait = counter.clears_in(claim.held(), now);
        drop(table);
        wait
    }

    /// The limit of the claim's counter with the raises that hold; as written if it is not in memory.
    pub(super) fn raised_limit(&self, claim: &Claim, now: Timestamp) -> i64 {
        let mut table = self.table.lock();
        let limit = table
            .at(claim.place)
            .map(|(counter, _)| counter.raised_limit(now));
        drop(table);
        limit.unwrap_or_else(|| claim.rule.limit(claim.unit))
    }

    /// What was spent, by cell, in the claim's counter: what a reset gives back.
    pub(super) fn spent_by_cell(
        &self,
        claim: &mut Claim,
        now: Timestamp,
    ) -> Result<Vec<(Timestamp, i64)>, JournalDown> {
        let (mut table, _) = self.opened(std::slice::from_mut(claim), now)?;
        let spent = table
            .at(claim.place)
            .map(|(counter, _)| counter.balance.by_cell(claim.window));
        drop(table);
        Ok(spent.unwrap_or_default())
    }

    /// Changes the claim's counter, if it is in memory, by an entry of the ledger: takes `credits`
    /// off what was spent, and raises its limit. Thresholds that it is under by that are told of anew
    /// when it reaches them again, also after a restart.
    pub(super) fn adjust(
        &self,
        claim: &Claim,
        credits: &[(Timestamp, i64)],
        raise: Option<Raise>,
        now: Timestamp,
    ) {
        let mut lowered = None;
        let mut wakers = Wakers::default();
        let mut table = self.table.lock();
        table.tell(now);
        if let Some((counter, _)) = table.at(claim.place) {
            for (cell, credit) in credits {
                counter.balance.recall(*cell, credit.saturating_neg());
            }
            counter.raise(raise.as_slice());
            lowered = counter.rearm(now);
            if let Some(first) = counter.first_waiting() {
                wakers.add(table.waiting.wake(first));
            }
        }
        drop(table);
        wakers.wake();
        self.note_rearmed(lowered.as_slice());
    }

    /// As the last thing that was told of each. The journal counts what it cannot write.
    fn note_rearmed(&self, rearmed: &[told::Told]) {
        for told in rearmed {
            let _position = self.journal.write(&Entry::Crossed(told));
        }
    }

    /// The table, locked, with the claims' counters in it, each asked by the claim's rule. What a new
    /// counter held before is asked of the ledger while the lock is not held, and what another limit
    /// brings under a threshold is journalled then.
    pub(super) fn opened(
        &self,
        claims: &mut [Claim],
        now: Timestamp,
    ) -> Result<(MutexGuard<'_, Table>, Told), JournalDown> {
        loop {
            let mut table = self.table.lock();
            let told = table.tell(now);
            let new = self.missing(&table, claims);
            if new.is_empty() {
                let asked = claims.iter().filter_map(|claim| table.ask(claim));
                let rearmed: Vec<_> = asked.collect();
                if rearmed.is_empty() {
                    return Ok((table, told));
                }
                drop(table);
                self.note_rearmed(&rearmed);
                continue;
            }
            drop(table);
            let recalled: Result<Vec<_>, _> = new
                .into_iter()
                .map(|(number, claim)| Ok((number, self.recall(&claim, now)?)))
                .collect();
            let recalled = recalled?;
            let mut table = self.table.lock();
            // Others may have opened counters meanwhile, these or so many that there is no room.
            for (number, recalled) in recalled {
                if let Some(claim) = claims.get_mut(number) {
                    self.open(&mut table, claim, &recalled, now);
                }
            }
        }
    }

    /// Brings the claim's counter into being, unless it is there by now or there is no room for it.
    pub(super) fn open(
        &self,
        table: &mut Table,
        claim: &mut Claim,
        recalled: &Recalled,
        now: Timestamp,
    ) {
        if !table.find(claim) && (table.len() < self.bound || !may_overflow(claim)) {
            table.open(claim, recalled, now);
        }
    }

    /// The claims whose counters are not in the table, by number. Where there is no room, they are
    /// put on their rule's counter for all that have none of their own.
    pub(super) fn missing(&self, table: &Table, claims: &mut [Claim]) -> Vec<(usize, Claim)> {
        let mut new = Vec::new();
        for (number, claim) in claims.iter_mut().enumerate() {
            if table.find(claim) {
                continue;
            }
            let full = table.len().saturating_add(new.len()) >= self.bound;
            if full && may_overflow(claim) {
                self.tallies.overflowed();
                claim.values = Arc::from(OVERFLOW);
            }
            if !table.find(claim) {
                new.push((number, claim.clone()));
            }
        }
        new
    }

    pub(super) fn recall(&self, claim: &Claim, now: Timestamp) -> Result<Recalled, JournalDown> {
        if !claim.rule.is_budget() {
            return Ok(Recalled::default());
        }
        self.journal
            .recall(&CounterName::of(claim), cells(claim, now))
    }

    /// Every budget counter in memory, as it stands now: what has left a rolling window is not in it,
    /// whether or not there were calls since.
    pub fn standings(&self, now: Timestamp) -> Vec<Standing> {
        let mut table = self.table.lock();
        table.tell(now);
        let budgets = table.all().filter(|counter| counter.rule.is_budget());
        let standings = budgets.map(Counter::standing).collect();
        drop(table);
        standings
    }

    /// What was counted since the start.
    pub fn counts(&self) -> Counts {
        let table = self.table.lock();
        let (counters, waiting) = (table.len(), table.waiting.len());
        drop(table);
        Counts {
            counters,
            waiting,
            most_waiting: Waiting::MOST,
            ..self.tallies.counts()
        }
    }

    /// Lets counters go that were idle for an hour and that the ledger knows all about. To be
    /// called every minute or so.
    pub fn tidy(&self, now: Timestamp) {
        const IDLE: Duration = Duration::from_hours(1);
        let caught_up = self.journal.caught_up();
        let mut table = self.table.lock();
        table.tell(now);
        table.forget(IDLE, |counter| caught_up || !counter.rule.is_budget());
    }

    pub(super) fn with_waiting<T>(&self, ask: impl FnOnce(&mut Waiting) -> T) -> T {
        ask(&mut self.table.lock().waiting)
    }

    /// Takes a call out of all lines; whoever is first there now may have room.
    pub(super) fn leave(&self, ticket: Ticket) {
        let mut wakers = Wakers::default();
        let mut table = self.table.lock();
        for place in table.waiting.forget(ticket) {
            let first = table.at(place).and_then(|(counter, _)| {
                counter.leave(ticket);
                counter.first_waiting()
            });
            if let Some(first) = first {
                wakers.add(table.waiting.wake(first));
            }
        }
        drop(table);
        wakers.wake();
    }
}

/// The cells that count for the claim now.
pub(super) fn cells(claim: &Claim, now: Timestamp) -> RangeInclusive<Timestamp> {
    match claim.rule.calendar.window() {
        // Cells of the future too: the clock may have stepped back.
        Window::Rolling(length) => now - length..=Timestamp::from_nanos(i64::MAX.unsigned_abs()),
        _ => claim.window..=claim.window,
    }
}

/// Whether the claim can be counted elsewhere when there are too many counters. A rule that counts
/// all calls together always gets its counter: there are few of those.
fn may_overflow(claim: &Claim) -> bool {
    !claim.values.is_empty() && *claim.values != *OVERFLOW
}
