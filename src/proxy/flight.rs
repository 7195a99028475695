//! How many calls are under way, and the bounds on them.
//!
//! A call takes its place among `limits.in_flight` when its request is there. Until then it is
//! bounded as connections are, so that a client who keeps its request back takes nobody's place.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use prometheus::IntGauge;

use crate::call::refusal::{Reason, Refusal};

/// The most calls at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// Whose requests are there: `limits.in_flight`.
    pub(super) flying: usize,
    /// Whose requests are being read: `limits.connections`.
    pub(super) reading: usize,
}

/// Counts calls under way.
#[derive(Debug)]
pub(super) struct Flights {
    flying: AtomicUsize,
    reading: AtomicUsize,
    gauge: IntGauge,
}

/// One call under way, until it is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    flights: Arc<Flights>,
    flying: bool,
}

impl Flights {
    pub(super) const fn new(gauge: IntGauge) -> Self {
        Self {
            flying: AtomicUsize::new(0),
            reading: AtomicUsize::new(0),
            gauge,
        }
    }

    /// Lets a call in whose request is to be read.
    ///
    /// # Errors
    /// There are too many already, of that sort or the other.
    pub(super) fn enter(self: &Arc<Self>, places: Places) -> Result<InFlight, Refusal> {
        if self.flying.load(Relaxed) >= places.flying {
            return Err(full(places.flying, "under way (limits.in_flight)"));
        }
        if !take(&self.reading, places.reading) {
            return Err(full(places.reading, "being read (limits.connections)"));
        }
        self.gauge.inc();
        Ok(InFlight {
            flights: Arc::clone(self),
            flying: false,
        })
    }

    /// Counts a call that is under way already, whether or not there is room for it.
    pub(super) fn intrude(self: &Arc<Self>) -> InFlight {
        self.flying.fetch_add(1, Relaxed);
        self.gauge.inc();
        InFlight {
            flights: Arc::clone(self),
            flying: true,
        }
    }

    /// Calls under way now, those included whose requests are being read.
    pub(super) fn now(&self) -> usize {
        self.flying.load(Relaxed) + self.reading()
    }

    /// Calls whose requests are being read.
    pub(super) fn reading(&self) -> usize {
        self.reading.load(Relaxed)
    }
}

impl InFlight {
    /// Its request is there.
    ///
    /// # Errors
    /// There are too many such calls already.
    pub(super) fn take_off(&mut self, places: Places) -> Result<(), Refusal> {
        if !self.flying {
            if !take(&self.flights.flying, places.flying) {
                return Err(full(places.flying, "under way (limits.in_flight)"));
            }
            self.flights.reading.fetch_sub(1, Relaxed);
            self.flying = true;
        }
        Ok(())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Flights {
            flying,
            reading,
            gauge,
        } = &*self.flights;
        let taken = if self.flying { flying } else { reading };
        taken.fetch_sub(1, Relaxed);
        gauge.dec();
    }
}

fn take(places: &AtomicUsize, most: usize) -> bool {
    let free = places.fetch_add(1, Relaxed) < most;
    if !free {
        places.fetch_sub(1, Relaxed);
    }
    free
}

fn full(most: usize, what: &str) -> Refusal {
    let message = format!("Tollgate is full: {most} calls are {what}. Try again.");
    Refusal::new(Reason::Overload, "overload", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: Places = Places {
        flying: 1,
        reading: 2,
    };

    fn flights() -> Arc<Flights> {
        Arc::new(Flights::new(IntGauge::new("g", "g").unwrap()))
    }

    #[test]
    fn a_full_house_refuses_until_somebody_leaves() {
        let flights = flights();
        let mut first = flights.enter(PLACES).unwrap();
        first.take_off(PLACES).unwrap();
        assert_eq!(flights.enter(PLACES).unwrap_err().reason, Reason::Overload);
        let intruder = flights.intrude();
        assert_eq!((flights.now(), flights.gauge.get()), (2, 2));
        drop(first);
        assert!(flights.enter(PLACES).is_err());
        drop(intruder);
        assert!(flights.enter(PLACES).is_ok());
        assert_eq!((flights.now(), flights.gauge.get()), (0, 0));
    }

    #[test]
    fn who_is_still_being_read_takes_nobody_s_place() {
        let flights = flights();
        let (slow, mut quick) = (
            flights.enter(PLACES).unwrap(),
            flights.enter(PLACES).unwrap(),
        );
        let refused = flights.enter(PLACES).unwrap_err();
        assert!(refused.message.contains("limits.connections"));
        quick.take_off(PLACES).unwrap();
        quick.take_off(PLACES).unwrap();
        assert_eq!((flights.now(), flights.reading()), (2, 1));
        let mut slow = slow;
        assert!(slow.take_off(PLACES).is_err());
        drop(quick);
        slow.take_off(PLACES).unwrap();
        drop(slow);
        assert_eq!((flights.now(), flights.gauge.get()), (0, 0));
    }
}
