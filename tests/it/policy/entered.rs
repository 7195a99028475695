//! A call that no rule let in is in the journal from its admission to its end, or not at all.

use std::{
    ops::RangeInclusive,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use serde_json::json;
use tollgate::{
    call::labels::Labels,
    policy::{CounterName, Durable, Entry, JournalDown, Position, Recalled, Recalling},
};

use super::*;

/// Takes entries in, and cannot say of any that it is kept.
#[derive(Debug, Default)]
struct Unkept {
    admitted: AtomicUsize,
    settled: AtomicUsize,
}

impl Journal for Unkept {
    fn write(&self, entry: &Entry<'_>) -> Result<Position, JournalDown> {
        self.note(entry);
        Ok(Position::default())
    }

    fn keep(&self, _position: Position) -> Result<(), JournalDown> {
        Err(JournalDown)
    }

    fn note(&self, entry: &Entry<'_>) {
        match entry {
            Entry::Admitted { .. } => self.admitted.fetch_add(1, Relaxed),
            Entry::Settled { .. } => self.settled.fetch_add(1, Relaxed),
            _ => 0,
        };
    }

    fn must_read(&self, counter: &CounterName, cells: &RangeInclusive<Timestamp>) -> bool {
        Memory.must_read(counter, cells)
    }

    fn recalling(
        &self,
        asked: Vec<(CounterName, RangeInclusive<Timestamp>)>,
    ) -> Recalling<Vec<Recalled>> {
        Memory.recalling(asked)
    }

    fn recall(
        &self,
        counter: &CounterName,
        cells: RangeInclusive<Timestamp>,
    ) -> Result<Recalled, JournalDown> {
        Memory.recall(counter, cells)
    }

    fn durable(&self, position: Position) -> Option<Durable> {
        Memory.durable(position)
    }

    fn caught_up(&self) -> bool {
        false
    }
}

#[test]
fn what_the_journal_has_taken_in_and_may_not_keep_is_ended_there() {
    let journal = Arc::new(Unkept::default());
    let kept: Arc<dyn Journal> = Arc::<Unkept>::clone(&journal);
    let engine = engine_over(json!({"daily": 1}), kept);
    let nobody = Labels::default();
    let subject = subject(&nobody);
    let matched = engine.matched(&subject, NOW).unwrap();
    assert!(engine.enter(matched, &subject, NOW).is_err());
    assert_eq!(journal.admitted.load(Relaxed), 1);
    assert_eq!(journal.settled.load(Relaxed), 1);
    let stands = engine.purse().standings(NOW);
    assert!(stands.iter().all(|one| one.reserved == 0), "{stands:?}");
}
