//! Streams that we ask something of, and take it out again.

use serde_json::json;

use super::chat_stream;
use crate::support::{Sandbox, client};

const PATH: &str = "/v1/chat/completions";

#[tokio::test]
async fn usage_is_asked_for_on_the_client_s_behalf_and_taken_out_of_the_stream() {
    let sandbox = Sandbox::new("");
    for (chunk, newline) in [(1, "lf"), (2, "crlf"), (3, "cr"), (5, "crlf"), (1000, "lf")] {
        let settings = format!("chunk={chunk};newline={newline}");
        sandbox.mock.next_with(&settings).unwrap();
        let answer = sandbox.post(PATH, &chat_stream()).await;
        let received = sandbox.mock.requests().pop().unwrap();
        let sent: serde_json::Value = serde_json::from_slice(&received.body).unwrap();
        assert_eq!(sent["stream_options"], json!({"include_usage": true}));
        let length = received.headers["content-length"].to_str().unwrap();
        assert_eq!(length, received.body.len().to_string());
        assert!(
            !answer.text().contains("\"usage\":{"),
            "{settings} {answer:?}"
        );
        assert!(answer.text().contains("[DONE]"));
        let span = sandbox.span(&answer).await;
        assert_eq!(span.get("tollgate.usage.source"), "reported", "{settings}");
        assert!(span.get("gen_ai.usage.output_tokens").as_u64().unwrap() > 0);
        let edits = span.get("tollgate.edits").to_string();
        assert!(edits.contains("stream_options"), "{edits}");
    }
}

#[tokio::test]
async fn a_client_that_asks_for_usage_gets_it() {
    let sandbox = Sandbox::new("");
    let mut body = chat_stream();
    body["stream_options"] = json!({"include_usage": true});
    let answer = sandbox.post(PATH, &body).await;
    assert_eq!(sandbox.mock.requests()[0].body, body.to_string());
    let usage = answer.data().pop().unwrap();
    assert!(usage["usage"]["completion_tokens"].is_u64(), "{usage}");
    let span = sandbox.span(&answer).await;
    assert!(span.get("tollgate.edits").is_null());
}

#[tokio::test]
async fn an_encoded_stream_keeps_the_event_and_the_span_says_so() {
    let sandbox = Sandbox::new("");
    for encoding in ["gzip", "deflate"] {
        let settings = format!("encoding={encoding};chunk=3");
        sandbox.mock.next_with(&settings).unwrap();
        let answer = sandbox.post(PATH, &chat_stream()).await;
        assert_eq!(answer.header("content-encoding"), encoding);
        let span = sandbox.span(&answer).await;
        assert_eq!(span.get("tollgate.usage.source"), "reported");
        assert!(span.get("tollgate.partial").is_null());
        let edits = span.get("tollgate.edits").to_string();
        assert!(edits.contains("response.usage_event"), "{edits}");
    }
}

#[tokio::test]
async fn a_provider_that_refuses_to_be_asked_for_usage_is_not_asked_again() {
    let sandbox = Sandbox::new("");
    let refusal = r#"{"error":{"message":"Unknown field: stream_options","type":"invalid"}}"#;
    let exact = tollgate::mock::Exact::new(400, "application/json", refusal);
    sandbox.mock.next_exact(exact);
    let target = "/xai/v1/chat/completions";
    let first = sandbox.post(target, &chat_stream()).await;
    assert_eq!(first.status, 400);
    sandbox.settled().await;
    let second = sandbox.post(target, &chat_stream()).await;
    assert_eq!(second.status, 200);
    let requests = sandbox.mock.requests();
    assert_eq!(requests[1].body, chat_stream().to_string());
    let span = sandbox.span(&second).await;
    assert_eq!(span.get("tollgate.usage.source"), "estimated");
    assert_eq!(sandbox.app.holdings().not_asked_for_usage, 1);
    // Others are asked still.
    sandbox.post(PATH, &chat_stream()).await;
    let sent = String::from_utf8(sandbox.mock.requests()[2].body.to_vec()).unwrap();
    assert!(sent.contains("include_usage"));
}

#[tokio::test]
async fn a_complete_event_never_waits_for_the_next() {
    let sandbox = Sandbox::new("budgets: {daily: 5.00}");
    sandbox.mock.next_with("hang=600").unwrap();
    let body = chat_stream().to_string();
    let mut line = crate::support::Line::connect(sandbox.addr()).await;
    line.send(format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    line.head().await;
    let mut got = Vec::new();
    while client::find(&got, b"\n\n").is_none() {
        got.extend(line.take(1).await);
    }
}
