//! Bad input of every kind has a clear outcome, and traffic passes wherever no rule forbids it.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::Method;
use tollgate::mock::{End, Exact};

use super::{chat, chat_stream, priced};
use crate::support::{Line, Sandbox, client};

const PATH: &str = "/v1/chat/completions";
const BUDGET: &str = "budgets: {daily: 5.00}";

#[tokio::test]
async fn what_cannot_be_read_passes_and_the_provider_judges_it() {
    let sandbox = Sandbox::new("");
    let bodies: [&[u8]; 5] = [
        b"{\"model\": \"gpt-4o\", \"messages\": [",
        b"not json",
        b"{\"model\": \"\xff\xfe\"}",
        b"{\"messages\": []}",
        b"",
    ];
    for body in bodies {
        let body = Bytes::copy_from_slice(body);
        let answer = client::call(sandbox.addr(), Method::POST, PATH, &[], body.clone()).await;
        assert_eq!(answer.status, 400, "{body:?}");
        assert_eq!(answer.header("x-tollgate-blocked-by"), "");
        assert_eq!(sandbox.mock.requests().pop().unwrap().body, body);
        let span = sandbox.span(&answer).await;
        assert_eq!(span.field("status"), "error");
    }
}

#[tokio::test]
async fn under_a_budget_a_request_without_a_model_is_refused_for_want_of_a_price() {
    let sandbox = Sandbox::new(BUDGET);
    for body in ["{\"messages\": []}", "not json"] {
        let answer = client::call(sandbox.addr(), Method::POST, PATH, &[], body).await;
        assert_eq!(answer.status, 403);
        let blocked = answer.header("x-tollgate-blocked-by");
        assert_eq!(blocked, "model.unknown_price");
    }
    assert_eq!(sandbox.mock.count(), 0);
}

#[tokio::test]
async fn answers_that_cannot_be_read_pass_and_the_span_says_partial() {
    let sandbox = Sandbox::new(&priced(BUDGET));
    for (content_type, body) in [
        (
            "application/json",
            &b"{\"id\": \"c\", \"usage\": {\"prompt"[..],
        ),
        ("application/json", b"\xff\xff\xff"),
        ("text/event-stream", b"data: {\"broken\n\ndata: \xff\n\n"),
    ] {
        let exact = Exact::new(200, content_type, Bytes::copy_from_slice(body));
        sandbox.mock.next_exact(exact);
        let answer = sandbox.post(PATH, &chat()).await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, body));
        let span = sandbox.span(&answer).await;
        assert!(!span.get("tollgate.partial").is_null(), "{body:?}");
        assert_eq!(span.get("tollgate.usage.source"), "estimated");
    }
    assert!(sandbox.spent("daily").await > 0);
}

/// What a stream may have in it and still be read: the facts are the same.
#[tokio::test]
async fn line_ends_marks_comments_codings_and_cuts_of_a_stream_change_nothing() {
    for settings in [
        "newline=crlf;chunk=1",
        "newline=cr;chunk=7",
        "bom=1;chunk=1",
        "bom=1;comments=1;newline=crlf;chunk=3",
        "encoding=gzip;chunk=5",
        "encoding=br;chunk=1",
        "encoding=zstd;comments=1;chunk=11",
        "event-size=70000;events=2",
        // Too large to be kept: read by its fields.
        "event-size=300000;events=2",
    ] {
        // Room for what so much text can be, whatever the mock says that it was.
        let sandbox = Sandbox::new(&priced("budgets: {daily: 100.00}"));
        let settings = format!("input=100;output=20;{settings}");
        sandbox.mock.next_with(&settings).unwrap();
        let answer = sandbox.post(PATH, &chat_stream()).await;
        let span = sandbox.span(&answer).await;
        let outcome = span.outcome();
        assert_eq!(
            outcome, "ok complete admitted reported 0.000450000",
            "{settings}"
        );
        assert!(span.get("tollgate.partial").is_null(), "{settings}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_what_its_headers_say_passes_and_the_span_says_so() {
    let damaged = "compressed body is damaged";
    let stray = "stream is not what its content type says";
    for (settings, stream, what) in [
        ("header=content-encoding:gzip", false, damaged),
        ("header=content-encoding:br", true, damaged),
        ("header=content-encoding:zstd", true, damaged),
        ("encoding=gzip;flip=40", true, damaged),
        ("encoding=zstd;flip=0", false, damaged),
        (
            "encoding=gzip;shorten=60",
            true,
            "compressed body broke off",
        ),
        (
            "encoding=br;shorten=200",
            false,
            "compressed body broke off",
        ),
        ("header=content-encoding:sdch", false, "content-encoding"),
        ("header=content-type:text/event-stream", false, stray),
        (
            "header=content-type:application/x-ndjson",
            true,
            "stream event",
        ),
        (
            "header=content-type:application/json",
            true,
            "response body",
        ),
        (
            "header=content-type:application/vnd.amazon.eventstream",
            true,
            stray,
        ),
    ] {
        let sandbox = Sandbox::new(&priced(BUDGET));
        let body = if stream { chat_stream() } else { chat() };
        sandbox.mock.next_with(settings).unwrap();
        let answer = sandbox.post(PATH, &body).await;
        let span = sandbox.span(&answer).await;
        assert_eq!(answer.status, 200, "{settings}");
        assert_eq!(span.get("tollgate.partial"), what, "{settings}");
        assert!(
            span.get("gen_ai.usage.output_tokens").is_null() || {
                let source = span.get("tollgate.usage.source");
                source == "estimated" || source == "ceiling"
            }
        );
        // What was not read is not free: the answer's text alone is four tokens or more.
        assert!(sandbox.spent("daily").await > 40_000, "{settings}");
    }
}

#[tokio::test]
async fn requests_are_read_in_every_coding_and_passed_as_they_are() {
    let body = chat().to_string();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(body.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(body.as_bytes(), 1).unwrap();
    let both = zstd::encode_all(&gzip[..], 1).unwrap();
    for yaml in [BUDGET, "limits: {peek: 10B}\nbudgets: {daily: 5.00}"] {
        for (encoding, coded) in [("gzip", &gzip), ("zstd", &zstd), ("gzip, zstd", &both)] {
            let sandbox = Sandbox::new(&priced(yaml));
            sandbox.mock.next_with("input=100;output=20").unwrap();
            let headers = [("content-encoding", encoding)];
            let sent = Bytes::from(coded.clone());
            let addr = sandbox.addr();
            let answer = client::call(addr, Method::POST, PATH, &headers, sent.clone()).await;
            let span = sandbox.span(&answer).await;
            assert_eq!(span.get("gen_ai.request.model"), "gpt-4o", "{encoding}");
            assert!(span.get("tollgate.partial").is_null(), "{encoding}");
            assert_eq!(sandbox.mock.requests()[0].body, sent);
        }
    }
}

#[tokio::test]
async fn an_event_without_end_passes_in_bounded_memory() {
    for yaml in ["", BUDGET] {
        let sandbox = Sandbox::new(&priced(yaml));
        sandbox.mock.next_with("unending=3000000").unwrap();
        let answer = sandbox.post(PATH, &chat_stream()).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body.len() > 3_000_000);
        assert_eq!(answer.error, None);
        let span = sandbox.span(&answer).await;
        assert_eq!(span.get("tollgate.end"), "complete");
        sandbox.settled().await;
    }
}

#[tokio::test]
async fn a_bomb_passes_as_it_is_and_is_not_unpacked() {
    let sandbox = Sandbox::new(&priced(BUDGET));
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![b' '; 1 << 20];
    for _ in 0..80 {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = Bytes::from(encoder.finish().unwrap());
    for content_type in ["application/json", "text/event-stream"] {
        let mut exact = Exact::new(200, content_type, bomb.clone());
        let gzip = ("content-encoding".to_owned(), Bytes::from("gzip"));
        exact.headers.push(gzip);
        sandbox.mock.next_exact(exact);
        let answer = sandbox.post(PATH, &chat()).await;
        assert_eq!(answer.body, bomb);
        let span = sandbox.span(&answer).await;
        let partial = span.get("tollgate.partial").as_str().unwrap();
        assert!(partial.contains("bomb"), "{partial}");
    }
    // And on the way in.
    let headers = [("content-encoding", "gzip")];
    let answer = client::call(sandbox.addr(), Method::POST, PATH, &headers, bomb.clone()).await;
    assert!(answer.status.is_client_error(), "{answer:?}");
}

#[tokio::test]
async fn a_request_that_stops_half_way_is_never_sent() {
    let sandbox = Sandbox::new(&priced(BUDGET));
    let mut line = Line::connect(sandbox.addr()).await;
    line.send(format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{{\"model\":"
    ))
    .await;
    drop(line);
    let span = sandbox.only_span().await;
    assert_eq!(
        span.outcome(),
        "cancelled client admitted absent 0.000000000"
    );
    assert_eq!(sandbox.spent("daily").await, 0);
    assert_eq!(sandbox.mock.count(), 0);
    assert_eq!(sandbox.app.holdings().peeked_bytes, 0);
}

#[tokio::test]
async fn a_large_request_that_is_refused_was_never_whole_for_the_provider() {
    let sandbox = Sandbox::new(&priced("limits: {peek: 1kB}\nbudgets: {daily: 0.0001}"));
    let mut body = chat();
    body["messages"][0]["content"] = "x".repeat(300_000).into();
    let answer = sandbox.post(PATH, &body).await;
    assert_eq!(answer.status, 429, "{answer:?}");
    assert_eq!(answer.header("x-tollgate-blocked-by"), "budget.daily");
    sandbox.settled().await;
    let requests = sandbox
        .mock
        .until(|all| all.iter().all(|request| request.end != End::Open))
        .await;
    assert!(requests.iter().all(|request| !request.whole));
    assert_eq!(sandbox.budget("daily").spent, 0);
}

#[tokio::test]
async fn a_large_request_is_read_on_its_way_and_billed() {
    for chunked in [false, true] {
        let sandbox = Sandbox::new(&priced("limits: {peek: 1kB}\nbudgets: {daily: 50.00}"));
        sandbox.mock.next_with("input=100;output=20").unwrap();
        let mut body = chat();
        body["messages"][0]["content"] = "x".repeat(300_000).into();
        let body = body.to_string();
        let mut line = Line::connect(sandbox.addr()).await;
        let head = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\n");
        if chunked {
            line.send(format!("{head}transfer-encoding: chunked\r\n\r\n"))
                .await;
            for part in body.as_bytes().chunks(7_000) {
                line.send(format!("{:x}\r\n", part.len())).await;
                line.send(part).await;
                line.send("\r\n").await;
            }
            line.send("0\r\n\r\n").await;
        } else {
            line.send(format!(
                "{head}content-length: {}\r\n\r\n{body}",
                body.len()
            ))
            .await;
        }
        let head = line.head().await;
        assert_eq!(head.status(), 200);
        line.body(&head).await;
        let received = &sandbox.mock.requests()[0];
        assert_eq!(received.body, body);
        let span = sandbox.only_span().await;
        assert_eq!(span.get("gen_ai.request.model"), "gpt-4o");
        assert_eq!(span.outcome(), "ok complete admitted reported 0.000450000");
        assert_eq!(sandbox.spent("daily").await, 450_000);
    }
}

#[tokio::test]
async fn no_room_to_hold_bodies_makes_them_stream() {
    let yaml = priced("limits: {peek: 4kB, peek_total: 4kB}\nbudgets: {daily: 5.00}");
    let sandbox = Sandbox::new(&yaml);
    let mut body = chat();
    body["messages"][0]["content"] = "x".repeat(3_000).into();
    let (addr, held) = (sandbox.addr(), body.clone());
    let first =
        tokio::spawn(
            async move { client::post(addr, PATH, &[("x-mock", "hang=head")], &held).await },
        );
    sandbox.mock.until(|all| all.len() == 1).await;
    let answer = sandbox.post(PATH, &body).await;
    assert_eq!(answer.status, 200);
    let span = sandbox.span(&answer).await;
    assert_eq!(span.get("tollgate.usage.source"), "reported");
    assert_eq!(sandbox.app.holdings().peek_turned_away, 1);
    first.abort();
    sandbox.settled().await;
    assert_eq!(sandbox.app.holdings().peeked_bytes, 0);
}

#[tokio::test]
async fn an_unusable_directory_matters_only_to_budgets() {
    let yaml = "store: {path: /dev/null/x}\nledger: {path: /dev/null/x/journal}\n";
    let error = Sandbox::refused(&format!("{yaml}{BUDGET}"));
    assert!(error.to_string().contains("/dev/null/x"), "{error}");
    let sandbox = Sandbox::new(yaml);
    assert_eq!(sandbox.post(PATH, &chat()).await.status, 200);
    assert!(sandbox.app.keeping().contains("none"));
}

#[tokio::test]
async fn a_limit_of_nothing_lets_nothing_pass_whatever_wider_ones_say() {
    // The tightest holds, whatever the others say and in whatever order.
    for budgets in [
        "daily: 0",
        "rules: [{name: daily, window: day, limit: {tokens: 0}}]",
        "rules: [{name: daily, window: total, limit: {requests: 0}}]",
        "daily: 0, monthly: 1000, rules: [{name: wide, window: total, limit: {usd: 99999999}}]",
        "rules: [{name: wide, window: day, limit: {usd: 99999999}}, \
         {name: daily, window: day, limit: {usd: 0}}, \
         {name: eye, window: day, limit: {usd: 5}, on_exhausted: shadow}]",
    ] {
        let sandbox = Sandbox::new(&priced(&format!("budgets: {{{budgets}}}")));
        let answer = sandbox.post(PATH, &chat()).await;
        let by = answer.header("x-tollgate-blocked-by");
        assert_eq!(by, "budget.daily", "{budgets}: {answer:?}");
        assert_eq!(answer.header("x-should-retry"), "false", "{budgets}");
        assert_eq!(sandbox.mock.count(), 0, "{budgets}");
    }
}

#[tokio::test]
async fn a_wrong_price_file_does_not_start() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{\"not\": \"prices\"").unwrap();
    let path = file.path().display();
    let error = Sandbox::refused(&format!("pricing: {{file: '{path}'}}"));
    let text = error.to_string();
    assert!(text.contains("pricing.file") && text.contains(&path.to_string()));
}
