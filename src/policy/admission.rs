//! How the purse lets a call in: with all that it asks for, or with nothing and a place in the lines.
//!
//! A call chooses its size by what it finds left, and asks for it afterwards; in between others may
//! have taken it, or given back. So whoever was sized by what is no longer so is not refused, nor put
//! in a line, but sized again: see [`Blocked::Changed`].

use std::{sync::Arc, time::Duration};

use super::{
    counter::{Unit, Verdict},
    journal::JournalDown,
    purse::Purse,
    queue::Ticket,
    rule::Rule,
    table::{Claim, Table},
};
use crate::base::clock::Timestamp;

/// How a call asks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asking {
    /// Its place in the lines, if it has waited.
    pub(super) ticket: Option<Ticket>,
    /// It chose what it asks for by what was left: its claims have `seen` that.
    pub(super) by_what_is_left: bool,
    /// It asks for less than it shall be let in with, in order to wait.
    pub(super) only_waits: bool,
    /// It was sized again often enough: where there is a line, it takes its place.
    pub(super) lines_up: bool,
}

/// A call that does not fit: nothing was set aside.
#[derive(Debug)]
pub(super) enum Blocked {
    /// A counter refused.
    Full {
        /// The number of its claim.
        by: usize,
        /// The call's place in the lines, if it may wait, and when time alone may have made room.
        line: Option<(Ticket, Option<Duration>)>,
    },
    /// What is left is not what it was when the call chose what to ask for: somebody else has got on.
    Changed,
    /// What a counter held before cannot be known.
    Down(JournalDown),
}

impl From<JournalDown> for Blocked {
    fn from(down: JournalDown) -> Self {
        Self::Down(down)
    }
}

impl Purse {
    /// Sets aside what `claims` ask for, in all counters or in none. Returns the time that rate
    /// limits live by.
    pub(super) fn admit(
        &self,
        claims: &mut [Claim],
        asking: Asking,
        now: Timestamp,
    ) -> Result<Duration, Blocked> {
        let (mut table, told) = self.opened(claims, now)?;
        let mut worst: Option<(Verdict, usize)> = None;
        let mut again: Option<Duration> = None;
        // Whether a counter has changed since, and one that there is no room in.
        let (mut changed, mut full_changed) = (false, false);
        for (number, claim) in claims.iter_mut().enumerate() {
            let Some((counter, now)) = table.at(claim.place) else {
                continue;
            };
            let room = claim
                .ask
                .map_or(Verdict::Fits, |ask| counter.judge(ask, now));
            let mut verdict = match room {
                Verdict::Fits if claim.ask.is_some() && counter.is_behind(asking.ticket) => {
                    Verdict::Busy
                },
                room => room,
            };
            let before = std::mem::replace(&mut claim.seen, counter.seen(verdict, now));
            if claim.rule.enforces() && !claim.seen.stands_as(&before) {
                changed = true;
                full_changed |= room != Verdict::Fits;
            }
            if verdict != Verdict::Fits
                && let Some(clears) = counter.clears_soon(claim.held(), asking.ticket, now)
            {
                verdict = Verdict::Busy;
                again = again.max(Some(clears));
            }
            if claim.rule.enforces() && worst.is_none_or(|(before, _)| before < verdict) {
                worst = Some((verdict, number));
            }
        }
        match worst {
            None | Some((Verdict::Fits, _)) => {
                if asking.by_what_is_left && asking.only_waits && changed {
                    return Err(Blocked::Changed);
                }
                for claim in claims {
                    table.hold(claim);
                }
                Ok(told.elapsed)
            },
            Some((verdict, _))
                if asking.by_what_is_left
                    && full_changed
                    && !(asking.lines_up && verdict == Verdict::Busy) =>
            {
                Err(Blocked::Changed)
            },
            Some((Verdict::Busy, by)) => {
                let ticket = self.queue(&mut table, claims, asking.ticket);
                let line = ticket.map(|ticket| (ticket, again));
                Err(Blocked::Full { by, line })
            },
            Some((Verdict::Exhausted, by)) => Err(Blocked::Full { by, line: None }),
        }
    }

    /// Puts the call into the line of every counter that is busy, if all their rules let it wait.
    fn queue(&self, table: &mut Table, claims: &[Claim], ticket: Option<Ticket>) -> Option<Ticket> {
        let busy = || {
            claims
                .iter()
                .filter(|claim| claim.rule.enforces() && claim.seen.verdict != Verdict::Fits)
        };
        if busy().any(|claim| claim.rule.max_wait.is_zero()) {
            return None;
        }
        let Some(ticket) = ticket.or_else(|| table.waiting.ticket()) else {
            self.tallies.turned_away();
            return None;
        };
        for claim in busy() {
            if let Some((counter, _)) = table.at(claim.place) {
                counter.join(ticket);
                table.waiting.stands_at(ticket, claim.place);
            }
        }
        Some(ticket)
    }

    /// Puts a call that comes too fast into the line of `rule`, whose gauge is among `claims`. It
    /// gave back what it held and so may have woken itself: it sleeps on.
    pub(super) fn line_up(
        &self,
        claims: &[Claim],
        rule: &Arc<Rule>,
        ticket: Option<Ticket>,
    ) -> Option<Ticket> {
        let mut table = self.table.lock();
        let Some(ticket) = ticket.or_else(|| table.waiting.ticket()) else {
            self.tallies.turned_away();
            return None;
        };
        let is_gauge =
            |claim: &&Claim| claim.unit == Unit::Concurrent && Arc::ptr_eq(&claim.rule, rule);
        for claim in claims.iter().filter(is_gauge) {
            if let Some((counter, _)) = table.at(claim.place) {
                counter.join(ticket);
                table.waiting.stands_at(ticket, claim.place);
            }
        }
        table.waiting.rest(ticket);
        drop(table);
        Some(ticket)
    }
}
