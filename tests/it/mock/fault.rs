//! Faults, recordings, exact answers: each is on the wire what it says.

use std::io::Read;

use http::Method;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tollgate::mock::{End, Exact, Exchange, Framing, Mock, Options, every};

use super::client::{call, events, get, post, raw, read};

const CHAT: &str = "/v1/chat/completions";

fn hello() -> Value {
    json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]})
}

fn stream() -> Value {
    let mut body = hello();
    body["stream"] = true.into();
    body
}

/// A request as bytes; the connection is to be closed after it.
fn bytes(settings: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST {CHAT} HTTP/1.1\r\nHost: mock\r\nX-Mock: {settings}\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn mock() -> Mock {
    Mock::start(Options::default()).unwrap()
}

#[tokio::test]
async fn a_status_comes_with_the_dialects_error_and_headers_and_only_so_many_times() {
    let mock = mock();
    for expected in [429, 429, 200] {
        let answer = post(&mock, CHAT, "status=429;retry-after=7;times=2", &hello()).await;
        assert_eq!(answer.status, expected);
        if expected == 429 {
            assert_eq!(answer.headers["retry-after"], "7");
            assert_eq!(answer.headers["x-ratelimit-remaining-requests"], "0");
            assert_eq!(answer.json()["error"]["code"], "rate_limit_exceeded");
        }
    }
}

#[tokio::test]
async fn settings_come_by_model_name_by_queue_and_by_single_headers() {
    let mock = mock();
    let mut body = hello();
    body["model"] = "gpt-4o;status=529".into();
    assert_eq!(post(&mock, CHAT, "", &body).await.status, 529);
    mock.next_with("status=503").unwrap();
    assert_eq!(post(&mock, CHAT, "", &hello()).await.status, 503);
    let headers = [("x-mock-text", "a; b"), ("x-mock-header", "x-a: 1")];
    let answer = call(&mock, Method::POST, CHAT, &headers, hello().to_string()).await;
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "a; b");
    assert_eq!(answer.headers["x-a"], "1");
    let answer = post(&mock, CHAT, "stauts=1", &hello()).await;
    assert_eq!(answer.status, 400, "an unknown setting is not passed over");
}

#[tokio::test]
async fn a_body_can_be_cut_reset_or_left_hanging_at_any_byte() {
    let mock = mock();
    for at in [0, 1, 30, 200] {
        let (answer, reset) = raw(mock.addr(), &bytes(&format!("truncate={at}"), &hello())).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-length: "), "{head}");
        assert_eq!((body.len(), reset), (at, false));
        let (answer, reset) = raw(mock.addr(), &bytes(&format!("reset={at}"), &hello())).await;
        assert_eq!(
            (answer.split_once("\r\n\r\n").unwrap().1.len(), reset),
            (at, true)
        );
    }
    let (answer, reset) = raw(mock.addr(), &bytes("reset=head", &hello())).await;
    assert_eq!((answer.as_str(), reset), ("", true));
    let all = mock
        .until(|all| all.iter().all(|request| request.end == End::Broken))
        .await;
    assert_eq!(all.len(), 9);

    let request = bytes("hang=10", &stream());
    let mut hanging = TcpStream::connect(mock.addr()).await.unwrap();
    hanging.write_all(request.as_bytes()).await.unwrap();
    let sent = |request: &tollgate::mock::Received| (request.sent, request.end);
    mock.until(|all| all.last().map(sent) == Some((10, End::Open)))
        .await;
    drop(hanging);
    mock.until(|all| all.last().map(sent) == Some((10, End::Left)))
        .await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_is_noticed() {
    let mock = mock();
    let mut client = TcpStream::connect(mock.addr()).await.unwrap();
    client
        .write_all(bytes("hang=head", &hello()).as_bytes())
        .await
        .unwrap();
    mock.until(|all| all.len() == 1 && all[0].whole).await;
    drop(client);
    mock.until(|all| all[0].end == End::Left).await;

    let mut client = TcpStream::connect(mock.addr()).await.unwrap();
    client
        .write_all(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf")
        .await
        .unwrap();
    client.shutdown().await.unwrap();
    let all = mock
        .until(|all| all.len() == 2 && all[1].end == End::Left)
        .await;
    assert_eq!((&all[1].body[..], all[1].whole), (&b"half"[..], false));
}

#[tokio::test]
async fn each_event_is_a_write_unless_chunks_are_asked_for() {
    let mock = mock();
    let chunks = |wire: &str| {
        let body = wire.split_once("\r\n\r\n").unwrap().1;
        let sizes = body
            .split("\r\n")
            .step_by(2)
            .filter(|size| !size.is_empty());
        sizes
            .map(|size| usize::from_str_radix(size, 16).unwrap())
            .collect::<Vec<_>>()
    };
    let wire = raw(mock.addr(), &bytes("events=20", &stream())).await.0;
    assert_eq!(
        chunks(&wire).len(),
        23 + 1,
        "role, 20 of text, finish, [DONE]; the last chunk"
    );
    let wire = raw(mock.addr(), &bytes("events=20;chunk=5", &stream()))
        .await
        .0;
    assert!(chunks(&wire).iter().rev().skip(2).all(|size| *size == 5));
    let whole = post(&mock, CHAT, "events=20;chunk=1", &stream()).await;
    assert_eq!(whole.data().len(), 22);
}

#[tokio::test]
async fn line_ends_and_codings_change_nothing_else() {
    let mock = mock();
    let plain = post(&mock, CHAT, "text=a b c", &stream()).await;
    for newline in ["cr", "crlf"] {
        let answer = post(
            &mock,
            CHAT,
            &format!("text=a b c;newline={newline}"),
            &stream(),
        )
        .await;
        assert!(answer.text().contains('\r'));
        assert_eq!(answer.data().len(), plain.data().len());
    }
    let answer = post(&mock, CHAT, "text=a b c;encoding=gzip", &stream()).await;
    assert_eq!(answer.headers["content-encoding"], "gzip");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&answer.body()[..])
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(events(&text).len(), plain.data().len());
}

#[tokio::test]
async fn a_body_can_be_huge_or_a_bomb_or_never_end_an_event() {
    let mock = mock();
    let answer = post(&mock, CHAT, "pad=3000000", &hello()).await;
    assert!(answer.body().len() > 3_000_000);
    assert_eq!(answer.json()["object"], "chat.completion");
    let answer = post(&mock, CHAT, "pad=30000000;encoding=gzip", &hello()).await;
    assert!(answer.body().len() < 300_000, "{}", answer.body().len());
    let answer = post(&mock, CHAT, "unending=100000", &stream()).await;
    assert!(answer.text().ends_with("xxx") && answer.body().len() > 100_000);
}

#[tokio::test]
async fn what_hyper_would_not_write_is_written() {
    let mock = mock();
    let ask = |settings: &str| {
        let request = bytes(settings, &hello());
        let addr = mock.addr();
        async move { raw(addr, &request).await.0 }
    };
    let answer = ask("content-length=5").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-length: 5") && body.len() > 100);
    let answer = ask("content-length=50000").await;
    assert!(answer.contains("content-length: 50000"));
    let answer = ask("interim=103").await;
    assert!(answer.starts_with("HTTP/1.1 103 Early Hints\r\n"));
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 2);
    let answer = ask("trailer=x-sum:9").await;
    assert!(answer.ends_with("\r\n0\r\nx-sum: 9\r\n\r\n"), "{answer}");
    let answer = post(&mock, CHAT, "trailer=x-sum:9", &stream()).await;
    assert_eq!(answer.trailers.unwrap()["x-sum"], "9");
    let answer = post(&mock, CHAT, "close", &stream()).await;
    assert_eq!(answer.headers["connection"], "close");
}

#[tokio::test]
async fn a_stream_can_fail_in_the_middle_in_the_dialects_form() {
    let mock = mock();
    let data = post(&mock, CHAT, "stream-error=2", &stream()).await;
    assert!(!data.text().contains("[DONE]"));
    let data = data.data();
    assert_eq!(data.len(), 3);
    assert_eq!(data[2]["error"]["type"], "server_error");
}

#[tokio::test]
async fn exact_answers_are_on_the_wire_byte_for_byte_and_the_connection_goes_on() {
    let mock = mock();
    let exact = Exact {
        status: 299,
        headers: vec![("X-Odd-Case".into(), "1".into()), ("a".into(), "2".into())],
        body: "hello".into(),
        framing: Framing::Chunks(vec![2]),
    };
    mock.next_exact(exact);
    mock.replay([Exchange {
        method: Method::GET,
        target: "/b".into(),
        body: None,
        answer: Exact::new(200, "text/plain", "second").framed(every(4, b"second")),
    }]);
    let requests =
        "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\nconnection: close\r\n\r\n";
    let (answer, _) = raw(mock.addr(), requests).await;
    assert_eq!(
        answer,
        "HTTP/1.1 299 Unknown\r\nX-Odd-Case: 1\r\na: 2\r\ntransfer-encoding: chunked\r\n\r\n\
         2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n\
         HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n\
         4\r\nseco\r\n2\r\nnd\r\n0\r\n\r\n"
    );
    assert_eq!(mock.connections(), 1);
}

#[tokio::test]
async fn everything_received_is_kept_as_it_came() {
    let mock = mock();
    let sent = "POST /any/path?q=1 HTTP/1.1\r\nhOsT: a\r\nX-Two: b\r\nx-One: a\r\n\
                transfer-encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let (answer, _) = raw(mock.addr(), sent).await;
    let echo: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(echo["target"], "/any/path?q=1");
    assert_eq!(echo["body_bytes"], 5);
    assert_eq!(
        echo["body_sha256"],
        "36bbe50ed96841d10443bcb670d6554f0a34b761be67ec9c4a8ad2c0c44ca42c"
    );
    assert_eq!(echo["headers"][1], json!(["x-two", "b"]));
    let all = mock.requests();
    assert_eq!(
        &all[0].head[..],
        sent.split_inclusive("\r\n\r\n").next().unwrap().as_bytes()
    );
    assert_eq!(&all[0].body[..], b"abcde");
    let record = get(&mock, "/__mock/requests").await.json();
    assert_eq!(
        (&record["count"], &record["requests"][0]["body"]),
        (&json!(1), &json!("abcde"))
    );
    call(&mock, Method::DELETE, "/__mock/requests", &[], "").await;
    assert!(mock.requests().is_empty());
}

#[tokio::test]
async fn http_2_is_spoken_too() {
    let mock = mock();
    let stream = TcpStream::connect(mock.addr()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let mut ask = |settings: &str, body: Value| {
        let request =
            http::Request::post(format!("{}{CHAT}", mock.url())).header("x-mock", settings);
        sender.send_request(
            request
                .body(Full::<bytes::Bytes>::from(body.to_string()))
                .unwrap(),
        )
    };
    let answer = read(ask("", self::stream()).await.unwrap()).await;
    assert!(answer.text().ends_with("[DONE]\n\n"));
    let answer = read(ask("interim=103;text=x", hello()).await.unwrap()).await;
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "x");
    let answer = read(ask("reset=100", self::stream()).await.unwrap()).await;
    assert!(answer.error.is_some());
    let answer = ask("reset=head", hello()).await;
    assert!(answer.is_err());
}

#[tokio::test]
async fn a_mock_that_is_dropped_is_gone() {
    let mock = mock();
    let addr = mock.addr();
    let answer = post(&mock, CHAT, "", &hello()).await;
    assert_eq!(answer.status, 200);
    let mut open = TcpStream::connect(addr).await.unwrap();
    open.write_all(bytes("hang=head", &hello()).as_bytes())
        .await
        .unwrap();
    mock.until(|all| all.len() == 2).await;
    drop(mock);
    let mut end = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut open, &mut end)
        .await
        .ok();
    assert!(end.is_empty());
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn times_are_kept() {
    let mock = mock();
    let start = tokio::time::Instant::now();
    post(&mock, CHAT, "delay=5s", &hello()).await;
    assert_eq!(start.elapsed().as_secs(), 5);
    let start = tokio::time::Instant::now();
    let settings = "delay=1s;first=2s;gap=10s;events=3";
    let answer = post(&mock, CHAT, settings, &stream()).await;
    let gaps = 3 + 2; // Role, three of text, finish, [DONE].
    assert_eq!(answer.frames.len(), gaps + 1);
    assert_eq!(start.elapsed().as_secs(), 3 + 10 * 5);
}

#[tokio::test]
async fn a_fast_mock_streams_and_answers_without_keeping_anything() {
    let mock = Mock::start(Options {
        fast: true,
        ..Options::default()
    })
    .unwrap();
    let answer = post(&mock, CHAT, "", &stream()).await;
    assert_eq!(answer.data().len(), 63);
    assert_eq!(
        post(&mock, CHAT, "", &hello()).await.json()["model"],
        "gpt-4o-mini-2024-07-18"
    );
    assert_eq!((mock.count(), mock.requests().len()), (2, 0));
}
