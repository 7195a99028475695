//! The keeper: the one thread behind the journal. Writes what is noted within 10 ms, syncs every
//! 100 ms (or at once if a call waits for it), moves what is over into the books, and removes
//! segments that are wholly there. It reads the segments as a start after a crash would, so that
//! there is one way from the journal to the books.

use std::{
    collections::HashSet,
    io,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    books::Books,
    journal::{FileJournal, Mark, SEGMENT},
    posting::{Item, Reader},
    segment::{self, Frames},
};
use crate::{
    base::clock::{Clock, Instant},
    policy::JournalDown,
};

/// How long a noted record waits at most.
const TICK: Duration = Duration::from_millis(10);
/// How long an admission waits at most until it has survived a power cut, and a settlement until
/// it is in the books.
const SYNC: Duration = Duration::from_millis(100);
/// The most that is read of the journal at a time, in bytes: what one turn moves into the books.
/// More than the longest frame.
const PIECE: u64 = 2 << 20;
/// How often old entries are removed.
const PRUNE: Duration = Duration::from_hours(24);

/// What the keeper's thread owns.
pub(super) struct Keeper {
    journal: Arc<FileJournal>,
    books: Books,
    clock: Arc<dyn Clock>,
    retention: Duration,
    reader: Reader,
    /// The segment that is read, and how far.
    number: u64,
    offset: u64,
    /// Read, but not in the books yet; nothing more is read before it is.
    unposted: Vec<Item>,
    /// There is more to be moved into the books than one turn takes.
    is_behind: bool,
    /// Part of that segment cannot be read, so that it must not be removed: the next start says so.
    is_damaged: bool,
    /// Segments that were read to their end and are not removed yet.
    done: Vec<u64>,
    /// Segments from before the start, which stay until their crashed calls were reported.
    old: Vec<u64>,
    reported: Arc<AtomicBool>,
    synced: u64,
    last_sync: Instant,
    last_check: Instant,
    last_prune: Option<Instant>,
    warned: Option<Instant>,
}

impl Keeper {
    /// A keeper for `journal`, whose first segment is `number`; `old` are those before.
    pub(super) fn new(
        journal: Arc<FileJournal>,
        books: Books,
        clock: Arc<dyn Clock>,
        number: u64,
        old: Vec<u64>,
    ) -> Self {
        let now = clock.mono();
        Self {
            journal,
            books,
            clock,
            retention: Duration::MAX,
            reader: Reader::default(),
            number,
            offset: 0,
            is_damaged: false,
            unposted: Vec::new(),
            is_behind: false,
            done: Vec::new(),
            old,
            reported: Arc::default(),
            synced: 0,
            last_sync: now,
            last_check: now,
            last_prune: None,
            warned: None,
        }
    }

    /// With entries removed that are older than `retention`.
    pub(super) fn keeping(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// To be set once the crashed calls were reported.
    pub(super) fn reported(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.reported)
    }

    /// Works until told to stop.
    pub(super) fn run(mut self) {
        while self.turn().is_continue() {
            if self.is_behind {
                continue;
            }
            let idle = self.is_caught_up() && self.old.is_empty() && !self.journal.is_failing();
            self.journal.rest((!idle).then_some(TICK));
        }
    }

    /// One turn.
    pub(super) fn turn(&mut self) -> ControlFlow<()> {
        let mark = self.journal.flush(SEGMENT);
        let now = self.clock.mono();
        let due = |last: Instant| mark.stop || now.duration_since(last) >= SYNC;
        if mark.position > self.synced && (mark.awaited || due(self.last_sync)) {
            self.last_sync = now;
            self.sync(&mark);
        } else if mark.awaited {
            self.journal.survived(Ok(self.synced));
        }
        if self.is_behind || due(self.last_check) {
            self.last_check = now;
            if self.journal.is_failing() {
                self.journal.try_out();
            }
            self.is_behind = self.checkpoint(&mark).is_continue();
            self.remove();
        }
        if self
            .last_prune
            .is_none_or(|last| now.duration_since(last) >= PRUNE)
        {
            self.last_prune = Some(now);
            let oldest = self.clock.wall() - self.retention;
            let wall = self.clock.wall();
            self.journal.past.known.lock().forget_what_is_over(wall);
            let pruned = self.books.prune(oldest);
            self.told(
                "Old entries cannot be removed from the ledger's books",
                pruned,
            );
        }
        if mark.stop && !self.is_behind {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn is_caught_up(&self) -> bool {
        use crate::policy::Journal as _;
        self.journal.caught_up() && self.synced >= self.journal.checkpointed.load(Relaxed)
    }

    fn sync(&mut self, mark: &Mark) {
        match mark.files.iter().try_for_each(|file| file.sync_data()) {
            Ok(()) => {
                self.synced = mark.position;
                self.journal.survived(Ok(mark.position));
            },
            Err(error) => {
                self.journal.survived(Err(JournalDown));
                self.told("The ledger's journal cannot be synced", Err(error));
            },
        }
    }

    /// Moves the next piece of what there is up to `mark` into the books. `Continue`: there is more.
    pub(super) fn checkpoint(&mut self, mark: &Mark) -> ControlFlow<()> {
        if self.unposted.is_empty()
            && let Err(error) = self.read(mark)
        {
            self.told("The ledger's journal cannot be read", Err(error));
            return ControlFlow::Break(());
        }
        let posted = self.books.post(&self.unposted, self.clock.wall());
        if posted.is_err() {
            self.journal.tallies.books_down.fetch_add(1, Relaxed);
            self.told("The ledger's books cannot be written", posted);
            return ControlFlow::Break(()); // It is all in the journal still.
        }
        self.remember();
        if self.number < mark.number || self.offset < mark.length {
            return ControlFlow::Continue(());
        }
        self.journal.checkpointed.store(mark.position, Relaxed);
        ControlFlow::Break(())
    }

    /// What was posted is in the books: whoever asks for its counters is to read them there.
    fn remember(&mut self) {
        let now = self.clock.wall();
        let mut known = self.journal.past.known.lock();
        for item in self.unposted.drain(..) {
            if let Item::Over(posting) = item {
                for (counter, cell, _) in &posting.totals {
                    known.add(counter, *cell, now);
                }
            }
        }
    }

    /// Reads on: a piece, at most to the end of a segment, or to `mark`.
    fn read(&mut self, mark: &Mark) -> io::Result<()> {
        let last = self.number >= mark.number;
        let end = self.offset + PIECE;
        let end = if last { end.min(mark.length) } else { end };
        let bytes = segment::read(&self.journal.dir, self.number, self.offset, Some(end))?;
        let length = u64::try_from(bytes.len()).unwrap_or(PIECE);
        let is_end = length < PIECE;
        let mut frames = if is_end {
            Frames::of(&bytes)
        } else {
            Frames::of_piece(&bytes)
        };
        for payload in frames.by_ref() {
            self.unposted.extend(self.reader.take(payload, self.number));
        }
        let damaged = frames.damaged;
        if damaged > 0 {
            self.is_damaged = true;
            let tally = &self.journal.tallies.damaged;
            tally.fetch_add(damaged, Relaxed);
            let what = format!("{damaged} bytes of segment {}", self.number);
            self.told("Part of the ledger's journal cannot be read", Err(what));
        }
        if !is_end {
            // A frame that the piece ends in is read with the next one.
            self.offset += length - frames.unread();
        } else if last {
            self.offset = mark.length;
        } else {
            if !std::mem::take(&mut self.is_damaged) {
                self.done.push(self.number);
            }
            self.number += 1;
            self.offset = 0;
        }
        Ok(())
    }

    /// Removes segments that nobody needs: everything in them is in the books.
    pub(super) fn remove(&mut self) {
        if self.reported.load(Relaxed) {
            self.done.append(&mut self.old);
        }
        // What was read and could not be posted is in the journal only.
        if self.done.is_empty() || !self.unposted.is_empty() {
            return;
        }
        let open = self.reader.open.values();
        let needed: HashSet<u64> = open
            .flat_map(|open| open.segments.iter().copied())
            .collect();
        if self.done.iter().all(|number| needed.contains(number)) {
            return;
        }
        // A commit of the books survives us, but not a power cut until it is synced.
        match self.books.sync() {
            Ok(true) => {},
            Ok(false) => return, // Somebody reads; later, then.
            Err(error) => {
                self.told("The ledger's books cannot be synced", Err(error));
                return;
            },
        }
        let dir = &self.journal.dir;
        self.done.retain(|number| {
            needed.contains(number) || std::fs::remove_file(segment::path(dir, *number)).is_err()
        });
    }

    /// Logs a failure, once a minute.
    fn told<E: std::fmt::Display>(&mut self, what: &'static str, result: Result<(), E>) {
        let Err(error) = result else {
            return;
        };
        let now = self.clock.mono();
        let due = self
            .warned
            .is_none_or(|last| now.duration_since(last) >= Duration::from_mins(1));
        if due {
            self.warned = Some(now);
            tracing::error!(path = %self.journal.dir.display(), %error, "{what}");
        }
    }
}
