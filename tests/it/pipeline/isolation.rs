//! A processor in trouble changes nothing for calls, nor for other processors.

use std::{
    future::ready,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tollgate::{
    base::clock::{SystemClock, Timestamp},
    call::span::Span,
    pipeline::{BoxFuture, DeliverError, Outlet, Pipeline, Processor, Record},
};

use crate::support::{conserved, sandbox::until};

const GRACE: Duration = Duration::from_secs(20);

/// Counts what it gets.
struct Counting(Arc<AtomicU64>);

impl Processor for Counting {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        self.0.fetch_add(batch.len() as u64, Relaxed);
        Box::pin(ready(Ok(())))
    }
}

/// A closure as a processor.
struct With<F>(F);

impl<F: FnMut(&[Arc<Record>]) -> Result<(), DeliverError> + Send + 'static> Processor for With<F> {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        Box::pin(ready((self.0)(batch)))
    }
}

/// A door that the blocked processor waits at.
#[derive(Default)]
struct Door(Mutex<bool>, Condvar);

impl Door {
    fn wait(&self) {
        let open = self.0.lock().unwrap();
        drop(self.1.wait_while(open, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
}

fn span() -> Span {
    Span::begun(Timestamp::from_secs(1_795_328_714))
}

#[tokio::test]
async fn a_processor_in_trouble_changes_nothing_for_calls_and_the_others() {
    let door = Arc::new(Door::default());
    let shut = Arc::clone(&door);
    let got = Arc::new(AtomicU64::new(0));
    let outlets = vec![
        Outlet::local("good", Counting(Arc::clone(&got))),
        Outlet::local(
            "blocked",
            With(move |_: &[_]| {
                shut.wait();
                Ok(())
            }),
        ),
        Outlet::local(
            "dead",
            With(|_: &[_]| Err(DeliverError::retry("connection refused"))),
        ),
        Outlet::local(
            "refusing",
            With(|_: &[_]| Err(DeliverError::Reject("no".into()))),
        ),
        Outlet::local("panicking", With(|_: &[_]| panic!("a bug"))),
    ];
    let pipeline = Pipeline::start(Vec::new(), outlets, Arc::new(SystemClock)).unwrap();
    let total = 30_000_u64;
    let mut slowest = Duration::ZERO;
    for _ in 0..total {
        let span = span();
        let began = Instant::now();
        pipeline.offer(span);
        slowest = slowest.max(began.elapsed());
    }
    // A wait for any processor would be a tick at least; what is left is the scheduler's.
    assert!(slowest < Duration::from_millis(100), "{slowest:?}");
    for (name, stats) in pipeline.stats() {
        conserved(&stats);
        assert!(stats.queued <= 10_000, "{name}: {stats:?}");
    }
    pipeline.close(Duration::from_secs(1)).await;
    let stats = pipeline.stats();
    let of = |name: &str| stats.iter().find(|(found, _)| **found == *name).unwrap().1;
    assert_eq!(of("good").delivered + of("good").dropped, total);
    assert_eq!(of("good").delivered, got.load(Relaxed));
    for name in ["dead", "refusing", "panicking"] {
        let stats = of(name);
        assert_eq!(stats.delivered, 0, "{name}: {stats:?}");
        assert_eq!(stats.failed + stats.dropped, total, "{name}: {stats:?}");
    }
    assert!(of("panicking").panicked > 0);
    // The blocked one was left behind with its batch still in hand.
    conserved(&of("blocked"));
    assert!(of("blocked").in_hand > 0);
    door.open();
}

#[tokio::test]
async fn a_flush_waits_for_every_span_offered_before_it() {
    let got = Arc::new(AtomicU64::new(0));
    let outlet = Outlet::local("counting", Counting(Arc::clone(&got)));
    let pipeline = Pipeline::start(vec![outlet], Vec::new(), Arc::new(SystemClock)).unwrap();
    for round in 1..=3 {
        (0..100).for_each(|_| pipeline.offer(span()));
        assert!(pipeline.flush(GRACE).await);
        assert_eq!(got.load(Relaxed), round * 100);
    }
    pipeline.close(GRACE).await;
    pipeline.offer(span());
    let stats = pipeline.stats()[0].1;
    assert_eq!((stats.delivered, stats.dropped), (300, 1));
}

#[tokio::test]
async fn one_of_the_same_name_goes_on_with_counts_and_with_what_waits() {
    let door = Arc::new(Door::default());
    let shut = Arc::clone(&door);
    let blocked = With(move |_: &[_]| {
        shut.wait();
        Ok(())
    });
    let got = Arc::new(AtomicU64::new(0));
    let old = vec![Outlet::local("it", blocked)];
    let pipeline = Pipeline::start(Vec::new(), old, Arc::new(SystemClock)).unwrap();
    let stats = || pipeline.stats()[0].1;
    pipeline.offer(span());
    until("the span in hand", || stats().in_hand == 1).await;
    (0..4).for_each(|_| pipeline.offer(span()));
    let replace = async |outlets, grace| {
        let successors = pipeline.prepare(outlets).unwrap();
        pipeline.replace(successors, grace).await;
    };
    let new = || vec![Outlet::local("it", Counting(Arc::clone(&got)))];
    replace(new(), Duration::ZERO).await;
    assert!(pipeline.flush(GRACE).await);
    assert_eq!((got.load(Relaxed), stats().delivered), (4, 4));
    assert_eq!((stats().offered, stats().in_hand), (5, 1));
    conserved(&stats());
    // The one that was left behind ends, and leaves the queue open.
    door.open();
    until("the span of before", || stats().in_hand == 0).await;
    pipeline.offer(span());
    assert!(pipeline.flush(GRACE).await);
    // Gone, and back.
    replace(Vec::new(), GRACE).await;
    assert_eq!((stats().offered, stats().delivered), (6, 6));
    replace(new(), GRACE).await;
    pipeline.offer(span());
    pipeline.close(GRACE).await;
    assert_eq!(pipeline.stats().len(), 1);
    conserved(&stats());
    assert_eq!((stats().offered, stats().delivered), (7, 7));
}

#[tokio::test]
async fn processors_can_be_replaced_without_losing_a_span() {
    let [store, old, new] = [(); 3].map(|()| Arc::new(AtomicU64::new(0)));
    let outlet = |name, got| Outlet::local(name, Counting(Arc::clone(got)));
    let pipeline = Pipeline::start(
        vec![outlet("store", &store)],
        vec![outlet("old", &old)],
        Arc::new(SystemClock),
    )
    .unwrap();
    (0..10).for_each(|_| pipeline.offer(span()));
    let successors = pipeline.prepare(vec![outlet("new", &new)]).unwrap();
    pipeline.replace(successors, GRACE).await;
    assert_eq!(old.load(Relaxed), 10);
    (0..10).for_each(|_| pipeline.offer(span()));
    pipeline.close(GRACE).await;
    assert_eq!(store.load(Relaxed), 20);
    assert_eq!((old.load(Relaxed), new.load(Relaxed)), (10, 10));
    let told = pipeline.stats().into_iter();
    let told: Vec<_> = told
        .map(|(name, stats)| (name.to_string(), stats.offered, stats.delivered))
        .collect();
    let of = |name: &str, count| (name.to_owned(), count, count);
    assert_eq!(told, [of("store", 20), of("new", 10), of("old", 10)]);
}
