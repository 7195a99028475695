//! What is said badly, on purpose or not, to a proxy that opens connections.

use http::Method;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{OPENAI, Opening};
use crate::support::{
    client,
    entry::{Entry, ask},
    sandbox::{PATIENCE, until},
};

/// Sends bytes on a connection of its own, and reads until it ends or an answer's head is there.
async fn said(opening: &Opening, bytes: &str) -> String {
    let mut socket = TcpStream::connect(opening.addr()).await.unwrap();
    socket.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        match timeout(PATIENCE, socket.read_u8())
            .await
            .expect("no answer")
        {
            Ok(byte) => answer.push(byte),
            Err(_ended) => break,
        }
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_request_for_a_connection_that_is_none_is_refused() {
    let opening = Opening::new(", allow_private: [127.0.0.0/8]", "");
    for head in [
        "CONNECT api.openai.com HTTP/1.1\r\n\r\n",
        "CONNECT api.openai.com:0 HTTP/1.1\r\n\r\n",
        "CONNECT api.openai.com:99999 HTTP/1.1\r\n\r\n",
        "CONNECT :443 HTTP/1.1\r\n\r\n",
        "CONNECT user@api.openai.com:443 HTTP/1.1\r\n\r\n",
        "CONNECT / HTTP/1.1\r\nhost: api.openai.com\r\n\r\n",
        "CONNECT https://api.openai.com:443/ HTTP/1.1\r\n\r\n",
        "CONNECT api.openai.com:443 HTTP/1.1\r\ncontent-length: 4\r\n\r\nGET ",
        "CONNECT api.openai.com:443 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "CONNECT api.openai.com:443 HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "CONNECT api.openai.com:443 HTTP/1.1\r\nx: a\r\n b\r\n\r\n",
        "CONNECT api.openai.com:443 HTTP/1.1\r\nx : a\r\n\r\n",
    ] {
        let answer = said(&opening, head).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{head}: {answer}");
    }
    assert_eq!(opening.became("opened"), 0);
}

#[tokio::test]
async fn a_host_is_the_provider_s_however_it_is_written_and_none_that_only_looks_like_it() {
    let opening = Opening::new("", "");
    for target in [
        "API.OpenAI.com:443",
        "api.openai.com.:443",
        "api.openai.com:00443",
    ] {
        let (socket, answer) = ask(opening.addr(), target, "").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{target}: {answer}");
        let tls = opening.says(OPENAI, &[]).over(socket).await;
        assert!(tls.is_ok(), "{target}");
    }
    until("all to be counted", || opening.became("opened") == 3).await;
    let opening = Opening::new(", others: deny", "");
    let label = "a".repeat(64);
    for target in [
        &*format!("{label}.openai.azure.com:443"),
        &format!("{}.openai.azure.com:443", "a.".repeat(200)),
        &format!("{}:443", "a".repeat(60_000)),
        "api.openai.com..:443",
        ".api.openai.com:443",
        "api..openai.com:443",
        "api.openai.com%00.evil.example:443",
        "api.openai.com%2eevil.example:443",
        "api.openai.com@evil.example:443",
        "evil.example@api.openai.com:443",
        "api.openai.com:443@evil.example:443",
        "api.openai.com:443:443",
        "api.openai.com:+443",
        "api.openai.com: 443",
        "api.openai.com:443/",
        "api.openai.com:443?x",
        "api.openai.com:443#x",
        "api.openai.com\\evil.example:443",
        "api_openai_com:443",
        "xapi.openai.com:443",
        "api.openai.com.evil.example:443",
        "api.openaí.com:443",
        "api.openai。com:443",
        "xn--api-openai-com:443",
        "[api.openai.com]:443",
        "[fe80::1%25eth0]:443",
        "[fe80::1%eth0]:443",
        "[::1]443",
        "[::1:443",
        "::1:443",
        "[v1.a]:443",
        "1.2.3.4.5:443",
        "*.openai.azure.com:443",
    ] {
        let head = format!("CONNECT {target} HTTP/1.1\r\nhost: {OPENAI}\r\n\r\n");
        let answer = said(&opening, &head).await;
        let status = answer.get(9..12).unwrap_or("none");
        assert!(
            ["400", "403", "431"].contains(&status),
            "{target}: {answer}"
        );
    }
    assert_eq!(opening.became("opened") + opening.became("passed"), 0);
}

#[tokio::test]
async fn a_connection_is_asked_for_in_http_1() {
    let opening = Opening::new("", "");
    for target in ["api.openai.com:443", "www.example.com:443"] {
        let answer = client::call_h2(opening.addr(), Method::CONNECT, target, &[], "").await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.text().contains("HTTP/1.1 only"), "{answer:?}");
    }
}

#[tokio::test]
async fn an_opened_connection_leads_to_no_other() {
    let opening = Opening::new(", allow_private: [127.0.0.0/8]", "");
    let entry = opening.entry(OPENAI, &["http/1.1"]).await;
    let (_socket, answer) = ask(entry.addr, "api.openai.com:443", "").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let (_socket, answer) = ask(entry.addr, &opening.addr().to_string(), "").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn another_name_in_tls_than_that_of_the_connection_gets_no_certificate() {
    let opening = Opening::new("", "");
    let (socket, _) = ask(opening.addr(), "api.openai.com:443", "").await;
    let refused = opening.says("api.anthropic.com", &[]).over(socket).await;
    assert!(refused.is_err());
    until("it to be counted", || {
        opening.unmetered(OPENAI, "handshake_failed") == 1
    })
    .await;
    assert_eq!(opening.became("opened"), 0);
}

/// A greeting of TLS in which TLS 1.0 is all that is offered.
const TLS_1_0: &[u8] = b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x01\
    0123456789abcdef0123456789abcdef\x00\x00\x04\x00\x2f\x00\x35\x01\x00";

#[tokio::test]
async fn tls_that_is_too_old_broken_off_or_none_at_all_ends_alone() {
    let opening = Opening::new(", handshake_timeout: 200ms", "");
    for (bytes, ends_itself) in [
        (TLS_1_0, false),
        (&b"\x16\x03\x01\xff\xff"[..], false),
        (&b"\x16\x03\x01\x00\x05\x01\x00\x00\x2b\x03"[..], true),
        (&b"\x16"[..], false),
    ] {
        let before = opening.unmetered(OPENAI, "handshake_failed");
        let (mut socket, _) = ask(opening.addr(), "api.openai.com:443", "").await;
        socket.write_all(bytes).await.unwrap();
        if ends_itself {
            socket.shutdown().await.unwrap();
        }
        let mut rest = Vec::new();
        // An alert may come, or the connection break.
        let read = timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
        let _broken = read.expect("it is held open");
        until("it to be counted", || {
            opening.unmetered(OPENAI, "handshake_failed") == before + 1
        })
        .await;
    }
    // A client that goes without a word was never one.
    let (socket, _) = ask(opening.addr(), "api.openai.com:443", "").await;
    drop(socket);
    // The next is served as ever.
    let entry = opening.entry(OPENAI, &["h2"]).await;
    let url = format!("https://{OPENAI}/v1/models");
    let answer = client::call_h2_at(entry.addr, Method::GET, &url, &[], "").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_greeting_byte_by_byte_behind_the_request_for_the_connection_is_understood() {
    let opening = Opening::new("", "");
    let says = opening.says(OPENAI, &[]);
    // Every write of TLS goes out a byte at a time.
    let entry = Entry::new(opening.addr(), "api.openai.com:443", "", None).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = listener.local_addr().unwrap();
    let slow = tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(entry.addr).await.unwrap();
        server.set_nodelay(true).unwrap();
        let (mut hears, mut says) = client.into_split();
        let (mut reads, mut writes) = server.into_split();
        let up = async {
            while let Ok(byte) = hears.read_u8().await {
                writes.write_u8(byte).await.unwrap();
                writes.flush().await.unwrap();
            }
        };
        let down = async { tokio::io::copy(&mut reads, &mut says).await };
        tokio::select! { () = up => {}, _ = down => {} }
    });
    let socket = TcpStream::connect(there).await.unwrap();
    let mut tls = says.over(socket).await.unwrap();
    let request = format!("GET /v1/models HTTP/1.1\r\nhost: {OPENAI}\r\n\r\n");
    tls.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    tls.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    slow.abort();
}
