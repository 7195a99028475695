//! What connections begin with.
//!
//! What must hold: what is told early stays told when more comes; a handshake reads the same in
//! whatever records it comes; a name is one, and a request's host is that of its only `Host`, or of its
//! target.

use super::steered;
use crate::net::opening::{Hello, Host, Opening};

pub fn run(input: &[u8]) {
    let Some((bytes, [size])) = steered(input) else {
        return;
    };
    let told = Opening::of(bytes);
    let early = (0..bytes.len()).find_map(|length| Opening::of(&bytes[..length]));
    assert!(
        early.is_none() || early == told,
        "{early:?} became {told:?}"
    );
    match told {
        Some(Opening::Tls(hello)) => {
            again(bytes, &hello, size);
            assert!(hello.name.as_deref().is_none_or(is_name), "{hello:?}");
        },
        Some(Opening::Http(host)) => {
            let text = match host.port {
                Some(port) => format!("{}:{port}", host.name),
                None => host.name.to_string(),
            };
            let parsed = Host::parse(text.as_bytes());
            assert_eq!(parsed.as_ref(), Some(&host));
            let mut lines = bytes.split(|byte| *byte == b'\n');
            let request = lines.find(|line| *line != b"\r").unwrap_or_default();
            let fields = lines;
            let ended = fields.take_while(|line| *line != b"\r");
            let hosts = ended.filter(|line| {
                let name = line.get(..5).unwrap_or_default();
                name.eq_ignore_ascii_case(b"host:")
            });
            let is_absolute = !request
                .split(|byte| *byte == b' ')
                .any(|word| word.starts_with(b"/") || word == b"*");
            let count = hosts.count();
            assert!(count == 1 || count == 0 && is_absolute, "{count}");
        },
        Some(Opening::Veiled) => assert!(bytes.starts_with(&[22, 3])),
        Some(Opening::Other) | None => {},
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= 253
        && !name.bytes().any(|byte| byte.is_ascii_uppercase())
        && name.parse::<std::net::IpAddr>().is_err()
        && name.split('.').all(|label| !label.is_empty())
}

/// The same handshake in records of another size.
fn again(bytes: &[u8], hello: &Hello, size: u8) {
    let mut content = Vec::new();
    let mut rest = bytes;
    while let [22, _, _, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        content.extend_from_slice(&after[..length]);
        rest = &after[length..];
    }
    let mut cut = Vec::new();
    for piece in content.chunks(usize::from(size).max(1)) {
        let length = u16::try_from(piece.len())
            .expect("it is short")
            .to_be_bytes();
        cut.extend_from_slice(&[22, 3, 1]);
        cut.extend_from_slice(&length);
        cut.extend_from_slice(piece);
    }
    assert_eq!(
        Opening::of(&cut).as_ref(),
        Some(&Opening::Tls(hello.clone()))
    );
}

/// A hello with these extensions.
fn hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let long = |content: &[u8]| {
        let length = u16::try_from(content.len()).expect("it is short");
        [&length.to_be_bytes(), content].concat()
    };
    let joined: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, content)| [&kind.to_be_bytes()[..], &long(content)].concat())
        .collect();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &long(&[0x13, 0x01, 0xc0, 0x2b]),
        &[1, 0],
        &long(&joined),
    ]
    .concat();
    let handshake = [&[1, 0][..], &long(&body)].concat();
    [&[22, 3, 1][..], &long(&handshake)].concat()
}

/// Beginnings as clients send them.
pub fn seeds() -> Vec<Vec<u8>> {
    let name = |name: &[u8]| {
        let length = u8::try_from(name.len()).expect("it is short");
        (0, [&[0, length + 3, 0, 0, length], name].concat())
    };
    let protocols = (16, b"\x00\x0c\x02h2\x08http/1.1".to_vec());
    let versions = (43, vec![4, 3, 4, 3, 3]);
    let all = [name(b"api.openai.com"), protocols, versions];
    let beginnings = [
        hello(&all),
        hello(&[name(b"10.0.0.1")]),
        hello(&[(0xfe0d, vec![0; 20]), name(b"public.example")]),
        b"POST /v1/responses HTTP/1.1\r\nHost: api.openai.com\r\ncontent-length: 2\r\n\r\n{}"
            .to_vec(),
        b"GET / HTTP/1.0\r\nhost: [fd00::1]:8000\r\n\r\n".to_vec(),
        b"\r\n\r\nGET / HTTP/1.1\r\nhost: a.b\r\n\r\n".to_vec(),
        b"GET http://a.b:80/ HTTP/1.1\r\nhost: c.d\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
    ];
    let steer = |mut bytes: Vec<u8>| {
        bytes.push(9);
        bytes
    };
    beginnings.map(steer).into()
}
