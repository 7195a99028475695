//! A journal that keeps nothing: budgets then reach no further than this process.

use std::ops::RangeInclusive;

use crate::{
    base::clock::Timestamp,
    policy::{CounterName, Durable, Entry, Journal, JournalDown, Position, Recalled, Recalling},
};

/// Keeps nothing. For runs without a data directory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory;

impl Journal for Memory {
    fn write(&self, _entry: &Entry<'_>) -> Result<Position, JournalDown> {
        Ok(Position::default())
    }

    fn note(&self, _entry: &Entry<'_>) {}

    fn must_read(&self, _counter: &CounterName, _cells: &RangeInclusive<Timestamp>) -> bool {
        false
    }

    fn recalling(
        &self,
        asked: Vec<(CounterName, RangeInclusive<Timestamp>)>,
    ) -> Recalling<Vec<Recalled>> {
        let nothing = asked.iter().map(|_| Recalled::default()).collect();
        Box::pin(std::future::ready(Ok(nothing)))
    }

    fn recall(
        &self,
        _counter: &CounterName,
        _cells: RangeInclusive<Timestamp>,
    ) -> Result<Recalled, JournalDown> {
        Ok(Recalled::default())
    }

    fn durable(&self, _position: Position) -> Option<Durable> {
        None
    }

    /// Never: what leaves the purse would be forgotten.
    fn caught_up(&self) -> bool {
        false
    }
}
