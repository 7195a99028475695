//! Where datagrams go: a UDP address or a socket in the file system.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::net::{UdpSocket, UnixDatagram, lookup_host};

use crate::base::clock::{Clock, Instant};

/// How long a socket is used. UDP does not tell that a server has moved: its name is looked up again.
const KEPT: Duration = Duration::from_mins(1);

/// A destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `host:port`.
    Udp(Box<str>),
    /// The path of a socket.
    Unix(PathBuf),
}

impl Place {
    /// `host:port`, `unix:///path` or a path.
    pub(super) fn parse(address: &str) -> Option<Self> {
        let path = address.strip_prefix("unix://").unwrap_or(address);
        if path.starts_with('/') {
            return Some(Self::Unix(PathBuf::from(path)));
        }
        let (host, port) = address.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        (!host.is_empty() && !host.contains('/') && port > 0).then(|| Self::Udp(Box::from(address)))
    }
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

/// Sends datagrams to one place.
pub(super) struct Sender {
    place: Place,
    clock: Arc<dyn Clock>,
    socket: Option<(Socket, Instant)>,
}

impl Sender {
    /// The socket is made when it is needed.
    pub(super) fn new(place: Place, clock: Arc<dyn Clock>) -> Self {
        Self {
            place,
            clock,
            socket: None,
        }
    }

    /// The most bytes of a datagram: over UDP what passes any network in one piece.
    pub(super) const fn most(&self) -> usize {
        match self.place {
            Place::Udp(_) => 1_432,
            Place::Unix(_) => 8_192,
        }
    }

    /// Sends one.
    ///
    /// # Errors
    /// It could not be sent; or, over UDP, one before it was refused by the machine there.
    pub(super) async fn send(&mut self, text: &str) -> io::Result<()> {
        let now = self.clock.mono();
        let fresh = |made: &Instant| now.saturating_duration_since(*made) < KEPT;
        let (socket, made) = match self.socket.take() {
            Some((socket, made)) if fresh(&made) => (socket, made),
            _ => (self.place.connect().await?, now),
        };
        match &socket {
            Socket::Udp(socket) => socket.send(text.as_bytes()).await?,
            Socket::Unix(socket) => socket.send(text.as_bytes()).await?,
        };
        // After an error a new one is made.
        self.socket = Some((socket, made));
        Ok(())
    }
}

impl Place {
    async fn connect(&self) -> io::Result<Socket> {
        match self {
            Self::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Ok(Socket::Unix(socket))
            },
            Self::Udp(address) => {
                let mut found = lookup_host(&**address).await?;
                let found = found.next();
                let found = found.ok_or_else(|| io::Error::other("its name has no address"))?;
                let ours: SocketAddr = if found.is_ipv4() {
                    (Ipv4Addr::UNSPECIFIED, 0).into()
                } else {
                    (Ipv6Addr::UNSPECIFIED, 0).into()
                };
                let socket = UdpSocket::bind(ours).await?;
                socket.connect(found).await?;
                Ok(Socket::Udp(socket))
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_the_network_or_of_the_file_system() {
        let udp = |text: &str| Some(Place::Udp(Box::from(text)));
        let unix = Some(Place::Unix(PathBuf::from("/run/dd.sock")));
        assert_eq!(Place::parse("host:8125"), udp("host:8125"));
        assert_eq!(Place::parse("[::1]:8125"), udp("[::1]:8125"));
        assert_eq!(Place::parse("unix:///run/dd.sock"), unix);
        assert_eq!(Place::parse("/run/dd.sock"), unix);
        for text in [
            "",
            "host",
            ":8125",
            "host:0",
            "host:65536",
            "http://h:1",
            "unix://",
        ] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }
}
