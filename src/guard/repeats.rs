//! How often something came lately, for many things: bounded in number and age.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{BuildHasher as _, Hash},
    time::Duration,
};

use foldhash::quality::RandomState;
use parking_lot::Mutex;

use crate::base::clock::Instant;

/// The most things that are counted; beyond, what came least lately is forgotten.
pub const MAX_REPEATS: usize = 16_384;

/// How often each came.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    hasher: RandomState,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    times: HashMap<u64, Times, RandomState>,
    /// Which came least lately, first.
    order: BTreeMap<u64, u64>,
    next: u64,
    forgotten: u64,
}

/// When one came, and its place in the order.
#[derive(Debug, Default)]
struct Times {
    at: VecDeque<Instant>,
    number: u64,
    /// Until when the last counts.
    until: Option<Instant>,
}

impl Repeats {
    /// It comes once more. Returns how often it came `within` that time, this one included; no higher
    /// than `most`.
    pub(super) fn count(&self, what: impl Hash, most: u32, within: Duration, now: Instant) -> u32 {
        if most == 0 {
            return 0;
        }
        let key = self.hasher.hash_one(what);
        self.seen.lock().count(key, most, within, now)
    }

    /// How often it came `within` that time.
    pub(super) fn known(&self, what: impl Hash, within: Duration, now: Instant) -> u32 {
        let key = self.hasher.hash_one(what);
        self.seen.lock().known(key, within, now)
    }

    /// How many are known.
    pub(super) fn len(&self) -> usize {
        self.seen.lock().times.len()
    }

    /// How many were forgotten before their time.
    pub(super) fn forgotten(&self) -> u64 {
        self.seen.lock().forgotten
    }
}

impl Seen {
    fn count(&mut self, key: u64, most: u32, within: Duration, now: Instant) -> u32 {
        let mut times = self.times.remove(&key).unwrap_or_default();
        self.order.remove(&times.number);
        self.sweep(now);
        times.at.push_back(now);
        let is_old = |at: &Instant| now.saturating_duration_since(*at) >= within;
        let bound = usize::try_from(most).unwrap_or(usize::MAX);
        while times.at.len() > bound || times.at.front().is_some_and(is_old) {
            times.at.pop_front();
        }
        let count = u32::try_from(times.at.len()).unwrap_or(most);
        self.next += 1;
        times.number = self.next;
        times.until = Some(now + within);
        self.order.insert(self.next, key);
        self.times.insert(key, times);
        count
    }

    fn known(&self, key: u64, within: Duration, now: Instant) -> u32 {
        let is_new = |at: &&Instant| now.saturating_duration_since(**at) < within;
        let times = self.times.get(&key);
        let count = times.map_or(0, |times| times.at.iter().filter(is_new).count());
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Lets go of some that do not count any more, and of one if there is no room.
    fn sweep(&mut self, now: Instant) {
        for _ in 0..4 {
            let Some((&number, &key)) = self.order.first_key_value() else {
                return;
            };
            let until = self.times.get(&key).and_then(|times| times.until);
            let is_over = until.is_none_or(|until| until <= now);
            let is_full = self.times.len() >= MAX_REPEATS;
            if !is_over && !is_full {
                return;
            }
            self.forgotten += u64::from(!is_over);
            self.order.remove(&number);
            self.times.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{Clock as _, SystemClock};

    #[test]
    fn what_came_lately_is_counted_and_no_higher_than_asked() {
        let (repeats, mut now) = (Repeats::default(), SystemClock.mono());
        let minute = Duration::from_mins(1);
        let mut count = |what, later: Duration| {
            now += later;
            repeats.count(what, 4, minute, now)
        };
        let counts = [0; 6].map(|_| count("a", Duration::from_secs(1)));
        assert_eq!(counts, [1, 2, 3, 4, 4, 4]);
        assert_eq!(count("b", Duration::ZERO), 1);
        assert_eq!(count("a", Duration::from_secs(58)), 3);
        assert_eq!(count("a", minute), 1);
        assert_eq!(repeats.count("c", 0, minute, now), 0);
        let known = |what, later| repeats.known(what, minute, now + later);
        assert_eq!((known("a", Duration::ZERO), known("a", minute)), (1, 0));
        assert_eq!(known("c", Duration::ZERO), 0);
    }

    #[test]
    fn no_more_are_known_than_there_is_room_for() {
        let (repeats, now) = (Repeats::default(), SystemClock.mono());
        let minute = Duration::from_mins(1);
        for what in 0..MAX_REPEATS + 10 {
            repeats.count(what, 4, minute, now);
        }
        assert_eq!((repeats.len(), repeats.forgotten()), (MAX_REPEATS, 10));
        assert_eq!(repeats.count(MAX_REPEATS, 4, minute, now), 2);
        // What does not count any more makes room, uncounted.
        for what in 0..10 {
            repeats.count(what, 4, minute, now + minute);
        }
        assert_eq!(repeats.forgotten(), 10);
        assert!(repeats.len() < MAX_REPEATS);
    }
}
