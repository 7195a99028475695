//! What a worker does with the spans that are on disk: they go before those in memory.

use std::time::Duration;

use super::{Hand, Overflow, State, Tried, Worker, dressed};

/// How long what is on disk is delivered before other things are looked after.
const STRETCH: Duration = Duration::from_secs(1);

impl Worker {
    /// Delivers what is due on disk, with all that comes meanwhile put behind it; false if something is
    /// left there.
    pub(super) async fn empty_disk(&mut self, state: &mut State, forced: bool) -> bool {
        let until = self.clock.mono() + STRETCH;
        loop {
            let now = self.clock.mono();
            let is_heirs = self.has_heir();
            let Some(overflow) = &mut self.overflow else {
                return true;
            };
            if is_heirs {
                return false;
            }
            overflow.open(&self.queue, now);
            if overflow.holds() || self.delivery.on_disk {
                overflow.spill_queue(&self.queue, now);
            }
            if !overflow.holds() {
                return true;
            }
            let waits = state.not_before.is_some_and(|at| now < at);
            let rests = state.breaker.closed_at(now).is_some();
            let late = !forced && now >= until;
            if rests || late || !forced && (waits || !self.is_due_on_disk(state)) {
                return false;
            }
            if self.orders.borrow().close_by.is_some() {
                // There is no time to find out.
                state.head.cleared();
            }
            let Some(mut hand) = self.next_on_disk(state) else {
                return false;
            };
            hand.records = dressed(hand.records, &self.delivery, &self.queue);
            state.waiting_since = None;
            let went_on = if state.head.is_suspect(&hand) {
                self.ask_behind(hand, state).await
            } else {
                self.deliver(hand, state).await
            };
            if !went_on {
                return false;
            }
        }
    }

    /// The batch that failed, as it was, unless less is to be tried now; else the oldest spans.
    fn next_on_disk(&mut self, state: &mut State) -> Option<Hand> {
        let overflow = self.overflow.as_mut()?;
        let again = state.again.take().filter(|hand| state.head.admits(hand));
        let again = again.and_then(|hand| overflow.still(hand));
        let most = state.head.most(self.delivery.batch);
        let bytes = state.head.most_bytes(self.delivery.batch_bytes);
        again.or_else(|| overflow.oldest(&self.queue, most, bytes, self.clock.mono()))
    }

    /// Whether there is a batch on disk to be delivered: any spans, unless they are there to wait for
    /// more.
    fn is_due_on_disk(&self, state: &mut State) -> bool {
        if !self.delivery.on_disk || state.again.is_some() {
            return true;
        }
        let (waiting, bytes) = self.overflow.as_ref().map_or((0, 0), Overflow::len);
        self.is_enough(waiting, bytes, state)
    }

    /// Puts what waits on disk, where there is one, unless it is another worker's.
    pub(super) fn spill_queue(&mut self) {
        let (now, is_heirs) = (self.clock.mono(), self.has_heir());
        if let Some(overflow) = self.overflow.as_mut().filter(|_| !is_heirs) {
            overflow.spill_queue(&self.queue, now);
        }
    }

    /// Puts what is in hand on disk, and what waits behind it; where that cannot be, it is for the
    /// worker that goes on with the queue. None: there is none either.
    pub(super) fn put_off(&mut self, hand: &mut Hand) -> Option<Tried> {
        let now = self.clock.mono();
        let overflow = self.overflow.as_mut();
        if overflow.is_some_and(|overflow| overflow.spill(&self.queue, hand, now)) {
            self.spill_queue();
            return Some(Tried::Later);
        }
        self.has_heir().then_some(Tried::Heirs)
    }
}
