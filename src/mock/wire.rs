//! Answers written by hand, for what hyper would not write: interim answers, lengths that are not
//! true, trailers, exact bytes.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{
    behaviour::Wire,
    play::Finale,
    reply::{Piece, Shaped},
};

/// An exact answer: what is on the wire, byte for byte, on HTTP/1.1. (On HTTP/2 the same status,
/// headers and body, without those headers that HTTP/2 forbids.)
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exact {
    /// The status code.
    pub status: u16,
    /// Names and values, with their case, in their order. `content-length` and `transfer-encoding`
    /// come from [`Exact::framing`].
    pub headers: Vec<(String, Bytes)>,
    /// The body, coded as the headers say.
    pub body: Bytes,
    /// How the body's end is told, and where it is divided.
    pub framing: Framing,
}

/// How a body's end is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// `content-length`, in one write.
    #[default]
    Length,
    /// `transfer-encoding: chunked`, a chunk and a write to each of these lengths; what is left is
    /// the last chunk.
    Chunks(Vec<usize>),
    /// The connection's end.
    Close,
}

/// Chunk lengths that cut `body` at every multiple of `size` bytes.
pub fn every(size: usize, body: &[u8]) -> Framing {
    Framing::Chunks(vec![size.max(1); body.len() / size.max(1)])
}

impl Exact {
    /// An answer with a status and a body of this content type, its length declared.
    pub fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let content_type = Bytes::copy_from_slice(content_type.as_bytes());
        Self {
            status,
            headers: vec![("content-type".to_owned(), content_type)],
            body: body.into(),
            framing: Framing::Length,
        }
    }

    /// The same, framed so.
    #[must_use]
    pub fn framed(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// The body in the pieces in which it is written.
    pub(super) fn pieces(&self) -> VecDeque<Piece> {
        let mut rest = self.body.clone();
        let mut pieces = VecDeque::new();
        if let Framing::Chunks(lengths) = &self.framing {
            for length in lengths {
                let piece = rest.split_to((*length).min(rest.len()));
                pieces.push_back(Piece::Bytes(piece));
            }
        }
        pieces.push_back(Piece::Bytes(rest));
        pieces.retain(|piece| piece.len() > 0);
        pieces
    }

    /// The whole answer as bytes.
    pub(super) fn by_hand(&self) -> VecDeque<Piece> {
        let mut head = status_line(self.status);
        for (name, value) in &self.headers {
            line(&mut head, name, value);
        }
        let chunked = matches!(self.framing, Framing::Chunks(_));
        match self.framing {
            Framing::Length => {
                line(
                    &mut head,
                    "content-length",
                    self.body.len().to_string().as_bytes(),
                );
            },
            Framing::Chunks(_) => line(&mut head, "transfer-encoding", b"chunked"),
            Framing::Close => line(&mut head, "connection", b"close"),
        }
        head.extend_from_slice(b"\r\n");
        let end = chunked.then(|| Bytes::from_static(b"0\r\n\r\n"));
        assembled(head, self.pieces(), end)
    }
}

/// An ordinary answer as bytes, with what `wire` puts around it. The last
/// chunk is left out if the body does not come to its end.
pub(super) fn by_hand(
    status: StatusCode,
    headers: &HeaderMap,
    shaped: Shaped,
    wire: &Wire,
    finale: Finale,
) -> VecDeque<Piece> {
    let mut head = BytesMut::new();
    if let Some(interim) = wire.interim {
        head = status_line(interim);
        head.extend_from_slice(b"link: </>; rel=preconnect\r\n\r\n");
    }
    head.extend_from_slice(&status_line(status.as_u16()));
    for (name, value) in headers {
        line(&mut head, name.as_str(), value.as_bytes());
    }
    let length = wire.content_length.or(shaped.length);
    // Trailers need chunks, whatever the length.
    let length = length.filter(|_| wire.trailers.is_empty());
    match length {
        Some(length) => line(&mut head, "content-length", length.to_string().as_bytes()),
        None => line(&mut head, "transfer-encoding", b"chunked"),
    }
    if wire.close {
        line(&mut head, "connection", b"close");
    }
    head.extend_from_slice(b"\r\n");
    let end = length.is_none().then(|| match finale {
        Finale::Complete => last_chunk(&wire.trailers),
        Finale::Hang | Finale::Close | Finale::Reset => Bytes::new(),
    });
    assembled(head, shaped.pieces, end)
}

/// Head and pieces; in chunks if there is a last chunk.
fn assembled(
    head: BytesMut,
    pieces: VecDeque<Piece>,
    last_chunk: Option<Bytes>,
) -> VecDeque<Piece> {
    let mut out = VecDeque::from([Piece::Bytes(head.freeze())]);
    let Some(last_chunk) = last_chunk else {
        out.extend(pieces);
        return out;
    };
    for piece in pieces {
        let size = format!("{:x}\r\n", piece.len());
        match piece {
            Piece::Bytes(bytes) => {
                let chunk = [size.as_bytes(), &bytes, b"\r\n"].concat();
                out.push_back(Piece::Bytes(chunk.into()));
            },
            repeat @ Piece::Repeat(..) => {
                out.push_back(Piece::Bytes(size.into()));
                out.push_back(repeat);
                out.push_back(Piece::Bytes(Bytes::from_static(b"\r\n")));
            },
        }
    }
    out.push_back(Piece::Bytes(last_chunk));
    out
}

fn last_chunk(trailers: &[(HeaderName, HeaderValue)]) -> Bytes {
    let mut end = BytesMut::from("0\r\n");
    for (name, value) in trailers {
        line(&mut end, name.as_str(), value.as_bytes());
    }
    end.extend_from_slice(b"\r\n");
    end.freeze()
}

fn status_line(status: u16) -> BytesMut {
    let known = StatusCode::from_u16(status).ok();
    let reason = known
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Unknown");
    format!("HTTP/1.1 {status} {reason}\r\n").as_bytes().into()
}

fn line(head: &mut BytesMut, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pieces: VecDeque<Piece>) -> String {
        let bytes = pieces.into_iter().flat_map(|piece| match piece {
            Piece::Bytes(bytes) => bytes,
            Piece::Repeat(..) => panic!("no repeats here"),
        });
        String::from_utf8(bytes.collect()).unwrap()
    }

    #[test]
    fn an_exact_answer_keeps_case_order_and_chunks() {
        let exact = Exact {
            status: 299,
            headers: vec![
                ("X-Second".into(), "2".into()),
                ("x-First".into(), "1".into()),
            ],
            body: "hello".into(),
            framing: Framing::Chunks(vec![1, 3]),
        };
        assert_eq!(
            text(exact.by_hand()),
            "HTTP/1.1 299 Unknown\r\nX-Second: 2\r\nx-First: 1\r\ntransfer-encoding: chunked\r\n\r\n\
             1\r\nh\r\n3\r\nell\r\n1\r\no\r\n0\r\n\r\n"
        );
        let whole = Exact::new(200, "text/plain", "hello").by_hand();
        assert!(text(whole).ends_with("content-length: 5\r\n\r\nhello"));
    }

    #[test]
    fn trailers_and_interim_answers_stand_where_they_belong() {
        let shaped = Shaped {
            pieces: [Piece::Bytes("hi".into())].into(),
            length: Some(2),
        };
        let behaviour: super::super::Behaviour = "interim=103;trailer=x-sum:9".parse().unwrap();
        let (headers, finale) = (HeaderMap::new(), Finale::Complete);
        let answer = text(by_hand(
            StatusCode::OK,
            &headers,
            shaped,
            &behaviour.wire,
            finale,
        ));
        assert_eq!(
            answer,
            "HTTP/1.1 103 Early Hints\r\nlink: </>; rel=preconnect\r\n\r\n\
             HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 9\r\n\r\n"
        );
    }
}
