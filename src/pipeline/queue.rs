//! What waits for one processor: a bounded queue, and the count of what became of every span.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;

use super::record::Record;

/// What became of the spans offered to one processor. At any moment the offered ones are those
/// delivered, failed, dropped, queued and in hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Spans that came.
    pub offered: u64,
    /// Spans that the processor took.
    pub delivered: u64,
    /// Spans that it refused, or that it would not take after every attempt.
    pub failed: u64,
    /// Spans that were thrown away unseen: the queue was full, or time was up at the end.
    pub dropped: u64,
    /// Spans that wait.
    pub queued: u64,
    /// Spans of the batch that is being delivered.
    pub in_hand: u64,
    /// Attempts beyond a batch's first.
    pub retried: u64,
    /// Times that the processor panicked.
    pub panicked: u64,
    /// Half-written lines that were found and cut.
    pub torn: u64,
    /// Spans that were deleted because of their age.
    pub expired: u64,
}

/// The queue of one processor. Full, it drops its oldest span for the new one.
#[derive(Debug)]
pub(super) struct Queue {
    bound: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Arc<Record>>,
    closed: bool,
    stats: Stats,
}

impl Queue {
    /// An empty queue of at most `bound` spans (at least one).
    pub(super) fn new(bound: usize) -> Self {
        Self {
            bound: bound.max(1),
            inner: Mutex::default(),
        }
    }

    /// Adds a span. Never waits for more than the lock, which is held for a few instructions.
    pub(super) fn push(&self, record: Arc<Record>) {
        let mut inner = self.inner.lock();
        inner.stats.offered += 1;
        let dropped = if inner.closed {
            Some(record)
        } else {
            let oldest = (inner.waiting.len() >= self.bound)
                .then(|| inner.waiting.pop_front())
                .flatten();
            inner.waiting.push_back(record);
            oldest
        };
        inner.stats.dropped += u64::from(dropped.is_some());
        // What was dropped is freed after the lock.
        drop(inner);
    }

    /// How many spans wait.
    pub(super) fn len(&self) -> usize {
        self.inner.lock().waiting.len()
    }

    /// Takes the oldest spans, at most `most`, into `batch`, which the caller settles before it
    /// takes more.
    pub(super) fn take(&self, most: usize, batch: &mut Vec<Arc<Record>>) {
        let mut inner = self.inner.lock();
        let count = most.min(inner.waiting.len());
        batch.extend(inner.waiting.drain(..count));
        inner.stats.in_hand = count_of(batch.len());
    }

    /// Books how the batch in hand ended.
    pub(super) fn settle(&self, outcome: Outcome) {
        self.note(|stats| {
            let count = std::mem::take(&mut stats.in_hand);
            match outcome {
                Outcome::Delivered => stats.delivered += count,
                Outcome::Failed => stats.failed += count,
                Outcome::Dropped => stats.dropped += count,
            }
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
        inner.stats.dropped += count_of(waiting.len());
        drop(inner);
        drop(waiting);
    }

    /// The counts of this moment.
    pub(super) fn stats(&self) -> Stats {
        let inner = self.inner.lock();
        Stats {
            queued: count_of(inner.waiting.len()),
            ..inner.stats
        }
    }
}

/// How a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Delivered,
    Failed,
    Dropped,
}

fn count_of(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{super::testing::record, *};

    #[test]
    fn a_full_queue_drops_its_oldest_and_counts_it() {
        let queue = Queue::new(2);
        (1..=3).for_each(|n| queue.push(record(n)));
        let mut batch = Vec::new();
        queue.take(10, &mut batch);
        let kept: Vec<_> = batch.iter().map(|record| record.span.span_id).collect();
        assert_eq!(kept, [record(2).span.span_id, record(3).span.span_id]);
        assert_eq!(queue.stats().dropped, 1);
        assert_eq!(queue.stats().in_hand, 2);
    }

    #[test]
    fn every_span_is_in_exactly_one_count() {
        let queue = Queue::new(3);
        (1..=5).for_each(|n| queue.push(record(n)));
        let mut batch = Vec::new();
        queue.take(1, &mut batch);
        queue.settle(Outcome::Delivered);
        batch.clear();
        queue.take(1, &mut batch);
        queue.settle(Outcome::Failed);
        queue.close();
        queue.push(record(6));
        let stats = queue.stats();
        assert_eq!((stats.offered, stats.delivered, stats.failed), (6, 1, 1));
        assert_eq!((stats.dropped, stats.queued, stats.in_hand), (4, 0, 0));
    }
}
