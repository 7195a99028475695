//! A socket of which some bytes were read before it was known what they are: they come first.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    opening::Opening,
    peek::{self, peek},
};

/// A client's socket, and what was read of it.
#[derive(Debug)]
pub struct Begun {
    socket: TcpStream,
    begun: Bytes,
}

impl Begun {
    /// With what was read; empty if nothing was.
    pub const fn new(socket: TcpStream, begun: Bytes) -> Self {
        Self { socket, begun }
    }

    /// What it begins with, as far as that tells for whom it is; all of it stays to be read. `None`:
    /// the client has ended too early. If this is not waited for to its end, [`Self::settle`] has to
    /// follow.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn opening(&self) -> io::Result<Option<Opening>> {
        peek(&self.socket, &self.begun).await
    }

    /// Has what was looked at in vain ready to be read.
    ///
    /// # Errors
    /// The connection broke.
    pub fn settle(&mut self) -> io::Result<()> {
        let seen = peek::take(&self.socket)?;
        if !seen.is_empty() {
            self.begun = Bytes::from([&*self.begun, &*seen].concat());
        }
        Ok(())
    }

    /// What was looked at in vain, once it is [settled](Self::settle); empty if the client has said
    /// nothing.
    pub fn begun(&self) -> &[u8] {
        &self.begun
    }

    /// Both.
    pub fn into_parts(self) -> (TcpStream, Bytes) {
        (self.socket, self.begun)
    }

    /// The first byte, which stays to be read. `None`: the client has ended without any.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn first(&self) -> io::Result<Option<u8>> {
        if let Some(first) = self.begun.first() {
            return Ok(Some(*first));
        }
        let mut first = [0];
        let length = self.socket.peek(&mut first).await?;
        Ok(first.first().copied().filter(|_| length > 0))
    }
}

impl AsyncRead for Begun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.begun.is_empty() {
            return Pin::new(&mut this.socket).poll_read(cx, buffer);
        }
        let count = this.begun.len().min(buffer.remaining());
        buffer.put_slice(this.begun.get(..count).unwrap_or_default());
        this.begun.advance(count);
        if this.begun.is_empty() {
            // A part would keep all of the buffer that it was read into.
            this.begun = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
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
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn what_was_read_comes_first_and_the_first_byte_stays() {
        for begun in ["", "abc"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut client = TcpStream::connect(address).await.unwrap();
            let (socket, _) = listener.accept().await.unwrap();
            let mut socket = Begun::new(socket, Bytes::from(begun));
            client.write_all(b"def").await.unwrap();
            let expected = format!("{begun}def");
            let first = socket.first().await.unwrap();
            assert_eq!(first, expected.bytes().next());
            // In reads that are too small for it.
            let mut read = vec![0; 2];
            socket.read_exact(&mut read).await.unwrap();
            drop(client);
            socket.read_to_end(&mut read).await.unwrap();
            assert_eq!(read, expected.as_bytes());
            assert_eq!(socket.first().await.unwrap(), None);
        }
    }
}
