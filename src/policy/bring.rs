//! Counters on their way into memory whose past has to be read: the call waits meanwhile, and no
//! thread does.

use std::sync::Arc;

use super::{
    journal::{CounterName, Recalling},
    purse::{Purse, cells},
    table::Claim,
};
use crate::base::clock::Timestamp;

impl Purse {
    /// Brings the claims' counters into memory of which the journal has to read what they held
    /// before. `None`: there is no such counter.
    pub(super) fn bring(
        self: &Arc<Self>,
        claims: &mut [Claim],
        now: Timestamp,
    ) -> Option<Recalling<()>> {
        let table = self.table.lock();
        let mut new = self.missing(&table, claims);
        drop(table);
        new.retain(|(_, claim)| {
            let name = CounterName::of(claim);
            claim.rule.is_budget() && self.journal.must_read(&name, &cells(claim, now))
        });
        if new.is_empty() {
            return None;
        }
        let asked = new.iter();
        let asked = asked.map(|(_, claim)| (CounterName::of(claim), cells(claim, now)));
        let recalling = self.journal.recalling(asked.collect());
        let purse = Arc::clone(self);
        Some(Box::pin(async move {
            let recalled = recalling.await?;
            let mut table = purse.table.lock();
            for ((_, mut claim), recalled) in new.into_iter().zip(recalled) {
                purse.open(&mut table, &mut claim, &recalled, now);
            }
            drop(table);
            Ok(())
        }))
    }
}
