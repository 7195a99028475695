//! Requests on opened connections that two readers could take for different ones: none gets to a
//! provider in a way that leaves that open.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use super::{CHAT, OPENAI, Opening, chat};
use crate::support::{
    Upstream,
    entry::ask,
    sandbox::{PATIENCE, until},
};

/// A connection that was opened.
async fn opened(opening: &Opening, alpn: &'static str) -> TlsStream<TcpStream> {
    let (socket, _) = ask(opening.addr(), "api.openai.com:443", "").await;
    opening.says(OPENAI, &[alpn]).over(socket).await.unwrap()
}

/// The status of the answer to that; 0 if there is none.
async fn status(opening: &Opening, said: &str) -> u16 {
    let mut tls = opened(opening, "http/1.1").await;
    tls.write_all(said.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    let read = timeout(PATIENCE, tls.read_exact(&mut answer)).await;
    if read.expect("no answer").is_err() {
        return 0;
    }
    std::str::from_utf8(&answer[9..]).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_request_whose_length_or_host_is_open_to_dispute_is_refused() {
    let opening = Opening::new("", "");
    let body = chat().to_string();
    let length = body.len();
    let chunked = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    let host = format!("host: {OPENAI}");
    for (head, body) in [
        (
            format!("{host}\r\ncontent-length: {length}\r\ncontent-length: 2"),
            &body,
        ),
        (format!("{host}\r\ncontent-length: {length}, 2"), &body),
        (format!("{host}\r\ncontent-length: +{length}"), &body),
        (format!("{host}\r\ncontent-length: 0x10"), &body),
        (format!("{host}\r\ncontent-length: -1"), &body),
        (
            format!("{host}\r\ncontent-length: 99999999999999999999"),
            &body,
        ),
        (
            format!("{host}\r\ntransfer-encoding: chunked, identity"),
            &chunked,
        ),
        (format!("{host}\r\ntransfer-encoding: identity"), &chunked),
        (format!("{host}\r\ntransfer-encoding: xchunked"), &chunked),
        (format!("{host}\r\ntransfer-encoding : chunked"), &chunked),
        (
            format!("{host}\r\ntransfer-encoding: \u{b}chunked"),
            &chunked,
        ),
        (format!("{host}\r\ncontent-length : {length}"), &body),
        (format!("{host}\r\n content-length: {length}"), &body),
        (
            format!("{host}\r\ncontent-length: {length}\r\nx: a\r\n b"),
            &body,
        ),
        (
            format!("{host}\r\ncontent-length: {length}\r\nx: a\rb"),
            &body,
        ),
        (
            format!("{host}\r\ncontent-length: {length}\r\nx: a\u{0}b"),
            &body,
        ),
        (
            format!("{host}\r\ncontent-length: {length}\r\nx y: a"),
            &body,
        ),
        (
            format!("{host}\r\n{host}\r\ncontent-length: {length}"),
            &body,
        ),
        (
            format!("{host}, api.anthropic.com\r\ncontent-length: {length}"),
            &body,
        ),
        (
            format!("{host}@api.anthropic.com\r\ncontent-length: {length}"),
            &body,
        ),
        (format!("{host}/v1\r\ncontent-length: {length}"), &body),
        (format!("host: \r\ncontent-length: {length}"), &body),
        (format!("content-length: {length}"), &body),
    ] {
        let said = format!("POST {CHAT} HTTP/1.1\r\n{head}\r\n\r\n{body}");
        let status = status(&opening, &said).await;
        assert!([400, 421].contains(&status), "{head}: {status}");
    }
    for line in [
        format!("POST {CHAT} HTTP/1.1 HTTP/1.1"),
        format!("POST {CHAT}\u{0} HTTP/1.1"),
        format!("POST  {CHAT} HTTP/1.1"),
        format!("POST {CHAT} HTTP/2.0"),
        format!("POST http://api.anthropic.com{CHAT} HTTP/1.1"),
    ] {
        let said = format!("{line}\r\n{host}\r\ncontent-length: {length}\r\n\r\n{body}");
        let status = status(&opening, &said).await;
        assert!([0, 400, 421].contains(&status), "{line}: {status}");
    }
    assert_eq!(opening.sandbox.mock.count(), 0);
}

#[tokio::test]
async fn what_one_reader_takes_for_a_second_request_reaches_the_provider_as_one_or_not_at_all() {
    let upstream = Upstream::bind().await;
    let opening = Opening::new("", &upstream.as_provider("openai"));
    let inner = "GET /v1/secret HTTP/1.1\r\nhost: api.openai.com\r\n\r\n";
    let body = format!("0\r\n\r\n{inner}");
    let length = body.len();
    // Lines that end in a line feed alone are lines, as RFC 9112 (2.2) has it; what is passed on ends
    // as it must.
    for (newline, version) in [("\n", "1.1"), ("\r\n", "1.1"), ("\r\n", "1.0")] {
        let said = [
            &*format!("POST /v1/models HTTP/{version}"),
            &format!("host: {OPENAI}"),
            &format!("content-length: {length}"),
            "x-a: transfer-encoding: chunked",
            "",
            &body,
        ]
        .join(newline);
        let mut tls = opened(&opening, "http/1.1").await;
        tls.write_all(said.as_bytes()).await.unwrap();
        let mut server = upstream.accept().await;
        let head = server.head().await;
        assert_eq!(head.first_line, "POST /v1/models HTTP/1.1");
        assert_eq!(head.header("transfer-encoding"), None);
        assert_eq!(head.header("content-length"), Some(&*length.to_string()));
        assert_eq!(server.body(&head).await.0, body.as_bytes());
        server
            .send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
            .await;
        let mut answer = [0; 12];
        tls.read_exact(&mut answer).await.unwrap();
        let expected = format!("HTTP/{version} 200");
        assert_eq!(&answer, expected.as_bytes());
    }
    // Of two lengths the one by chunks counts (RFC 9112, 6.3), and is the only one that is passed on.
    let chunked = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    let mut both = [
        format!("content-length: {length}"),
        "transfer-encoding: chunked".to_owned(),
    ];
    for _ in 0..2 {
        both.reverse();
        let lengths = both.join("\r\n");
        let said =
            format!("POST /v1/models HTTP/1.1\r\nhost: {OPENAI}\r\n{lengths}\r\n\r\n{chunked}");
        let mut tls = opened(&opening, "http/1.1").await;
        tls.write_all(said.as_bytes()).await.unwrap();
        let mut server = upstream.accept().await;
        let head = server.head().await;
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
        assert_eq!(head.header("content-length"), None);
        assert_eq!(server.body(&head).await.0, body.as_bytes());
        server
            .send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
            .await;
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&*head, payload].concat()
}

/// Headers as HPACK writes them without any table.
fn headers(all: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let one = |(name, value): &(&str, &str)| [vec![0], text(name), text(value)].concat();
    all.iter().flat_map(one).collect()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What becomes of a request in HTTP/2 that is sent frame by frame.
#[derive(Debug, PartialEq, Eq)]
enum Became {
    /// It is answered.
    Answered,
    /// It is broken off, or all of its connection is.
    Broken,
}

async fn over_http2(opening: &Opening, fields: &[(&str, &str)], body: &[u8]) -> Became {
    let mut tls = opened(opening, "h2").await;
    let said = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS, END_HEADERS, 1, &headers(fields)),
        frame(DATA, END_STREAM, 1, body),
    ]
    .concat();
    tls.write_all(&said).await.unwrap();
    let answer = async {
        loop {
            let mut head = [0; 9];
            if tls.read_exact(&mut head).await.is_err() {
                return Became::Broken;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            tls.read_exact(&mut payload).await.unwrap();
            match head[3] {
                // Which status is at 7 of its static table, literal: the first byte tells 200.
                HEADERS if payload.first() == Some(&0x88) => return Became::Answered,
                HEADERS | RESET | GO_AWAY => return Became::Broken,
                _ => {},
            }
        }
    };
    timeout(PATIENCE, answer).await.expect("no answer")
}

#[tokio::test]
async fn in_http_2_what_belongs_to_http_1_and_what_does_not_add_up_is_refused() {
    let opening = Opening::new("", "");
    let body = chat().to_string();
    let length = body.len().to_string();
    let good = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", OPENAI),
        (":path", CHAT),
        ("content-type", "application/json"),
    ];
    let with = |more: &[(&'static str, &'static str)]| [&good[..], more].concat();
    let became = over_http2(&opening, &good, body.as_bytes()).await;
    assert_eq!(became, Became::Answered, "the test itself");
    let before = opening.sandbox.mock.count();
    let mut bad: Vec<Vec<(&str, &str)>> = [
        ("connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("content-length", "1"),
        ("content-length", "99999"),
        ("content-length", "x"),
        ("host", "api.anthropic.com"),
        ("x-a", "b\r\nx-c: d"),
        ("x-a", "b\u{0}"),
        ("X-A", "b"),
        ("x a", "b"),
        (":path", "/v1/other"),
        (":protocol", "websocket"),
    ]
    .map(|field| with(&[field]))
    .to_vec();
    let twice = [("content-length", &*length), ("content-length", "1")];
    bad.push([&good[..], &twice].concat());
    for (place, value) in [
        (1, "http\r\nx: y"),
        (2, "api.anthropic.com"),
        (2, "api.openai.com@evil.example"),
        (2, ""),
        (3, ""),
        (3, "/v1/models HTTP/1.1\r\nx: y"),
        (0, "CONNECT"),
    ] {
        let mut fields = good.to_vec();
        fields[place].1 = value;
        bad.push(fields);
    }
    for fields in bad {
        let became = over_http2(&opening, &fields, body.as_bytes()).await;
        assert_eq!(became, Became::Broken, "{fields:?}");
    }
    until("all to end", || {
        opening.sandbox.app.holdings().in_flight == 0
    })
    .await;
    assert_eq!(opening.sandbox.mock.count(), before);
}
