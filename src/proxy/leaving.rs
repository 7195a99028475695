//! The way out of the process, as connections see it.

use tokio::sync::watch;

use crate::base::clock::{Clock as _, Instant, SystemClock};

/// Where the process is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Calls are taken.
    Running,
    /// Nothing new is accepted; calls under way may finish until then.
    Draining(Instant),
}

/// Tells that the process is about to leave.
#[derive(Clone, Debug)]
pub struct Leaving(watch::Receiver<Phase>);

impl Leaving {
    /// As `phase` will say.
    pub const fn new(phase: watch::Receiver<Phase>) -> Self {
        Self(phase)
    }

    /// Waits until the process is about to leave. Returns when calls must have ended.
    pub async fn begins(&mut self) -> Instant {
        let changed = self
            .0
            .wait_for(|phase| matches!(phase, Phase::Draining(_)))
            .await;
        match changed.as_deref() {
            Ok(Phase::Draining(deadline)) => *deadline,
            // Whoever started us is gone: there is no time left.
            _ => SystemClock.mono(),
        }
    }
}
