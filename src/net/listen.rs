//! Listening sockets: bind and accept.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections that wait to be accepted, per socket; the kernel may cap it lower.
const BACKLOG: i32 = 4096;

/// How long accepting pauses when the process is out of file descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Binds `count` sockets to one address, so that each worker accepts on its own (`SO_REUSEPORT`).
/// Port 0 is resolved once and shared.
///
/// # Errors
/// What the system says, above all [`io::ErrorKind::AddrInUse`], also when another process shares
/// its port the same way.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<StdListener>> {
    // Not shared first: two programs of one user could otherwise share a port unknowingly.
    let probe = socket(address, false)?;
    let address = probe.local_addr()?;
    drop(probe);
    (0..count.max(1)).map(|_| socket(address, true)).collect()
}

/// A socket that listens already, `count` times over: whoever is first has the next connection.
///
/// # Errors
/// The process is out of file descriptors.
pub fn share(socket: StdListener, count: usize) -> io::Result<Vec<StdListener>> {
    socket.set_nonblocking(true)?;
    let others = (1..count).map(|_| socket.try_clone());
    let mut sockets = others.collect::<io::Result<Vec<_>>>()?;
    sockets.push(socket);
    Ok(sockets)
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<StdListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Accepts the next connection, with `TCP_NODELAY` set. Never fails: what goes wrong with one
/// connection is its own affair, and when the process is out of resources accepting pauses;
/// `paused` is called each time.
pub async fn accept(
    listener: &TcpListener,
    paused: impl Fn(&io::Error),
) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                // Fails only if the peer is gone already, which the first read will tell.
                let _gone = socket.set_nodelay(true);
                return (socket, peer);
            },
            Err(error) if of_one_connection(&error) => {},
            Err(error) => {
                paused(&error);
                tokio::time::sleep(PAUSE).await;
            },
        }
    }
}

/// Where a connection was to go before the system redirected it to the socket that accepted it
/// (`SO_ORIGINAL_DST`); `None` if it was to come here.
pub fn original_destination(socket: &TcpStream) -> Option<SocketAddr> {
    let here = socket.local_addr().ok()?;
    let asked = SockRef::from(socket);
    // Of connections that it does not track the system knows nothing, and says so by an error.
    let original = if here.is_ipv4() {
        asked.original_dst_v4()
    } else {
        asked.original_dst_v6()
    };
    let original = original.ok()?.as_socket()?;
    (original != here).then_some(original)
}

fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_sockets_share_a_port_but_not_with_another_bind() {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert_eq!(sockets[1].local_addr().unwrap(), address);
        assert_eq!(
            bind(address, 2).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
    }

    #[tokio::test]
    async fn a_connection_that_was_to_come_here_was_to_go_nowhere_else() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address).await else {
                continue;
            };
            let there = listener.local_addr().unwrap();
            let (client, accepted) = tokio::join!(TcpStream::connect(there), listener.accept());
            assert_eq!(original_destination(&accepted.unwrap().0), None);
            drop(client);
        }
    }
}
