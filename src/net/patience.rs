//! How long a client may take to send the head of a request. Hyper's own timer would run on idle
//! kept-alive connections too, and close them under clients that are about to use them.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// Said by the service: a head has arrived, its response is over.
#[derive(Clone, Debug, Default)]
pub struct InRequest(Arc<Said>);

#[derive(Debug, Default)]
struct Said {
    /// A head has arrived, and its response is not over.
    now: AtomicBool,
    /// A head has arrived since the socket was last read.
    lately: AtomicBool,
}

impl InRequest {
    /// A request's head has arrived.
    pub fn begin(&self) {
        self.0.now.store(true, Relaxed);
        self.0.lately.store(true, Relaxed);
    }

    /// Its response is over: the next bytes begin another head.
    pub fn end(&self) {
        self.0.now.store(false, Relaxed);
    }
}

/// A client's socket that fails with [`io::ErrorKind::TimedOut`] when a head has begun and does not
/// come to its end in time. The timer exists only while part of a head is outstanding.
#[derive(Debug)]
pub struct Patient<S> {
    socket: S,
    in_request: InRequest,
    limit: Duration,
    /// A head is expected at once (a new connection), or has begun.
    begun: bool,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    /// Wraps a socket just accepted; a head must arrive within `limit`.
    pub const fn new(socket: S, limit: Duration, in_request: InRequest) -> Self {
        Self {
            socket,
            in_request,
            limit,
            begun: true,
            alarm: None,
        }
    }

    /// The socket, for what is no head.
    pub fn into_inner(self) -> S {
        self.socket
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.in_request.0.lately.swap(false, Relaxed) {
            this.begun = false;
            this.alarm = None;
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.socket).poll_read(cx, buffer);
        if this.in_request.0.now.load(Relaxed) {
            return polled;
        }
        if polled.is_ready() {
            this.begun |= buffer.filled().len() > before;
            return polled;
        }
        if this.begun {
            let limit = this.limit;
            let alarm = this
                .alarm
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
            ready!(alarm.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn half_a_head_times_out_and_an_idle_connection_does_not() {
        let (mut client, server) = tokio::io::duplex(64);
        let in_request = InRequest::default();
        let mut server = Patient::new(server, LIMIT, in_request.clone());
        let mut buffer = [0; 64];

        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(server.read(&mut buffer).await.unwrap() > 0);
        in_request.begin();
        let waited = tokio::time::timeout(LIMIT * 100, server.read(&mut buffer)).await;
        assert!(waited.is_err(), "a call in flight has no head to wait for");

        in_request.end();
        let waited = tokio::time::timeout(LIMIT * 100, server.read(&mut buffer)).await;
        assert!(waited.is_err(), "an idle connection may stay");

        client.write_all(b"GET / HT").await.unwrap();
        assert!(server.read(&mut buffer).await.unwrap() > 0);
        let error = server.read(&mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_call_was_answered_at_once_may_stay_idle() {
        let (mut client, server) = tokio::io::duplex(64);
        let in_request = InRequest::default();
        let mut server = Patient::new(server, LIMIT, in_request.clone());
        let mut buffer = [0; 64];
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(server.read(&mut buffer).await.unwrap() > 0);
        // The socket is not read in between.
        in_request.begin();
        in_request.end();
        let waited = tokio::time::timeout(LIMIT * 100, server.read(&mut buffer)).await;
        assert!(waited.is_err());
    }
}
