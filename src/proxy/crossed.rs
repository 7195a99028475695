//! Tells of budgets that reached a threshold: the log, a metric, and whoever listens.

use tokio::sync::broadcast;

use super::Proxy;
use crate::policy::Crossing;

/// How many a listener may be behind; it is told how many it missed.
const BEHIND: usize = 256;

/// Where crossings are told.
#[derive(Debug)]
pub(super) struct Crossings(broadcast::Sender<Crossing>);

impl Default for Crossings {
    fn default() -> Self {
        Self(broadcast::Sender::new(BEHIND))
    }
}

impl Proxy {
    /// Thresholds of budgets that are crossed from now on, each once a window.
    pub fn crossings(&self) -> broadcast::Receiver<Crossing> {
        self.crossings.0.subscribe()
    }

    /// Budgets reached a threshold.
    pub(super) fn crossed(&self, crossings: &[Crossing]) {
        for crossing in crossings {
            let (rule, values) = (&*crossing.rule, &*crossing.values);
            let level = crossing.level.name();
            self.metrics.threshold(rule, level);
            tracing::warn!(rule, values, level, "A budget crossed a threshold");
            // Nobody listens, mostly.
            let _listeners = self.crossings.0.send(crossing.clone());
        }
    }
}
