//! Where calls leave spans for a queue. Here nobody waits for anybody: not a call for another call, nor
//! for the worker, who holds the queue's lock while he takes or counts. Whoever has the lock sorts in
//! what lies here.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use crossbeam_queue::ArrayQueue;

use super::super::{filter::Fit, record::Record};
use crate::base::clock::Instant;

/// How many spans lie here at most: what 10,000 a second leave between two ticks of a worker.
const MOST: usize = 1_024;

/// The part of a queue's bounds that is its inbox's.
const SHARE: usize = 8;

/// A span as it was offered.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) record: Arc<Record>,
    /// What it takes, in bytes.
    pub(super) size: usize,
    /// What the filter says of it, and when it came; none: it goes, whatever the sieve says.
    pub(super) sifts: Option<(Fit, Instant)>,
}

/// Spans that nobody has sorted in, in the order in which they came.
#[derive(Debug)]
pub(super) struct Inbox {
    ring: ArrayQueue<Offered>,
    /// How many there may be, …
    bound: AtomicUsize,
    /// … and how many bytes they may take.
    room: AtomicUsize,
    /// What they take, and those that are about to be left.
    bytes: AtomicUsize,
    left_out: AtomicU64,
}

impl Inbox {
    /// An empty one of a queue of at most `bound` spans and `memory` bytes, and what of these bounds it
    /// leaves.
    pub(super) fn of(bound: usize, memory: usize) -> (Self, usize, usize) {
        let mine = (bound / SHARE).min(MOST);
        let inbox = Self {
            ring: ArrayQueue::new(MOST),
            bound: AtomicUsize::new(mine),
            room: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            left_out: AtomicU64::new(0),
        };
        let memory = inbox.share(memory);
        (inbox, bound - mine, memory)
    }

    /// From now on the queue takes so many bytes; what it leaves of them is returned.
    pub(super) fn share(&self, memory: usize) -> usize {
        let room = memory / SHARE;
        self.room.store(room, Ordering::Relaxed);
        memory - room
    }

    /// From now on it has the bounds of another.
    pub(super) fn open_as(&self, other: &Self) {
        let copy = |from: &AtomicUsize, to: &AtomicUsize| {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        };
        copy(&other.room, &self.room);
        copy(&other.bound, &self.bound);
    }

    /// From now on nothing more is left here.
    pub(super) fn shut(&self) {
        self.bound.store(0, Ordering::Relaxed);
    }

    /// Leaves a span here.
    ///
    /// # Errors
    /// There is no room; here it is back.
    pub(super) fn leave(&self, offered: Offered) -> Result<(), Offered> {
        let (size, bound) = (offered.size, self.bound.load(Ordering::Relaxed));
        if self.ring.len() >= bound {
            return Err(offered);
        }
        let before = self.bytes.fetch_add(size, Ordering::Relaxed);
        let fits = before.saturating_add(size) <= self.room.load(Ordering::Relaxed);
        let left = if fits {
            self.ring.push(offered)
        } else {
            Err(offered)
        };
        if left.is_err() {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
        }
        left
    }

    /// Takes the oldest out.
    pub(super) fn pop(&self) -> Option<Offered> {
        let offered = self.ring.pop()?;
        self.bytes.fetch_sub(offered.size, Ordering::Relaxed);
        Some(offered)
    }

    /// Counts a span that is not for the processor.
    pub(super) fn leave_out(&self) {
        self.left_out.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were left out since this was last asked.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::testing::record, *};

    fn offered(n: u64) -> Offered {
        let record = record(n);
        Offered {
            size: record.size(),
            record,
            sifts: None,
        }
    }

    #[test]
    fn spans_come_out_in_the_order_in_which_they_were_left() {
        let (inbox, ..) = Inbox::of(usize::MAX, usize::MAX);
        (1..=3).for_each(|n| inbox.leave(offered(n)).unwrap());
        let ids = std::iter::from_fn(|| inbox.pop()).map(|it| it.record.span.span_id);
        let ids: Vec<_> = ids.collect();
        assert_eq!(ids, [1, 2, 3].map(|n| record(n).span.span_id));
        assert_eq!(inbox.bytes.into_inner(), 0);
    }

    #[test]
    fn it_is_bounded_in_bytes_and_in_spans() {
        let size = offered(1).size;
        let (inbox, ..) = Inbox::of(usize::MAX, SHARE * 2 * size);
        let left = [1, 2, 3].map(|n| inbox.leave(offered(n)).is_ok());
        assert_eq!(left, [true, true, false]);
        let (other, bound, memory) = Inbox::of(SHARE * 3, SHARE * 9 * size);
        assert_eq!((bound, memory), (7 * 3, 7 * 9 * size));
        inbox.open_as(&other);
        let left = [4, 5].map(|n| inbox.leave(offered(n)).is_ok());
        assert_eq!(left, [true, false]);
        inbox.open_as(&Inbox::of(usize::MAX, usize::MAX).0);
        let left = (6..).take_while(|n| inbox.leave(offered(*n)).is_ok());
        assert_eq!(left.count(), MOST - 3);
        inbox.pop();
        inbox.shut();
        assert!(inbox.leave(offered(1)).is_err());
        assert_eq!(inbox.bytes.into_inner(), (MOST - 1) * size);
    }
}
