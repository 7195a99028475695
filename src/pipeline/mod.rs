//! Finished spans on their way to processors. Offering a span never waits and never fails a call:
//! each processor has a bounded queue and a thread of its own, and what cannot be kept is dropped,
//! the oldest first, and counted. Spans for a destination elsewhere wait on disk while it is down.
//!
//! What a kill of the process takes: the spans in memory, which are those that wait for their batch
//! to fill while all is well, and those of the last ticks while the destination is down, or where
//! spans wait for their batch on disk (object stores). The store gets back what it lacks of calls that
//! the ledger knows; other destinations do not. What is on disk stays, and of what was being delivered one batch may come twice, with the same ids.

use std::{fmt, io, sync::Arc, thread, time::Duration};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::{
    sync::{oneshot, watch},
    time::timeout_at,
};

use crate::{
    base::clock::{Clock, Instant},
    call::span::Span,
};

mod config;
mod content;
mod context;
mod cut;
mod delivery;
mod dress;
mod filter;
mod holding;
mod keep;
pub mod options;
mod overflow;
pub mod processor;
mod propagation;
mod queue;
mod record;
pub mod redact;
mod resources;
mod sampling;
mod sieve;
mod spool;
#[cfg(test)]
mod testing;
mod worker;

use filter::Fit;
use overflow::Overflow;
use queue::Queue;
use sieve::Sieve;
use worker::{Orders, Worker};

pub use config::{Buffering, Config, Content};
pub use content::{Captured, ContentPolicy};
pub use context::{BuildContext, NoSecret, Variables};
pub use delivery::{Circuit, Delivery, Growth};
pub use filter::{Filter, Match, Patterns};
pub use options::{Destination, Options};
pub use overflow::Shelf;
pub use processor::{
    BoxError, BoxFuture, BuildError, DeliverError, Due, Processor, ProcessorConfig, Upkeep,
};
pub use propagation::{Propagation, Send, TraceFormat};
pub use queue::Stats;
pub use record::Record;
pub use resources::ResourceLimits;
pub use sampling::{Choice, Sampling, Share};
pub use sieve::Unit;

/// A processor, with its name and how it is to be treated.
pub struct Outlet {
    /// Its name in metrics and logs.
    pub name: Arc<str>,
    /// How its worker treats it.
    pub delivery: Delivery,
    /// Which spans are for it.
    pub filter: Filter,
    /// Whether it is on this machine.
    pub place: Place,
    /// What it gets whole.
    pub unit: Unit,
    /// Which traces are for it; none: all.
    pub sampling: Option<Sampling>,
    /// Where spans wait while they cannot be delivered; none: in memory alone.
    pub shelf: Option<Shelf>,
    /// The processor.
    pub processor: Box<dyn Processor>,
    /// What goes with it and is a processor by itself: it adds up all spans, while this one gets those
    /// that are chosen.
    pub metrics: Option<Box<Self>>,
}

/// Where a processor delivers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// This machine.
    Here,
    /// Elsewhere: its spans are sampled, and wait on disk while it is down.
    Elsewhere,
}

impl Outlet {
    /// A processor on this machine.
    pub fn local(name: &str, processor: impl Processor) -> Self {
        Self {
            name: Arc::from(name),
            delivery: Delivery::LOCAL,
            filter: Filter::default(),
            place: Place::Here,
            unit: Unit::Trace,
            sampling: None,
            shelf: None,
            processor: Box::new(processor),
            metrics: None,
        }
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet")
            .field("name", &self.name)
            .field("delivery", &self.delivery)
            .finish_non_exhaustive()
    }
}

/// Where finished spans go. One for the process; shared by reference.
pub struct Pipeline {
    lines: ArcSwap<Vec<Arc<Line>>>,
    clock: Arc<dyn Clock>,
}

/// One processor's queue and worker.
struct Line {
    name: Arc<str>,
    queue: Arc<Queue>,
    /// None: every span is for it.
    filter: Option<Filter>,
    unit: Unit,
    /// Whether its queue has a sieve.
    sifts: bool,
    keeps: Keeps,
    orders: watch::Sender<Orders>,
    flushed: watch::Receiver<u64>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

/// Whether a line stays when the configuration changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Always,
    UntilReplaced,
}

/// Processors that are made, each with a thread that waits to begin, for [`Pipeline::replace`].
/// Dropped, they end.
pub struct Successors(Vec<Ready>);

impl fmt::Debug for Successors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(line, _)| &line.name))
            .finish()
    }
}

/// A line, and what lets its worker begin.
type Ready = (Arc<Line>, oneshot::Sender<()>);

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.stats()).finish()
    }
}

impl Pipeline {
    /// Starts a worker for each outlet. `fixed` ones (the store) stay when
    /// [`replace`](Self::replace) changes the others.
    ///
    /// # Errors
    /// The operating system gives no thread or no event queue for a worker.
    pub fn start(
        fixed: Vec<Outlet>,
        outlets: Vec<Outlet>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let fixed = fixed.into_iter().map(|outlet| (outlet, Keeps::Always));
        let others = outlets
            .into_iter()
            .map(|outlet| (outlet, Keeps::UntilReplaced));
        let ready = fixed
            .chain(others)
            .map(|(outlet, keeps)| ready(outlet, keeps, &clock))
            .collect::<io::Result<Vec<Ready>>>()?;
        let lines = ready.iter().map(|(line, _)| Arc::clone(line)).collect();
        begin(ready);
        Ok(Self {
            lines: ArcSwap::from_pointee(lines),
            clock,
        })
    }

    /// Hands a span to every processor's queue. Never waits, never fails; a full queue drops its
    /// oldest span, counted.
    pub fn offer(&self, span: Span) {
        self.offer_with(span, None);
    }

    /// The same, with what was kept of what was said in the call.
    pub fn offer_with(&self, span: Span, said: Option<Captured>) {
        let lines = self.lines.load();
        let Some((last, others)) = lines.split_last() else {
            return;
        };
        let record = Arc::new(Record::with(span, said));
        for line in others {
            line.offer(Arc::clone(&record), &*self.clock);
        }
        last.offer(record, &*self.clock);
    }

    /// Makes all that other processors need, so that nothing can go wrong any more when they
    /// [`replace`](Self::replace) the present ones.
    ///
    /// # Errors
    /// The operating system gives no thread or no event queue for a worker.
    pub fn prepare(&self, outlets: Vec<Outlet>) -> io::Result<Successors> {
        let outlets = outlets.into_iter();
        let ready = outlets.map(|outlet| ready(outlet, Keeps::UntilReplaced, &self.clock));
        ready.collect::<io::Result<_>>().map(Successors)
    }

    /// Puts other processors in the place of the present ones. Spans offered meanwhile wait for
    /// the new ones, which begin when the old ones have ended, within `grace`.
    pub async fn replace(&self, successors: Successors, grace: Duration) {
        let Successors(new) = successors;
        let old = self.lines.load_full();
        let kept = old.iter().filter(|line| line.keeps == Keeps::Always);
        let lines = kept.chain(new.iter().map(|(line, _)| line));
        self.lines.store(Arc::new(lines.map(Arc::clone).collect()));
        let replaced = old.iter().filter(|line| line.keeps != Keeps::Always);
        let by = self.clock.mono() + grace;
        let replaced: Vec<_> = replaced.map(Arc::clone).collect();
        close(&replaced, by).await;
        for line in replaced {
            let waiting = line.queue.stats().buffered;
            if waiting > 0 && !new.iter().any(|(it, _)| it.name == line.name) {
                tracing::warn!(
                    processor = &*line.name,
                    spans = waiting,
                    "A processor is gone while spans wait for it on disk: they stay there until one \
                     of that name is back"
                );
            }
        }
        begin(new);
    }

    /// Waits until every span offered before now was delivered, has failed or is on disk to be
    /// tried again; false if that was not so within `grace`.
    pub async fn flush(&self, grace: Duration) -> bool {
        let by = self.clock.mono() + grace;
        let lines = self.lines.load_full();
        let wanted: Vec<u64> = lines
            .iter()
            .map(|line| {
                line.orders.send_modify(|orders| orders.flush += 1);
                line.orders.borrow().flush
            })
            .collect();
        for (line, wanted) in lines.iter().zip(wanted) {
            let mut flushed = line.flushed.clone();
            let done = flushed.wait_for(|flushed| *flushed >= wanted);
            if !matches!(timeout_at(by, done).await, Ok(Ok(_))) {
                return false;
            }
        }
        true
    }

    /// Delivers what waits, for `grace` at most, puts the rest on disk or drops it, and ends the workers. Spans that
    /// are offered later are dropped; all that is counted.
    pub async fn close(&self, grace: Duration) {
        let by = self.clock.mono() + grace;
        close(&self.lines.load_full(), by).await;
    }

    /// What became of every span so far, by processor.
    pub fn stats(&self) -> Vec<(Arc<str>, Stats)> {
        let lines = self.lines.load();
        lines
            .iter()
            .map(|line| (Arc::clone(&line.name), line.queue.stats()))
            .collect()
    }
}

impl Line {
    fn offer(&self, record: Arc<Record>, clock: &dyn Clock) {
        let fit = match &self.filter {
            Some(filter) => filter.fit(&record),
            None => Fit::Passes,
        };
        match fit {
            Fit::Passes if !self.sifts => self.queue.push(record),
            Fit::Follows if self.unit != Unit::Trace => self.queue.leave_out(),
            Fit::Passes | Fit::Follows => self.queue.sift(record, fit, clock.mono()),
            Fit::Fails => self.queue.leave_out(),
        }
    }
}

/// A line whose worker has a thread to itself and waits there to begin: whatever its processor does,
/// it holds up nobody else.
fn ready(outlet: Outlet, keeps: Keeps, clock: &Arc<dyn Clock>) -> io::Result<Ready> {
    let sampling = outlet.sampling.filter(|_| outlet.unit != Unit::All);
    let sieve = Sieve::new(&outlet.filter, outlet.unit, sampling, clock.mono());
    let sifts = sieve.is_some();
    let queue = Queue::new(outlet.delivery.queue, outlet.delivery.memory);
    let queue = Arc::new(queue.sifting(sieve));
    let (orders, told) = watch::channel(Orders::default());
    let (flushed, seen) = watch::channel(0);
    let worker = Worker {
        name: Arc::clone(&outlet.name),
        queue: Arc::clone(&queue),
        delivery: outlet.delivery,
        overflow: outlet
            .shelf
            .map(|shelf| Overflow::new(Arc::clone(&outlet.name), shelf, outlet.delivery)),
        processor: outlet.processor,
        clock: Arc::clone(clock),
        orders: told,
        flushed,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (start, started) = oneshot::channel();
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
        keeps,
        orders,
        flushed: seen,
        thread: Mutex::new(Some(thread)),
    };
    Ok((Arc::new(line), start))
}

/// Lets the workers begin.
fn begin(ready: Vec<Ready>) {
    for (_, start) in ready {
        // A thread that is gone has said why.
        let _gone = start.send(());
    }
}

/// Tells the lines to end and waits until they have, or until `by`. A worker that is stuck in its
/// processor is left behind.
async fn close(lines: &[Arc<Line>], by: Instant) {
    for line in lines {
        line.orders
            .send_modify(|orders| orders.close_by = Some(orders.close_by.unwrap_or(by)));
    }
    for line in lines {
        // The sender goes when the worker ends.
        let mut flushed = line.flushed.clone();
        let ended = timeout_at(by, async { while flushed.changed().await.is_ok() {} }).await;
        line.queue.close();
        let thread = line.thread.lock().take();
        if let (Ok(()), Some(thread)) = (ended, thread)
            && thread.join().is_err()
        {
            tracing::error!(processor = &*line.name, "A span worker panicked");
        }
    }
}
