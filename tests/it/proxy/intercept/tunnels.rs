//! Connections that pass unread: where they may lead, and how they end.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::Opening;
use crate::support::{
    Upstream,
    entry::ask,
    sandbox::{PATIENCE, until},
};

const LOCAL: &str = ", allow_private: [127.0.0.0/8]";

/// What refused, or else the status line.
fn why(answer: &str) -> &str {
    let by = answer
        .lines()
        .find_map(|line| line.strip_prefix("x-tollgate-blocked-by: "));
    by.unwrap_or_else(|| answer.lines().next().unwrap_or_default())
}

#[tokio::test]
async fn every_byte_passes_both_ways_and_an_end_passes_too() {
    let opening = Opening::new(LOCAL, "");
    let upstream = Upstream::bind().await;
    let target = format!("localhost:{}", upstream.addr().port());
    let (mut client, answer) = ask(opening.addr(), &target, "").await;
    assert_eq!(answer, "HTTP/1.1 200 OK\r\n\r\n");
    let mut server = upstream.accept().await;
    for round in 0..20_u8 {
        let bytes = vec![round; 70_000];
        client.write_all(&bytes).await.unwrap();
        assert_eq!(server.take(bytes.len()).await, bytes);
        server.send(&bytes[..9]).await;
        let mut heard = [0; 9];
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, bytes[..9]);
    }
    assert_eq!(opening.count("tollgate_tunnels "), 1);
    // The client has said all, and still hears.
    client.shutdown().await.unwrap();
    assert_eq!(server.rest().await, b"");
    server.send("and more").await;
    drop(server);
    let mut heard = String::new();
    client.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "and more");
    until("the tunnel to end", || {
        opening.count("tollgate_tunnels ") == 0
    })
    .await;
    let bytes = |way: &str| {
        opening.count(&format!(
            "tollgate_tunnel_bytes_total{{direction=\"{way}\"}}"
        ))
    };
    assert_eq!((bytes("up"), bytes("down")), (1_400_000, 188));
    assert_eq!(opening.unmetered("other", "tunnelled"), 1);
    assert_eq!(opening.sandbox.spans_now().len(), 0);
}

#[tokio::test]
async fn what_the_client_says_at_once_is_not_lost() {
    let opening = Opening::new(LOCAL, "");
    let upstream = Upstream::bind().await;
    let mut client = TcpStream::connect(opening.addr()).await.unwrap();
    let target = upstream.addr();
    let said = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\nat once");
    client.write_all(said.as_bytes()).await.unwrap();
    let mut server = upstream.accept().await;
    assert_eq!(server.take(7).await, b"at once");
}

#[tokio::test]
async fn nobody_is_led_inside_by_an_address_or_a_name_that_stands_for_one() {
    let upstream = Upstream::bind().await;
    let port = upstream.addr().port();
    let opening = Opening::new(", allow_private: [db.internal]", "");
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "localhost",
        "LOCALHOST.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "0.0.0.0",
        "[::]",
        "10.0.0.1",
        "192.168.0.1",
        "172.16.0.1",
        "169.254.1.1",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "[fe80::1]",
    ] {
        let (_socket, answer) = ask(opening.addr(), &format!("{host}:{port}"), "").await;
        assert_eq!(why(&answer), "intercept.allow_private", "{host}: {answer}");
    }
    assert_eq!(opening.became("denied"), 18);
    assert_eq!(opening.unmetered("other", "tunnelled"), 0);
}

#[tokio::test]
async fn nobody_is_led_to_our_own_listeners_whatever_is_allowed() {
    let all = ", allow_private: [0.0.0.0/0, '::/0', localhost]";
    let listen = "listen: {proxy: 127.0.0.1:0, admin: 127.0.0.1:0, health: 127.0.0.1:0, transparent: 127.0.0.1:0}";
    let opening = Opening::new(all, listen);
    let app = &opening.sandbox.app;
    let redirected = app.transparent_addresses[0];
    for address in [
        app.proxy_address(),
        app.admin_address(),
        app.health_address.unwrap(),
        redirected,
    ] {
        let port = address.port();
        for host in ["127.0.0.1", "127.0.0.2", "localhost", "[::1]", "0.0.0.0"] {
            let (_socket, answer) = ask(opening.addr(), &format!("{host}:{port}"), "").await;
            assert_eq!(why(&answer), "intercept.allow_private", "{host}: {answer}");
            assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        }
    }
    // Whoever was not redirected there is led nowhere by that one, either.
    let before = opening.became("denied");
    let mut socket = TcpStream::connect(redirected).await.unwrap();
    let ended = timeout(PATIENCE, socket.read_u8()).await;
    assert!(ended.expect("it is held open").is_err());
    assert_eq!(opening.became("denied"), before + 1);
}

#[tokio::test]
async fn only_the_ports_that_are_allowed_are_reached() {
    let upstream = Upstream::bind().await;
    let port = upstream.addr().port();
    let opening = Opening::new(&format!(", allow_private: ['localhost:{port}']"), "");
    let (_open, answer) = ask(opening.addr(), &format!("localhost:{port}"), "").await;
    assert_eq!(why(&answer), "HTTP/1.1 200 OK");
    for target in [format!("127.0.0.1:{port}"), "localhost:9".to_owned()] {
        let (_socket, answer) = ask(opening.addr(), &target, "").await;
        assert_eq!(why(&answer), "intercept.allow_private", "{answer}");
    }
}

#[tokio::test]
async fn hosts_that_are_no_provider_s_are_refused_where_they_shall_be() {
    let upstream = Upstream::bind().await;
    let opening = Opening::new(", allow_private: [127.0.0.0/8], others: deny", "");
    let (_socket, answer) = ask(opening.addr(), &upstream.addr().to_string(), "").await;
    assert_eq!(why(&answer), "intercept.others");
    // So is another port of a provider's host: nothing there can be metered.
    let (_socket, answer) = ask(opening.addr(), "api.openai.com:22", "").await;
    assert_eq!(why(&answer), "intercept.others");
    assert_eq!(opening.became("denied"), 2);
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_no_connection() {
    let opening = Opening::new(LOCAL, "");
    let free = Upstream::bind().await.addr();
    for target in [free.to_string(), "no-such-host.invalid:443".to_owned()] {
        let (_socket, answer) = ask(opening.addr(), &target, "").await;
        assert_eq!(why(&answer), "HTTP/1.1 502 Bad Gateway", "{answer}");
    }
    assert_eq!(opening.became("unreachable"), 2);
}

#[tokio::test]
async fn there_are_so_many_tunnels_and_a_silent_one_ends() {
    let upstream = Upstream::bind().await;
    let limits = format!("{LOCAL}, tunnels: 1, idle_timeout: 200ms");
    let opening = Opening::new(&limits, "");
    let target = upstream.addr().to_string();
    let (mut first, answer) = ask(opening.addr(), &target, "").await;
    assert_eq!(why(&answer), "HTTP/1.1 200 OK");
    let (_socket, answer) = ask(opening.addr(), &target, "").await;
    assert_eq!(why(&answer), "overload");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert_eq!(opening.became("full"), 1);
    let counts = |metric: &str| opening.count(&format!("{metric}{{what=\"tunnels\"}}"));
    let held = [
        "tollgate_held",
        "tollgate_bound",
        "tollgate_over_bound_total",
    ];
    assert_eq!(held.map(counts), [1, 1, 1]);
    let _server = upstream.accept().await;
    let ended = timeout(PATIENCE, first.read_u8())
        .await
        .expect("it never ends");
    assert!(ended.is_err());
    let (_third, answer) = ask(opening.addr(), &target, "").await;
    assert_eq!(why(&answer), "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_tunnel_that_never_ends_does_not_hold_up_the_end_of_the_process() {
    let upstream = Upstream::bind().await;
    let opening = Opening::new(LOCAL, "shutdown: {deadline: 60s}");
    let (mut client, _) = ask(opening.addr(), &upstream.addr().to_string(), "").await;
    let _server = upstream.accept().await;
    let stopping = timeout(Duration::from_secs(15), opening.sandbox.stop());
    drop(stopping.await.expect("it waits for the tunnel"));
    assert!(client.read_u8().await.is_err());
}

#[tokio::test]
async fn a_tunnel_in_which_something_moves_ends_with_the_process_all_the_same() {
    let upstream = Upstream::bind().await;
    let opening = Opening::new(LOCAL, "shutdown: {deadline: 1s}");
    let (mut client, _) = ask(opening.addr(), &upstream.addr().to_string(), "").await;
    let mut server = upstream.accept().await;
    let talk = async {
        while client.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let listen = async { while server.more().await {} };
    let stopping = timeout(Duration::from_secs(15), opening.sandbox.stop());
    let (stopped, (), ()) = tokio::join!(stopping, talk, listen);
    drop(stopped.expect("it waits for the tunnel"));
}
