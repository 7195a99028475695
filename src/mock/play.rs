//! The body of an answer as hyper takes it: piece by piece, in its time, to its end, good or bad.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::{
    line::Line,
    recorder::{End, Receipt},
    reply::Piece,
};

/// What comes after the last piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Finale {
    /// The end.
    #[default]
    Complete,
    /// Nothing, for ever.
    Hang,
    /// The connection closes.
    Close,
    /// The connection is reset.
    Reset,
}

/// The times of a body.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Before the first piece.
    pub(super) first: Duration,
    /// Before each other piece.
    pub(super) gap: Duration,
}

/// A body being sent.
pub(super) struct Play {
    pub(super) pieces: VecDeque<Piece>,
    pub(super) pace: Pace,
    pub(super) finale: Finale,
    pub(super) receipt: Receipt,
    pub(super) line: Arc<Line>,
    state: State,
    sleep: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The next piece's time must still come.
    Waiting,
    /// The next piece may go.
    Due,
}

impl Play {
    pub(super) fn new(pieces: VecDeque<Piece>, line: Arc<Line>, receipt: Receipt) -> Self {
        Self {
            pieces,
            pace: Pace::default(),
            finale: Finale::Complete,
            receipt,
            line,
            state: State::Due,
            sleep: None,
        }
    }

    #[must_use]
    pub(super) fn paced(mut self, pace: Pace) -> Self {
        self.pace = pace;
        if !pace.first.is_zero() {
            self.state = State::Waiting;
            self.sleep = Some(Box::pin(tokio::time::sleep(pace.first)));
        }
        self
    }

    #[must_use]
    pub(super) fn ending(mut self, finale: Finale) -> Self {
        self.finale = finale;
        if self.pieces.is_empty() {
            self.wait_for_next(); // The head goes out before the end comes.
        }
        self
    }

    /// Between two pieces the connection gets its turn even when there is nothing to wait for: what
    /// was handed out is then written by itself, as a provider writes each event.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.state == State::Due {
            return Poll::Ready(());
        }
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
            self.state = State::Due;
            return Poll::Ready(());
        }
        self.state = State::Due;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn wait_for_next(&mut self) {
        let last = self.pieces.is_empty();
        self.state = State::Waiting;
        self.sleep = match self.finale {
            Finale::Complete if last => None,
            // HTTP/2 has a buffer of its own, which a reset empties: give it time.
            Finale::Close | Finale::Reset if last => Some(Duration::from_millis(5)),
            _ if self.pace.gap.is_zero() => None,
            _ => Some(self.pace.gap),
        }
        .map(|time| Box::pin(tokio::time::sleep(time)));
    }

    fn next(&mut self) -> Option<Bytes> {
        let (bytes, rest) = match self.pieces.pop_front()? {
            Piece::Bytes(bytes) => (bytes, None),
            Piece::Repeat(block, len) => {
                let size = usize::try_from(len).unwrap_or(usize::MAX).min(block.len());
                let left = len - u64::try_from(size).unwrap_or(len);
                (block.slice(..size), (left > 0).then_some((block, left)))
            },
        };
        if let Some((block, left)) = rest {
            self.pieces.push_front(Piece::Repeat(block, left));
        } else {
            self.wait_for_next();
        }
        self.receipt
            .sent(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Some(bytes)
    }
}

impl Body for Play {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        ready!(self.poll_turn(cx));
        if let Some(bytes) = self.next() {
            if self.pieces.is_empty() && self.finale == Finale::Complete {
                // A body of known length is not asked for more.
                self.receipt.ended(End::Complete);
            }
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match self.finale {
            Finale::Complete => {
                self.receipt.ended(End::Complete);
                Poll::Ready(None)
            },
            Finale::Hang => Poll::Pending,
            Finale::Close | Finale::Reset => {
                self.receipt.ended(End::Broken);
                if self.finale == Finale::Reset {
                    self.line.reset_at_close();
                }
                Poll::Ready(Some(Err(io::Error::other(
                    "the settings end the body here",
                ))))
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.finale == Finale::Complete
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default() // Lengths are declared in the header, where they can be false.
    }
}
