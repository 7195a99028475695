//! An answer before it is sent, and what the settings do to its bytes.

use std::{collections::VecDeque, io::Write, sync::Arc};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};

use super::{
    behaviour::{Behaviour, Bytewise, Newline},
    coding::encoded,
    json::Json,
};

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// Without those that follow from the payload.
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload,
}

/// A body before the settings were applied.
#[derive(Debug)]
pub(super) enum Payload {
    /// One JSON document.
    Json(Bytes),
    /// Server-sent events, each with its empty line, with `\n` for line ends.
    Events(Vec<Bytes>, Newline),
    /// A stream in another framing, an event a write.
    Stream(Vec<Bytes>, &'static str),
    /// Bytes that no setting changes, prepared once for many requests; a write each.
    Prepared {
        frames: Arc<[Bytes]>,
        content_type: &'static str,
    },
}

/// A part of a body; written at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// These bytes.
    Bytes(Bytes),
    /// These bytes over and over, cut off after so many.
    Repeat(Bytes, u64),
}

impl Piece {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::Repeat(_, len) => *len,
        }
    }
}

/// Bytes in one write of a [`Piece::Repeat`].
pub(super) const BLOCK: usize = 64 * 1024;

/// A body after the settings were applied.
#[derive(Debug)]
pub(super) struct Shaped {
    pub(super) pieces: VecDeque<Piece>,
    /// The length to declare; absent: a stream.
    pub(super) length: Option<u64>,
}

impl Reply {
    pub(super) fn json(body: &Json) -> Self {
        Self::ok(Payload::json(body))
    }

    pub(super) fn ok(payload: Payload) -> Self {
        Self {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            payload,
        }
    }
}

impl Payload {
    pub(super) fn json(body: &Json) -> Self {
        Self::Json(Bytes::copy_from_slice(body.get().as_bytes()))
    }

    /// The document in it; `null` if it is none.
    pub(super) fn into_json(self) -> Json {
        match self {
            Self::Json(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            _ => Json::default(),
        }
    }

    pub(super) const fn content_type(&self) -> &'static str {
        match self {
            Self::Json(_) => "application/json",
            Self::Events(..) => "text/event-stream; charset=utf-8",
            Self::Stream(_, content_type) | Self::Prepared { content_type, .. } => content_type,
        }
    }
}

/// An event with a name, as Anthropic and OpenAI's Responses send it.
pub(super) fn named_event(name: &str, data: &Json) -> Bytes {
    format!("event: {name}\ndata: {}\n\n", data.get()).into()
}

/// An event without a name.
pub(super) fn event(data: &str) -> Bytes {
    format!("data: {data}\n\n").into()
}

/// Applies what the settings say of the body's bytes, and sets the headers that describe it.
pub(super) fn shape(payload: Payload, behaviour: &Behaviour, headers: &mut HeaderMap) -> Shaped {
    let settings = &behaviour.bytes;
    headers
        .entry(CONTENT_TYPE)
        .or_insert(HeaderValue::from_static(payload.content_type()));
    let (mut pieces, stream) = match payload {
        Payload::Json(bytes) => (padded(bytes, settings.pad), false),
        Payload::Events(events, usual) => (
            lines(events, settings.newline.unwrap_or(usual), settings),
            true,
        ),
        Payload::Stream(events, _) => (events.into_iter().map(Piece::Bytes).collect(), true),
        Payload::Prepared {
            frames,
            content_type,
        } => {
            let pieces = frames.iter().cloned().map(Piece::Bytes).collect();
            (pieces, content_type != "application/json")
        },
    };
    if let Some(encoding) = settings.encoding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
        pieces = encoded(&pieces, encoding);
    }
    if let Some(end) = settings.shorten {
        cut(&mut pieces, end);
    }
    if let Some(at) = settings.flip {
        flip(&mut pieces, at);
    }
    if let Some(size) = settings.chunk {
        pieces = rechunked(pieces, size);
    }
    let length = pieces.iter().map(Piece::len).sum();
    Shaped {
        pieces,
        length: (!stream).then_some(length),
    }
}

/// Cuts the pieces after `len` bytes.
pub(super) fn cut(pieces: &mut VecDeque<Piece>, len: u64) {
    let mut room = len;
    pieces.retain_mut(|piece| {
        match piece {
            Piece::Bytes(bytes) => bytes.truncate(usize::try_from(room).unwrap_or(usize::MAX)),
            Piece::Repeat(_, len) => *len = room.min(*len),
        }
        room -= piece.len();
        piece.len() > 0
    });
}

/// Makes one bit of the byte at `at` wrong.
fn flip(pieces: &mut VecDeque<Piece>, at: u64) {
    let mut at = at;
    for piece in pieces {
        if at >= piece.len() {
            at -= piece.len();
            continue;
        }
        if let Piece::Bytes(bytes) = piece {
            let mut wrong = bytes.to_vec();
            let byte = usize::try_from(at).ok().and_then(|at| wrong.get_mut(at));
            if let Some(byte) = byte {
                *byte ^= 1;
            }
            *bytes = wrong.into();
        }
        return;
    }
}

/// An object with a first member `padding` that makes it `pad` bytes longer (13 at least).
fn padded(json: Bytes, pad: u64) -> VecDeque<Piece> {
    const OPEN: &str = "{\"padding\":\"";
    const CLOSE: &str = "\",";
    if pad == 0 || !json.starts_with(b"{") {
        return [Piece::Bytes(json)].into();
    }
    let fill = pad.saturating_sub(u64::try_from(OPEN.len() - 1 + CLOSE.len()).unwrap_or(0));
    let mut rest = BytesMut::from(CLOSE);
    rest.extend(json.iter().skip(1));
    [
        Piece::Bytes(Bytes::from_static(OPEN.as_bytes())),
        filler(fill),
        Piece::Bytes(rest.freeze()),
    ]
    .into()
}

fn filler(len: u64) -> Piece {
    Piece::Repeat(vec![b'x'; BLOCK].into(), len)
}

/// Events with these line ends. JSON text has no line end inside, so each `\n` is one of ours.
fn lines(events: Vec<Bytes>, newline: Newline, settings: &Bytewise) -> VecDeque<Piece> {
    let mut events = events;
    if settings.comments {
        for event in &mut events {
            *event = [b": \"a comment\"\n", &**event].concat().into();
        }
    }
    if settings.bom {
        events.insert(0, Bytes::from_static(b"\xef\xbb\xbf"));
    }
    let mut pieces: VecDeque<_> = match newline {
        Newline::Lf => events.into_iter().map(Piece::Bytes).collect(),
        Newline::CrLf => replaced(&events, b"\r\n"),
        Newline::Cr => replaced(&events, b"\r"),
    };
    if settings.unending > 0 {
        const OPEN: &str = "data: {\"padding\":\"";
        pieces.push_back(Piece::Bytes(Bytes::from_static(OPEN.as_bytes())));
        pieces.push_back(filler(settings.unending));
    }
    pieces
}

fn replaced(events: &[Bytes], newline: &[u8]) -> VecDeque<Piece> {
    let with = |event: &Bytes| {
        let mut bytes = BytesMut::with_capacity(event.len() + 8);
        for byte in event {
            match byte {
                b'\n' => bytes.extend_from_slice(newline),
                byte => bytes.extend_from_slice(&[*byte]),
            }
        }
        Piece::Bytes(bytes.freeze())
    };
    events.iter().map(with).collect()
}

/// Writes a piece out.
pub(super) fn write(to: &mut impl Write, piece: &Piece) -> std::io::Result<()> {
    match piece {
        Piece::Bytes(bytes) => to.write_all(bytes)?,
        Piece::Repeat(block, len) => {
            let mut left = *len;
            while left > 0 {
                let size = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
                to.write_all(block.get(..size).unwrap_or_default())?;
                left -= u64::try_from(size).unwrap_or(left);
            }
        },
    }
    to.flush()
}

/// The same bytes in pieces of `size`.
fn rechunked(pieces: VecDeque<Piece>, size: usize) -> VecDeque<Piece> {
    let mut out = VecDeque::new();
    let mut rest = BytesMut::new();
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => rest.extend_from_slice(&bytes),
            repeat @ Piece::Repeat(..) => {
                if !rest.is_empty() {
                    out.push_back(Piece::Bytes(rest.split().freeze()));
                }
                out.push_back(repeat);
            },
        }
        while rest.len() >= size {
            out.push_back(Piece::Bytes(rest.split_to(size).freeze()));
        }
    }
    if !rest.is_empty() {
        out.push_back(Piece::Bytes(rest.freeze()));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn bytes(pieces: &VecDeque<Piece>) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in pieces {
            write(&mut out, piece).unwrap();
        }
        out
    }

    fn shaped(payload: Payload, settings: &str) -> Shaped {
        shape(payload, &settings.parse().unwrap(), &mut HeaderMap::new())
    }

    fn events() -> Payload {
        Payload::Events(vec![event("{\"a\":1}"), event("[DONE]")], Newline::Lf)
    }

    #[test]
    fn padding_makes_json_longer_by_so_many_bytes_and_stays_json() {
        let json = Payload::Json(Bytes::from_static(b"{\"a\":1}"));
        let shaped = shaped(json, "pad=200000");
        assert_eq!(shaped.length, Some(200_007));
        let value: serde_json::Value = serde_json::from_slice(&bytes(&shaped.pieces)).unwrap();
        assert_eq!(value["a"], 1);
    }

    #[test]
    fn line_ends_are_as_asked() {
        let pieces = shaped(events(), "newline=crlf").pieces;
        assert_eq!(
            bytes(&pieces),
            b"data: {\"a\":1}\r\n\r\ndata: [DONE]\r\n\r\n"
        );
        let pieces = shaped(events(), "newline=cr").pieces;
        assert_eq!(bytes(&pieces), b"data: {\"a\":1}\r\rdata: [DONE]\r\r");
    }

    #[test]
    fn every_coding_can_be_undone_and_each_event_read_as_it_comes() {
        let plain = bytes(&shaped(events(), "").pieces);
        let gzip = shaped(events(), "encoding=gzip").pieces;
        let mut text = String::new();
        flate2::read::GzDecoder::new(&bytes(&gzip)[..])
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text.as_bytes(), plain);
        let Piece::Bytes(first) = &gzip[0] else {
            panic!("not bytes")
        };
        let mut start = [0; 15];
        flate2::read::GzDecoder::new(&first[..])
            .read_exact(&mut start)
            .unwrap();
        assert_eq!(start, plain[..15]);

        let deflate = bytes(&shaped(events(), "encoding=deflate").pieces);
        text.clear();
        flate2::read::ZlibDecoder::new(&deflate[..])
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text.as_bytes(), plain);

        let zstd = bytes(&shaped(events(), "encoding=zstd").pieces);
        assert_eq!(zstd::decode_all(&zstd[..]).unwrap(), plain);
    }

    #[test]
    fn chunks_and_cuts_fall_where_asked() {
        let plain = bytes(&shaped(events(), "").pieces);
        let mut pieces = shaped(events(), "chunk=3").pieces;
        assert!(
            pieces
                .iter()
                .take(pieces.len() - 1)
                .all(|piece| piece.len() == 3)
        );
        assert_eq!(bytes(&pieces), plain);
        cut(&mut pieces, 7);
        assert_eq!(bytes(&pieces), plain[..7]);
        let mut long = [filler(1_000_000)].into();
        cut(&mut long, 70_000);
        assert_eq!(bytes(&long).len(), 70_000);
    }
}
