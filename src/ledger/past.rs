//! What counters held before they came into memory. Of most it is known that it is nothing; the
//! others are read from the books, and not on the thread that serves calls.

use std::{
    ops::RangeInclusive,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    books::{Books, BooksError},
    config::OnLedgerDown,
    known::Known,
};
use crate::{
    base::clock::{Clock, Instant, Timestamp},
    policy::{CounterName, JournalDown, Recalled, Recalling},
};

/// The books, for reading, and which counters they know.
pub(super) struct Past {
    /// The keeper writes through a connection of its own.
    pub(super) books: Mutex<Books>,
    pub(super) known: Mutex<Known>,
    on_down: OnLedgerDown,
    dir: PathBuf,
    clock: Arc<dyn Clock>,
    warned: Mutex<Option<Instant>>,
    /// Times that the books could not be read.
    pub(super) failed: AtomicU64,
}

impl Past {
    pub(super) fn new(
        books: Books,
        known: Known,
        clock: Arc<dyn Clock>,
        config: &super::Config,
    ) -> Arc<Self> {
        Arc::new(Self {
            books: Mutex::new(books),
            known: Mutex::new(known),
            on_down: config.on_ledger_down,
            dir: config.path.clone(),
            clock,
            warned: Mutex::new(None),
            failed: AtomicU64::new(0),
        })
    }

    /// Whether the books have to be read to know what `counter` held in `cells`.
    pub(super) fn may_hold(
        &self,
        counter: &CounterName,
        cells: &RangeInclusive<Timestamp>,
    ) -> bool {
        self.known.lock().may_hold(counter, cells)
    }

    /// What `counter` held in `cells`; reads the books if they may know.
    pub(super) fn recall(
        &self,
        counter: &CounterName,
        cells: RangeInclusive<Timestamp>,
    ) -> Result<Recalled, JournalDown> {
        if !self.may_hold(counter, &cells) {
            return Ok(Recalled::default());
        }
        let recalled = self.books.lock().recall(counter, cells);
        recalled.or_else(|error| {
            self.failed.fetch_add(1, Relaxed);
            self.warn(&error);
            match self.on_down {
                OnLedgerDown::Allow => Ok(Recalled::default()),
                OnLedgerDown::Block => Err(JournalDown),
            }
        })
    }

    /// The same of several counters, on a thread that may be blocked.
    pub(super) fn recalling(
        self: &Arc<Self>,
        asked: Vec<(CounterName, RangeInclusive<Timestamp>)>,
    ) -> Recalling<Vec<Recalled>> {
        let past = Arc::clone(self);
        let read = move || {
            let asked = asked.into_iter();
            asked
                .map(|(counter, cells)| past.recall(&counter, cells))
                .collect()
        };
        Box::pin(async move {
            let recalled = tokio::task::spawn_blocking(read).await;
            recalled.unwrap_or(Err(JournalDown))
        })
    }

    /// One line a minute.
    fn warn(&self, error: &BooksError) {
        let now = self.clock.mono();
        let mut warned = self.warned.lock();
        let due = warned.is_none_or(|last| now.duration_since(last) >= Duration::from_mins(1));
        if due {
            *warned = Some(now);
        }
        drop(warned);
        if due {
            tracing::error!(
                path = %self.dir.display(),
                %error,
                policy = ?self.on_down,
                "The ledger's books cannot be read",
            );
        }
    }
}
