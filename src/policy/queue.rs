//! Waiting for calls in flight, in order. A call that finds a counter busy takes a ticket and stands
//! in that counter's line; when something settles there, the first in line is woken and asks again.
//! Tickets are given in order of arrival and a line is sorted by them, so that nobody overtakes
//! and the call that waits longest is never held up by others that wait.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::purse::Purse;

/// Numbers the calls that wait, in order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// Those who wait for one counter, in order.
#[derive(Debug, Default)]
pub(super) struct Line(VecDeque<Ticket>);

impl Line {
    /// Whether somebody stands in front of `ticket`, or of one who has none.
    pub(super) fn is_behind(&self, ticket: Option<Ticket>) -> bool {
        self.0
            .front()
            .is_some_and(|first| ticket.is_none_or(|own| *first < own))
    }

    pub(super) fn join(&mut self, ticket: Ticket) {
        if let Err(place) = self.0.binary_search(&ticket) {
            self.0.insert(place, ticket);
        }
    }

    pub(super) fn leave(&mut self, ticket: Ticket) {
        if let Ok(place) = self.0.binary_search(&ticket) {
            self.0.remove(place);
        }
    }

    pub(super) fn first(&self) -> Option<Ticket> {
        self.0.front().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Everybody who waits, whatever for.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    next: u64,
    places: BTreeMap<u64, Seat>,
}

#[derive(Debug, Default)]
struct Seat {
    woken: bool,
    waker: Option<Waker>,
    /// The counters in whose lines it stands.
    counters: Vec<u32>,
}

impl Waiting {
    /// The most calls that wait at once; one more is refused instead, and counted.
    pub(super) const MOST: usize = 4_096;

    /// A ticket, unless too many wait already.
    pub(super) fn ticket(&mut self) -> Option<Ticket> {
        if self.places.len() >= Self::MOST {
            return None;
        }
        self.next += 1;
        self.places.insert(self.next, Seat::default());
        Some(Ticket(self.next))
    }

    /// Notes that `ticket` stands in the line of `counter`.
    pub(super) fn stands_at(&mut self, ticket: Ticket, counter: u32) {
        if let Some(seat) = self.places.get_mut(&ticket.0)
            && !seat.counters.contains(&counter)
        {
            seat.counters.push(counter);
        }
    }

    /// The counters in whose lines `ticket` stood; it is forgotten.
    pub(super) fn forget(&mut self, ticket: Ticket) -> Vec<u32> {
        self.places
            .remove(&ticket.0)
            .map(|seat| seat.counters)
            .unwrap_or_default()
    }

    /// Marks `ticket` as woken; the waker is for the caller to call once no lock is held.
    pub(super) fn wake(&mut self, ticket: Ticket) -> Option<Waker> {
        let seat = self.places.get_mut(&ticket.0)?;
        seat.woken = true;
        seat.waker.take()
    }

    /// Takes back that `ticket` was woken.
    pub(super) fn rest(&mut self, ticket: Ticket) {
        if let Some(seat) = self.places.get_mut(&ticket.0) {
            seat.woken = false;
        }
    }

    fn poll(&mut self, ticket: Ticket, context: &Context<'_>) -> Poll<()> {
        match self.places.get_mut(&ticket.0) {
            Some(seat) if !seat.woken => {
                seat.waker = Some(context.waker().clone());
                Poll::Pending
            },
            Some(seat) => {
                seat.woken = false;
                Poll::Ready(())
            },
            None => Poll::Ready(()),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}

/// Wakers to call once the lock is free.
#[derive(Default)]
pub(super) struct Wakers(Vec<Waker>);

impl Wakers {
    pub(super) fn add(&mut self, waker: Option<Waker>) {
        self.0.extend(waker);
    }

    pub(super) fn wake(self) {
        self.0.into_iter().for_each(Waker::wake);
    }
}

/// A call's place in the lines of the counters that are too busy for it. As a future it is ready
/// whenever it may be worth asking again; dropped, it leaves the lines.
pub struct Place {
    purse: Arc<Purse>,
    ticket: Ticket,
}

impl Place {
    pub(super) const fn new(purse: Arc<Purse>, ticket: Ticket) -> Self {
        Self { purse, ticket }
    }

    pub(super) const fn ticket(&self) -> Ticket {
        self.ticket
    }
}

impl Future for Place {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let ticket = self.ticket;
        self.purse
            .with_waiting(|waiting| waiting.poll(ticket, context))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.purse.leave(self.ticket);
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.ticket).finish()
    }
}
