//! A reply on its way out: by hyper where that can be, by hand where it must.

use std::{collections::VecDeque, future, io, sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH},
};

use super::{
    behaviour::{At, Behaviour, Ending, Wire},
    line::Line,
    play::{Finale, Pace, Play},
    recorder::{End, Receipt},
    reply::{self, Piece, Reply},
    wire::{self, Exact, Framing},
};

/// How answers go out on one connection.
pub(super) struct Way {
    /// Whether the protocol is one that can be written by hand.
    pub(super) by_hand: bool,
    pub(super) line: Arc<Line>,
}

impl Way {
    /// Carries out an ending that comes before the head; returns if there is none.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub(super) async fn before_head(
        &self,
        behaviour: &Behaviour,
        receipt: &mut Receipt,
    ) -> io::Result<()> {
        match behaviour.ending {
            Some(Ending::Hang(At::Head)) => future::pending().await,
            Some(Ending::Reset(At::Head)) => self.line.reset_at_close(),
            Some(Ending::Close(At::Head)) => {},
            _ => return Ok(()),
        }
        receipt.ended(End::Broken);
        Err(io::Error::other("the settings end the connection here"))
    }

    /// Sends an answer as the settings say.
    pub(super) fn send(
        &self,
        reply: Reply,
        behaviour: &Behaviour,
        receipt: Receipt,
    ) -> Response<Play> {
        let status = reply.status;
        let mut headers = reply.headers;
        let mut shaped = reply::shape(reply.payload, behaviour, &mut headers);
        let (finale, at) = match behaviour.ending {
            Some(Ending::Hang(at)) => (Finale::Hang, at),
            Some(Ending::Close(at)) => (Finale::Close, at),
            Some(Ending::Reset(at)) => (Finale::Reset, at),
            None => (Finale::Complete, At::Head),
        };
        if let At::Byte(at) = at {
            reply::cut(&mut shaped.pieces, at);
        }
        let pace = Pace {
            first: behaviour.first,
            gap: if shaped.length.is_some() {
                Duration::ZERO
            } else {
                behaviour.gap
            },
        };
        receipt.answered(status);
        let wire = &behaviour.wire;
        if self.by_hand && *wire != Wire::default() {
            let pieces = wire::by_hand(status, &headers, shaped, wire, finale);
            let close = wire.close || wire.content_length.is_some();
            return self.raw(pieces, close, |pieces| {
                self.play(pieces, receipt).ending(finale).paced(pace)
            });
        }
        let length = shaped.length;
        let play = self.play(shaped.pieces, receipt).ending(finale).paced(pace);
        respond(status, headers, length, play)
    }

    /// Answers that another protocol takes the connection over.
    pub(super) fn switch(&self, reply: Reply) -> Response<Play> {
        let play = self.play(VecDeque::new(), Receipt::none());
        respond(reply.status, reply.headers, None, play)
    }

    /// Sends an exact answer.
    pub(super) fn send_exact(&self, exact: &Exact, receipt: Receipt) -> Response<Play> {
        let status = StatusCode::from_u16(exact.status).unwrap_or_default();
        receipt.answered(status);
        if self.by_hand {
            let close = exact.framing == Framing::Close;
            return self.raw(exact.by_hand(), close, |pieces| self.play(pieces, receipt));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &exact.headers {
            if let Ok(name) = HeaderName::from_bytes(name.as_bytes())
                && let Ok(value) = HeaderValue::from_bytes(value)
                && name != CONNECTION
            {
                headers.append(name, value);
            }
        }
        let length = u64::try_from(exact.body.len()).ok();
        let length = length.filter(|_| exact.framing == Framing::Length);
        respond(status, headers, length, self.play(exact.pieces(), receipt))
    }

    /// Sends bytes that are head and body. hyper is told of a body of their length, and its own
    /// head is dropped.
    fn raw(
        &self,
        pieces: VecDeque<Piece>,
        close: bool,
        play: impl FnOnce(VecDeque<Piece>) -> Play,
    ) -> Response<Play> {
        self.line.drop_next_head();
        let length: u64 = pieces.iter().map(Piece::len).sum();
        let play = play(pieces);
        // A body that breaks off must fall short of what hyper expects.
        let length = length + u64::from(play.finale != Finale::Complete);
        let mut headers = HeaderMap::new();
        if close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        respond(StatusCode::OK, headers, Some(length), play)
    }

    fn play(&self, pieces: VecDeque<Piece>, receipt: Receipt) -> Play {
        Play::new(pieces, Arc::clone(&self.line), receipt)
    }
}

fn respond(
    status: StatusCode,
    mut headers: HeaderMap,
    length: Option<u64>,
    play: Play,
) -> Response<Play> {
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    let mut response = Response::new(play);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
