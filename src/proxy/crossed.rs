//! Tells of budgets that reached a threshold: the log, and a metric.

use super::Proxy;
use crate::policy::Crossing;

impl Proxy {
    /// Budgets reached a threshold.
    pub(super) fn crossed(&self, crossings: &[Crossing]) {
        for crossing in crossings {
            let (rule, values) = (&*crossing.rule, &*crossing.values);
            let level = crossing.level.name();
            self.metrics.threshold(rule, level);
            tracing::warn!(rule, values, level, "A budget crossed a threshold");
        }
    }
}
