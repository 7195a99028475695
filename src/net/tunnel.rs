//! Two sockets joined: what comes from one goes to the other, unread, until both have ended.
//!
//! A tunnel in which nothing moves holds no buffer: it takes one from a few that all share when there
//! is something to read, and gives it back when that is written.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    task,
};

/// What is read at once: fewer calls of the system than hyper's size, and little enough for a cache.
const BUFFER: usize = 64 * 1024;

/// Buffers that are kept for later; further ones are freed when nobody uses them.
const KEPT: usize = 32;

/// In how many parts a silence is looked at: it may last a part longer than its limit.
const PARTS: u32 = 4;

/// Buffers that tunnels take turns with, the one used last first: it is in the processor's cache.
#[derive(Debug, Default)]
pub struct Buffers(Mutex<Vec<Box<[u8]>>>);

impl Buffers {
    fn take(&self) -> Box<[u8]> {
        let kept = self.0.lock().pop();
        kept.unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice())
    }

    fn give(&self, buffer: Box<[u8]>) {
        let mut kept = self.0.lock();
        if kept.len() < KEPT {
            kept.push(buffer);
        }
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
    (client, begun): (&mut TcpStream, Bytes),
    server: &mut TcpStream,
    silence: Silence,
    buffers: &Buffers,
    leaving: impl Future<Output = ()>,
) -> Passed {
    let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
    let moved = || up.load(Relaxed).wrapping_add(down.load(Relaxed));
    let (from_client, to_client) = client.split();
    let (from_server, mut to_server) = server.split();
    let there = async {
        write_all(&mut to_server, &begun, &up).await?;
        drop(begun);
        one_way(from_client, to_server, buffers, &up).await
    };
    let back = one_way(from_server, to_client, buffers, &down);
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
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    buffers: &Buffers,
    moved: &AtomicU64,
) -> io::Result<()> {
    loop {
        from.readable().await?;
        let mut buffer = buffers.take();
        let ended = loop {
            match read(&mut from, &mut buffer).await? {
                Some(0) => break true,
                Some(count) => {
                    write_all(&mut to, buffer.get(..count).unwrap_or_default(), moved).await?;
                    if count == buffer.len() {
                        // There is more. Others on this worker have their turn first: calls do not
                        // wait for a tunnel's flood, and what it floods does not pile up behind it
                        // until it has left the processor's cache.
                        task::yield_now().await;
                    }
                },
                None => break false,
            }
        };
        buffers.give(buffer);
        if ended {
            // It may be gone altogether, which the other direction tells.
            let _gone = to.shutdown().await;
            return Ok(());
        }
        // `read` also finds nothing when it is the turn of others.
        task::coop::consume_budget().await;
    }
}

/// How many bytes there were to read; `None` if none are there now. That costs no call of the system
/// after a read that has not filled the buffer.
async fn read(from: &mut ReadHalf<'_>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    poll_fn(|cx| {
        let read = Pin::new(&mut *from).poll_read(cx, &mut buffer);
        Poll::Ready(match read {
            Poll::Ready(read) => read.map(|()| Some(buffer.filled().len())),
            Poll::Pending => Ok(None),
        })
    })
    .await
}

async fn write_all(to: &mut WriteHalf<'_>, mut bytes: &[u8], moved: &AtomicU64) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = to.write(bytes).await?;
        moved.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Relaxed);
        bytes = bytes.get(count..).unwrap_or_default();
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
        let (mut client, mut inner) = pair().await;
        let (mut outer, mut server) = pair().await;
        let buffers = Buffers::default();
        let begun = Bytes::from_static(b"hel");
        let tunnel = pass(
            (&mut inner, begun),
            &mut outer,
            SILENCE,
            &buffers,
            pending(),
        );
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
        assert!(buffers.0.lock().len() <= 2, "buffers are used again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_in_which_nothing_moves_ends_and_holds_no_buffer() {
        let (client, mut inner) = pair().await;
        let (mut outer, server) = pair().await;
        let buffers = Buffers::default();
        let some = [buffers.take(), buffers.take(), buffers.take()];
        for buffer in some {
            buffers.give(buffer);
        }
        let tunnel = pass(
            (&mut inner, Bytes::new()),
            &mut outer,
            SILENCE,
            &buffers,
            pending(),
        );
        let look = async {
            tokio::time::sleep(HOUR / 2).await;
            buffers.0.lock().len()
        };
        let (passed, given_back) = tokio::join!(tunnel, look);
        assert_eq!((passed.end, given_back), (End::Idle, 3));
        drop((client, server));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_in_which_something_moves_goes_on_and_a_silent_one_does_not_hold_up_the_end() {
        let (mut client, mut inner) = pair().await;
        let (mut outer, mut server) = pair().await;
        let (buffers, began) = (Buffers::default(), SystemClock.mono());
        let leaving = tokio::time::sleep(HOUR * 2);
        let tunnel = pass(
            (&mut inner, Bytes::new()),
            &mut outer,
            SILENCE,
            &buffers,
            leaving,
        );
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
