//! Looks at the first bytes of a connection where they lie, so that whoever serves the connection, or
//! passes it on, finds all of them.

use std::io;

use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};
use tokio::{io::Interest, net::TcpStream};

use super::opening::Opening;

/// The most bytes that are looked at. Handshakes of today have 2 KiB; of one, and of the head of a
/// request, 16 are read.
const MAX_BYTES: usize = 32 << 10;

/// How many are looked at first.
const FEW_BYTES: usize = 2 << 10;

/// Waits until a connection's first bytes tell what it begins with; those in `begun` were read of it
/// before. `None`: it ended too early. If this is not waited for to its end, [`take`] has to follow.
///
/// # Errors
/// The socket's.
pub async fn peek(socket: &TcpStream, begun: &[u8]) -> io::Result<Option<Opening>> {
    if let Some(opening) = Opening::of(begun) {
        return Ok(Some(opening));
    }
    let (before, mut seen) = (begun.len(), begun.len());
    let mut bytes = Vec::new();
    while seen < MAX_BYTES {
        let ready = socket.ready(Interest::READABLE).await?;
        if bytes.is_empty() {
            // Not sooner: many connections wait for a long time.
            bytes = begun.to_vec();
            bytes.resize(MAX_BYTES.min(before + FEW_BYTES), 0);
        }
        // Those that were seen already shall not make the socket ready again: it is to wake us when
        // there are others.
        let more = socket.try_io(Interest::READABLE, || {
            let behind = bytes.get_mut(before..).unwrap_or_default();
            let (_written, there) = recv(socket, behind, RecvFlags::PEEK)?;
            if before + there > seen {
                Ok(before + there)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            }
        });
        match more {
            Ok(there) => seen = there,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Err(_nothing_new) if ready.is_read_closed() => return Ok(None),
            Err(_nothing_new) => continue,
        }
        if let Some(opening) = bytes.get(..seen).and_then(Opening::of) {
            return Ok(Some(opening));
        }
        if seen == bytes.len() {
            bytes.resize(MAX_BYTES.min(2 * seen), 0);
        }
    }
    Ok(Some(Opening::unread(&bytes)))
}

/// Reads what is there of a connection whose first bytes were looked at, and did not tell. They would
/// wake nobody again.
///
/// # Errors
/// The socket's.
pub(super) fn take(socket: &TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; MAX_BYTES];
    let (_written, there) = match recv(socket, &mut *bytes, RecvFlags::DONTWAIT) {
        Err(Errno::AGAIN) => (0, 0),
        read => read?,
    };
    bytes.truncate(there);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    async fn peeked(socket: &TcpStream) -> Option<Opening> {
        let peeked = tokio::time::timeout(Duration::from_secs(20), peek(socket, b"")).await;
        peeked.unwrap().unwrap()
    }

    #[tokio::test]
    async fn what_was_looked_at_is_still_there_however_it_came() {
        let (mut client, mut server) = pair().await;
        client.set_nodelay(true).unwrap();
        let filling = "a".repeat(5 * FEW_BYTES);
        let head = format!("GET / HTTP/1.1\r\nA: {filling}\r\nHost: vllm:8000\r\n\r\n");
        let send = async {
            for piece in head.as_bytes().chunks(1000) {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let read = async {
            let opening = peeked(&server).await.unwrap();
            let mut all = vec![0; head.len()];
            server.read_exact(&mut all).await.unwrap();
            (opening, all)
        };
        let ((), (opening, all)) = tokio::join!(send, read);
        assert!(matches!(opening, Opening::Http(host) if &*host.name == "vllm"));
        assert_eq!(all, head.as_bytes());
    }

    #[tokio::test]
    async fn a_connection_that_ends_too_early_begins_with_nothing_and_a_head_too_long_with_something()
     {
        let endless = [b"GET / HTTP/1.1\r\nA: ", &*vec![b'a'; MAX_BYTES]].concat();
        for (sent, expected) in [
            (&b""[..], None),
            (b"GET / HT", None),
            (&endless, Some(Opening::Other)),
        ] {
            let (mut client, server) = pair().await;
            client.write_all(sent).await.unwrap();
            client.shutdown().await.unwrap();
            assert_eq!(peeked(&server).await, expected);
        }
    }

    #[tokio::test]
    async fn what_was_seen_wakes_nobody_again() {
        let (mut client, server) = pair().await;
        client.write_all(b"GET / HT").await.unwrap();
        let mut waiting = Box::pin(peek(&server, b""));
        let mut polls = 0;
        let counted = std::future::poll_fn(|cx| {
            polls += 1;
            waiting.as_mut().poll(cx)
        });
        let end = async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            client
                .write_all(b"TP/1.1\r\nHost: a.b\r\n\r\n")
                .await
                .unwrap();
        };
        let (opening, ()) = tokio::join!(counted, end);
        assert!(matches!(opening, Ok(Some(Opening::Http(_)))));
        assert!(polls < 150, "{polls}");
    }
}
