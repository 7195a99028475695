//! WebSocket frames (RFC 6455) as a server reads and writes them. Written apart from what reads them
//! in the proxy, so that a fault of one is seen by the other.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Buf as _, BytesMut};
use ring::digest;

/// Most bytes of a client's message.
const LARGEST: usize = 64 * 1024 * 1024;

/// What a handshake's key is joined to (RFC 6455, 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The answer to a handshake's key.
pub(super) fn accept(key: &str) -> String {
    let joined = format!("{key}{GUID}");
    STANDARD.encode(digest::digest(
        &digest::SHA1_FOR_LEGACY_USE_ONLY,
        joined.as_bytes(),
    ))
}

/// What frames say what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Text = 1,
    Binary = 2,
    Close = 8,
    Pong = 10,
}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A whole message.
    Message(Vec<u8>),
    /// To be answered with the same bytes.
    Ping(Vec<u8>),
    Pong,
    /// With its code and reason, as they came.
    Close(Vec<u8>),
}

/// Puts a client's frames together.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The message that has begun; `None` if none has.
    message: Option<Vec<u8>>,
}

impl Reader {
    /// Takes the next thing off the front of `bytes`; `None`: more of them are needed.
    ///
    /// # Errors
    /// They break the rules: the code to close with.
    pub(super) fn next(&mut self, bytes: &mut BytesMut) -> Result<Option<Heard>, u16> {
        while let Some((first, payload)) = take(bytes)? {
            let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
            let heard = match opcode {
                8..=10 if !last || payload.len() > 125 => return Err(1002),
                8 => Heard::Close(payload),
                9 => Heard::Ping(payload),
                10 => Heard::Pong,
                0..=2 if (opcode == 0) != self.message.is_some() => return Err(1002),
                0..=2 => {
                    let message = self.message.get_or_insert_default();
                    if message.len() + payload.len() > LARGEST {
                        return Err(1009);
                    }
                    message.extend(payload);
                    match self.message.take_if(|_| last) {
                        Some(message) => Heard::Message(message),
                        None => continue,
                    }
                },
                _ => return Err(1002),
            };
            return Ok(Some(heard));
        }
        Ok(None)
    }
}

/// A frame: its first byte, and its payload without the mask.
type Frame = (u8, Vec<u8>);

/// Takes a whole frame.
fn take(bytes: &mut BytesMut) -> Result<Option<Frame>, u16> {
    let [first, second, rest @ ..] = &bytes[..] else {
        return Ok(None);
    };
    let (first, short) = (*first, second & 0x7f);
    if first & 0x70 != 0 || second & 0x80 == 0 {
        return Err(1002); // Compression was not agreed upon, and clients mask.
    }
    let wide = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let Some((length, rest)) = rest.split_at_checked(wide) else {
        return Ok(None);
    };
    let length = match wide {
        0 => u64::from(short),
        _ => length
            .iter()
            .fold(0, |length, byte| length << 8 | u64::from(*byte)),
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > LARGEST {
        return Err(1009);
    }
    let Some((mask, rest)) = rest.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let Some(payload) = rest.get(..length) else {
        return Ok(None);
    };
    let masked = payload.iter().zip(mask.iter().cycle());
    let payload = masked.map(|(byte, mask)| byte ^ mask).collect();
    bytes.advance(2 + wide + 4 + length);
    Ok(Some((first, payload)))
}

/// A frame. A control frame's payload has 125 bytes at most.
pub(super) fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    part(opcode as u8 | 0x80, payload)
}

/// A message in frames of at most so many bytes, in one if that is not said.
pub(super) fn message(opcode: Opcode, payload: &[u8], most: Option<usize>) -> Vec<u8> {
    let most = most.unwrap_or(payload.len()).max(1);
    let count = payload.len().div_ceil(most);
    if count < 2 {
        return frame(opcode, payload);
    }
    let mut frames = Vec::with_capacity(payload.len() + count * 10);
    for (at, piece) in payload.chunks(most).enumerate() {
        let begins = if at == 0 { opcode as u8 } else { 0 };
        let ends = if at + 1 == count { 0x80 } else { 0 };
        frames.extend(part(begins | ends, piece));
    }
    frames
}

/// A close frame; the reason is cut to what has room in it.
pub(super) fn close(code: u16, reason: &str) -> Vec<u8> {
    let reason = reason.get(..reason.floor_char_boundary(123));
    let payload = [&code.to_be_bytes(), reason.unwrap_or_default().as_bytes()].concat();
    frame(Opcode::Close, &payload)
}

fn part(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ ..=125), _) => frame.push(short),
        (_, Ok(length)) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        },
        _ => {
            frame.push(127);
            let length = u64::try_from(payload.len()).unwrap_or(u64::MAX);
            frame.extend(length.to_be_bytes());
        },
    }
    frame.extend(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same frames as a client sends them.
    fn masked(frames: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = frames;
        while let [first, second, tail @ ..] = rest {
            let wide = match second {
                126 => 2,
                127 => 8,
                _ => 0,
            };
            let (length, tail) = tail.split_at(wide);
            let count = match length {
                [] => usize::from(*second),
                bytes => bytes.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)),
            };
            let (payload, tail) = tail.split_at(count);
            let mask = [1, 2, 3, 4];
            out.extend([&[*first, second | 0x80], length, &mask].concat());
            out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
            rest = tail;
        }
        out
    }

    #[test]
    fn a_key_is_answered_as_the_standard_s_example_is() {
        assert_eq!(
            accept("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn what_is_written_is_read_however_it_comes() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            for most in [None, Some(50_000)] {
                let mut frames = message(Opcode::Text, &payload, most);
                frames.extend(frame(Opcode::Pong, b""));
                frames.extend(close(1000, "bye"));
                let mut reader = Reader::default();
                let (mut bytes, mut heard) = (BytesMut::new(), Vec::new());
                for chunk in masked(&frames).chunks(999) {
                    bytes.extend_from_slice(chunk);
                    while let Some(next) = reader.next(&mut bytes).unwrap() {
                        heard.push(next);
                    }
                }
                let close = Heard::Close(b"\x03\xe8bye".to_vec());
                assert_eq!(heard, [Heard::Message(payload.clone()), Heard::Pong, close]);
                assert!(bytes.is_empty());
            }
        }
    }

    #[test]
    fn what_breaks_the_rules_is_refused() {
        for (bytes, code) in [
            (&b"\x81\x01a"[..], 1002),
            (b"\xc1\x80\0\0\0\0", 1002),
            (b"\x80\x80\0\0\0\0", 1002),
            (b"\x83\x80\0\0\0\0", 1002),
            (b"\x09\x80\0\0\0\0", 1002),
            (b"\x81\xff\0\0\0\xff\0\0\0\0", 1009),
        ] {
            let heard = Reader::default().next(&mut BytesMut::from(bytes));
            assert_eq!(heard, Err(code), "{bytes:x?}");
        }
    }
}
