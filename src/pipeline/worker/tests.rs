//! Tests of the worker: paused time, scripted processors.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::{
    super::{
        Filter, Unit,
        delivery::Circuit,
        filter::Fit,
        processor::{BoxFuture, Upkeep},
        queue::Stats,
        sieve::Sieve,
        testing::{Attempts, Does, Scripted, captured, record, span},
    },
    *,
};
use crate::{base::clock::SystemClock, call::content::Messages};

/// A worker on a script, with what steers it.
pub(super) struct Bench {
    pub(super) worker: Option<Worker>,
    pub(super) queue: Arc<Queue>,
    pub(super) orders: watch::Sender<Orders>,
    pub(super) attempts: Attempts,
}

impl Bench {
    pub(super) fn new(delivery: Delivery, script: &[Does]) -> Self {
        let (processor, attempts) = Scripted::new(script);
        let queue = Arc::new(Queue::new(delivery.queue, delivery.memory));
        let (orders, told) = watch::channel(Orders::default());
        let worker = Worker {
            name: Arc::from("scripted"),
            queue: Arc::clone(&queue),
            delivery,
            overflow: None,
            processor: Box::new(processor),
            clock: Arc::new(SystemClock),
            orders: told,
            flushed: watch::channel(0).0,
        };
        Self {
            worker: Some(worker),
            queue,
            orders,
            attempts,
        }
    }

    pub(super) fn push(&self, spans: std::ops::RangeInclusive<u64>) {
        spans.for_each(|n| self.queue.push(record(n)));
    }

    /// Works for so long, and then is told to end within `grace`.
    pub(super) async fn work(&mut self, time: Duration, grace: Duration) -> Stats {
        let worker = self.worker.take().unwrap();
        let script = async {
            sleep(time).await;
            let by = SystemClock.mono() + grace;
            self.orders.send_modify(|orders| orders.close_by = Some(by));
        };
        tokio::join!(worker.run(), script);
        let stats = self.queue.stats();
        assert_eq!((stats.queued, stats.in_hand), (0, 0), "{stats:?}");
        assert_eq!(stats.offered + stats.found, stats.accounted(), "{stats:?}");
        stats
    }

    /// The times between attempts, in whole tenths of a second.
    fn gaps(&self) -> Vec<u128> {
        let attempts = self.attempts.lock().clone();
        attempts
            .windows(2)
            .map(|pair| pair[1].0.duration_since(pair[0].0).as_millis() / 100)
            .collect()
    }

    pub(super) fn sizes(&self) -> Vec<usize> {
        let attempts = self.attempts.lock();
        attempts.iter().map(|(_, ids)| ids.len()).collect()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_local_processor_has_its_spans_within_two_ticks_and_in_order() {
    let mut bench = Bench::new(Delivery::LOCAL, &[]);
    bench.push(1..=3);
    let began = SystemClock.mono();
    let stats = bench.work(SECOND, SECOND).await;
    assert_eq!(stats.delivered, 3);
    let (at, ids) = bench.attempts.lock()[0].clone();
    assert!(at.duration_since(began) <= 2 * TICK);
    assert_eq!(ids, [1, 2, 3].map(|n| span(n).span_id));
}

/// Takes everything, and counts how often it is looked after.
struct LookedAfter {
    scripted: Scripted,
    times: Arc<AtomicU32>,
}

impl Processor for LookedAfter {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        self.scripted.deliver(batch)
    }

    fn upkeep(&mut self) -> Upkeep {
        self.times.fetch_add(1, Relaxed);
        Upkeep::default()
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_rests_until_a_span_wakes_it() {
    let mut bench = Bench::new(Delivery::LOCAL, &[]);
    let times = Arc::default();
    let (scripted, attempts) = Scripted::new(&[]);
    bench.worker.as_mut().unwrap().processor = Box::new(LookedAfter {
        scripted,
        times: Arc::clone(&times),
    });
    let queue = Arc::clone(&bench.queue);
    let call = async {
        sleep(30 * SECOND + REST / 3).await;
        let idle = times.swap(0, Relaxed);
        queue.push(record(1));
        let came = SystemClock.mono();
        sleep(TICK / 2).await;
        queue.push(record(2));
        sleep(TICK).await;
        assert_eq!(times.load(Relaxed), 1);
        (idle, came)
    };
    let (stats, (idle, came)) = tokio::join!(bench.work(60 * SECOND, SECOND), call);
    assert_eq!(stats.delivered, 2);
    assert!(idle <= 61, "{idle} looks in thirty seconds");
    let (at, ids) = attempts.lock()[0].clone();
    assert_eq!(ids, [1, 2].map(|n| span(n).span_id));
    assert!(at.duration_since(came) <= TICK * 11 / 10);
}

#[tokio::test(start_paused = true)]
async fn a_remote_processors_batch_waits_until_it_is_full_or_old() {
    let delivery = Delivery {
        batch: 2,
        ..Delivery::REMOTE
    };
    let mut bench = Bench::new(delivery, &[]);
    bench.push(1..=5);
    let began = SystemClock.mono();
    bench.work(60 * SECOND, SECOND).await;
    assert_eq!(bench.sizes(), [2, 2, 1]);
    let last = bench.attempts.lock()[2].0.duration_since(began);
    assert!(last >= delivery.max_age && last <= delivery.max_age + 3 * TICK);
}

#[tokio::test(start_paused = true)]
async fn a_room_for_less_than_a_batch_is_emptied_before_it_overflows() {
    let memory = 40 * record(1).size();
    for delivery in [
        Delivery {
            queue: 40,
            ..Delivery::REMOTE
        },
        Delivery {
            memory,
            ..Delivery::REMOTE
        },
    ] {
        let mut bench = Bench::new(delivery, &[]);
        let queue = Arc::clone(&bench.queue);
        let calls = async {
            for n in 0..10 {
                (n * 10..n * 10 + 10).for_each(|n| queue.push(record(n)));
                sleep(TICK).await;
            }
        };
        let (stats, ()) = tokio::join!(bench.work(5 * SECOND, SECOND), calls);
        assert_eq!((stats.delivered, stats.dropped), (100, 0), "{delivery:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_after_doubled_waits_and_then_given_up() {
    let mut bench = Bench::new(Delivery::REMOTE, &[Does::Fails, Does::Fails, Does::Fails]);
    bench.push(1..=4);
    let stats = bench.work(60 * SECOND, SECOND).await;
    assert_eq!((stats.failed, stats.retried), (4, 2));
    let gaps = bench.gaps();
    assert!(
        (10..=11).contains(&gaps[0]) && (20..=22).contains(&gaps[1]),
        "{gaps:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_asks_for_time_gets_it() {
    let mut bench = Bench::new(Delivery::LOCAL, &[Does::Asks(7 * SECOND)]);
    bench.push(1..=1);
    let delivery = Delivery {
        recovery_timeout: 60 * SECOND,
        ..Delivery::LOCAL
    };
    bench.worker.as_mut().unwrap().delivery = delivery;
    let stats = bench.work(60 * SECOND, SECOND).await;
    assert_eq!(stats.delivered, 1);
    assert!((70..=77).contains(&bench.gaps()[0]));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_not_tried_again() {
    let mut bench = Bench::new(Delivery::LOCAL, &[Does::Refuses]);
    bench.push(1..=2);
    let stats = bench.work(SECOND, SECOND).await;
    assert_eq!((stats.failed, stats.retried), (2, 0));
    assert_eq!(bench.sizes(), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_its_batch_and_nothing_more() {
    let delivery = Delivery {
        batch: 1,
        ..Delivery::LOCAL
    };
    let mut bench = Bench::new(delivery, &[Does::Panics]);
    bench.push(1..=3);
    let stats = bench.work(SECOND, SECOND).await;
    assert_eq!((stats.failed, stats.panicked, stats.delivered), (1, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_never_ends_is_cut_short() {
    let mut bench = Bench::new(Delivery::LOCAL, &[Does::Hangs]);
    bench.push(1..=1);
    let stats = bench.work(60 * SECOND, SECOND).await;
    assert_eq!((stats.delivered, stats.retried), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_keeps_failing_is_left_alone_and_probed() {
    let delivery = Delivery {
        failure_threshold: 2,
        ..Delivery::REMOTE
    };
    let mut bench = Bench::new(delivery, &[Does::Fails; 4]);
    bench.push(1..=1);
    bench.orders.send_modify(|orders| orders.flush = 1);
    let stats = bench.work(3_000 * SECOND, SECOND).await;
    assert_eq!(stats.failed, 1);
    let gaps = bench.gaps();
    assert!(gaps[0] <= 11, "the breaker is still closed: {gaps:?}");
    assert!(gaps[1] >= 3_000, "it opened: {gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn what_the_breaker_does_is_shown() {
    let delivery = Delivery {
        failure_threshold: 2,
        ..Delivery::REMOTE
    };
    let script = [Does::Fails, Does::Fails, Does::Hangs, Does::Takes];
    let mut bench = Bench::new(delivery, &script);
    bench.push(1..=1);
    bench.orders.send_modify(|orders| orders.flush = 1);
    let queue = Arc::clone(&bench.queue);
    let seen = async {
        let mut seen = Vec::new();
        for wait in [TICK * 5, SECOND, delivery.recovery_timeout] {
            sleep(wait).await;
            seen.push(queue.stats().circuit);
        }
        seen
    };
    let (stats, seen) = tokio::join!(bench.work(3_000 * SECOND, SECOND), seen);
    assert_eq!(seen, [Circuit::Closed, Circuit::Open, Circuit::HalfOpen]);
    assert_eq!((stats.failed, stats.circuit), (1, Circuit::HalfOpen));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_too_large_is_halved_until_it_fits() {
    let mut bench = Bench::new(Delivery::REMOTE, &[Does::HoldsOnly(2); 8]);
    bench.push(1..=5);
    let stats = bench.work(60 * SECOND, SECOND).await;
    assert_eq!((stats.delivered, stats.halved), (5, 2));
    assert_eq!(bench.sizes(), [5, 3, 2, 1, 2]);
    let order: Vec<_> = bench.attempts.lock()[2..]
        .iter()
        .flat_map(|(_, ids)| ids.clone())
        .collect();
    assert_eq!(order, [1, 2, 3, 4, 5].map(|n| span(n).span_id));
}

#[tokio::test(start_paused = true)]
async fn a_span_that_is_too_large_by_itself_is_refused_and_counted() {
    let mut bench = Bench::new(Delivery::REMOTE, &[Does::HoldsOnly(0); 3]);
    bench.push(1..=2);
    let stats = bench.work(60 * SECOND, SECOND).await;
    assert_eq!((stats.failed, stats.too_large, stats.halved), (2, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_taken_in_part_is_counted_in_part() {
    let mut bench = Bench::new(Delivery::REMOTE, &[Does::TakesAllBut(2)]);
    bench.push(1..=5);
    let stats = bench.work(60 * SECOND, SECOND).await;
    assert_eq!((stats.delivered, stats.failed, stats.retried), (3, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_for_no_more_when_it_has_bytes_enough() {
    let delivery = Delivery {
        batch_bytes: 2 * record(1).line.len(),
        ..Delivery::REMOTE
    };
    let mut bench = Bench::new(delivery, &[]);
    bench.push(1..=5);
    let began = SystemClock.mono();
    bench.work(60 * SECOND, SECOND).await;
    assert_eq!(bench.sizes(), [2, 2, 1]);
    let second = bench.attempts.lock()[1].0.duration_since(began);
    assert!(second <= 2 * TICK, "{second:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_said_is_let_go_while_a_destination_is_in_trouble() {
    for trouble in [Does::Hangs, Does::Asks(20 * SECOND)] {
        let mut bench = Bench::new(Delivery::LOCAL, &[trouble]);
        let room = Arc::new(());
        let queue = Arc::clone(&bench.queue);
        let say = |n| {
            let room = Arc::clone(&room);
            let captured = captured("content: full", move || {
                assert!(Arc::strong_count(&room) > 1);
                Messages {
                    system: vec!["be kind".into()],
                    ..Messages::default()
                }
            });
            queue.push(Arc::new(Record::with(span(n), Some(captured))));
        };
        say(1);
        let later = async {
            sleep(SECOND).await;
            (2..=9).for_each(say);
            let before = queue.stats().queued_bytes;
            sleep(2 * TICK).await;
            let stats = queue.stats();
            assert_eq!((stats.queued, stats.in_hand), (8, 1), "{trouble:?}");
            assert_ne!(stats.queued_bytes, before);
            assert_eq!(Arc::strong_count(&room), 1, "{trouble:?}");
        };
        let (stats, ()) = tokio::join!(bench.work(60 * SECOND, SECOND), later);
        assert_eq!(stats.delivered, 9);
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_trace_is_given_up_though_a_destination_is_in_trouble() {
    for trouble in [Does::Hangs, Does::Asks(20 * SECOND)] {
        let mut bench = Bench::new(Delivery::LOCAL, &[trouble]);
        let sampling = serde_saphyr::from_str("{rate: 0, decision_wait: 1s}").unwrap();
        let now = SystemClock.mono();
        let sieve = Sieve::new(&Filter::default(), Unit::Trace, Some(sampling), now);
        let queue = Arc::new(Queue::new(10_000, usize::MAX).sifting(sieve));
        bench.worker.as_mut().unwrap().queue = Arc::clone(&queue);
        bench.queue = Arc::clone(&queue);
        bench.push(1..=1);
        (2..=1_000).for_each(|n| queue.sift(record(n), Fit::Passes, now));
        let later = async {
            sleep(SECOND / 2).await;
            assert_eq!(queue.stats().held, 999);
            sleep(SECOND / 2 + 2 * TICK).await;
            let stats = queue.stats();
            assert_eq!((stats.held, stats.in_hand), (0, 1), "{trouble:?}");
        };
        let (stats, ()) = tokio::join!(bench.work(60 * SECOND, SECOND), later);
        assert_eq!((stats.delivered, stats.sampled_out), (1, 999));
    }
}

#[tokio::test(start_paused = true)]
async fn long_texts_are_cut_and_counted() {
    let delivery = Delivery {
        attribute_bytes: Some(64),
        ..Delivery::LOCAL
    };
    let mut bench = Bench::new(delivery, &[]);
    let mut long = span(1);
    long.path = "/x".repeat(500).into();
    bench.queue.push(Arc::new(Record::new(long)));
    let stats = bench.work(SECOND, SECOND).await;
    assert_eq!((stats.delivered, stats.cut_texts), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_gone_is_not_tried_again() {
    let mut bench = Bench::new(Delivery::LOCAL, &[Does::Leaves]);
    bench.push(1..=2);
    let late = Arc::clone(&bench.queue);
    let (stats, ()) = tokio::join!(bench.work(SECOND, SECOND), async {
        sleep(SECOND / 2).await;
        late.push(record(3));
    });
    assert_eq!((stats.failed, stats.dropped), (2, 1));
    assert_eq!(bench.sizes(), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_worker_gives_its_heir_what_it_could_not_deliver() {
    for trouble in [Does::Hangs, Does::Fails] {
        let mut bench = Bench::new(Delivery::LOCAL, &[trouble; 9]);
        bench.push(1..=2);
        let worker = bench.worker.take().unwrap();
        let script = async {
            sleep(TICK * 3 / 2).await;
            bench.push(3..=3);
            let by = SystemClock.mono() + SECOND;
            bench.orders.send_modify(|orders| {
                orders.has_heir = true;
                orders.close_by = Some(by);
            });
        };
        tokio::join!(worker.run(), script);
        let stats = bench.queue.stats();
        assert_eq!((stats.queued, stats.in_hand), (3, 0), "{stats:?}");
        assert_eq!(stats.offered, stats.accounted(), "{stats:?}");
        let next = bench.queue.take(3, usize::MAX);
        let next = next.iter().map(|it| it.record.span.span_id);
        assert!(next.eq([1, 2, 3].map(|n| span(n).span_id)));
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_delivers_what_waits_and_drops_what_cannot_be() {
    let mut bench = Bench::new(Delivery::REMOTE, &[]);
    bench.push(1..=3);
    assert_eq!(bench.work(TICK / 2, SECOND).await.delivered, 3);

    let mut bench = Bench::new(Delivery::REMOTE, &[Does::Hangs]);
    bench.push(1..=150);
    let began = SystemClock.mono();
    let stats = bench.work(TICK / 2, SECOND).await;
    assert_eq!((stats.failed, stats.dropped), (100, 50));
    assert!(SystemClock.mono().duration_since(began) < 2 * SECOND);
}
