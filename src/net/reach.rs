//! Which addresses may be reached for whoever names them: not this machine, not its network, not the
//! metadata services of clouds, unless they are allowed; our own listeners never.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, de};

use super::Cidr;

/// What may be reached.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    allowed: Vec<Allowed>,
    /// Where we listen ourselves.
    own: Vec<SocketAddr>,
    /// Whatever is not ours may be reached.
    anywhere: bool,
}

/// Addresses that may be reached though they are private: `10.0.0.0/8`, `vllm.internal`,
/// `*.svc.cluster.local`, each with a port behind it or for all ports; with a port IPv6 is in
/// brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    place: Place,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Range(Cidr),
    /// In lower case; with `*.` in front for any names below.
    Host(Box<str>),
}

/// An address that must not be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} is {}", .sort.words())]
pub struct Forbidden {
    /// The address, as it was resolved.
    pub address: SocketAddr,
    /// Why.
    pub sort: Sort,
}

/// Why an address must not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// One of our own listeners.
    Own,
    /// This machine.
    Loopback,
    /// This link.
    LinkLocal,
    /// Where clouds tell machines their secrets.
    Metadata,
    /// A network that is not the Internet.
    Private,
    /// No single machine: multicast, broadcast, reserved.
    Reserved,
}

impl Sort {
    const fn words(self) -> &'static str {
        match self {
            Self::Own => "where Tollgate itself listens",
            Self::Loopback => "on this machine",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a cloud's metadata service",
            Self::Private => "a private address",
            Self::Reserved => "no address of a single machine on the Internet",
        }
    }
}

impl Reach {
    /// With what is allowed besides the Internet, and where we listen ourselves.
    pub const fn new(allowed: Vec<Allowed>, own: Vec<SocketAddr>) -> Self {
        Self {
            allowed,
            own,
            anywhere: false,
        }
    }

    /// The same, for a place that is trusted as it is configured: all but our own listeners.
    #[must_use]
    pub fn anywhere(&self) -> Self {
        Self {
            anywhere: true,
            ..self.clone()
        }
    }

    /// Whether `address` may be reached, which `host` was found to be.
    ///
    /// # Errors
    /// It may not.
    pub fn check(&self, host: &str, address: SocketAddr) -> Result<(), Forbidden> {
        let forbidden = |sort| Err(Forbidden { address, sort });
        if self.own.iter().any(|own| is_same(*own, address)) {
            return forbidden(Sort::Own);
        }
        match sort(address.ip()) {
            Some(sort) if !self.anywhere && !self.allows(host, address) => forbidden(sort),
            _ => Ok(()),
        }
    }

    /// Whether `address` may be reached for whoever has chosen it: no name was resolved, so that none
    /// allows it.
    ///
    /// # Errors
    /// It may not.
    pub fn check_address(&self, address: SocketAddr) -> Result<(), Forbidden> {
        self.check("", address)
    }

    /// Whether `address` may be reached though it may be this machine's, which may have addresses of the
    /// Internet: whoever is led there from here passes its firewall as a neighbour. Asks the system.
    ///
    /// # Errors
    /// It may not.
    pub fn check_here(&self, host: &str, address: SocketAddr) -> Result<(), Forbidden> {
        if is_here(address) {
            return self.check_home(host, address);
        }
        Ok(())
    }

    /// Whether a connection to `host` that was made may be used, wherever it turns out to lead.
    ///
    /// # Errors
    /// It may not.
    pub fn check_made(
        &self,
        host: &str,
        (from, to): (SocketAddr, SocketAddr),
    ) -> Result<(), Forbidden> {
        self.check(host, to)?;
        if from.ip().to_canonical() == to.ip().to_canonical() {
            return self.check_home(host, to);
        }
        Ok(())
    }

    /// Whether an address of this machine may be reached.
    fn check_home(&self, host: &str, address: SocketAddr) -> Result<(), Forbidden> {
        let forbidden = |sort| Err(Forbidden { address, sort });
        let is_own = |own: &SocketAddr| {
            let everywhere = own.ip().is_unspecified() && own.port() == address.port();
            everywhere || is_same(*own, address)
        };
        if self.own.iter().any(is_own) {
            return forbidden(Sort::Own);
        }
        if self.anywhere || self.allows(host, address) {
            return Ok(());
        }
        forbidden(Sort::Loopback)
    }

    fn allows(&self, host: &str, address: SocketAddr) -> bool {
        self.allowed.iter().any(|allowed| {
            let there = match &allowed.place {
                Place::Range(range) => range.contains(address.ip()),
                Place::Host(name) => is_like(name, host),
            };
            there && allowed.port.is_none_or(|port| port == address.port())
        })
    }
}

/// Whether somebody who connects to `to` reaches a listener at `own`.
fn is_same(own: SocketAddr, to: SocketAddr) -> bool {
    if own.port() != to.port() {
        return false;
    }
    let (own, to) = (own.ip().to_canonical(), to.ip().to_canonical());
    own == to
        || to.is_unspecified()
        || (to.is_loopback() && (own.is_loopback() || own.is_unspecified()))
}

/// Whether `address` is one of this machine's: those it reaches from themselves. Nothing is sent: UDP
/// has no handshake.
fn is_here(address: SocketAddr) -> bool {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let from = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(address)?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.ip().to_canonical() == address.ip().to_canonical())
}

/// Whether `host` is the one named by `pattern`, which is in lower case.
fn is_like(pattern: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    match pattern.strip_prefix('*') {
        Some(end) => host.len() > end.len() && host.ends_with(end),
        None => *host == *pattern,
    }
}

/// What an address is that is none of the Internet.
fn sort(address: IpAddr) -> Option<Sort> {
    match address.to_canonical() {
        IpAddr::V4(address) => sort_v4(address),
        IpAddr::V6(address) => sort_v6(address),
    }
}

/// Where clouds tell machines their secrets (AWS, Azure, Google; Azure's agent; Alibaba; Oracle).
const METADATA: [Ipv4Addr; 4] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
];

fn sort_v4(address: Ipv4Addr) -> Option<Sort> {
    let [first, second, third, _] = address.octets();
    if METADATA.contains(&address) {
        return Some(Sort::Metadata);
    }
    match (first, second, third) {
        // 0.0.0.0/8 is "this network", which Linux takes for this machine.
        (0 | 127, ..) => Some(Sort::Loopback),
        (169, 254, _) => Some(Sort::LinkLocal),
        // RFC 1918, and what carriers share (RFC 6598).
        (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => Some(Sort::Private),
        // Protocol assignments, benchmarks (which networks of tests use), multicast and beyond.
        (192, 0, 0) | (198, 18..=19, _) | (224..=255, ..) => Some(Sort::Reserved),
        _ => None,
    }
}

/// AWS's metadata service in IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254);

fn sort_v6(address: Ipv6Addr) -> Option<Sort> {
    if address == METADATA_V6 {
        return Some(Sort::Metadata);
    }
    let behind = |high: u16, low: u16| {
        let bits = u32::from(high) << 16 | u32::from(low);
        sort_v4(Ipv4Addr::from_bits(bits))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Some(Sort::Loopback),
        // IPv4 in IPv6: of old, through NAT64 (RFC 6052), through 6to4.
        [0, 0, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => behind(high, low),
        [0xfe80..=0xfebf, ..] => Some(Sort::LinkLocal),
        // Unique local addresses, site-local ones of old, NAT64 within a network (RFC 8215).
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] | [0x64, 0xff9b, 1, ..] => Some(Sort::Private),
        // Teredo, which hides where it leads to; discarded; multicast; an address of IPv4 that was
        // translated (RFC 2765).
        [0x2001, 0, ..]
        | [0x100, 0, 0, 0, ..]
        | [0xff00..=0xffff, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..] => Some(Sort::Reserved),
        _ => None,
    }
}

/// The text names no addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is neither a host nor a range of addresses: expected one like 10.0.0.0/8, vllm.internal, \
     *.svc.cluster.local or vllm.internal:8000"
)]
pub struct InvalidPlace(String);

impl FromStr for Allowed {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let parse = || {
            if let Ok(range) = text.parse() {
                let place = Place::Range(range);
                return Some(Self { place, port: None });
            }
            let (place, port) = match text.strip_prefix('[') {
                Some(rest) => {
                    let (inner, port) = rest.split_once(']')?;
                    (inner, port.strip_prefix(':'))
                },
                None => match text.rsplit_once(':') {
                    Some((place, port)) => (place, Some(port)),
                    None => (text, None),
                },
            };
            let port = port.map(str::parse).transpose().ok()?;
            if let Ok(range) = place.parse() {
                let place = Place::Range(range);
                return Some(Self { place, port });
            }
            let name = place.strip_prefix("*.").unwrap_or(place);
            let is_name = !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            let place = Place::Host(place.to_ascii_lowercase().into_boxed_str());
            is_name.then_some(Self { place, port })
        };
        parse().ok_or_else(|| InvalidPlace(text.to_owned()))
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, self.port) {
            (Place::Range(range), None) => write!(f, "{range}"),
            (Place::Range(range), Some(port)) => write!(f, "[{range}]:{port}"),
            (Place::Host(host), None) => f.write_str(host),
            (Place::Host(host), Some(port)) => write!(f, "{host}:{port}"),
        }
    }
}

impl<'de> Deserialize<'de> for Allowed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
