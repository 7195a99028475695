//! Streams that are still open when Tollgate leaves: they are ended in their dialect's own way
//! where that can be done, and settled in any case.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate::{app::App, mock::Mock};

use super::{chat_stream, priced};
use crate::support::{
    Line, Sandbox,
    sandbox::{PATIENCE, Span, read_spans},
};

const LEAVING: &str = "shutdown: {deadline: 50ms}\nbudgets: {daily: 5.00";

/// A stream of each dialect, with its path.
fn streams() -> Vec<(&'static str, Value)> {
    let messages = json!([{"role": "user", "content": "hello"}]);
    vec![
        ("/v1/chat/completions", chat_stream()),
        (
            "/v1/responses",
            json!({"model": "gpt-4o", "stream": true, "input": "hello"}),
        ),
        (
            "/v1/messages",
            json!({"model": "claude-x", "max_tokens": 50, "stream": true, "messages": messages}),
        ),
        (
            "/v1beta/models/gemini-2.0-flash:streamGenerateContent?alt=sse",
            json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}),
        ),
    ]
}

/// Where the fifth event of this stream ends.
async fn fifth(sandbox: &Sandbox, path: &str, body: &Value) -> usize {
    let settings = [("x-mock", "events=8;event-size=40")];
    let answer = sandbox.post_with(path, &settings, body).await;
    let text = answer.text().replace("\r\n", "\n");
    let narrow = text.match_indices("\n\n").nth(4).unwrap().0 + 2;
    // With the line ends that it had.
    let lines = text[..narrow].matches('\n').count();
    let wide = answer.text().contains("\r\n");
    narrow + if wide { lines } else { 0 }
}

/// Begins a stream that goes silent after so many bytes, and reads these.
async fn begin(sandbox: &Sandbox, path: &str, body: &Value, settings: &str, at: usize) -> Line {
    let body = body.to_string();
    let length = body.len();
    let mut line = Line::connect(sandbox.addr()).await;
    line.send(format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nx-mock: events=8;event-size=40;hang={at};{settings}\r\n\
         content-length: {length}\r\n\r\n{body}"
    ))
    .await;
    assert_eq!(line.head().await.status(), 200);
    line
}

/// What came of a stream that was open when Tollgate left.
struct Left {
    /// All that the client got after the head, without framing; none if it did not come to an end.
    text: Option<String>,
    span: Span,
    mock: Mock,
}

/// Leaves, and reads on meanwhile.
async fn leave(sandbox: Sandbox, mut line: Line, calls: usize) -> Left {
    let Sandbox {
        app,
        mock,
        directory,
    } = sandbox;
    let (raw, ()) = tokio::join!(line.rest(), stop(app));
    let spans = read_spans(&directory.path().join("spans"));
    assert_eq!(spans.len(), calls, "{spans:#?}");
    let span = spans.into_iter().last().unwrap();
    Left {
        text: unchunked(&raw),
        span: Span(span),
        mock,
    }
}

async fn stop(app: App) {
    let stopped = tokio::time::timeout(PATIENCE, app.stop()).await;
    stopped.expect("it does not stop");
}

/// The content of chunks, if there is a last one.
fn unchunked(mut raw: &[u8]) -> Option<String> {
    let mut text = Vec::new();
    loop {
        let end = raw.windows(2).position(|pair| pair == b"\r\n")?;
        let size = std::str::from_utf8(&raw[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return Some(String::from_utf8(text).unwrap());
        }
        text.extend_from_slice(raw.get(end + 2..end + 2 + size)?);
        raw = raw.get(end + 4 + size..)?;
    }
}

#[tokio::test]
async fn a_silent_stream_ends_as_if_it_were_out_of_tokens() {
    for (path, body) in streams() {
        let sandbox = Sandbox::new(&priced(&format!("{LEAVING}}}")));
        let at = fifth(&sandbox, path, &body).await;
        let line = begin(&sandbox, path, &body, "", at).await;
        let left = leave(sandbox, line, 2).await;
        let text = left.text.unwrap_or_else(|| panic!("{path}: cut off"));
        let last = match path {
            _ if path.contains("chat") => "\"finish_reason\":\"length\"",
            _ if path.contains("responses") => "response.incomplete",
            _ if path.contains("messages") => "event: message_stop",
            _ => "MAX_TOKENS",
        };
        assert!(text[at..].contains(last), "{path} {text}");
        assert!(text.ends_with("\n\n") || text.ends_with("\r\n\r\n"));
        let span = left.span;
        assert_eq!(span.field("status"), "error", "{path}");
        assert_eq!(span.get("tollgate.end"), "cut", "{path}");
        assert_eq!(span.get("error.type"), "tollgate_left", "{path}");
        assert_eq!(span.get("tollgate.usage.source"), "estimated", "{path}");
        assert!(span.nanos("tollgate.cost.usd") > 0, "{path}");
        let told = left
            .mock
            .until(|all| all[1].end != tollgate::mock::End::Open)
            .await;
        assert_eq!(told[1].end, tollgate::mock::End::Left, "{path}");
    }
}

#[tokio::test]
async fn a_stream_that_nobody_edits_ends_so_too_after_a_whole_event() {
    let (path, mut body) = streams().remove(0);
    // Nothing is asked for, and nothing set aside in steps.
    body["max_tokens"] = 50.into();
    body["stream_options"] = json!({"include_usage": true});
    let yaml = priced("shutdown: {deadline: 50ms}");
    let sandbox = Sandbox::new(&yaml);
    let at = fifth(&sandbox, path, &body).await;
    let line = begin(&sandbox, path, &body, "", at).await;
    let left = leave(sandbox, line, 2).await;
    let text = left.text.expect("a legal end");
    assert!(
        text[at..].contains("\"finish_reason\":\"length\""),
        "{text}"
    );
    assert!(text.contains("\"completion_tokens\""), "{text}");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");

    // In the middle of an event there is no way to end it.
    let sandbox = Sandbox::new(&yaml);
    let at = fifth(&sandbox, path, &body).await;
    let line = begin(&sandbox, path, &body, "", at + 9).await;
    let left = leave(sandbox, line, 2).await;
    assert_eq!(left.text, None, "it must be seen that it broke off");
    assert_eq!(left.span.get("tollgate.end"), "cut");
    assert_eq!(left.span.get("error.type"), "tollgate_left");
}

#[tokio::test]
async fn what_was_held_back_of_an_event_gives_way_to_the_end() {
    let (path, body) = streams().remove(0);
    let sandbox = Sandbox::new(&priced(&format!("{LEAVING}}}")));
    let at = fifth(&sandbox, path, &body).await;
    let line = begin(&sandbox, path, &body, "", at + 9).await;
    let left = leave(sandbox, line, 2).await;
    let text = left.text.expect("a legal end");
    assert!(text[at..].starts_with("data: {"), "{text}");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[tokio::test]
async fn it_ends_with_an_error_where_that_is_the_way_to_cut() {
    for (path, body) in streams().into_iter().take(3) {
        let sandbox = Sandbox::new(&priced(&format!("{LEAVING}, cut: error}}")));
        let at = fifth(&sandbox, path, &body).await;
        let line = begin(&sandbox, path, &body, "", at).await;
        let left = leave(sandbox, line, 2).await;
        let text = left.text.expect("a legal end");
        let end = &text[at..];
        assert!(end.contains("error") && end.contains("leaving"), "{end}");
    }
}

#[tokio::test]
async fn what_is_compressed_or_no_stream_breaks_off() {
    let (path, body) = streams().remove(0);
    for (settings, body) in [("encoding=gzip", body), ("", super::chat())] {
        let sandbox = Sandbox::new(&priced(&format!("{LEAVING}}}")));
        let line = begin(&sandbox, path, &body, settings, 20).await;
        let left = leave(sandbox, line, 1).await;
        assert_eq!(left.text, None, "{settings}");
        assert_eq!(left.span.get("tollgate.end"), "cut");
        assert_eq!(left.span.get("error.type"), "tollgate_left");
        assert!(left.span.nanos("tollgate.cost.usd") > 0);
    }
}

#[tokio::test]
async fn a_busy_stream_ends_so_too() {
    let (path, body) = streams().remove(0);
    let sandbox = Sandbox::new(&priced(&format!("{LEAVING}}}")));
    let settings = "events=100000;gap=1ms";
    let mut line = begin(&sandbox, path, &body, settings, usize::MAX).await;
    line.take(1_000).await;
    let (raw, directory) = tokio::join!(line.rest(), sandbox.stop());
    let text = String::from_utf8(raw).unwrap();
    assert!(text.ends_with("\r\n0\r\n\r\n"), "{text}");
    assert!(text.contains("data: [DONE]\n\n"), "{text}");
    let spans = read_spans(&directory.path().join("spans"));
    assert_eq!(spans[0]["attributes"]["error.type"], "tollgate_left");
}

#[tokio::test]
async fn an_idle_http_2_stream_is_woken_as_well() {
    let (path, body) = streams().remove(0);
    let sandbox = Sandbox::new(&priced(&format!("{LEAVING}}}")));
    let at = fifth(&sandbox, path, &body).await;
    let settings = format!("events=8;event-size=40;hang={at}");
    let addr = sandbox.addr();
    let calling = async {
        let headers = [("x-mock", settings.as_str())];
        crate::support::client::call_h2(addr, http::Method::POST, path, &headers, body.to_string())
            .await
    };
    let Sandbox { app, mock, .. } = sandbox;
    let leaving = async {
        mock.until(|all| all.len() == 2 && all[1].whole).await;
        stop(app).await;
    };
    let (answer, ()) = tokio::join!(calling, leaving);
    assert_eq!(answer.error, None);
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{answer:?}");
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_keep_it_from_leaving() {
    let (path, body) = streams().remove(0);
    let sandbox = Sandbox::new(&priced(&format!("{LEAVING}}}")));
    let settings = "events=100000;event-size=1000";
    let _line = begin(&sandbox, path, &body, settings, usize::MAX).await;
    let began = Instant::now();
    let directory = sandbox.stop().await;
    assert!(began.elapsed() < Duration::from_secs(10));
    let spans = read_spans(&directory.path().join("spans"));
    assert_eq!(spans[0]["attributes"]["tollgate.end"], "cut");
}
