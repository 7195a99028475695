//! Connections of clients and to providers: framing, reuse, upgrades, and what breaks.

use http::Method;

use super::chat;
use crate::support::{Line, Sandbox, Upstream, client, sandbox::until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

#[tokio::test]
async fn trailers_pass_both_ways() {
    let upstream = Upstream::bind().await;
    let sandbox = Sandbox::new(&upstream.as_provider("openai"));
    let body = chat().to_string();
    for path in ["/v1/files", "/v1/chat/completions"] {
        let mut line = Line::connect(sandbox.addr()).await;
        line.send(format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nte: trailers\r\ntrailer: x-sum\r\n\
             transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\nx-sum: 9\r\n\r\n",
            body.len()
        ))
        .await;
        let mut provider = upstream.accept().await;
        let head = provider.head().await;
        assert_eq!(head.header("trailer"), Some("x-sum"));
        let (read, trailers) = provider.body(&head).await;
        assert_eq!(read, body.as_bytes());
        assert_eq!(trailers, [("x-sum".to_owned(), "9".to_owned())], "{path}");
        provider
            .send(
                "HTTP/1.1 200 OK\r\ntrailer: x-done\r\ntransfer-encoding: chunked\r\n\r\n\
                 2\r\n{}\r\n0\r\nx-done: yes\r\n\r\n",
            )
            .await;
        let head = line.head().await;
        let (read, trailers) = line.body(&head).await;
        assert_eq!(read, b"{}");
        assert_eq!(
            trailers,
            [("x-done".to_owned(), "yes".to_owned())],
            "{path}"
        );
    }
    sandbox.settled().await;
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_is_told_to_go_on() {
    let sandbox = Sandbox::new("");
    for path in ["/v1/chat/completions", "/v1/vector_stores"] {
        let body = chat().to_string();
        let mut line = Line::connect(sandbox.addr()).await;
        line.send(format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            body.len()
        ))
        .await;
        assert_eq!(line.head().await.status(), 100, "{path}");
        line.send(&body).await;
        let head = line.head().await;
        assert_eq!(head.status(), 200, "{path}");
        line.body(&head).await;
        assert_eq!(sandbox.mock.requests().pop().unwrap().body, body);
    }
}

#[tokio::test]
async fn an_upgraded_connection_passes_every_byte_both_ways() {
    let upstream = Upstream::bind().await;
    let sandbox = Sandbox::new(&upstream.as_provider("openai"));
    let mut line = Line::connect(sandbox.addr()).await;
    line.send(
        "GET /v1/talk?model=gpt-realtime HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-key: k\r\n\r\n",
    )
    .await;
    let mut provider = upstream.accept().await;
    let head = provider.head().await;
    assert_eq!(head.first_line, "GET /v1/talk?model=gpt-realtime HTTP/1.1");
    assert_eq!(head.header("upgrade"), Some("websocket"));
    assert_eq!(head.header("sec-websocket-key"), Some("k"));
    provider
        .send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: a\r\n\r\nhello at once",
        )
        .await;
    let head = line.head().await;
    assert_eq!(head.status(), 101);
    assert_eq!(head.header("sec-websocket-accept"), Some("a"));
    assert_eq!(line.take(13).await, b"hello at once");
    for round in 0..20_u8 {
        let frame = [round; 3_000];
        line.send(frame).await;
        assert_eq!(provider.take(3_000).await, frame);
        provider.send(frame).await;
        assert_eq!(line.take(3_000).await, frame);
    }
    assert_eq!(sandbox.app.holdings().in_flight, 1);
    drop(line);
    assert_eq!(provider.rest().await, b"");
    drop(provider);
    let span = sandbox.only_span().await;
    assert_eq!(span.field("kind"), "http");
    assert_eq!(span.get("http.response.status_code"), 101);
    assert_eq!(span.get("tollgate.usage.source"), "absent");
    sandbox.settled().await;
}

#[tokio::test]
async fn an_upgrade_that_is_declined_is_an_ordinary_answer() {
    let sandbox = Sandbox::new("");
    let mut line = Line::connect(sandbox.addr()).await;
    line.send(
        "GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    )
    .await;
    let head = line.head().await;
    assert_eq!(head.status(), 200);
    line.body(&head).await;
    sandbox.settled().await;
}

#[tokio::test]
async fn http_1_0_clients_are_served() {
    let sandbox = Sandbox::new("");
    let body = super::chat_stream().to_string();
    let mut line = Line::connect(sandbox.addr()).await;
    line.send(format!(
        "POST /v1/chat/completions HTTP/1.0\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    let head = line.head().await;
    assert!(head.first_line.ends_with(" 200 OK"));
    assert_eq!(head.header("transfer-encoding"), None);
    let text = String::from_utf8(line.rest().await).unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let received = &sandbox.mock.requests()[0];
    assert_eq!(received.version, http::Version::HTTP_11);
    assert_eq!(received.headers["host"], sandbox.mock.addr().to_string());
}

#[tokio::test]
async fn answers_without_a_body_stay_so_and_keep_the_connection() {
    let upstream = Upstream::bind().await;
    let sandbox = Sandbox::new(&upstream.as_provider("openai"));
    let mut line = Line::connect(sandbox.addr()).await;
    let mut provider = None;
    for (method, answer) in [
        (
            "HEAD",
            "200 OK\r\ncontent-type: a/b\r\ncontent-length: 1234",
        ),
        ("DELETE", "204 No Content"),
        ("GET", "304 Not Modified\r\netag: \"e\""),
        ("POST", "200 OK\r\ncontent-length: 0"),
    ] {
        line.send(format!(
            "{method} /v1/files/f HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
        ))
        .await;
        if provider.is_none() {
            provider = Some(upstream.accept().await);
        }
        let provider = provider.as_mut().unwrap();
        assert!(provider.head().await.first_line.starts_with(method));
        provider.send(format!("HTTP/1.1 {answer}\r\n\r\n")).await;
        let head = line.head().await;
        let expected = answer.split("\r\n").next().unwrap();
        assert_eq!(head.first_line, format!("HTTP/1.1 {expected}"));
        let length = answer.split("content-length: ").nth(1);
        assert_eq!(head.header("content-length"), length, "{method}");
    }
    sandbox.settled().await;
    assert_eq!(sandbox.spans(4).await.len(), 4);
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let sandbox = Sandbox::new("");
    let body = chat().to_string();
    let mut line = Line::connect(sandbox.addr()).await;
    for _ in 0..10 {
        line.send(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
        let head = line.head().await;
        assert_eq!(head.status(), 200);
        line.body(&head).await;
    }
    assert_eq!(sandbox.mock.connections(), 1);
}

#[tokio::test]
async fn a_pooled_connection_that_is_dead_costs_the_client_nothing() {
    let upstream = Upstream::bind().await;
    let sandbox = Sandbox::new(&upstream.as_provider("openai"));
    let mut line = Line::connect(sandbox.addr()).await;
    for _ in 0..5 {
        line.send("GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
            .await;
        let mut provider = upstream.accept().await;
        provider.head().await;
        provider.send(OK).await;
        let head = line.head().await;
        assert_eq!(head.status(), 200);
        line.body(&head).await;
        // Closed while it is idle.
        drop(provider);
    }
}

#[tokio::test]
async fn a_request_that_was_sent_is_never_sent_again() {
    let upstream = Upstream::bind().await;
    let sandbox = Sandbox::new(&upstream.as_provider("openai"));
    let mut line = Line::connect(sandbox.addr()).await;
    let request = "GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n";
    line.send(request).await;
    let mut provider = upstream.accept().await;
    provider.head().await;
    provider.send(OK).await;
    let head = line.head().await;
    line.body(&head).await;
    // On the same connection, which ends after the request has arrived.
    line.send(request).await;
    provider.head().await;
    drop(provider);
    let head = line.head().await;
    assert_eq!(head.status(), 502);
    let (body, _) = line.body(&head).await;
    let text = String::from_utf8(body).unwrap();
    assert!(text.contains("openai"), "{text}");
    // And the next one goes through.
    line.send(request).await;
    let mut provider = upstream.accept().await;
    provider.head().await;
    provider.send(OK).await;
    assert_eq!(line.head().await.status(), 200);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let sandbox = Sandbox::new("");
    let mut line = Line::connect(sandbox.addr()).await;
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    let all = ["/v1/a", "/v1/b", "/nowhere", "/v1/c"].map(one);
    line.send(all.concat()).await;
    for (status, within) in [
        (200, "/v1/a"),
        (200, "/v1/b"),
        (404, "/nowhere"),
        (200, "/v1/c"),
    ] {
        let head = line.head().await;
        assert_eq!(head.status(), status);
        let (body, _) = line.body(&head).await;
        assert!(String::from_utf8(body).unwrap().contains(within));
    }
}

#[tokio::test]
async fn many_http_2_streams_share_one_connection() {
    let sandbox = Sandbox::new("budgets: {daily: 5.00}");
    let calls = (0..40).map(|_| {
        client::call_h2(
            sandbox.addr(),
            Method::POST,
            "/v1/chat/completions",
            &[("content-type", "application/json")],
            chat().to_string(),
        )
    });
    let mut set = tokio::task::JoinSet::new();
    for call in calls {
        set.spawn(call);
    }
    for answer in set.join_all().await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    sandbox.settled().await;
    assert_eq!(sandbox.budget("daily").reserved, 0);
}

#[tokio::test]
async fn interim_answers_of_the_provider_do_no_harm() {
    let sandbox = Sandbox::new("");
    sandbox.mock.next_with("interim=103").unwrap();
    let answer = sandbox.post("/v1/chat/completions", &chat()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["model"], "gpt-4o-2024-08-06");
}

#[tokio::test]
async fn a_full_house_is_answered_503_and_empties_again() {
    let sandbox = Sandbox::new("limits: {in_flight: 2}");
    let hang = || {
        let addr = sandbox.addr();
        tokio::spawn(async move {
            let headers = [("x-mock", "hang=head")];
            client::post(addr, "/v1/chat/completions", &headers, &chat()).await
        })
    };
    let held = [hang(), hang()];
    until("two calls under way", || sandbox.mock.count() == 2).await;
    let answer = sandbox.get("/v1/models").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.header("x-tollgate-blocked-by"), "overload");
    for call in held {
        call.abort();
    }
    sandbox.settled().await;
    assert_eq!(sandbox.get("/v1/models").await.status, 200);
}
