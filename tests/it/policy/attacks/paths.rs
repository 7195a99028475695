//! Other paths, other connections: pass-through routes were no part of the budget (litellm#10750, #12789,
//! #13882, bifrost#2873), or only some endpoints were (litellm#38176, #36646).

use http::Method;
use serde_json::{Value, json};
use tollgate::mock::Exact;

use super::*;
use crate::support::{Line, Upstream, sandbox::PATIENCE};

/// A dialect's answer that has taken [`TAKEN`].
fn answer_of(dialect: &str) -> Value {
    match dialect {
        "anthropic" => json!({"id": "msg_1", "type": "message", "role": "assistant",
            "model": "claude-x", "content": [{"type": "text", "text": "hi"}],
            "stop_reason": "end_turn", "usage": {"input_tokens": 1000, "output_tokens": 200}}),
        "gemini" => json!({"candidates": [{"content": {"role": "model", "parts": [{"text": "hi"}]},
            "finishReason": "STOP", "index": 0}], "modelVersion": "gemini-x",
            "usageMetadata": {"promptTokenCount": 1000, "candidatesTokenCount": 200,
                "totalTokenCount": 1200}}),
        "bedrock" => {
            json!({"output": {"message": {"role": "assistant", "content": [{"text": "hi"}]}},
            "stopReason": "end_turn", "metrics": {"latencyMs": 1},
            "usage": {"inputTokens": 1000, "outputTokens": 200, "totalTokens": 1200}})
        },
        "cohere" => json!({"id": "1", "finish_reason": "COMPLETE",
            "message": {"role": "assistant", "content": [{"type": "text", "text": "hi"}]},
            "usage": {"billed_units": {"input_tokens": 1000, "output_tokens": 200},
                "tokens": {"input_tokens": 1000, "output_tokens": 200}}}),
        "openai" => json!({"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o",
            "choices": [{"index": 0, "finish_reason": "stop",
                "message": {"role": "assistant", "content": "hi"}}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200}}),
        other => panic!("{other}"),
    }
}

fn request_of(dialect: &str) -> Value {
    match dialect {
        "anthropic" => json!({"model": "claude-x", "max_tokens": 400,
            "messages": [{"role": "user", "content": "hello"}]}),
        "gemini" => json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}],
            "generationConfig": {"maxOutputTokens": 400}}),
        "bedrock" => json!({"messages": [{"role": "user", "content": [{"text": "hello"}]}],
            "inferenceConfig": {"maxTokens": 400}}),
        "cohere" => json!({"model": "command-a", "max_tokens": 400,
            "messages": [{"role": "user", "content": "hello"}]}),
        _ => chat_with(json!({"max_tokens": 400})),
    }
}

/// A server resolves escapes, dots, doubled slashes and parameters as it likes, and some do not tell
/// capitals; so that all of these may be one endpoint to it.
#[tokio::test]
async fn a_path_that_is_written_in_another_way_is_counted_as_the_same_endpoint() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 5.00}"));
    let paths = [
        ("openai", "/v1/chat/completions/"),
        ("openai", "/v1//chat/completions"),
        ("openai", "/v1/chat//completions"),
        ("openai", "/v1/chat/./completions"),
        ("openai", "/v1/chat/completions/."),
        ("openai", "/v1/chat/completions/x/.."),
        ("openai", "/v1/x/../chat/completions"),
        ("openai", "/v1/files/../chat/completions"),
        ("openai", "/v1/%63hat/completions"),
        ("openai", "/v1/chat/%63ompletions"),
        ("openai", "/v1/chat%2Fcompletions"),
        ("openai", "/v1/chat/completions%2f"),
        ("openai", "/v1/chat/completions/%2e"),
        ("openai", "/v1/chat/completions;v=1"),
        ("openai", "/v1/chat/completions?x=/v1/files"),
        ("openai", "/v1/Chat/Completions"),
        ("openai", "/openai/V1/CHAT/COMPLETIONS"),
        ("openai", "/groq/openai/v1/chat/%63ompletions"),
        ("openai", "/~agent=a;user=u/v1/chat/%63ompletions"),
        ("anthropic", "/anthropic/v1//messages"),
        ("anthropic", "/anthropic/v1/%6dessages"),
        ("anthropic", "/anthropic/v1/messages/."),
        ("gemini", "/v1beta/models/gemini-x:generateConten%74"),
        ("gemini", "/v1beta//models/gemini-x:generateContent"),
        ("gemini", "/v1beta/models/gemini-x:generateContent/"),
        ("bedrock", "/model/anthropic.claude-x/%63onverse"),
        ("cohere", "/cohere/v2//chat"),
        ("cohere", "/cohere/v2/%63hat"),
    ];
    let mut uncounted = Vec::new();
    for (dialect, path) in paths {
        let before = sandbox.spent("daily").await;
        let body = answer_of(dialect).to_string();
        sandbox
            .mock
            .next_exact(Exact::new(200, "application/json", body));
        let answer = sandbox.post(path, &request_of(dialect)).await;
        assert_eq!(answer.status, 200, "{path} {answer:?}");
        let taken = sandbox.spent("daily").await - before;
        if taken != COST {
            uncounted.push((path, taken));
        }
    }
    assert_eq!(uncounted, []);
}

/// Behind one gateway, a free provider and one that costs are two paths.
#[tokio::test]
async fn a_path_that_leads_out_of_a_free_provider_goes_nowhere() {
    let sandbox = Sandbox::new(&priced(
        "providers: {own: {base_url: '{mock}/own', dialect: openai, price: free}}\n\
         budgets: {daily: 5.00}",
    ));
    for path in [
        "/own/../openai/v1/chat/completions",
        "/own/%2e%2e/openai/v1/chat/completions",
        "/own/x/../../openai/v1/chat/completions",
        "/own/..%2Fopenai/v1/chat/completions",
        // To a server that takes `%2F` or a backslash for a part of a name.
        "/own/a%2Fb/../../openai/v1/chat/completions",
        "/own/a%5Cb/%2e%2e/../openai/v1/chat/completions",
        // To others, the end of it is what costs nothing: `threads/completions`.
        "/openai/v1/chat/threads%2Fx/../completions",
        "/~agent=a/own/../openai/v1/chat/completions",
    ] {
        let answer = sandbox.post(path, &chat()).await;
        assert_eq!(answer.status, 400, "{path} {answer:?}");
    }
    assert_eq!(sandbox.mock.count(), 0);
    let answer = sandbox.post("/own/v1/x/../chat/completions", &chat()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// An upstream that speaks HTTP/2 without TLS would take over the connection, and every call in it be
/// hidden from the proxy: `h2c` smuggling.
#[tokio::test]
async fn a_connection_is_not_turned_into_another_protocol() {
    let upstream = Upstream::bind().await;
    let provider = upstream.as_provider("openai");
    let sandbox = Sandbox::new(&priced(&format!("{provider}\nbudgets: {{daily: 5.00}}")));
    for to in ["h2c", "websocket, H2C", "TLS/1.0", "HTTP/2.0"] {
        let mut line = Line::connect(sandbox.addr()).await;
        line.send(format!(
            "GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\n\
             upgrade: {to}\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n"
        ))
        .await;
        let mut provider = upstream.accept().await;
        let head = provider.head().await;
        for name in ["upgrade", "http2-settings"] {
            assert_eq!(head.header(name), None, "{to}: {head:?}");
        }
        provider
            .send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi")
            .await;
        assert_eq!(line.head().await.status(), 200);
    }
}

/// Requests to a forward proxy name a host. None that is written strangely passes uncounted.
#[tokio::test]
async fn a_host_that_is_written_in_another_way_is_the_same_provider_or_none() {
    let sandbox = broke("").await;
    let body = chat().to_string();
    for host in [
        "api.openai.com",
        "API.OpenAI.com",
        "api.openai.com:443",
        "api.openai.com.",
        "user:word@api.openai.com",
        "evil.com@api.openai.com",
        "api.openai.com:99999",
        "api%2Eopenai.com",
        "169.254.169.254",
        "[::1]",
        "localhost",
    ] {
        let mut line = Line::connect(sandbox.addr()).await;
        let length = body.len();
        line.send(format!(
            "POST http://{host}{CHAT} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\
             content-type: application/json\r\n\r\n{body}"
        ))
        .await;
        let status = line.head().await.status();
        assert!((400..500).contains(&status), "{host}: {status}");
    }
    let mut line = Line::connect(sandbox.addr()).await;
    line.send("CONNECT api.openai.com:443 HTTP/1.1\r\nhost: api.openai.com:443\r\n\r\n")
        .await;
    let status = line.head().await.status();
    assert!((400..502).contains(&status), "{status}");
    assert_eq!(
        sandbox.mock.count(),
        1,
        "only the call that spent it went on"
    );
}

/// Who is asked for a method that he does not know may take it for POST.
#[tokio::test]
async fn another_method_another_content_type_or_a_piece_at_a_time_is_refused_as_well() {
    let sandbox = broke("").await;
    let body = chat().to_string();
    for method in ["PUT", "PATCH", "BREW", "post"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = client::call(sandbox.addr(), method.clone(), CHAT, &[], body.clone()).await;
        assert!(is_refused(&answer), "{method} {answer:?}");
    }
    for content_type in [
        "text/plain",
        "application/octet-stream",
        "multipart/form-data",
        "",
    ] {
        let headers = [("content-type", content_type)];
        let answer = send(&sandbox, CHAT, &headers, body.clone()).await;
        assert!(is_refused(&answer), "{content_type} {answer:?}");
    }
    // A byte a chunk; and two requests at once.
    let mut line = Line::connect(sandbox.addr()).await;
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunks: Vec<_> = body
        .chars()
        .map(|byte| format!("1\r\n{byte}\r\n"))
        .collect();
    let whole = format!("{head}{}0\r\n\r\n", chunks.concat());
    line.send(format!("{whole}{whole}")).await;
    for _ in 0..2 {
        let head = line.head().await;
        assert_eq!(head.status(), 429);
        line.body(&head).await;
    }
    // A length that says one thing and chunks that say another.
    let mut line = Line::connect(sandbox.addr()).await;
    line.send(whole.replacen("host: x", "host: x\r\ncontent-length: 4", 1))
        .await;
    let answered = tokio::time::timeout(PATIENCE, line.try_head())
        .await
        .unwrap();
    assert!(answered.is_none_or(|head| head.status() >= 400));
    assert_eq!(sandbox.mock.count(), 1);
}
