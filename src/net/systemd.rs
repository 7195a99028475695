//! What systemd hands over, sockets that it holds for us (`LISTEN_FDS`), and what it is told
//! (`NOTIFY_SOCKET`). Without systemd there is nothing to take and nobody to tell.

use std::{
    env, io,
    net::{SocketAddr, TcpListener},
    os::{linux::net::SocketAddrExt as _, unix::net},
};

use listenfd::ListenFd;

/// Listening sockets that were there before this process, and stay when it ends: what comes
/// meanwhile waits in them.
#[derive(Debug, Default)]
pub struct Handed(Vec<(SocketAddr, TcpListener)>);

impl Handed {
    /// Takes those that the environment speaks of. To be called first of all: it takes the variables
    /// out of the environment, so that programs that we start do not look for the sockets.
    ///
    /// # Errors
    /// One of them is no TCP socket.
    pub fn take() -> io::Result<Self> {
        let mut handed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for number in 0..handed.len() {
            if let Some(socket) = handed.take_tcp_listener(number)? {
                sockets.push((socket.local_addr()?, socket));
            }
        }
        Ok(Self(sockets))
    }

    /// The socket that listens at `address`, if one was handed over; once.
    pub fn at(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let place = self.0.iter().position(|(there, _)| *there == address)?;
        Some(self.0.swap_remove(place).1)
    }

    /// Where those listen that nobody has asked for.
    pub fn left(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|(address, _)| *address).collect()
    }
}

impl FromIterator<TcpListener> for Handed {
    fn from_iter<I: IntoIterator<Item = TcpListener>>(sockets: I) -> Self {
        let with_address = |socket: TcpListener| Some((socket.local_addr().ok()?, socket));
        Self(sockets.into_iter().filter_map(with_address).collect())
    }
}

/// Tells systemd how the service is: `READY=1`, `STOPPING=1`, lines of them. Nothing happens where
/// nobody wants to know.
///
/// # Errors
/// Whoever wanted to know does not listen.
pub fn tell(state: &str) -> io::Result<()> {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let socket = net::UnixDatagram::unbound()?;
    let address = match path.as_encoded_bytes() {
        [b'@', name @ ..] => net::SocketAddr::from_abstract_name(name)?,
        _ => net::SocketAddr::from_pathname(&path)?,
    };
    socket.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_found_by_its_address_once() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let mut handed: Handed = [socket].into_iter().collect();
        assert!(handed.at("127.0.0.1:1".parse().unwrap()).is_none());
        assert_eq!(handed.left(), [address]);
        assert_eq!(handed.at(address).unwrap().local_addr().unwrap(), address);
        assert!(handed.at(address).is_none() && handed.left().is_empty());
    }
}
