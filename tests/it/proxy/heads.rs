//! Headers pass in their order, unknown ones too; only those for one hop, `Host` and our own are
//! touched.

use super::chat;
use crate::support::{Line, Sandbox, Upstream, client};

const BODY: &str =
    r#"{"model":"gpt-4o","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#;

#[tokio::test]
async fn a_request_s_head_keeps_order_repeats_and_what_nobody_knows() {
    let sandbox = Sandbox::new("");
    let mut line = Line::connect(sandbox.addr()).await;
    let head = format!(
        "POST /v1/chat/completions?b=1&a=%2F%c3&b= HTTP/1.1\r\n\
         Accept: */*\r\n\
         X-Stainless-Lang: python\r\n\
         Host: 127.0.0.1:4100\r\n\
         Accept-Encoding: br;q=1.0, gzip;q=0.8, *;q=0.1\r\n\
         Authorization: Bearer sk-k\r\n\
         X-Tollgate-Agent: a\r\n\
         Cookie: a=1\r\n\
         Connection: keep-alive, X-For-This-Hop\r\n\
         X-For-This-Hop: 1\r\n\
         Keep-Alive: timeout=5\r\n\
         Proxy-Authorization: Basic x\r\n\
         Proxy-Connection: keep-alive\r\n\
         TE: trailers\r\n\
         X-Obs: caf\u{e9}\r\n\
         Cookie: b=2\r\n\
         X-Empty:\r\n\
         Content-Type: application/json\r\n\
         Content-Length: {}\r\n\
         X-Last: last\r\n\r\n{BODY}",
        BODY.len()
    );
    line.send(head).await;
    let answer = line.head().await;
    assert_eq!(answer.status(), 200);
    line.body(&answer).await;
    let received = &sandbox.mock.requests()[0];
    let expected = format!(
        "POST /v1/chat/completions?b=1&a=%2F%c3&b= HTTP/1.1\r\n\
         accept: */*\r\n\
         x-stainless-lang: python\r\n\
         host: {}\r\n\
         accept-encoding: br;q=1.0, gzip;q=0.8, *;q=0.1\r\n\
         authorization: Bearer sk-k\r\n\
         cookie: a=1\r\n\
         cookie: b=2\r\n\
         te: trailers\r\n\
         x-obs: caf\u{e9}\r\n\
         x-empty: \r\n\
         content-type: application/json\r\n\
         content-length: {}\r\n\
         x-last: last\r\n\r\n",
        sandbox.mock.addr(),
        BODY.len()
    );
    assert_eq!(String::from_utf8(received.head.to_vec()).unwrap(), expected);
    assert_eq!(received.body, BODY);
}

#[tokio::test]
async fn a_response_s_head_keeps_order_repeats_and_what_nobody_knows() {
    let upstream = Upstream::bind().await;
    let sandbox = Sandbox::new(&upstream.as_provider("openai"));
    let mut line = Line::connect(sandbox.addr()).await;
    line.send("GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    let mut provider = upstream.accept().await;
    provider.head().await;
    provider
        .send(
            "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nX-Request-Id: r\r\n\
             Set-Cookie: a\r\nX-Odd: \u{e9}\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\
             Keep-Alive: timeout=5\r\nSet-Cookie: b\r\nServer: cloudflare\r\nVia: 1.1 x\r\n\
             Content-Type: application/json\r\nContent-Length: 2\r\nETag: \"e\"\r\n\r\n{}",
        )
        .await;
    let head = line.head().await;
    assert_eq!(head.first_line, "HTTP/1.1 200 OK");
    assert_eq!(
        head.names(),
        [
            "date",
            "x-request-id",
            "set-cookie",
            "set-cookie",
            "x-odd",
            "server",
            "via",
            "content-type",
            "content-length",
            "etag",
            "x-tollgate-request-id",
            "traceresponse",
        ]
    );
    assert_eq!(head.header("date"), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
    assert_eq!(line.body(&head).await.0, b"{}");
}

#[tokio::test]
async fn nothing_is_added_to_a_response() {
    let sandbox = Sandbox::new("");
    let direct = client::call(
        sandbox.mock.addr(),
        http::Method::GET,
        "/v1/models",
        &[],
        "",
    )
    .await;
    let through = sandbox.get("/v1/models").await;
    let names = |answer: &crate::support::Answer| -> Vec<String> {
        let names = answer.headers.keys().map(ToString::to_string);
        names
            .filter(|name| name != "x-tollgate-request-id" && name != "traceresponse")
            .collect()
    };
    assert_eq!(names(&direct), names(&through));
    assert_eq!(direct.body.len(), through.body.len());
}

#[tokio::test]
async fn reason_phrases_pass() {
    let upstream = Upstream::bind().await;
    let sandbox = Sandbox::new(&upstream.as_provider("openai"));
    let mut line = Line::connect(sandbox.addr()).await;
    line.send("GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    let mut provider = upstream.accept().await;
    provider.head().await;
    provider
        .send("HTTP/1.1 299 Quite Fine\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert_eq!(line.head().await.first_line, "HTTP/1.1 299 Quite Fine");
}

#[tokio::test]
async fn trace_context_is_continued_only_where_the_client_sent_it() {
    let sandbox = Sandbox::new("");
    let path = "/v1/chat/completions";
    let plain = sandbox.post(path, &chat()).await;
    let sent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let traced = sandbox
        .post_with(path, &[("traceparent", sent)], &chat())
        .await;
    let requests = sandbox.mock.requests();
    assert!(!requests[0].headers.contains_key("traceparent"));
    let forwarded = requests[1].headers["traceparent"].to_str().unwrap();
    assert_eq!(traced.header("traceresponse"), forwarded);
    let span = sandbox.span(&traced).await;
    assert_eq!(span.field("trace_id"), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(span.field("parent_span_id"), "b7ad6b7169203331");
    let own = span.field("span_id").as_str().unwrap();
    assert_eq!(
        forwarded,
        format!("00-0af7651916cd43dd8448eb211c80319c-{own}-01")
    );
    assert!(!plain.header("traceresponse").is_empty());
}

#[tokio::test]
async fn trace_context_goes_on_in_the_client_s_own_format() {
    let (trace, theirs) = ("463ac35c9f6413ad48485a3953bb6124", "a2fb4a1d1a96d312");
    let sandbox = Sandbox::new("");
    for (name, sent) in [
        ("b3", format!("{trace}-{theirs}-1")),
        ("uber-trace-id", format!("{trace}:{theirs}:0:1")),
    ] {
        let headers = [(name, sent.as_str())];
        let answer = sandbox
            .post_with("/v1/chat/completions", &headers, &chat())
            .await;
        let span = sandbox.span(&answer).await;
        assert_eq!(span.field("trace_id"), trace, "{name}");
        assert_eq!(span.field("parent_span_id"), theirs, "{name}");
        let own = span.field("span_id").as_str().unwrap();
        let requests = sandbox.mock.requests();
        let passed = &requests.last().unwrap().headers;
        assert_eq!(passed[name], sent.replace(theirs, own));
        assert!(!passed.contains_key("traceparent"));
    }
    // What a signature covers passes as it came.
    let sent = format!("{trace}-{theirs}-1");
    let signed = "AWS4-HMAC-SHA256 Credential=c, SignedHeaders=b3;host, Signature=s";
    let headers = [("b3", sent.as_str()), ("authorization", signed)];
    sandbox
        .post_with("/v1/chat/completions", &headers, &chat())
        .await;
    assert_eq!(sandbox.mock.requests()[2].headers["b3"], sent);
}

#[tokio::test]
async fn too_many_and_too_long_headers_are_answered_431() {
    let sandbox = Sandbox::new("limits: {headers: 20, header_bytes: 16KiB}");
    let many = "x-y: z\r\n".repeat(21);
    let long = format!("x-y: {}\r\n", "z".repeat(40_000));
    for headers in [many, long] {
        let mut line = Line::connect(sandbox.addr()).await;
        line.send(format!(
            "GET /v1/models HTTP/1.1\r\nhost: x\r\n{headers}\r\n"
        ))
        .await;
        let head = line.head().await;
        assert_eq!(head.status(), 431, "{head:?}");
    }
    assert_eq!(sandbox.mock.count(), 0);
    assert_eq!(sandbox.get("/v1/models").await.status, 200);
}
