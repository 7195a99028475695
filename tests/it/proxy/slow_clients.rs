//! Clients that keep Tollgate waiting, or break off: others are unharmed, and it is nobody else's
//! fault.

use std::time::Duration;

use http::Method;

use super::{chat, priced};
use crate::support::{Line, Sandbox, client, sandbox::until};

const PATH: &str = "/v1/chat/completions";

/// Begins a request whose body does not come to its end: whole, in passing (it is longer than what
/// is held), and of unknown length.
fn unfinished() -> [String; 3] {
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\n");
    [
        format!("{head}content-length: 900\r\n\r\n{{\"model\":"),
        format!("{head}content-length: 9000\r\n\r\n{{\"model\":"),
        format!("{head}transfer-encoding: chunked\r\n\r\n9\r\n{{\"model\":\r\n"),
    ]
}

#[tokio::test]
async fn a_client_that_goes_silent_in_the_middle_of_its_request_is_told() {
    let yaml = "limits: {body_wait: 200ms, peek: 1kB}\nbudgets: {daily: 5.00}";
    for request in unfinished() {
        let sandbox = Sandbox::new(&priced(yaml));
        let mut line = Line::connect(sandbox.addr()).await;
        line.send(&request).await;
        let head = line.head().await;
        assert_eq!(head.status(), 408, "{request}");
        let (body, _) = line.body(&head).await;
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("limits.body_wait"), "{message}");
        let span = sandbox.only_span().await;
        assert_eq!(span.outcome(), "error complete admitted absent 0.000000000");
        assert_eq!(span.get("error.type"), "request_timeout");
        assert_eq!(sandbox.spent("daily").await, 0);
        let errors = "tollgate_errors_total{error_type=\"request_timeout\"";
        assert!((sandbox.metric(errors) - 1.0).abs() < 0.5);
        assert!(sandbox.mock.requests().iter().all(|seen| !seen.whole));
    }
}

#[tokio::test]
async fn the_answer_has_the_form_of_its_dialect() {
    let sandbox = Sandbox::new("limits: {body_wait: 100ms}");
    for (path, at, kind) in [
        ("/v1/messages", "/error/type", "timeout_error"),
        (
            "/v1beta/models/gemini-x:generateContent",
            "/error/status",
            "DEADLINE_EXCEEDED",
        ),
    ] {
        let mut line = Line::connect(sandbox.addr()).await;
        line.send(format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{{"
        ))
        .await;
        let head = line.head().await;
        assert_eq!(head.status(), 408);
        let (body, _) = line.body(&head).await;
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body.pointer(at).unwrap(), kind, "{body}");
    }
}

#[tokio::test]
async fn silent_clients_take_nobody_s_place() {
    let sandbox = Sandbox::new("limits: {in_flight: 2, peek: 1kB}");
    let mut silent = Vec::new();
    for request in unfinished().iter().cycle().take(9) {
        let mut line = Line::connect(sandbox.addr()).await;
        line.send(request).await;
        silent.push(line);
    }
    until("all of them to be read", || {
        sandbox.app.holdings().in_flight == 9
    })
    .await;
    assert!((sandbox.metric("tollgate_held{what=\"unfinished_requests\"}") - 9.0).abs() < 0.5);
    assert!(sandbox.metric("tollgate_held{what=\"calls\"}") < 0.5);
    for _ in 0..3 {
        assert_eq!(sandbox.post(PATH, &chat()).await.status, 200);
    }
    drop(silent);
    sandbox.settled().await;
}

#[tokio::test]
async fn a_call_that_is_read_when_the_house_is_full_is_refused() {
    let sandbox = Sandbox::new("limits: {in_flight: 1}");
    let body = chat().to_string();
    let mut line = Line::connect(sandbox.addr()).await;
    let (first, last) = body.split_at(10);
    line.send(format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{first}",
        body.len()
    ))
    .await;
    until("its head to be read", || {
        sandbox.app.holdings().in_flight == 1
    })
    .await;
    let addr = sandbox.addr();
    let other =
        tokio::spawn(
            async move { client::post(addr, PATH, &[("x-mock", "hang=head")], &chat()).await },
        );
    until("another to be sent", || sandbox.mock.count() == 1).await;
    line.send(last).await;
    let head = line.head().await;
    assert_eq!(head.status(), 503);
    assert_eq!(head.header("x-tollgate-blocked-by"), Some("overload"));
    other.abort();
    sandbox.settled().await;
}

#[tokio::test]
async fn a_client_that_breaks_off_is_at_fault_itself() {
    for request in unfinished() {
        let sandbox = Sandbox::new(&priced("limits: {peek: 1kB}\nbudgets: {daily: 5.00}"));
        let mut line = Line::connect(sandbox.addr()).await;
        line.send(&request).await;
        until("it to be read", || sandbox.app.holdings().in_flight == 1).await;
        drop(line);
        let span = sandbox.only_span().await;
        assert_eq!(
            span.outcome(),
            "cancelled client admitted absent 0.000000000",
            "{request}"
        );
        assert_eq!(span.get("error.type"), "client", "{request}");
        assert_eq!(sandbox.spent("daily").await, 0);
        assert!(sandbox.metric("tollgate_errors_total") < 0.5);
        assert!(sandbox.mock.requests().iter().all(|seen| !seen.whole));
    }
}

#[tokio::test]
async fn what_passes_unread_and_breaks_off_is_its_client_s_fault_too() {
    let sandbox = Sandbox::new("");
    let mut line = Line::connect(sandbox.addr()).await;
    line.send("POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: 900\r\n\r\nabc")
        .await;
    until("it to be sent", || sandbox.mock.count() == 1).await;
    drop(line);
    let span = sandbox.only_span().await;
    assert_eq!(span.field("status"), "cancelled");
    assert_eq!(span.get("tollgate.end"), "client");
    assert!(sandbox.metric("tollgate_errors_total") < 0.5);
}

#[tokio::test]
async fn a_slow_but_steady_request_passes() {
    // In all it takes longer than may be waited for it; each part gives some of that back.
    let sandbox = Sandbox::new("limits: {body_wait: 300ms}");
    let mut body = chat();
    body["messages"][0]["content"] = "x".repeat(3_000).into();
    let body = body.to_string();
    let mut line = Line::connect(sandbox.addr()).await;
    line.send(format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    ))
    .await;
    for part in body.as_bytes().chunks(300) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        line.send(part).await;
    }
    assert_eq!(line.head().await.status(), 200);
    assert_eq!(sandbox.mock.requests()[0].body, body);
}

#[tokio::test]
async fn heads_that_come_one_byte_at_a_time_harm_nobody() {
    let sandbox = Sandbox::new("limits: {connections: 40, in_flight: 2}");
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(Line::connect(sandbox.addr()).await);
    }
    for byte in b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-a: b" {
        for line in &mut slow {
            line.send([*byte]).await;
        }
    }
    for _ in 0..3 {
        assert_eq!(sandbox.post(PATH, &chat()).await.status, 200);
    }
    assert_eq!(sandbox.app.holdings().in_flight, 0);
    // Whoever goes on to the end is served all the same.
    let mut line = slow.pop().unwrap();
    let body = chat().to_string();
    line.send(format!("\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
        .await;
    assert_eq!(line.head().await.status(), 200);
}

#[tokio::test]
async fn bodies_that_come_one_byte_at_a_time_run_out_of_patience() {
    let sandbox = Sandbox::new("limits: {body_wait: 200ms, in_flight: 2}");
    let mut line = Line::connect(sandbox.addr()).await;
    line.send(format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n"
    ))
    .await;
    let Line { socket, .. } = &mut line;
    let mut written = 0_u32;
    // Each byte comes well in time, and gives back two milliseconds.
    let status = loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut answer = [0; 12];
        match socket.try_read(&mut answer) {
            Ok(12) => break String::from_utf8(answer.to_vec()).unwrap(),
            Ok(_) => panic!("no answer"),
            Err(_) => assert!(socket.try_write(b" ").is_ok()),
        }
        written += 1;
        assert!(written < 500, "it is waited for without end");
    };
    assert_eq!(status, "HTTP/1.1 408");
    assert!(written > 5);
}

#[tokio::test]
async fn providers_that_answer_one_byte_at_a_time_harm_nobody() {
    let sandbox = Sandbox::new("limits: {in_flight: 12}");
    let mut slow = Vec::new();
    let body = super::chat_stream().to_string();
    for _ in 0..10 {
        let mut line = Line::connect(sandbox.addr()).await;
        line.send(format!(
            "POST {PATH} HTTP/1.1\r\nhost: x\r\nx-mock: chunk=1;gap=1m;events=3\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
        assert_eq!(line.head().await.status(), 200);
        slow.push(line);
    }
    for _ in 0..3 {
        assert_eq!(sandbox.post(PATH, &chat()).await.status, 200);
        assert_eq!(
            client::call(sandbox.addr(), Method::GET, "/v1/models", &[], "")
                .await
                .status,
            200
        );
    }
    assert_eq!(sandbox.app.holdings().in_flight, 10);
    let spans = sandbox.spans(6).await;
    for span in spans {
        assert_eq!(span["status"], "ok");
    }
    drop(slow);
    sandbox.settled().await;
}
