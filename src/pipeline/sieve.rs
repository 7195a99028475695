//! What one destination gets of what it is offered: which traces it is to have, and what waits until
//! that is known. It is in the destination's queue, and counted there.

use std::sync::Arc;

use super::{
    filter::{Filter, Fit},
    holding::{Holding, Why},
    queue::Stats,
    record::Record,
    sampling::{By, Sampler, Sampling, Verdict},
};
use crate::base::clock::Instant;

/// What a destination gets whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Traces: what a filter or sampling leaves out goes all the same if another span of its trace
    /// does, so that no span lacks its parent.
    Trace,
    /// Spans, each by itself: a filter looks at each. They are sampled by traces.
    Span,
    /// Every span that a filter lets through: it sums them up, or tells somebody. Nothing is sampled.
    All,
}

/// A span on its way, and the share of those like it that goes, where that was asked.
#[derive(Clone, Debug)]
pub(super) struct Passed {
    pub(super) record: Arc<Record>,
    pub(super) share: Option<f64>,
}

impl From<Arc<Record>> for Passed {
    fn from(record: Arc<Record>) -> Self {
        Self {
            record,
            share: None,
        }
    }
}

/// What becomes of an offered span.
#[derive(Debug)]
pub(super) enum Sifted {
    /// It goes, after those that waited for it.
    Goes(Option<f64>),
    /// It waits.
    Waits(Why),
}

/// Decides about the spans of one destination.
#[derive(Debug)]
pub(super) struct Sieve {
    sampler: Option<Sampler>,
    /// Whether a filter holds back spans that go if another span of their trace does.
    filters: bool,
    /// What it was made of.
    terms: (Filter, Unit, Option<Sampling>),
    pub(super) holding: Holding,
}

impl Sieve {
    /// The sieve of a destination with this filter and sampling; none if it lets everything through
    /// that the filter does not leave out at once.
    pub(super) fn new(
        filter: &Filter,
        unit: Unit,
        sampling: Option<Sampling>,
        now: Instant,
    ) -> Option<Self> {
        let wait = sampling.map_or(Sampling::WAIT, |sampling| sampling.decision_wait);
        let sampling = sampling.filter(Sampling::leaves_out);
        let filters = unit == Unit::Trace && filter.waits();
        if sampling.is_none() && !filters {
            return None;
        }
        Some(Self {
            sampler: sampling.map(|sampling| Sampler::new(sampling, now)),
            filters,
            terms: (filter.clone(), unit, sampling),
            holding: Holding::new(wait),
        })
    }

    /// Whether it decides as the other one does.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        self.terms == other.terms
    }

    /// What becomes of the span, which the filter says this of.
    pub(super) fn sift(&mut self, record: &Record, fit: Fit, now: Instant) -> Sifted {
        let span = &record.span;
        let trace = span.trace_id;
        if let Some(share) = self.holding.going(trace, now) {
            let sampler = self.sampler.as_mut();
            let is_kept = sampler.is_some_and(|it| it.keeps(span)) && fit == Fit::Passes;
            if is_kept && share.is_some_and(|share| share < 1.0) {
                // Its trace would go whatever its id: so do all that are like it.
                self.holding.keep_all(trace);
                return Sifted::Goes(Some(1.0));
            }
            return Sifted::Goes(share);
        }
        if fit != Fit::Passes {
            return Sifted::Waits(Why::Filtered);
        }
        let Some(sampler) = &mut self.sampler else {
            self.holding.remember(trace, None, false, now);
            return Sifted::Goes(None);
        };
        match sampler.judge(span, self.holding.is_unchosen(trace), now) {
            Verdict::Goes { share, by } => {
                // Ids say nothing of spans that a filter holds back.
                let by_id = by != By::Span && !self.filters;
                if by != By::Id || self.filters {
                    self.holding.remember(trace, Some(share), by_id, now);
                }
                Sifted::Goes(Some(share))
            },
            Verdict::Waits => Sifted::Waits(Why::SampledOut),
        }
    }
}

impl Stats {
    /// Books a span that no other one of its trace has helped on.
    pub(super) const fn give_up(&mut self, why: Why) {
        match why {
            Why::Filtered => self.filtered += 1,
            Why::SampledOut => self.sampled_out += 1,
        }
    }
}

#[cfg(test)]
mod tests;
