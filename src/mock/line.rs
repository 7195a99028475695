//! One connection's socket, with the few things that hyper cannot do to it.
//!
//! hyper writes well-formed answers only. To answer otherwise, a reply is written by hand into the
//! body (see [`super::wire`]), and the [`Io`] here takes out the head that hyper put before it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Most bytes kept of what a client sent for one request, head included; the rest is not kept.
const KEPT: usize = 64 * 1024;

/// What a request handler may do to the connection that its request came on.
#[derive(Debug, Default)]
pub(super) struct Line {
    drop_head: AtomicBool,
    reset: AtomicBool,
    /// Bytes read since the last [`Line::take_head`], at most [`KEPT`]; `None`: nothing is kept.
    read: Option<Mutex<Vec<u8>>>,
}

impl Line {
    pub(super) fn new(keep_read: bool) -> Arc<Self> {
        Arc::new(Self {
            read: keep_read.then(Mutex::default),
            ..Self::default()
        })
    }

    /// The next answer's head, as hyper writes it, is not sent.
    pub(super) fn drop_next_head(&self) {
        self.drop_head.store(true, Ordering::Release);
    }

    /// When the connection closes, it closes with a TCP reset.
    pub(super) fn reset_at_close(&self) {
        self.reset.store(true, Ordering::Release);
    }

    /// The request's head exactly as it came, empty line included. Empty if heads are not kept, and
    /// on HTTP/2, which has none. Call it once a request, when its body has been read.
    pub(super) fn take_head(&self) -> Bytes {
        let Some(read) = &self.read else {
            return Bytes::new();
        };
        let mut bytes = std::mem::take(&mut *read.lock());
        match memchr::memmem::find(&bytes, b"\r\n\r\n") {
            Some(end) if !bytes.starts_with(b"PRI * HTTP/2.0") => {
                bytes.truncate(end + 4);
                bytes.into()
            },
            _ => Bytes::new(),
        }
    }
}

/// The socket under hyper.
pub(super) struct Io {
    stream: TcpStream,
    line: Arc<Line>,
}

impl Io {
    pub(super) const fn new(stream: TcpStream, line: Arc<Line>) -> Self {
        Self { stream, line }
    }

    /// How many of these bytes are the head that must not be sent.
    fn head_to_drop(&self, bytes: &[u8]) -> Option<usize> {
        if bytes.is_empty() || !self.line.drop_head.swap(false, Ordering::AcqRel) {
            return None;
        }
        memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if let Some(read) = &self.line.read {
            let mut read = read.lock();
            let room = KEPT.saturating_sub(read.len());
            let fresh = buffer.filled().iter().skip(before).take(room);
            read.extend(fresh);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.head_to_drop(bytes) {
            Some(head) => Poll::Ready(Ok(head)),
            None => Pin::new(&mut self.stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty());
        match first.and_then(|slice| self.head_to_drop(slice)) {
            Some(head) => Poll::Ready(Ok(head)),
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.line.reset.load(Ordering::Acquire) {
            return Poll::Ready(Ok(())); // An orderly end now would make the reset pointless.
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        if self.line.reset.load(Ordering::Acquire) {
            // Closing a socket that does not linger is what sends a reset. If it cannot be set, the
            // peer is gone already.
            socket2::SockRef::from(&self.stream)
                .set_linger(Some(Duration::ZERO))
                .ok();
        }
    }
}
