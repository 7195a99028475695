//! A kill that comes while an event of a stream has passed in part: the event is finished, and then
//! the stream ends as its dialect does. One that is long in coming breaks off.

use serde_json::{Value, json};
use tollgate::provider::wire::framing::{Found, Framing};

use crate::{
    admin::post,
    support::{Line, Sandbox, Upstream, sandbox::until},
};

/// A stream of which nothing is held back, since nothing limits it.
struct Stream {
    provider: &'static str,
    path: &'static str,
    body: Value,
    framing: Framing,
    /// Stands in its legal end.
    last: &'static str,
}

fn streams() -> Vec<Stream> {
    let stream = |provider, path, body, framing, last| Stream {
        provider,
        path,
        body,
        framing,
        last,
    };
    let said = json!([{"role": "user", "content": "hello"}]);
    let contents = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]});
    let bedrock = json!({"messages": [{"role": "user", "content": [{"text": "hello"}]}],
        "inferenceConfig": {"maxTokens": 400}});
    vec![
        stream(
            "openai",
            "/v1/chat/completions",
            json!({"model": "gpt-4o", "stream": true, "max_tokens": 400, "messages": said,
                "stream_options": {"include_usage": true}}),
            Framing::Sse,
            "[DONE]",
        ),
        stream(
            "openai",
            "/v1/responses",
            json!({"model": "gpt-4o", "stream": true, "input": "hello"}),
            Framing::Sse,
            "response.incomplete",
        ),
        stream(
            "anthropic",
            "/v1/messages",
            json!({"model": "claude-x", "max_tokens": 400, "stream": true, "messages": said}),
            Framing::Sse,
            "message_stop",
        ),
        stream(
            "gemini",
            "/v1beta/models/gemini-2.0-flash:streamGenerateContent?alt=sse",
            contents.clone(),
            Framing::Sse,
            "MAX_TOKENS",
        ),
        stream(
            "gemini",
            "/v1beta/models/gemini-2.0-flash:streamGenerateContent",
            contents,
            Framing::Array,
            "MAX_TOKENS",
        ),
        stream(
            "ollama",
            "/ollama/api/chat",
            json!({"model": "llama3.2", "stream": true, "messages": said}),
            Framing::Lines,
            "\"done\":true",
        ),
        stream(
            "bedrock",
            "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse-stream",
            bedrock,
            Framing::EventStream,
            "messageStop",
        ),
    ]
}

/// Where its events end.
fn ends(framing: Framing, stream: &[u8]) -> Vec<usize> {
    let (mut splitter, mut at, mut ends) = (framing.splitter(), 0, Vec::new());
    while let Some(Found::End(length)) = splitter.next(&stream[at..]) {
        at += length;
        ends.push(at);
    }
    ends
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// What has come of a body in chunks, and whether that is all of it.
fn dechunked(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(line) = raw.windows(2).position(|pair| pair == b"\r\n") {
        let size = std::str::from_utf8(&raw[..line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (body, true);
        }
        let rest = &raw[line + 2..];
        body.extend_from_slice(&rest[..size.min(rest.len())]);
        raw = rest.get(size + 2..).unwrap_or_default();
    }
    (body, false)
}

/// A stream under way, of which the client has had `begun`.
struct UnderWay {
    sandbox: Sandbox,
    client: Line,
    provider: Line,
}

impl UnderWay {
    async fn begin(stream: &Stream, content_type: &str, begun: &[u8]) -> Self {
        let upstream = Upstream::bind().await;
        let sandbox = Sandbox::new(&upstream.as_provider(stream.provider));
        let mut client = Line::connect(sandbox.addr()).await;
        let body = stream.body.to_string();
        client
            .send(format!(
                "POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
                stream.path,
                body.len()
            ))
            .await;
        let mut provider = upstream.accept().await;
        let head = provider.head().await;
        provider.body(&head).await;
        provider
            .send(format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n\
                 transfer-encoding: chunked\r\n\r\n"
            ))
            .await;
        provider.send(chunk(begun)).await;
        assert_eq!(client.head().await.status(), 200);
        while dechunked(client.peeked()).0 != begun {
            assert!(client.more().await, "it ends");
        }
        let order = json!({"match": {"provider": "*"}});
        assert_eq!(post(&sandbox, "/api/v1/kills", &order).await.status, 200);
        Self {
            sandbox,
            client,
            provider,
        }
    }

    async fn is_told_of(&self) {
        let span = self.sandbox.only_span().await;
        assert_eq!(span.get("tollgate.blocked_by"), "kill");
        assert_eq!(span.get("tollgate.end"), "cut");
        until("nothing to be under way", || {
            self.sandbox.app.holdings().in_flight == 0
        })
        .await;
    }
}

/// What a provider streams, and as what.
async fn recorded(stream: &Stream) -> (Vec<u8>, String) {
    let sandbox = Sandbox::new("");
    let settings = [("x-mock", "events=8;event-size=40")];
    let answer = sandbox
        .post_with(stream.path, &settings, &stream.body)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    (
        answer.body.to_vec(),
        answer.header("content-type").to_owned(),
    )
}

#[tokio::test]
async fn the_event_that_has_begun_is_finished_and_none_follows_but_the_end() {
    for stream in streams() {
        let path = stream.path;
        let (all, content_type) = recorded(&stream).await;
        let ends = ends(stream.framing, &all);
        let (before, after) = (ends[4], ends[5]);
        for at in [before + 1, usize::midpoint(before, after), after - 3] {
            let mut under_way = UnderWay::begin(&stream, &content_type, &all[..at]).await;
            assert!(!dechunked(under_way.client.peeked()).1, "{path}");
            under_way.provider.send(chunk(&all[at..])).await;
            let client = &mut under_way.client;
            let body = loop {
                let (body, is_all) = dechunked(client.peeked());
                if is_all {
                    break body;
                }
                assert!(client.more().await, "{path} breaks off at {at}");
            };
            assert!(body.starts_with(&all[..after]), "{path} at {at}");
            let rest = String::from_utf8_lossy(&body[after..]);
            assert!(rest.contains(stream.last), "{path} at {at}: {rest}");
            assert!(!body[after..].starts_with(&all[after..ends[6]]), "{rest}");
            match stream.framing {
                Framing::Array => drop(serde_json::from_slice::<Vec<Value>>(&body).unwrap()),
                framing => {
                    let last = self::ends(framing, &body).pop();
                    assert_eq!(last, Some(body.len()), "{path} at {at}: {rest}");
                },
            }
            under_way.is_told_of().await;
        }
    }
}

#[tokio::test]
async fn an_event_that_does_not_end_breaks_off() {
    for stream in streams().into_iter().step_by(3) {
        let (all, content_type) = recorded(&stream).await;
        let ends = ends(stream.framing, &all);
        let begun = &all[..usize::midpoint(ends[4], ends[5])];
        let mut under_way = UnderWay::begin(&stream, &content_type, begun).await;
        while under_way.client.more().await {}
        let (body, is_all) = dechunked(under_way.client.peeked());
        assert_eq!((&*body, is_all), (begun, false), "{}", stream.path);
        under_way.is_told_of().await;
    }
}
