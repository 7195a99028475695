//! The bytes of a body pass as they came, whatever they are and however they are cut.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use http::Method;
use tollgate::mock::{Exact, Framing, every};

use super::{chat, chat_stream};
use crate::support::{Line, Sandbox, Upstream, client};

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream; charset=utf-8";
const BUDGET: &str = "budgets: {daily: 5.00}";

const STREAM: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-4o\",\
    \"choices\":[{\"index\":0,\"delta\":{\"content\":\"gr\u{fc}\u{df}e \u{1f980}\"},\
    \"finish_reason\":null}]}\n\n: a comment\n\ndata: {\"id\":\"c\",\"choices\":[{\"index\":0,\
    \"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

/// Bodies of every kind, some of them broken.
fn bodies() -> Vec<(&'static str, Option<&'static str>, Bytes)> {
    let crlf = STREAM.replace('\n', "\r\n");
    let cr = STREAM.replace('\n', "\r");
    let json = " {\"id\": \"c\",\r\n\t\"choices\":[], \"usage\":{\"prompt_tokens\":1,\
                \"completion_tokens\":1e0}, \"id\":\"again\"}\n\n";
    vec![
        (JSON, None, Bytes::from(json)),
        (JSON, None, Bytes::new()),
        (JSON, None, Bytes::from_static(b"{\"broken\": \xff\xfe")),
        (JSON, Some("gzip"), gzip(json.as_bytes())),
        (JSON, Some("deflate"), deflate(json.as_bytes())),
        (
            JSON,
            Some("gzip"),
            Bytes::from_static(b"\x1f\x8bno gzip at all"),
        ),
        (JSON, Some("x-unknown"), Bytes::from_static(b"anything")),
        (EVENTS, None, Bytes::from(STREAM)),
        (EVENTS, None, crlf.into()),
        (EVENTS, None, cr.into()),
        (EVENTS, None, Bytes::from(format!("{STREAM}data: no end"))),
        (
            EVENTS,
            None,
            Bytes::from_static(b"data: \xff\n\n\n\n\ndata\n\n:\n\n"),
        ),
        (EVENTS, Some("gzip"), gzip(STREAM.as_bytes())),
        (EVENTS, Some("deflate"), deflate(STREAM.as_bytes())),
        ("application/octet-stream", None, Bytes::from(vec![0; 100])),
    ]
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap().into()
}

fn deflate(bytes: &[u8]) -> Bytes {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap().into()
}

async fn check_responses(yaml: &str) {
    let sandbox = Sandbox::new(yaml);
    for request in [chat(), chat_stream()] {
        for (content_type, encoding, body) in bodies() {
            let framings = [1, 2, 3, 7, 50].map(|size| every(size, &body));
            for framing in framings
                .into_iter()
                .chain([Framing::Length, Framing::Close])
            {
                let mut exact = Exact::new(200, content_type, body.clone()).framed(framing.clone());
                if let Some(encoding) = encoding {
                    let header = ("content-encoding".to_owned(), Bytes::from(encoding));
                    exact.headers.push(header);
                }
                sandbox.mock.next_exact(exact);
                let answer = sandbox.post("/v1/chat/completions", &request).await;
                let what = format!("{content_type} {encoding:?} {framing:?} {body:?}");
                assert_eq!(answer.status, 200, "{what}");
                assert_eq!(answer.error, None, "{what}");
                assert_eq!(answer.body, body, "{what}");
                assert_eq!(answer.header("content-encoding"), encoding.unwrap_or(""));
            }
        }
    }
    sandbox.settled().await;
}

#[tokio::test]
async fn responses_pass_byte_for_byte() {
    check_responses("").await;
}

#[tokio::test]
async fn responses_pass_byte_for_byte_where_they_might_be_cut() {
    check_responses(BUDGET).await;
}

#[tokio::test]
async fn requests_pass_byte_for_byte() {
    let sandbox = Sandbox::new(BUDGET);
    let chat = chat().to_string();
    let unusual = chat.replace(':', " :\r\n\t");
    let bodies: [&[u8]; 6] = [
        chat.as_bytes(),
        unusual.as_bytes(),
        b"",
        b"{\"model\": \"gpt-4o\"",
        b"\xff\xfe\x00",
        b"[1, 2]",
    ];
    for path in ["/v1/chat/completions", "/v1/files", "/v1/messages"] {
        for body in bodies {
            let headers = [("content-type", JSON)];
            let answer = client::call(
                sandbox.addr(),
                Method::POST,
                path,
                &headers,
                Bytes::copy_from_slice(body),
            )
            .await;
            // The provider says what it thinks of it, or a rule, for want of a price.
            let blocked = answer.header("x-tollgate-blocked-by");
            assert!(["", "model.unknown_price"].contains(&blocked), "{answer:?}");
            if blocked.is_empty() {
                let received = sandbox.mock.requests().pop().unwrap();
                assert_eq!(received.body, body, "{path}");
                assert!(received.whole);
            }
        }
    }
}

#[tokio::test]
async fn an_encoded_request_passes_as_it_is_and_is_read() {
    let sandbox = Sandbox::new(BUDGET);
    let body = gzip(chat_stream().to_string().as_bytes());
    let headers = [("content-type", JSON), ("content-encoding", "gzip")];
    let exact = Exact::new(200, EVENTS, STREAM);
    sandbox.mock.next_exact(exact);
    let answer = client::call(
        sandbox.addr(),
        Method::POST,
        "/v1/chat/completions",
        &headers,
        body.clone(),
    )
    .await;
    assert_eq!(answer.body, STREAM);
    let received = &sandbox.mock.requests()[0];
    assert_eq!(received.body, body);
    assert_eq!(received.headers["content-length"], body.len().to_string());
    let span = sandbox.span(&answer).await;
    assert_eq!(span.get("gen_ai.request.model"), "gpt-4o");
    assert!(span.get("tollgate.edits").is_null());
}

#[tokio::test]
async fn a_signed_request_is_never_edited() {
    let sandbox = Sandbox::new(BUDGET);
    for header in [
        ("content-digest", "sha-256=:x:"),
        ("authorization", "AWS4-HMAC-SHA256 x"),
    ] {
        let body = chat_stream();
        let headers = [("content-type", JSON), header];
        let answer = sandbox
            .post_with("/v1/chat/completions", &headers, &body)
            .await;
        assert_eq!(answer.status, 200);
        let received = sandbox.mock.requests().pop().unwrap();
        assert_eq!(received.body, body.to_string());
    }
}

/// A request of which half has been sent when the provider answers with `status` and the beginning of
/// `answer`. The rest of both follows; returns what the client got.
async fn answered_early(
    sandbox: &Sandbox,
    upstream: &Upstream,
    status: u16,
    answer: &str,
) -> String {
    let mut request = chat();
    request["messages"][0]["content"] = "x".repeat(300_000).into();
    let request = request.to_string();
    let (half, rest) = request.split_at(request.len() / 2);
    let (begins, ends) = answer.split_at(answer.len() / 2);
    let mut client = Line::connect(sandbox.addr()).await;
    client
        .send(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{half}",
            request.len()
        ))
        .await;
    let mut provider = upstream.accept().await;
    provider.head().await;
    provider
        .send(format!(
            "HTTP/1.1 {status} Said\r\ncontent-type: {JSON}\r\ncontent-length: {}\r\n\r\n{begins}",
            answer.len()
        ))
        .await;
    let head = client.head().await;
    assert_eq!(head.status(), status);
    client.send(rest).await;
    assert_eq!(provider.take(request.len()).await, request.as_bytes());
    provider.send(ends).await;
    String::from_utf8(client.body(&head).await.0).unwrap()
}

#[tokio::test]
async fn an_answer_that_comes_before_the_request_s_end_passes_whole_and_so_does_the_request() {
    let upstream = Upstream::bind().await;
    let budget = "budgets: {rules: [{name: b, window: total, limit: {tokens: 10000000}}]}";
    let providers = upstream.as_provider("openai");
    let sandbox = Sandbox::new(&format!("limits: {{peek: 1kB}}\n{providers}\n{budget}"));
    let error = "{\"error\": {\"message\": \"not a word of it\"}}";
    let got = answered_early(&sandbox, &upstream, 400, error).await;
    assert_eq!(got, error);
    assert_eq!(sandbox.spent("b").await, 0);
    let answer = "{\"id\": \"c\", \"model\": \"gpt-4o\", \"choices\": [], \
                  \"usage\": {\"prompt_tokens\": 100, \"completion_tokens\": 20}}";
    let got = answered_early(&sandbox, &upstream, 200, answer).await;
    assert_eq!(got, answer);
    assert_eq!(sandbox.spent("b").await, 120);
}

#[tokio::test]
async fn http_2_clients_get_the_same_bytes() {
    let sandbox = Sandbox::new(BUDGET);
    for body in [JSON, EVENTS].map(|kind| bodies().into_iter().find(|body| body.0 == kind)) {
        let (content_type, _, body) = body.unwrap();
        let exact = Exact::new(200, content_type, body.clone());
        sandbox.mock.next_exact(exact.framed(every(5, &body)));
        let headers = [("content-type", JSON)];
        let request = chat_stream().to_string();
        let path = "/v1/chat/completions";
        let answer = client::call_h2(sandbox.addr(), Method::POST, path, &headers, request).await;
        assert_eq!((answer.status.as_u16(), answer.body), (200, body));
        assert!(answer.error.is_none());
    }
    sandbox.settled().await;
    assert_eq!(sandbox.budget("daily").reserved, 0);
}
