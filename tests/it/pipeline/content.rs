//! What is said in a call, on its spans: as much as the configuration lets them hold, and no secret in
//! any place.

use std::{fs, path::Path};

use flate2::{Compression, write::GzEncoder};
use http::Method;
use serde_json::{Value, json};

use super::sink::{Does, Sink, TAKES};
use crate::support::{
    Line, Sandbox, Upstream, client,
    sandbox::{Span, configuration, read_spans, until},
};

const EMAIL: &str = "ann.lee@mail.example.com";
const KEY: &str = "sk-ant-api03-Ab3dEfGh1jKlMnOpQrSt";
const CARD: &str = "4111 1111 1111 1111";

/// An answer in pieces, with a secret over several of them and escapes in others.
fn pieces() -> Vec<String> {
    let event =
        |delta: &str| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{{delta}}}}}]}}\n\n");
    let mut events = vec![
        event(r#""role":"assistant","content":"Write to ann.l""#),
        event(r#""content":"ee\u0040mail.exam""#),
        event(r#""content":"ple.com with sk-ant-api03-Ab3d""#),
        event(r#""content":"EfGh1jKlMnOpQrSt.""#),
    ];
    events.push(event(
        r#""tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"pay","arguments":"{\"card\":\"4111 1111"}}]"#,
    ));
    events.push(event(
        r#""tool_calls":[{"index":0,"function":{"arguments":" 1111 1111\",\"to\":\"ann.lee\\u0040mail.example.com\"}"}}]"#,
    ));
    events.push(
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n"
            .into(),
    );
    events.push("data: [DONE]\n\n".into());
    events
}

fn request() -> Value {
    json!({"model": "gpt-4o", "stream": true, "messages": [
        {"role": "user", "content": format!("I am {EMAIL}, my key is {KEY}")},
        {"role": "tool", "tool_call_id": "c", "content": format!("{{\"card\": \"{CARD}\"}}")}],
        "tools": [{"type": "function", "function": {"name": "pay"}}]})
}

/// A sandbox over an upstream that is played by hand, with these keys in `tracing`.
async fn begin(tracing: &str) -> (Sandbox, Upstream, tempfile::TempDir) {
    let upstream = Upstream::bind().await;
    let spans = tempfile::tempdir().unwrap();
    let at = |name: &str| spans.path().join(name).display().to_string();
    let tracing = tracing
        .replace("{spans}", &at("spans"))
        .replace("{other}", &at("other"));
    let yaml = format!("{}\ntracing: {tracing}", upstream.as_provider("openai"));
    (Sandbox::new(&yaml), upstream, spans)
}

/// Makes the call, whose answer comes `size` bytes at a time.
async fn call(sandbox: &Sandbox, upstream: &Upstream, size: usize) -> client::Answer {
    let answer = pieces().concat();
    let played = async {
        // The end of the connection is that of the answer.
        let mut provider = upstream.accept().await;
        let head = provider.head().await;
        provider.body(&head).await;
        answer_with(&mut provider, answer.as_bytes(), size).await;
    };
    let body = request();
    let asked = sandbox.post("/v1/chat/completions", &body);
    let (answered, ()) = tokio::join!(asked, played);
    assert_eq!(answered.text(), answer);
    answered
}

async fn answer_with(provider: &mut Line, body: &[u8], size: usize) {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    provider.send(head).await;
    for piece in body.chunks(size) {
        provider.send(piece).await;
    }
}

async fn span(directory: &Path) -> Span {
    let mut found = Vec::new();
    until("a span", || {
        found = read_spans(directory);
        !found.is_empty()
    })
    .await;
    Span(found.remove(0))
}

/// Every file below a directory, as one run of bytes.
fn everything(directory: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(everything(&path));
        } else {
            all.extend(fs::read(path).unwrap());
        }
    }
    all
}

fn has(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

const FILE: &str = "processors: [{type: file, directory: '{spans}'}]";

#[tokio::test]
async fn nothing_that_was_said_is_on_spans_unless_it_is_asked_for() {
    let (sandbox, upstream, spans) = begin(&format!("{{{FILE}}}")).await;
    call(&sandbox, &upstream, 4096).await;
    let span = span(&spans.path().join("spans")).await;
    let attributes = span.field("attributes").as_object().unwrap();
    for name in attributes.keys() {
        assert!(
            !name.contains("content") && !name.ends_with("messages"),
            "{name}"
        );
    }
    let held = sandbox.metric("tollgate_held{what=\"content_bytes\"}");
    assert!(held < 0.5, "{held}");
}

#[tokio::test]
async fn messages_are_on_spans_in_full_but_for_keys() {
    let (sandbox, upstream, spans) = begin(&format!("{{content: full, {FILE}}}")).await;
    call(&sandbox, &upstream, 4096).await;
    let span = span(&spans.path().join("spans")).await;
    assert_eq!(span.get("tollgate.content"), "full");
    let input = span.get("gen_ai.input.messages");
    assert_eq!(input[0]["role"], "user");
    let said = input[0]["parts"][0]["content"].as_str().unwrap();
    assert_eq!(said, format!("I am {EMAIL}, my key is [redacted:key]"));
    assert_eq!(input[1]["parts"][0]["type"], "tool_call_response");
    let output = &span.get("gen_ai.output.messages")[0];
    assert_eq!(output["finish_reason"], "tool_call");
    let said = format!("Write to {EMAIL} with [redacted:key].");
    assert_eq!(output["parts"][0]["content"], said);
    let call = json!({"type": "tool_call", "id": "call_1", "name": "pay",
        "arguments": {"card": CARD, "to": EMAIL}});
    assert_eq!(output["parts"][1], call);
    assert_eq!(span.get("gen_ai.tool.definitions")[0]["name"], "pay");
}

#[tokio::test]
async fn no_secret_is_in_any_file_however_the_answer_comes() {
    for size in [1, 7, 100, 100_000] {
        let tracing = format!("{{content: redacted, {FILE}}}");
        let (sandbox, upstream, spans) = begin(&tracing).await;
        call(&sandbox, &upstream, size).await;
        let span = span(&spans.path().join("spans")).await;
        let said = &span.get("gen_ai.output.messages")[0]["parts"];
        let text = "Write to [redacted:email] with [redacted:key].";
        assert_eq!(said[0]["content"], text, "{size}");
        let arguments = json!({"card": "[redacted:card]", "to": "[redacted:email]"});
        assert_eq!(said[1]["arguments"], arguments, "{size}");
        let place = sandbox.stop().await;
        let mut all = everything(place.path());
        all.extend(everything(spans.path()));
        assert!(
            has(&all, "gen_ai.output.messages"),
            "the store has it as well"
        );
        for secret in [
            EMAIL,
            KEY,
            CARD,
            "mail.example",
            "EfGh1jKlMnOp",
            "1111 1111",
        ] {
            assert!(!has(&all, secret), "{secret}, {size}");
        }
    }
}

#[tokio::test]
async fn a_processor_may_have_less_than_another() {
    let tracing = "{content: full, processors: [{type: file, directory: '{spans}'},
        {type: file, directory: '{other}', content: redacted}, {type: console}]}";
    let (sandbox, upstream, spans) = begin(tracing).await;
    call(&sandbox, &upstream, 4096).await;
    let full = span(&spans.path().join("spans")).await;
    let redacted = span(&spans.path().join("other")).await;
    assert_eq!(full.get("tollgate.content"), "full");
    assert_eq!(redacted.get("tollgate.content"), "redacted");
    assert!(full.0.to_string().contains(EMAIL));
    assert!(!redacted.0.to_string().contains(EMAIL));
    assert_eq!(full.field("span_id"), redacted.field("span_id"));
}

#[tokio::test]
async fn patterns_and_paths_of_the_configuration_are_taken_out() {
    let tracing = format!(
        "{{content: redacted, {FILE}, redaction: {{patterns: [{{name: word, pattern: Write}}], \
         paths: ['$.messages[0].content', '$.to']}}}}"
    );
    let (sandbox, upstream, spans) = begin(&tracing).await;
    call(&sandbox, &upstream, 50).await;
    let span = span(&spans.path().join("spans")).await;
    let input = span.get("gen_ai.input.messages");
    assert_eq!(input[0]["parts"][0]["content"], "[redacted:path]");
    let parts = &span.get("gen_ai.output.messages")[0]["parts"];
    let said = parts[0]["content"].as_str().unwrap();
    assert!(said.starts_with("[redacted:word] to"), "{said}");
    assert_eq!(parts[1]["arguments"]["to"], "[redacted:path]");
}

#[tokio::test]
async fn what_is_compressed_is_read_and_what_is_too_large_says_so() {
    let upstream = Upstream::bind().await;
    let yaml = format!(
        "{}\nlimits: {{peek: 2KiB}}\n",
        upstream.as_provider("openai")
    );
    let spans = tempfile::tempdir().unwrap();
    let at = spans.path().display();
    let yaml = format!(
        "{yaml}tracing: {{content: full, processors: [{{type: file, directory: '{at}'}}]}}"
    );
    let sandbox = Sandbox::new(&yaml);
    let body = json!({"choices": [{"message": {"content": "x ".repeat(2_500)}}]}).to_string();
    let played = async {
        let mut provider = upstream.accept().await;
        let head = provider.head().await;
        provider.body(&head).await;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        provider.send(head).await;
        provider.send(&body).await;
    };
    let asked = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi\u{1}"}]});
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut packed, asked.to_string().as_bytes()).unwrap();
    let headers = [
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
    ];
    let packed = packed.finish().unwrap();
    let asked = client::call(
        sandbox.addr(),
        Method::POST,
        "/v1/chat/completions",
        &headers,
        packed,
    );
    let (answer, ()) = tokio::join!(asked, played);
    assert_eq!(answer.status, 200);
    let span = span(spans.path()).await;
    let input = span.get("gen_ai.input.messages");
    assert_eq!(input[0]["parts"][0]["content"], "Hi\u{1}");
    assert_eq!(span.get("tollgate.content.cut"), true);
    let said = &span.get("gen_ai.output.messages")[0]["parts"][0]["content"];
    let said = said.as_str().unwrap();
    assert!(said.len() > 1_900 && said.len() < 2_048, "{}", said.len());
    let over = sandbox.metric("tollgate_over_bound_total{what=\"content_bytes\"}");
    assert!(
        over < 0.5,
        "the call's own bound was reached, not that of all"
    );
}

#[tokio::test]
async fn what_a_socket_says_is_on_the_span_of_its_response() {
    let sandbox_yaml = "tracing: {content: full, processors: [{type: file, directory: '{spans}'}]}";
    let spans = tempfile::tempdir().unwrap();
    let yaml = sandbox_yaml.replace("{spans}", &spans.path().display().to_string());
    let sandbox = Sandbox::new(&yaml);
    let mut socket = crate::support::Socket::open(sandbox.addr(), "/v1/responses", &[]).await;
    let ask = json!({"type": "response.create", "model": "gpt-4o",
        "input": [{"type": "message", "role": "user",
            "content": [{"type": "input_text", "text": "Say something"}]}]});
    socket.say(&ask).await;
    socket
        .until(|message| message["type"] == "response.completed")
        .await;
    let span = span(spans.path()).await;
    let input = span.get("gen_ai.input.messages");
    assert_eq!(
        input[0]["parts"][0]["content"], "Say something",
        "{:#}",
        span.0
    );
    let output = &span.get("gen_ai.output.messages")[0];
    assert_eq!(output["finish_reason"], "stop");
    assert!(!output["parts"][0]["content"].as_str().unwrap().is_empty());
}

/// What waits for a destination that is down, which may have all that is said, goes to its heir, which
/// may not: over a reload and over a restart, whether the processor says so or the section does.
#[tokio::test]
async fn what_was_read_for_one_processor_does_not_reach_an_heir_that_may_have_less() {
    let body =
        json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "a plain word"}]});
    // Nothing else is edited. The breaker lets the first worker try once.
    let yaml = |url: &str, section: &str, own: &str| {
        let breaker = "circuit_breaker: {failure_threshold: 1, recovery_timeout: 1h}";
        let hook = format!("{{type: webhook, url: '{url}/x', batch_size: 1, {breaker}{own}}}");
        format!("tracing: {{content: {section}, processors: [{hook}]}}")
    };
    for (section, own, level) in [
        ("full", ", content: none", "none"),
        ("full", ", content: redacted", "redacted"),
        ("none", "", "none"),
        ("redacted", "", "redacted"),
    ] {
        for restarts in [false, true] {
            let sink = Sink::start(&[Does::Answers(503, None)], TAKES).await;
            let mut sandbox = Sandbox::new(&yaml(&sink.url, "full", ""));
            let answer = sandbox.post("/v1/chat/completions", &body).await;
            assert!(answer.status.is_success());
            let buffered = "tollgate_spans_buffered{processor=\"webhook\"}";
            until("the span on disk", || sandbox.metric(buffered) > 0.5).await;
            assert!(has(&everything(sandbox.directory.path()), "a plain word"));
            let after = yaml(&sink.url, section, own);
            if restarts {
                sandbox = sandbox.restarted(&after).await;
            } else {
                let config = configuration(&after, sandbox.directory.path(), &sandbox.mock.url());
                sandbox.app.reload(config).await.unwrap();
            }
            let mut seen = Vec::new();
            until("the span to arrive", || {
                seen = sink.seen();
                seen.len() > 1
            })
            .await;
            let came = &seen[1].body;
            assert!(
                has(came, "span_id") && !has(came, "a plain word"),
                "{section}{own}, {restarts}"
            );
            assert_eq!(has(came, "tollgate.content.cut"), level == "redacted");
            sandbox.stop().await;
        }
    }
}
