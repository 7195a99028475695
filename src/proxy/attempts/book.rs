//! The attempts that further ones may follow, bounded in number and age.

use std::{collections::BTreeMap, time::Duration};

use crate::base::{clock::Instant, id::RequestId};

/// The most attempts that are known; beyond, the oldest that ended well is forgotten, else one that
/// failed, else one under way.
pub(in crate::proxy) const MAX_KNOWN: usize = 16_384;

/// How long after its end a call can be followed by a further attempt. Clients wait a minute at
/// most, unless they are told to wait longer.
pub(super) const WINDOW: Duration = Duration::from_mins(2);

/// How many of each sort that are too old are forgotten whenever a call begins.
const SWEEP: usize = 4;

/// How many calls alike are looked at for the one that a further attempt follows.
const MOST_ALIKE: usize = 64;

/// How an attempt stands; those that are forgotten first in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Done,
    Failed,
    UnderWay,
}

/// What a call says of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is a further attempt: it has the same key, or counts.
    Further,
    /// Nothing; it is a further attempt of one that failed.
    Body,
    /// Nothing, and it has no body: to ask for a state again is no further attempt.
    Nothing,
}

impl Claim {
    /// How what it follows may stand, the likeliest first.
    const fn follows(self) -> &'static [Standing] {
        match self {
            Self::Further => &[Standing::Failed, Standing::UnderWay, Standing::Done],
            Self::Body => &[Standing::Failed],
            Self::Nothing => &[],
        }
    }
}

/// An attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// The request that began the call.
    pub(super) first: RequestId,
    /// 1 for a first attempt.
    pub(super) attempt: u32,
    /// When it began, or ended.
    pub(super) at: Instant,
}

/// Where an attempt under way is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Place {
    key: u64,
    number: u64,
}

/// Attempts that none has followed yet. Their numbers rise in the order in which they came to stand
/// as they do.
#[derive(Debug, Default)]
pub(super) struct Book {
    calls: BTreeMap<(u64, Standing, u64), Known>,
    /// Their keys and times, those that are forgotten first in front.
    order: BTreeMap<(Standing, u64), (u64, Instant)>,
    next: u64,
    forgotten: u64,
}

impl Book {
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    /// How many were forgotten before their time, those aside that ended well.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// A call begins, which says that it is attempt `new.attempt`; returns it as the attempt that it
    /// is.
    pub(super) fn begin(&mut self, key: u64, claim: Claim, new: Known) -> (Place, Known) {
        self.sweep(new.at);
        let begun = self.follow(key, claim, &new).map_or(new, |before| Known {
            first: before.first,
            attempt: new.attempt.max(before.attempt.saturating_add(1)),
            ..new
        });
        let number = self.insert(key, Standing::UnderWay, begun);
        (Place { key, number }, begun)
    }

    /// A call ends. One that was followed meanwhile, or forgotten, is not there any more.
    pub(super) fn end(&mut self, Place { key, number }: Place, failed: bool, now: Instant) {
        if let Some(known) = self.remove(key, Standing::UnderWay, number) {
            let standing = if failed {
                Standing::Failed
            } else {
                Standing::Done
            };
            self.insert(key, standing, Known { at: now, ..known });
        }
    }

    /// Takes out the attempt that a new one follows: of several, the one that it counts from, else
    /// the oldest. If there is none, the new one is a first attempt, and further ones will be of it
    /// and not of those alike that have ended.
    fn follow(&mut self, key: u64, claim: Claim, new: &Known) -> Option<Known> {
        // The usual case, in which one look is enough.
        let all = (key, Standing::Done, 0)..=(key, Standing::UnderWay, u64::MAX);
        self.calls.range(all).next()?;
        for standing in claim.follows() {
            let open = |known: &Known| *standing == Standing::UnderWay || !is_old(known.at, new.at);
            let alike = self.alike(key, *standing).take(MOST_ALIKE);
            let found = alike
                .filter(|(_, known)| open(known))
                .min_by_key(|(number, known)| {
                    (known.attempt.saturating_add(1) != new.attempt, *number)
                });
            if let Some((number, _)) = found {
                return self.remove(key, *standing, number);
            }
        }
        for standing in [Standing::Failed, Standing::Done] {
            while let Some(number) = self.oldest(key, standing) {
                self.remove(key, standing, number);
            }
        }
        None
    }

    fn oldest(&self, key: u64, standing: Standing) -> Option<u64> {
        self.alike(key, standing).next().map(|(number, _)| number)
    }

    fn alike(&self, key: u64, standing: Standing) -> impl Iterator<Item = (u64, Known)> {
        let places = (key, standing, 0)..=(key, standing, u64::MAX);
        let alike = self.calls.range(places);
        alike.map(|((_, _, number), known)| (*number, *known))
    }

    fn insert(&mut self, key: u64, standing: Standing, known: Known) -> u64 {
        if self.calls.len() >= MAX_KNOWN
            && let Some((&(standing, number), &(key, _))) = self.order.first_key_value()
        {
            self.remove(key, standing, number);
            self.forgotten += u64::from(standing != Standing::Done);
        }
        let number = self.next;
        self.next += 1;
        self.order.insert((standing, number), (key, known.at));
        self.calls.insert((key, standing, number), known);
        number
    }

    fn remove(&mut self, key: u64, standing: Standing, number: u64) -> Option<Known> {
        let known = self.calls.remove(&(key, standing, number))?;
        self.order.remove(&(standing, number));
        Some(known)
    }

    /// Lets go of some that ended too long ago.
    fn sweep(&mut self, now: Instant) {
        for standing in [Standing::Done, Standing::Failed] {
            for _ in 0..SWEEP {
                let mut sort = self.order.range((standing, 0)..=(standing, u64::MAX));
                match sort.next() {
                    Some((&(_, number), &(key, at))) if is_old(at, now) => {
                        self.remove(key, standing, number);
                    },
                    _ => break,
                }
            }
        }
    }

    /// Whether both maps have the same attempts.
    #[cfg(test)]
    pub(super) fn is_sound(&self) -> bool {
        let is_known = |((standing, number), (key, _)): (&(Standing, u64), &(u64, Instant))| {
            self.calls.contains_key(&(*key, *standing, *number))
        };
        self.order.len() == self.calls.len() && self.order.iter().all(is_known)
    }
}

fn is_old(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) >= WINDOW
}
