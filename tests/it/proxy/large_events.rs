//! Streams with events that are too large to read whole: what they bring is watched all the same.

use serde_json::{Value, json};
use tollgate::mock::Exact;

use super::{chat_stream, priced};
use crate::support::{Answer, Sandbox, sandbox::Span};

/// A megabyte of prose.
fn prose() -> String {
    "word ".repeat(200_000)
}

/// A megabyte of a picture.
fn picture() -> String {
    "iVBORw0K".repeat(125_000)
}

/// Sends a request that is answered with these events.
async fn answered(sandbox: &Sandbox, path: &str, body: &Value, events: &[Value]) -> (Answer, Span) {
    let framed: Vec<_> = events
        .iter()
        .map(|event| format!("data: {event}\n\n"))
        .collect();
    let exact = Exact::new(200, "text/event-stream", framed.concat());
    sandbox.mock.next_exact(exact);
    let answer = sandbox.post(path, body).await;
    let span = sandbox.span(&answer).await;
    (answer, span)
}

const GEMINI: &str = "/v1beta/models/gemini-2.0-flash:streamGenerateContent?alt=sse";

fn contents() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]})
}

fn responses() -> Value {
    json!({"model": "gpt-4o", "stream": true, "input": "hello"})
}

fn chunk(delta: &Value) -> Value {
    json!({"choices": [{"index": 0, "delta": delta}]})
}

fn parts(parts: &Value) -> Value {
    json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": parts}}]})
}

#[tokio::test]
async fn a_stream_is_cut_after_the_large_event_that_crosses_its_limit() {
    let call = json!({"index": 0, "function": {"name": "write", "arguments": prose()}});
    let piece = |delta: &str| json!({"type": "response.output_text.delta", "delta": delta});
    for (path, body, event) in [
        (
            "/v1/chat/completions",
            chat_stream(),
            chunk(&json!({"content": prose()})),
        ),
        (
            "/v1/chat/completions",
            chat_stream(),
            chunk(&json!({"tool_calls": [call]})),
        ),
        ("/v1/responses", responses(), piece(&prose())),
        (GEMINI, contents(), parts(&json!([{"text": prose()}]))),
        (
            GEMINI,
            contents(),
            parts(&json!([{"functionCall": {"name": "f", "args": {"a": [prose()]}}}])),
        ),
    ] {
        let yaml = "providers: {gemini: {abandoned: until_then}}\nbudgets: {daily: 25}";
        let sandbox = Sandbox::new(&priced(yaml));
        let events = vec![event; 8];
        let (answer, span) = answered(&sandbox, path, &body, &events).await;
        assert_eq!(span.get("tollgate.end"), "cut", "{path}");
        assert_eq!(span.get("tollgate.decision"), "cut", "{path}");
        assert_eq!(answer.error, None, "{path}: a legal end");
        let passed = answer.text().len() / 1_000_000;
        assert_eq!(passed, 3, "{path}: unknown text may be a token a byte");
        assert!(sandbox.spent("daily").await > 20_000_000_000, "{path}");
    }
}

#[tokio::test]
async fn what_is_no_text_or_says_it_again_cuts_no_stream() {
    let text = prose();
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    });
    let usage = json!({"input_tokens": 10, "output_tokens": 200_000});
    let mut said: Vec<_> = (0..10)
        .map(|_| json!({"type": "response.output_text.delta", "delta": "word ".repeat(20_000)}))
        .collect();
    said.extend([
        json!({"type": "response.output_text.done", "text": text}),
        json!({"type": "response.content_part.done", "part": message["content"][0]}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": message}),
        json!({"type": "response.image_generation_call.partial_image",
            "partial_image_b64": picture()}),
        json!({"type": "response.completed", "response": {
            "id": "resp_1", "status": "completed", "output": [message], "usage": usage}}),
    ]);
    let url = format!("data:image/png;base64,{}", picture());
    let images = json!({"content": "", "images": [{"image_url": {"url": url}}]});
    let mut seen = vec![chunk(&images); 8];
    seen.push(json!({
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 200_000},
    }));
    let drawn =
        json!([{"text": "so"}, {"inlineData": {"mimeType": "image/png", "data": picture()}}]);
    let mut shown = vec![parts(&drawn); 8];
    shown.push(json!({
        "candidates": [{"index": 0, "content": {"parts": []}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 200_000},
    }));
    for (path, body, events) in [
        ("/v1/responses", responses(), said),
        ("/v1/chat/completions", chat_stream(), seen),
        (GEMINI, contents(), shown),
    ] {
        let yaml = "providers: {gemini: {abandoned: until_then}}\nbudgets: {daily: 25}";
        let sandbox = Sandbox::new(&priced(yaml));
        let (_, span) = answered(&sandbox, path, &body, &events).await;
        let outcome = span.outcome();
        assert_eq!(
            outcome, "ok complete admitted reported 2.000025000",
            "{path}"
        );
    }
}
