//! The worker of one processor: takes batches from its queue at every tick, delivers them, and
//! does the retrying, timing, counting and isolating, so that processors only deliver.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{sleep, sleep_until, timeout_at},
};

use super::{
    delivery::{Breaker, Delivery},
    dress::dressed,
    overflow::{Hand, Overflow},
    processor::{BoxError, DeliverError, Due, Processor},
    queue::{Outcome, Queue},
    record::Record,
};
use crate::base::clock::{Clock, Instant};

mod besides;
mod disk;
mod head;
mod log;
mod unpanicked;

use besides::Besides;
use head::Head;
use unpanicked::unpanicked;

/// How often a worker looks at its queue while spans come. Nobody wakes it for each of them: that would
/// cost more than everything else that is done for the span.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// How often it looks after its processor while there is nothing to deliver. The first span then wakes
/// it, and is delivered with what comes within a tick.
const REST: Duration = Duration::from_millis(500);

/// How many ticks an attempt may take before the spans of the batch, and those behind it, go to disk
/// meanwhile: a kill would lose them.
const PATIENT_TICKS: u32 = 10;

/// How many of the spans that wait are dressed at a tick.
const DRESSED: usize = 256;

/// What the pipeline asks of its workers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Orders {
    /// Counts the calls of flush: deliver what waits, now.
    pub(super) flush: u64,
    /// Deliver what waits until then, drop the rest, and end.
    pub(super) close_by: Option<Instant>,
    /// Another worker goes on with the queue: what waits is that one's.
    pub(super) has_heir: bool,
}

/// One processor's worker. It ends when it is told to, or when the pipeline is gone.
pub(super) struct Worker {
    pub(super) name: Arc<str>,
    pub(super) queue: Arc<Queue>,
    pub(super) delivery: Delivery,
    /// Where spans wait that cannot be delivered now; none: they wait in the queue, as far as it goes.
    pub(super) overflow: Option<Overflow>,
    pub(super) processor: Box<dyn Processor>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) orders: watch::Receiver<Orders>,
    /// The last flush that was carried out.
    pub(super) flushed: watch::Sender<u64>,
}

/// What a worker remembers between ticks.
struct State {
    breaker: Breaker,
    /// Since when spans have been waiting for their batch to fill.
    waiting_since: Option<Instant>,
    /// Failed attempts since the last that succeeded, of what is on disk.
    failures: u32,
    /// What is on disk is not tried before.
    not_before: Option<Instant>,
    /// The batch from there that is tried again, as it was: a destination may know it by what is in it.
    again: Option<Hand>,
    /// How the oldest there do.
    head: Head,
    drops_logged: (u64, Option<Instant>),
    failure_logged: Option<Instant>,
}

/// What comes after an attempt.
enum Verdict {
    Ended(Outcome),
    /// The destination takes nothing any more.
    Gone,
    Again {
        after: Option<Duration>,
    },
    Halve,
}

/// What came of trying to deliver a part of what is in hand.
enum Tried {
    Ended(Outcome),
    /// It is too large.
    Halve,
    /// It is on disk, and will be tried again from there.
    Later,
    /// The worker that goes on with the queue is to try it.
    Heirs,
}

impl Worker {
    /// Works until the end.
    pub(super) async fn run(mut self) {
        let mut state = State {
            breaker: Breaker::new(&self.delivery),
            waiting_since: None,
            failures: 0,
            not_before: None,
            again: None,
            head: Head::default(),
            drops_logged: (0, None),
            failure_logged: None,
        };
        let mut besides = Besides::default();
        loop {
            let open = besides.meanwhile(self.wait()).await;
            let orders = *self.orders.borrow_and_update();
            let forced = orders.close_by.is_some() || *self.flushed.borrow() != orders.flush;
            if !orders.has_heir {
                besides.meanwhile(self.round(&mut state, forced)).await;
                if orders.close_by.is_some() {
                    self.spill_queue();
                }
            }
            self.dress_waiting();
            self.look_after(&mut state);
            let due = match orders.close_by {
                Some(_) => Due::End,
                None if forced => Due::Now,
                None => Due::Tick,
            };
            self.send_besides(due, &mut besides, &mut state).await;
            self.flushed.send_replace(orders.flush);
            if !open || orders.close_by.is_some() {
                break;
            }
        }
        self.shut();
        self.log_drops(&mut state, true);
    }

    /// Nothing is delivered any more, by this worker.
    fn shut(&self) {
        // Nobody gets an heir while this is borrowed: the queue would be closed under that one.
        let orders = self.orders.borrow();
        if !orders.has_heir {
            self.queue.close();
        }
    }

    /// Whether what waits is another worker's.
    fn has_heir(&self) -> bool {
        self.orders.borrow().has_heir
    }

    /// Waits for the next tick or order; false if the pipeline is gone.
    async fn wait(&mut self) -> bool {
        let idle = !self.has_heir()
            && self.queue.is_empty()
            && self.overflow.as_ref().is_none_or(|it| !it.holds());
        let next = async {
            if !idle || self.queue.rest(REST).await {
                sleep(TICK).await;
            }
        };
        tokio::select! {
            () = next => true,
            order = self.orders.changed() => order.is_ok(),
        }
    }

    /// Delivers what is due of the spans that wait now, those on disk first.
    async fn round(&mut self, state: &mut State, forced: bool) {
        if !self.empty_disk(state, forced).await {
            return;
        }
        let (mut left, _bytes) = self.queue.len();
        while left > 0 && !self.has_heir() && (forced || self.is_due(state)) {
            let most = self.delivery.batch.max(1).min(left);
            let batch = self.queue.take(most, self.delivery.batch_bytes);
            if batch.is_empty() {
                break; // The queue was shorter by then: drops are not ours alone.
            }
            left = left.saturating_sub(batch.len());
            let batch = dressed(batch, &self.delivery, &self.queue);
            state.waiting_since = None;
            if !self.deliver(Hand::from_queue(batch), state).await {
                break;
            }
            if self.queue.is_half_full() && self.overflow.is_some() {
                // It takes spans more slowly than they come.
                self.spill_queue();
                if !self.empty_disk(state, forced).await {
                    break;
                }
            }
        }
    }

    fn is_due(&self, state: &mut State) -> bool {
        let (waiting, bytes) = self.queue.len();
        // A span takes at least twice its line.
        self.delivery.is_much(waiting, bytes) || self.is_enough(waiting, bytes / 2, state)
    }

    /// Whether so many spans, with so many bytes of JSON, are a batch, or have waited long enough.
    fn is_enough(&self, waiting: usize, bytes: usize, state: &mut State) -> bool {
        let now = self.clock.mono();
        let since = *state.waiting_since.get_or_insert(now);
        waiting >= self.delivery.batch
            || bytes >= self.delivery.batch_bytes
            || now.duration_since(since) >= self.delivery.max_age
    }

    /// Delivers what is in hand, whole or, where that is too large for the destination, in parts;
    /// false if some of it went to disk, or back to the queue, instead.
    async fn deliver(&mut self, mut hand: Hand, state: &mut State) -> bool {
        let mut sizes = vec![hand.records.len()];
        while let Some(size) = sizes.pop() {
            match self.try_part(&mut hand, size, state).await {
                Tried::Ended(outcome) => self.settle(&mut hand, size, outcome),
                Tried::Halve => {
                    self.queue.note(|stats| stats.halved += 1);
                    let first = size.div_ceil(2);
                    sizes.extend([size - first, first]);
                },
                Tried::Later => {
                    state.again = Some(hand);
                    return false;
                },
                Tried::Heirs => {
                    self.queue.take_back(hand.records);
                    return false;
                },
            }
        }
        true
    }

    fn settle(&mut self, hand: &mut Hand, size: usize, outcome: Outcome) {
        let now = self.clock.mono();
        if let Some(overflow) = &mut self.overflow {
            overflow.settle(&self.queue, hand, (size, outcome), now);
        } else {
            hand.records.drain(..size.min(hand.records.len()));
            self.queue.settle(size, outcome);
        }
    }

    /// Tries until the first `size` spans in hand are delivered, refused, out of attempts, or on disk
    /// or an heir's to be tried again. At the end of the pipeline they are tried once more at most, whatever the
    /// breaker says.
    async fn try_part(&mut self, hand: &mut Hand, size: usize, state: &mut State) -> Tried {
        for attempt in 1..=self.delivery.attempts.max(1) {
            if let Some(until) = state.breaker.closed_at(self.clock.mono()) {
                if let Some(later) = self.put_off(hand) {
                    return later;
                }
                self.pause(until).await;
            }
            let closing = self.orders.borrow().close_by;
            if closing.is_some_and(|by| self.clock.mono() >= by) {
                let late = Tried::Ended(Outcome::Dropped);
                return self.put_off(hand).unwrap_or(late);
            }
            if attempt > 1 || state.failures > 0 {
                self.queue.note(|stats| stats.retried += 1);
            }
            self.show(state);
            let result = self.attempt(hand, size, closing).await;
            let verdict = self.judge(result, size, state);
            self.show(state);
            let after = match verdict {
                Verdict::Ended(outcome) => {
                    state.head.moved(self.delivery.batch);
                    return Tried::Ended(outcome);
                },
                Verdict::Gone => return Tried::Ended(Outcome::Failed),
                Verdict::Halve => return Tried::Halve,
                Verdict::Again { after } => after,
            };
            if let Some(later) = self.put_off(hand) {
                let now = self.clock.mono();
                state.head.failed(size, &self.delivery, now);
                self.rest(after, state);
                return later;
            }
            if closing.is_some() || attempt == self.delivery.attempts {
                break;
            }
            let wait = self.delivery.wait(attempt, after);
            self.pause(self.clock.mono() + wait).await;
        }
        Tried::Ended(Outcome::Failed)
    }

    /// What is on disk is left alone for a while: as long as was asked for, if that was.
    fn rest(&self, asked: Option<Duration>, state: &mut State) {
        state.failures = state.failures.saturating_add(1);
        let wait = self.delivery.wait(state.failures, asked);
        state.not_before = Some(self.clock.mono() + wait);
    }

    /// Dresses what waits: bytes of calls are kept in a room that all calls share, and must not stay
    /// there as long as a destination is down.
    fn dress_waiting(&self) {
        if self.has_heir() {
            return; // That one may have other rules.
        }
        let dress = |batch| dressed(batch, &self.delivery, &self.queue);
        self.queue.rework(DRESSED, dress);
    }

    /// Shows what the breaker does.
    fn show(&self, state: &State) {
        let circuit = state.breaker.circuit(self.clock.mono());
        self.queue.note(|stats| stats.circuit = circuit);
    }

    /// What an attempt's result means, for the breaker and for the part of `count` spans.
    fn judge(&self, result: Result<(), DeliverError>, count: usize, state: &mut State) -> Verdict {
        let (verdict, error) = match result {
            Ok(()) => (Outcome::Delivered { refused: 0 }, None),
            Err(DeliverError::Retry { after, source }) => {
                self.fail(&source, count, state);
                return Verdict::Again { after };
            },
            Err(DeliverError::Gone) => {
                self.shut();
                return Verdict::Gone;
            },
            Err(DeliverError::Reject(error)) => (Outcome::Failed, Some(error)),
            Err(DeliverError::Partly { refused, source }) => {
                (Outcome::Delivered { refused }, Some(source))
            },
            Err(DeliverError::TooLarge(error)) => {
                self.recover(state);
                if count > 1 {
                    return Verdict::Halve;
                }
                self.queue.note(|stats| stats.too_large += 1);
                (Outcome::Failed, Some(error))
            },
        };
        self.recover(state);
        if let Some(error) = error {
            let message = "Spans were refused by their processor";
            self.log_failure(&error, message, count, state);
        }
        Verdict::Ended(verdict)
    }

    /// Books an attempt that failed, and may do better later.
    fn fail(&self, error: &BoxError, count: usize, state: &mut State) {
        if state.breaker.failed(self.clock.mono()) {
            tracing::warn!(
                processor = &*self.name,
                %error,
                pause = ?self.delivery.recovery_timeout,
                "Span processor keeps failing: it is tried again after a pause"
            );
        } else {
            self.log_failure(error, "Spans could not be delivered", count, state);
        }
    }

    /// Books that the destination answers.
    fn recover(&self, state: &mut State) {
        state.failures = 0;
        state.not_before = None;
        if state.breaker.succeeded() {
            tracing::info!(processor = &*self.name, "Span processor works again");
        }
    }

    /// Waits until `until`, or until the pipeline ends.
    async fn pause(&mut self, until: Instant) {
        while self.clock.mono() < until {
            let ending = self.orders.wait_for(|orders| orders.close_by.is_some());
            tokio::select! {
                () = sleep_until(until.min(self.clock.mono() + TICK)) => {},
                _closing_or_gone = ending => return,
            }
            self.dress_waiting();
            self.queue.expire(self.clock.mono());
        }
    }

    /// One attempt, timed, and with a panic made an error. What waits behind it goes to disk if it
    /// takes long.
    async fn attempt(
        &mut self,
        hand: &mut Hand,
        size: usize,
        closing: Option<Instant>,
    ) -> Result<(), DeliverError> {
        let part: Vec<Arc<Record>> = hand.records.iter().take(size).map(Arc::clone).collect();
        let processor = &mut self.processor;
        let delivering = unpanicked(|| processor.deliver(&part));
        let limit = self.clock.mono() + self.delivery.timeout;
        let limit = closing.map_or(limit, |by| by.min(limit));
        let mut limited = pin!(timeout_at(limit, delivering));
        let mut ticks = 0;
        let result = loop {
            tokio::select! {
                biased;
                result = &mut limited => break result.ok(),
                () = sleep(TICK) => ticks += 1,
            }
            let has_heir = self.orders.borrow().has_heir;
            if !has_heir {
                self.queue
                    .rework(DRESSED, |batch| dressed(batch, &self.delivery, &self.queue));
            }
            self.queue.expire(self.clock.mono());
            if let Some(overflow) = &mut self.overflow
                && (hand.is_on_disk()
                    || closing.is_some()
                    || ticks >= PATIENT_TICKS
                    || self.queue.is_half_full())
            {
                let now = self.clock.mono();
                if overflow.spill(&self.queue, hand, now) && !has_heir {
                    overflow.spill_queue(&self.queue, now);
                }
            }
        };
        match result {
            Some(Some(result)) => result,
            Some(None) => {
                self.queue.note(|stats| stats.panicked += 1);
                Err(DeliverError::Reject(BoxError::from("it panicked")))
            },
            None => Err(DeliverError::Retry {
                after: None,
                source: BoxError::from("it took too long"),
            }),
        }
    }

    /// What is done at every tick besides delivering.
    fn look_after(&mut self, state: &mut State) {
        let processor = &mut self.processor;
        let upkeep = catch_unwind(AssertUnwindSafe(|| processor.upkeep()));
        self.queue.note(|stats| match upkeep {
            Ok(upkeep) => {
                stats.halved += upkeep.halved;
                stats.too_large += upkeep.too_large;
                stats.torn += upkeep.torn;
                stats.expired += upkeep.expired;
                stats.suppressed += upkeep.suppressed;
                stats.restarted += upkeep.restarted;
                stats.cut_output += upkeep.cut_output;
            },
            Err(_panic) => stats.panicked += 1,
        });
        self.queue.expire(self.clock.mono());
        self.show(state);
        self.log_drops(state, false);
    }
}

#[cfg(test)]
#[path = "worker/spooling.rs"]
mod spooling;
#[cfg(test)]
#[path = "worker/tests.rs"]
mod tests;
