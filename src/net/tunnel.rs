//! Two sockets joined: what comes from one goes to the other, unread, until both have ended.
//!
//! A tunnel in which nothing moves holds no buffer: it takes one from a few that all share when there
//! is something to read, and gives it back when that is written.

use std::{
    io,
    net::Shutdown,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use crossbeam_queue::ArrayQueue;
use socket2::SockRef;
use tokio::net::TcpStream;

/// What is read at once: fewer calls of the system than hyper's size, and little enough for a cache.
const BUFFER: usize = 64 * 1024;

/// Buffers that are kept for later; further ones are freed when nobody uses them.
const KEPT: usize = 32;

/// In how many parts a silence is looked at: it may last a part longer than its limit.
const PARTS: u32 = 4;

/// Buffers that tunnels take turns with.
#[derive(Debug)]
pub struct Buffers(ArrayQueue<Box<[u8]>>);

impl Default for Buffers {
    fn default() -> Self {
        Self(ArrayQueue::new(KEPT))
    }
}

impl Buffers {
    fn take(&self) -> Box<[u8]> {
        let fresh = || vec![0; BUFFER].into_boxed_slice();
        self.0.pop().unwrap_or_else(fresh)
    }

    fn give(&self, buffer: Box<[u8]>) {
        // One too many is freed.
        drop(self.0.push(buffer));
    }
}

/// How long a tunnel may be silent.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    /// Usually.
    pub idle: Duration,
    /// When the process is about to leave.
    pub leaving: Duration,
}

/// What became of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Bytes from the client.
    pub up: u64,
    /// Bytes to the client.
    pub down: u64,
    /// How it ended.
    pub end: End,
}

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides have said all that they had to say.
    Closed,
    /// One side broke off.
    Broken,
    /// Nothing came for too long.
    Idle,
}

/// Passes everything both ways, `begun` first, which the client has said already. A side that has
/// ended still hears the other to its end. `leaving` resolves when the process is about to leave.
pub async fn pass(
    (client, begun): (&TcpStream, Bytes),
    server: &TcpStream,
    silence: Silence,
    buffers: &Buffers,
    leaving: impl Future<Output = ()>,
) -> Passed {
    let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
    let moved = || up.load(Relaxed).wrapping_add(down.load(Relaxed));
    let there = async {
        write_all(server, &begun, &up).await?;
        drop(begun);
        one_way(client, server, buffers, &up).await
    };
    let back = one_way(server, client, buffers, &down);
    let ended = async {
        match tokio::try_join!(there, back) {
            Ok(_) => End::Closed,
            Err(_) => End::Broken,
        }
    };
    let left_alone = async {
        leaving.await;
        silent(&moved, silence.leaving).await;
    };
    let end = tokio::select! {
        end = ended => end,
        () = silent(&moved, silence.idle) => End::Idle,
        () = left_alone => End::Idle,
    };
    Passed {
        up: up.load(Relaxed),
        down: down.load(Relaxed),
        end,
    }
}

/// Passes what comes until it ends, and says so to the other side.
async fn one_way(
    from: &TcpStream,
    to: &TcpStream,
    buffers: &Buffers,
    moved: &AtomicU64,
) -> io::Result<()> {
    loop {
        from.readable().await?;
        let mut buffer = buffers.take();
        let ended = loop {
            match from.try_read(&mut buffer) {
                Ok(0) => break true,
                Ok(count) => write_all(to, buffer.get(..count).unwrap_or_default(), moved).await?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                Err(error) => return Err(error),
            }
            // Others on this worker have their turn.
            tokio::task::coop::consume_budget().await;
        };
        buffers.give(buffer);
        if ended {
            // It may be gone altogether, which the other direction tells.
            let _gone = SockRef::from(to).shutdown(Shutdown::Write);
            return Ok(());
        }
    }
}

async fn write_all(to: &TcpStream, mut bytes: &[u8], moved: &AtomicU64) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.try_write(bytes) {
            Ok(count) => {
                moved.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Relaxed);
                bytes = bytes.get(count..).unwrap_or_default();
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits until nothing has moved for `limit`.
async fn silent(moved: &impl Fn() -> u64, limit: Duration) {
    let (mut seen, mut parts) = (moved(), 0);
    while parts < PARTS {
        tokio::time::sleep(limit / PARTS).await;
        let now = moved();
        parts = if now == seen {
            parts.saturating_add(1)
        } else {
            0
        };
        seen = now;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::base::clock::{Clock as _, SystemClock};

    const HOUR: Duration = Duration::from_hours(1);
    const SILENCE: Silence = Silence {
        idle: HOUR,
        leaving: Duration::from_secs(1),
    };

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
        (one.unwrap(), other.unwrap().0)
    }

    #[tokio::test]
    async fn a_side_that_has_ended_still_hears_the_other_to_its_end() {
        let (mut client, inner) = pair().await;
        let (outer, mut server) = pair().await;
        let buffers = Buffers::default();
        let begun = Bytes::from_static(b"hel");
        let tunnel = pass((&inner, begun), &outer, SILENCE, &buffers, pending());
        let talk = async {
            client.write_all(b"lo").await.unwrap();
            client.shutdown().await.unwrap();
            let mut heard = Vec::new();
            server.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, b"hello");
            // Much more than all buffers on the way hold.
            let answer = vec![7; 8 << 20];
            let (written, heard) = tokio::join!(
                async {
                    server.write_all(&answer).await.unwrap();
                    server.shutdown().await.unwrap();
                },
                async {
                    let mut heard = Vec::new();
                    client.read_to_end(&mut heard).await.unwrap();
                    heard
                },
            );
            assert_eq!((written, heard.len()), ((), answer.len()));
        };
        let (passed, ()) = tokio::join!(tunnel, talk);
        let expected = Passed {
            up: 5,
            down: 8 << 20,
            end: End::Closed,
        };
        assert_eq!(passed, expected);
        assert!(buffers.0.len() <= 2, "buffers are used again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_in_which_nothing_moves_ends_and_holds_no_buffer() {
        let (client, inner) = pair().await;
        let (outer, server) = pair().await;
        let buffers = Buffers::default();
        let some = [buffers.take(), buffers.take(), buffers.take()];
        for buffer in some {
            buffers.give(buffer);
        }
        let tunnel = pass((&inner, Bytes::new()), &outer, SILENCE, &buffers, pending());
        let look = async {
            tokio::time::sleep(HOUR / 2).await;
            buffers.0.len()
        };
        let (passed, given_back) = tokio::join!(tunnel, look);
        assert_eq!((passed.end, given_back), (End::Idle, 3));
        drop((client, server));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_in_which_something_moves_goes_on_and_a_silent_one_does_not_hold_up_the_end() {
        let (mut client, inner) = pair().await;
        let (outer, mut server) = pair().await;
        let (buffers, began) = (Buffers::default(), SystemClock.mono());
        let leaving = tokio::time::sleep(HOUR * 2);
        let tunnel = pass((&inner, Bytes::new()), &outer, SILENCE, &buffers, leaving);
        let talk = async {
            for _ in 0..4 {
                tokio::time::sleep(HOUR / 2).await;
                client.write_all(b"x").await.unwrap();
                server.read_u8().await.unwrap();
            }
        };
        let (passed, ()) = tokio::join!(tunnel, talk);
        assert_eq!((passed.up, passed.end), (4, End::Idle));
        let took = SystemClock.mono().saturating_duration_since(began);
        assert!(took >= HOUR * 2 && took < HOUR * 2 + HOUR / 100, "{took:?}");
    }
}
