//! What waits for one processor: a bounded queue, and the count of what became of every span.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;

use super::{
    delivery::Circuit,
    filter::Fit,
    holding::Why,
    record::Record,
    sieve::{Passed, Sieve, Sifted},
};
use crate::base::clock::Instant;

/// What became of the spans offered to one processor. At any moment every one of them is in exactly
/// one of the counts that [`accounted`](Self::accounted) sums up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Spans that came.
    pub offered: u64,
    /// Spans that an earlier process had left on disk.
    pub found: u64,
    /// Spans that the processor took.
    pub delivered: u64,
    /// Spans that it refused, or that it would not take after every attempt.
    pub failed: u64,
    /// Spans that were thrown away unseen: the queue was full, or time was up at the end.
    pub dropped: u64,
    /// Spans that are not for the processor.
    pub filtered: u64,
    /// Spans of traces that sampling left out.
    pub sampled_out: u64,
    /// Spans that wait on disk.
    pub buffered: u64,
    /// Spans that were left out, and go all the same if another span of their trace does.
    pub held: u64,
    /// Of those that were left out, spans that waited less long than they might, because too many did.
    pub held_too_many: u64,
    /// The same, because they took too much memory.
    pub held_too_large: u64,
    /// Traces that go, and were forgotten because too many do: what comes of them is decided anew.
    pub forgotten: u64,
    /// Spans that wait.
    pub queued: u64,
    /// Spans of the batch that is being delivered.
    pub in_hand: u64,
    /// Bytes that the waiting spans take, about.
    pub queued_bytes: u64,
    /// Whether the processor is being tried.
    pub circuit: Circuit,
    /// Batches that were halved because they were too large for the destination.
    pub halved: u64,
    /// Spans that were too large for it by themselves, of the failed ones.
    pub too_large: u64,
    /// Texts on spans that were cut.
    pub cut_texts: u64,
    /// Attempts beyond a batch's first.
    pub retried: u64,
    /// Times that the processor panicked.
    pub panicked: u64,
    /// Half-written lines that were found and cut.
    pub torn: u64,
    /// Files of spans on disk that were not as they were written: what could be read of them was, and
    /// they are set aside.
    pub damaged: u64,
    /// Attributes that spans from disk lack: there are too many names of attributes.
    pub nameless: u64,
    /// Times that spans could not be written to disk, or read from there.
    pub disk_errors: u64,
    /// Spans that were deleted because of their age.
    pub expired: u64,
    /// Delivered spans that were only counted in a later message, so as not to send too many.
    pub suppressed: u64,
    /// Starts of a processor's command beyond the first.
    pub restarted: u64,
    /// Lines that such a command printed and nobody read: they were too long, or too many.
    pub cut_output: u64,
}

impl Stats {
    /// Books how so many spans ended.
    pub(super) fn book(&mut self, count: u64, outcome: Outcome) {
        match outcome {
            Outcome::Delivered { refused } => {
                let refused = count_of(refused).min(count);
                self.delivered += count - refused;
                self.failed += refused;
            },
            Outcome::Failed => self.failed += count,
            Outcome::Dropped => self.dropped += count,
        }
    }

    /// The spans of which it is known where they are or what became of them: all that were offered
    /// or found.
    pub const fn accounted(&self) -> u64 {
        let ended = self.delivered + self.failed + self.dropped;
        let left_out = self.filtered + self.sampled_out;
        let waiting = self.buffered + self.held + self.queued + self.in_hand;
        ended + left_out + waiting
    }
}

/// How many spans that have waited long enough, and traces that are remembered no more, a call gives up
/// when it adds one; the worker gives up the rest, …
const HANDFUL: usize = 4;

/// … so many under one lock.
const AT_ONCE: usize = 256;

/// The queue of one processor, bounded in spans and in bytes. Full, it drops its oldest spans for the
/// new one.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    bound: usize,
    memory: usize,
    waiting: VecDeque<Passed>,
    /// What they take.
    bytes: usize,
    /// So many of the oldest need no more work.
    reworked: usize,
    /// How many were taken from the front, ever.
    popped: u64,
    /// What waits besides; none: nothing does.
    sieve: Option<Sieve>,
    closed: bool,
    stats: Stats,
}

impl Queue {
    /// An empty queue of at most `bound` spans (at least one), which take at most `memory` bytes.
    pub(super) fn new(bound: usize, memory: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                bound: bound.max(1),
                memory,
                waiting: VecDeque::new(),
                bytes: 0,
                reworked: 0,
                popped: 0,
                sieve: None,
                closed: false,
                stats: Stats::default(),
            }),
        }
    }

    /// The same, with what decides about spans that are [`sift`](Self::sift)ed.
    pub(super) fn sifting(mut self, sieve: Option<Sieve>) -> Self {
        self.inner.get_mut().sieve = sieve;
        self
    }

    /// From now on it is another worker's, with the bounds and the sieve of `other`: its counts go on, and
    /// what waits waits for that one; for other spans of its trace only if it is sifted as before.
    pub(super) fn pass_on(&self, other: Self) {
        let other = other.inner.into_inner();
        let mut freed = Vec::new();
        let mut inner = self.inner.lock();
        let as_before = match (&inner.sieve, &other.sieve) {
            (Some(sieve), Some(next)) => sieve.is_as(next),
            _ => false,
        };
        if !as_before {
            while inner.give_up_oldest(&mut freed) {}
            inner.sieve = other.sieve;
        }
        (inner.bound, inner.memory) = (other.bound, other.memory);
        inner.closed = false;
        while inner.held().0 > inner.bound && inner.give_up_oldest(&mut freed) {
            inner.stats.held_too_many += 1;
        }
        inner.make_room(0, 0, &mut freed);
        drop(inner);
    }

    /// From now on what waits takes at most `memory` bytes.
    pub(super) fn bound_memory(&self, memory: usize) {
        let mut freed = Vec::new();
        let mut inner = self.inner.lock();
        inner.memory = memory;
        inner.make_room(0, 0, &mut freed);
        drop(inner);
    }

    /// Adds a span. Never waits for more than the lock, under which nobody does more than what his own
    /// spans, or a few hundred others, need.
    pub(super) fn push(&self, record: Arc<Record>) {
        let size = record.size();
        let mut freed = Vec::new();
        let mut inner = self.inner.lock();
        inner.stats.offered += 1;
        inner.add(record.into(), size, &mut freed);
        // What was dropped is freed after the lock.
        drop(inner);
    }

    /// Adds a span, or lets it wait for another one of its trace, as the sieve says.
    pub(super) fn sift(&self, record: Arc<Record>, fit: Fit, now: Instant) {
        let size = record.size();
        let mut freed = Vec::new();
        let mut inner = self.inner.lock();
        inner.stats.offered += 1;
        inner.expire(now, HANDFUL, &mut freed);
        let sifted = match &mut inner.sieve {
            Some(sieve) => sieve.sift(&record, fit, now),
            None => Sifted::Goes(None),
        };
        match sifted {
            Sifted::Goes(share) => {
                let released = inner.sieve.as_mut();
                let released = released.map(|it| it.holding.release(record.span.trace_id));
                for record in released.into_iter().flatten() {
                    let size = record.size();
                    inner.add(Passed { record, share }, size, &mut freed);
                }
                inner.add(Passed { record, share }, size, &mut freed);
            },
            Sifted::Waits(why) => {
                if inner.held().0 >= inner.bound && inner.give_up_oldest(&mut freed) {
                    inner.stats.held_too_many += 1;
                }
                let fits = inner.bytes.saturating_add(size) <= inner.memory;
                if fits {
                    inner.let_give_way(size, &mut freed);
                }
                let keeps = fits && !inner.closed;
                if let Some(sieve) = inner.sieve.as_mut().filter(|_| keeps) {
                    sieve.holding.hold(record, size, why, now);
                } else {
                    inner.stats.held_too_large += u64::from(!fits);
                    inner.stats.give_up(why);
                    freed.push(record);
                }
            },
        }
        drop(inner);
    }

    /// Gives up what has waited for its trace long enough.
    pub(super) fn expire(&self, now: Instant) {
        loop {
            let mut freed = Vec::new();
            let is_more = self.inner.lock().expire(now, AT_ONCE, &mut freed);
            if !is_more {
                return;
            }
        }
    }

    /// Counts a span that is not for the processor.
    pub(super) fn leave_out(&self) {
        self.note(|stats| {
            stats.offered += 1;
            stats.filtered += 1;
        });
    }

    /// How many spans wait, and how many bytes they take.
    pub(super) fn len(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.waiting.len(), inner.bytes)
    }

    /// Takes the oldest spans: at most `most`, and `bytes` of JSON but for one span that has more.
    /// The caller settles them.
    pub(super) fn take(&self, most: usize, bytes: usize) -> Vec<Passed> {
        let mut inner = self.inner.lock();
        let mut left = bytes;
        let lengths = inner.waiting.iter().take(most).map(|it| it.record.length());
        let fitting = lengths.take_while(|length| {
            let fits = left.checked_sub(*length);
            left = fits.unwrap_or(0);
            fits.is_some()
        });
        let count = fitting.count().max(1).min(inner.waiting.len());
        let batch: Vec<_> = std::iter::from_fn(|| inner.pop()).take(count).collect();
        inner.stats.in_hand += count_of(batch.len());
        batch
    }

    /// Takes spans back that were in hand and are the oldest; drops those for which there is no room
    /// any more.
    pub(super) fn take_back(&self, batch: Vec<Arc<Record>>) {
        let mut inner = self.inner.lock();
        inner.stats.in_hand = inner.stats.in_hand.saturating_sub(count_of(batch.len()));
        let mut dropped = Vec::new();
        for record in batch.into_iter().rev() {
            let bytes = inner.bytes.saturating_add(record.size());
            if inner.closed || inner.waiting.len() >= inner.bound || bytes > inner.memory {
                inner.stats.dropped += 1;
                dropped.push(record);
            } else {
                inner.bytes = bytes;
                inner.waiting.push_front(record.into());
                inner.reworked += 1;
                inner.popped = inner.popped.wrapping_sub(1);
            }
        }
        drop(inner);
    }

    /// Puts others in the place of spans that wait and were not worked on before, at most so many, the
    /// oldest first. `work` makes as many of them, without the lock; what is taken meanwhile goes as it
    /// was.
    pub(super) fn rework(&self, most: usize, work: impl FnOnce(Vec<Passed>) -> Vec<Arc<Record>>) {
        let (old, from, popped) = {
            let inner = self.inner.lock();
            let old = inner.waiting.iter().skip(inner.reworked).take(most);
            (
                old.cloned().collect::<Vec<_>>(),
                inner.reworked,
                inner.popped,
            )
        };
        if old.is_empty() {
            return;
        }
        let new = work(old.clone());
        let mut inner = self.inner.lock();
        let taken = inner.popped.wrapping_sub(popped);
        let from = count_of(from).wrapping_sub(taken);
        for (at, (old, new)) in (0_u64..).zip(old.iter().zip(&new)) {
            let at = usize::try_from(from.wrapping_add(at)).unwrap_or(usize::MAX);
            let place = inner.waiting.get_mut(at);
            let Some(place) = place.filter(|it| Arc::ptr_eq(&it.record, &old.record)) else {
                continue;
            };
            let (before, after) = (old.record.size(), new.size());
            *place = Arc::clone(new).into();
            inner.bytes = inner.bytes.saturating_sub(before).saturating_add(after);
            inner.reworked = inner.reworked.max(at.saturating_add(1));
        }
        let mut freed = Vec::new();
        inner.make_room(0, 0, &mut freed);
        drop(inner);
    }

    /// Whether so much waits that spans will be dropped soon.
    pub(super) fn is_half_full(&self) -> bool {
        let inner = self.inner.lock();
        inner.waiting.len() > inner.bound / 2 || inner.bytes > inner.memory / 2
    }

    /// Books how so many of the spans in hand ended.
    pub(super) fn settle(&self, count: usize, outcome: Outcome) {
        let count = count_of(count);
        self.note(|stats| {
            stats.in_hand = stats.in_hand.saturating_sub(count);
            stats.book(count, outcome);
        });
    }

    /// Changes the counts.
    pub(super) fn note(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.inner.lock().stats);
    }

    /// Drops what waits and whatever comes later, counted.
    pub(super) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        let waiting = std::mem::take(&mut inner.waiting);
        inner.bytes = 0;
        inner.reworked = 0;
        inner.stats.dropped += count_of(waiting.len());
        let mut freed = Vec::new();
        while inner.give_up_oldest(&mut freed) {}
        drop(inner);
        drop(waiting);
    }

    /// The counts of this moment.
    pub(super) fn stats(&self) -> Stats {
        let inner = self.inner.lock();
        let (held, bytes) = inner.held();
        Stats {
            queued: count_of(inner.waiting.len()),
            queued_bytes: count_of(inner.bytes.saturating_add(bytes)),
            held: count_of(held),
            forgotten: inner.sieve.as_ref().map_or(0, |it| it.holding.forgotten()),
            ..inner.stats
        }
    }
}

impl Inner {
    /// Adds a span, for which others give way.
    fn add(&mut self, passed: Passed, size: usize, freed: &mut Vec<Arc<Record>>) {
        if self.closed || size > self.memory {
            self.stats.dropped += 1;
            freed.push(passed.record);
            return;
        }
        self.make_room(1, size, freed);
        self.bytes = self.bytes.saturating_add(size);
        self.waiting.push_back(passed);
    }

    /// Makes room for so many more spans of so many bytes: those that may go at all give way, and then
    /// the oldest.
    fn make_room(&mut self, spans: usize, bytes: usize, freed: &mut Vec<Arc<Record>>) {
        self.let_give_way(bytes, freed);
        while self.waiting.len().saturating_add(spans) > self.bound
            || self.bytes.saturating_add(bytes) > self.memory
        {
            let Some(oldest) = self.pop() else {
                break;
            };
            self.stats.dropped += 1;
            freed.push(oldest.record);
        }
    }

    fn pop(&mut self) -> Option<Passed> {
        let oldest = self.waiting.pop_front()?;
        self.popped = self.popped.wrapping_add(1);
        self.reworked = self.reworked.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(oldest.record.size());
        Some(oldest)
    }

    /// How many spans wait for their trace, and how many bytes they take.
    fn held(&self) -> (usize, usize) {
        self.sieve.as_ref().map_or((0, 0), |it| it.holding.len())
    }

    /// Lets spans that wait for their trace give way to one of that size.
    fn let_give_way(&mut self, size: usize, freed: &mut Vec<Arc<Record>>) {
        let waiting = self.bytes.saturating_add(size);
        while waiting.saturating_add(self.held().1) > self.memory && self.give_up_oldest(freed) {
            self.stats.held_too_large += 1;
        }
    }

    /// Gives up the span that has waited longest for its trace; false if none waits.
    fn give_up_oldest(&mut self, freed: &mut Vec<Arc<Record>>) -> bool {
        let sieve = self.sieve.as_mut();
        let oldest = sieve.and_then(|it| it.holding.give_up_oldest());
        let found = oldest.is_some();
        self.count_given_up(oldest, freed);
        found
    }

    /// Gives up so many of those that have waited long enough at most; true if there may be more.
    fn expire(&mut self, now: Instant, most: usize, freed: &mut Vec<Arc<Record>>) -> bool {
        let mut expired = Vec::new();
        let sieve = self.sieve.as_mut();
        let is_more = sieve.is_some_and(|it| it.holding.expire(now, most, &mut expired));
        for given_up in expired {
            self.count_given_up(Some(given_up), freed);
        }
        is_more
    }

    fn count_given_up(
        &mut self,
        given_up: Option<(Arc<Record>, Why)>,
        freed: &mut Vec<Arc<Record>>,
    ) {
        if let Some((record, why)) = given_up {
            self.stats.give_up(why);
            freed.push(record);
        }
    }
}

/// How a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The destination took it, but for so many of its spans.
    Delivered {
        refused: usize,
    },
    Failed,
    Dropped,
}

fn count_of(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
