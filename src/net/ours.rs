//! Which connections are our own, to tell when one of them comes back to us.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::SocketAddr,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::net::TcpStream;

/// The connections that we made and have not closed. Copies are of one set.
#[derive(Clone, Debug, Default)]
pub struct Ours(Arc<Mutex<HashMap<Ends, Known>>>);

/// What is known of connections with the same ends.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// How many there are.
    count: usize,
    /// Whether one was recognised as it came in.
    came_back: bool,
}

/// A connection of ours was led to ourselves.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "the system redirects Tollgate's own connections to it. Name the user that it runs as (tollgate \
     redirect apply --uid USER), or how it marks them (--mark NUMBER, and upstream.mark)"
)]
pub struct CameBack;

/// A connection to a provider led to ourselves.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "it leads back: {0} is where Tollgate itself listens. Give the provider's own address as its base_url"
)]
pub struct LeadsBack(pub SocketAddr);

/// Where a connection comes from, and where it was to go. One of both is not enough: the system gives
/// a port to several connections at once, if they have different destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ends {
    from: SocketAddr,
    to: SocketAddr,
}

/// A connection of ours, until it is dropped.
#[derive(Debug)]
pub struct Noted {
    all: Ours,
    ends: Ends,
}

impl Ends {
    /// However the two sides write an address.
    fn new(from: SocketAddr, to: SocketAddr) -> Self {
        let [from, to] = [from, to].map(|end| SocketAddr::new(end.ip().to_canonical(), end.port()));
        Self { from, to }
    }
}

impl Ours {
    /// Notes a connection that we have made, and over which nothing was said yet. `None`: it is gone.
    pub fn note(&self, socket: &TcpStream) -> Option<Noted> {
        let ends = Ends::new(socket.local_addr().ok()?, socket.peer_addr().ok()?);
        // One that was just closed may not have been forgotten yet.
        self.0.lock().entry(ends).or_default().count += 1;
        Some(Noted {
            all: self.clone(),
            ends,
        })
    }

    /// Whether a connection that comes from `peer` and was to go to `to` is one of ours; whoever keeps
    /// that one is then told so.
    pub fn has(&self, peer: SocketAddr, to: SocketAddr) -> bool {
        match self.0.lock().get_mut(&Ends::new(peer, to)) {
            Some(known) => {
                known.came_back = true;
                true
            },
            None => false,
        }
    }
}

impl Noted {
    /// Whether it was recognised as it came in.
    pub fn came_back(&self) -> bool {
        let known = self.all.0.lock().get(&self.ends).copied();
        known.is_some_and(|known| known.came_back)
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        if let Entry::Occupied(mut known) = all.entry(self.ends) {
            known.get_mut().count -= 1;
            if known.get().count == 0 {
                known.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// A connection from an address that another may have, too.
    async fn connected(from: SocketAddr, to: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(from).unwrap();
        socket.connect(to).await.unwrap()
    }

    #[tokio::test]
    async fn a_connection_is_ours_as_long_as_it_is_kept() {
        let (listener, address) = listener().await;
        let (ours, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (ours, (_socket, peer)) = (ours.unwrap(), accepted.unwrap());
        let all = Ours::default();
        assert!(!all.has(peer, address));
        let noted = [all.note(&ours), all.note(&ours)];
        assert!(all.has(peer, address) && !all.has(address, peer));
        let [first, last] = noted.map(Option::unwrap);
        assert!(first.came_back() && last.came_back());
        drop(first);
        assert!(all.has(peer, address));
        drop(last);
        assert!(!all.has(peer, address));
        assert!(all.0.lock().is_empty());
    }

    #[tokio::test]
    async fn another_connection_from_the_same_address_is_another() {
        let ((_one, here), (_other, there)) = (listener().await, listener().await);
        let ours = connected("127.0.0.1:0".parse().unwrap(), here).await;
        let from = ours.local_addr().unwrap();
        let theirs = connected(from, there).await;
        assert_eq!(theirs.local_addr().unwrap(), from);
        let all = Ours::default();
        let first = all.note(&ours).unwrap();
        assert!(!all.has(from, there) && !first.came_back());
        assert!(all.has(from, here) && first.came_back());
        let second = all.note(&theirs);
        drop(first);
        assert!(!all.has(from, here) && all.has(from, there));
        drop(second);
    }
}
