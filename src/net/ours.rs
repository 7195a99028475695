//! Which connections are our own, to tell when one of them comes back to us.

use std::{collections::HashSet, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::net::TcpStream;

/// The local addresses of connections that we made and have not closed. Copies are of one set.
#[derive(Clone, Debug, Default)]
pub struct Ours(Arc<Mutex<HashSet<SocketAddr>>>);

/// A connection of ours, until it is dropped.
#[derive(Debug)]
pub struct Noted {
    all: Ours,
    address: SocketAddr,
}

impl Ours {
    /// Notes a connection that we have made, and over which nothing was said yet. `None`: it is gone.
    pub fn note(&self, socket: &TcpStream) -> Option<Noted> {
        let address = socket.local_addr().ok()?;
        self.0.lock().insert(address);
        Some(Noted {
            all: self.clone(),
            address,
        })
    }

    /// Whether a connection that comes from `peer` is one of ours.
    pub fn has(&self, peer: SocketAddr) -> bool {
        self.0.lock().contains(&peer)
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.address);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_is_ours_as_long_as_it_is_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (_socket, peer) = accepted.unwrap();
        let all = Ours::default();
        assert!(!all.has(peer));
        let noted = all.note(&ours.unwrap());
        assert!(all.has(peer) && !all.has(address));
        drop(noted);
        assert!(!all.has(peer));
    }
}
