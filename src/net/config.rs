//! The sections `listen` and `upstream`: where Tollgate listens, and how it reaches providers.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Deserializer, de};

use super::Cidr;
use crate::base::{secret::Secret, units};

/// Where Tollgate listens, and for whom. Changes need a restart.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// The proxy. On an IPv4 loopback address it listens on `[::1]` too; port 0 is any free one.
    #[serde(deserialize_with = "address")]
    pub proxy: SocketAddr,
    /// The status page, metrics and API.
    #[serde(deserialize_with = "address")]
    pub admin: SocketAddr,
    /// A listener with nothing but `/healthz`, `/readyz` and `/metrics`; none by default.
    #[serde(deserialize_with = "optional_address")]
    pub health: Option<SocketAddr>,
    /// A listener for connections that the system redirects to it; none by default. On an IPv4
    /// loopback address it listens on `[::1]` too.
    #[serde(deserialize_with = "optional_address")]
    pub transparent: Option<SocketAddr>,
    /// Whether who is on this machine may end Tollgate with `POST /quit` to `health`.
    pub quit: bool,
    /// Names, besides loopback, that the admin listener answers to in `Host`.
    pub hosts: Vec<String>,
    /// What the admin listener asks for beyond loopback, as `authorization: Bearer`.
    pub token: Option<Secret>,
    /// Who may use the proxy from beyond loopback. Empty: nobody, unless client keys are set.
    pub allow: Vec<Cidr>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            proxy: SocketAddr::from((Ipv4Addr::LOCALHOST, 4100)),
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 3001)),
            health: None,
            transparent: None,
            quit: false,
            hosts: Vec::new(),
            token: None,
            allow: Vec::new(),
        }
    }
}

impl Listen {
    /// `address`, and its IPv6 counterpart if it is `127.0.0.1`: `localhost` may mean either.
    pub fn with_counterpart(address: SocketAddr) -> impl Iterator<Item = SocketAddr> {
        let counterpart = (address.ip() == Ipv4Addr::LOCALHOST)
            .then(|| SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())));
        std::iter::once(address).chain(counterpart)
    }
}

/// How providers are reached.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// The longest that resolving, connecting and the TLS handshake may take together.
    #[serde(with = "units::duration")]
    pub connect_timeout: Duration,
    /// The longest wait for the head of the answer once the request is sent.
    #[serde(with = "units::duration")]
    pub first_byte_timeout: Duration,
    /// The longest silence within an answer.
    #[serde(with = "units::duration")]
    pub idle_timeout: Duration,
    /// Time between TCP keep-alive probes; zero sends none.
    #[serde(with = "units::duration")]
    pub tcp_keepalive: Duration,
    /// How long an unused connection is kept; zero keeps none.
    #[serde(with = "units::duration")]
    pub pool_idle: Duration,
    /// Whether to speak HTTP/2 to providers that offer it.
    pub http2: bool,
    /// The proxy on the way out.
    pub proxy: Egress,
    /// Certificates (PEM) that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// A certificate chain (PEM) to show to providers that ask for one.
    pub client_cert: Option<PathBuf>,
    /// Its key (PEM).
    pub client_key: Option<PathBuf>,
    /// A mark for the packets of our own connections (`SO_MARK`), by which rules of the system know
    /// them.
    pub mark: Option<NonZeroU32>,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_hours(1),
            idle_timeout: Duration::from_mins(15),
            tcp_keepalive: Duration::from_secs(30),
            pool_idle: Duration::from_secs(30),
            http2: false,
            proxy: Egress::Env,
            ca_file: None,
            client_cert: None,
            client_key: None,
            mark: None,
        }
    }
}

/// The proxy on the way to providers: `env`, `none`, or an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Egress {
    /// As `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say.
    #[default]
    Env,
    /// Straight to the provider.
    None,
    /// Through this one: `http://user:password@host:port`.
    Url(Secret),
}

impl<'de> Deserialize<'de> for Egress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "env" => return Ok(Self::Env),
            "none" => return Ok(Self::None),
            _ => {},
        }
        // What was written is not repeated: there may be a password in it.
        let valid = text.parse::<http::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
        });
        if valid {
            Ok(Self::Url(Secret::new(text)))
        } else {
            Err(de::Error::custom(
                "expected `env`, `none` or the address of a proxy, like http://proxy.example:3128",
            ))
        }
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    deserializer.deserialize_str(Address)
}

fn optional_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Wrapped(#[serde(deserialize_with = "address")] SocketAddr);
    Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|Wrapped(address)| address))
}

struct Address;

impl de::Visitor<'_> for Address {
    type Value = SocketAddr;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an IP address and a port, like 127.0.0.1:4100 or [::1]:4100")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SocketAddr, E> {
        let local = text
            .strip_prefix("localhost:")
            .and_then(|port| port.parse().ok())
            .map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
        local
            .or_else(|| text.parse().ok())
            .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(json: &str) -> Result<Listen, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_are_read_and_others_explained() {
        let read = listen(r#"{"proxy": "localhost:0", "health": "0.0.0.0:4101"}"#).unwrap();
        assert_eq!(read.proxy.to_string(), "127.0.0.1:0");
        assert_eq!(read.health.unwrap().port(), 4101);
        assert_eq!(listen(r#"{"health": null}"#).unwrap(), Listen::default());
        let error = listen(r#"{"admin": "3001"}"#).unwrap_err();
        assert!(error.contains("like 127.0.0.1:4100"), "{error}");
    }

    #[test]
    fn only_the_ipv4_loopback_has_a_counterpart() {
        let all = |address: &str| Listen::with_counterpart(address.parse().unwrap()).count();
        assert_eq!(all("127.0.0.1:4100"), 2);
        assert_eq!(all("[::1]:4100"), 1);
        assert_eq!(all("0.0.0.0:4100"), 1);
    }

    #[test]
    fn a_password_in_a_proxy_address_is_never_shown() {
        let egress = |json: &str| serde_json::from_str::<Egress>(json);
        assert_eq!(egress(r#""env""#).unwrap(), Egress::Env);
        assert_eq!(egress(r#""none""#).unwrap(), Egress::None);
        let url = egress(r#""http://u:hush@proxy:3128""#).unwrap();
        assert!(!format!("{url:?}").contains("hush"));
        let error = egress(r#""u:hush@proxy""#).unwrap_err().to_string();
        assert!(!error.contains("hush") && error.contains("3128"), "{error}");
    }
}
