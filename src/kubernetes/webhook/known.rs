//! Namespaces and `ConfigMap`s, as the API server told of them a moment ago.
//!
//! Bounded by [`MOST`] and [`MOST_BYTES`]: whatever was not asked for longest goes. Who asks for the
//! same at the same time waits for one question. While the server does not answer, what it said
//! before holds for [`Terms::stale`].

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Mutex as Turn;

use super::{
    api::{Api, ApiError, PATIENCE},
    metrics::{Kept, Metrics},
};
use crate::base::clock::{Clock, Instant};

/// The most objects that are kept.
const MOST: usize = 1_024;

/// The most bytes of them, as JSON.
const MOST_BYTES: usize = 32 << 20;

/// The longest that an answer is waited for where one that it gave before would do.
const BRIEFLY: Duration = Duration::from_secs(1);

/// How long an answer holds.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// What an object is.
    pub fresh: Duration,
    /// That there is none: short, for whoever has just made it.
    pub missing: Duration,
    /// That the server does not answer: nobody waits for that again at once.
    pub failed: Duration,
    /// How long an object is used when the server does not answer.
    pub stale: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            fresh: Duration::from_secs(15),
            missing: Duration::from_secs(2),
            failed: Duration::from_secs(1),
            stale: Duration::from_mins(10),
        }
    }
}

/// Objects, by their paths.
pub(super) struct Known {
    api: Arc<Api>,
    clock: Arc<dyn Clock>,
    terms: Terms,
    slots: Mutex<Slots>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Slots {
    by_path: HashMap<Box<str>, Slot>,
    /// Counts questions, to tell which was asked last.
    asked: u64,
    bytes: usize,
}

#[derive(Default)]
struct Slot {
    found: Arc<Turn<Option<Found>>>,
    asked: u64,
    bytes: usize,
}

#[derive(Clone)]
struct Found {
    at: Instant,
    /// `None`: there is none.
    what: Result<Option<Arc<Value>>, ApiError>,
    /// What there was when the server answered last, and when.
    before: Option<Last>,
}

/// What there was, and when.
type Last = (Instant, Arc<Value>);

impl Known {
    pub(super) fn new(
        api: Arc<Api>,
        clock: Arc<dyn Clock>,
        terms: Terms,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            api,
            clock,
            terms,
            slots: Mutex::default(),
            metrics,
        }
    }

    /// A namespace, for a review that has so long; none if there is none of that name.
    pub(super) async fn namespace(
        &self,
        name: &str,
        within: Duration,
    ) -> Result<Option<Arc<Value>>, ApiError> {
        let path = format!("/api/v1/namespaces/{name}");
        self.get(&path, within).await
    }

    /// A `ConfigMap`, for a review that has so long; none if there is none of that name.
    pub(super) async fn config_map(
        &self,
        namespace: &str,
        name: &str,
        within: Duration,
    ) -> Result<Option<Arc<Value>>, ApiError> {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}");
        self.get(&path, within).await
    }

    async fn get(&self, path: &str, within: Duration) -> Result<Option<Arc<Value>>, ApiError> {
        let slot = self.slots.lock().slot(path);
        // Others who ask for the same wait here.
        let mut found = slot.lock().await;
        let now = self.clock.mono();
        if let Some(found) = &*found
            && now.duration_since(found.at) < self.holds(&found.what)
        {
            self.metrics.kept(Kept::Found);
            return self.usable(path, found, now);
        }
        let before = found.as_ref().and_then(Found::last);
        // A review asks twice. That the server does not answer has to be known, and kept for others,
        // while there is time for both.
        let is_there = before
            .as_ref()
            .is_some_and(|last| self.is_usable(last, now));
        let time = if is_there {
            BRIEFLY.min(within / 4)
        } else {
            PATIENCE.min(within / 3)
        };
        let what = match self.api.get_within(path, time).await {
            Ok(value) => Ok(Some(Arc::new(value))),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        };
        self.metrics.kept(Kept::Fetched);
        let bytes = what.as_ref().ok().and_then(Option::as_ref);
        let bytes = bytes.map_or(0, |value| value.to_string().len());
        let now = self.clock.mono();
        let new = Found {
            at: now,
            what,
            before,
        };
        let answer = self.usable(path, &new, now);
        *found = Some(new);
        drop(found);
        let evicted = self.slots.lock().weigh(path, bytes);
        (0..evicted).for_each(|_| self.metrics.kept(Kept::Evicted));
        answer
    }

    const fn holds(&self, what: &Result<Option<Arc<Value>>, ApiError>) -> Duration {
        match what {
            Ok(Some(_)) => self.terms.fresh,
            Ok(None) => self.terms.missing,
            Err(_) => self.terms.failed,
        }
    }

    /// Whether what was there before may still be used if the server does not answer.
    fn is_usable(&self, last: &Last, now: Instant) -> bool {
        now.duration_since(last.0) < self.terms.stale
    }

    /// What was found, or what was there before if the server does not answer. That we may not know
    /// is an answer.
    fn usable(
        &self,
        path: &str,
        found: &Found,
        now: Instant,
    ) -> Result<Option<Arc<Value>>, ApiError> {
        match (&found.what, &found.before) {
            (Err(error), Some(last)) if !error.is_denied() && self.is_usable(last, now) => {
                self.metrics.kept(Kept::Stale);
                tracing::warn!(%error, path, "The API server does not answer: what it said before holds");
                Ok(Some(Arc::clone(&last.1)))
            },
            (what, _) => what.clone(),
        }
    }
}

impl Found {
    /// What there was when the server answered last.
    fn last(&self) -> Option<Last> {
        match &self.what {
            Ok(Some(value)) => Some((self.at, Arc::clone(value))),
            Ok(None) => None,
            Err(_) => self.before.clone(),
        }
    }
}

impl Slots {
    fn slot(&mut self, path: &str) -> Arc<Turn<Option<Found>>> {
        self.asked += 1;
        let slot = self.by_path.entry(Box::from(path)).or_default();
        slot.asked = self.asked;
        Arc::clone(&slot.found)
    }

    /// Notes how large an object is; how many others had to go.
    fn weigh(&mut self, path: &str, bytes: usize) -> usize {
        if let Some(slot) = self.by_path.get_mut(path) {
            self.bytes = self.bytes - slot.bytes + bytes;
            slot.bytes = bytes;
        }
        let mut evicted = 0;
        while self.by_path.len() > MOST || (self.bytes > MOST_BYTES && self.by_path.len() > 1) {
            let oldest = self.by_path.iter().min_by_key(|(_, slot)| slot.asked);
            let Some(oldest) = oldest.map(|(path, _)| path.clone()) else {
                break;
            };
            if let Some(slot) = self.by_path.remove(&oldest) {
                self.bytes -= slot.bytes;
                evicted += 1;
            }
        }
        evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_asked_for_longest_goes() {
        let mut slots = Slots::default();
        for number in 0..MOST {
            let path = format!("/{number}");
            slots.slot(&path);
            assert_eq!(slots.weigh(&path, 10), 0);
        }
        slots.slot("/0");
        slots.slot("/new");
        assert_eq!(slots.weigh("/new", 10), 1);
        assert!(slots.by_path.contains_key("/0"));
        assert!(!slots.by_path.contains_key("/1"));
        assert_eq!(slots.bytes, MOST * 10);
    }

    #[test]
    fn large_objects_push_out_others_but_not_themselves() {
        let mut slots = Slots::default();
        slots.slot("/a");
        slots.weigh("/a", 10);
        slots.slot("/b");
        assert_eq!(slots.weigh("/b", MOST_BYTES + 1), 1);
        assert_eq!(slots.bytes, MOST_BYTES + 1);
        // Smaller again.
        assert_eq!(slots.weigh("/b", 5), 0);
        assert_eq!(slots.bytes, 5);
    }
}
