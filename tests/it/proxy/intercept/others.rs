//! Plain requests, as to a forward proxy, for hosts that are no provider's.

use http::Method;

use super::Opening;
use crate::support::{Line, Upstream, client};

const LOCAL: &str = ", allow_private: [127.0.0.0/8]";

#[tokio::test]
async fn a_plain_request_passes_on_as_it_is_and_so_does_its_answer() {
    let opening = Opening::new(LOCAL, "");
    let upstream = Upstream::bind().await;
    let host = format!("localhost:{}", upstream.addr().port());
    let mut client = Line::connect(opening.addr()).await;
    for round in 0..2 {
        client
            .send(format!(
                "POST http://{host}/v1/chat/completions?x=%2F HTTP/1.1\r\nhost: {host}\r\n\
                 proxy-connection: keep-alive\r\nproxy-authorization: Basic eDp5\r\n\
                 authorization: Bearer theirs\r\ncontent-length: 5\r\n\r\nhello"
            ))
            .await;
        let mut server = upstream.accept().await;
        let head = server.head().await;
        assert_eq!(head.first_line, "POST /v1/chat/completions?x=%2F HTTP/1.1");
        assert_eq!(head.header("host"), Some(&*host));
        assert_eq!(head.header("authorization"), Some("Bearer theirs"));
        assert_eq!(head.header("proxy-authorization"), None);
        assert_eq!(head.header("proxy-connection"), None);
        assert_eq!(server.body(&head).await.0, b"hello");
        server
            .send("HTTP/1.1 404 Not Found\r\nx-a: b\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno")
            .await;
        let head = client.head().await;
        assert_eq!((head.status(), head.header("x-a")), (404, Some("b")));
        assert_eq!(client.body(&head).await.0, b"no");
        assert_eq!(opening.unmetered("other", "tunnelled"), round + 1);
    }
    assert_eq!(opening.sandbox.spans_now().len(), 0);
}

#[tokio::test]
async fn a_plain_request_leads_nowhere_inside() {
    let upstream = Upstream::bind().await;
    let port = upstream.addr().port();
    let opening = Opening::new("", "");
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "169.254.169.254",
        "10.1.1.1",
    ] {
        let url = format!("http://{host}:{port}/latest/meta-data/");
        let answer = client::call(opening.addr(), Method::GET, &url, &[], "").await;
        assert_eq!(answer.status, 403, "{host} {answer:?}");
        assert_eq!(
            answer.header("x-tollgate-blocked-by"),
            "intercept.allow_private"
        );
    }
    let denying = Opening::new(", allow_private: [127.0.0.0/8], others: deny", "");
    let url = format!("http://127.0.0.1:{port}/");
    let answer = client::call(denying.addr(), Method::GET, &url, &[], "").await;
    assert_eq!(answer.header("x-tollgate-blocked-by"), "intercept.others");
}

#[tokio::test]
async fn what_cannot_be_passed_on_plainly_is_told_the_way() {
    let opening = Opening::new(LOCAL, "");
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    for (url, headers) in [
        ("https://example.com/", &[][..]),
        ("http://example.com/", &upgrade[..]),
        ("http://me:secret@example.com/", &[][..]),
    ] {
        let answer = client::call(opening.addr(), Method::GET, url, headers, "").await;
        assert_eq!(answer.status, 400, "{url} {answer:?}");
    }
}

#[tokio::test]
async fn a_plain_request_for_a_provider_is_a_call() {
    let opening = Opening::new("", "");
    let url = "http://api.openai.com/v1/models";
    let answer = client::call(opening.addr(), Method::GET, url, &[], "").await;
    assert_eq!(answer.status, 200);
    opening.sandbox.span(&answer).await;
    assert_eq!(opening.sandbox.mock.requests()[0].target, "/v1/models");
}

#[tokio::test]
async fn a_plain_request_for_a_provider_s_host_at_another_port_is_counted_as_that() {
    let yaml = "providers: {mine: {base_url: 'http://localhost:9'}}";
    let opening = Opening::new(LOCAL, yaml);
    let upstream = Upstream::bind().await;
    let url = format!("http://localhost:{}/", upstream.addr().port());
    let answers = async {
        let mut server = upstream.accept().await;
        server.head().await;
        server
            .send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .await;
    };
    let asked = client::call(opening.addr(), Method::GET, &url, &[], "");
    let (answer, ()) = tokio::join!(asked, answers);
    assert_eq!(answer.status, 200);
    assert_eq!(opening.unmetered("localhost", "port"), 1);
    assert_eq!(opening.unmetered("localhost", "tunnelled"), 0);
}
