//! How long a client may keep us waiting for the body of its request.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::BoxError;
use crate::base::clock::{Clock as _, SystemClock};

/// What a byte gives back of the patience that was used up: 500 of them a second are fast enough
/// for ever.
const A_BYTE: Duration = Duration::from_millis(2);

/// Why the body of a request did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Unfinished {
    /// The client left or broke the framing.
    #[error("the request's body broke off: {0}")]
    Broken(BoxError),
    /// The client was too slow.
    #[error(
        "the request's body did not come to its end: it was waited for {0:?} \
         (limits.body_wait)"
    )]
    Slow(Duration),
}

/// A request's body that fails with [`Unfinished::Slow`] when it was waited for too long. Time in
/// which nobody asks for the body does not count, and bytes that come give some of it back.
#[derive(Debug)]
pub struct Paced<B> {
    body: B,
    /// What is waited at most.
    patience: Duration,
    left: Duration,
    /// Set when the body is first waited for, and again each time after.
    alarm: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl<B> Paced<B> {
    /// Waits for `patience` in all.
    pub const fn new(body: B, patience: Duration) -> Self {
        Self {
            body,
            patience,
            left: patience,
            alarm: None,
            waiting: false,
        }
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let end = SystemClock.mono() + self.left;
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        if !std::mem::replace(&mut self.waiting, true) {
            alarm.as_mut().reset(end);
        }
        alarm.as_mut().poll(cx)
    }

    fn came(&mut self, bytes: usize) {
        if std::mem::take(&mut self.waiting)
            && let Some(alarm) = &self.alarm
        {
            let now = SystemClock.mono();
            self.left = alarm.deadline().saturating_duration_since(now);
        }
        let back = A_BYTE.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.left = self.left.saturating_add(back).min(self.patience);
    }
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin> Body for Paced<B> {
    type Data = Bytes;
    type Error = Unfinished;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            ready!(this.poll_alarm(cx));
            return Poll::Ready(Some(Err(Unfinished::Slow(this.patience))));
        };
        if let Some(Ok(frame)) = &frame {
            this.came(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| Unfinished::Broken(error.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::BodyExt as _;
    use tokio::sync::mpsc;

    use super::*;

    struct Channel(mpsc::Receiver<Bytes>);

    impl Body for Channel {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let bytes = ready!(self.0.poll_recv(cx));
            Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
        }
    }

    /// Waited for ten seconds.
    fn paced() -> (mpsc::Sender<Bytes>, Paced<Channel>) {
        let (send, receive) = mpsc::channel(8);
        (send, Paced::new(Channel(receive), Duration::from_secs(10)))
    }

    /// What comes when so many bytes are sent after so many seconds.
    async fn after(
        seconds: u64,
        bytes: usize,
        send: &mpsc::Sender<Bytes>,
        body: &mut Paced<Channel>,
    ) -> Option<Result<Frame<Bytes>, Unfinished>> {
        let sending = async {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            send.send(vec![b'x'; bytes].into()).await.unwrap();
        };
        tokio::join!(body.frame(), sending).0
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it_when_all_patience_is_used_up() {
        let (send, mut body) = paced();
        for _ in 0..4 {
            let came = after(2, 1, &send, &mut body).await;
            assert!(came.unwrap().is_ok());
        }
        let began = SystemClock.mono();
        assert!(matches!(body.frame().await, Some(Err(Unfinished::Slow(_)))));
        let waited = SystemClock.mono().duration_since(began);
        assert!(waited < Duration::from_millis(2_050), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_fast_enough_may_take_for_ever_and_nobody_s_pause_counts() {
        let (send, mut body) = paced();
        for _ in 0..100 {
            let came = after(9, 5_000, &send, &mut body).await;
            assert!(came.unwrap().is_ok());
            tokio::time::sleep(Duration::from_hours(1)).await;
        }
        drop(send);
        assert!(body.frame().await.is_none());
    }
}
