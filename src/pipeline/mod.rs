//! Finished spans on their way to processors. Offering a span never waits and never fails a call:
//! each processor has a bounded queue and a thread of its own, and what cannot be kept is dropped,
//! the oldest first, and counted. Spans for a destination elsewhere wait on disk while it is down.
//!
//! What a kill of the process takes: the spans in memory, which are those that wait for their batch
//! to fill while all is well, and those of the last ticks while the destination is down, or where
//! spans wait for their batch on disk (object stores). The store gets back what it lacks of calls that
//! the ledger knows; other destinations do not. What is on disk stays, and of what was being delivered one batch may come twice, with the same ids.

use std::{collections::VecDeque, fmt, io, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::time::timeout_at;

use crate::{
    base::clock::Clock,
    call::{
        span::{Span, Value},
        workload::Workload,
    },
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
mod line;
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

use line::{Keeps, Line, Ready, begin, close, ready};

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
    /// What it was made of: of equal ones the present one stays when the configuration is edited, with
    /// all that is known of it. None: it is made anew each time.
    origin: Option<Box<Config>>,
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
            origin: None,
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
    /// Of processors that are no more, the last one first. Locked while the lines change.
    gone: Mutex<VecDeque<Arc<Line>>>,
    clock: Arc<dyn Clock>,
    /// What every span says of where it was made.
    place: ArcSwap<Vec<(&'static str, Value)>>,
}

/// Of how many processors that are no more the counts are kept.
const GONE: usize = 256;

/// Processors for [`Pipeline::replace`]: those that stay, and new ones, each with a thread that waits to
/// begin. Dropped, the new ones end.
pub struct Successors(Vec<Ready>);

impl fmt::Debug for Successors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(line, _)| &line.name))
            .finish()
    }
}

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
            .map(|(outlet, keeps)| ready(outlet, keeps, None, &clock))
            .collect::<io::Result<Vec<Ready>>>()?;
        let lines = ready.iter().map(|(line, _)| Arc::clone(line)).collect();
        begin(ready);
        Ok(Self {
            lines: ArcSwap::from_pointee(lines),
            gone: Mutex::default(),
            clock,
            place: ArcSwap::default(),
        })
    }

    /// Hands a span to every processor's queue. Never waits, never fails; a full queue drops its
    /// oldest span, counted.
    pub fn offer(&self, span: Span) {
        self.offer_with(span, None);
    }

    /// The same, with what was kept of what was said in the call.
    pub fn offer_with(&self, mut span: Span, said: Option<Captured>) {
        self.place(&mut span);
        let record = Arc::new(Record::with(span, said));
        let mut bare = None;
        for line in self.lines.load().iter() {
            line.offer(&record, &mut bare, &*self.clock);
        }
    }

    /// From now on spans say that they were made there.
    pub fn runs_in(&self, workload: &Workload) {
        let place = workload.attributes().into_iter();
        let place = place.map(|(name, value)| (name, Value::Text(value)));
        self.place.store(Arc::new(place.collect()));
    }

    fn place(&self, span: &mut Span) {
        let place = self.place.load();
        if place.is_empty() {
            return;
        }
        // An agent that reports a span may have said where it was.
        let reported = span.reported.iter().flat_map(|it| &it.attributes);
        let said: Vec<&str> = reported.map(|(name, _)| &**name).collect();
        let unsaid = place.iter().filter(|(name, _)| !said.contains(name));
        let unsaid = unsaid.cloned();
        span.attributes.extend(unsaid);
    }

    /// Makes all that other processors need, so that nothing can go wrong any more when they
    /// [`replace`](Self::replace) the present ones. Those whose configuration is as before stay.
    ///
    /// # Errors
    /// The operating system gives no thread or no event queue for a worker.
    pub fn prepare(&self, outlets: Vec<Outlet>) -> io::Result<Successors> {
        let gone = self.gone.lock();
        let present = self.lines.load();
        let ready = outlets.into_iter().map(|outlet| {
            if let Some(same) = present.iter().find(|line| line.is_as(&outlet)) {
                return Ok((Arc::clone(same), None));
            }
            let mut known = present.iter().chain(gone.iter());
            let known = known.find(|line| line.precedes(&outlet));
            let queue = known.map(|line| Arc::clone(&line.queue));
            ready(outlet, Keeps::UntilReplaced, queue, &self.clock)
        });
        ready.collect::<io::Result<_>>().map(Successors)
    }

    /// Puts `successors` in the place of the present processors. They begin when those before them
    /// have ended, within `grace`. What waits for a processor waits for the one of its name then, and
    /// its counts go on.
    pub async fn replace(&self, successors: Successors, grace: Duration) {
        let Successors(mut new) = successors;
        let terms = new.iter_mut().filter_map(|(line, start)| {
            let terms = start.as_mut()?.terms.take()?;
            Some((Arc::clone(line), terms))
        });
        let terms: Vec<_> = terms.collect();
        let has_heir = |line: &Line| new.iter().any(|(it, _)| it.has_queue_of(line));
        let replaced = {
            let mut gone = self.gone.lock();
            let old = self.lines.load_full();
            let stays = |line: &Arc<Line>| {
                line.keeps == Keeps::Always || new.iter().any(|(it, _)| Arc::ptr_eq(it, line))
            };
            let replaced = old.iter().filter(|line| !stays(line)).map(Arc::clone);
            let replaced: Vec<Arc<Line>> = replaced.collect();
            // Before the queues are others': a worker may be about to close its own. One that is gone
            // may have left its worker behind.
            for line in replaced.iter().chain(gone.iter()) {
                let has_heir = has_heir(line);
                line.orders
                    .send_modify(|orders| orders.has_heir |= has_heir);
            }
            for (line, terms) in terms {
                line.queue.pass_on(terms);
            }
            let kept = old.iter().filter(|line| line.keeps == Keeps::Always);
            let lines = kept.chain(new.iter().map(|(line, _)| line));
            self.lines.store(Arc::new(lines.map(Arc::clone).collect()));
            gone.retain(|line| !has_heir(line));
            for line in replaced.iter().filter(|line| !has_heir(line)) {
                gone.push_front(Arc::clone(line));
            }
            gone.truncate(GONE);
            drop(gone);
            replaced
        };
        close(&replaced, self.clock.mono() + grace, has_heir).await;
        for line in replaced.iter().filter(|line| !has_heir(line)) {
            line.queue.note(|stats| stats.circuit = Circuit::default());
            let waiting = line.queue.stats().buffered;
            if waiting > 0 {
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

    /// Gives the fixed processors the share of memory that `config` has for each.
    pub fn share(&self, config: &Config) {
        let lines = self.lines.load();
        let fixed = lines.iter().filter(|line| line.keeps == Keeps::Always);
        fixed.for_each(|line| line.share(config));
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
        close(&self.lines.load_full(), by, |_| false).await;
    }

    /// What became of every span so far, by processor; those that are no more come last. A name is
    /// there again where a processor of that name had its spans in another directory.
    pub fn stats(&self) -> Vec<(Arc<str>, Stats)> {
        let gone = self.gone.lock();
        let lines = self.lines.load();
        lines
            .iter()
            .chain(gone.iter())
            .map(|line| (Arc::clone(&line.name), line.queue.stats()))
            .collect()
    }
}
