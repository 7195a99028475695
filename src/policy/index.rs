//! Where a counter is: of each its place alone, found by a hash of what names it. In parts, so that
//! a call waits for one part to grow, not for all of a million.

use std::hash::BuildHasher as _;

use foldhash::quality::RandomState;
use hashbrown::HashTable;

use super::{
    counter::{Counter, Unit},
    rule::Rule,
    slots::Slots,
    table::Claim,
};
use crate::base::clock::Timestamp;

const PARTS: usize = 64;

/// Places of counters.
#[derive(Debug)]
pub(super) struct Index {
    parts: Vec<HashTable<u32>>,
    /// Keyed at random, so that nobody can choose values that collide.
    hasher: RandomState,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            parts: (0..PARTS).map(|_| HashTable::new()).collect(),
            hasher: RandomState::default(),
        }
    }
}

impl Index {
    /// The place of the claim's counter, as `is_its` knows it.
    pub(super) fn find(&self, claim: &Claim, is_its: impl Fn(u32) -> bool) -> Option<u32> {
        let hash =
            (self.hasher).hash_one(name(&claim.rule, claim.unit, claim.window, &claim.values));
        let found = self
            .parts
            .get(part(hash))?
            .find(hash, |place| is_its(*place));
        found.copied()
    }

    /// Notes that a counter of `counters` is at `place`.
    pub(super) fn insert(&mut self, place: u32, counters: &Slots<Counter>) {
        let hasher = &self.hasher;
        let hash = |place: &u32| {
            counters.get(*place).map_or(0, |counter| {
                hasher.hash_one(name(
                    &counter.rule,
                    counter.unit,
                    counter.window,
                    &counter.values,
                ))
            })
        };
        let own = hash(&place);
        if let Some(part) = self.parts.get_mut(part(own)) {
            part.insert_unique(own, place, hash);
        }
    }

    /// Forgets the places that `stays` does not want.
    pub(super) fn retain(&mut self, mut stays: impl FnMut(u32) -> bool) {
        for part in &mut self.parts {
            part.retain(|place| stays(*place));
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(HashTable::len).sum()
    }
}

/// What names a counter.
fn name<'a>(
    rule: &'a Rule,
    unit: Unit,
    window: Timestamp,
    values: &'a str,
) -> (&'a str, Unit, Timestamp, &'a str) {
    (&rule.identity, unit, window, values)
}

/// The part for a hash, by bits that the part itself does not sort by.
fn part(hash: u64) -> usize {
    usize::try_from(hash >> 32).unwrap_or(0) % PARTS
}
