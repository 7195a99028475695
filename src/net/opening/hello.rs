//! A client's hello (RFC 8446, 4.1.2; RFC 5246, 7.4.1.2), as far as it tells for whom it is: the name
//! of the server (RFC 6066, 3) and the protocols that the client would speak (RFC 7301). With
//! Encrypted Client Hello these are the outer ones, which are all that can be seen on the way.

/// A record's content type: handshake.
pub(super) const HANDSHAKE: u8 = 22;

/// The most bytes of a record's content (RFC 8446, 5.1).
const MAX_RECORD: usize = 1 << 14;

/// The longest hello that is read.
const MAX_HELLO: usize = 1 << 14;

const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const APPLICATION_PROTOCOLS: u16 = 16;
const ENCRYPTED_HELLO: u16 = 0xfe0d;
const HOST_NAME: u8 = 0;

/// What a client says first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The server's name in lower case; `None` if it names none, or what is no host's name.
    pub name: Option<Box<str>>,
    /// The protocols it offers, the preferred one first; empty if it names none.
    pub protocols: Vec<Box<[u8]>>,
    /// Whether another hello is encrypted within (RFC 9849): then that one has the name that is
    /// meant, unless it is only there so that those with one are not rare.
    pub seals: bool,
}

impl Hello {
    /// Whether it offers that protocol by name.
    pub fn offers(&self, protocol: &[u8]) -> bool {
        self.protocols.iter().any(|offered| **offered == *protocol)
    }
}

/// Why there is no hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is not whole.
    Short,
    /// These bytes are none.
    Foreign,
}

/// Reads the hello that a connection begins with; it may be split over records.
pub(super) fn read(bytes: &[u8]) -> Result<Hello, Unread> {
    let message = message(bytes)?;
    parse(&message).ok_or(Unread::Foreign)
}

/// The content of the handshake message that the records of `bytes` hold.
fn message(mut bytes: &[u8]) -> Result<Vec<u8>, Unread> {
    let mut joined = Vec::new();
    loop {
        let content = record(&mut bytes)?;
        joined.extend_from_slice(content);
        let mut begun = &*joined;
        let Some([kind, high, middle, low]) = begun.split_off(..4) else {
            continue;
        };
        let length = u32::from_be_bytes([0, *high, *middle, *low]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if *kind != CLIENT_HELLO || length > MAX_HELLO {
            return Err(Unread::Foreign);
        }
        if let Some(whole) = begun.get(..length) {
            return Ok(whole.to_vec());
        }
    }
}

/// Takes one record's content, or what is there of it.
fn record<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Unread> {
    // What is wrong is told as early as it shows.
    let wrong = |place: usize, right: &dyn Fn(u8) -> bool| {
        bytes.get(place).is_some_and(|byte| !right(*byte))
    };
    if wrong(0, &|kind| kind == HANDSHAKE) || wrong(1, &|version| version == 3) {
        return Err(Unread::Foreign);
    }
    let Some((&[_, _, _, high, low], rest)) = bytes.split_first_chunk() else {
        return Err(Unread::Short);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length == 0 || length > MAX_RECORD {
        return Err(Unread::Foreign);
    }
    let content = rest.get(..length).unwrap_or(rest);
    *bytes = rest.get(length..).unwrap_or_default();
    Ok(content)
}

/// What the message says; `None` if it is malformed.
fn parse(mut message: &[u8]) -> Option<Hello> {
    let _version_and_random = take(&mut message, 2 + 32)?;
    let session = short(&mut message)?;
    let suites = long(&mut message)?;
    let compression = short(&mut message)?;
    if session.len() > 32 || suites.is_empty() || suites.len() % 2 != 0 || compression.is_empty() {
        return None;
    }
    let mut hello = Hello::default();
    if message.is_empty() {
        // As clients before TLS 1.2 may speak.
        return Some(hello);
    }
    let mut extensions = long(&mut message)?;
    let (mut named, mut offered) = (false, false);
    while !extensions.is_empty() {
        let kind = number(&mut extensions)?;
        let content = long(&mut extensions)?;
        match kind {
            SERVER_NAME if !named => {
                named = true;
                hello.name = server_name(content)?;
            },
            APPLICATION_PROTOCOLS if !offered => {
                offered = true;
                hello.protocols = protocols(content)?;
            },
            ENCRYPTED_HELLO => hello.seals = true,
            // Twice, so that a server could have read another one than we do.
            SERVER_NAME | APPLICATION_PROTOCOLS => return None,
            _ => {},
        }
    }
    message.is_empty().then_some(hello)
}

/// The one host in a list of names.
#[expect(
    clippy::option_option,
    reason = "malformed, and without a name that is one"
)]
fn server_name(mut content: &[u8]) -> Option<Option<Box<str>>> {
    let mut names = long(&mut content)?;
    let kind = take(&mut names, 1)?;
    let name = long(&mut names)?;
    if kind != [HOST_NAME] || !names.is_empty() || !content.is_empty() {
        return None;
    }
    Some(super::head::host_name(name))
}

fn protocols(mut content: &[u8]) -> Option<Vec<Box<[u8]>>> {
    let mut names = long(&mut content)?;
    let mut protocols = Vec::new();
    while !names.is_empty() {
        let name = short(&mut names)?;
        if name.is_empty() {
            return None;
        }
        protocols.push(Box::from(name));
    }
    (content.is_empty() && !protocols.is_empty()).then_some(protocols)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    bytes.split_off(..length)
}

fn number(bytes: &mut &[u8]) -> Option<u16> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u16::from_be_bytes(*number))
}

/// What has its length before it in one byte.
fn short<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = *bytes.split_off_first()?;
    take(bytes, length.into())
}

/// What has its length before it in two bytes.
fn long<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number(bytes)?;
    take(bytes, length.into())
}
