//! What outlives the process: the data directory's owner, the ledger, the store. With budgets they
//! must be there, and so must a ledger that was there before, since it may tell of calls that are
//! to stay stopped; else Tollgate runs without them and says so.

use std::sync::Arc;

use super::{StartError, crashed};
use crate::{
    base::clock::{Clock, Timestamp},
    config::Config,
    guard::Kill,
    ledger::{Awaited, ClaimError, Crashed, Ledger, Memory, Owner},
    policy::{CounterName, Journal, JournalDown, Order},
    proxy::Proxy,
    store::Writer,
};

/// What is kept, as far as it can be.
pub(super) struct Kept {
    pub(super) owner: Option<Owner>,
    pub(super) ledger: Option<Ledger>,
    pub(super) store: Option<Writer>,
    /// Calls that were in flight when the last run was killed.
    pub(super) crashed: Vec<Crashed>,
    /// Calls of the last run whose answers are still to be fetched.
    pub(super) awaited: Vec<Awaited>,
    /// Responses that were billed and may be fetched again.
    pub(super) billed: Vec<u64>,
    /// Calls that people have ordered to be stopped.
    pub(super) kills: Vec<Order>,
    /// Counters of which thresholds may be untold.
    pub(super) charged: Vec<(CounterName, Timestamp)>,
}

/// Takes the data directory and opens what is in it.
///
/// # Errors
/// Another process owns the directory, or it cannot be used and is needed.
pub(super) fn open(
    config: &Config,
    has_budgets: bool,
    clock: &Arc<dyn Clock>,
) -> Result<Kept, StartError> {
    let mut kept = Kept {
        owner: None,
        ledger: None,
        store: None,
        crashed: Vec::new(),
        awaited: Vec::new(),
        billed: Vec::new(),
        kills: Vec::new(),
        charged: Vec::new(),
    };
    let needed = has_budgets || Ledger::may_exist(&config.ledger);
    match Owner::claim(&config.store.path, &config.listen.admin.to_string()) {
        Ok(owner) => kept.owner = Some(owner),
        Err(error @ ClaimError::Owned { .. }) => return Err(error.into()),
        Err(error) if needed => return Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "Running without store and ledger: spans go to processors only");
            return Ok(kept);
        },
    }
    match Ledger::open(&config.ledger, Arc::clone(clock)) {
        Ok((ledger, recovery)) => {
            if recovery.torn > 0 {
                let bytes = recovery.torn;
                tracing::warn!(
                    bytes,
                    "The ledger's journal had a torn end, which was cut off"
                );
            }
            kept.crashed = recovery.crashed;
            kept.awaited = recovery.awaited;
            kept.billed = recovery.billed;
            kept.kills = recovery.kills;
            kept.charged = recovery.charged.into_iter().collect();
            kept.kills.retain(|order| order.holds(clock.wall()));
            kept.ledger = Some(ledger);
        },
        Err(error) if needed => return Err(error.into()),
        Err(error) => tracing::warn!(%error, "Running without a ledger"),
    }
    let was_there = config.store.file().exists();
    match Writer::open(&config.store) {
        Ok(mut writer) => {
            if let Some(ledger) = &kept.ledger {
                // A store that is made now never had what the ledger tells of.
                let from = if was_there {
                    config.store.keeps_from(clock.wall())
                } else {
                    clock.wall()
                };
                complete(&mut writer, ledger, from);
            }
            kept.store = Some(writer);
        },
        Err(error) => {
            tracing::warn!(%error, "Running without a store: spans go to processors only");
        },
    }
    Ok(kept)
}

/// Writes the spans of calls since `from` that a kill kept from the store.
fn complete(store: &mut Writer, ledger: &Ledger, from: Timestamp) {
    match crashed::recover(ledger, store, from) {
        Ok(0) => {},
        Ok(spans) => tracing::warn!(
            spans,
            "The last run was killed before it had stored these spans: they were written from the \
             ledger"
        ),
        Err(error) => tracing::warn!(
            %error,
            "The store cannot be compared with the ledger: it may lack the last spans of the last \
             run"
        ),
    }
}

/// Puts a kill of an earlier run in force.
fn stop_again(proxy: &Proxy, order: &Order) {
    let id = &*order.kill;
    let Some(kill) = Kill::ordered(order) else {
        tracing::error!(
            id,
            "A kill was ordered in words that this version does not know: it does not hold"
        );
        return;
    };
    let (calls, who) = (kill.selector.to_string(), &*order.who);
    match proxy.kills().add(Arc::new(kill), order.at) {
        Ok(()) => tracing::warn!(
            id,
            calls,
            who,
            "Calls are stopped by hand since an earlier run"
        ),
        Err(error) => tracing::error!(id, calls, %error, "A kill does not hold"),
    }
}

impl Kept {
    /// Hands over to `proxy` what the last run has left it.
    ///
    /// # Errors
    /// What counters held before cannot be read.
    pub(super) fn hand_over(&mut self, proxy: &Proxy) -> Result<(), JournalDown> {
        let awaited = std::mem::take(&mut self.awaited);
        let billed = std::mem::take(&mut self.billed);
        for order in std::mem::take(&mut self.kills) {
            stop_again(proxy, &order);
        }
        proxy.recall(&awaited, &billed)?;
        proxy.tell_untold(&std::mem::take(&mut self.charged))
    }

    /// The journal for the purse.
    pub(super) fn journal(&self) -> Arc<dyn Journal> {
        match &self.ledger {
            Some(ledger) => ledger.journal(),
            None => Arc::new(Memory),
        }
    }
}
