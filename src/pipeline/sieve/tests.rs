//! Tests of what waits for its trace: as a queue holds it, with time that is told.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use proptest::prelude::*;

use super::{
    super::{queue::Queue, testing::span},
    *,
};
use crate::{
    base::{
        clock::{Clock as _, SystemClock},
        id::{SpanId, TraceId},
    },
    call::{
        outcome::Status,
        span::{SAMPLED, Span, Value},
    },
};

const PLENTY: usize = usize::MAX;

const WAIT: Duration = Sampling::WAIT;

/// A call of a trace, which half of all leaves out up to the third.
fn of(trace: u8, n: u64, status: Status) -> Span {
    let mut id = [0; 16];
    id[0] = 1;
    id[9] = trace.wrapping_mul(40);
    Span {
        trace_id: TraceId::from_bytes(id),
        status,
        ..span(n)
    }
}

/// A queue with a sieve, and its time.
struct Bench {
    queue: Queue,
    filter: Filter,
    now: Instant,
}

impl Bench {
    fn new(filter: Filter, sampling: Option<&str>, bound: usize, memory: usize) -> Self {
        let now = SystemClock.mono();
        let sampling = sampling.map(|yaml| serde_saphyr::from_str(yaml).unwrap());
        let sieve = Sieve::new(&filter, Unit::Trace, sampling, now);
        assert!(sieve.is_some());
        Self {
            queue: Queue::new(bound, memory).sifting(sieve),
            filter,
            now,
        }
    }

    fn sampling(yaml: &str) -> Self {
        Self::new(Filter::default(), Some(yaml), PLENTY, PLENTY)
    }

    fn offer(&self, span: Span) {
        let record = Arc::new(Record::new(span));
        let fit = self.filter.fit(&record);
        self.queue.sift(record, fit, self.now);
        let stats = self.queue.stats();
        assert_eq!(stats.offered, stats.accounted(), "{stats:?}");
    }

    fn later(&mut self, time: Duration) {
        self.now += time;
        self.queue.expire(self.now);
    }

    /// What goes, in its order.
    fn going(&self) -> Vec<(u64, Option<f64>)> {
        let passed = self.queue.take(PLENTY, PLENTY);
        let id = |id: SpanId| u64::from_be_bytes(id.bytes());
        passed
            .iter()
            .map(|it| (id(it.record.span.span_id), it.share))
            .collect()
    }
}

#[test]
fn one_failure_takes_its_whole_trace_along_in_order_and_no_other() {
    let mut bench = Bench::sampling("{rate: 0}");
    bench.offer(of(1, 1, Status::Ok));
    bench.offer(of(2, 2, Status::Ok));
    bench.offer(of(1, 3, Status::Ok));
    assert_eq!(bench.going(), []);
    bench.offer(of(1, 4, Status::Error));
    bench.offer(of(1, 5, Status::Ok));
    let whole = [1, 3, 4, 5].map(|n| (n, Some(1.0)));
    assert_eq!(bench.going(), whole);
    assert_eq!(bench.queue.stats().held, 1);
    bench.later(WAIT.checked_sub(Duration::from_millis(1)).unwrap());
    assert_eq!(bench.queue.stats().held, 1);
    bench.later(Duration::from_millis(1));
    let stats = bench.queue.stats();
    assert_eq!((stats.held, stats.sampled_out), (0, 1));
    assert_eq!((stats.held_too_many, stats.held_too_large), (0, 0));
}

#[test]
fn what_would_go_whatever_its_id_says_so_though_its_trace_went_by_that() {
    let with = |n, attribute| Span {
        attributes: vec![(SAMPLED, Value::Bool(attribute))],
        ..of(4, n, Status::Ok)
    };
    let named = Span {
        response_model: Some("new".into()),
        ..of(4, 2, Status::Ok)
    };
    for kept in [of(4, 2, Status::Error), with(2, true), named] {
        let mut bench = Bench::sampling("{rate: 0.5}");
        bench.offer(of(4, 1, Status::Ok));
        bench.offer(kept);
        bench.offer(of(4, 3, Status::Ok));
        assert_eq!(
            bench.going(),
            [(1, Some(0.5)), (2, Some(1.0)), (3, Some(1.0))]
        );
        bench.later(WAIT);
    }
    let bench = Bench::sampling("{rate: 0.5}");
    bench.offer(of(4, 1, Status::Ok));
    bench.offer(with(2, false));
    assert_eq!(bench.going(), [(1, Some(0.5)), (2, Some(0.5))]);
}

#[test]
fn a_trace_that_goes_is_remembered_while_spans_of_it_come() {
    let mut bench = Bench::sampling("{rate: 0, decision_wait: 1s}");
    bench.offer(of(1, 1, Status::Error));
    // However short spans wait: the parent of the one that failed ends later.
    let memory = 10 * WAIT;
    for n in 2..6 {
        bench.later(memory.checked_sub(Duration::from_secs(1)).unwrap());
        bench.offer(of(1, n, Status::Ok));
    }
    assert_eq!(bench.going().len(), 5);
    bench.later(memory);
    bench.offer(of(1, 6, Status::Ok));
    assert_eq!(bench.going(), []);
}

#[test]
fn what_a_filter_holds_waits_as_long_as_is_said_though_nothing_is_sampled() {
    let filter = Filter {
        min_duration: Duration::from_secs(5),
        ..Filter::default()
    };
    let sampling = Some("{rate: 1, decision_wait: 2s}");
    let mut bench = Bench::new(filter, sampling, PLENTY, PLENTY);
    bench.offer(of(1, 1, Status::Ok));
    bench.later(Duration::from_secs(1));
    assert_eq!(bench.queue.stats().held, 1);
    bench.later(Duration::from_secs(1));
    assert_eq!(bench.queue.stats().filtered, 1);
}

#[test]
fn a_filter_lets_whole_traces_through_and_counts_the_rest() {
    let filter = Filter {
        min_duration: Duration::from_secs(5),
        ..Filter::default()
    };
    let mut bench = Bench::new(filter, None, PLENTY, PLENTY);
    // The parent ends after its children, and is the one that took long.
    bench.offer(of(1, 1, Status::Ok));
    bench.offer(of(2, 2, Status::Ok));
    let long = Span {
        duration: Duration::from_secs(5),
        ..of(1, 3, Status::Ok)
    };
    bench.offer(long);
    bench.offer(of(1, 4, Status::Ok));
    assert_eq!(bench.going(), [1, 3, 4].map(|n| (n, None)));
    bench.later(WAIT);
    let stats = bench.queue.stats();
    assert_eq!((stats.held, stats.filtered, stats.sampled_out), (0, 1, 0));
}

#[test]
fn no_more_spans_wait_than_the_queue_may_hold() {
    let bench = Bench::new(Filter::default(), Some("{rate: 0}"), 3, PLENTY);
    for n in 1..=5 {
        bench.offer(of(1, n, Status::Ok));
    }
    let stats = bench.queue.stats();
    assert_eq!(
        (stats.held, stats.sampled_out, stats.held_too_many),
        (3, 2, 2)
    );
    bench.offer(of(2, 6, Status::Error));
    bench.offer(of(2, 7, Status::Ok));
    let stats = bench.queue.stats();
    assert_eq!((stats.held, stats.queued, stats.dropped), (3, 2, 0));
}

#[test]
fn what_waits_for_its_trace_gives_way_to_what_goes() {
    let size = Record::new(of(1, 1, Status::Error)).size();
    // An eighth is for those that have just come.
    let memory = 3 * size * 8 / 7 + 1;
    let bench = Bench::new(Filter::default(), Some("{rate: 0}"), PLENTY, memory);
    for n in 1..=3 {
        bench.offer(of(1, n, Status::Ok));
    }
    bench.offer(of(2, 4, Status::Error));
    bench.offer(of(2, 5, Status::Error));
    let stats = bench.queue.stats();
    assert_eq!((stats.queued, stats.held, stats.dropped), (2, 1, 0));
    assert_eq!(stats.held_too_large, 2);
    assert!(stats.queued_bytes <= 3 * size as u64);
    bench.offer(of(2, 6, Status::Error));
    bench.offer(of(3, 7, Status::Ok));
    let stats = bench.queue.stats();
    assert_eq!((stats.queued, stats.held, stats.sampled_out), (3, 0, 4));
    bench.offer(of(2, 8, Status::Error));
    assert_eq!(bench.queue.stats().dropped, 1);
}

#[test]
fn the_end_gives_up_what_waits() {
    let bench = Bench::sampling("{rate: 0}");
    bench.offer(of(1, 1, Status::Ok));
    bench.queue.close();
    let stats = bench.queue.stats();
    assert_eq!((stats.held, stats.sampled_out, stats.dropped), (0, 1, 0));
    bench.offer(of(1, 2, Status::Ok));
    bench.offer(of(1, 3, Status::Error));
    let stats = bench.queue.stats();
    assert_eq!((stats.held, stats.sampled_out, stats.dropped), (0, 2, 1));
}

#[test]
fn too_many_traces_that_go_are_forgotten_and_counted() {
    let bench = Bench::sampling("{rate: 0}");
    for n in 0..33_000_u64 {
        let mut id = [1; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        bench.offer(Span {
            trace_id: TraceId::from_bytes(id),
            ..of(1, n + 1, Status::Error)
        });
    }
    assert_eq!(bench.queue.stats().forgotten, 33_000 - 32_768);
}

/// The trace of that number, which half of all keeps or leaves out.
fn numbered(number: u64, kept: bool, n: u64, status: Status) -> Span {
    let mut id = [1; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    id[9] = if kept { 0x80 } else { 0 };
    Span {
        trace_id: TraceId::from_bytes(id),
        ..of(1, n, status)
    }
}

#[test]
fn a_failing_run_that_goes_on_is_not_forgotten_for_others() {
    let mut bench = Bench::sampling("{rate: 0}");
    let mut ran = 0;
    for n in 0..70_000 {
        bench.now += Duration::from_millis(1);
        if n % 1_000 == 0 {
            let status = if n == 0 { Status::Error } else { Status::Ok };
            bench.offer(numbered(0, false, 1, status));
            ran += 1;
        } else {
            bench.offer(numbered(n, false, 2, Status::Error));
        }
    }
    let going = bench.going();
    assert_eq!(going.iter().filter(|(n, _)| *n == 1).count(), ran);
    assert_eq!(bench.queue.stats().held, 0);
}

#[test]
fn what_ids_choose_is_forgotten_before_what_failed() {
    let bench = Bench::sampling("{rate: 0.5}");
    bench.offer(numbered(0, false, 1, Status::Error));
    for n in 1..40_000 {
        bench.offer(numbered(n, true, 2, Status::Ok));
    }
    bench.offer(numbered(0, false, 3, Status::Ok));
    assert_eq!(bench.queue.stats().held, 0);
    assert_eq!(bench.queue.stats().forgotten, 40_000 - 32_768);
}

#[test]
fn a_span_that_its_client_leaves_out_goes_with_its_trace() {
    let bench = Bench::sampling("{rate: 0.5}");
    let left_out = |kept, n| Span {
        attributes: vec![(SAMPLED, Value::Bool(false))],
        ..numbered(u64::from(kept), kept, n, Status::Ok)
    };
    bench.offer(left_out(true, 1));
    bench.offer(numbered(1, true, 2, Status::Ok));
    bench.offer(left_out(true, 3));
    bench.offer(left_out(false, 4));
    assert_eq!(bench.going(), [1, 2, 3].map(|n| (n, Some(0.5))));
}

#[test]
fn a_call_gives_up_a_few_and_the_worker_all_that_waited_long_enough() {
    let mut bench = Bench::sampling("{rate: 0}");
    for n in 1..=1_000 {
        bench.offer(of(1, n, Status::Ok));
    }
    bench.now += WAIT;
    bench.offer(of(2, 1_001, Status::Ok));
    assert_eq!(bench.queue.stats().held, 997);
    bench.later(Duration::ZERO);
    assert_eq!(bench.queue.stats().held, 1);
}

#[test]
fn what_waits_for_its_trace_goes_on_waiting_where_it_is_sifted_as_before() {
    for (before, after, stays) in [
        ("{rate: 0}", "{rate: 0}", true),
        ("{rate: 0}", "{rate: 0, slow_ms: 9}", false),
        ("{rate: 0}", "{rate: 1}", false),
    ] {
        let bench = Bench::sampling(before);
        for n in 1..=4 {
            bench.offer(of(1, n, Status::Ok));
        }
        let sampling = Some(serde_saphyr::from_str(after).unwrap());
        let sieve = Sieve::new(&bench.filter, Unit::Trace, sampling, bench.now);
        let next = Queue::new(3, PLENTY).sifting(sieve);
        bench.queue.pass_on(next);
        let held = bench.queue.stats().held;
        assert_eq!(held, if stays { 3 } else { 0 }, "{after}");
        bench.offer(of(1, 5, Status::Error));
        let stats = bench.queue.stats();
        assert_eq!(stats.offered, stats.accounted());
        assert_eq!(stats.held_too_many, u64::from(stays));
        let going = bench.going().len();
        assert_eq!(going, if stays { 3 } else { 1 }, "{after}");
    }
}

#[test]
fn what_can_never_pass_is_left_out_at_once() {
    let nothing = Filter {
        successful: false,
        failed: false,
        ..Filter::default()
    };
    assert!(Sieve::new(&nothing, Unit::Trace, None, SystemClock.mono()).is_none());
    let record = Record::new(span(1));
    assert_eq!(nothing.fit(&record), Fit::Fails);
    let long = Filter {
        min_duration: Duration::from_secs(1),
        ..Filter::default()
    };
    assert_eq!(long.fit(&record), Fit::Follows);
    assert!(Sieve::new(&long, Unit::Span, None, SystemClock.mono()).is_none());
}

/// One step of a random run.
#[derive(Clone, Debug)]
enum Step {
    Offers { trace: u8, fails: bool, long: bool },
    Waits(u16),
    Takes,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..6_u8, prop::bool::weighted(0.1), any::<bool>())
            .prop_map(|(trace, fails, long)| Step::Offers { trace, fails, long }),
        1 => (0..20_000_u16).prop_map(Step::Waits),
        1 => Just(Step::Takes),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    #[test]
    fn every_span_is_accounted_for_no_error_is_lost_and_kept_traces_are_whole(
        steps in steps(), filters: bool, share in prop_oneof![Just(0.0), Just(0.5)],
        bound in prop_oneof![Just(4), Just(PLENTY)],
    ) {
        let filter = Filter {
            min_duration: Duration::from_secs(u64::from(filters)),
            ..Filter::default()
        };
        let yaml = format!("{{rate: {share}, decision_wait: 1h}}");
        let mut bench = Bench::new(filter, Some(&yaml), bound, PLENTY);
        let mut gone = HashSet::new();
        let mut offered: HashMap<u8, Vec<u64>> = HashMap::new();
        let mut failed = HashMap::new();
        for (n, step) in (1..).zip(steps) {
            match step {
                Step::Offers { trace, fails, long } => {
                    let status = if fails { Status::Error } else { Status::Ok };
                    bench.offer(Span {
                        duration: Duration::from_secs(u64::from(long)),
                        ..of(trace, n, status)
                    });
                    offered.entry(trace).or_default().push(n);
                    if fails {
                        failed.insert(n, trace);
                    }
                },
                Step::Waits(millis) => bench.later(Duration::from_millis(u64::from(millis))),
                Step::Takes => gone.extend(bench.going().into_iter().map(|(n, _)| n)),
            }
        }
        gone.extend(bench.going().into_iter().map(|(n, _)| n));
        let stats = bench.queue.stats();
        prop_assert_eq!(stats.offered, stats.accounted());
        if bound == PLENTY {
            prop_assert_eq!(stats.dropped, 0);
            // In an hour, all that went with a failure is whole.
            for (n, trace) in &failed {
                prop_assert!(gone.contains(n));
                prop_assert!(offered[trace].iter().all(|n| gone.contains(n)));
            }
        }
        bench.queue.close();
        let stats = bench.queue.stats();
        prop_assert_eq!((stats.held, stats.accounted()), (0, stats.offered));
    }
}
