//! What conversations have done so far that providers keep: a request that continues one carries only
//! what is new. Bounded in memory and age.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher as _, Hash},
    time::Duration,
};

use foldhash::quality::RandomState;
use parking_lot::Mutex;

use crate::{base::clock::Instant, call::steps::Steps};

/// The most memory that is taken, in bytes; beyond, conversations are forgotten: first those that go
/// on under another name, then the ones that were added to least lately.
pub const MAX_CONVERSATION_BYTES: usize = 32 << 20;

/// How long a conversation is known after it was added to.
const AGE: Duration = Duration::from_hours(24);

/// What each takes besides its steps, in bytes: its places in the tables.
const OVERHEAD: usize = 256;

/// Conversations, each under a name: who holds it with whom, and its id.
#[derive(Debug, Default)]
pub struct Conversations {
    hasher: RandomState,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    known: HashMap<u64, Known, RandomState>,
    /// Which are forgotten first.
    order: BTreeMap<Rank, u64>,
    next: u64,
    bytes: usize,
    forgotten: u64,
}

/// Whether it is likely to go on, and how late it was added to.
type Rank = (bool, u64);

#[derive(Debug)]
struct Known {
    steps: Steps,
    at: Instant,
    rank: Rank,
}

impl Conversations {
    /// What was done in a conversation; nothing, if it is not known.
    pub fn recall(&self, name: impl Hash, now: Instant) -> Steps {
        let key = self.hasher.hash_one(name);
        self.book.lock().recall(key, now)
    }

    /// From now on this was done in the conversation of that name. `before`: the one that it
    /// continues, which may still be continued otherwise but most likely is not.
    pub fn keep<N: Hash>(&self, name: N, before: Option<N>, steps: Steps, now: Instant) {
        let key = self.hasher.hash_one(name);
        let before = before.map(|before| self.hasher.hash_one(before));
        let mut book = self.book.lock();
        if let Some(before) = before.filter(|before| *before != key) {
            book.continued(before);
        }
        book.keep(key, steps, now);
    }

    /// How much memory they take, in bytes.
    pub fn bytes(&self) -> usize {
        self.book.lock().bytes
    }

    /// How many were forgotten that may have gone on.
    pub fn forgotten(&self) -> u64 {
        self.book.lock().forgotten
    }
}

impl Known {
    fn bytes(&self) -> usize {
        self.steps.bytes() + OVERHEAD
    }

    fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) >= AGE
    }
}

impl Book {
    fn recall(&self, key: u64, now: Instant) -> Steps {
        let known = self.known.get(&key).filter(|known| !known.is_old(now));
        known.map(|known| known.steps.clone()).unwrap_or_default()
    }

    fn keep(&mut self, key: u64, mut steps: Steps, now: Instant) {
        self.take(key);
        // What is counted is what is taken.
        steps.shrink_to_fit();
        let rank = (true, self.number());
        let known = Known {
            steps,
            at: now,
            rank,
        };
        self.bytes += known.bytes();
        self.order.insert(rank, key);
        self.known.insert(key, known);
        self.sweep(now);
    }

    /// It goes on under another name.
    fn continued(&mut self, key: u64) {
        let rank = (false, self.number());
        if let Some(known) = self.known.get_mut(&key) {
            self.order.remove(&known.rank);
            known.rank = rank;
            self.order.insert(rank, key);
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn take(&mut self, key: u64) -> Option<Known> {
        let known = self.known.remove(&key)?;
        self.order.remove(&known.rank);
        self.bytes = self.bytes.saturating_sub(known.bytes());
        Some(known)
    }

    /// Lets go of what is too old or too much.
    fn sweep(&mut self, now: Instant) {
        while let Some((&(goes_on, _), &key)) = self.order.first_key_value() {
            let is_old = self.known.get(&key).is_none_or(|known| known.is_old(now));
            if !is_old && self.bytes <= MAX_CONVERSATION_BYTES {
                return;
            }
            self.forgotten += u64::from(goes_on && !is_old);
            self.take(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::clock::{Clock as _, SystemClock},
        call::steps::Step,
    };

    fn steps(what: u64, name: &str) -> Steps {
        let mut steps = Steps::default();
        steps.push(Step {
            tool: Some(name.into()),
            what,
            id: None,
            result: None,
        });
        steps
    }

    #[test]
    fn a_conversation_is_known_by_its_name_for_a_day() {
        let (all, now) = (Conversations::default(), SystemClock.mono());
        all.keep(("a", "1"), None, steps(1, "x"), now);
        all.keep(("b", "1"), None, steps(2, "x"), now);
        assert_eq!(all.recall(("a", "1"), now), steps(1, "x"));
        assert_eq!(all.recall(("b", "1"), now), steps(2, "x"));
        assert!(all.recall(("a", "2"), now).is_empty());
        assert!(all.recall(("a", "1"), now + AGE).is_empty());
        let held = all.bytes();
        all.keep(("a", "1"), None, steps(3, "x"), now + AGE);
        assert_eq!(all.recall(("a", "1"), now + AGE), steps(3, "x"));
        assert_eq!((all.bytes(), all.forgotten()), (held / 2, 0));
    }

    #[test]
    fn what_goes_on_under_another_name_is_forgotten_first_and_can_be_continued_again_until_then() {
        let (all, now) = (Conversations::default(), SystemClock.mono());
        let large = "x".repeat(1 << 20);
        all.keep("first", None, steps(1, &large), now);
        all.keep("second", None, steps(2, &large), now);
        all.keep("third", Some("second"), steps(3, &large), now);
        assert_eq!(all.recall("second", now), steps(2, &large));
        let mut others = 0;
        while !all.recall("second", now).is_empty() {
            all.keep(others.to_string().as_str(), None, steps(4, &large), now);
            others += 1;
        }
        assert_eq!(all.forgotten(), 0);
        assert_eq!(all.recall("first", now), steps(1, &large));
        all.keep("last", None, steps(5, &large), now);
        assert!(all.recall("first", now).is_empty());
        assert_eq!(all.forgotten(), 1);
        assert!((1 << 20..=MAX_CONVERSATION_BYTES).contains(&all.bytes()));
    }
}
