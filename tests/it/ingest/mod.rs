//! Spans that agents report to the real program: taken, bounded, and joined to the calls that they
//! tell of.

use std::{io::Write as _, time::Duration};

use flate2::{Compression, write::GzEncoder};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tollgate::{
    base::{
        clock::{Clock as _, SystemClock, Timestamp},
        id::TraceId,
    },
    call::tally::Dimension,
    identity::{self, ClientKey, Digest, mint},
    store::{Filter, Reader},
};

use crate::support::{
    Answer, Sandbox, client,
    sandbox::{read_spans, until},
};

const INGEST: &str = "/v1/traces/ingest";

/// A span of the Agents SDK that ended now and began so long before.
fn span(id: &str, parent: Option<&str>, data: &Value) -> Value {
    let now = SystemClock.wall();
    json!({
        "object": "trace.span", "id": format!("span_{}", id.repeat(24)), "trace_id": trace_id(),
        "parent_id": parent.map(|parent| format!("span_{}", parent.repeat(24))),
        "started_at": (now - Duration::from_secs(5)).to_string(), "ended_at": now.to_string(),
        "span_data": data, "error": null,
    })
}

fn trace_id() -> String {
    format!("trace_{}", "ab".repeat(16))
}

fn trace() -> Value {
    json!({"object": "trace", "id": trace_id(), "workflow_name": "Refunds", "group_id": "chat-7",
        "metadata": null})
}

fn agent(id: &str) -> Value {
    span(
        id,
        None,
        &json!({"type": "agent", "name": "triage", "tools": [], "handoffs": []}),
    )
}

async fn report(sandbox: &Sandbox, items: &[Value]) -> Answer {
    sandbox.post(INGEST, &json!({"data": items})).await
}

/// The spans of the reported trace in the store, once there are so many.
async fn stored(sandbox: &Sandbox, count: usize) -> Vec<Value> {
    let trace: TraceId = "ab".repeat(16).parse().unwrap();
    let path = sandbox.path("data/spans.db");
    let mut found = Vec::new();
    until("the spans in the store", || {
        let reader = Reader::open(&path).unwrap();
        found = reader.trace(trace, 1_000).unwrap();
        found.len() >= count
    })
    .await;
    assert_eq!(found.len(), count, "{found:#?}");
    let lines = found.iter().map(|span| serde_json::from_str(&span.line));
    lines.map(Result::unwrap).collect()
}

#[tokio::test]
async fn calls_come_below_the_spans_that_tell_of_them() {
    let sandbox = Sandbox::new("");
    let chat = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "call lookup"}],
        "tools": [{"type": "function", "function": {"name": "lookup"}}]});
    let asked = sandbox.post("/v1/chat/completions", &chat).await.json();
    let tool = &asked["choices"][0]["message"]["tool_calls"][0]["id"];
    let plain = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]});
    let plain = sandbox.post("/v1/chat/completions", &plain).await.json();
    let response = json!({"model": "gpt-4o", "input": "Hi"});
    let response = sandbox.post("/v1/responses", &response).await.json();
    sandbox
        .post(
            "/v1/responses",
            &json!({"model": "gpt-4o", "input": "nobody's"}),
        )
        .await;
    sandbox.spans(4).await;

    let by_tool = json!({"type": "generation", "model": "gpt-4o",
        "output": [{"role": "assistant", "tool_calls": [{"id": tool}]}]});
    let by_tokens = json!({"type": "generation", "model": "gpt-4o-mini", "usage": {
        "input_tokens": plain["usage"]["prompt_tokens"],
        "output_tokens": plain["usage"]["completion_tokens"]}});
    let by_id = json!({"type": "response", "response_id": response["id"]});
    let items = [
        trace(),
        span("1", Some("9"), &by_tool),
        span("2", Some("9"), &by_tokens),
        span("3", Some("9"), &by_id),
        span(
            "4",
            Some("9"),
            &json!({"type": "function", "name": "lookup"}),
        ),
        agent("9"),
    ];
    let answer = report(&sandbox, &items).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(
        answer.json(),
        json!({"accepted": 5, "refused": 0, "errors": []})
    );

    let spans = stored(&sandbox, 8).await;
    let calls: Vec<_> = spans
        .iter()
        .filter(|span| span["attributes"].get("tollgate.request_id").is_some())
        .collect();
    let parents: Vec<_> = calls
        .iter()
        .map(|call| call["parent_span_id"].as_str().unwrap())
        .collect();
    assert_eq!(parents, ["1".repeat(16), "2".repeat(16), "3".repeat(16)]);
    for call in calls {
        let attributes = &call["attributes"];
        assert_eq!(attributes["tollgate.agent"], "triage");
        assert_eq!(attributes["tollgate.workflow"], "Refunds");
        assert_eq!(attributes["tollgate.session"], "chat-7");
        assert_ne!(attributes["tollgate.first_trace_id"], call["trace_id"]);
    }
    // What agents report is no call, and what calls cost is counted once.
    let reader = Reader::open(&sandbox.path("data/spans.db")).unwrap();
    let rows = reader
        .report(&Filter::default(), &[Dimension::Agent])
        .unwrap();
    let counts: Vec<_> = rows
        .iter()
        .map(|row| (row.group[0].as_deref(), row.sums.calls))
        .collect();
    assert_eq!(counts.len(), 2, "{counts:?}");
    assert!(
        counts.contains(&(Some("triage"), 3)) && counts.contains(&(None, 1)),
        "{counts:?}"
    );
    assert!(sandbox.metric("tollgate_ingest_spans_total{outcome=\"taken\"}") > 4.5);
}

#[tokio::test]
async fn a_call_whose_client_told_of_the_trace_stays_where_it_is() {
    let sandbox = Sandbox::new("");
    let parent = format!("00-{}-{}-01", "ab".repeat(16), "7".repeat(16));
    let body = json!({"model": "gpt-4o", "input": "Hi"});
    let answer = sandbox
        .post_with("/v1/responses", &[("traceparent", &parent)], &body)
        .await
        .json();
    sandbox.spans(1).await;
    let data = json!({"type": "response", "response_id": answer["id"]});
    report(&sandbox, &[span("1", None, &data)]).await;
    let spans = stored(&sandbox, 2).await;
    assert_eq!(spans[0]["parent_span_id"], "7".repeat(16));
}

#[tokio::test]
async fn otlp_is_taken_too_and_goes_to_every_processor() {
    let sandbox = Sandbox::new("");
    let now = SystemClock.wall();
    let body = json!({"resourceSpans": [{"scopeSpans": [{"spans": [
        {"traceId": "ab".repeat(16), "spanId": "cd".repeat(8), "name": "execute_tool lookup",
         "startTimeUnixNano": (now - Duration::from_secs(1)).as_nanos().to_string(),
         "endTimeUnixNano": now.as_nanos().to_string(),
         "attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "execute_tool"}}]},
        {"traceId": "", "spanId": ""},
    ]}]}]});
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(body.to_string().as_bytes()).unwrap();
    let headers = [
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
        ("x-tollgate-user", "42"),
    ];
    let gzipped = gzip.finish().unwrap();
    let answer = client::call(
        sandbox.addr(),
        Method::POST,
        "/v1/traces",
        &headers,
        gzipped,
    )
    .await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.json()["partialSuccess"]["rejectedSpans"], "1");
    let span = sandbox.only_span().await;
    assert_eq!(span.field("kind"), "tool");
    assert_eq!(span.get("tollgate.user"), "42");
    stored(&sandbox, 1).await;
}

/// Reports what was said in a tool and in a call of a model, in both formats, to a program that lets
/// spans hold so much of it. Returns the lines in the order of their names.
async fn said(content: &str) -> Vec<Value> {
    let place = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::new(&format!(
        "tracing: {{content: {content}, redaction: {{paths: ['$.customer']}}, processors: [{{type: file, \
         directory: '{}'}}]}}",
        place.path().display()
    ));
    let arguments = json!({"customer": "Ann", "to": "ann.lee@mail.example.com"}).to_string();
    let tool = json!({"type": "function", "name": "pay", "input": arguments, "output": "paid"});
    let key = "sk-ant-api03-Ab3dEfGh1jKlMnOpQrSt";
    let call = json!({"type": "generation", "model": "m",
        "input": [{"role": "user", "content": format!("Use {key}")}],
        "output": [{"role": "assistant", "content": "Done."}]});
    let items = [span("1", None, &tool), span("2", None, &call)];
    assert_eq!(report(&sandbox, &items).await.status, StatusCode::OK);
    let now = SystemClock.wall();
    let text = |name: &str, text: &str| json!({"key": name, "value": {"stringValue": text}});
    let messages = json!([{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]);
    let chat = json!({"resourceSpans": [{"scopeSpans": [{"spans": [
        {"traceId": "ab".repeat(16), "spanId": "cd".repeat(8), "name": "chat m",
         "startTimeUnixNano": (now - Duration::from_secs(1)).as_nanos().to_string(),
         "endTimeUnixNano": now.as_nanos().to_string(),
         "attributes": [text("gen_ai.operation.name", "chat"),
            text("gen_ai.input.messages", &messages.to_string()),
            text("output.value", "Ho")]}]}]}]});
    assert_eq!(
        sandbox.post("/v1/traces", &chat).await.status,
        StatusCode::OK
    );
    let mut lines = Vec::new();
    until("the spans", || {
        lines = read_spans(place.path());
        lines.len() >= 3
    })
    .await;
    lines.sort_by_key(|line| line["operation_name"].to_string());
    lines
}

#[tokio::test]
async fn what_was_said_in_spans_of_agents_obeys_as_that_of_calls_does() {
    for line in said("none").await {
        let line = line.to_string();
        assert!(!line.contains("paid") && !line.contains("Done."), "{line}");
        assert!(
            !line.contains("messages") && !line.contains("call.arguments"),
            "{line}"
        );
    }
    let redacted = said("redacted").await;
    let [chat, tool, call] = [0, 1, 2].map(|at| &redacted[at]["attributes"]);
    assert_eq!(
        tool["gen_ai.tool.call.arguments"],
        r#"{"customer":"[redacted:path]","to":"[redacted:email]"}"#
    );
    assert_eq!(tool["gen_ai.tool.call.result"], "paid");
    assert_eq!(
        call["gen_ai.input.messages"][0]["parts"][0]["content"],
        "Use [redacted:key]"
    );
    assert_eq!(
        call["gen_ai.output.messages"][0]["parts"][0]["content"],
        "Done."
    );
    assert_eq!(
        chat["gen_ai.input.messages"][0]["parts"][0]["content"],
        "Hi"
    );
    assert_eq!(
        chat["gen_ai.output.messages"][0]["parts"][0]["content"],
        "Ho"
    );
    assert_eq!(chat["tollgate.content"], "redacted");
    let full = said("full").await;
    let [tool, call] = [1, 2].map(|at| &full[at]["attributes"]);
    assert!(
        tool["gen_ai.tool.call.arguments"]
            .as_str()
            .unwrap()
            .contains("Ann")
    );
    assert_eq!(
        call["gen_ai.input.messages"][0]["parts"][0]["content"],
        "Use [redacted:key]"
    );
}

#[tokio::test]
async fn what_is_refused_is_answered_in_the_form_of_the_request() {
    let sandbox = Sandbox::new("");
    let headers = [("content-type", "application/x-protobuf")];
    let send = |body: &'static [u8]| {
        client::call(sandbox.addr(), Method::POST, "/v1/traces", &headers, body)
    };
    let empty = send(b"").await;
    assert_eq!((empty.status, empty.text()), (StatusCode::OK, ""));
    let wrong = send(b"{}").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    for answer in [empty, wrong] {
        assert_eq!(answer.header("content-type"), "application/x-protobuf");
    }
}

#[tokio::test]
async fn reports_are_bounded_in_size_number_and_rate() {
    let sandbox = Sandbox::new("ingest: {body: 4kB, spans: 3, spans_per_second: 1}");
    let large = agent(&"x".repeat(200));
    let answer = report(&sandbox, &[large]).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(answer.text().contains("ingest.body"), "{answer:?}");
    // Small bodies of which much comes out, also more than so many times their size.
    let roomy = Sandbox::new("");
    for (sandbox, size) in [(&sandbox, 100_000), (&roomy, 8_000_000)] {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&vec![b' '; size]).unwrap();
        let (encoding, bomb) = ([("content-encoding", "gzip")], gzip.finish().unwrap());
        let answer = client::call(sandbox.addr(), Method::POST, INGEST, &encoding, bomb).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{size}");
    }

    let four = ["1", "2", "3", "4"].map(agent);
    let answer = report(&sandbox, &four).await.json();
    assert_eq!(
        (&answer["accepted"], &answer["refused"]),
        (&json!(3), &json!(1))
    );
    let answer = report(&sandbox, &[agent("5")]).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!answer.header("retry-after").is_empty());
    for (outcome, count) in [("too_large", 2.0), ("taken", 1.0), ("busy", 1.0)] {
        let name = format!("tollgate_ingest_requests_total{{outcome=\"{outcome}\"}}");
        assert!((sandbox.metric(&name) - count).abs() < 0.5, "{outcome}");
    }
}

#[tokio::test]
async fn a_report_shows_a_client_key_where_calls_must() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("keys.jsonl");
    let secret = mint().unwrap();
    let key = ClientKey {
        name: "ci".parse().unwrap(),
        sha256: Digest::of(secret.expose()),
        created: Timestamp::from_secs(1_795_328_714),
        expires: None,
        revoked: None,
        labels: [(tollgate::call::labels::Label::User, "42".to_owned())].into(),
        tags: [].into(),
    };
    identity::create(&path, &key).unwrap();
    let sandbox = Sandbox::new(&format!("identity: {{keys_file: '{}'}}", path.display()));
    let body = json!({"data": [agent("1")]});
    let refused = sandbox
        .post_with(INGEST, &[("authorization", "Bearer sk-1")], &body)
        .await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(refused.header("x-tollgate-blocked-by"), "identity");
    let bearer = format!("Bearer {}", secret.expose());
    let taken = sandbox
        .post_with(INGEST, &[("authorization", &bearer)], &body)
        .await;
    assert_eq!(taken.status, StatusCode::OK);
    assert_eq!(sandbox.only_span().await.get("tollgate.user"), "42");
}

#[tokio::test]
async fn what_is_meant_for_the_provider_goes_there() {
    let sandbox = Sandbox::new("ingest: {enabled: false}");
    report(&sandbox, &[agent("1")]).await;
    assert_eq!(sandbox.only_span().await.get("url.path"), INGEST);
    let sandbox = Sandbox::new("");
    let body = json!({"data": [agent("1")]});
    sandbox.post(&format!("/openai{INGEST}"), &body).await;
    let forward = format!("{}{INGEST}", sandbox.mock.url());
    sandbox.post(&forward, &body).await;
    for span in sandbox.spans(2).await {
        assert_eq!(span["attributes"]["url.path"], INGEST);
    }
}

#[tokio::test]
async fn what_is_no_report_is_said_to_be_none() {
    let sandbox = Sandbox::new("");
    for (headers, body, word) in [
        (vec![], "{", "no report"),
        (vec![("content-encoding", "gzip")], "{}", "damaged"),
        (
            vec![("content-encoding", "rot13")],
            "{}",
            "content-encoding",
        ),
    ] {
        let answer = client::call(sandbox.addr(), Method::POST, INGEST, &headers, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
        assert!(answer.text().contains(word), "{answer:?}");
    }
    let text = [("content-type", "text/plain")];
    let answer = client::call(sandbox.addr(), Method::POST, "/v1/traces", &text, "{}").await;
    assert!(answer.text().contains("text/plain"), "{answer:?}");
}
