//! Work that is accepted now and answered later: what it holds stays reserved under the response's
//! id until a read of that response shows its end. And reads that repeat: a response is billed
//! once, however often it is read.

use std::{
    collections::{HashSet, VecDeque, hash_map::RandomState},
    hash::BuildHasher as _,
    time::Duration,
};

use dashmap::DashMap;
use parking_lot::Mutex;

use crate::{base::clock::Timestamp, policy::Hold};

/// Responses that are known to be billed; the oldest are forgotten first.
const MAX_BILLED: usize = 100_000;

/// Responses whose end is awaited; beyond, the hold is charged at once.
const MAX_KEPT: usize = 10_000;

/// How long the end of a response is awaited; then its whole reservation is charged.
const PATIENCE: Duration = Duration::from_hours(24);

/// Responses by provider and id.
#[derive(Debug, Default)]
pub(super) struct Later {
    kept: DashMap<(Box<str>, Box<str>), Kept>,
    billed: Mutex<Billed>,
}

/// Hashes of what was billed, in a set and in order.
#[derive(Debug, Default)]
struct Billed {
    known: HashSet<u64>,
    order: VecDeque<u64>,
    hasher: RandomState,
}

/// What an accepted call holds.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) hold: Hold,
    pub(super) since: Timestamp,
}

impl Later {
    /// Whether responses with such an id are stored by their provider (`OpenAI`'s Responses).
    pub(super) fn may_be_fetched(id: &str) -> bool {
        id.starts_with("resp")
    }

    /// Keeps a hold until the end of its response is seen. With too many of them, or without an id,
    /// it is charged in full at once, as it is when it is dropped.
    pub(super) fn keep(&self, provider: &str, id: Option<&str>, kept: Kept) {
        if let Some(id) = id
            && self.kept.len() < MAX_KEPT
        {
            self.kept.insert((Box::from(provider), Box::from(id)), kept);
        }
    }

    /// What a response holds, now that its end was seen.
    pub(super) fn take(&self, provider: &str, id: &str) -> Option<Kept> {
        if self.kept.is_empty() {
            return None;
        }
        self.kept
            .remove(&(Box::from(provider), Box::from(id)))
            .map(|(_, kept)| kept)
    }

    /// Whether the response has not been billed before; from now on it has.
    pub(super) fn bill_once(&self, provider: &str, id: &str) -> bool {
        let mut billed = self.billed.lock();
        let key = billed.hasher.hash_one((provider, id));
        if !billed.known.insert(key) {
            return false;
        }
        billed.order.push_back(key);
        if billed.order.len() > MAX_BILLED
            && let Some(oldest) = billed.order.pop_front()
        {
            billed.known.remove(&oldest);
        }
        true
    }

    /// Charges in full what has been awaited for too long.
    pub(super) fn sweep(&self, now: Timestamp) {
        self.kept.retain(|_, kept| now.since(kept.since) < PATIENCE);
    }

    /// Responses whose end is awaited.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_billed_once_and_the_oldest_are_forgotten() {
        let later = Later::default();
        assert!(later.bill_once("openai", "resp_1"));
        assert!(!later.bill_once("openai", "resp_1"));
        assert!(later.bill_once("azure", "resp_1"));
        for n in 0..MAX_BILLED {
            later.bill_once("openai", &n.to_string());
        }
        assert!(later.bill_once("openai", "resp_1"));
    }
}
