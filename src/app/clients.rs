//! Connections from clients, and the end that comes when none is left: asked for, or since nobody has
//! come for a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::App;

/// How often it is looked whether anybody is there, at least.
const LOOK: Duration = Duration::from_secs(1);

/// Connections from clients.
#[derive(Debug)]
pub(super) struct Clients {
    places: Arc<Semaphore>,
    most: usize,
    /// Places that are taken before a connection is there: one for each socket.
    sockets: usize,
    came: AtomicU64,
}

impl Clients {
    /// At most so many, at so many sockets.
    pub(super) fn new(most: usize, sockets: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(most)),
            most,
            sockets,
            came: AtomicU64::new(0),
        }
    }

    /// Waits for a place for the next one.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// One has come.
    pub(super) fn comes(&self) {
        self.came.fetch_add(1, Relaxed);
    }

    /// How many are there.
    pub(super) fn there(&self) -> usize {
        let taken = self.most.saturating_sub(self.places.available_permits());
        taken.saturating_sub(self.sockets)
    }

    /// Waits until nobody was there, and nobody came, for so long.
    async fn gone(&self, length: Duration) {
        let (mut seen, mut quiet) = (self.came.load(Relaxed), Duration::ZERO);
        let look = LOOK.min(length / 4).max(Duration::from_millis(1));
        while quiet < length {
            tokio::time::sleep(look).await;
            let came = self.came.load(Relaxed);
            quiet = if self.there() == 0 && came == seen {
                quiet.saturating_add(look)
            } else {
                Duration::ZERO
            };
            seen = came;
        }
    }
}

/// Why Tollgate leaves though no signal says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dismissed {
    /// It was asked to (`listen.quit`).
    Asked,
    /// No client was there for `shutdown.idle`.
    Idle,
}

impl App {
    /// Waits until nobody needs it any more: to be polled beside what else ends the program.
    pub async fn dismissed(&self) -> Dismissed {
        let idle = async {
            match self.config.shutdown.idle {
                Some(length) => self.clients.gone(length).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.control.asked_to_quit() => Dismissed::Asked,
            () = idle => Dismissed::Idle,
        }
    }

    /// As [`App::stop`], without `shutdown.delay`: nobody is about to come any more.
    pub async fn stop_at_once(mut self) {
        self.config.shutdown.delay = Duration::ZERO;
        self.stop().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::base::clock::{Clock as _, SystemClock};

    const IDLE: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn they_are_gone_when_none_was_there_for_the_whole_time() {
        let clients = Clients::new(10, 1);
        let _socket = clients.place().await;
        let start = SystemClock.mono();
        let coming = async {
            sleep(IDLE / 2).await;
            let place = clients.place().await;
            clients.comes();
            assert_eq!(clients.there(), 1);
            sleep(IDLE * 3).await;
            drop(place);
            // One that is gone between two looks.
            sleep(IDLE / 2 + LOOK / 2).await;
            clients.comes();
        };
        tokio::join!(coming, clients.gone(IDLE));
        let took = SystemClock.mono() - start;
        assert!(took >= IDLE * 5 && took < IDLE * 5 + LOOK * 3, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_stays_connected_is_there() {
        let clients = Clients::new(10, 1);
        let _socket = clients.place().await;
        let _client = clients.place().await;
        assert!(timeout(IDLE * 100, clients.gone(IDLE)).await.is_err());
    }
}
