//! Tells of budgets that reached a threshold: the log, and a metric.

use super::Proxy;
use crate::{
    base::clock::Timestamp,
    policy::{CounterName, Crossing, JournalDown},
};

impl Proxy {
    /// Budgets reached a threshold.
    pub(super) fn crossed(&self, crossings: &[Crossing]) {
        if crossings.is_empty() {
            return;
        }
        let live = self.live.load();
        let purse = live.engine.purse();
        for crossing in crossings {
            let (rule, values) = (&*crossing.rule, &*crossing.values);
            let level = crossing.level.name();
            self.metrics.threshold(rule, level);
            tracing::warn!(rule, values, level, "A budget crossed a threshold");
            // Only now: one that is lost between the two would never be told.
            purse.told(crossing);
        }
    }

    /// Tells of the thresholds that these counters have reached, and that the last run told nobody of.
    ///
    /// # Errors
    /// What counters held before cannot be known, and calls shall not pass without.
    pub fn tell_untold(&self, counters: &[(CounterName, Timestamp)]) -> Result<(), JournalDown> {
        let untold = self
            .live
            .load()
            .engine
            .untold(counters, self.clock.wall())?;
        self.crossed(&untold);
        Ok(())
    }
}
