//! What a worker does with its spool: spans go there when they cannot be delivered now, and come
//! back before newer ones. Every move is booked, so that each span is in one count at any moment.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    delivery::Delivery,
    dress::dressed,
    queue::{Outcome, Queue},
    record::Record,
    spool::{Place, Spool, SpoolError},
};
use crate::base::clock::Instant;

/// How often it is tried to have the spool while somebody else has it, or it cannot be used.
const OPEN_EVERY: Duration = Duration::from_secs(5);

/// The least time between two log lines about trouble with the disk.
const LOGGED_EVERY: Duration = Duration::from_mins(1);

/// How many spans are moved to disk at once.
const CHUNK: usize = 1_024;

/// How many bytes of them, about.
const CHUNK_BYTES: usize = 4 << 20;

/// Where the spans of one processor wait while it is down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelf {
    /// A directory of its own.
    pub directory: PathBuf,
    /// The most that they take there, in bytes; the oldest give way.
    pub quota: u64,
}

/// The spans that a worker has in hand: the oldest of its queue, or of its spool.
#[derive(Debug)]
pub(super) struct Hand {
    pub(super) records: Vec<Arc<Record>>,
    /// Where each stands on disk; empty: they are only in memory.
    places: Vec<Place>,
}

impl Hand {
    pub(super) const fn from_queue(records: Vec<Arc<Record>>) -> Self {
        Self {
            records,
            places: Vec::new(),
        }
    }

    pub(super) const fn is_on_disk(&self) -> bool {
        !self.places.is_empty()
    }
}

/// A worker's spool, once it has it.
#[derive(Debug)]
pub(super) struct Overflow {
    shelf: Shelf,
    name: Arc<str>,
    delivery: Delivery,
    spool: Option<Spool>,
    open_at: Option<Instant>,
    logged: Option<Instant>,
}

impl Overflow {
    pub(super) const fn new(name: Arc<str>, shelf: Shelf, delivery: Delivery) -> Self {
        Self {
            shelf,
            name,
            delivery,
            spool: None,
            open_at: None,
            logged: None,
        }
    }

    /// Takes the spool, if that is still to be done. Until it can be had, all is as without one.
    pub(super) fn open(&mut self, queue: &Queue, now: Instant) {
        if self.spool.is_some() || self.open_at.is_some_and(|at| now < at) {
            return;
        }
        self.open_at = Some(now + OPEN_EVERY);
        match Spool::open(&self.shelf.directory, self.shelf.quota) {
            Ok(mut spool) => {
                let (found, news) = (spool.len(), spool.news());
                queue.note(|stats| {
                    // The worker before this one may have left spans there, which are known.
                    stats.found += found.saturating_sub(stats.buffered);
                    stats.dropped += stats.buffered.saturating_sub(found);
                    stats.buffered = found;
                    stats.torn += news.torn;
                    stats.damaged += news.damaged;
                    stats.nameless += news.nameless;
                });
                if found > 0 || news.damaged > 0 {
                    tracing::info!(
                        processor = &*self.name,
                        spans = found,
                        damaged_files = news.damaged,
                        "Spans of an earlier run wait on disk"
                    );
                }
                self.spool = Some(spool);
            },
            Err(error) => {
                if !matches!(error, SpoolError::Owned) {
                    queue.note(|stats| stats.disk_errors += 1);
                }
                self.log(&error, "Spans cannot be kept on disk", now);
            },
        }
    }

    /// Whether spans wait on disk, which go before those that wait in memory.
    pub(super) fn holds(&self) -> bool {
        self.spool.as_ref().is_some_and(|spool| spool.len() > 0)
    }

    /// How many spans wait on disk, and how many bytes of JSON they are, about.
    pub(super) fn len(&self) -> (usize, usize) {
        let of = |spool: &Spool| (spool.len(), spool.unread());
        let (spans, bytes) = self.spool.as_ref().map_or((0, 0), of);
        let count = |number| usize::try_from(number).unwrap_or(usize::MAX);
        (count(spans), count(bytes))
    }

    /// A batch that is on disk, without those of its spans that are there no more: the oldest give way
    /// when the quota is full. None if that is all of it.
    pub(super) fn still(&self, mut hand: Hand) -> Option<Hand> {
        let spool = self.spool.as_ref()?;
        let gone = hand.places.iter().filter(|place| !spool.has(**place));
        let gone = gone.count();
        hand.records.drain(..gone.min(hand.records.len()));
        hand.places.drain(..gone);
        (!hand.records.is_empty()).then_some(hand)
    }

    /// The oldest spans on disk; none if none can be read now.
    pub(super) fn oldest(
        &mut self,
        queue: &Queue,
        most: usize,
        bytes: usize,
        now: Instant,
    ) -> Option<Hand> {
        let read = self.spool.as_mut()?.oldest(most, bytes);
        self.book(queue, |_| {});
        match read {
            Ok(found) if found.is_empty() => None,
            Ok(found) => {
                let (records, places) = found.into_iter().unzip();
                Some(Hand { records, places })
            },
            Err(error) => {
                self.fail(&error, queue, now);
                None
            },
        }
    }

    /// Puts the hand on disk. False: it is still only in memory.
    pub(super) fn spill(&mut self, queue: &Queue, hand: &mut Hand, now: Instant) -> bool {
        if !hand.is_on_disk() {
            let Some(spool) = &mut self.spool else {
                return false;
            };
            let (places, result) = spool.append(&hand.records);
            if let Err(error) = result {
                // Some of them may be on disk now: those are struck out, the hand stays whole.
                let (_struck, _noted) = spool.done(&places);
                self.fail(&error, queue, now);
                return false;
            }
            hand.places = places;
            let count = hand.records.len();
            self.book(queue, |stats| stats.in_hand = less(stats.in_hand, count));
        }
        true
    }

    /// Puts all that waits on disk.
    pub(super) fn spill_queue(&mut self, queue: &Queue, now: Instant) {
        let (mut left, _bytes) = queue.len();
        while left > 0 {
            let Some(spool) = &mut self.spool else {
                return;
            };
            let batch = queue.take(CHUNK.min(left), CHUNK_BYTES);
            if batch.is_empty() {
                return;
            }
            left = left.saturating_sub(batch.len());
            let mut batch = dressed(batch, &self.delivery, queue);
            let (places, result) = spool.append(&batch);
            let rest = batch.split_off(places.len().min(batch.len()));
            self.book(queue, |stats| {
                stats.in_hand = less(stats.in_hand, batch.len());
            });
            if let Err(error) = result {
                queue.take_back(rest);
                self.fail(&error, queue, now);
                return;
            }
        }
    }

    /// Books how the first spans of the hand ended, and takes them out of it.
    pub(super) fn settle(
        &mut self,
        queue: &Queue,
        hand: &mut Hand,
        (count, outcome): (usize, Outcome),
        now: Instant,
    ) {
        hand.records.drain(..count.min(hand.records.len()));
        if !hand.is_on_disk() {
            return queue.settle(count, outcome);
        }
        let places: Vec<Place> = hand.places.drain(..count.min(hand.places.len())).collect();
        let Some(spool) = &mut self.spool else {
            return;
        };
        let (struck, noted) = spool.done(&places);
        self.book(queue, |stats| stats.book(struck, outcome));
        if let Err(error) = noted {
            self.fail(&error, queue, now);
        }
    }

    /// Books how the second of two spans from disk ended, and takes it out of the hand; the first stays.
    pub(super) fn settle_second(
        &mut self,
        queue: &Queue,
        hand: &mut Hand,
        outcome: Outcome,
        now: Instant,
    ) {
        let (&[first, second], Some(spool)) = (hand.places.as_slice(), &mut self.spool) else {
            return;
        };
        hand.places.truncate(1);
        hand.records.truncate(1);
        let (struck, noted) = spool.pass(first, second);
        self.book(queue, |stats| stats.book(struck, outcome));
        if let Err(error) = noted {
            self.fail(&error, queue, now);
        }
    }

    /// Shows what is on disk now, with whatever else changes at the same moment.
    fn book(&mut self, queue: &Queue, change: impl FnOnce(&mut super::Stats)) {
        let Some(spool) = &mut self.spool else {
            return;
        };
        let (waiting, news) = (spool.len(), spool.news());
        queue.note(|stats| {
            change(stats);
            stats.buffered = waiting;
            stats.dropped += news.lost;
            stats.torn += news.torn;
            stats.damaged += news.damaged;
            stats.nameless += news.nameless;
        });
    }

    fn fail(&mut self, error: &io::Error, queue: &Queue, now: Instant) {
        queue.note(|stats| stats.disk_errors += 1);
        self.log(error, "Spans cannot be moved to or from disk", now);
    }

    fn log(&mut self, error: &dyn std::error::Error, message: &'static str, now: Instant) {
        let quiet = |at: Instant| now.duration_since(at) < LOGGED_EVERY;
        if self.logged.is_some_and(quiet) {
            return;
        }
        self.logged = Some(now);
        let directory: &Path = &self.shelf.directory;
        tracing::warn!(
            processor = &*self.name,
            directory = %directory.display(),
            %error,
            "{message}"
        );
    }
}

fn less(stats: u64, count: usize) -> u64 {
    stats.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX))
}
