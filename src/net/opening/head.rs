//! The head of a request of HTTP/1, as far as it tells for which host it is. What another reader
//! could take for something else (two hosts, bare line feeds, folded lines) is not read: whoever
//! serves the request reads it for itself.

use std::net::Ipv4Addr;

use memchr::memmem;

/// The most bytes of a host's name (RFC 1035, 2.3.4).
const MAX_NAME: usize = 253;

/// The longest method.
const MAX_METHOD: usize = 32;

/// What an absolute target begins with.
const SCHEME: &[u8] = b"http://";

/// A host and maybe a port, as `Host` has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// A name or an address in lower case; IPv6 in brackets.
    pub name: Box<str>,
    /// The port, if there is one.
    pub port: Option<u16>,
}

/// Why there is no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// The head is not whole.
    Short,
    /// These bytes are no head with one host.
    Foreign,
}

/// Reads the host out of the head that a connection begins with.
pub(super) fn read(bytes: &[u8]) -> Result<Host, Unread> {
    let mut lines = Lines(bytes);
    // A first line that is no request's is told by what there is of it.
    let target = target(lines.next()?).ok_or(Unread::Foreign)?;
    // An absolute one tells the host, whatever `Host` says (RFC 9112, 3.2.2).
    let in_target = match target.split_at_checked(SCHEME.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => {
            let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
            let authority = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            Some(Host::parse(authority).ok_or(Unread::Foreign)?)
        },
        _ if target.starts_with(b"/") || target == b"*" => None,
        _ => return Err(Unread::Foreign),
    };
    let mut found = None;
    loop {
        let line = lines.next()?;
        if line.is_empty() {
            return in_target.or(found).ok_or(Unread::Foreign);
        }
        let (name, value) = field(line).ok_or(Unread::Foreign)?;
        if name.eq_ignore_ascii_case(b"host") {
            let host = Host::parse(value.trim_ascii()).ok_or(Unread::Foreign)?;
            if found.replace(host).is_some() {
                return Err(Unread::Foreign);
            }
        }
    }
}

/// Lines that end in CR LF.
struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a [u8], Unread> {
        let end = memmem::find(self.0, b"\r\n");
        let (line, rest) = match end {
            Some(end) => self.0.split_at(end),
            None => (self.0, &[][..]),
        };
        // A lone carriage return may be half of an end.
        let certain = match end {
            None => line.strip_suffix(b"\r").unwrap_or(line),
            Some(_) => line,
        };
        if memchr::memchr2(b'\r', b'\n', certain).is_some() {
            return Err(Unread::Foreign);
        }
        if end.is_none() {
            return Err(Unread::Short);
        }
        self.0 = rest.get(2..).unwrap_or_default();
        Ok(line)
    }
}

/// The same without the empty lines that may come first (RFC 9112, 2.2).
pub(super) fn without_empty_lines(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix(b"\r\n") {
        bytes = rest;
    }
    bytes
}

/// What stands between the method and the version: `METHOD /path HTTP/1.1`.
fn target(line: &[u8]) -> Option<&[u8]> {
    let mut words = line.split(|byte| *byte == b' ');
    let [method, target, version] = [(); 3].map(|()| words.next().unwrap_or_default());
    let is_request = words.next().is_none()
        && method.len() <= MAX_METHOD
        && method.iter().all(|byte| is_token(*byte))
        && matches!(version, b"HTTP/1.1" | b"HTTP/1.0");
    is_request.then_some(target)
}

fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    let (name, value) = line.split_at_checked(colon)?;
    let is_name = !name.is_empty() && name.iter().all(|byte| is_token(*byte));
    is_name.then_some((name, value.get(1..)?))
}

/// A character of a method or a field's name (RFC 9110, 5.6.2).
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

impl Host {
    /// A name or an address, and a port behind a colon if there is one.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let bracket = text.iter().rposition(|byte| *byte == b']');
        let colon = text.iter().rposition(|byte| *byte == b':');
        let (name, port) = match colon.filter(|colon| bracket.is_none_or(|end| *colon > end)) {
            Some(colon) => {
                let (name, port) = text.split_at_checked(colon)?;
                let digits = str::from_utf8(port.get(1..)?).ok()?;
                let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
                // An empty port is none (RFC 3986, 3.2.3).
                let port = match digits {
                    "" => None,
                    digits => Some(digits.parse().ok().filter(|_| is_number)?),
                };
                (name, port)
            },
            None => (text, None),
        };
        let name = address(name).or_else(|| host_name(name))?;
        Some(Self { name, port })
    }
}

fn address(text: &[u8]) -> Option<Box<str>> {
    let text = str::from_utf8(text).ok()?;
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?;
        let address: std::net::Ipv6Addr = inner.parse().ok()?;
        return Some(format!("[{address}]").into());
    }
    let address: Ipv4Addr = text.parse().ok()?;
    Some(address.to_string().into())
}

/// The name of a host in lower case, without the root's dot; `None` if it is none, above all if it
/// is an address.
pub(super) fn host_name(name: &[u8]) -> Option<Box<str>> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let is_character =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if name.is_empty() || name.len() > MAX_NAME || !name.iter().all(is_character) {
        return None;
    }
    let name = str::from_utf8(name).ok()?;
    if name
        .split('.')
        .any(|label| label.is_empty() || label.len() > 63)
    {
        return None;
    }
    // A last label of digits alone makes it an address, however it is written.
    let last = name.rsplit('.').next()?;
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(name.to_ascii_lowercase().into())
}
