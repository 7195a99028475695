//! What the admin listener is told of the running program.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::Kept;
use crate::{
    admin::Program,
    base::clock::{Clock, Instant},
    config::Config,
    ledger::{self, OnLedgerDown},
};

/// How long a failure of the ledger makes us unready: as long as there is traffic it is found
/// again, and without any nobody would ever find that it is over.
const LEDGER_TROUBLE: Duration = Duration::from_secs(30);

/// The running program, as the admin listener sees it.
pub(super) struct Control {
    clock: Arc<dyn Clock>,
    leaving: AtomicBool,
    ledger: Option<LedgerWatch>,
}

/// Notices failures of the ledger.
struct LedgerWatch {
    counts: Box<dyn Fn() -> ledger::Counts + Send + Sync>,
    /// Failures that were seen, and when there was a new one.
    seen: Mutex<(u64, Option<Instant>)>,
}

impl Control {
    pub(super) fn new(config: &Config, kept: &Kept, clock: Arc<dyn Clock>) -> Self {
        // Where calls pass without a ledger, its failures are no reason to send them elsewhere.
        let blocks = config.ledger.on_ledger_down == OnLedgerDown::Block;
        let ledger = kept.ledger.as_ref().filter(|_| blocks);
        Self {
            clock,
            leaving: AtomicBool::new(false),
            ledger: ledger.map(|ledger| LedgerWatch {
                counts: Box::new(ledger.counting()),
                seen: Mutex::default(),
            }),
        }
    }

    /// From now on it is not ready.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Relaxed);
    }
}

impl Program for Control {
    fn troubles(&self) -> Vec<String> {
        let leaving = self.leaving.load(Relaxed);
        let leaving = leaving.then(|| "Tollgate is leaving: it takes no new calls".to_owned());
        let ledger = self.ledger.as_ref();
        let ledger = ledger.filter(|ledger| ledger.is_failing(self.clock.mono()));
        let ledger = ledger.map(|_| {
            "the ledger's journal cannot be written, so calls under a budget are refused: see the \
             log"
            .to_owned()
        });
        leaving.into_iter().chain(ledger).collect()
    }
}

impl LedgerWatch {
    fn is_failing(&self, now: Instant) -> bool {
        let down = (self.counts)().down;
        let mut seen = self.seen.lock();
        if down > seen.0 {
            *seen = (down, Some(now));
        }
        let (_, last) = *seen;
        drop(seen);
        last.is_some_and(|last| now.duration_since(last) < LEDGER_TROUBLE)
    }
}
