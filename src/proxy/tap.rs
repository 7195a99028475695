//! The response's body on its way to the client: passes each frame on while the observer reads the
//! same bytes. It owns the exchange, so that a call settles exactly once however it ends: at the
//! last byte, at a failure, or when the client leaves and hyper drops the body.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::{
    events::Events, exchange::Exchange, interrupt::Ear, kill::Looked, observe::Observer,
    peek::Place,
};
use crate::{
    call::{outcome::End, refusal::Refusal},
    net::{
        BoxError,
        upstream::{UpstreamBody, UpstreamError},
    },
};

/// How long a stream that is stopped in the midst of an event has time to end it.
const LAST_EVENT: Duration = Duration::from_millis(800);

/// Room for what is kept of an output is taken in pieces of so many bytes.
const PIECE: u64 = 4 << 10;

/// How a response broke off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Upstream(UpstreamError),
    #[error("it was cut, and cannot be ended in its own way")]
    Cut,
}

/// A response's body.
pub(super) struct Tap {
    /// `None` once it is over; dropping it aborts the upstream.
    upstream: Option<UpstreamBody>,
    observer: Observer,
    exchange: Box<Exchange>,
    ear: Ear,
    looked: Looked,
    /// Room for what is kept of the output; `None`: nothing is.
    output: Option<Place>,
    /// Why it is to end as soon as the event is whole that has passed in part, and when at the latest.
    stopping: Option<(Refusal, Pin<Box<Sleep>>)>,
    /// What may pass and has not.
    ready: VecDeque<Bytes>,
    /// How it broke off, to be said after what is ready.
    broken: Option<Broken>,
    /// What was handed over before it broke off had its turn to be written: hyper forgets what it
    /// has not written when it is told of an error.
    flushed: bool,
}

impl Tap {
    pub(super) fn new(upstream: UpstreamBody, observer: Observer, exchange: Box<Exchange>) -> Self {
        let keeps = observer.state.keeps_output;
        let output = keeps.then(|| Place::new(Arc::clone(&exchange.proxy.outputs)));
        let mut tap = Self {
            upstream: Some(upstream),
            observer,
            exchange,
            ear: Ear::default(),
            looked: Looked::default(),
            output,
            stopping: None,
            ready: VecDeque::new(),
            broken: None,
            flushed: false,
        };
        // Nobody asks for the frames of a body that is over from the start.
        if tap.upstream.as_ref().is_some_and(Body::is_end_stream) {
            tap.end(End::Complete);
        }
        tap
    }

    /// Takes in a frame's bytes; what may pass of them is ready afterwards.
    fn take(&mut self, bytes: Bytes, last: bool) {
        self.exchange.saw_bytes();
        self.observer
            .take(bytes, last, &mut self.ready, &mut *self.exchange);
        if self.exchange.is_cut() {
            self.cut();
        } else if self.stopping.is_some() && !self.is_within() {
            self.stop_now();
        } else if last {
            self.end(End::Complete);
        } else {
            self.hold_output();
        }
    }

    /// Takes room for what is kept of the output, or lets go of it.
    fn hold_output(&mut self) {
        let Some(place) = &mut self.output else {
            return;
        };
        let kept = u64::try_from(self.observer.state.output_bytes()).unwrap_or(u64::MAX);
        let pieces = kept.div_ceil(PIECE).saturating_mul(PIECE);
        let more = pieces.saturating_sub(place.bytes());
        let fits = more == 0 || place.take(more, self.exchange.live.bounds.total);
        if !fits {
            self.observer.state.lose_output();
        }
        let is_let_go = kept == 0 && place.bytes() > 0;
        if !fits || is_let_go {
            self.output = None;
        }
    }

    /// The stream is over: reads what is left and settles.
    fn end(&mut self, end: End) {
        self.upstream = None;
        self.observer.end(&mut self.ready, &mut *self.exchange);
        self.exchange.finish_with(end, &mut self.observer);
    }

    /// A limit was reached: the client gets a legal end, the provider an abort.
    fn cut(&mut self) {
        self.upstream = None;
        self.observer.state.take_back();
        let last_events = match &self.exchange.refusal {
            Some(why) if self.observer.is_editable() => {
                self.exchange.last_events(why, &self.observer)
            },
            _ => Bytes::new(),
        };
        self.end_with(last_events);
    }

    /// It is to end, since we leave.
    fn interrupt(&mut self, why: &Refusal) {
        self.exchange.interrupted();
        self.stop(why);
    }

    /// It is to end, since it was ordered to: after a whole event, unless that is long in coming.
    fn kill(&mut self, why: Refusal) {
        let latest = Box::pin(tokio::time::sleep(LAST_EVENT));
        self.stopping = Some((why, latest));
        if self.is_open() && self.is_within() {
            self.observer.close();
        } else {
            self.stop_now();
        }
    }

    /// The event is whole that it had to end after, or there was none, or it has taken too long.
    fn stop_now(&mut self) {
        if let Some((why, _)) = self.stopping.take() {
            self.exchange.killed(why.clone());
            self.stop(&why);
        }
    }

    /// Whether its last events can be put in here.
    fn is_between(&self) -> bool {
        self.observer.plain().is_some_and(Events::is_between)
    }

    /// Whether they can be once the event is whole that has passed in part.
    fn is_within(&self) -> bool {
        self.observer.plain().is_some_and(Events::is_within)
    }

    /// Whether it goes on and may become longer: what has a length may not.
    fn is_open(&self) -> bool {
        let upstream = self.upstream.as_ref();
        upstream.is_some_and(|upstream| upstream.size_hint().exact().is_none())
    }

    /// It is to end, whatever it has cost.
    fn stop(&mut self, why: &Refusal) {
        let is_open = self.is_open();
        self.upstream = None;
        let last_events =
            if is_open && self.is_between() && !self.exchange.has_all(&self.observer.facts) {
                self.exchange.last_events(why, &self.observer)
            } else {
                Bytes::new()
            };
        self.end_with(last_events);
    }

    fn end_with(&mut self, last_events: Bytes) {
        if last_events.is_empty() {
            self.broken = Some(Broken::Cut);
        } else {
            if self.observer.state.has_lost_output() {
                self.exchange.left_out_output();
            }
            self.ready.push_back(last_events);
        }
        self.exchange.finish_with(End::Cut, &mut self.observer);
    }
}

impl Body for Tap {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            if let Some(bytes) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let Some(upstream) = &mut this.upstream else {
                if this.broken.is_some() && !std::mem::replace(&mut this.flushed, true) {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                return Poll::Ready(this.broken.take().map(|error| Err(error.into())));
            };
            if let Some(why) = this.ear.hears().map(Arc::clone) {
                this.interrupt(&why);
                continue;
            }
            if let Some((_, latest)) = &mut this.stopping {
                if latest.as_mut().poll(cx).is_ready() {
                    this.stop_now();
                    continue;
                }
            } else if let Some(why) = this.looked.stops(&this.exchange) {
                this.kill(why);
                continue;
            }
            let Poll::Ready(polled) = Pin::new(&mut *upstream).poll_frame(cx) else {
                let (proxy, id) = (&this.exchange.proxy, this.exchange.trace.span_id);
                // In this order: whoever orders a kill says so before it wakes anybody.
                let is_to_end = this.ear.listen(&proxy.interrupts, id, cx.waker());
                let is_news = this.stopping.is_none() && this.looked.is_behind(proxy.kills());
                if is_to_end || is_news {
                    continue;
                }
                return Poll::Pending;
            };
            match polled {
                Some(Ok(frame)) => {
                    let last = upstream.is_end_stream();
                    match frame.into_data() {
                        Ok(bytes) => this.take(bytes, last),
                        Err(trailers) => {
                            if last {
                                this.end(End::Complete);
                            }
                            return Poll::Ready(Some(Ok(trailers)));
                        },
                    }
                },
                Some(Err(error)) => {
                    this.exchange.failed(&error);
                    this.end(End::Upstream);
                    this.broken = Some(Broken::Upstream(error));
                },
                None => this.end(End::Complete),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.upstream.is_none() && self.ready.is_empty() && self.broken.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.upstream {
            Some(upstream) if !self.observer.is_editable() => upstream.size_hint(),
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(self.ready.iter().map(|bytes| bytes.len() as u64).sum()),
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // Does nothing if the call has been settled.
        let end = self.exchange.abandoned();
        self.exchange.finish_with(end, &mut self.observer);
    }
}
