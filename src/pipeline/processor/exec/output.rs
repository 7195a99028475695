//! What a command prints, line by line, within bounds.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

/// The longest line that is read, in bytes; of a longer one nothing is.
const LONGEST_LINE: usize = 64 << 10;

/// What is read at once, and the most that is read at one tick.
const CHUNK: usize = 16 << 10;

/// The lines of a stream.
pub(super) struct Output<R> {
    /// None: it has ended.
    stream: Option<R>,
    buffer: Vec<u8>,
    /// Up to the end of the line nothing is kept.
    skipping: bool,
    /// Lines that were too long.
    pub(super) cut: u64,
}

impl<R: AsyncRead + Unpin> Output<R> {
    pub(super) const fn of(stream: Option<R>) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            skipping: false,
            cut: 0,
        }
    }

    /// The next line, without its end; none at the end of the stream. What was read stays if the
    /// future is dropped.
    pub(super) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut chunk = [0; 4 << 10];
        loop {
            if let Some(line) = self.line() {
                return Ok(Some(line));
            }
            let Some(stream) = &mut self.stream else {
                return Ok(None);
            };
            let count = stream.read(&mut chunk).await?;
            self.take(chunk.get(..count).unwrap_or_default());
        }
    }

    /// The lines that are there already, without waiting for more.
    pub(super) fn waiting(&mut self) -> Vec<Vec<u8>> {
        let mut chunk = [0; CHUNK];
        if let Some(stream) = &mut self.stream {
            let mut read = ReadBuf::new(&mut chunk);
            let mut context = Context::from_waker(Waker::noop());
            match Pin::new(stream).poll_read(&mut context, &mut read) {
                Poll::Ready(Ok(())) => self.take(read.filled()),
                Poll::Ready(Err(_broken)) => self.stream = None,
                Poll::Pending => {},
            }
        }
        std::iter::from_fn(|| self.line()).collect()
    }

    /// Whether it has ended.
    pub(super) const fn is_over(&self) -> bool {
        self.stream.is_none()
    }

    /// Takes what was read; nothing is the end.
    fn take(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            self.stream = None;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Cuts the first line off the buffer.
    fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            let Some(end) = memchr::memchr(b'\n', &self.buffer) else {
                if self.buffer.len() > LONGEST_LINE {
                    self.buffer.clear();
                    self.cut += u64::from(!std::mem::replace(&mut self.skipping, true));
                }
                return None;
            };
            let rest = self.buffer.split_off(end + 1);
            let mut line = std::mem::replace(&mut self.buffer, rest);
            line.pop();
            if !std::mem::replace(&mut self.skipping, false) {
                return Some(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_one_by_one_and_long_ones_not_at_all() {
        let text = [
            b"a\n\n".to_vec(),
            vec![b'x'; 200_000],
            b"\nb\nno end".to_vec(),
        ]
        .concat();
        let mut output = Output::of(Some(&*text));
        let mut lines = Vec::new();
        while let Some(line) = output.next().await.unwrap() {
            lines.push(String::from_utf8(line).unwrap());
        }
        assert_eq!(lines, ["a", "", "b"]);
        assert_eq!(output.cut, 1);
        assert!(output.is_over());
    }

    #[tokio::test]
    async fn what_is_there_is_read_without_waiting() {
        let (mut writer, reader) = tokio::io::duplex(1 << 10);
        let mut output = Output::of(Some(reader));
        assert!(output.waiting().is_empty() && !output.is_over());
        tokio::io::AsyncWriteExt::write_all(&mut writer, b"a\nb\nc")
            .await
            .unwrap();
        assert_eq!(output.waiting(), [b"a", b"b"]);
        drop(writer);
        assert!(output.waiting().is_empty() && output.is_over());
    }
}
