//! One processor's queue and worker, and how they begin and end.

use std::{io, path::PathBuf, sync::Arc, thread};

use parking_lot::Mutex;
use tokio::{
    sync::{oneshot, watch},
    time::timeout_at,
};

use super::{
    Config, Content, Delivery, Filter, Outlet, Record, Unit,
    filter::Fit,
    overflow::Overflow,
    queue::Queue,
    sieve::Sieve,
    worker::{Orders, Worker},
};
use crate::base::clock::{Clock, Instant};

/// One processor's queue and worker.
pub(super) struct Line {
    pub(super) name: Arc<str>,
    pub(super) queue: Arc<Queue>,
    /// None: every span is for it.
    filter: Option<Filter>,
    unit: Unit,
    /// Whether its queue has a sieve.
    sifts: bool,
    delivery: Delivery,
    /// Where its spans wait on disk.
    directory: Option<PathBuf>,
    origin: Option<Box<Config>>,
    pub(super) keeps: Keeps,
    pub(super) orders: watch::Sender<Orders>,
    pub(super) flushed: watch::Receiver<u64>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

/// Whether a line stays when the configuration changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
    Always,
    UntilReplaced,
}

/// A line, and what lets its worker begin; none: it has begun.
pub(super) type Ready = (Arc<Line>, Option<Start>);

/// What lets a worker begin.
pub(super) struct Start {
    signal: oneshot::Sender<()>,
    /// The bounds and the sieve of a queue that it takes over.
    pub(super) terms: Option<Queue>,
}

impl Line {
    /// `bare`: the record without what was said, once somebody has asked for it. What waits for a
    /// processor that never gets it must not keep it.
    pub(super) fn offer(
        &self,
        record: &Arc<Record>,
        bare: &mut Option<Arc<Record>>,
        clock: &dyn Clock,
    ) {
        let fit = match &self.filter {
            Some(filter) => filter.fit(record),
            None => Fit::Passes,
        };
        if fit == Fit::Fails || fit == Fit::Follows && self.unit != Unit::Trace {
            self.queue.leave_out();
            return;
        }
        let record = if self.delivery.content == Some(Content::None) && record.holds_said() {
            bare.get_or_insert_with(|| Arc::new(record.bare()))
        } else {
            record
        };
        let record = Arc::clone(record);
        if fit == Fit::Passes && !self.sifts {
            self.queue.push(record);
        } else {
            self.queue.sift(record, fit, clock.mono());
        }
    }

    /// From now on it takes as much memory as `config` has for one that does not say its own bound.
    pub(super) fn share(&self, config: &Config) {
        self.queue.bound_memory(config.shared(self.delivery).memory);
    }

    /// Whether it is what `outlet` would become.
    pub(super) fn is_as(&self, outlet: &Outlet) -> bool {
        self.origin.is_some() && self.origin == outlet.origin && self.name == outlet.name
    }

    /// Whether `outlet` goes on with what it has.
    pub(super) fn precedes(&self, outlet: &Outlet) -> bool {
        let directory = outlet.shelf.as_ref().map(|shelf| &shelf.directory);
        self.keeps != Keeps::Always
            && self.name == outlet.name
            && self.directory.as_ref() == directory
    }

    pub(super) fn has_queue_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.queue, &other.queue)
    }
}

/// A line whose worker has a thread to itself and waits there to begin: whatever its processor does,
/// it holds up nobody else. `before`: the queue of the one before it.
pub(super) fn ready(
    outlet: Outlet,
    keeps: Keeps,
    before: Option<Arc<Queue>>,
    clock: &Arc<dyn Clock>,
) -> io::Result<Ready> {
    let delivery = outlet.delivery;
    let sampling = outlet.sampling.filter(|_| outlet.unit != Unit::All);
    let sieve = Sieve::new(&outlet.filter, outlet.unit, sampling, clock.mono());
    let sifts = sieve.is_some();
    let fresh = Queue::new(delivery.queue, delivery.memory).sifting(sieve);
    let (queue, terms) = match before {
        Some(queue) => (queue, Some(fresh)),
        None => (Arc::new(fresh), None),
    };
    let directory = outlet.shelf.as_ref().map(|shelf| shelf.directory.clone());
    let (orders, told) = watch::channel(Orders::default());
    let (flushed, seen) = watch::channel(0);
    let worker = Worker {
        name: Arc::clone(&outlet.name),
        queue: Arc::clone(&queue),
        delivery,
        overflow: outlet
            .shelf
            .map(|shelf| Overflow::new(Arc::clone(&outlet.name), shelf, delivery)),
        processor: outlet.processor,
        clock: Arc::clone(clock),
        orders: told,
        flushed,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (signal, started) = oneshot::channel();
    let work = async {
        if started.await.is_ok() {
            worker.run().await;
        }
    };
    let thread = thread::Builder::new()
        .name(format!("span-{}", outlet.name))
        .spawn(move || runtime.block_on(work))?;
    let line = Line {
        name: outlet.name,
        queue,
        filter: Some(outlet.filter).filter(|filter| *filter != Filter::default()),
        unit: outlet.unit,
        sifts,
        delivery,
        directory,
        origin: outlet.origin,
        keeps,
        orders,
        flushed: seen,
        thread: Mutex::new(Some(thread)),
    };
    Ok((Arc::new(line), Some(Start { signal, terms })))
}

/// Lets the workers begin.
pub(super) fn begin(ready: Vec<Ready>) {
    for start in ready.into_iter().filter_map(|(_, start)| start) {
        // A thread that is gone has said why.
        let _gone = start.signal.send(());
    }
}

/// Tells the lines to end and waits until they have, or until `by`. A worker that is stuck in its
/// processor is left behind. `has_heir`: whether another line goes on with its queue.
pub(super) async fn close(lines: &[Arc<Line>], by: Instant, has_heir: impl Fn(&Line) -> bool) {
    for line in lines {
        line.orders.send_modify(|orders| {
            orders.close_by = Some(orders.close_by.unwrap_or(by));
            orders.has_heir |= has_heir(line);
        });
    }
    for line in lines {
        // The sender goes when the worker ends.
        let mut flushed = line.flushed.clone();
        let ended = timeout_at(by, async { while flushed.changed().await.is_ok() {} }).await;
        if !has_heir(line) {
            line.queue.close();
        }
        let thread = line.thread.lock().take();
        if let (Ok(()), Some(thread)) = (ended, thread)
            && thread.join().is_err()
        {
            tracing::error!(processor = &*line.name, "A span worker panicked");
        }
    }
}
