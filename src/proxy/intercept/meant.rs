//! What is meant by a connection: where it was led says little, its first bytes say more.

use super::{super::serve::Client, At, Denied, Fate, Intercept, Others, Unmetered};
use crate::net::opening::{Hello, Opening};

/// The protocols that are read below TLS.
const READ: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What is meant by a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meant {
    /// The place that it is for: the host that it names, else where it was led.
    pub(super) at: At,
    /// Whether what is spoken over it can be read.
    is_readable: bool,
}

/// Whether a client offers to speak what can be read.
pub(super) fn is_readable(hello: &Hello) -> bool {
    hello.protocols.is_empty() || READ.iter().any(|protocol| hello.offers(protocol))
}

impl Meant {
    /// What is meant by a connection to `to` that begins so.
    pub(super) fn by(opening: &Opening, to: &At) -> Self {
        let named = |host: &str| At::new(host, to.port());
        match opening {
            Opening::Tls(hello) => Self {
                at: hello.name.as_deref().map_or_else(|| to.clone(), named),
                is_readable: is_readable(hello),
            },
            Opening::Http(host) => {
                // Another port than that of the connection names another place.
                let agrees = host.port.is_none_or(|port| port == to.port());
                let at = agrees.then(|| named(&host.name));
                Self {
                    at: at.unwrap_or_else(|| to.clone()),
                    is_readable: agrees,
                }
            },
            Opening::Veiled | Opening::Other => Self {
                at: to.clone(),
                is_readable: false,
            },
        }
    }

    /// What becomes of it.
    pub(super) fn fate(&self, intercept: &Intercept, client: &Client) -> Fate {
        let proxy = &client.worker.proxy;
        let live = proxy.live.load();
        match intercept.fate(&live, &self.at, client.peer, proxy.clock.mono()) {
            Fate::Open if !self.is_readable => match intercept.config.others {
                Others::Tunnel => Fate::Pass(Unmetered::Protocol),
                Others::Deny => Fate::Deny(Denied::Protocol),
            },
            fate => fate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::opening::Host;

    fn hello(name: Option<&str>, protocols: &[&str]) -> Opening {
        Opening::Tls(Hello {
            name: name.map(Box::from),
            protocols: protocols
                .iter()
                .map(|name| name.as_bytes().into())
                .collect(),
            seals: false,
        })
    }

    #[test]
    fn a_connection_is_for_the_host_that_it_names_at_the_port_that_it_went_to() {
        let host = |name: &str, port| {
            let name = Box::from(name);
            Opening::Http(Host { name, port })
        };
        for (opening, expected, is_readable) in [
            (hello(Some("api.x"), &["h2"]), "api.x:8443", true),
            (hello(Some("api.x"), &[]), "api.x:8443", true),
            (
                hello(Some("api.x"), &["grpc-exp", "http/1.1"]),
                "api.x:8443",
                true,
            ),
            (hello(Some("api.x"), &["imap"]), "api.x:8443", false),
            (hello(None, &["h2"]), "192.0.2.7:8443", true),
            (host("api.x", None), "api.x:8443", true),
            (host("api.x", Some(8443)), "api.x:8443", true),
            (host("api.x", Some(443)), "192.0.2.7:8443", false),
            (Opening::Other, "192.0.2.7:8443", false),
        ] {
            let meant = Meant::by(&opening, &At::new("192.0.2.7", 8443));
            let found = (meant.at.to_string(), meant.is_readable);
            assert_eq!(found, (expected.to_owned(), is_readable), "{opening:?}");
        }
        let meant = Meant::by(&Opening::Other, &At::new("2001:db8::7", 443));
        assert_eq!(meant.at.to_string(), "[2001:db8::7]:443");
    }
}
