//! What the purse counts about itself, for metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{counter::Unit, table::Claim};

/// What a purse has counted since the start, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Counters in memory; at most `limits.counters`.
    pub counters: usize,
    /// Calls that wait for a busy counter.
    pub waiting: usize,
    /// The most of them.
    pub most_waiting: usize,
    /// Admissions that were counted under `overflow`, since there were too many counters.
    pub overflowed: u64,
    /// Holds that were dropped without being settled, and so charged in full.
    pub unsettled: u64,
    /// Settlements above their reservation.
    pub overruns: u64,
    /// Nano-dollars, by which they were above it, summed over counters.
    pub overrun_nanos: u64,
    /// Calls that were refused at once, since too many waited already.
    pub turned_away: u64,
}

#[derive(Debug, Default)]
pub(super) struct Tallies {
    overflowed: AtomicU64,
    unsettled: AtomicU64,
    overruns: AtomicU64,
    overrun_nanos: AtomicU64,
    turned_away: AtomicU64,
}

impl Tallies {
    pub(super) fn overflowed(&self) {
        self.overflowed.fetch_add(1, Relaxed);
    }

    pub(super) fn unsettled(&self) {
        self.unsettled.fetch_add(1, Relaxed);
    }

    pub(super) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Relaxed);
    }

    /// Counts the claims that spent more than they held.
    pub(super) fn overruns(&self, claims: &[Claim]) {
        for claim in claims {
            let over = claim.change.saturating_sub(claim.held());
            if over <= 0 {
                continue;
            }
            self.overruns.fetch_add(1, Relaxed);
            if claim.unit == Unit::Usd {
                self.overrun_nanos.fetch_add(over.unsigned_abs(), Relaxed);
            }
        }
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            overflowed: self.overflowed.load(Relaxed),
            unsettled: self.unsettled.load(Relaxed),
            overruns: self.overruns.load(Relaxed),
            overrun_nanos: self.overrun_nanos.load(Relaxed),
            turned_away: self.turned_away.load(Relaxed),
            ..Counts::default()
        }
    }
}
