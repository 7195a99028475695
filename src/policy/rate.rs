//! Requests a minute: not counted but spaced (GCRA), by governor. Asked last, since what it has
//! granted cannot be given back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter, clock::Reference as _, middleware::NoOpMiddleware, nanos::Nanos,
    state::keyed::DashMapStateStore,
};

use super::matcher::OVERFLOW;

type Limiter = RateLimiter<Arc<str>, DashMapStateStore<Arc<str>>, Told, NoOpMiddleware<Nanos>>;

/// A limiter for one rule; it outlives edits that leave the rule's identity and rate alone.
#[derive(Debug)]
pub(super) struct Requests {
    limiter: Limiter,
    clock: Told,
    per_minute: u32,
    /// The most values with a state of their own; beyond, they share one.
    bound: usize,
    full: AtomicBool,
    asked: AtomicU32,
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
        Some(Self {
            limiter: RateLimiter::dashmap_with_clock(quota, clock.clone()),
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
    pub(super) fn take(&self, values: &Arc<str>, elapsed: Duration) -> Result<(), Duration> {
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.clock.0.fetch_max(nanos, Relaxed);
        // Counting the keys takes every shard's lock: not at each call.
        if self.asked.fetch_add(1, Relaxed).is_multiple_of(256) {
            self.full.store(self.limiter.len() >= self.bound, Relaxed);
        }
        let asked = if self.full.load(Relaxed) {
            self.limiter.check_key(&Arc::from(OVERFLOW))
        } else {
            self.limiter.check_key(values)
        };
        asked.map_err(|not_until| {
            let free = not_until.earliest_possible();
            let wait = free.duration_since(self.clock.shown());
            Duration::from_nanos(wait.as_u64())
        })
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

    #[test]
    fn a_minute_s_worth_may_come_at_once_and_then_one_by_one() {
        let requests = Requests::new(60, 100).unwrap();
        let key = Arc::from("user=1");
        let at = Duration::from_secs;
        for _ in 0..60 {
            assert_eq!(requests.take(&key, at(100)), Ok(()));
        }
        assert_eq!(requests.take(&key, at(100)), Err(at(1)));
        assert_eq!(requests.take(&Arc::from("user=2"), at(100)), Ok(()));
        assert_eq!(requests.take(&key, at(101)), Ok(()));
        assert_eq!(requests.take(&key, at(90)), Err(at(1)));
    }

    #[test]
    fn values_are_bounded_and_forgotten() {
        let requests = Requests::new(60, 10).unwrap();
        for value in 0..1_000 {
            let _granted = requests.take(&Arc::from(format!("user={value}")), Duration::ZERO);
        }
        assert!(requests.limiter.len() <= 257);
        requests.clock.0.store(3_600_000_000_000, Relaxed);
        requests.tidy();
        assert_eq!(requests.limiter.len(), 0);
    }
}
