//! What a connection begins with, as far as it tells what is spoken and with whom: a TLS handshake,
//! a request of HTTP/1, or something else.

mod head;
mod hello;

use self::hello::HANDSHAKE;
pub use self::{head::Host, hello::Hello};

/// What a connection begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A TLS handshake.
    Tls(Hello),
    /// A request of HTTP/1, to this host.
    Http(Host),
    /// A TLS handshake that leaves open whom it is for: it is too long, malformed, or was not whole in
    /// time. A server may be able to read it all the same.
    Veiled,
    /// None of them.
    Other,
}

impl Opening {
    /// What `bytes` are, of which more may follow; `None` if that cannot be told without more.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? {
            &HANDSHAKE => match hello::read(bytes) {
                Ok(hello) => Some(Self::Tls(hello)),
                Err(hello::Unread::Short) => None,
                Err(hello::Unread::Foreign) => Some(Self::unread(bytes)),
            },
            b'\r' => match head::without_empty_lines(bytes) {
                // Maybe another empty line.
                [] | b"\r" => None,
                rest @ [b'A'..=b'Z', ..] => Self::of(rest),
                _ => Some(Self::Other),
            },
            b'A'..=b'Z' => match head::read(bytes) {
                Ok(host) => Some(Self::Http(host)),
                Err(head::Unread::Short) => None,
                Err(head::Unread::Foreign) => Some(Self::Other),
            },
            _ => Some(Self::Other),
        }
    }

    /// What `bytes` are if nothing more can be told of them.
    pub fn unread(bytes: &[u8]) -> Self {
        // Every version of TLS has 3 there.
        match bytes {
            [HANDSHAKE] | [HANDSHAKE, 3, ..] => Self::Veiled,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::ring};

    use super::*;

    /// What rustls begins with.
    fn greeting(name: &str, protocols: &[&str]) -> Vec<u8> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().into())
            .collect();
        let name = name.to_owned().try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same handshake in records of `size` bytes.
    fn in_records(bytes: &[u8], size: usize) -> Vec<u8> {
        let (head, handshake) = bytes.split_at(5);
        let record = |piece: &[u8]| {
            let length = u16::try_from(piece.len()).unwrap().to_be_bytes();
            [&head[..3], &length, piece].concat()
        };
        handshake.chunks(size).flat_map(record).collect()
    }

    fn hello(bytes: &[u8]) -> Hello {
        match Opening::of(bytes) {
            Some(Opening::Tls(hello)) => hello,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_handshake_tells_its_host_and_its_protocols() {
        let read = hello(&greeting("API.OpenAI.com", &["h2", "http/1.1"]));
        assert_eq!(read.name.as_deref(), Some("api.openai.com"));
        assert_eq!(read.protocols, [Box::from(*b"h2"), Box::from(*b"http/1.1")]);
        assert!(read.offers(b"h2") && !read.offers(b"h3"));
        let read = hello(&greeting("10.0.0.1", &[]));
        assert_eq!((read.name, read.protocols.len()), (None, 0));
    }

    #[test]
    fn a_request_tells_its_host() {
        let of = |text: &str| Opening::of(text.as_bytes());
        let host = |name: &str, port| {
            let name = Box::from(name);
            Some(Opening::Http(Host { name, port }))
        };
        assert_eq!(
            of("POST /v1/x HTTP/1.1\r\nA: b\r\nhOsT:  Vllm:8000 \r\n\r\nbody"),
            host("vllm", Some(8000))
        );
        assert_eq!(of("GET / HTTP/1.0\r\nHost: a.b\r\n\r\n"), host("a.b", None));
        assert_eq!(
            of("OPTIONS * HTTP/1.1\r\nHost: [::1]\r\n\r\n"),
            host("[::1]", None)
        );
        assert_eq!(
            of("\r\n\r\nGET / HTTP/1.1\r\nHost: a.b\r\n\r\n"),
            host("a.b", None)
        );
        for target in [
            "http://c.d:80",
            "HTTP://c.d:80/",
            "http://c.d:80?q=http://a.b/",
        ] {
            let said = format!("GET {target} HTTP/1.1\r\nHost: a.b\r\n\r\n");
            assert_eq!(of(&said), host("c.d", Some(80)), "{target}");
        }
        assert_eq!(of("GET / HTTP/1.1\r\nHost: a.b\r\n"), None);
        assert_eq!(of("\r\n\r"), None);
        assert_eq!(of(""), None);
        for strange in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\nHost: a.b\n\n",
            "GET / HTTP/1.1\r\nHost: a.b\n\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.b\r\nHost: c.d\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.b, c.d\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.b\r\n c.d\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a.b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.b:99999\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: u@a.b\r\n\r\n",
            "GET http://u@c.d/ HTTP/1.1\r\nHost: a.b\r\n\r\n",
            "GET ftp://c.d/ HTTP/1.1\r\nHost: a.b\r\n\r\n",
            "\r\r\nGET / HTTP/1.1\r\nHost: a.b\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "SSH-2.0-OpenSSH_9\r\n",
            "EHLO me\r\n",
            "\u{0}\u{0}",
        ] {
            assert_eq!(of(strange), Some(Opening::Other), "{strange:?}");
        }
    }

    #[test]
    fn what_is_no_handshake_is_told_at_once() {
        let good = greeting("a.b", &["h2"]);
        let spoiled = |place: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[place] = byte;
            Opening::of(&bytes)
        };
        // The version's first byte; a length beyond a record's; a message that is no hello; one
        // that is too long; an odd length of the cipher suites.
        let suites = 5 + 4 + 2 + 32 + 1 + 32;
        for (place, byte) in [(3, 0x41), (5, 2), (6, 1), (suites + 1, 1)] {
            assert_eq!(spoiled(place, byte), Some(Opening::Veiled), "{place}");
        }
        assert_eq!(spoiled(1, 2), Some(Opening::Other));
        assert_eq!(Opening::of(&[22, 3, 1, 0, 0]), Some(Opening::Veiled));
        assert_eq!(Opening::of(&[22, 3]), None);
    }

    proptest! {
        #[test]
        fn a_handshake_reads_the_same_however_it_is_cut(
            name in "[a-z]{1,20}\\.[a-z]{2,8}",
            protocols in proptest::collection::vec("[!-~]{1,12}", 0..5),
            size in 1..700_usize,
        ) {
            let protocols: Vec<&str> = protocols.iter().map(String::as_str).collect();
            let whole = greeting(&name, &protocols);
            let expected = hello(&whole);
            prop_assert_eq!(expected.name.as_deref(), Some(&*name));
            let cut = in_records(&whole, size);
            prop_assert_eq!(&hello(&cut), &expected);
            // What follows is not looked at, and what is cut short is waited for.
            let more = [&*cut, b"\x17\x03\x03\x00\x01a"].concat();
            prop_assert_eq!(&hello(&more), &expected);
            for length in 0..cut.len() {
                prop_assert_eq!(Opening::of(&cut[..length]), None);
            }
        }

        #[test]
        fn any_bytes_are_something_or_too_few(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
            first in prop_oneof![Just(22_u8), Just(b'G'), any::<u8>()],
        ) {
            if let Some(place) = bytes.first_mut() {
                *place = first;
            }
            let whole = Opening::of(&bytes);
            // Once it is told, more bytes do not change it.
            for length in 0..bytes.len() {
                if let Some(early) = Opening::of(&bytes[..length]) {
                    prop_assert_eq!(Some(early), whole);
                    break;
                }
            }
        }

        #[test]
        fn a_damaged_handshake_is_read_without_harm(place in any::<usize>(), byte in any::<u8>()) {
            let mut bytes = greeting("api.openai.com", &["h2", "http/1.1"]);
            let place = place % bytes.len();
            bytes[place] = byte;
            if let Some(Opening::Tls(hello)) = Opening::of(&bytes) {
                prop_assert!(hello.name.is_none_or(|name| name.len() <= 253));
            }
        }
    }
}
