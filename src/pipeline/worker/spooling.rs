//! Tests of the worker with a spool: paused time, scripted processors, real files.

use tempfile::TempDir;

use super::{
    super::{
        BoxFuture,
        overflow::{Overflow, Shelf},
        testing::{Does, Scripted, record, span},
    },
    tests::Bench,
    *,
};
use crate::base::clock::SystemClock;

const SECOND: Duration = Duration::from_secs(1);

fn bench(place: &TempDir, delivery: Delivery, script: &[Does]) -> Bench {
    bench_with(place, delivery, script, 1 << 30)
}

fn bench_with(place: &TempDir, delivery: Delivery, script: &[Does], quota: u64) -> Bench {
    let mut bench = Bench::new(delivery, script);
    let shelf = Shelf {
        directory: place.path().join("spool"),
        quota,
    };
    let worker = bench.worker.as_mut().unwrap();
    worker.overflow = Some(Overflow::new(Arc::clone(&worker.name), shelf, delivery));
    bench
}

/// Delivered at every tick, and left alone for ten seconds after two failures.
fn quick() -> Delivery {
    Delivery {
        max_age: Duration::ZERO,
        failure_threshold: 2,
        recovery_timeout: 10 * SECOND,
        ..Delivery::REMOTE
    }
}

/// The spans of all attempts from that one on.
fn ids(bench: &Bench, from: usize) -> Vec<u64> {
    let attempts = bench.attempts.lock().clone();
    let ids = attempts.iter().skip(from).flat_map(|(_, ids)| ids.clone());
    ids.map(|id| u64::from_be_bytes(id.bytes())).collect()
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_delivered_waits_on_disk_and_goes_first_afterwards() {
    let place = tempfile::tempdir().unwrap();
    let mut bench = bench(&place, quick(), &[Does::Fails; 5]);
    bench.push(1..=3);
    let queue = Arc::clone(&bench.queue);
    let later = async {
        sleep(5 * SECOND).await;
        let stats = queue.stats();
        assert_eq!((stats.buffered, stats.queued, stats.in_hand), (3, 0, 0));
        (4..=6).for_each(|n| queue.push(record(n)));
        sleep(2 * TICK).await;
        let stats = queue.stats();
        assert_eq!(
            (stats.buffered, stats.queued),
            (6, 0),
            "they are on disk at once"
        );
    };
    let (stats, ()) = tokio::join!(bench.work(300 * SECOND, SECOND), later);
    assert_eq!((stats.delivered, stats.failed, stats.buffered), (6, 0, 0));
    assert_eq!(stats.retried, 5);
    assert_eq!(ids(&bench, 5), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test(start_paused = true)]
async fn the_end_leaves_on_disk_what_cannot_be_delivered_and_the_next_run_goes_on() {
    let place = tempfile::tempdir().unwrap();
    for script in [[Does::Fails; 9], [Does::Hangs; 9]] {
        let mut first = bench(&place, quick(), &script);
        first.push(1..=150);
        let began = SystemClock.mono();
        let stats = first.work(TICK / 2, SECOND).await;
        assert_eq!((stats.buffered, stats.dropped, stats.failed), (150, 0, 0));
        assert!(SystemClock.mono().duration_since(began) < 2 * SECOND);
        drop(first);

        let mut second = bench(&place, quick(), &[]);
        second.push(151..=160);
        let stats = second.work(SECOND, SECOND).await;
        assert_eq!(
            (stats.found, stats.delivered, stats.buffered),
            (150, 160, 0)
        );
        assert_eq!(ids(&second, 0), (1..=160).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_hangs_has_its_spans_on_disk_within_a_second() {
    let place = tempfile::tempdir().unwrap();
    let mut bench = bench(&place, quick(), &[Does::Hangs]);
    bench.push(1..=2);
    let queue = Arc::clone(&bench.queue);
    let later = async {
        sleep(SECOND / 2).await;
        queue.push(record(3));
        sleep(SECOND).await;
        assert_eq!((queue.stats().buffered, queue.stats().queued), (3, 0));
    };
    let (stats, ()) = tokio::join!(bench.work(100 * SECOND, SECOND), later);
    assert_eq!((stats.delivered, stats.retried), (3, 1));
    assert_eq!(ids(&bench, 1), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_fills_up_goes_to_disk_and_nothing_is_dropped() {
    let place = tempfile::tempdir().unwrap();
    let delivery = Delivery {
        queue: 10,
        ..quick()
    };
    let mut bench = bench(&place, delivery, &[Does::Hangs]);
    bench.push(1..=1);
    let queue = Arc::clone(&bench.queue);
    let later = async {
        for round in 0..20 {
            sleep(TICK * 2).await;
            (0..8).for_each(|n| queue.push(record(2 + round * 8 + n)));
        }
    };
    let (stats, ()) = tokio::join!(bench.work(100 * SECOND, SECOND), later);
    assert_eq!((stats.delivered, stats.dropped), (161, 0));
    assert_eq!(ids(&bench, 1), (1..=161).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_a_destination_is_too_slow_for_goes_to_disk_though_it_answers_at_once() {
    let place = tempfile::tempdir().unwrap();
    let delivery = Delivery {
        batch: 10,
        queue: 100,
        ..quick()
    };
    // Two batches a tick, when twice as many spans come.
    let mut bench = bench(&place, delivery, &[Does::TakesIn(TICK / 2)]);
    let queue = Arc::clone(&bench.queue);
    let later = async {
        for tick in 0..50 {
            (1..=40).for_each(|n| queue.push(record(40 * tick + n)));
            sleep(TICK).await;
        }
    };
    let (stats, ()) = tokio::join!(bench.work(60 * SECOND, SECOND), later);
    assert_eq!((stats.delivered, stats.dropped), (2000, 0), "{stats:?}");
    assert_eq!(ids(&bench, 0), (1..=2000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn the_oldest_are_dropped_when_the_quota_is_full() {
    let place = tempfile::tempdir().unwrap();
    let quota = 50 * (record(1).line.len() as u64 + 10);
    let mut bench = bench_with(&place, quick(), &[Does::Fails; 4], quota);
    bench.push(1..=400);
    let stats = bench.work(100 * SECOND, SECOND).await;
    assert!((40..=50).contains(&stats.delivered), "{stats:?}");
    assert_eq!(stats.dropped, 400 - stats.delivered);
    let last = ids(&bench, 4);
    assert_eq!(last.last(), Some(&400));
}

#[tokio::test(start_paused = true)]
async fn batches_from_disk_are_halved_and_refused_like_any_other() {
    let place = tempfile::tempdir().unwrap();
    let script = [
        Does::Fails,
        Does::HoldsOnly(2),
        Does::HoldsOnly(2),
        Does::TakesAllBut(1),
    ];
    let mut bench = bench(&place, quick(), &script);
    bench.push(1..=5);
    let stats = bench.work(100 * SECOND, SECOND).await;
    assert_eq!((stats.delivered, stats.failed, stats.halved), (4, 1, 2));
    assert_eq!(bench.sizes(), [5, 5, 3, 2, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn without_a_disk_to_write_to_all_is_as_without_a_spool() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("spool"), "in the way").unwrap();
    let mut bench = bench(&place, Delivery::REMOTE, &[Does::Fails; 3]);
    bench.push(1..=4);
    bench.orders.send_modify(|orders| orders.flush = 1);
    let stats = bench.work(60 * SECOND, SECOND).await;
    assert_eq!((stats.failed, stats.retried, stats.buffered), (4, 2, 0));
    assert!(stats.disk_errors > 0);
}

/// In no time a minute has passed.
fn hasty() -> Delivery {
    Delivery {
        batch: 10,
        recovery_timeout: SECOND,
        max_backoff: SECOND,
        ..quick()
    }
}

#[tokio::test(start_paused = true)]
async fn a_span_that_the_destination_chokes_on_does_not_hold_up_the_rest_for_ever() {
    for poison in [1, 7, 10, 24, 27] {
        let place = tempfile::tempdir().unwrap();
        let mut bench = bench(&place, hasty(), &[Does::ChokesOn(poison)]);
        bench.push(1..=27);
        let queue = Arc::clone(&bench.queue);
        let later = async {
            sleep(3 * SECOND).await;
            assert_eq!(queue.stats().buffered, if poison > 20 { 7 } else { 27 });
            // Only with something behind it is it known whether the destination is well.
            sleep(60 * SECOND).await;
            assert_eq!(queue.stats().failed, u64::from(poison != 27), "{poison}");
            (28..=30).for_each(|n| queue.push(record(n)));
        };
        let (stats, ()) = tokio::join!(bench.work(120 * SECOND, SECOND), later);
        assert_eq!(
            (stats.delivered, stats.failed),
            (29, 1),
            "{poison}: {stats:?}"
        );
        let attempts = bench.attempts.lock().clone();
        let taken = attempts.into_iter().map(|(_, ids)| ids);
        let taken = taken.filter(|ids| !ids.contains(&span(poison).span_id));
        let taken: Vec<_> = taken.flatten().collect();
        assert_eq!(taken.len(), 29, "each is taken once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_span_that_is_a_batch_by_itself_does_not_hold_up_the_rest_either() {
    let place = tempfile::tempdir().unwrap();
    let delivery = Delivery {
        batch_bytes: 1,
        ..hasty()
    };
    let mut bench = bench(&place, delivery, &[Does::ChokesOn(7)]);
    bench.push(1..=25);
    let stats = bench.work(120 * SECOND, SECOND).await;
    assert_eq!((stats.delivered, stats.failed), (24, 1), "{stats:?}");
    assert!(bench.sizes().iter().all(|size| *size == 1));
}

#[tokio::test(start_paused = true)]
async fn a_span_that_is_refused_tells_as_well_that_the_destination_is_up() {
    let place = tempfile::tempdir().unwrap();
    let script = [Does::ChokesOnAndRefusesNext(7)];
    let mut bench = bench(&place, hasty(), &script);
    bench.push(1..=25);
    let stats = bench.work(120 * SECOND, SECOND).await;
    assert_eq!((stats.delivered, stats.failed), (23, 2), "{stats:?}");
}

/// A processor that is told what to do with each batch when it has it: what its spans are.
struct Choosing<F>(F, Scripted);

impl<F: FnMut(&[u64]) -> Does + Send + 'static> Processor for Choosing<F> {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        let ids = batch.iter().map(|record| record.span.span_id.bytes());
        let ids: Vec<u64> = ids.map(u64::from_be_bytes).collect();
        self.1.script.push_back((self.0)(&ids));
        self.1.deliver(batch)
    }
}

/// A bench of 25 spans whose destination fails with the first. Right after it took another, it does
/// `then` instead, so many `times`, and takes that one too afterwards.
fn stumbling(place: &TempDir, then: Does, times: u32) -> Bench {
    let mut bench = bench(place, hasty(), &[]);
    let (scripted, attempts) = Scripted::new(&[]);
    let (mut took, mut left) = (false, times);
    let choose = move |ids: &[u64]| {
        let takes = left == 0 || ids[0] != 1;
        let does = match (takes, took) {
            (true, _) => Does::Takes,
            (false, true) => then,
            (false, false) => Does::Fails,
        };
        left -= u32::from(does == then && took && left > 0);
        took = does == Does::Takes;
        does
    };
    bench.worker.as_mut().unwrap().processor = Box::new(Choosing(choose, scripted));
    bench.attempts = attempts;
    bench.push(1..=25);
    bench
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_comes_and_goes_costs_no_span() {
    for (then, times) in [(Does::Fails, 2), (Does::Asks(SECOND), 4)] {
        let place = tempfile::tempdir().unwrap();
        let mut bench = stumbling(&place, then, times);
        let stats = bench.work(300 * SECOND, SECOND).await;
        assert_eq!((stats.delivered, stats.failed), (25, 0), "{then:?}");
        // Those that were taken meanwhile do not come again.
        let attempts = bench.attempts.lock().clone();
        for n in 2..=25 {
            let alone = |ids: &Vec<_>| ids[0] != span(1).span_id && ids.contains(&span(n).span_id);
            let taken = attempts.iter().filter(|(_, ids)| alone(ids)).count();
            let last = attempts
                .iter()
                .rposition(|(_, ids)| ids[0] == span(1).span_id);
            let with_first = attempts[last.unwrap()].1.contains(&span(n).span_id);
            assert_eq!(taken + usize::from(with_first), 1, "{then:?}: {n}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn three_failures_after_others_are_proof() {
    let place = tempfile::tempdir().unwrap();
    let mut bench = stumbling(&place, Does::Fails, 3);
    let stats = bench.work(300 * SECOND, SECOND).await;
    assert_eq!((stats.delivered, stats.failed), (24, 1));
}

#[tokio::test(start_paused = true)]
async fn the_end_is_no_reason_to_give_a_span_up() {
    let place = tempfile::tempdir().unwrap();
    // The third time, nobody knows how it ends.
    let mut bench = stumbling(&place, Does::Hangs, 9);
    let attempts = Arc::clone(&bench.attempts);
    let queue = Arc::clone(&bench.queue);
    let worker = bench.worker.take().unwrap();
    let script = async {
        let hangs = || {
            let attempts = attempts.lock().clone();
            let ids = attempts.iter().map(|(_, ids)| ids.as_slice());
            let others = ids.filter(|ids| ids[0] != span(1).span_id).count();
            let last = attempts
                .last()
                .is_some_and(|(_, ids)| ids[0] == span(1).span_id);
            others == 3 && last
        };
        for _tick in 0..3_000 {
            if hangs() {
                break;
            }
            sleep(TICK).await;
        }
        let by = SystemClock.mono() + SECOND;
        bench
            .orders
            .send_modify(|orders| orders.close_by = Some(by));
    };
    tokio::join!(worker.run(), script);
    let stats = queue.stats();
    assert_eq!((stats.delivered, stats.failed, stats.buffered), (3, 0, 22));
    assert_eq!(stats.offered, stats.accounted(), "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replaced_worker_puts_on_disk_what_it_has_in_hand_and_leaves_its_heir_the_rest() {
    let place = tempfile::tempdir().unwrap();
    let delivery = Delivery {
        attribute_bytes: Some(64),
        ..quick()
    };
    let mut bench = bench(&place, delivery, &[Does::Hangs]);
    bench.push(1..=2);
    let worker = bench.worker.take().unwrap();
    let script = async {
        sleep(SECOND / 2).await;
        bench.orders.send_modify(|orders| orders.has_heir = true);
        let mut long = span(3);
        long.path = "/x".repeat(500).into();
        bench.queue.push(Arc::new(Record::new(long)));
        sleep(2 * SECOND).await;
        let by = SystemClock.mono() + SECOND;
        bench
            .orders
            .send_modify(|orders| orders.close_by = Some(by));
    };
    tokio::join!(worker.run(), script);
    let stats = bench.queue.stats();
    assert_eq!((stats.buffered, stats.queued, stats.cut_texts), (2, 1, 0));
    assert_eq!(stats.offered, stats.accounted(), "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_down_for_long_costs_no_span() {
    let place = tempfile::tempdir().unwrap();
    let mut bench = bench(&place, hasty(), &[Does::Fails; 60]);
    bench.push(1..=25);
    let stats = bench.work(120 * SECOND, SECOND).await;
    assert_eq!((stats.delivered, stats.failed), (25, 0));
    let suspected = bench.attempts.lock()[..60]
        .iter()
        .filter(|(_, ids)| ids[0] == span(2).span_id)
        .count();
    assert!(suspected > 3, "{suspected}");
}

#[tokio::test(start_paused = true)]
async fn a_spool_that_somebody_has_is_taken_when_they_let_go() {
    let place = tempfile::tempdir().unwrap();
    let mut first = bench(&place, quick(), &[Does::Fails; 9]);
    first.push(1..=2);
    let mut second = bench(&place, quick(), &[]);
    second.push(3..=3);
    let later = async {
        sleep(TICK / 2).await;
        second.work(60 * SECOND, SECOND).await
    };
    let (left, stats) = tokio::join!(first.work(SECOND, SECOND), later);
    assert_eq!(left.buffered, 2);
    drop(first);
    assert_eq!((stats.found, stats.delivered), (2, 3));
    assert_eq!(ids(&second, 0), [3, 1, 2]);
    assert_eq!(span(3).span_id, record(3).span.span_id);
}

#[tokio::test(start_paused = true)]
async fn what_is_tried_again_is_the_same_batch_without_what_had_to_give_way() {
    let place = tempfile::tempdir().unwrap();
    let mut bench = bench(&place, quick(), &[Does::Fails, Does::Fails]);
    bench.push(1..=3);
    let queue = Arc::clone(&bench.queue);
    let later = async {
        sleep(SECOND / 2).await;
        (4..=6).for_each(|n| queue.push(record(n)));
    };
    let (stats, ()) = tokio::join!(bench.work(60 * SECOND, SECOND), later);
    assert_eq!((stats.delivered, stats.failed), (6, 0));
    assert_eq!(bench.sizes(), [3, 3, 3, 3]);

    let place = tempfile::tempdir().unwrap();
    let quota = 50 * (record(1).line.len() as u64 + 10);
    let mut bench = bench_with(&place, quick(), &[Does::Fails], quota);
    bench.push(1..=40);
    let queue = Arc::clone(&bench.queue);
    let later = async {
        sleep(SECOND / 2).await;
        (41..=60).for_each(|n| queue.push(record(n)));
    };
    let (stats, ()) = tokio::join!(bench.work(60 * SECOND, SECOND), later);
    assert!((10..=20).contains(&stats.dropped), "{stats:?}");
    let told = ids(&bench, 1);
    assert_eq!(told, (stats.dropped + 1..=60).collect::<Vec<_>>());
    assert!(bench.sizes()[1] < 40, "none of them is from the next batch");
}

#[tokio::test(start_paused = true)]
async fn spans_that_wait_for_their_batch_on_disk_outlive_a_kill_and_come_together() {
    let place = tempfile::tempdir().unwrap();
    let delivery = Delivery {
        on_disk: true,
        batch: 5,
        max_age: 60 * SECOND,
        ..quick()
    };
    let mut first = bench(&place, delivery, &[]);
    first.push(1..=7);
    let worker = first.worker.take().unwrap();
    // The kill.
    assert!(
        timeout_at(SystemClock.mono() + SECOND, worker.run())
            .await
            .is_err()
    );
    assert_eq!((first.sizes(), first.queue.stats().buffered), (vec![5], 2));

    let mut second = bench(&place, delivery, &[]);
    second.push(8..=9);
    let queue = Arc::clone(&second.queue);
    let began = SystemClock.mono();
    let later = async {
        sleep(30 * SECOND).await;
        assert_eq!((queue.stats().buffered, queue.stats().delivered), (4, 0));
    };
    let (stats, ()) = tokio::join!(second.work(90 * SECOND, SECOND), later);
    assert_eq!((stats.found, stats.delivered), (2, 4));
    assert_eq!(second.sizes(), [4]);
    let at = second.attempts.lock()[0].0.duration_since(began);
    assert!(at >= delivery.max_age && at <= delivery.max_age + 3 * TICK);
}
