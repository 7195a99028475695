//! Requests a minute: not counted but spaced (GCRA), by governor. governor itself takes nothing
//! back; so its state is kept here, and what it granted to a call that is refused elsewhere is
//! taken out again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use dashmap::DashMap;
use foldhash::quality::RandomState;
use governor::{
    Quota, RateLimiter,
    clock::Reference as _,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{StateStore, keyed::ShrinkableKeyedStateStore},
};

use super::matcher::OVERFLOW;
use crate::call::refusal::Rate;

type Limiter = RateLimiter<Arc<str>, States, Told, NoOpMiddleware<Nanos>>;

/// A limiter for one rule; it outlives edits that leave the rule's identity and rate alone.
#[derive(Debug)]
pub(super) struct Requests {
    limiter: Limiter,
    states: States,
    clock: Told,
    per_minute: u32,
    /// The most values with a state of their own; beyond, they share one.
    bound: usize,
    full: AtomicBool,
    asked: AtomicU32,
    /// How far one request moves a state.
    interval: u64,
}

/// A request that was granted.
#[derive(Debug)]
#[must_use = "it counts, unless it is given back"]
pub(super) struct Taken {
    requests: Arc<Requests>,
    values: Arc<str>,
    /// From then on it may have come back by itself.
    until: u64,
    /// How many more could be taken at once, and how long until all could.
    left: u32,
    whole_in: Duration,
}

impl Taken {
    /// How the rate stood once it was taken.
    pub(super) fn stands(&self) -> (Rate, Duration) {
        let rate = Rate {
            unit: "requests",
            limit: u64::from(self.requests.per_minute),
            remaining: u64::from(self.left),
        };
        (rate, self.whole_in)
    }

    /// Makes the request never have been, unless it is so long ago that this could grant more than
    /// the rate. Whoever asked in between may have been refused for it.
    pub(super) fn give_back(self) {
        let Self {
            requests,
            values,
            until,
            ..
        } = self;
        if requests.clock.0.load(Relaxed) < until
            && let Some(mut state) = requests.states.0.get_mut(&values)
        {
            *state = state.saturating_sub(requests.interval);
        }
    }
}

/// governor's state of each of the values: when the next request would come if all were evenly
/// spaced, in nanoseconds of its clock. Each request adds one interval.
#[derive(Clone, Debug, Default)]
struct States(Arc<DashMap<Arc<str>, u64, RandomState>>);

impl StateStore for States {
    type Key = Arc<str>;

    fn measure_and_replace<T, F, E>(&self, values: &Arc<str>, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut state = match self.0.get_mut(values) {
            Some(state) => state,
            None => self.0.entry(Arc::clone(values)).or_default(),
        };
        let before = Some(*state).filter(|state| *state > 0).map(Nanos::new);
        let (result, after) = decide(before)?;
        *state = after.as_u64();
        drop(state);
        Ok(result)
    }
}

impl ShrinkableKeyedStateStore<Arc<str>> for States {
    fn retain_recent(&self, drop_below: Nanos) {
        self.0.retain(|_, state| *state > drop_below.as_u64());
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// governor's clock: shows what it was last told.
#[derive(Clone, Debug, Default)]
struct Told(Arc<AtomicU64>);

impl Told {
    fn shown(&self) -> Nanos {
        Nanos::new(self.0.load(Relaxed))
    }
}

impl governor::clock::Clock for Told {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.shown()
    }
}

impl Requests {
    /// A limiter of `per_minute` requests, which may come at once; `None` for a rate of zero.
    pub(super) fn new(per_minute: u32, bound: usize) -> Option<Self> {
        let clock = Told::default();
        let quota = Quota::per_minute(per_minute.try_into().ok()?);
        let states = States::default();
        let interval = quota.replenish_interval().as_nanos();
        Some(Self {
            limiter: RateLimiter::new(quota, states.clone(), clock.clone()),
            states,
            interval: u64::try_from(interval).unwrap_or(u64::MAX),
            clock,
            per_minute,
            bound,
            full: AtomicBool::new(false),
            asked: AtomicU32::new(0),
        })
    }

    pub(super) const fn per_minute(&self) -> u32 {
        self.per_minute
    }

    /// Takes one request, or says how long until there is one to take. `elapsed` never goes back.
    pub(super) fn take(
        self: &Arc<Self>,
        values: &Arc<str>,
        elapsed: Duration,
    ) -> Result<Taken, Duration> {
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let now = self.clock.0.fetch_max(nanos, Relaxed).max(nanos);
        // Counting the keys takes every shard's lock: not at each call.
        if self.asked.fetch_add(1, Relaxed).is_multiple_of(256) {
            self.full.store(self.limiter.len() >= self.bound, Relaxed);
        }
        let shares = self.full.load(Relaxed) && !self.states.0.contains_key(values);
        let values = if shares {
            Arc::from(OVERFLOW)
        } else {
            Arc::clone(values)
        };
        match self.limiter.check_key(&values) {
            Ok(()) => {
                let state = self.states.0.get(&values).map_or(now, |state| *state);
                let ahead = state.saturating_sub(now);
                let used = u32::try_from(ahead.div_ceil(self.interval.max(1)));
                Ok(Taken {
                    requests: Arc::clone(self),
                    left: self.per_minute.saturating_sub(used.unwrap_or(u32::MAX)),
                    whole_in: Duration::from_nanos(ahead),
                    values,
                    until: now.saturating_add(self.interval),
                })
            },
            Err(not_until) => {
                let free = not_until.earliest_possible();
                let wait = free.duration_since(self.clock.shown());
                Err(Duration::from_nanos(wait.as_u64()))
            },
        }
    }

    /// Forgets values whose state is as good as new. To be called every minute or so.
    pub(super) fn tidy(&self) {
        self.limiter.retain_recent();
        self.full.store(self.limiter.len() >= self.bound, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(per_minute: u32) -> Arc<Requests> {
        Arc::new(Requests::new(per_minute, 100).unwrap())
    }

    fn took(requests: &Arc<Requests>, values: &str, at: u64) -> Result<(), Duration> {
        let taken = requests.take(&Arc::from(values), Duration::from_secs(at));
        taken.map(|_counts| ())
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_minute_s_worth_may_come_at_once_and_then_one_by_one() {
        let requests = requests(60);
        for _ in 0..60 {
            assert_eq!(took(&requests, "user=1", 100), Ok(()));
        }
        assert_eq!(took(&requests, "user=1", 100), Err(SECOND));
        assert_eq!(took(&requests, "user=2", 100), Ok(()));
        assert_eq!(took(&requests, "user=1", 101), Ok(()));
        assert_eq!(took(&requests, "user=1", 90), Err(SECOND));
    }

    #[test]
    fn what_is_given_back_can_be_taken_once_more_and_not_twice() {
        let requests = requests(60);
        let take = |at| requests.take(&Arc::from("user=1"), Duration::from_secs(at));
        for round in 0..1_000 {
            take(100 + round % 7).unwrap().give_back();
        }
        let mut all: Vec<_> = (0..60).map(|_| take(107).unwrap()).collect();
        assert!(take(107).is_err());
        all.pop().unwrap().give_back();
        assert_eq!(took(&requests, "user=1", 107), Ok(()));
        assert_eq!(took(&requests, "user=1", 107), Err(SECOND));
        // By then it has come back by itself.
        let taken = take(200).unwrap();
        for _ in 0..60 {
            assert_eq!(took(&requests, "user=1", 500), Ok(()));
        }
        taken.give_back();
        assert_eq!(took(&requests, "user=1", 500), Err(SECOND));
    }

    #[test]
    fn values_are_bounded_and_forgotten() {
        let requests = Arc::new(Requests::new(60, 10).unwrap());
        for value in 0..1_000 {
            let _granted = took(&requests, &format!("user={value}"), 0);
        }
        assert!(requests.limiter.len() <= 257);
        // Those with a state of their own keep it; others find what they share used up.
        for _ in 1..60 {
            assert_eq!(took(&requests, "user=0", 0), Ok(()));
        }
        assert_eq!(took(&requests, "user=0", 0), Err(SECOND));
        assert_eq!(took(&requests, "user=999", 0), Err(SECOND));
        requests.clock.0.store(3_600_000_000_000, Relaxed);
        requests.tidy();
        assert_eq!(requests.limiter.len(), 0);
    }
}
