//! May this call go ahead? An immutable snapshot of the rules, over the purse that outlives it.

use std::{collections::HashSet, sync::Arc};

use super::{
    admission::{Asking, Blocked},
    config::{Config, Missing, OnExhausted, RateLimit},
    counter::{Unit, Verdict},
    hold::Hold,
    journal::{CounterName, Held, JournalDown},
    matcher::values,
    purse::Purse,
    queue::Place,
    rate::Requests,
    refused::Refused,
    rule::{Rule, rate_identity},
    scope::Per,
    subject::{Amounts, Subject},
    table::Claim,
    wording::{self, Wording},
};
use crate::{
    base::{clock::Timestamp, money::Usd},
    call::{labels::Source, refusal::Refusal},
};

/// The rules in force, and the purse that they count in.
#[derive(Debug)]
pub struct Engine {
    pub(super) rules: Vec<Arc<Rule>>,
    /// How many times rules were put in force over the purse, these included.
    edition: u64,
    trusted: Vec<Source>,
    pub(super) purse: Arc<Purse>,
    pub(super) wording: Wording,
}

/// The rules cannot be put in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Two rules of a section have one name, so that nobody could tell their counters apart.
    #[error("there are two rules named `{0}`: give one another name")]
    TwoOfAName(String),
    /// A rule lets no request pass at all, ever.
    #[error("the rate limit `{0}` lets no request pass: remove it, or give it a rate above 0")]
    NoRate(String),
    /// A rule limits nothing.
    #[error("the rule `{0}` has no limit: give it one, or remove it")]
    NoLimit(String),
}

/// How often a call is sized again before it takes a place in the line with what it asked for last:
/// on a busy budget each sizing may come too late.
const MOST_SIZINGS: u8 = 8;

/// The rules that count one call, and under which values.
#[derive(Debug)]
pub struct Matched {
    pub(super) claims: Vec<Claim>,
    spaced: Vec<(Arc<Rule>, Arc<str>)>,
    pub(super) place: Option<Place>,
    /// The claims have seen what is left, for the call to choose what it asks for.
    was_shown: bool,
    /// How often it was sized by what was gone when it asked, since it last stood in a line.
    outdated: u8,
}

/// What a call asks for, having seen what is left; see [`Engine::admit_sized`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// So much.
    pub amounts: Amounts,
    /// It is less than the call shall be let in with: asked for only to wait.
    pub only_waits: bool,
}

/// A call that was sized by what was left is not let in.
#[derive(Debug)]
pub enum Denied {
    /// What is left has changed meanwhile: it is to be sized again, and to ask at once. It has the
    /// place in the lines that it had, if any.
    Outdated(Matched),
    /// There is no room.
    Refused(Box<Refused>),
}

/// What a call finds before it asks; see [`Engine::room`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Whether what was asked for fits.
    pub fits: bool,
    /// Whether every rule that it does not fit says `clamp`.
    pub may_clamp: bool,
    /// The least that is left of any counter that stops calls; `None` where none counts that.
    pub left: Amounts,
}

impl Engine {
    /// Puts `config` and `rates` in force over `purse`. `trusted` are the sources whose labels
    /// count; empty: all. `before` are the rules until now, whose request rates go on where they
    /// are unchanged.
    ///
    /// # Errors
    /// Two rules of one name, a rule without a limit, or one of no requests at all.
    pub fn build(
        config: &Config,
        rates: &[RateLimit],
        trusted: &[Source],
        purse: &Arc<Purse>,
        before: Option<&Self>,
    ) -> Result<Self, RuleError> {
        let budgets = config.written_out();
        unique(
            &budgets
                .iter()
                .map(|rule| rule.name.as_str())
                .collect::<Vec<_>>(),
        )?;
        unique(
            &rates
                .iter()
                .map(|rule| rule.name.as_str())
                .collect::<Vec<_>>(),
        )?;
        if let Some(rule) = rates
            .iter()
            .find(|rule| rule.requests_per_minute == Some(0))
        {
            return Err(RuleError::NoRate(rule.name.as_str().to_owned()));
        }
        let edition = before.map_or(1, |before| before.edition.saturating_add(1));
        let budgets = budgets
            .iter()
            .map(|rule| Rule::budget(rule, config, edition));
        let rates = rates.iter().map(|rule| {
            let requests = rule.requests_per_minute.and_then(|rate| {
                let kept = before.and_then(|before| before.requests(&rate_identity(rule), rate));
                kept.or_else(|| Requests::new(rate, purse.bound()).map(Arc::new))
            });
            Rule::rate(rule, requests, edition)
        });
        let rules: Vec<_> = budgets.chain(rates).map(Arc::new).collect();
        if let Some(rule) = rules
            .iter()
            .find(|rule| rule.limits.is_empty() && rule.requests.is_none())
        {
            return Err(RuleError::NoLimit(rule.name.to_string()));
        }
        Ok(Self {
            rules,
            edition,
            trusted: trusted.to_vec(),
            purse: Arc::clone(purse),
            wording: Wording {
                show_amounts: config.show_amounts,
            },
        })
    }

    fn requests(&self, identity: &str, per_minute: u32) -> Option<Arc<Requests>> {
        let rule = self.rules.iter().find(|rule| *rule.identity == *identity)?;
        let requests = rule.requests.as_ref()?;
        (requests.per_minute() == per_minute).then(|| Arc::clone(requests))
    }

    /// Names of budget rules whose counters start afresh under these rules, since they had others
    /// under the rules `before`: their `per`, window or zone was edited.
    pub fn afresh<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a str> {
        let budgets = |engine: &'a Self| engine.rules.iter().filter(|rule| rule.is_budget());
        budgets(self)
            .filter(move |rule| {
                budgets(before).any(|old| old.name == rule.name && old.identity != rule.identity)
            })
            .map(|rule| &*rule.name)
    }

    /// The purse.
    pub fn purse(&self) -> &Arc<Purse> {
        &self.purse
    }

    /// Whether there is a budget rule at all.
    pub fn has_budgets(&self) -> bool {
        self.rules.iter().any(|rule| rule.is_budget())
    }

    /// The rules that count this call.
    ///
    /// # Errors
    /// The call lacks a label that a rule insists on (`missing: deny`).
    pub fn matched(&self, subject: &Subject<'_>, now: Timestamp) -> Result<Matched, Refusal> {
        let mut matched = Matched {
            claims: Vec::new(),
            spaced: Vec::new(),
            place: None,
            was_shown: false,
            outdated: 0,
        };
        for rule in &self.rules {
            if !rule.matcher.matches(subject, &self.trusted) {
                continue;
            }
            let value = |field: &Per| field.value_of(subject, &self.trusted);
            let lacking = rule.per.iter().find(|field| value(field).is_none());
            match (rule.missing, lacking) {
                (Missing::Skip, Some(_)) => continue,
                // One that only watches counts it among those that lack the label.
                (Missing::Deny, Some(lacking)) if rule.enforces() => {
                    return Err(wording::missing(rule, lacking));
                },
                _ => {},
            }
            let per = rule.per.iter().map(|field| (field, value(field)));
            let values = if rule.per.is_empty() {
                Arc::clone(&rule.no_values)
            } else {
                values(per)
            };
            matched.add(rule, &values, now);
        }
        Ok(matched)
    }

    /// Reads what the call's counters held before, where that is neither in memory nor known to be
    /// nothing: to be awaited before anything is asked, so that no thread is blocked by the reading.
    /// `None`: there is nothing to wait for.
    pub fn recalling(
        &self,
        matched: &mut Matched,
        now: Timestamp,
    ) -> Option<impl Future<Output = Result<(), Refusal>> + Send + use<>> {
        let brought = self.purse.bring(&mut matched.claims, now)?;
        Some(async move { brought.await.map_err(wording::down) })
    }

    /// What is left for the call, and whether `amounts` fit: for choosing an output limit before
    /// asking. What is found here may be gone when it is asked for: [`Engine::admit_sized`] says so.
    ///
    /// # Errors
    /// What a counter held before cannot be known, and calls shall not pass without.
    pub fn room(
        &self,
        matched: &mut Matched,
        amounts: Amounts,
        now: Timestamp,
    ) -> Result<Room, Refusal> {
        matched.ask(amounts);
        if matched.place.is_some() {
            matched.move_on(now);
        }
        self.purse
            .look(&mut matched.claims, now)
            .map_err(wording::down)?;
        matched.was_shown = true;
        let enforced = || matched.claims.iter().filter(|claim| claim.rule.enforces());
        let refusing = || enforced().filter(|claim| claim.seen.verdict != Verdict::Fits);
        let mut left = Amounts::default();
        for claim in enforced() {
            let used = claim.seen.spent.saturating_add(claim.seen.reserved);
            left.lower(claim.unit, claim.seen.limit.saturating_sub(used).max(0));
        }
        Ok(Room {
            fits: refusing().next().is_none(),
            may_clamp: refusing().next().is_some()
                && refusing().all(|claim| {
                    let clampable =
                        matches!(claim.unit, Unit::Usd | Unit::Tokens | Unit::OutputTokens);
                    claim.rule.on_exhausted == OnExhausted::Clamp && clampable
                }),
            left,
        })
    }

    /// Sets `amounts` aside in every counter that matched, or in none, and journals it. Once this
    /// returns the call may be sent (after [`Hold::keep`] and [`Hold::durable`]).
    ///
    /// # Errors
    /// It does not fit. If [`Refused::wait`] says so the call may wait and ask again; else it is to
    /// be given up through [`Engine::refuse`].
    pub fn admit(
        &self,
        mut matched: Matched,
        amounts: Amounts,
        subject: &Subject<'_>,
        now: Timestamp,
    ) -> Result<Hold, Box<Refused>> {
        matched.was_shown = false;
        let wanted = Wanted {
            amounts,
            only_waits: false,
        };
        match self.admit_sized(matched, wanted, subject, now) {
            Ok(hold) => Ok(hold),
            Err(Denied::Refused(refused)) => Err(refused),
            Err(Denied::Outdated(matched)) => {
                Err(Refused::at_once(wording::busy(), matched.claims))
            },
        }
    }

    /// As [`Engine::admit`], for a call that chose what it asks for by what [`Engine::room`] said was
    /// left. Nobody is refused, or put in a line, for asking for what was left a moment ago.
    ///
    /// # Errors
    /// What is left has changed, or it does not fit.
    pub fn admit_sized(
        &self,
        mut matched: Matched,
        wanted: Wanted,
        subject: &Subject<'_>,
        now: Timestamp,
    ) -> Result<Hold, Denied> {
        matched.ask(wanted.amounts);
        if matched.place.is_some() {
            matched.move_on(now);
        }
        let asking = Asking {
            ticket: matched.place.as_ref().map(Place::ticket),
            by_what_is_left: std::mem::take(&mut matched.was_shown),
            only_waits: wanted.only_waits,
            lines_up: matched.outdated >= MOST_SIZINGS,
        };
        let elapsed = match self.purse.admit(&mut matched.claims, asking, now) {
            Ok(elapsed) => elapsed,
            Err(Blocked::Changed) => {
                matched.outdated = matched.outdated.saturating_add(1);
                return Err(Denied::Outdated(matched));
            },
            Err(Blocked::Full { by, line }) => {
                matched.outdated = 0;
                return Err(Denied::Refused(self.full(matched, by, line, now)));
            },
            Err(Blocked::Down(down)) => {
                let refused = Refused::at_once(wording::down(down), matched.claims);
                return Err(Denied::Refused(refused));
            },
        };
        let mut hold = Hold::new(
            Arc::clone(&self.purse),
            self.wording,
            subject.request_id,
            std::mem::take(&mut matched.claims),
            now,
        );
        if let Err((number, wait)) = hold.take_requests(&matched.spaced, elapsed) {
            matched.claims = hold.cancel();
            let spaced = matched.spaced.get(number).cloned();
            return Err(Denied::Refused(match spaced {
                Some((rule, values)) => self.too_fast(matched, (&rule, &values), wait),
                None => Refused::at_once(wording::busy(), matched.claims),
            }));
        }
        drop(matched.place);
        hold.spaced = matched.spaced;
        if let Err(down) = hold.journal(subject) {
            let refused = Refused::at_once(wording::down(down), hold.cancel());
            return Err(Denied::Refused(refused));
        }
        Ok(hold)
    }

    /// Enters a call that no rule let in and that costs all the same, in every counter that matched.
    /// Nothing is set aside for it, so that all that it is charged is an overrun.
    ///
    /// # Errors
    /// What a counter held before cannot be known, or the journal cannot be written.
    pub fn enter(
        &self,
        mut matched: Matched,
        subject: &Subject<'_>,
        now: Timestamp,
    ) -> Result<Hold, JournalDown> {
        matched.ask(Amounts::of(Usd::ZERO, 0));
        self.purse.take_in(&mut matched.claims, now)?;
        let (purse, claims) = (Arc::clone(&self.purse), matched.claims);
        let mut hold = Hold::new(purse, self.wording, subject.request_id, claims, now);
        if let Err(down) = hold.journal(subject) {
            hold.cancel();
            return Err(down);
        }
        if let Err(down) = hold.keep() {
            // The journal may have it all the same, and has to hear that it is over.
            hold.release();
            return Err(down);
        }
        Ok(hold)
    }

    /// Holds again what a call held that was accepted in an earlier run and is not settled yet.
    /// Where its rule is no longer there nothing limits by it, but its bill is still entered under
    /// that rule's identity: the money is in the ledger, and counts should the rule come back.
    ///
    /// # Errors
    /// What a counter held before cannot be known, and calls shall not pass without.
    pub fn restore(&self, held: &Held, now: Timestamp) -> Result<Hold, JournalDown> {
        let claim = |(counter, cell, amount): &(CounterName, Timestamp, i64)| {
            let mut rules = self.rules.iter().filter(|rule| rule.is_budget());
            let rule = rules.find(|rule| rule.identity == counter.identity);
            let rule = rule.map_or_else(|| Arc::new(Rule::gone(&counter.identity)), Arc::clone);
            let mut claim = Claim::on(&rule, counter.unit, &counter.values, *cell);
            claim.cell = *cell;
            claim.ask = Some(*amount);
            claim
        };
        let mut claims: Vec<_> = held.parts.iter().map(claim).collect();
        self.purse.hold_again(&mut claims, now)?;
        Ok(Hold::restored(
            Arc::clone(&self.purse),
            self.wording,
            held,
            claims,
        ))
    }

    /// Lets go of what nobody has used for a while. To be called every minute or so.
    pub fn tidy(&self, now: Timestamp) {
        self.purse.tidy(now);
        for requests in self.rules.iter().filter_map(|rule| rule.requests.as_ref()) {
            requests.tidy();
        }
    }
}

impl Matched {
    fn add(&mut self, rule: &Arc<Rule>, values: &Arc<str>, now: Timestamp) {
        for (unit, _) in &rule.limits {
            self.claims.push(Claim::on(rule, *unit, values, now));
        }
        if rule.requests.is_some() {
            self.spaced.push((Arc::clone(rule), Arc::clone(values)));
        }
    }

    fn ask(&mut self, amounts: Amounts) {
        for claim in &mut self.claims {
            claim.ask = match claim.unit {
                Unit::Requests | Unit::Concurrent => Some(1),
                unit => amounts.of_unit(unit),
            };
        }
    }

    /// A call that waited counts in the window that it is let in, not in the one it first asked in.
    fn move_on(&mut self, now: Timestamp) {
        for claim in &mut self.claims {
            claim.window = claim.rule.window_of(claim.unit, now);
            claim.cell = claim.window;
        }
    }

    /// Whether a rule counts this call in US dollars.
    pub fn counts_usd(&self) -> bool {
        self.claims.iter().any(|claim| claim.unit == Unit::Usd)
    }

    /// Whether a rule that stops calls counts this one in US dollars, so that it must have a price.
    pub fn needs_price(&self) -> bool {
        let mut enforced = self.claims.iter().filter(|claim| claim.rule.enforces());
        enforced.any(|claim| claim.unit == Unit::Usd)
    }

    /// Whether a budget that stops calls counts this one.
    pub fn has_budget(&self) -> bool {
        let mut enforced = self.claims.iter().filter(|claim| claim.rule.enforces());
        enforced.any(|claim| claim.rule.is_budget())
    }

    /// Whether no rule counts this call at all.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.spaced.is_empty()
    }
}

fn unique(names: &[&str]) -> Result<(), RuleError> {
    let mut seen = HashSet::new();
    match names.iter().find(|name| !seen.insert(**name)) {
        Some(name) => Err(RuleError::TwoOfAName((*name).to_owned())),
        None => Ok(()),
    }
}
