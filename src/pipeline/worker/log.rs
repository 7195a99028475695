//! What a worker writes to the log: of trouble that lasts, one line now and then.

use std::time::Duration;

use super::{super::processor::BoxError, State, Worker};
use crate::base::clock::Instant;

/// The least time between two log lines about dropped spans.
const DROPS_LOGGED_EVERY: Duration = Duration::from_mins(1);

/// The least time between two log lines about failed attempts.
const FAILURES_LOGGED_EVERY: Duration = Duration::from_secs(10);

impl Worker {
    /// Logs spans that were dropped since the last such line, once a minute at most.
    pub(super) fn log_drops(&self, state: &mut State, last: bool) {
        let (logged, at) = state.drops_logged;
        let dropped = self.queue.stats().dropped;
        let now = self.clock.mono();
        let quiet = at.is_some_and(|at| now.duration_since(at) < DROPS_LOGGED_EVERY);
        if dropped > logged && (last || !quiet) {
            tracing::warn!(
                processor = &*self.name,
                spans = dropped - logged,
                total = dropped,
                "Spans were dropped: their processor does not keep up"
            );
            state.drops_logged = (dropped, Some(now));
        }
    }

    /// Logs a failed attempt, unless another one was logged just before.
    pub(super) fn log_failure(
        &self,
        error: &BoxError,
        message: &'static str,
        spans: usize,
        state: &mut State,
    ) {
        let now = self.clock.mono();
        let quiet = |at: Instant| now.duration_since(at) < FAILURES_LOGGED_EVERY;
        if state.failure_logged.is_some_and(quiet) {
            return;
        }
        state.failure_logged = Some(now);
        tracing::warn!(
            processor = &*self.name,
            spans,
            %error,
            "{message}"
        );
    }
}
