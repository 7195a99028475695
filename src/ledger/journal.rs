//! The journal: what makes an admission survive the end of the process.
//!
//! `write` appends to the segment before it returns, with one `write(2)` on the calling thread and
//! no sync: from then on the kernel has it, whatever becomes of us. `begin` and `keep` do that in two
//! steps, so that the admissions of several calls can share one write: it costs more than all else
//! that is done for an admission. `note` leaves a record for the next write, or for the keeper's,
//! within 10 ms. A write that fails is taken back, so that a
//! segment holds whole records only.

use std::{
    fs::File,
    io::{self, Write as _},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::{
    config::{Durability, OnLedgerDown},
    past::Past,
    record, segment,
};
use crate::{
    base::clock::{Clock, Instant, Timestamp},
    policy::{CounterName, Durable, Entry, Journal, JournalDown, Position, Recalled, Recalling},
};

/// Noted records that wait to be written, in bytes; beyond, while nothing can be written, further
/// ones are lost and counted: their calls count at their reservations.
pub(super) const NOTED: usize = 1 << 20;

/// A segment that is longer than this, in bytes, is followed by a new one.
pub(super) const SEGMENT: u64 = 8 << 20;

/// Refused calls that are noted in a second; more are only counted, so that a storm of refusals
/// does not fill the disk.
const REFUSED: u64 = 200;

/// A journal in a directory of segments.
pub(super) struct FileJournal {
    pub(super) dir: PathBuf,
    clock: Arc<dyn Clock>,
    durability: Durability,
    on_down: OnLedgerDown,
    pub(super) past: Arc<Past>,
    tail: Mutex<Tail>,
    /// Wakes the keeper.
    pub(super) work: Condvar,
    /// How far everything has survived a power cut, or why it cannot.
    synced: watch::Sender<Result<u64, JournalDown>>,
    refused_in: AtomicU64,
    /// The position up to which the books know everything.
    pub(super) checkpointed: AtomicU64,
    pub(super) tallies: Tallies,
}

/// What the journal has counted since the start.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    pub(super) down: AtomicU64,
    /// The last attempt to write has failed.
    pub(super) failing: AtomicBool,
    pub(super) lost: AtomicU64,
    pub(super) refused_unnoted: AtomicU64,
    pub(super) books_down: AtomicU64,
    pub(super) damaged: AtomicU64,
    pub(super) spans_recovered: AtomicU64,
}

/// The segment that is written to.
#[derive(Debug)]
struct Tail {
    file: Arc<File>,
    number: u64,
    /// Segments before it that were not synced since they were written to.
    unsynced: Vec<Arc<File>>,
    /// Its length: whole records only.
    length: u64,
    /// The position of its first byte.
    base: u64,
    /// Noted records, and at the end the one that is being written.
    pending: Vec<u8>,
    /// What is in the file beyond `length` could not be taken back: it must not be appended to.
    broken: bool,
    /// The keeper waits to be woken.
    asleep: bool,
    /// The keeper shall sync at once.
    awaited: bool,
    /// The keeper shall end.
    stop: bool,
    warned: Option<Instant>,
}

/// Where the tail is.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    /// The files to sync, for everything up to here to survive.
    pub(super) files: Vec<Arc<File>>,
    pub(super) number: u64,
    pub(super) length: u64,
    pub(super) position: u64,
    /// Somebody waits for a sync.
    pub(super) awaited: bool,
    pub(super) stop: bool,
}

impl FileJournal {
    /// A journal that begins segment `number`.
    ///
    /// # Errors
    /// The segment cannot be created.
    pub(super) fn create(
        number: u64,
        past: Arc<Past>,
        clock: Arc<dyn Clock>,
        config: &super::Config,
    ) -> io::Result<Self> {
        let dir = &config.path;
        let file = Arc::new(segment::create(dir, number)?);
        File::open(dir)?.sync_all()?;
        Ok(Self {
            dir: dir.to_owned(),
            clock,
            durability: config.durability,
            on_down: config.on_ledger_down,
            past,
            tail: Mutex::new(Tail {
                file,
                number,
                unsynced: Vec::new(),
                length: 0,
                base: 0,
                pending: Vec::with_capacity(4_096),
                broken: false,
                asleep: false,
                awaited: false,
                stop: false,
                warned: None,
            }),
            work: Condvar::new(),
            synced: watch::Sender::new(Ok(0)),
            refused_in: AtomicU64::new(0),
            checkpointed: AtomicU64::new(0),
            tallies: Tallies::default(),
        })
    }

    /// Writes what is noted, and `entry` if there is one.
    fn append(&self, tail: &mut Tail, entry: Option<&Entry<'_>>) -> Result<u64, JournalDown> {
        let noted = tail.pending.len();
        let framed = entry.is_none_or(|entry| {
            segment::frame(&mut tail.pending, |out| record::encode(entry, out))
        });
        let written = if framed {
            tail.write(&self.dir)
        } else {
            Err(io::Error::from(io::ErrorKind::InvalidData))
        };
        match written {
            Ok(()) => {
                tail.pending.clear();
                self.tallies.failing.store(false, Relaxed);
                Ok(tail.position())
            },
            Err(error) => {
                tail.pending.truncate(noted);
                self.tallies.down.fetch_add(1, Relaxed);
                self.tallies.failing.store(true, Relaxed);
                self.warn(tail, &error);
                Err(JournalDown)
            },
        }
    }

    /// One line a minute.
    fn warn(&self, tail: &mut Tail, error: &io::Error) {
        let now = self.clock.mono();
        let due = tail
            .warned
            .is_none_or(|last| now.duration_since(last) >= Duration::from_mins(1));
        if due {
            tail.warned = Some(now);
            tracing::error!(
                path = %self.dir.display(),
                %error,
                policy = ?self.on_down,
                "The ledger's journal cannot be written",
            );
        }
    }

    /// Lets the keeper work, if it waits to be woken.
    fn wake(&self, tail: &mut Tail) {
        if tail.asleep {
            tail.asleep = false;
            self.work.notify_one();
        }
    }

    /// Writes what is noted.
    pub(super) fn write_noted(&self) {
        let mut tail = self.tail.lock();
        if !tail.pending.is_empty() {
            // Its failure is counted and logged; what is noted stays noted.
            let _position = self.append(&mut tail, None);
        }
        drop(tail);
    }

    /// Whether the last attempt to write has failed.
    pub(super) fn is_failing(&self) -> bool {
        self.tallies.failing.load(Relaxed)
    }

    /// Finds out whether it can be written again, so that nobody has to send a call for that.
    pub(super) fn try_out(&self) {
        let failing = self.tail.lock().try_out(&self.dir).is_err();
        self.tallies.failing.store(failing, Relaxed);
    }

    /// Writes what is noted, begins a new segment if this one is longer than `longest` bytes, and
    /// says where the tail is.
    pub(super) fn flush(&self, longest: u64) -> Mark {
        let mut tail = self.tail.lock();
        if !tail.pending.is_empty() {
            // Its failure is counted and logged; what is noted stays noted.
            let _position = self.append(&mut tail, None);
        }
        if tail.length > longest
            && let Err(error) = tail.begin(&self.dir)
        {
            self.warn(&mut tail, &error);
        }
        let mark = tail.mark();
        tail.awaited = false;
        mark
    }

    /// Waits until there is something to do: `for_long` at most, or, if that is `None`, until
    /// woken.
    pub(super) fn rest(&self, for_long: Option<Duration>) {
        let mut tail = self.tail.lock();
        if tail.stop || tail.awaited {
            return;
        }
        match for_long {
            Some(time) => {
                self.work.wait_for(&mut tail, time);
            },
            None if tail.pending.is_empty() => {
                tail.asleep = true;
                self.work.wait(&mut tail);
                tail.asleep = false;
            },
            None => {},
        }
    }

    /// Tells the keeper to end.
    pub(super) fn stop(&self) {
        self.tail.lock().stop = true;
        self.work.notify_one();
    }

    /// Tells those who wait that everything up to `position` has survived, or cannot.
    pub(super) fn survived(&self, position: Result<u64, JournalDown>) {
        if let Ok(position) = position {
            let mut tail = self.tail.lock();
            if position >= tail.base {
                tail.unsynced.clear();
            }
        }
        let _before = self.synced.send_replace(position);
    }
}

impl Tail {
    /// How far everything is written.
    const fn position(&self) -> u64 {
        self.base + self.length
    }

    fn mark(&self) -> Mark {
        let mut files = self.unsynced.clone();
        files.push(Arc::clone(&self.file));
        Mark {
            files,
            number: self.number,
            length: self.length,
            position: self.position(),
            awaited: self.awaited,
            stop: self.stop,
        }
    }

    /// Writes a block, and takes it back.
    fn try_out(&mut self, dir: &Path) -> io::Result<()> {
        if self.broken {
            self.begin(dir)?;
        }
        let mut file = &*self.file;
        let written = file.write_all(&[0; 4096]);
        self.broken = self.file.set_len(self.length).is_err();
        written
    }

    /// Appends `pending` as a whole or not at all.
    fn write(&mut self, dir: &Path) -> io::Result<()> {
        if self.broken {
            self.begin(dir)?;
        }
        let mut file = &*self.file;
        if let Err(error) = file.write_all(&self.pending) {
            // What is torn is cut off; where that fails too, nothing is written behind it.
            self.broken = self.file.set_len(self.length).is_err();
            return Err(error);
        }
        self.length += u64::try_from(self.pending.len()).unwrap_or(0);
        Ok(())
    }

    /// Begins a new segment.
    fn begin(&mut self, dir: &Path) -> io::Result<()> {
        let file = segment::create(dir, self.number + 1)?;
        File::open(dir)?.sync_all()?;
        if self.length > 0 {
            self.unsynced.push(Arc::clone(&self.file));
        } else {
            // Nothing could be written to it. Where it cannot be removed it stays behind, empty.
            let _removed = std::fs::remove_file(segment::path(dir, self.number));
        }
        self.base += self.length;
        self.number += 1;
        self.length = 0;
        self.broken = false;
        self.file = Arc::new(file);
        Ok(())
    }
}

impl Journal for FileJournal {
    fn write(&self, entry: &Entry<'_>) -> Result<Position, JournalDown> {
        let mut tail = self.tail.lock();
        let written = self.append(&mut tail, Some(entry));
        self.wake(&mut tail);
        drop(tail);
        match (written, self.on_down) {
            (Ok(position), _) => Ok(Position(position)),
            (Err(_), OnLedgerDown::Allow) => Ok(Position::default()),
            (Err(down), OnLedgerDown::Block) => Err(down),
        }
    }

    fn begin(&self, entry: &Entry<'_>) -> Result<Position, JournalDown> {
        // A sync needs all of it in the file; and what cannot be written shall not pile up.
        if self.durability != Durability::Process || self.is_failing() {
            return self.write(entry);
        }
        let mut tail = self.tail.lock();
        let begun = tail.pending.len() <= NOTED
            && segment::frame(&mut tail.pending, |out| record::encode(entry, out));
        self.wake(&mut tail);
        let position = tail.position() + u64::try_from(tail.pending.len()).unwrap_or(0);
        drop(tail);
        if begun {
            Ok(Position(position))
        } else {
            self.write(entry)
        }
    }

    fn waits(&self, position: Position) -> bool {
        self.tail.lock().position() < position.0
    }

    fn keep(&self, position: Position) -> Result<(), JournalDown> {
        let mut tail = self.tail.lock();
        if tail.position() >= position.0 {
            return Ok(());
        }
        let written = self.append(&mut tail, None);
        drop(tail);
        match (written, self.on_down) {
            (Ok(_), _) | (Err(_), OnLedgerDown::Allow) => Ok(()),
            (Err(down), OnLedgerDown::Block) => Err(down),
        }
    }

    fn note(&self, entry: &Entry<'_>) {
        if let Entry::Refused { at, .. } = entry
            && !self.may_note_refusal(*at)
        {
            self.tallies.refused_unnoted.fetch_add(1, Relaxed);
            return;
        }
        let mut tail = self.tail.lock();
        let noted = tail.pending.len() <= NOTED
            && segment::frame(&mut tail.pending, |out| record::encode(entry, out));
        self.wake(&mut tail);
        drop(tail);
        if !noted {
            self.tallies.lost.fetch_add(1, Relaxed);
        }
    }

    fn recall(
        &self,
        counter: &CounterName,
        cells: RangeInclusive<Timestamp>,
    ) -> Result<Recalled, JournalDown> {
        self.past.recall(counter, cells)
    }

    fn must_read(&self, counter: &CounterName, cells: &RangeInclusive<Timestamp>) -> bool {
        self.past.may_hold(counter, cells)
    }

    fn recalling(
        &self,
        asked: Vec<(CounterName, RangeInclusive<Timestamp>)>,
    ) -> Recalling<Vec<Recalled>> {
        self.past.recalling(asked)
    }

    fn durable(&self, position: Position) -> Option<Durable> {
        if self.durability == Durability::Process {
            return None;
        }
        let mut synced = self.synced.subscribe();
        let on_down = self.on_down;
        let mut tail = self.tail.lock();
        tail.awaited = true;
        tail.asleep = false;
        drop(tail);
        self.work.notify_one();
        Some(Box::pin(async move {
            let reached = synced
                .wait_for(|reached| !matches!(reached, Ok(reached) if *reached < position.0))
                .await;
            match reached.as_deref() {
                Ok(Ok(_)) => Ok(()),
                _ if on_down == OnLedgerDown::Allow => Ok(()),
                _ => Err(JournalDown),
            }
        }))
    }

    fn caught_up(&self) -> bool {
        let tail = self.tail.lock();
        tail.pending.is_empty() && tail.position() == self.checkpointed.load(Relaxed)
    }
}

impl FileJournal {
    /// Lets every write fail, as on a full disk.
    #[cfg(test)]
    pub(super) fn fill_the_disk(&self) {
        let full = File::options().append(true).open("/dev/full").unwrap();
        self.tail.lock().file = Arc::new(full);
    }

    /// How many bytes are noted.
    #[cfg(test)]
    pub(super) fn noted(&self) -> usize {
        self.tail.lock().pending.len()
    }

    /// Whether a refusal at `at` is among the first of its second.
    pub(super) fn may_note_refusal(&self, at: Timestamp) -> bool {
        // The second in the upper bits, the count in the lower: one word, so that no lock is due.
        let counted = self.refused_in.load(Relaxed);
        let (second, count) = (counted >> 16, counted & 0xffff);
        let count = if second == at.as_secs() { count } else { 0 };
        if count >= REFUSED {
            return false;
        }
        self.refused_in
            .store(at.as_secs() << 16 | (count + 1), Relaxed);
        true
    }
}

impl std::fmt::Debug for FileJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileJournal")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}
