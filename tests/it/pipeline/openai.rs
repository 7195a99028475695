//! The processor `openai`, before a receiver that holds to the rules of OpenAI's own server.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::Value;
use tollgate::{
    base::{
        clock::{SystemClock, Timestamp},
        id::{SpanId, TraceId},
    },
    call::{
        labels::{Label, Source},
        outcome::{Kind, Status},
        span::Span,
        usage::Usage,
    },
    pipeline::{BuildContext, Pipeline, Stats},
};

use super::{
    sink::{Does, Seen, Sink, TAKES},
    sinks::configured,
};
use crate::support::{conserved, sandbox::PATIENCE};

/// The fields of each type that the server knows.
const TYPES: &[(&str, &[&str])] = &[
    ("agent", &["name", "handoffs", "tools", "output_type"]),
    ("custom", &["name", "data"]),
    ("function", &["name", "input", "output", "mcp_data"]),
    (
        "generation",
        &["input", "output", "model", "model_config", "usage"],
    ),
    ("guardrail", &["name", "triggered"]),
    ("handoff", &["from_agent", "to_agent"]),
    ("mcp_tools", &["server", "result"]),
    ("response", &["response_id"]),
];

/// What the server answers 400 for, if it does; else the ids of the traces and of the spans.
fn judged(body: &Value) -> Result<[Vec<String>; 2], String> {
    let only = |value: &Value, known: &[&str], at: &str| {
        let members = value
            .as_object()
            .ok_or_else(|| format!("{at}: no object"))?;
        let unknown = members.keys().find(|key| !known.contains(&key.as_str()));
        unknown.map_or(Ok(()), |key| Err(format!("unknown parameter {at}.{key}")))
    };
    let id = |value: &Value, start: &str, digits: usize| {
        let id = value.as_str().and_then(|id| id.strip_prefix(start));
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let good = id.is_some_and(|id| id.len() == digits && id.bytes().all(is_hex));
        let wrong = format!("{value} is no {start} id");
        good.then(|| value.as_str().unwrap().to_owned())
            .ok_or(wrong)
    };
    only(body, &["data"], "body")?;
    let [mut traces, mut spans] = [Vec::new(), Vec::new()];
    for (place, item) in body["data"].as_array().ok_or("no data")?.iter().enumerate() {
        let at = format!("data[{place}]");
        if item["object"] == "trace" {
            let known = ["object", "id", "workflow_name", "group_id", "metadata"];
            only(item, &known, &at)?;
            traces.push(id(&item["id"], "trace_", 32)?);
            continue;
        }
        let known = [
            "object",
            "id",
            "trace_id",
            "parent_id",
            "started_at",
            "ended_at",
            "span_data",
            "error",
            "metadata",
        ];
        only(item, &known, &at)?;
        spans.push(id(&item["id"], "span_", 24)?);
        id(&item["trace_id"], "trace_", 32)?;
        if !item["parent_id"].is_null() {
            id(&item["parent_id"], "span_", 24)?;
        }
        for key in ["started_at", "ended_at"] {
            let time = item[key].as_str().unwrap_or_default();
            let parsed = time.parse::<jiff::Timestamp>();
            if parsed.is_err() || !time.ends_with("+00:00") {
                return Err(format!("{at}.{key}: {time}"));
            }
        }
        let data = &item["span_data"];
        let kind = data["type"].as_str().unwrap_or_default();
        let (_, fields) = TYPES.iter().find(|(name, _)| *name == kind).ok_or(kind)?;
        only(
            data,
            &[*fields, &["type"]].concat(),
            &format!("{at}.span_data"),
        )?;
        if let Some(usage) = data.get("usage") {
            let known = ["input_tokens", "output_tokens", "details"];
            only(usage, &known, &format!("{at}.span_data.usage"))?;
        }
        for key in ["input", "output"] {
            if data[key].to_string().len() > 100_000 {
                return Err("data payload too large. Expected a JSON value under 100KB".to_owned());
            }
        }
        if !item["error"].is_null() {
            only(&item["error"], &["message", "data"], &format!("{at}.error"))?;
        }
    }
    Ok([traces, spans])
}

fn span(n: u64) -> Span {
    let mut span = Span {
        trace_id: TraceId::from_bytes(u128::from(n / 10 + 1).to_be_bytes()),
        span_id: SpanId::from_bytes((n + 1).to_be_bytes()),
        parent_span_id: (!n.is_multiple_of(10))
            .then(|| SpanId::from_bytes((n / 10 * 10 + 1).to_be_bytes())),
        kind: [Kind::Llm, Kind::Embedding, Kind::Http][usize::try_from(n % 3).unwrap()],
        operation: Some("chat"),
        duration: Duration::from_millis(700),
        request_model: Some("gpt-4o".into()),
        usage: Usage::text(120, 45),
        status: if n.is_multiple_of(7) {
            Status::Error
        } else {
            Status::Ok
        },
        error_type: Some("server_error".into()),
        ..Span::begun(Timestamp::from_secs(1_795_328_714))
    };
    if n.is_multiple_of(4) {
        span.response_id = Some("resp_1".into());
    }
    span.labels.set(Label::Session, "s1", Source::Header);
    span.labels.set(Label::User, "u1", Source::Header);
    span
}

/// Sends so many spans through the processor that `yaml` describes.
async fn send(yaml: &str, context: &BuildContext, count: u64) -> Stats {
    let outlet = configured(yaml, context);
    let pipeline = Pipeline::start(Vec::new(), vec![outlet], Arc::new(SystemClock)).unwrap();
    (0..count).for_each(|n| pipeline.offer(span(n)));
    assert!(pipeline.flush(PATIENCE).await);
    let stats = pipeline.stats()[0].1;
    conserved(&stats);
    pipeline.close(PATIENCE).await;
    stats
}

fn read(seen: &[Seen]) -> Vec<Value> {
    let bodies = seen.iter().map(|seen| serde_json::from_slice(&seen.body));
    bodies.map(Result::unwrap).collect()
}

#[tokio::test]
async fn the_server_takes_every_request_and_hears_of_each_trace_once() {
    let sink = Sink::start(&[], TAKES).await;
    let yaml = format!(
        "{{type: openai, api_key: sk-hush, organization: org-1, project_id: proj-1, \
         endpoint: '{}/v1/traces/ingest', sanitize: true, batch_size: 40, flush_interval: 1h, \
         workflow_name: Shop}}",
        sink.url
    );
    let stats = send(&yaml, &BuildContext::new(Arc::new(SystemClock)), 250).await;
    assert_eq!(stats.delivered, 250, "{stats:?}");
    let seen = sink.seen();
    assert_eq!(seen.len(), 7);
    for request in &seen {
        assert_eq!(
            (&*request.method, &*request.target),
            ("POST", "/v1/traces/ingest")
        );
        for (name, value) in [
            ("authorization", "Bearer sk-hush"),
            ("content-type", "application/json"),
            ("openai-beta", "traces=v1"),
            ("openai-organization", "org-1"),
            ("openai-project", "proj-1"),
        ] {
            assert_eq!(request.headers[name], value, "{name}");
        }
    }
    let bodies = read(&seen);
    let judged: Vec<_> = bodies.iter().map(|body| judged(body).unwrap()).collect();
    let traces: Vec<&String> = judged.iter().flat_map(|[traces, _]| traces).collect();
    let spans: BTreeSet<&String> = judged.iter().flat_map(|[_, spans]| spans).collect();
    assert_eq!((traces.len(), spans.len()), (25, 250));
    assert_eq!(traces.iter().collect::<BTreeSet<_>>().len(), 25);
    // The trace before its spans, and the spans below the one that began them.
    let first = bodies[0]["data"].as_array().unwrap();
    assert_eq!(first[0]["object"], "trace");
    assert_eq!(first[0]["workflow_name"], "Shop");
    assert_eq!(first[0]["group_id"], "s1");
    assert_eq!(first[0]["metadata"]["user"], "u1");
    assert_eq!(first[1]["parent_id"], Value::Null);
    assert_eq!(first[2]["parent_id"], first[1]["id"]);
    assert_eq!(first[1]["error"]["message"], "Error getting response");
}

#[tokio::test]
async fn another_receiver_gets_everything() {
    let sink = Sink::start(&[], TAKES).await;
    let yaml = format!("{{type: openai, api_key: k, endpoint: '{}'}}", sink.url);
    send(&yaml, &BuildContext::new(Arc::new(SystemClock)), 4).await;
    let bodies = read(&sink.seen());
    let usage = &bodies[0]["data"][1]["span_data"]["usage"];
    assert_eq!(usage["total_tokens"], 165);
    let refused = judged(&bodies[0]).unwrap_err();
    assert!(refused.contains("span_data.usage"), "{refused}");
}

#[tokio::test]
async fn what_the_server_has_not_taken_comes_again_with_its_trace() {
    let sink = Sink::start(&[Does::Answers(503, None)], TAKES).await;
    let yaml = format!(
        "{{type: openai, endpoint: '{}', retry_jitter: false, timeout: 5s}}",
        sink.url
    );
    let context = BuildContext {
        variable: &|name| match name {
            "OPENAI_API_KEY" => Some("sk-1".to_owned()),
            "OPENAI_ORG_ID" => Some("org-2".to_owned()),
            "OPENAI_PROJECT_ID" => Some("proj-2".to_owned()),
            _ => None,
        },
        ..BuildContext::new(Arc::new(SystemClock))
    };
    let stats = send(&yaml, &context, 3).await;
    assert_eq!(stats.delivered, 3, "{stats:?}");
    let seen = sink.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].body, seen[1].body);
    assert_eq!(seen[1].headers["openai-organization"], "org-2");
    assert_eq!(seen[1].headers["openai-project"], "proj-2");
}

#[tokio::test]
async fn without_a_key_nothing_is_sent_and_nothing_fails() {
    let sink = Sink::start(&[], TAKES).await;
    let yaml = format!(
        "{{type: openai, api_key_secret: nowhere, endpoint: '{}'}}",
        sink.url
    );
    let stats = send(&yaml, &BuildContext::new(Arc::new(SystemClock)), 3).await;
    assert_eq!((stats.filtered, stats.failed), (3, 0), "{stats:?}");
    assert!(sink.seen().is_empty());
}
