//! WebSocket frames (RFC 6455), read as they pass: nothing is held, moved or rewritten here.

mod message;

pub use message::{Content, Messages, Passed};

/// The most bytes of a control frame's payload.
pub const MAX_CONTROL: usize = 125;

/// The most bytes of a frame's head.
const MAX_HEAD: usize = 14;

/// A frame's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// A further part of a message.
    Continuation,
    /// Text, or its first part.
    Text,
    /// Bytes, or their first part.
    Binary,
    /// The end of the connection, with a code and a reason.
    Close,
    /// To be answered with a pong.
    Ping,
    /// The answer to a ping.
    Pong,
}

impl Opcode {
    const fn of(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    /// Whether it may stand between the frames of a message.
    const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// These bytes are no frames: whoever receives them must fail the connection (RFC 6455, 7.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a WebSocket frame: {0}")]
pub struct Malformed(pub &'static str);

/// Whose frames are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Its frames are masked.
    Client,
    /// Its frames are not.
    Server,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) opcode: Opcode,
    /// It is the last of its message.
    pub(super) last: bool,
    /// The message that it begins is compressed (RFC 7692).
    pub(super) compressed: bool,
    mask: Option<[u8; 4]>,
    length: u64,
}

/// What a step over the bytes came upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// Part of a payload, masked as it came; how far into the payload it begins.
    Payload(Head, &'a [u8], u64),
    /// The end of a frame.
    End(Head),
    /// The end of what is there, within a frame or its head.
    Within,
}

/// Divides one direction of a connection into frames.
#[derive(Debug)]
pub(super) struct Frames {
    sender: Sender,
    /// A message may be compressed.
    may_compress: bool,
    /// A message has begun whose last frame has not.
    open: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Head { bytes: [u8; MAX_HEAD], have: usize },
    Payload { head: Head, read: u64 },
}

const AT_HEAD: Stage = Stage::Head {
    bytes: [0; MAX_HEAD],
    have: 0,
};

impl Frames {
    pub(super) const fn new(sender: Sender, may_compress: bool) -> Self {
        Self {
            sender,
            may_compress,
            open: false,
            stage: AT_HEAD,
        }
    }

    /// Whether a message has begun and not ended; frames between its own count as within it.
    pub(super) const fn in_message(&self) -> bool {
        self.open
    }

    /// Goes one step into `bytes`; what is left of them behind it is returned as well.
    ///
    /// # Errors
    /// They are no frames.
    pub(super) fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<(Step<'a>, &'a [u8]), Malformed> {
        let mut rest = bytes;
        while let Stage::Head { bytes: head, have } = &mut self.stage {
            if let Some(read) = parse(head.get(..*have).unwrap_or_default())? {
                self.check(&read)?;
                self.stage = Stage::Payload {
                    head: read,
                    read: 0,
                };
                break;
            }
            let Some((byte, tail)) = rest.split_first() else {
                return Ok((Step::Within, rest));
            };
            if let Some(place) = head.get_mut(*have) {
                *place = *byte;
            }
            *have += 1;
            rest = tail;
        }
        let Stage::Payload { head, read } = &mut self.stage else {
            return Ok((Step::Within, rest));
        };
        let (head, begins) = (*head, *read);
        if begins == head.length {
            self.stage = AT_HEAD;
            if !head.opcode.is_control() {
                self.open = !head.last;
            }
            return Ok((Step::End(head), rest));
        }
        if rest.is_empty() {
            return Ok((Step::Within, rest));
        }
        let left = usize::try_from(head.length - begins).unwrap_or(usize::MAX);
        let (payload, tail) = rest.split_at(left.min(rest.len()));
        *read += payload.len() as u64;
        // What begins a message is known to be within it from its first byte on.
        if !head.opcode.is_control() {
            self.open = true;
        }
        Ok((Step::Payload(head, payload, begins), tail))
    }

    /// What RFC 6455, 5.2 to 5.5 demand of a frame in its place.
    fn check(&self, head: &Head) -> Result<(), Malformed> {
        let wrong = |what| Err(Malformed(what));
        if head.mask.is_some() != (self.sender == Sender::Client) {
            return wrong("a client masks its frames, and nobody else does");
        }
        if head.opcode.is_control() {
            let long = head.length > MAX_CONTROL as u64;
            if long || !head.last || head.compressed {
                return wrong("a control frame is short, whole and plain");
            }
            return Ok(());
        }
        let continues = head.opcode == Opcode::Continuation;
        if continues != self.open {
            return wrong("a message begins within another, or goes on without a beginning");
        }
        if head.compressed && (continues || !self.may_compress) {
            return wrong("compression was not agreed upon, or begins within a message");
        }
        Ok(())
    }
}

/// Reads a head; `None` if more of it is needed.
fn parse(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    let [first, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    if first & 0x30 != 0 {
        return Err(Malformed("reserved bits"));
    }
    let Some(opcode) = Opcode::of(first & 0x0f) else {
        return Err(Malformed("unknown opcode"));
    };
    let (length, rest) = match (second & 0x7f, rest) {
        (126, rest) if rest.len() >= 2 => {
            let (length, rest) = rest.split_at(2);
            (number(length), rest)
        },
        (127, rest) if rest.len() >= 8 => {
            let (length, rest) = rest.split_at(8);
            let length = number(length);
            if length >> 63 != 0 {
                return Err(Malformed("a length that is too large"));
            }
            (length, rest)
        },
        (126 | 127, _) => return Ok(None),
        (short, rest) => (u64::from(short), rest),
    };
    let mask = match (second & 0x80 != 0, rest) {
        (false, _) => None,
        (true, [one, two, three, four, ..]) => Some([*one, *two, *three, *four]),
        (true, _) => return Ok(None),
    };
    Ok(Some(Head {
        opcode,
        last: first & 0x80 != 0,
        compressed: first & 0x40 != 0,
        mask,
        length,
    }))
}

/// The number that these bytes are, the most significant first.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

impl Head {
    /// Takes the mask off a part of its payload that begins so far into it.
    pub(super) fn unmask(&self, part: &[u8], begins: u64, out: &mut Vec<u8>) {
        let Some(mask) = self.mask else {
            out.extend_from_slice(part);
            return;
        };
        let skip = usize::try_from(begins % 4).unwrap_or(0);
        let mask = mask.iter().cycle().skip(skip);
        out.extend(part.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    }
}

/// A frame that is a whole message, or a control frame: masked with `mask`, as a client must, or
/// plain.
pub fn frame(opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + MAX_HEAD);
    out.push(0x80 | opcode.bits());
    let masked = if mask.is_some() { 0x80 } else { 0 };
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ ..126), _) => out.push(masked | short),
        (_, Ok(long)) => {
            out.push(masked | 0x7e);
            out.extend_from_slice(&long.to_be_bytes());
        },
        _ => {
            out.push(masked | 0x7f);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        },
    }
    match mask {
        None => out.extend_from_slice(payload),
        Some(mask) => {
            out.extend_from_slice(&mask);
            let masked = payload.iter().zip(mask.iter().cycle());
            out.extend(masked.map(|(byte, mask)| byte ^ mask));
        },
    }
    out
}

/// A close frame; the reason is cut to what fits.
pub fn close(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    let mut end = reason.len().min(MAX_CONTROL - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    payload.extend_from_slice(reason.get(..end).unwrap_or_default().as_bytes());
    frame(Opcode::Close, &payload, mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_are_read_and_written() {
        let plain = [0x81, 0x05, b'H', b'e', b'l', b'l', b'o'];
        assert_eq!(frame(Opcode::Text, b"Hello", None), plain);
        let masked = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        assert_eq!(frame(Opcode::Text, b"Hello", Some(mask)), masked);
        assert_eq!(
            frame(Opcode::Binary, &[0; 256], None)[..4],
            [0x82, 126, 1, 0]
        );
        assert_eq!(
            frame(Opcode::Binary, &vec![0; 65_536], None)[..10],
            [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]
        );
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        let long = "é".repeat(100);
        let frame = close(1008, &long, None);
        assert_eq!(frame[1], 124);
        assert_eq!(&frame[2..4], &1008_u16.to_be_bytes());
        assert_eq!(std::str::from_utf8(&frame[4..]).unwrap(), "é".repeat(61));
    }

    #[test]
    fn what_no_peer_may_send_is_refused() {
        for (sender, compress, bytes) in [
            (Sender::Client, true, &[0x81_u8, 0x01, b'x'][..]), // not masked
            (Sender::Server, true, &[0x81, 0x81, 0, 0, 0, 0, b'x']), // masked
            (Sender::Server, true, &[0x80, 0x00]),              // goes on without a beginning
            (Sender::Server, true, &[0x01, 0x00, 0x01, 0x00]),  // begins within another
            (Sender::Server, true, &[0x09, 0x00]),              // a ping in parts
            (Sender::Server, true, &[0x89, 126, 0, 126]),       // a long ping
            (Sender::Server, true, &[0xc9, 0x00]),              // a compressed ping
            (Sender::Server, true, &[0x83, 0x00]),              // unknown opcode
            (Sender::Server, true, &[0xa1, 0x00]),              // reserved bit
            (Sender::Server, false, &[0xc1, 0x00]),             // compression, not agreed upon
            (Sender::Server, true, &[0x41, 0x00, 0xc0, 0x00]),  // compression within a message
            (
                Sender::Server,
                true,
                &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0],
            ),
        ] {
            let mut frames = Frames::new(sender, compress);
            let mut rest = bytes;
            let outcome = loop {
                match frames.step(rest) {
                    Ok((Step::Within, _)) => break Ok(()),
                    Ok((_, behind)) => rest = behind,
                    Err(malformed) => break Err(malformed),
                }
            };
            assert!(outcome.is_err(), "{bytes:x?}");
        }
    }
}
