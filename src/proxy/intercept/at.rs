//! A place that a client wants to reach: host and port, as they are compared.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use http::uri::Authority;

/// Host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// In lower case, without brackets and the dot of the root; addresses in their usual form.
    host: Box<str>,
    port: u16,
}

impl At {
    /// A host by name or address, however it is written, and a port.
    pub fn new(host: &str, port: u16) -> Self {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let bare = bare.unwrap_or(host);
        let bare = bare.strip_suffix('.').unwrap_or(bare);
        let host = match bare.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().to_string(),
            Err(_name) => bare.to_ascii_lowercase(),
        };
        Self {
            host: host.into_boxed_str(),
            port,
        }
    }

    /// As a target or a header names it. `None`: it has no port where there must be one, no host, or
    /// a user's name, which belongs in none of them.
    pub(super) fn of(authority: &Authority, usual: Option<u16>) -> Option<Self> {
        let text = authority.as_str();
        let host = authority.host();
        if host.is_empty() || text.contains('@') {
            return None;
        }
        let inner = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        // Nothing else is in brackets, above all no name, and no address of one link alone.
        if inner.is_some_and(|inner| inner.parse::<Ipv6Addr>().is_err()) {
            return None;
        }
        let named = text.strip_prefix(host)?;
        let port = match named.strip_prefix(':') {
            // Digits alone: `+443` is a number to some readers, and to others none.
            Some(port) if !port.bytes().all(|digit| digit.is_ascii_digit()) => return None,
            Some(_) => authority.port_u16()?,
            None => usual?,
        };
        (port > 0).then(|| Self::new(host, port))
    }

    /// The host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether the host is an address.
    pub(in crate::proxy) fn is_address(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_same_however_it_is_written() {
        let of = |text: &str, usual| {
            let authority: Authority = text.parse().ok()?;
            At::of(&authority, usual).map(|at| at.to_string())
        };
        for (text, usual, expected) in [
            ("API.openai.com:443", None, Some("api.openai.com:443")),
            ("api.openai.com.:443", None, Some("api.openai.com:443")),
            ("api.openai.com", Some(443), Some("api.openai.com:443")),
            ("api.openai.com", None, None),
            ("api.openai.com:", Some(443), None),
            ("api.openai.com:+443", Some(443), None),
            ("api.openai.com:0", Some(443), None),
            ("api.openai.com:99999", Some(443), None),
            ("[::1]:80", None, Some("[::1]:80")),
            ("[0:0:0:0:0:0:0:1]:80", None, Some("[::1]:80")),
            ("[::ffff:10.0.0.1]:80", None, Some("10.0.0.1:80")),
            ("[api.openai.com]:443", None, None),
            ("me@api.openai.com:443", None, None),
            ("api.openai.com@evil.example:443", None, None),
        ] {
            assert_eq!(of(text, usual).as_deref(), expected, "{text}");
        }
    }
}
