//! Keeps what is said in a call, for spans that hold it: bytes as they pass, within the bounds that
//! bodies are peeked at. They are read once the call is over, elsewhere.

use std::{borrow::Cow, sync::Arc};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header::CONTENT_ENCODING};

use super::peek::{Bounds, Place, Room};
use crate::{
    call::{
        content::{Content, Messages},
        json_path::JsonPath,
    },
    pipeline::{Captured, ContentPolicy},
    provider::{
        content::{Response, blunt_ends, messages},
        wire::framing::Framing,
    },
};

/// Smaller pieces are copied: each would keep all of the buffer that it was read into.
const WORTH_SHARING: usize = 16 << 10;

/// What is said in a call.
pub(super) struct Said {
    policy: Arc<ContentPolicy>,
    room: Arc<Room>,
    bounds: Bounds,
    request: Kept,
    answer: Kept,
    /// A message was not kept, or not as a whole.
    lacks: bool,
}

/// One side of it.
pub(super) struct Kept {
    /// The pieces, in order; those of a socket are its messages.
    pieces: Vec<Bytes>,
    /// The last piece, while it grows.
    tail: BytesMut,
    /// How a stream is divided.
    framing: Option<Framing>,
    in_socket: bool,
    /// Not all of it is there.
    cut: bool,
    bytes: u64,
    bounds: Bounds,
    place: Place,
}

impl Said {
    pub(super) fn new(policy: &Arc<ContentPolicy>, bounds: Bounds, room: &Arc<Room>) -> Self {
        Self {
            policy: Arc::clone(policy),
            room: Arc::clone(room),
            bounds,
            request: Kept::new(bounds, room),
            answer: Kept::new(bounds, room),
            lacks: false,
        }
    }

    /// A message could not be kept as a whole; those behind it are kept all the same.
    pub(super) const fn lacks(&mut self) {
        self.lacks = true;
    }

    /// Keeps a request's body; `plain` is what it says, `None`: that cannot be read.
    pub(super) fn asked(&mut self, body: &Bytes, plain: Option<&Cow<'_, [u8]>>) {
        match plain {
            Some(Cow::Borrowed(_)) => self.request.keep(body),
            Some(Cow::Owned(plain)) => self.request.keep_copy(plain),
            None => self.request.cut = true,
        }
    }

    /// Keeps what was read of a body that is too large to hold.
    pub(super) fn asked_in_part(&mut self, headers: &HeaderMap, begun: &[Bytes]) {
        if !headers.contains_key(CONTENT_ENCODING) {
            for frame in begun {
                self.request.keep(frame);
            }
        }
        self.request.cut = true;
    }

    /// Keeps the message of a socket that asks for a response.
    pub(super) fn asked_in_socket(&mut self, message: &[u8]) {
        self.request.keep_copy(message);
    }

    /// Keeps a message of a socket.
    pub(super) fn told(&mut self, message: &[u8]) {
        self.answer.in_socket = true;
        self.answer.keep_message(message);
    }

    /// Where an answer is kept while it passes; `framing`: of a stream.
    pub(super) fn answer(&self, framing: Option<Framing>) -> Kept {
        Kept {
            framing,
            ..Kept::new(self.bounds, &self.room)
        }
    }

    /// The answer has passed.
    pub(super) fn answered(&mut self, answer: Kept) {
        self.answer = answer;
    }

    /// For the span.
    pub(super) fn captured(mut self: Box<Self>) -> Captured {
        self.request.rest();
        self.answer.rest();
        let policy = Arc::clone(&self.policy);
        Captured::new(self, policy)
    }
}

impl Kept {
    fn new(bounds: Bounds, room: &Arc<Room>) -> Self {
        Self {
            pieces: Vec::new(),
            tail: BytesMut::new(),
            framing: None,
            in_socket: false,
            cut: false,
            bytes: 0,
            bounds,
            place: Place::new(Arc::clone(room)),
        }
    }

    /// How many of so many more bytes there is room for. Of what comes behind a gap nothing is kept.
    fn room_for(&mut self, more: usize) -> usize {
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        let left = self.bounds.each.saturating_sub(self.bytes);
        let fits = if self.cut { 0 } else { more.min(left) };
        let taken = fits > 0 && self.place.take(fits, self.bounds.total);
        let fits = if taken { fits } else { 0 };
        self.bytes += fits;
        self.cut |= fits < more;
        usize::try_from(fits).unwrap_or_default()
    }

    /// Keeps a piece that has come.
    pub(super) fn keep(&mut self, piece: &Bytes) {
        if piece.len() < WORTH_SHARING {
            self.keep_copy(piece);
            return;
        }
        let fits = self.room_for(piece.len());
        if fits > 0 {
            self.rest();
            self.pieces.push(piece.slice(..fits));
        }
    }

    fn keep_copy(&mut self, piece: &[u8]) {
        let fits = self.room_for(piece.len());
        self.tail
            .extend_from_slice(piece.get(..fits).unwrap_or_default());
    }

    fn keep_message(&mut self, message: &[u8]) {
        let size = message.len().saturating_add(size_of::<Bytes>());
        if self.room_for(size) == size {
            self.pieces.push(Bytes::copy_from_slice(message));
        }
    }

    /// Nothing more comes to the last piece.
    fn rest(&mut self) {
        let tail = std::mem::take(&mut self.tail);
        if !tail.is_empty() {
            self.pieces.push(tail.freeze());
        }
    }

    fn joined(&self) -> Cow<'_, [u8]> {
        match &*self.pieces {
            [] => Cow::Borrowed(b""),
            [one] => Cow::Borrowed(one),
            many => Cow::Owned(many.concat()),
        }
    }
}

impl Content for Said {
    fn read(&self, hidden: &[JsonPath]) -> Messages {
        let request = self.request.joined();
        let answer;
        let response = if self.answer.in_socket {
            Response::Messages(&self.answer.pieces)
        } else {
            answer = self.answer.joined();
            match self.answer.framing {
                _ if answer.is_empty() => Response::None,
                Some(framing) => Response::Stream(framing, &answer),
                None => Response::Document(&answer),
            }
        };
        let mut messages = messages(&request, response, hidden);
        if self.answer.cut && (self.answer.in_socket || self.answer.framing.is_some()) {
            blunt_ends(&mut messages.output);
        }
        messages.cut |= self.request.cut || self.answer.cut || self.lacks;
        messages
    }

    fn size(&self) -> usize {
        let sides = [&self.request, &self.answer];
        let pieces = sides.into_iter().flat_map(|side| &side.pieces);
        pieces.map(Bytes::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pipeline::Config;

    fn said(each: u64, total: u64, room: &Arc<Room>) -> Box<Said> {
        let config: Config = serde_saphyr::from_str("content: full").unwrap();
        let policy = ContentPolicy::of(&config).unwrap().unwrap();
        let bounds = Bounds {
            each,
            total,
            wait: Duration::ZERO,
        };
        Box::new(Said::new(&policy, bounds, room))
    }

    #[test]
    fn what_is_kept_is_bounded_and_its_room_is_given_back() {
        let room = Arc::<Room>::default();
        let mut call = said(30, 1_000, &room);
        let body = Bytes::from_static(br#"{"input":"Hi"}"#);
        call.asked(&body, Some(&Cow::Borrowed(&body)));
        let mut answer = call.answer(Some(Framing::Lines));
        for line in [r#"{"response":"a"}"#, "\n", r#"{"response":"b"}"#, "x"] {
            answer.keep(&Bytes::from_static(line.as_bytes()));
        }
        answer.rest();
        call.request.rest();
        call.answered(answer);
        assert_eq!(room.held(), 14 + 30);
        let found = call.read(&[]);
        assert!(found.cut);
        assert_eq!(found.input[0]["parts"][0]["content"], "Hi");
        drop(call);
        assert_eq!(room.held(), 0);
    }

    #[test]
    fn all_calls_together_keep_no_more_than_there_is_room_for() {
        let room = Arc::<Room>::default();
        let mut first = said(100, 100, &room);
        let mut second = said(100, 100, &room);
        let body = Bytes::from(vec![b' '; 80]);
        first.asked(&body, Some(&Cow::Borrowed(&body)));
        second.asked(&body, Some(&Cow::Borrowed(&body)));
        assert_eq!((room.held(), room.turned_away()), (80, 1));
        assert!(!first.request.cut && second.request.cut);
    }

    #[test]
    fn what_was_not_read_is_said_to_be_missing() {
        let mut call = said(100, 100, &Arc::default());
        assert!(!call.read(&[]).cut);
        call.lacks();
        assert!(call.read(&[]).cut);
    }

    #[test]
    fn large_pieces_are_shared_and_small_ones_joined() {
        let room = Arc::<Room>::default();
        let mut answer = said(1 << 20, 1 << 20, &room).answer(None);
        let large = Bytes::from(vec![b'x'; WORTH_SHARING]);
        for piece in [&Bytes::from_static(b"a"), &Bytes::from_static(b"b"), &large] {
            answer.keep(piece);
        }
        answer.rest();
        assert_eq!(answer.pieces.len(), 2);
        assert_eq!(answer.pieces[1].as_ptr(), large.as_ptr());
        assert_eq!(answer.joined().len(), 2 + WORTH_SHARING);
    }
}
