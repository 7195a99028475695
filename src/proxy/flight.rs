//! How many calls are under way, and the bound on it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use prometheus::IntGauge;

use crate::call::refusal::{Reason, Refusal};

/// Counts calls under way.
#[derive(Debug)]
pub(super) struct Flights {
    now: AtomicUsize,
    gauge: IntGauge,
}

/// One call under way, until it is dropped.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Flights>);

impl Flights {
    pub(super) const fn new(gauge: IntGauge) -> Self {
        Self {
            now: AtomicUsize::new(0),
            gauge,
        }
    }

    /// Lets a call in.
    ///
    /// # Errors
    /// There are `limit` already.
    pub(super) fn enter(self: &Arc<Self>, limit: usize) -> Result<InFlight, Refusal> {
        if self.now.fetch_add(1, Relaxed) >= limit {
            self.now.fetch_sub(1, Relaxed);
            return Err(Refusal::new(
                Reason::Overload,
                "overload",
                format!(
                    "Tollgate is full: {limit} calls are under way (limits.in_flight). Try again."
                ),
            ));
        }
        self.gauge.inc();
        Ok(InFlight(Arc::clone(self)))
    }

    /// Calls under way now.
    pub(super) fn now(&self) -> usize {
        self.now.load(Relaxed)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Relaxed);
        self.0.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_house_refuses_until_somebody_leaves() {
        let flights = Arc::new(Flights::new(IntGauge::new("g", "g").unwrap()));
        let first = flights.enter(1).unwrap();
        assert_eq!(flights.enter(1).unwrap_err().reason, Reason::Overload);
        drop(first);
        assert!(flights.enter(1).is_ok());
        assert_eq!((flights.now(), flights.gauge.get()), (0, 0));
    }
}
