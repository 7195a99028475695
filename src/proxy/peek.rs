//! Reads a request's body whole before anything is sent, as far as the bounds allow. A larger one
//! streams: it is scanned on its way, and its last frame waits until the call is admitted, so that
//! a refused call never was a whole request for the provider.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::exchange::Exchange;
use crate::{
    call::{facts::RequestFacts, labels::Source},
    net::{
        BoxError,
        pace::{Paced, Unfinished},
    },
    provider::wire::{encoding::Decoder, form::BodyScanner, scan::Reduced},
};

/// Facts and labels of a body of which only what matters is left.
pub(super) fn read_reduced(exchange: &mut Exchange, reduced: &Reduced) {
    // Before the reading: what is billed by the piece may depend on the size.
    reduced.bound(&mut exchange.request.input);
    read_request(exchange, &reduced.document, true);
}

/// The same, where the body may not have been read.
pub(super) fn read_scanned(exchange: &mut Exchange, scanned: Option<&Reduced>) {
    match scanned {
        Some(reduced) => read_reduced(exchange, reduced),
        None => read_request(exchange, &[], true),
    }
}

/// Facts and labels of the request's body.
pub(super) fn read_request(exchange: &mut Exchange, body: &[u8], expected: bool) {
    let route = &exchange.route;
    // Not the provider's own: many serve the endpoints of others.
    let read = |body: &[u8], facts: &mut RequestFacts| {
        let (dialect, operation) = (route.dialect, route.operation);
        dialect.read_request(operation, route.path(), body, facts)
    };
    if read(body, &mut exchange.request).is_err() && expected {
        exchange.partial = Some("request body");
        // Behind the place where it cannot be read it may name another model, unless its path does.
        let mut by_path = RequestFacts::default();
        let _unreadable = read(b"", &mut by_path);
        exchange.request.hides_model = by_path.model.is_none();
    }
    for (label, value) in std::mem::take(&mut exchange.request.labels) {
        exchange.labels.set(label, &value, Source::Body);
    }
}

/// How much of all requests together may be held at once, and how often a call found no room.
#[derive(Debug, Default)]
pub(super) struct Room {
    held: AtomicU64,
    turned_away: AtomicU64,
    /// The room that this is a part of.
    whole: Option<Arc<Self>>,
}

impl Room {
    /// A part of `whole` for what can be done without: what is held here is held there as well, and
    /// there is room only while half of that is free.
    pub(super) fn within(whole: &Arc<Self>) -> Self {
        Self {
            whole: Some(Arc::clone(whole)),
            ..Self::default()
        }
    }

    fn hold(&self, more: u64, total: u64) -> bool {
        let before = self.held.fetch_add(more, Relaxed);
        let fits = before.saturating_add(more) <= total;
        if !fits {
            self.held.fetch_sub(more, Relaxed);
        }
        fits
    }

    /// Bytes held now.
    pub(super) fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// How often there was no room: bodies that streamed, or outputs that were let go.
    pub(super) fn turned_away(&self) -> u64 {
        self.turned_away.load(Relaxed)
    }
}

/// Room taken; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    bytes: u64,
}

impl Place {
    pub(super) const fn new(room: Arc<Room>) -> Self {
        Self { room, bytes: 0 }
    }

    /// Takes room for `more` bytes, unless that would go over `total`.
    pub(super) fn take(&mut self, more: u64, total: u64) -> bool {
        let room = &*self.room;
        let (widest, most) = match &room.whole {
            Some(whole) => (&**whole, total / 2),
            None => (room, total),
        };
        if !widest.hold(more, most) {
            room.turned_away.fetch_add(1, Relaxed);
            return false;
        }
        if room.whole.is_some() {
            room.held.fetch_add(more, Relaxed);
        }
        self.bytes += more;
        true
    }

    /// Bytes taken.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.held.fetch_sub(self.bytes, Relaxed);
        if let Some(whole) = &self.room.whole {
            whole.held.fetch_sub(self.bytes, Relaxed);
        }
    }
}

/// The bounds of what is read before a call is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Of one body, in bytes.
    pub(super) each: u64,
    /// Of all bodies together, in bytes.
    pub(super) total: u64,
    /// How long one is waited for.
    pub(super) wait: Duration,
}

/// What became of the body.
pub(super) enum Peeked {
    /// All of it, and its trailers.
    Whole {
        body: Bytes,
        trailers: Option<HeaderMap>,
        place: Place,
    },
    /// Too large: what was read so far, and the rest.
    Large {
        begun: Vec<Bytes>,
        rest: Paced<Incoming>,
    },
}

impl Peeked {
    /// The body, if it is held whole.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        match self {
            Self::Whole { body, .. } => Some(body),
            Self::Large { .. } => None,
        }
    }
}

/// Reads `body`, up to the bounds.
///
/// # Errors
/// It did not come to its end; nothing was sent.
pub(super) async fn peek(
    body: Incoming,
    bounds: Bounds,
    room: &Arc<Room>,
) -> Result<Peeked, Unfinished> {
    let mut body = Paced::new(body, bounds.wait);
    let mut place = Place::new(Arc::clone(room));
    let known = body.size_hint().exact();
    let fits = |bytes: u64| bytes <= bounds.each;
    // Room is taken as bytes come, not as they are announced: an announcement costs nothing.
    if known.is_some_and(|known| !fits(known)) {
        return Ok(Peeked::Large {
            begun: Vec::new(),
            rest: body,
        });
    }
    let (mut frames, mut read, mut trailers) = (Vec::new(), 0_u64, None);
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else {
            break;
        };
        match frame?.into_data() {
            Ok(bytes) => {
                let more = bytes.len() as u64;
                read += more;
                frames.push(bytes);
                let room = place.take(more, bounds.total);
                if !fits(read) || !room {
                    return Ok(Peeked::Large {
                        begun: frames,
                        rest: body,
                    });
                }
            },
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok(Peeked::Whole {
        body: joined(frames),
        trailers,
        place,
    })
}

/// One run of bytes; without a copy where it came as one.
fn joined(mut frames: Vec<Bytes>) -> Bytes {
    match frames.len() {
        0 | 1 => frames.pop().unwrap_or_default(),
        _ => {
            let mut whole = BytesMut::with_capacity(frames.iter().map(Bytes::len).sum());
            for frame in &frames {
                whole.extend_from_slice(frame);
            }
            whole.freeze()
        },
    }
}

/// A large body on its way. Frames are passed one behind, since only the end of the body tells
/// which frame is the last.
pub(super) struct Guarded {
    begun: std::vec::IntoIter<Bytes>,
    rest: Paced<Incoming>,
    ahead: Option<Frame<Bytes>>,
    reading: Option<Reading>,
    scanned: Option<oneshot::Sender<Option<Reduced>>>,
    admitted: oneshot::Receiver<()>,
}

/// Reads a large body on its way.
pub(super) struct Reading {
    decoder: Option<Decoder>,
    scanner: BodyScanner,
}

impl Reading {
    /// Of a body that these headers describe; `None` if it is encoded in an unknown way.
    pub(super) fn of(headers: &HeaderMap, scanner: BodyScanner) -> Option<Self> {
        Some(Self {
            decoder: Decoder::of(headers).ok()?,
            scanner,
        })
    }

    /// Takes in the next bytes; `None` if they are not encoded as the headers say.
    fn feed(mut self, bytes: &[u8]) -> Option<Self> {
        let scanner = &mut self.scanner;
        match &mut self.decoder {
            Some(decoder) => decoder.feed(bytes, &mut |plain| scanner.feed(plain)).ok()?,
            None => scanner.feed(bytes),
        }
        Some(self)
    }

    fn finish(self) -> Option<Reduced> {
        if let Some(decoder) = &self.decoder {
            decoder.finish().ok()?;
        }
        Some(self.scanner.finish())
    }
}

/// The other end of a [`Guarded`] body.
pub(super) struct Guard {
    /// What the scanner left, once the body has been read to its end.
    pub(super) scanned: oneshot::Receiver<Option<Reduced>>,
    /// Lets the last frame go. Dropped instead, the request is reset.
    pub(super) admit: oneshot::Sender<()>,
}

impl Guarded {
    pub(super) fn new(
        begun: Vec<Bytes>,
        rest: Paced<Incoming>,
        reading: Option<Reading>,
    ) -> (Self, Guard) {
        let (told, document) = oneshot::channel();
        let (admit, admitted) = oneshot::channel();
        let body = Self {
            begun: begun.into_iter(),
            rest,
            ahead: None,
            reading,
            scanned: Some(told),
            admitted,
        };
        (
            body,
            Guard {
                scanned: document,
                admit,
            },
        )
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        match self.begun.next() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }
}

impl Body for Guarded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        while this.scanned.is_some() {
            match ready!(this.next(cx)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        this.reading = this.reading.take().and_then(|read| read.feed(bytes));
                    }
                    if let Some(before) = this.ahead.replace(frame) {
                        return Poll::Ready(Some(Ok(before)));
                    }
                },
                None => {
                    let document = this.reading.take().and_then(Reading::finish);
                    if let Some(scanned) = this.scanned.take() {
                        // Nobody listens any more: the call is over, and so is this body.
                        drop(scanned.send(document));
                    }
                },
            }
        }
        if this.ahead.is_none() {
            return Poll::Ready(None);
        }
        match ready!(Pin::new(&mut this.admitted).poll(cx)) {
            Ok(()) => Poll::Ready(this.ahead.take().map(Ok)),
            Err(refused) => Poll::Ready(Some(Err(refused.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.scanned.is_none() && self.ahead.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let waiting = self
            .begun
            .as_slice()
            .iter()
            .map(|bytes| bytes.len() as u64)
            .sum::<u64>();
        let ahead = self
            .ahead
            .as_ref()
            .and_then(Frame::data_ref)
            .map_or(0, |b| b.len() as u64);
        match self.rest.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(waiting + ahead + rest),
            None => SizeHint::default(),
        }
    }
}
