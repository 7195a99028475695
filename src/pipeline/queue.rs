//! What waits for one processor: a bounded queue, and the count of what became of every span.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::{sync::Notify, time::timeout};

use super::{
    filter::Fit,
    holding::Why,
    record::Record,
    sieve::{Passed, Sieve, Sifted},
};
use crate::base::clock::Instant;

mod inbox;
mod stats;

use inbox::{Inbox, Offered};

pub(super) use stats::Outcome;
pub use stats::Stats;

/// How many spans a call sorts in at once where nobody else has in time, and how many of those that have
/// waited long enough and traces that are remembered no more are given up for each; …
const HANDFUL: usize = 4;

/// … the worker gives up the rest, so many under one lock.
const AT_ONCE: usize = 256;

/// The queue of one processor, bounded in spans and in bytes. Full, it drops its oldest spans for the
/// new one.
///
/// Calls do not meet here: they leave their spans in an inbox without a lock, and the worker sorts them
/// in. Only where that is full, or a span is too large for it, does a call take the lock.
#[derive(Debug)]
pub(super) struct Queue {
    inbox: Inbox,
    inner: Mutex<Inner>,
    /// The worker rests: the next span wakes it, and no other one.
    rests: AtomicBool,
    waking: Notify,
}

#[derive(Debug)]
struct Inner {
    /// What is left of the bounds, beside what is the inbox's.
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
    /// What waits no more, to be freed after the lock.
    freed: Vec<Arc<Record>>,
}

impl Queue {
    /// An empty queue of at most `bound` spans (at least one), which take at most `memory` bytes.
    pub(super) fn new(bound: usize, memory: usize) -> Self {
        let (inbox, bound, memory) = Inbox::of(bound, memory);
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
                freed: Vec::new(),
            }),
            inbox,
            rests: AtomicBool::new(false),
            waking: Notify::new(),
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
        let (coming, other) = (other.inbox, other.inner.into_inner());
        let mut inner = self.sorted();
        let as_before = match (&inner.sieve, &other.sieve) {
            (Some(sieve), Some(next)) => sieve.is_as(next),
            _ => false,
        };
        if !as_before {
            while inner.give_up_oldest() {}
            inner.sieve = other.sieve;
        }
        (inner.bound, inner.memory) = (other.bound, other.memory);
        inner.closed = false;
        self.inbox.open_as(&coming);
        while inner.held().0 > inner.bound && inner.give_up_oldest() {
            inner.stats.held_too_many += 1;
        }
        inner.make_room(0, 0);
    }

    /// From now on what waits takes at most `memory` bytes.
    pub(super) fn bound_memory(&self, memory: usize) {
        let mut inner = self.sorted();
        inner.memory = self.inbox.share(memory);
        inner.make_room(0, 0);
    }

    /// Adds a span. Never waits.
    pub(super) fn push(&self, record: Arc<Record>) {
        self.offer(Offered {
            size: record.size(),
            record,
            sifts: None,
        });
    }

    /// Adds a span, or lets it wait for another one of its trace, as the sieve says. Never waits.
    pub(super) fn sift(&self, record: Arc<Record>, fit: Fit, now: Instant) {
        self.offer(Offered {
            size: record.size(),
            record,
            sifts: Some((fit, now)),
        });
    }

    fn offer(&self, offered: Offered) {
        if let Err(offered) = self.inbox.leave(offered) {
            let mut inner = self.locked();
            inner.sort_in(&self.inbox, HANDFUL);
            if let Err(offered) = self.inbox.leave(offered) {
                inner.sort_in(&self.inbox, usize::MAX);
                inner.sift(offered);
            }
        }
        if self.rests.load(Ordering::Relaxed) && self.rests.swap(false, Ordering::Relaxed) {
            self.waking.notify_one();
        }
    }

    /// Waits until a span comes, but not longer than `most`; false if none did. One that comes at the
    /// very moment at which this begins may be missed: that is what `most` is for.
    pub(super) async fn rest(&self, most: Duration) -> bool {
        self.rests.store(true, Ordering::Relaxed);
        let came = !self.is_empty() || timeout(most, self.waking.notified()).await.is_ok();
        self.rests.store(false, Ordering::Relaxed);
        came
    }

    /// Whether nothing waits, for the worker or for the rest of its trace.
    pub(super) fn is_empty(&self) -> bool {
        let inner = self.sorted();
        inner.waiting.is_empty() && inner.held().0 == 0
    }

    /// Gives up what has waited for its trace long enough.
    pub(super) fn expire(&self, now: Instant) {
        while self.sorted().expire(now, AT_ONCE) {}
    }

    /// Counts a span that is not for the processor.
    pub(super) fn leave_out(&self) {
        self.inbox.leave_out();
    }

    /// How many spans wait, and how many bytes they take.
    pub(super) fn len(&self) -> (usize, usize) {
        let inner = self.sorted();
        (inner.waiting.len(), inner.bytes)
    }

    /// Takes the oldest spans: at most `most`, and `bytes` of JSON but for one span that has more.
    /// The caller settles them.
    pub(super) fn take(&self, most: usize, bytes: usize) -> Vec<Passed> {
        let mut inner = self.sorted();
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
        let mut inner = self.sorted();
        inner.stats.in_hand = inner.stats.in_hand.saturating_sub(count_of(batch.len()));
        for record in batch.into_iter().rev() {
            let bytes = inner.bytes.saturating_add(record.size());
            if inner.closed || inner.waiting.len() >= inner.bound || bytes > inner.memory {
                inner.stats.dropped += 1;
                inner.freed.push(record);
            } else {
                inner.bytes = bytes;
                inner.waiting.push_front(record.into());
                inner.reworked += 1;
                inner.popped = inner.popped.wrapping_sub(1);
            }
        }
    }

    /// Puts others in the place of spans that wait and were not worked on before, at most so many, the
    /// oldest first. `work` makes as many of them, without the lock; what is taken meanwhile goes as it
    /// was.
    pub(super) fn rework(&self, most: usize, work: impl FnOnce(Vec<Passed>) -> Vec<Arc<Record>>) {
        let (old, from, popped) = {
            let inner = self.sorted();
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
        let mut inner = self.sorted();
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
        inner.make_room(0, 0);
    }

    /// Whether so much waits that spans will be dropped soon.
    pub(super) fn is_half_full(&self) -> bool {
        let inner = self.sorted();
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
        self.inbox.shut();
        let mut inner = self.sorted();
        inner.closed = true;
        while let Some(oldest) = inner.pop() {
            inner.stats.dropped += 1;
            inner.freed.push(oldest.record);
        }
        while inner.give_up_oldest() {}
    }

    /// The counts of this moment.
    pub(super) fn stats(&self) -> Stats {
        let inner = self.sorted();
        let (held, bytes) = inner.held();
        Stats {
            queued: count_of(inner.waiting.len()),
            queued_bytes: count_of(inner.bytes.saturating_add(bytes)),
            held: count_of(held),
            forgotten: inner.sieve.as_ref().map_or(0, |it| it.holding.forgotten()),
            ..inner.stats
        }
    }

    /// The lock, with all that calls have left sorted in.
    fn sorted(&self) -> Locked<'_> {
        let mut inner = self.locked();
        inner.sort_in(&self.inbox, usize::MAX);
        inner
    }

    fn locked(&self) -> Locked<'_> {
        Locked {
            inner: self.inner.lock(),
            freed: Vec::new(),
        }
    }
}

/// The lock. What waits no more is freed when it goes.
struct Locked<'a> {
    inner: MutexGuard<'a, Inner>,
    /// Freed after the lock, since fields go in their order.
    freed: Vec<Arc<Record>>,
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.freed = std::mem::take(&mut self.inner.freed);
    }
}

impl std::ops::Deref for Locked<'_> {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl std::ops::DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }
}

impl Inner {
    /// Sorts in what calls have left, the oldest first, so many at most.
    fn sort_in(&mut self, inbox: &Inbox, most: usize) {
        let left_out = inbox.left_out();
        self.stats.offered += left_out;
        self.stats.filtered += left_out;
        for offered in std::iter::from_fn(|| inbox.pop()).take(most) {
            self.sift(offered);
        }
    }

    /// Adds a span, or lets it wait for another one of its trace.
    fn sift(&mut self, offered: Offered) {
        let Offered {
            record,
            size,
            sifts,
        } = offered;
        self.stats.offered += 1;
        let Some((fit, now)) = sifts else {
            return self.add(record.into(), size);
        };
        self.expire(now, HANDFUL);
        let sifted = match &mut self.sieve {
            Some(sieve) => sieve.sift(&record, fit, now),
            None => Sifted::Goes(None),
        };
        match sifted {
            Sifted::Goes(share) => {
                let released = self.sieve.as_mut();
                let released = released.map(|it| it.holding.release(record.span.trace_id));
                for record in released.into_iter().flatten() {
                    let size = record.size();
                    self.add(Passed { record, share }, size);
                }
                self.add(Passed { record, share }, size);
            },
            Sifted::Waits(why) => self.hold(record, size, why, now),
        }
    }

    /// Lets a span wait for another one of its trace.
    fn hold(&mut self, record: Arc<Record>, size: usize, why: Why, now: Instant) {
        if self.held().0 >= self.bound && self.give_up_oldest() {
            self.stats.held_too_many += 1;
        }
        let fits = self.bytes.saturating_add(size) <= self.memory;
        if fits {
            self.let_give_way(size);
        }
        let keeps = fits && !self.closed;
        if let Some(sieve) = self.sieve.as_mut().filter(|_| keeps) {
            sieve.holding.hold(record, size, why, now);
        } else {
            self.stats.held_too_large += u64::from(!fits);
            self.stats.give_up(why);
            self.freed.push(record);
        }
    }

    /// Adds a span, for which others give way.
    fn add(&mut self, passed: Passed, size: usize) {
        if self.closed || size > self.memory {
            self.stats.dropped += 1;
            self.freed.push(passed.record);
            return;
        }
        self.make_room(1, size);
        self.bytes = self.bytes.saturating_add(size);
        self.waiting.push_back(passed);
    }

    /// Makes room for so many more spans of so many bytes: those that may go at all give way, and then
    /// the oldest.
    fn make_room(&mut self, spans: usize, bytes: usize) {
        self.let_give_way(bytes);
        while self.waiting.len().saturating_add(spans) > self.bound
            || self.bytes.saturating_add(bytes) > self.memory
        {
            let Some(oldest) = self.pop() else {
                break;
            };
            self.stats.dropped += 1;
            self.freed.push(oldest.record);
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
    fn let_give_way(&mut self, size: usize) {
        let waiting = self.bytes.saturating_add(size);
        while waiting.saturating_add(self.held().1) > self.memory && self.give_up_oldest() {
            self.stats.held_too_large += 1;
        }
    }

    /// Gives up the span that has waited longest for its trace; false if none waits.
    fn give_up_oldest(&mut self) -> bool {
        let sieve = self.sieve.as_mut();
        let oldest = sieve.and_then(|it| it.holding.give_up_oldest());
        let found = oldest.is_some();
        self.count_given_up(oldest);
        found
    }

    /// Gives up so many of those that have waited long enough at most; true if there may be more.
    fn expire(&mut self, now: Instant, most: usize) -> bool {
        let mut expired = Vec::new();
        let sieve = self.sieve.as_mut();
        let is_more = sieve.is_some_and(|it| it.holding.expire(now, most, &mut expired));
        self.count_given_up(expired);
        is_more
    }

    fn count_given_up(&mut self, given_up: impl IntoIterator<Item = (Arc<Record>, Why)>) {
        for (record, why) in given_up {
            self.stats.give_up(why);
            self.freed.push(record);
        }
    }
}

fn count_of(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
