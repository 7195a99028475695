//! What was reserved and spent, kept across crashes: the journal and the books behind it.
//!
//! A call's admission is in the journal before the call is sent; its settlement follows, and a
//! thread moves both into the books. A start replays what is in the journal only: calls that
//! settled count at their bill, calls that did not at their reservation; but calls that were
//! accepted and whose answers are to be fetched later go on holding it. So, for every counter and
//! however often the process dies: really spent <= spent <= really spent + what was reserved at
//! the crash.

mod books;
mod coding;
mod config;
mod ended;
mod entries;
mod journal;
mod keeper;
mod known;
mod later;
mod memory;
mod orders;
mod owner;
mod past;
mod posting;
mod reach;
mod record;
mod repair;
mod segment;
mod told;
mod verify;
mod view;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
};

use self::{
    books::Books,
    journal::FileJournal,
    keeper::Keeper,
    later::Parked,
    past::Past,
    posting::{Item, Open, Reader, records_in},
    segment::Frames,
};
use crate::{
    base::{
        clock::{Clock, Timestamp},
        money::Usd,
    },
    policy::{Amounts, CounterName, Journal, Order, Unit},
};

pub use books::{BooksError, Hash, Verified};
pub use config::{Config, Durability, OnLedgerDown, Scope};
pub use ended::Ended;
pub use later::{Awaited, MAX_BILLED};
pub use memory::Memory;
pub use owner::{ClaimError, Owner};
pub use record::{Call, Post, Record};
pub use repair::{Damage, Repaired, repair};
pub use view::View;

/// The ledger in a directory, of which this process is the owner. Dropped, it moves what it has
/// into the books, syncs and ends its thread.
#[derive(Debug)]
pub struct Ledger {
    journal: Arc<FileJournal>,
    reported: Arc<AtomicBool>,
    /// The last batch of the books from before this run.
    before: i64,
    keeper: Option<JoinHandle<()>>,
}

/// The ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A file or directory cannot be used.
    #[error("cannot use the ledger's directory {path}: {source}", path = path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The books cannot be used.
    #[error(transparent)]
    Books(#[from] BooksError),
    /// The journal cannot be read throughout.
    #[error(
        "{file}: the ledger's journal is damaged: {bytes} bytes from byte {offset} on cannot be \
         read. Put a sound copy of the file in its place; or run `tollgate ledger repair` (with the \
         same -c), which sets it aside, goes on with every entry that can be read, and says what is \
         not known any more",
        file = .0.file.display(),
        bytes = .0.bytes,
        offset = .0.offset
    )]
    Damaged(Damage),
}

/// What a start found of the run before.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Calls that were in flight when it ended; charged at their reservation.
    pub crashed: Vec<Crashed>,
    /// Calls whose answers are still to be fetched, the oldest first; they hold what they held.
    pub awaited: Vec<Awaited>,
    /// Responses that were billed and may be fetched again, the oldest first.
    pub billed: Vec<u64>,
    /// Kills that were not lifted, the oldest first; some may be over.
    pub kills: Vec<Order>,
    /// Counters that were charged since the last run had moved its journal into the books, each with
    /// the cell: thresholds may have been crossed that nobody was told of. The first 100,000.
    pub charged: BTreeSet<(CounterName, Timestamp)>,
    /// Bytes of a torn end of the journal, which was cut off: nothing had gone on by them.
    pub torn: u64,
    /// Records of a kind that this version does not know.
    pub unknown: u64,
}

/// A call that was in flight when the process ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Crashed {
    /// The call.
    pub call: Call,
    /// When it was admitted.
    pub admitted: Timestamp,
    /// What it was charged: all that it held.
    pub charged: Amounts,
}

/// What the ledger has counted since the start, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries that could not be written when they should have been.
    pub down: u64,
    /// Whether the last attempt to write one has failed. Where nothing else is to be written, the
    /// ledger finds out by itself, several times a second, when it is over.
    pub failing: bool,
    /// Settlements and refusals that were lost, since nothing could be written for long.
    pub lost: u64,
    /// Refused calls that were not noted for `why`, since there were too many in a second.
    pub refused_unnoted: u64,
    /// Times that the books could not be read or written; what they miss is in the journal.
    pub books_down: u64,
    /// Counters of which it is remembered that the books have something.
    pub known: usize,
    /// The most of them.
    pub most_known: usize,
    /// Rules that have too many of them, so that each of their counters is looked up in the books.
    pub rules_unknown: u64,
    /// Bytes of the journal that this run has written and cannot read: the next start refuses them.
    pub damaged: u64,
    /// Spans that the last run did not get to keep, and that were written from the ledger.
    pub spans_recovered: u64,
}

impl Ledger {
    /// Opens the ledger and settles what the run before has left open. The directory must have no
    /// other user: see [`Owner`].
    ///
    /// # Errors
    /// The directory cannot be written, or the books are not readable.
    pub fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<(Self, Recovery), LedgerError> {
        let (journal, keeper, recovery) = assemble(config, clock)?;
        let reported = keeper.reported();
        let before = journal.past.books.lock().newest()?;
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || keeper.run())
            .map_err(|source| LedgerError::Unusable {
                path: config.path.clone(),
                source,
            })?;
        let ledger = Self {
            journal,
            reported,
            before,
            keeper: Some(thread),
        };
        Ok((ledger, recovery))
    }

    /// Whether there is something in the directory already; also if that cannot be told.
    pub fn may_exist(config: &Config) -> bool {
        let books = std::fs::metadata(books_in(&config.path)).map(|found| found.len() > 0);
        let segments = segment::list(&config.path).map(|numbers| !numbers.is_empty());
        [books, segments].into_iter().any(|found| match found {
            Ok(is_there) => is_there,
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ),
        })
    }

    /// The journal, for the purse.
    pub fn journal(&self) -> Arc<dyn Journal> {
        let journal: Arc<FileJournal> = Arc::clone(&self.journal);
        journal
    }

    /// To be called once the spans of the crashed calls were handed on: until then a start would
    /// report them again (each with the span id that it had).
    pub fn crashed_calls_were_reported(&self) {
        self.reported.store(true, Relaxed);
    }

    /// Shows `more` the calls that ended before this run and were not compared with their spans yet,
    /// the last one first, as long as it says so; the last 100,000 at most. To be asked before there
    /// are calls.
    ///
    /// # Errors
    /// The books cannot be read.
    pub fn ended(&self, more: impl FnMut(Ended) -> bool) -> Result<(), BooksError> {
        self.journal.past.books.lock().ended(more)
    }

    /// To be called once the calls that [`ended`](Self::ended) shows have their spans, of which
    /// `written` had to be written from here: a later start does not compare them again.
    ///
    /// # Errors
    /// The books cannot be written.
    pub fn spans_were_compared(&self, written: u64) -> Result<(), BooksError> {
        let tallies = &self.journal.tallies;
        tallies.spans_recovered.fetch_add(written, Relaxed);
        self.journal.past.books.lock().compared(self.before)
    }

    /// Writes down what has settled, at once: to be called before the spans of calls are kept, so
    /// that there is no span of a call that the journal takes for unsettled.
    pub fn writing_down(&self) -> impl Fn() + Send + Sync + use<> {
        let journal = Arc::clone(&self.journal);
        move || journal.write_noted()
    }

    /// What was counted since the start.
    pub fn counts(&self) -> Counts {
        self.counting()()
    }

    /// Tells what was counted since the start, also when the ledger itself is gone.
    pub fn counting(&self) -> impl Fn() -> Counts + Send + Sync + use<> {
        let journal = Arc::clone(&self.journal);
        move || {
            let tallies = &journal.tallies;
            let (known, rules_unknown) = journal.past.known.lock().counts();
            Counts {
                down: tallies.down.load(Relaxed),
                failing: tallies.failing.load(Relaxed),
                lost: tallies.lost.load(Relaxed),
                refused_unnoted: tallies.refused_unnoted.load(Relaxed),
                books_down: tallies.books_down.load(Relaxed) + journal.past.failed.load(Relaxed),
                known,
                most_known: known::MOST,
                rules_unknown,
                damaged: tallies.damaged.load(Relaxed),
                spans_recovered: tallies.spans_recovered.load(Relaxed),
            }
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.journal.stop();
        if let Some(keeper) = self.keeper.take()
            && keeper.join().is_err()
        {
            tracing::error!("The ledger's thread has panicked");
        }
    }
}

fn books_in(dir: &std::path::Path) -> PathBuf {
    dir.join("books.sqlite")
}

/// The parts of a ledger, at rest: what the run before has left open is settled.
fn assemble(
    config: &Config,
    clock: Arc<dyn Clock>,
) -> Result<(Arc<FileJournal>, Keeper, Recovery), LedgerError> {
    let dir = &config.path;
    let unusable = |source| LedgerError::Unusable {
        path: dir.clone(),
        source,
    };
    owner::private_dir(dir).map_err(unusable)?;
    let path = books_in(dir);
    let mut books = Books::open(&path).map_err(|error| error.of(&path))?;
    let old = segment::list(dir).map_err(unusable)?;
    let recovery = recover(config, &old, &mut books, clock.wall());
    let recovery = recovery.map_err(|error| match error {
        LedgerError::Books(error) => LedgerError::Books(error.of(&path)),
        other => other,
    })?;
    let number = old.last().map_or(1, |last| last.saturating_add(1));
    let reading = Books::open(&books_in(dir))?;
    let known = reading.known(clock.wall(), known::MOST)?;
    let past = Past::new(reading, known, Arc::clone(&clock), config);
    let journal = FileJournal::create(number, past, Arc::clone(&clock), config);
    let journal = Arc::new(journal.map_err(unusable)?);
    let keeper =
        Keeper::new(Arc::clone(&journal), books, clock, number, old).keeping(config.retention);
    if recovery.crashed.is_empty() {
        keeper.reported().store(true, Relaxed);
    }
    Ok((journal, keeper, recovery))
}

/// Takes everything in the segments `old` into the books. Can be repeated at any point: a posting
/// is taken once.
fn recover(
    config: &Config,
    old: &[u64],
    books: &mut Books,
    now: Timestamp,
) -> Result<Recovery, LedgerError> {
    let unusable = |source| LedgerError::Unusable {
        path: config.path.clone(),
        source,
    };
    let mut recovery = Recovery::default();
    let mut reader = Reader::default();
    for number in old {
        let bytes = segment::read(&config.path, *number, 0, None);
        let bytes = bytes.map_err(unusable)?;
        let mut frames = Frames::of(&bytes);
        let read = frames.by_ref();
        let items: Vec<_> = read
            .filter_map(|payload| reader.take(payload, *number))
            .collect();
        let last = old.last() == Some(number);
        if let Some(damage) = Damage::of(&frames, &config.path, *number, last) {
            return Err(LedgerError::Damaged(damage));
        }
        if let Some(from) = frames.torn {
            repair::cut(&config.path, *number, from).map_err(unusable)?;
            recovery.torn = frames.damaged;
        }
        books.post(&items, now)?;
        recovery.note_charged(&items);
    }
    let parked = books.parked()?;
    let mut ceilings = Vec::new();
    for (key, open) in &reader.open {
        let kept = books.body(key.0, key.1)?;
        // The books may know more of it than this, since the segments of its later records are
        // gone: that it is settled, or awaited.
        let settled = kept.as_ref().is_some_and(|kept| is_settled(kept));
        if settled || parked.iter().any(|parked| parked.key == *key) {
            continue;
        }
        if let Some(call) = open.call() {
            recovery.crashed.push(Crashed {
                call,
                admitted: open.at,
                charged: open.amounts(),
            });
        }
        ceilings.push(Item::Over(open.at_ceiling(*key)));
    }
    books.post(&ceilings, now)?;
    recovery.note_charged(&ceilings);
    recovery.unknown = reader.unknown;
    recovery.awaited = parked.into_iter().filter_map(Parked::awaited).collect();
    recovery.billed = books.billed()?;
    recovery.kills = books.kills()?;
    recovery.crashed.sort_by_key(|crashed| crashed.admitted);
    Ok(recovery)
}

impl Recovery {
    fn note_charged(&mut self, items: &[Item]) {
        const MOST: usize = 100_000;
        let totals = items.iter().flat_map(|item| match item {
            Item::Over(posting) => posting.totals.as_slice(),
            Item::Parked(_) | Item::Billed(_) | Item::Told(_) => &[],
        });
        let room = MOST.saturating_sub(self.charged.len());
        let charged = totals.map(|(counter, cell, _)| (counter.clone(), *cell));
        self.charged.extend(charged.take(room));
    }
}

fn is_settled(body: &[u8]) -> bool {
    let records = records_in(body).unwrap_or_default();
    records
        .iter()
        .any(|record| matches!(record, Record::Settled { .. }))
}

impl Open {
    /// What the call holds: every counter of a unit holds the same.
    fn amounts(&self) -> Amounts {
        let held = self.held();
        let sum = |unit| {
            let mut sums: BTreeMap<&CounterName, i64> = BTreeMap::new();
            for post in held.iter().filter(|post| post.counter.unit == unit) {
                let sum = sums.entry(&post.counter).or_default();
                *sum = sum.saturating_add(post.amount);
            }
            sums.into_values().max()
        };
        let tokens = |unit| sum(unit).map(i64::unsigned_abs);
        Amounts {
            usd: sum(Unit::Usd).map(Usd::from_nanos),
            tokens: tokens(Unit::Tokens),
            input: tokens(Unit::InputTokens),
            output: tokens(Unit::OutputTokens),
        }
    }
}
