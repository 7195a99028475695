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
    /// What they take, and those that are about to be left.
    bytes: AtomicUsize,
    /// What they may take.
    room: AtomicUsize,
    left_out: AtomicU64,
    lost: AtomicU64,
}

impl Inbox {
    /// An empty one, for at most `room` bytes.
    pub(super) fn new(room: usize) -> Self {
        Self {
            ring: ArrayQueue::new(MOST),
            bytes: AtomicUsize::new(0),
            room: AtomicUsize::new(room),
            left_out: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// Leaves a span here.
    ///
    /// # Errors
    /// There is no room; here it is back.
    pub(super) fn leave(&self, offered: Offered) -> Result<(), Offered> {
        let size = offered.size;
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

    /// Whether nothing lies here.
    pub(super) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// What lies here takes so many bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// From now on what lies here may take so many bytes.
    pub(super) fn allow(&self, room: usize) {
        self.room.store(room, Ordering::Relaxed);
    }

    /// Counts a span that is not for the processor.
    pub(super) fn leave_out(&self) {
        self.left_out.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a span for which there was no room.
    pub(super) fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were left out, and how many lost, since this was last asked.
    pub(super) fn tally(&self) -> (u64, u64) {
        let of = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        (of(&self.left_out), of(&self.lost))
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
        let inbox = Inbox::new(usize::MAX);
        (1..=3).for_each(|n| inbox.leave(offered(n)).unwrap());
        let ids = std::iter::from_fn(|| inbox.pop()).map(|it| it.record.span.span_id);
        let ids: Vec<_> = ids.collect();
        assert_eq!(ids, [1, 2, 3].map(|n| record(n).span.span_id));
        assert_eq!(inbox.bytes(), 0);
    }

    #[test]
    fn it_is_bounded_in_bytes_and_in_spans() {
        let size = offered(1).size;
        let inbox = Inbox::new(2 * size);
        let left = [1, 2, 3].map(|n| inbox.leave(offered(n)).is_ok());
        assert_eq!((left, inbox.bytes()), ([true, true, false], 2 * size));
        inbox.allow(usize::MAX);
        let left = (3..).take_while(|n| inbox.leave(offered(*n)).is_ok());
        assert_eq!((left.count(), inbox.bytes()), (MOST - 2, MOST * size));
    }
}
