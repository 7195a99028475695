//! What is done about spans on disk that a destination never takes while it would take others: one of
//! them may be what it stumbles over, and must not hold up the rest for ever.
//!
//! A batch that failed `max_retries` times or more, over three times `recovery_timeout`, is halved, and so is what
//! is left of it as often as it fails again. A single span is suspected at last: then the one behind it is
//! tried. Only if that is taken or refused, the suspect fails once more right after it, without being asked to
//! wait, and all that is so with three spans behind it one after the other, is the suspect given up, counted
//! as failed. So a destination that is down for hours, or that comes and goes, costs nothing.

use std::time::Duration;

use super::{
    super::{delivery::Delivery, overflow::Hand, queue::Outcome},
    State, Verdict, Worker,
};
use crate::base::{clock::Instant, id::SpanId};

/// How many recovery times the oldest on disk must have failed before they are narrowed down.
const PATIENCE: u32 = 3;

/// How many others must be taken or refused, each right before the suspect fails: what happens to the
/// destination between the two is not its fault.
const PROOFS: u32 = 3;

/// How the oldest spans on disk do.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Failed attempts since they were narrowed down, or since anything was taken.
    failures: u32,
    /// When the first attempt failed since a whole batch was taken.
    since: Option<Instant>,
    /// The most that are tried at once; none: a whole batch.
    most: Option<usize>,
    is_suspect: bool,
    /// Which span the proofs are against, and how many there are.
    proofs: (Option<SpanId>, u32),
}

impl Head {
    /// How many spans are to be tried at once, of the `batch` that may be; with a suspect, the one
    /// behind it is among them.
    pub(super) fn most(&self, batch: usize) -> usize {
        if self.is_suspect {
            return 2;
        }
        self.most.map_or(batch, |most| most.min(batch)).max(1)
    }

    /// How many bytes they may have together, of those that a batch may have: a suspect and the one
    /// behind it go one by one.
    pub(super) const fn most_bytes(&self, batch: usize) -> usize {
        if self.is_suspect { usize::MAX } else { batch }
    }

    /// Whether the first in hand is a suspect, with another one behind it.
    pub(super) fn is_suspect(&self, hand: &Hand) -> bool {
        self.is_suspect && hand.records.len() > 1
    }

    /// Whether a batch that failed is to be tried as it was.
    pub(super) fn admits(&self, hand: &Hand) -> bool {
        !self.is_suspect && hand.records.len() <= self.most.unwrap_or(usize::MAX)
    }

    /// An attempt with so many of them failed.
    pub(super) fn failed(&mut self, size: usize, delivery: &Delivery, now: Instant) {
        self.is_suspect = false;
        self.failures = self.failures.saturating_add(1);
        let since = *self.since.get_or_insert(now);
        let patience = delivery.recovery_timeout.saturating_mul(PATIENCE);
        if self.failures < delivery.attempts || now.duration_since(since) < patience {
            return;
        }
        self.failures = 0;
        self.most = Some(size.div_ceil(2));
        self.is_suspect = size == 1;
    }

    /// The one behind a suspect failed too, or there is no telling.
    pub(super) const fn cleared(&mut self) {
        self.is_suspect = false;
        self.proofs = (None, 0);
    }

    /// The suspect failed right after another was taken or refused; true if that is proof enough.
    fn proves(&mut self, suspect: Option<SpanId>) -> bool {
        let (against, proofs) = self.proofs;
        let proofs = if against == suspect { proofs + 1 } else { 1 };
        self.proofs = (suspect, proofs);
        proofs >= PROOFS
    }

    /// The destination said what becomes of some of them. More are tried again next time.
    pub(super) fn moved(&mut self, batch: usize) {
        self.failures = 0;
        self.is_suspect = false;
        match self.most {
            None => self.since = None,
            Some(most) => self.most = Some(most.saturating_mul(2)).filter(|most| *most < batch),
        }
    }
}

impl Worker {
    /// Tries the second span in hand, and where that is taken or refused, the first one once more,
    /// which is given up if it failed so often enough. False if the first is still to be delivered.
    pub(super) async fn ask_behind(&mut self, mut hand: Hand, state: &mut State) -> bool {
        hand.records.swap(0, 1);
        let second = self.ask(&mut hand, state).await;
        hand.records.swap(0, 1);
        let outcome = match second {
            Verdict::Ended(outcome) => outcome,
            Verdict::Again { after } => return self.leave_open(after, state),
            Verdict::Gone | Verdict::Halve => return self.leave_open(None, state),
        };
        let now = self.clock.mono();
        if let Some(overflow) = &mut self.overflow {
            overflow.settle_second(&self.queue, &mut hand, outcome, now);
        }
        let first = self.ask(&mut hand, state).await;
        let is_closing = self.orders.borrow().close_by.is_some();
        let outcome = match first {
            Verdict::Ended(outcome) => outcome,
            Verdict::Gone => Outcome::Failed,
            Verdict::Again { after } if after.is_some() || is_closing => {
                return self.leave_open(after, state);
            },
            Verdict::Again { .. } | Verdict::Halve => {
                let suspect = hand.records.first().map(|record| record.span.span_id);
                if !state.head.proves(suspect) {
                    self.rest(None, state);
                    return false;
                }
                self.log_given_up(&hand);
                Outcome::Failed
            },
        };
        state.head.moved(self.delivery.batch);
        self.settle(&mut hand, 1, outcome);
        true
    }

    /// Tries the first span in hand alone.
    async fn ask(&mut self, hand: &mut Hand, state: &mut State) -> Verdict {
        let closing = self.orders.borrow().close_by;
        self.queue.note(|stats| stats.retried += 1);
        let result = self.attempt(hand, 1, closing).await;
        let verdict = self.judge(result, 1, state);
        self.show(state);
        verdict
    }

    /// There is no telling whose fault it is.
    fn leave_open(&self, after: Option<Duration>, state: &mut State) -> bool {
        state.head.cleared();
        self.rest(after, state);
        false
    }

    fn log_given_up(&self, hand: &Hand) {
        let span = hand.records.first().map(|record| record.span.span_id);
        tracing::warn!(
            processor = &*self.name,
            span = span.map(tracing::field::display),
            "A span was given up: its processor fails with it, and not with those behind it"
        );
    }
}
