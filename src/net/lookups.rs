//! Looking up names that somebody else chooses. Whoever chooses a name may have its server never answer,
//! and a lookup that has begun cannot be ended: so there are few at once, and they keep nobody from
//! looking up a provider.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::BoxError;

/// The places for lookups. Copies are of one set.
#[derive(Clone, Debug)]
pub(super) struct Lookups(Arc<Places>);

#[derive(Debug)]
struct Places {
    free: Arc<Semaphore>,
    turned_away: AtomicU64,
    find: Find,
}

/// What finds the addresses of a name, and holds up its thread for as long.
type Find = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// What was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Lookups under way.
    pub now: usize,
    /// The most there may be.
    pub most: usize,
    /// So many connections waited for a place in vain.
    pub turned_away: u64,
}

/// There was no place for a lookup in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its name cannot be looked up: {MOST} lookups were under way for {0:?}, as many as there may be; \
     the resolver (/etc/resolv.conf) is slow or does not answer"
)]
pub struct Crowded(Duration);

/// The most lookups at once: a resolver that answers in 50 ms allows 640 a second. Each holds a thread.
const MOST: usize = 32;

impl Default for Lookups {
    fn default() -> Self {
        Self::by(|host, port| (host, port).to_socket_addrs().map(Iterator::collect))
    }
}

impl Lookups {
    pub(super) fn by(find: Find) -> Self {
        Self(Arc::new(Places {
            free: Arc::new(Semaphore::new(MOST)),
            turned_away: AtomicU64::new(0),
            find,
        }))
    }

    /// The addresses of `host`, once there is a place, for which it waits no longer than `patience`.
    ///
    /// # Errors
    /// There is none in time ([`Crowded`]), or the name has no address.
    pub(super) async fn find(
        &self,
        host: &str,
        port: u16,
        patience: Duration,
    ) -> Result<Vec<SocketAddr>, BoxError> {
        let places = &*self.0;
        let free = Arc::clone(&places.free).acquire_owned();
        let Ok(place) = timeout(patience, free).await else {
            places.turned_away.fetch_add(1, Ordering::Relaxed);
            return Err(Crowded(patience).into());
        };
        let (host, find) = (host.to_owned(), places.find);
        let found = spawn_blocking(move || {
            // Held for as long as the lookup lasts, which may be longer than anybody waits for it.
            let _place = place;
            find(&host, port)
        });
        Ok(found.await??)
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            now: MOST.saturating_sub(self.0.free.available_permits()),
            most: MOST,
            turned_away: self.0.turned_away.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Mutex, mpsc::sync_channel},
        thread,
    };

    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const LATER: Duration = Duration::from_secs(10);

    /// Waits until `is_so`.
    async fn until(is_so: impl Fn() -> bool) {
        let all = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(LATER, all).await.unwrap();
    }

    #[tokio::test]
    async fn a_place_is_held_for_as_long_as_the_lookup_lasts_whoever_has_left() {
        /// Locked: the resolver does not answer.
        static SILENT: Mutex<()> = Mutex::new(());
        static BEGUN: AtomicU64 = AtomicU64::new(0);
        let lookups = Lookups::by(|host, port| {
            BEGUN.fetch_add(1, Ordering::Relaxed);
            drop(SILENT.lock());
            assert_ne!(host, "left.example");
            Ok(vec![SocketAddr::from(([203, 0, 113, 9], port))])
        });
        let (silence, silent) = sync_channel::<()>(1);
        let (locked, is_locked) = sync_channel(1);
        thread::spawn(move || {
            let _lock = SILENT.lock();
            locked.send(()).unwrap();
            let _ended = silent.recv();
        });
        is_locked.recv().unwrap();
        for _ in 0..MOST {
            let left = timeout(SOON, lookups.find("slow.example", 443, LATER));
            assert!(left.await.is_err());
        }
        assert_eq!(lookups.counts().now, MOST);
        // Whoever waits no longer has nothing begun.
        let left = timeout(SOON, lookups.find("left.example", 443, LATER));
        assert!(left.await.is_err());
        let crowded = lookups.find("x.example", 443, SOON).await.unwrap_err();
        assert!(crowded.is::<Crowded>(), "{crowded}");
        assert_eq!(lookups.counts().turned_away, 1);
        assert_eq!(BEGUN.load(Ordering::Relaxed), MOST as u64);
        let waiting = lookups.find("x.example", 443, LATER);
        let (found, ()) = tokio::join!(waiting, async { drop(silence) });
        assert_eq!(found.unwrap().len(), 1);
        until(|| lookups.counts().now == 0).await;
        assert_eq!(BEGUN.load(Ordering::Relaxed), MOST as u64 + 1);
    }
}
