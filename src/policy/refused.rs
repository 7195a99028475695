//! A call that may not go ahead: now, or at all. It may stand in line, and ask again when a call
//! before it has settled, or when time alone has made room.

use std::{sync::Arc, time::Duration};

use super::{
    counter::Verdict,
    engine::{Engine, Matched},
    queue::{Place, Ticket},
    rule::Rule,
    subject::Subject,
    table::Claim,
    threshold::Crossing,
    wording,
};
use crate::{
    base::clock::Timestamp,
    call::refusal::Refusal,
    policy::journal::{Entry, Lines},
};

/// A call that may not go ahead, now or at all.
#[derive(Debug)]
#[must_use = "wait with it, or give it up through `Engine::refuse`"]
pub struct Refused {
    refusal: Refusal,
    claims: Vec<Claim>,
    waiting: Option<Waiting>,
    /// The limit of requests a minute that refused it, in words.
    spaced: Option<Box<str>>,
}

#[derive(Debug)]
struct Waiting {
    matched: Matched,
    longest: Duration,
    again: Option<Duration>,
}

/// How a call may wait: for its place (a future that is ready whenever a call that settled may have
/// made room), and then ask again by [`Refused::again`] and [`Engine::admit`].
#[derive(Debug)]
pub struct Wait<'a> {
    /// How long in all.
    pub longest: Duration,
    /// When to ask again though nothing has settled; `None`: never.
    pub again: Option<Duration>,
    /// Its place in the lines.
    pub place: &'a mut Place,
}

impl Refused {
    pub(super) fn at_once(refusal: Refusal, claims: Vec<Claim>) -> Box<Self> {
        Box::new(Self {
            refusal,
            claims,
            waiting: None,
            spaced: None,
        })
    }

    /// What to tell the client, should it be given up.
    pub const fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// How it may wait. `None`: waiting is of no use.
    pub fn wait(&mut self) -> Option<Wait<'_>> {
        let waiting = self.waiting.as_mut()?;
        Some(Wait {
            longest: waiting.longest,
            again: waiting.again,
            place: waiting.matched.place.as_mut()?,
        })
    }

    /// The counters of rate limits that were looked at, in words.
    pub fn rates(&self) -> Vec<Box<str>> {
        let spaced = self.spaced.iter().cloned();
        wording::rates(&self.claims).chain(spaced).collect()
    }

    /// For asking again; `None` where waiting is of no use.
    pub fn again(self) -> Option<Matched> {
        self.waiting.map(|waiting| waiting.matched)
    }
}

impl Engine {
    /// A counter has no room for the call; with a `ticket` it may wait, and ask again after `again`.
    pub(super) fn full(
        &self,
        matched: Matched,
        by: usize,
        line: Option<(Ticket, Option<Duration>)>,
        now: Timestamp,
    ) -> Box<Refused> {
        let claims = matched.claims.clone();
        let refusal = self.wording.blocked(&self.purse, &claims, by, now);
        let Some((ticket, again)) = line else {
            return Refused::at_once(refusal, claims);
        };
        let busy = claims
            .iter()
            .filter(|claim| claim.rule.enforces() && claim.seen.verdict != Verdict::Fits);
        let longest = busy.map(|claim| claim.rule.max_wait).min();
        Box::new(Refused {
            refusal,
            claims,
            waiting: Some(self.waiting(matched, ticket, longest.unwrap_or_default(), again)),
            spaced: None,
        })
    }

    /// Requests come faster than `rule` lets them; in `wait` there is room for one. Nothing is held
    /// any more of what `matched` asked for.
    pub(super) fn too_fast(
        &self,
        matched: Matched,
        (rule, values): (&Arc<Rule>, &str),
        wait: Duration,
    ) -> Box<Refused> {
        let limit = rule.requests.as_ref().map_or(0, |one| one.per_minute());
        let mut refused = Refused::at_once(
            wording::too_fast(rule, values, limit, wait),
            matched.claims.clone(),
        );
        refused.spaced = Some(wording::spaced(rule, values, "exhausted"));
        if wait <= rule.max_wait {
            let ticket = matched.place.as_ref().map(Place::ticket);
            let ticket = self.purse.line_up(&matched.claims, rule, ticket);
            refused.waiting =
                ticket.map(|ticket| self.waiting(matched, ticket, rule.max_wait, Some(wait)));
        }
        refused
    }

    fn waiting(
        &self,
        mut matched: Matched,
        ticket: Ticket,
        longest: Duration,
        again: Option<Duration>,
    ) -> Waiting {
        if matched.place.is_none() {
            matched.place = Some(Place::new(Arc::clone(&self.purse), ticket));
        }
        Waiting {
            matched,
            longest,
            // Clocks differ by a little: not at once, and once more.
            again: again.map(|again| again.max(Duration::from_millis(1))),
        }
    }

    /// Gives a call up: what was looked at is kept for `why`. Returns what to tell the client, and
    /// thresholds that were found crossed (a log line and a span event each).
    pub fn refuse(
        &self,
        refused: Refused,
        subject: &Subject<'_>,
        now: Timestamp,
    ) -> (Refusal, Vec<Crossing>) {
        let Refused {
            refusal,
            claims,
            waiting,
            ..
        } = refused;
        drop(waiting);
        if claims.iter().any(|claim| claim.rule.is_budget()) {
            self.purse.journal.note(&Entry::Refused {
                subject,
                at: now,
                by: &refusal.by,
                lines: Lines::held(&claims),
            });
        }
        let crossings = self.purse.crossings(&claims);
        (refusal, crossings)
    }
}
