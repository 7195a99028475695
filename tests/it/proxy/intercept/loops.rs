//! Ways that lead back to where they began, through another Tollgate.

use std::net::SocketAddr;

use http::Method;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tollgate::net::authority::ROOTS;

use super::{CHAT, Ca, Opening, chat, configured};
use crate::support::{
    Sandbox, client,
    entry::{Entry, ask},
};

/// Two that are each other's proxy on the way out.
struct Ring {
    first: Opening,
    second: Opening,
    relaying: JoinHandle<()>,
}

impl Ring {
    /// With further keys of the section, and the rest of the configuration, of both.
    async fn new(intercept: &str, yaml: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (one, other) = (Ca::new(), Ca::new());
        let roots = [&one, &other].map(|ca| ca.path(ROOTS));
        let opening = |ca, proxy: SocketAddr, trusts: &str| {
            let upstream = format!("upstream: {{proxy: 'http://{proxy}', ca_file: '{trusts}'}}");
            let sandbox = Sandbox::new(&configured(&ca, intercept, &format!("{upstream}\n{yaml}")));
            Opening { sandbox, ca }
        };
        let first = opening(one, listener.local_addr().unwrap(), &roots[1]);
        let second = opening(other, first.addr(), &roots[0]);
        let there = second.addr();
        let relaying = tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut to = TcpStream::connect(there).await.unwrap();
                    // However it ends: both sides see that.
                    let _ended = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                });
            }
        });
        Self {
            first,
            second,
            relaying,
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.relaying.abort();
    }
}

#[tokio::test]
async fn a_tunnel_that_comes_back_through_another_tollgate_ends_there() {
    let ring = Ring::new("", "").await;
    let (_socket, answer) = ask(ring.first.addr(), "somewhere.invalid:443", "").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(
        ring.first.became("denied"),
        1,
        "the second time that it came"
    );
    assert_eq!(ring.first.became("unreachable"), 1);
    assert_eq!(ring.second.became("unreachable"), 1);
    assert_eq!(ring.first.count("tollgate_tunnels "), 0);
    // Whoever says that it has come through others is passed on, unless it says so without end.
    let (_socket, answer) = ask(ring.first.addr(), "a.invalid:443", "via: 1.1 squid\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    let endless = format!("via: 1.1 squid{}\r\n", ", 1.1 squid".repeat(1_000));
    let (_socket, answer) = ask(ring.first.addr(), "a.invalid:443", &endless).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(
        answer.contains("x-tollgate-blocked-by: upstream.proxy"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_call_that_comes_back_through_another_tollgate_ends_there() {
    let ring = Ring::new("", "providers: {mine: {base_url: 'https://mine.invalid'}}").await;
    let says = ring.first.says("mine.invalid", &["http/1.1"]);
    let entry = Entry::new(ring.first.addr(), "mine.invalid:443", "", Some(says)).await;
    let headers = [
        ("host", "mine.invalid"),
        ("content-type", "application/json"),
    ];
    let body = chat().to_string();
    let answer = client::call(entry.addr, Method::POST, CHAT, &headers, body).await;
    assert_eq!(answer.status, 502, "{answer:?}");
    assert_eq!(ring.second.became("opened"), 1);
    assert_eq!(ring.first.became("opened"), 1, "once, not again and again");
    assert_eq!(ring.first.became("denied"), 1);
}

#[tokio::test]
async fn a_plain_request_that_comes_back_through_another_tollgate_ends_there() {
    let ring = Ring::new(", tunnels: 16", "").await;
    let url = "http://somewhere.invalid/";
    let answer = client::call(ring.first.addr(), Method::GET, url, &[], "").await;
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_eq!(answer.header("x-tollgate-blocked-by"), "upstream.proxy");
    assert_eq!(ring.first.became("denied"), 1, "once, not again and again");
    assert_eq!(ring.second.became("passed"), 1);
    let through = [("via", "1.1 squid")];
    let answer = client::call(ring.first.addr(), Method::GET, url, &through, "").await;
    assert_eq!(answer.header("x-tollgate-blocked-by"), "upstream.proxy");
    assert_eq!(ring.first.became("denied"), 2);
}

#[tokio::test]
async fn a_plain_call_that_comes_back_through_another_tollgate_ends_there() {
    let yaml = "providers: {mine: {base_url: 'http://mine.invalid'}}\nlimits: {in_flight: 16}";
    let ring = Ring::new("", yaml).await;
    let url = format!("http://mine.invalid{CHAT}");
    let headers = [("content-type", "application/json")];
    let body = chat().to_string();
    let answer = client::call(ring.first.addr(), Method::POST, &url, &headers, body).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_eq!(answer.header("x-tollgate-blocked-by"), "upstream.proxy");
    // Each has served it once, and not again and again.
    for opening in [&ring.first, &ring.second] {
        assert_eq!(opening.sandbox.spans(1).await.len(), 1);
        assert_eq!(opening.sandbox.spans_now().len(), 1);
    }
}
