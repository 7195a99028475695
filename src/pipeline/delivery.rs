//! How spans are delivered to one processor: batches, attempts, waits, and the circuit breaker.

use std::time::Duration;

use serde::Deserialize;

use super::Content;
use crate::base::clock::Instant;

/// How the worker treats one processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The most spans that wait; the oldest is dropped for a new one.
    pub queue: usize,
    /// The most bytes that waiting spans take; the oldest are dropped for a new one.
    pub memory: usize,
    /// The most spans in one batch; so many waiting are delivered at once.
    pub batch: usize,
    /// The most bytes of JSON in one batch; a larger span is a batch by itself.
    pub batch_bytes: usize,
    /// The longest text on a span, in bytes; longer ones are cut. None: all are as they came.
    pub attribute_bytes: Option<usize>,
    /// How much of what was said the processor gets, at most; none: as much as spans may hold.
    pub content: Option<Content>,
    /// The longest that a span waits for its batch to fill. Zero: delivered at every tick.
    pub max_age: Duration,
    /// Whether spans wait for their batch on disk, where they can be kept there at all: for batches that
    /// take long to fill, and destinations that must miss nothing when the process is killed.
    pub on_disk: bool,
    /// The longest that one attempt may take. A processor that blocks its thread is not cut short,
    /// but then it holds up nobody else.
    pub timeout: Duration,
    /// The most attempts for one batch, the first included.
    pub attempts: u32,
    /// The wait before the second attempt.
    pub backoff: Duration,
    /// How the wait grows from there.
    pub growth: Growth,
    /// Whether chance adds up to a tenth to each wait, so that a fleet does not come back as one.
    pub jitter: bool,
    /// The longest wait between attempts. A destination that asks for more gets it, up to
    /// `recovery_timeout`.
    pub max_backoff: Duration,
    /// So many failed attempts in a row open the breaker.
    pub failure_threshold: u32,
    /// How long nothing is tried while the breaker is open; then one attempt probes.
    pub recovery_timeout: Duration,
}

/// How the wait between attempts grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Growth {
    /// Doubled each time.
    #[default]
    Exponential,
    /// Once more as long each time.
    Linear,
    /// Not at all.
    Constant,
}

impl Delivery {
    /// For destinations on this machine: within two ticks, patient with a full disk.
    pub const LOCAL: Self = Self {
        queue: 10_000,
        memory: 64 << 20,
        batch: 4_096,
        batch_bytes: 16 << 20,
        attribute_bytes: None,
        content: None,
        max_age: Duration::ZERO,
        on_disk: false,
        timeout: Duration::from_secs(30),
        attempts: 8,
        backoff: Duration::from_millis(100),
        growth: Growth::Exponential,
        jitter: true,
        max_backoff: Duration::from_secs(5),
        failure_threshold: 5,
        recovery_timeout: Duration::from_secs(5),
    };

    /// For destinations elsewhere.
    pub const REMOTE: Self = Self {
        queue: 10_000,
        memory: 64 << 20,
        batch: 100,
        batch_bytes: 4 << 20,
        attribute_bytes: None,
        content: None,
        max_age: Duration::from_secs(30),
        on_disk: false,
        timeout: Duration::from_secs(30),
        attempts: 3,
        backoff: Duration::from_secs(1),
        growth: Growth::Exponential,
        jitter: true,
        max_backoff: Duration::from_secs(30),
        failure_threshold: 5,
        recovery_timeout: Duration::from_mins(5),
    };

    /// Whether so many spans, which take so many bytes, are half of what may wait in memory: then no
    /// batch is waited for, so that none is dropped while it fills.
    pub(super) const fn is_much(&self, waiting: usize, bytes: usize) -> bool {
        waiting >= self.queue.div_ceil(2) || bytes >= self.memory.div_ceil(2)
    }

    /// The wait after the failed attempt number `attempt` (from 1): what the destination asked for,
    /// else as configured.
    pub(super) fn wait(&self, attempt: u32, asked: Option<Duration>) -> Duration {
        let times = match self.growth {
            Growth::Exponential => 1_u32
                .checked_shl(attempt.saturating_sub(1))
                .unwrap_or(u32::MAX),
            Growth::Linear => attempt,
            Growth::Constant => 1,
        };
        let wait = asked.map_or_else(
            || self.backoff.saturating_mul(times).min(self.max_backoff),
            |asked| asked.min(self.recovery_timeout),
        );
        let chance = if self.jitter {
            fastrand::u32(0..=100)
        } else {
            0
        };
        wait + wait / 10 * chance / 100
    }
}

/// What a breaker does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Circuit {
    /// Lets every attempt through.
    #[default]
    Closed,
    /// Lets none through.
    Open,
    /// Lets one through, to see.
    HalfOpen,
}

/// Stops trying a destination that keeps failing, and probes it from time to time.
#[derive(Debug)]
pub(super) struct Breaker {
    threshold: u32,
    recovery: Duration,
    failures: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    pub(super) fn new(delivery: &Delivery) -> Self {
        Self {
            threshold: delivery.failure_threshold.max(1),
            recovery: delivery.recovery_timeout,
            failures: 0,
            open_until: None,
        }
    }

    /// When the next attempt may be made, if not now.
    pub(super) fn closed_at(&self, now: Instant) -> Option<Instant> {
        self.open_until.filter(|until| now < *until)
    }

    /// What it does now.
    pub(super) fn circuit(&self, now: Instant) -> Circuit {
        match self.open_until {
            None => Circuit::Closed,
            Some(until) if now < until => Circuit::Open,
            Some(_) => Circuit::HalfOpen,
        }
    }

    /// Books an attempt that succeeded; true if that closed the breaker.
    pub(super) fn succeeded(&mut self) -> bool {
        self.failures = 0;
        self.open_until.take().is_some()
    }

    /// Books an attempt that failed; true if that opened the breaker. A failed probe keeps it open
    /// for another recovery time.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        let was_open = self.open_until.is_some();
        if self.failures >= self.threshold {
            self.open_until = Some(now + self.recovery);
        }
        !was_open && self.open_until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_with_a_tenth_of_jitter() {
        let delivery = Delivery::REMOTE;
        for (attempt, seconds) in [(1, 1), (2, 2), (3, 4), (6, 30), (100, 30)] {
            let (least, wait) = (Duration::from_secs(seconds), delivery.wait(attempt, None));
            assert!(wait >= least && wait <= least + least / 10, "{wait:?}");
        }
    }

    #[test]
    fn waits_grow_as_they_are_told_to() {
        let waits = |growth| {
            let delivery = Delivery {
                growth,
                jitter: false,
                ..Delivery::REMOTE
            };
            [1, 2, 3, 4].map(|attempt| delivery.wait(attempt, None).as_secs())
        };
        assert_eq!(waits(Growth::Exponential), [1, 2, 4, 8]);
        assert_eq!(waits(Growth::Linear), [1, 2, 3, 4]);
        assert_eq!(waits(Growth::Constant), [1, 1, 1, 1]);
    }

    #[test]
    fn a_destination_that_asks_for_a_wait_gets_it_within_reason() {
        let wait = |seconds| Delivery::REMOTE.wait(1, Some(Duration::from_secs(seconds)));
        assert!(wait(7) >= Duration::from_secs(7));
        assert!(wait(86_400) <= Duration::from_secs(330));
    }

    #[tokio::test(start_paused = true)]
    async fn a_breaker_opens_probes_and_closes() {
        #[expect(clippy::disallowed_methods, reason = "paused time")]
        let now = Instant::now();
        let mut breaker = Breaker::new(&Delivery::REMOTE);
        let opened: Vec<_> = (0..5).map(|_| breaker.failed(now)).collect();
        assert_eq!(opened, [false, false, false, false, true]);
        let until = breaker.closed_at(now).unwrap();
        assert_eq!(breaker.circuit(now), Circuit::Open);
        assert_eq!(breaker.circuit(until), Circuit::HalfOpen);
        assert_eq!(until, now + Delivery::REMOTE.recovery_timeout);
        assert_eq!(breaker.closed_at(until), None);
        assert!(!breaker.failed(until), "it was open already");
        assert!(breaker.closed_at(until).is_some());
        assert!(breaker.succeeded());
        assert_eq!(breaker.closed_at(now), None);
        assert_eq!(breaker.circuit(now), Circuit::Closed);
    }
}
