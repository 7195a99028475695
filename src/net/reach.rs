//! Which addresses may be reached for whoever names them: not this machine, not its network, not the
//! metadata services of clouds, unless they are allowed; our own listeners never.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
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
            Self::Loopback => "on this machine (loopback)",
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

    /// Whether a connection that was made leads to ourselves, though nothing in its address says so:
    /// this machine may have an address of the Internet.
    ///
    /// # Errors
    /// It does.
    pub fn check_made(&self, from: SocketAddr, to: SocketAddr) -> Result<(), Forbidden> {
        let is_here = from.ip().to_canonical() == to.ip().to_canonical();
        if is_here && self.own.iter().any(|own| own.port() == to.port()) {
            return Err(Forbidden {
                address: to,
                sort: Sort::Own,
            });
        }
        Ok(())
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reach(allowed: &[&str], own: &[&str]) -> Reach {
        Reach::new(
            allowed.iter().map(|text| text.parse().unwrap()).collect(),
            own.iter().map(|text| text.parse().unwrap()).collect(),
        )
    }

    fn found(reach: &Reach, host: &str, address: &str) -> Option<Sort> {
        let checked = reach.check(host, address.parse().unwrap());
        checked.err().map(|forbidden| forbidden.sort)
    }

    #[test]
    fn only_the_internet_is_reached_in_whatever_way_an_address_is_written() {
        let reach = reach(&[], &[]);
        for (address, expected) in [
            ("104.18.6.192:443", None),
            ("[2606:4700::6812:7c0]:443", None),
            ("127.0.0.1:443", Some(Sort::Loopback)),
            ("127.9.9.9:443", Some(Sort::Loopback)),
            ("0.0.0.0:443", Some(Sort::Loopback)),
            ("[::1]:443", Some(Sort::Loopback)),
            ("[::]:443", Some(Sort::Loopback)),
            ("[::ffff:127.0.0.1]:443", Some(Sort::Loopback)),
            ("[::127.0.0.1]:443", Some(Sort::Loopback)),
            ("[64:ff9b::7f00:1]:443", Some(Sort::Loopback)),
            ("[2002:7f00:1::]:443", Some(Sort::Loopback)),
            ("169.254.1.1:443", Some(Sort::LinkLocal)),
            ("[fe80::1]:443", Some(Sort::LinkLocal)),
            ("169.254.169.254:80", Some(Sort::Metadata)),
            ("[::ffff:169.254.169.254]:80", Some(Sort::Metadata)),
            ("[64:ff9b::a9fe:a9fe]:80", Some(Sort::Metadata)),
            ("[fd00:ec2::254]:80", Some(Sort::Metadata)),
            ("168.63.129.16:80", Some(Sort::Metadata)),
            ("100.100.100.200:80", Some(Sort::Metadata)),
            ("10.0.0.1:443", Some(Sort::Private)),
            ("172.31.255.255:443", Some(Sort::Private)),
            ("172.32.0.1:443", None),
            ("192.168.1.1:443", Some(Sort::Private)),
            ("100.64.0.1:443", Some(Sort::Private)),
            ("[fd12::1]:443", Some(Sort::Private)),
            ("[fec0::1]:443", Some(Sort::Private)),
            ("224.0.0.1:443", Some(Sort::Reserved)),
            ("255.255.255.255:443", Some(Sort::Reserved)),
            ("[ff02::1]:443", Some(Sort::Reserved)),
            ("[2001::1]:443", Some(Sort::Reserved)),
        ] {
            assert_eq!(found(&reach, "x.example", address), expected, "{address}");
        }
    }

    #[test]
    fn what_is_allowed_is_so_by_name_or_range_and_at_its_port() {
        let reach = reach(
            &[
                "10.0.0.0/8",
                "[fd00::/8]:443",
                "vllm.internal:8000",
                "*.svc",
            ],
            &[],
        );
        for (host, address, expected) in [
            ("x", "10.1.2.3:9", None),
            ("x", "192.168.0.1:9", Some(Sort::Private)),
            ("x", "[fd00::1]:443", None),
            ("x", "[fd00::1]:444", Some(Sort::Private)),
            ("VLLM.internal.", "127.0.0.1:8000", None),
            ("vllm.internal", "127.0.0.1:8001", Some(Sort::Loopback)),
            ("a.b.svc", "192.168.0.1:1", None),
            (".svc", "192.168.0.1:1", Some(Sort::Private)),
            ("asvc", "192.168.0.1:1", Some(Sort::Private)),
        ] {
            assert_eq!(found(&reach, host, address), expected, "{host} {address}");
        }
    }

    #[test]
    fn an_address_that_somebody_has_chosen_is_allowed_by_no_name() {
        let reach = reach(&["db.internal", "*.svc", "10.0.0.0/8", "127.0.0.2"], &[]);
        for (address, expected) in [
            ("168.63.129.16:80", Some(Sort::Metadata)),
            ("127.0.0.1:443", Some(Sort::Loopback)),
            ("127.0.0.2:443", None),
            ("10.1.2.3:443", None),
            ("104.18.6.192:443", None),
        ] {
            let checked = reach.check_address(address.parse().unwrap());
            let found = checked.err().map(|forbidden| forbidden.sort);
            assert_eq!(found, expected, "{address}");
        }
    }

    #[test]
    fn our_own_listeners_are_never_reached() {
        let reach = reach(&["0.0.0.0/0", "::/0"], &["127.0.0.1:4100", "0.0.0.0:3001"]);
        for reach in [&reach, &reach.anywhere()] {
            for address in [
                "127.0.0.1:4100",
                "127.0.0.2:4100",
                "[::1]:4100",
                "[::ffff:127.0.0.1]:4100",
                "0.0.0.0:4100",
                "127.0.0.1:3001",
            ] {
                assert_eq!(found(reach, "x", address), Some(Sort::Own), "{address}");
            }
            assert_eq!(found(reach, "x", "127.0.0.1:4101"), None);
        }
        // An address of the Internet that is this machine's.
        let at = |text: &str| text.parse().unwrap();
        let made = |from, to| reach.check_made(at(from), at(to)).is_err();
        assert!(made("203.0.113.9:55555", "203.0.113.9:3001"));
        assert!(!made("203.0.113.9:55555", "203.0.113.9:443"));
        assert!(!made("203.0.113.9:55555", "203.0.113.7:3001"));
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            ":80",
            "a b",
            "host:port",
            "[::1",
            "*",
            "*.",
            "http://x/",
            "10.0.0.0/33",
        ] {
            assert!(text.parse::<Allowed>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_address_is_judged_alike_however_ipv6_holds_it(bits: u32, port: u16) {
            let reach = reach(&[], &[]);
            let plain = Ipv4Addr::from_bits(bits);
            let judged = |ip: IpAddr| {
                let checked = reach.check("x", SocketAddr::new(ip, port));
                checked.err().map(|forbidden| forbidden.sort)
            };
            let [high, low] = [(bits >> 16) as u16, (bits & 0xffff) as u16];
            let expected = judged(plain.into());
            prop_assert_eq!(judged(plain.to_ipv6_mapped().into()), expected);
            let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low);
            prop_assert_eq!(judged(nat64.into()), expected);
            prop_assert_eq!(judged(Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1).into()), expected);
        }

        #[test]
        fn a_place_is_read_as_it_is_written(text in "[a-z*.0-9:/\\[\\]]{0,20}") {
            if let Ok(place) = text.parse::<Allowed>() {
                prop_assert_eq!(place.to_string().parse::<Allowed>().unwrap(), place);
            }
        }
    }
}
