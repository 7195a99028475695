//! Idle connections, the most recently used first: those are the likeliest to be alive, and the
//! others get a chance to age out.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;

use super::connect::Origin;
use crate::base::clock::Instant;

/// Idle connections kept per origin and worker; further ones are closed and counted.
const MAX_IDLE: usize = 256;

/// The idle connections to one origin and since when they are idle, the last one used last.
type Shelf<T> = Vec<(Instant, T)>;

/// A pool of idle `T`, by origin.
#[derive(Debug)]
pub(super) struct Pool<T> {
    /// A list, since there are a handful: comparing is cheaper than hashing an address.
    idle: Mutex<Vec<(Origin, Shelf<T>)>>,
    max_age: Duration,
    overflow: AtomicU64,
}

impl<T> Pool<T> {
    /// Connections idle for longer than `max_age` are closed.
    pub(super) fn new(max_age: Duration) -> Self {
        Self {
            idle: Mutex::default(),
            max_age,
            overflow: AtomicU64::new(0),
        }
    }

    /// The connection to `origin` that was used last.
    pub(super) fn take(&self, origin: &Origin) -> Option<T> {
        self.idle
            .lock()
            .iter_mut()
            .find(|(place, _)| place == origin)
            .and_then(|(_, kept)| kept.pop())
            .map(|(_since, connection)| connection)
    }

    /// Keeps a connection for later.
    pub(super) fn put(&self, origin: &Origin, connection: T, now: Instant) {
        let mut idle = self.idle.lock();
        match idle.iter_mut().find(|(place, _)| place == origin) {
            None => idle.push((origin.clone(), vec![(now, connection)])),
            Some((_, kept)) if kept.len() < MAX_IDLE => kept.push((now, connection)),
            Some(_) => {
                drop(idle);
                self.overflow.fetch_add(1, Relaxed);
            },
        }
    }

    /// Closes what has been idle for too long.
    pub(super) fn sweep(&self, now: Instant) {
        let mut old = Vec::new();
        let mut idle = self.idle.lock();
        idle.retain_mut(|(_, kept)| {
            let fresh = |since: Instant| now.saturating_duration_since(since) < self.max_age;
            let keep_from = kept.iter().position(|(since, _)| fresh(*since));
            old.extend(kept.drain(..keep_from.unwrap_or(kept.len())));
            !kept.is_empty()
        });
        drop(idle);
        // Closed here, outside the lock.
        drop(old);
    }

    /// How many connections are idle.
    pub(super) fn len(&self) -> usize {
        self.idle.lock().iter().map(|(_, kept)| kept.len()).sum()
    }

    /// How many were closed because the pool was full.
    pub(super) fn overflow(&self) -> u64 {
        self.overflow.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use http::Uri;

    use super::*;
    use crate::base::clock::{Clock as _, SystemClock};

    fn origin(host: &str) -> Origin {
        Origin::of(&Uri::try_from(format!("http://{host}/")).unwrap()).unwrap()
    }

    #[test]
    fn the_last_one_used_comes_first_and_old_ones_go() {
        let pool = Pool::new(Duration::from_secs(30));
        let start = SystemClock.mono();
        pool.put(&origin("a"), 1, start);
        pool.put(&origin("a"), 2, start + Duration::from_secs(20));
        assert_eq!(pool.take(&origin("b")), None);
        pool.sweep(start + Duration::from_secs(31));
        assert_eq!(pool.take(&origin("a")), Some(2));
        assert_eq!(pool.take(&origin("a")), None);
    }

    #[test]
    fn a_full_pool_closes_and_counts() {
        let pool = Pool::new(Duration::from_secs(30));
        let now = SystemClock.mono();
        (0..=MAX_IDLE).for_each(|n| pool.put(&origin("a"), n, now));
        assert_eq!((pool.len(), pool.overflow()), (MAX_IDLE, 1));
    }
}
