//! Tests of the queue.

use super::{super::testing::record, *};

const PLENTY: usize = usize::MAX;

/// The memory of a queue in which so many bytes may wait beyond what has just come.
const fn memory_of(waiting: usize) -> usize {
    waiting * 8 / 7 + 1
}

#[test]
fn a_full_queue_drops_its_oldest_and_counts_it() {
    let queue = Queue::new(2, PLENTY);
    (1..=3).for_each(|n| queue.push(record(n)));
    let batch = queue.take(10, PLENTY);
    let kept: Vec<_> = batch.iter().map(|it| it.record.span.span_id).collect();
    assert_eq!(kept, [record(2).span.span_id, record(3).span.span_id]);
    assert_eq!(queue.stats().dropped, 1);
    assert_eq!(queue.stats().in_hand, 2);
}

#[test]
fn a_queue_holds_no_more_bytes_than_it_may() {
    let size = record(1).size();
    let queue = Queue::new(PLENTY, memory_of(3 * size));
    (1..=5).for_each(|n| queue.push(record(n)));
    let stats = queue.stats();
    assert_eq!((stats.queued, stats.dropped), (3, 2));
    assert_eq!(stats.queued_bytes, 3 * size as u64);
    queue.take(2, PLENTY);
    assert_eq!(queue.len(), (1, size));
    let tiny = Queue::new(PLENTY, size - 1);
    tiny.push(record(1));
    assert_eq!((tiny.stats().queued, tiny.stats().dropped), (0, 1));
}

#[test]
fn a_batch_has_no_more_bytes_than_it_may_but_at_least_one_span() {
    let length = record(1).line.len();
    let queue = Queue::new(PLENTY, PLENTY);
    (1..=6).for_each(|n| queue.push(record(n)));
    let sizes = [
        (10, 2 * length),
        (10, length - 1),
        (1, PLENTY),
        (10, PLENTY),
    ];
    let taken = sizes.map(|(most, bytes)| queue.take(most, bytes).len());
    assert_eq!(taken, [2, 1, 1, 2]);
    assert!(queue.take(10, PLENTY).is_empty());
}

#[test]
fn what_waits_is_worked_on_once_though_some_of_it_is_taken_meanwhile() {
    let queue = Queue::new(10, PLENTY);
    (1..=4).for_each(|n| queue.push(record(n)));
    let mut seen = Vec::new();
    let mut rework = |most, taken: usize| {
        queue.rework(most, |batch| {
            (0..taken).for_each(|_| drop(queue.take(1, PLENTY)));
            seen.extend(batch.iter().map(|it| it.record.span.span_id));
            let longer = |it: &Passed| {
                let mut span = it.record.span.clone();
                span.path = "/longer".repeat(9).into();
                Arc::new(Record::new(span))
            };
            batch.iter().map(longer).collect()
        });
        let inner = queue.inner.lock();
        let sum: usize = inner.waiting.iter().map(|it| it.record.size()).sum();
        assert_eq!(inner.bytes, sum);
        let is_long = |it: &Passed| it.record.span.path.len() > 9;
        inner.waiting.iter().map(is_long).collect::<Vec<_>>()
    };
    // The worker has two of the first three in hand as they were.
    assert_eq!(rework(3, 2), [true, false]);
    queue.push(record(5));
    assert_eq!(rework(9, 0), [true; 3]);
    assert_eq!(rework(9, 0), [true; 3]);
    assert_eq!(seen, [1, 2, 3, 4, 5].map(|n| record(n).span.span_id));
}

#[test]
fn what_is_passed_on_keeps_its_counts_and_what_fits_of_what_waits() {
    let queue = Queue::new(4, PLENTY);
    (1..=5).for_each(|n| queue.push(record(n)));
    queue.pass_on(Queue::new(2, PLENTY));
    let stats = queue.stats();
    assert_eq!((stats.offered, stats.dropped, stats.queued), (5, 3, 2));
    queue.close();
    queue.pass_on(Queue::new(2, PLENTY));
    queue.push(record(6));
    let stats = queue.stats();
    assert_eq!((stats.accounted(), stats.dropped, stats.queued), (6, 5, 1));
}

#[test]
fn every_span_is_in_exactly_one_count() {
    let queue = Queue::new(4, PLENTY);
    (1..=6).for_each(|n| queue.push(record(n)));
    queue.take(2, PLENTY);
    queue.settle(2, Outcome::Delivered { refused: 1 });
    queue.take(1, PLENTY);
    queue.settle(1, Outcome::Failed);
    queue.leave_out();
    assert_eq!(queue.stats().accounted(), 7);
    queue.close();
    queue.push(record(8));
    let stats = queue.stats();
    assert_eq!((stats.offered, stats.delivered, stats.failed), (8, 1, 2));
    assert_eq!((stats.dropped, stats.queued, stats.in_hand), (4, 0, 0));
    assert_eq!((stats.filtered, stats.accounted()), (1, 8));
}

#[test]
fn calls_wait_for_nobody_who_holds_the_lock() {
    let size = record(1).size();
    let queue = Queue::new(PLENTY, memory_of(16 * size));
    (1..=16).for_each(|n| queue.push(record(n)));
    assert_eq!(queue.len(), (16, 16 * size), "it is full");
    let inner = queue.inner.lock();
    (17..=18).for_each(|n| queue.push(record(n)));
    queue.leave_out();
    drop(inner);
    let stats = queue.stats();
    assert_eq!((stats.offered, stats.accounted()), (19, 19));
    assert_eq!((stats.queued, stats.dropped, stats.filtered), (16, 2, 1));
}

#[test]
fn spans_that_nobody_takes_are_dropped_the_oldest_first() {
    let queue = Queue::new(5, PLENTY);
    (1..=5_000).for_each(|n| queue.push(record(n)));
    let stats = queue.stats();
    assert_eq!((stats.queued, stats.dropped), (5, 4_995));
    let kept = queue.take(10, PLENTY);
    let kept: Vec<_> = kept.iter().map(|it| it.record.span.span_id).collect();
    assert_eq!(
        kept,
        [4_996, 4_997, 4_998, 4_999, 5_000].map(|n| record(n).span.span_id)
    );
}

#[test]
fn every_span_of_many_threads_is_accounted_for() {
    let size = record(1).size();
    let queue = Queue::new(50, memory_of(40 * size));
    let taken = std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let queue = &queue;
            scope.spawn(move || {
                for n in 0..2_000 {
                    queue.push(record(thread * 10_000 + n));
                }
            });
        }
        let mut taken = Vec::new();
        while queue.stats().offered < 8_000 {
            let batch = queue.take(7, PLENTY);
            assert!(queue.len().1 <= 40 * size);
            queue.settle(batch.len(), Outcome::Delivered { refused: 0 });
            taken.extend(batch.iter().map(|it| it.record.span.span_id));
        }
        taken
    });
    let stats = queue.stats();
    assert_eq!((stats.offered, stats.accounted()), (8_000, 8_000));
    assert_eq!(stats.delivered, taken.len() as u64);
    let different: std::collections::HashSet<_> = taken.iter().collect();
    assert_eq!(different.len(), taken.len());
}
