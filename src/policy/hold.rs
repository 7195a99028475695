//! What an admitted call holds of its budgets, from admission to settlement. Owned by the call,
//! so that it settles exactly once however the call ends.

use std::{sync::Arc, time::Duration};

use super::{
    counter::Unit,
    journal::{Durable, Entry, Held, HoldId, JournalDown, Lines, Position},
    purse::{Purse, Report},
    rate::Taken,
    rule::Rule,
    subject::{Amounts, Charge, Ending, Subject},
    table::Claim,
    threshold::Crossing,
    wording::{self, Wording},
};
use crate::{
    base::{clock::Timestamp, id::RequestId, money::Usd},
    call::{
        refusal::{Rate, Refusal},
        usage::UsageSource,
    },
};

/// What an admitted call holds. Dropped without being settled it charges all that it holds, since
/// that is the most that the call can have cost; unless its answer is awaited: then it stays held.
#[derive(Debug)]
#[must_use = "a hold that is dropped charges everything it holds"]
pub struct Hold {
    purse: Arc<Purse>,
    wording: Wording,
    request_id: RequestId,
    id: HoldId,
    admitted: Timestamp,
    claims: Vec<Claim>,
    position: Position,
    /// The journal keeps it when the process ends.
    awaited: bool,
    ending: Option<Ending>,
    /// Requests a minute that it was granted.
    taken: Vec<Taken>,
    /// The rules that granted them, and to whom.
    pub(super) spaced: Vec<(Arc<Rule>, Arc<str>)>,
}

impl Hold {
    /// Takes charge of `claims`, which the purse has admitted. Nothing is journalled yet.
    pub(super) fn new(
        purse: Arc<Purse>,
        wording: Wording,
        request_id: RequestId,
        claims: Vec<Claim>,
        admitted: Timestamp,
    ) -> Self {
        Self {
            purse,
            wording,
            request_id,
            id: HoldId::random(),
            admitted,
            claims,
            position: Position::default(),
            awaited: false,
            ending: None,
            taken: Vec::new(),
            spaced: Vec::new(),
        }
    }

    /// Takes charge of `claims`, which the purse holds again.
    pub(super) fn restored(
        purse: Arc<Purse>,
        wording: Wording,
        held: &Held,
        claims: Vec<Claim>,
    ) -> Self {
        let mut restored = Self::new(purse, wording, held.request_id, claims, held.admitted);
        restored.id = held.hold;
        restored.awaited = true;
        restored
    }

    /// The call was accepted, and its answer will be fetched as `response` of `provider`: from now
    /// on a hold that is dropped stays held, and is found again by the next start. If that cannot
    /// be journalled it is charged when it is dropped, as before.
    pub fn await_response(&mut self, provider: &str, response: &str) {
        if self.is_kept() {
            let written = self.purse.journal.write(&Entry::Awaited {
                request_id: self.request_id,
                hold: self.id,
                provider,
                response,
            });
            self.awaited = written.is_ok();
        }
    }

    /// When it was admitted.
    pub const fn admitted(&self) -> Timestamp {
        self.admitted
    }

    /// Journals the admission, which is kept once [`keep`](Self::keep) was called.
    pub(super) fn journal(&mut self, subject: &Subject<'_>) -> Result<(), JournalDown> {
        if self.is_kept() {
            self.position = self.purse.journal.begin(&Entry::Admitted {
                subject,
                hold: self.id,
                at: self.admitted,
                lines: Lines::held(&self.claims),
            })?;
        }
        Ok(())
    }

    /// Whether the admission is journalled, but would be lost if the process ended now. Others that are
    /// let in before [`keep`](Self::keep) is called are kept in one go with it.
    pub fn waits(&self) -> bool {
        self.is_kept() && self.purse.journal.waits(self.position)
    }

    /// Keeps the admission, so that the end of the process cannot lose it. To be called before the
    /// first byte goes to the provider.
    ///
    /// # Errors
    /// It cannot be kept, and calls shall not pass without. The hold is to be released.
    pub fn keep(&self) -> Result<(), JournalDown> {
        if self.is_kept() {
            self.purse.journal.keep(self.position)?;
        }
        Ok(())
    }

    /// Takes a request of each rule that spaces them, or says which has none, and when it has one.
    pub(super) fn take_requests(
        &mut self,
        spaced: &[(Arc<Rule>, Arc<str>)],
        elapsed: Duration,
    ) -> Result<(), (usize, Duration)> {
        for (number, (rule, values)) in spaced.iter().enumerate() {
            if let Some(requests) = &rule.requests {
                let taken = requests.take(values, elapsed);
                self.taken.push(taken.map_err(|wait| (number, wait))?);
            }
        }
        Ok(())
    }

    /// Gives everything back, as if it had never been: only while the journal has nothing of it. Once
    /// [`journal`](Self::journal) has succeeded it is to be released, kept or not.
    pub(super) fn cancel(mut self) -> Vec<Claim> {
        self.give_back_requests();
        let mut claims = std::mem::take(&mut self.claims);
        for claim in &mut claims {
            claim.change = 0;
        }
        self.purse.settle(&claims, Report::Later);
        claims
    }

    /// Completes when the admission and every growth so far have survived a power cut; `None`:
    /// there is nothing to wait for. To be awaited before the first byte goes to the provider.
    pub fn durable(&self) -> Option<Durable> {
        self.is_kept()
            .then(|| self.purse.journal.durable(self.position))
            .flatten()
    }

    /// What it holds in money and tokens: the most of any counter; `None` where none counts that.
    pub fn held(&self) -> Amounts {
        let most = |unit| {
            let claims = self.claims.iter().filter(|claim| claim.unit == unit);
            claims.map(Claim::held).max()
        };
        let tokens = |unit| most(unit).map(i64::unsigned_abs);
        Amounts {
            usd: most(Unit::Usd).map(Usd::from_nanos),
            tokens: tokens(Unit::Tokens),
            input: tokens(Unit::InputTokens),
            output: tokens(Unit::OutputTokens),
        }
    }

    /// What is left beyond what it holds: the least of any counter that stops calls.
    pub fn left(&self, now: Timestamp) -> Amounts {
        self.purse.left(&self.claims, now)
    }

    /// Names of the rules in shadow mode that would have stopped the call.
    pub fn shadowed(&self) -> impl Iterator<Item = &str> {
        let shadowed = self.claims.iter().filter(|claim| claim.is_shadowed());
        shadowed.map(|claim| &*claim.rule.name)
    }

    /// The counters of rate limits, as the call found them, in words. They are in no journal.
    pub fn rates(&self) -> Vec<Box<str>> {
        let spaced = self.spaced.iter();
        let spaced = spaced.map(|(rule, values)| wording::spaced(rule, values, "fits"));
        wording::rates(&self.claims).chain(spaced).collect()
    }

    /// How the rate limits stand that let the call go ahead, as it left them: of each unit the one
    /// with the least left, and when all of it is there again.
    pub fn standing_rates(&self) -> Vec<(Rate, Duration)> {
        const MINUTE: Duration = Duration::from_mins(1);
        let counted = self.claims.iter().filter_map(|claim| {
            let is_rate = !claim.rule.is_budget() && claim.unit != Unit::Concurrent;
            is_rate.then(|| (wording::stand(claim, claim.held()), MINUTE))
        });
        let mut rates: Vec<(Rate, Duration)> = counted.collect();
        rates.extend(self.taken.iter().map(Taken::stands));
        rates.sort_by_key(|(rate, _)| (rate.unit, rate.remaining));
        rates.dedup_by_key(|(rate, _)| rate.unit);
        rates
    }

    /// Sets more aside, in all counters or in none, and journals it. Until this returns `Ok`
    /// nothing beyond what was held may be used.
    ///
    /// # Errors
    /// It does not fit, or cannot be journalled; what was held before is still held.
    pub fn grow(&mut self, more: Amounts, now: Timestamp) -> Result<(), Refusal> {
        for claim in &mut self.claims {
            claim.change = more.of_unit(claim.unit).unwrap_or(0);
        }
        if let Err(by) = self.purse.grow(&mut self.claims, now) {
            return Err(self.wording.blocked(&self.purse, &self.claims, by, now));
        }
        if !self.is_kept() {
            return Ok(());
        }
        let grown = self.purse.journal.write(&Entry::Grown {
            request_id: self.request_id,
            hold: self.id,
            lines: Lines::changes(&self.claims),
        });
        match grown {
            Ok(position) => {
                self.position = position;
                Ok(())
            },
            Err(down) => {
                for claim in &mut self.claims {
                    claim.change = claim.change.saturating_neg();
                }
                // Giving back is never refused.
                let _given_back = self.purse.grow(&mut self.claims, now);
                Err(wording::down(down))
            },
        }
    }

    /// Says how the call ended, before it is settled or released: then its span can be written from
    /// the journal, should it be lost. To be left out where no span shows the charge.
    pub fn ends(&mut self, ending: Ending) {
        self.ending = Some(ending);
    }

    /// Charges what the call cost, also above what it holds, and gives back the rest. Returns the
    /// thresholds that were crossed: a log line and a span event each.
    pub fn settle(mut self, charge: Charge) -> Vec<Crossing> {
        for claim in &mut self.claims {
            let charged = charge.of_unit(claim.unit, claim.rule.count);
            claim.change = match claim.unit {
                Unit::Concurrent => 0,
                _ => charged.unwrap_or_else(|| claim.held()),
            };
        }
        self.finish(charge, Report::Now)
    }

    /// Gives everything back: no byte of the request was sent.
    pub fn release(mut self) {
        self.give_back_requests();
        for claim in &mut self.claims {
            claim.change = 0;
        }
        let nothing = Charge::of(Some(Usd::ZERO), 0, 0, UsageSource::Absent);
        // What another call has crossed is for one to report that settles.
        self.finish(nothing, Report::Later);
    }

    fn give_back_requests(&mut self) {
        self.taken.drain(..).for_each(Taken::give_back);
    }

    /// Charges all that it holds, since what the call cost will never be known.
    pub fn charge_in_full(self) -> Vec<Crossing> {
        let held = self.held();
        self.settle(Charge::in_full(held))
    }

    fn finish(&mut self, charge: Charge, report: Report) -> Vec<Crossing> {
        let claims = std::mem::take(&mut self.claims);
        if claims.is_empty() && !self.awaited {
            return Vec::new();
        }
        let crossings = self.purse.settle(&claims, report);
        // One that is awaited may have no rule any more; the journal has to forget it all the same.
        if self.awaited || claims.iter().any(|claim| claim.rule.is_budget()) {
            let entry = Entry::Settled {
                request_id: self.request_id,
                hold: self.id,
                admitted: self.admitted,
                charge,
                lines: Lines::changes(&claims),
                ending: self.ending.as_ref(),
            };
            if claims.iter().any(|claim| claim.change > claim.held()) {
                // Lost, it would leave the call at less than its bill: this one cannot wait. If
                // the journal is down there is nothing better to do; it has counted that.
                let _position = self.purse.journal.write(&entry);
            } else {
                self.purse.journal.note(&entry);
            }
        }
        crossings
    }

    /// Whether the journal has to know of it.
    fn is_kept(&self) -> bool {
        self.claims.iter().any(|claim| claim.rule.is_budget())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.claims.is_empty() || self.awaited {
            return;
        }
        for claim in &mut self.claims {
            claim.change = match claim.unit {
                Unit::Concurrent => 0,
                _ => claim.held(),
            };
        }
        self.purse.tally_unsettled();
        let charge = Charge::in_full(self.held());
        self.finish(charge, Report::Later);
    }
}
