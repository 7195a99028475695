//! The examples of RAAF's tracing guide, each run as it is written, with receivers on loopback.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    pipeline::sink::{Seen, Sink, TAKES},
    support::{Answer, Sandbox},
};

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    fs::read_to_string(path.join(name)).unwrap()
}

/// A call of a support agent; `mock` says how it is answered.
async fn call(sandbox: &Sandbox, mock: &str) -> Answer {
    let said = json!([{"role": "user", "content": "I am mia@example.com, what about order 7?"}]);
    let body = json!({"model": "gpt-4o", "max_tokens": 20, "messages": said});
    let headers = [("x-tollgate-agent", "support"), ("x-mock", mock)];
    let answer = sandbox
        .post_with("/v1/chat/completions", &headers, &body)
        .await;
    sandbox.settled().await;
    assert!(sandbox.app.flush().await);
    answer
}

fn header<'a>(seen: &'a Seen, name: &str) -> &'a str {
    seen.headers[name].to_str().unwrap()
}

/// The spans that were reported to OpenAI's traces.
fn reported(seen: &Seen) -> Vec<Value> {
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    let items = body["data"].as_array().unwrap().iter();
    let spans = items.filter(|item| item["object"] == "trace.span");
    spans.cloned().collect()
}

/// Ids of the calls in the guide's table, with what is in the column `status`.
fn rows(path: &Path) -> Vec<(String, String, f64)> {
    let connection = rusqlite::Connection::open(path).unwrap();
    let mut rows = connection
        .prepare("SELECT id, span_id, duration FROM ai_traces ORDER BY started_at")
        .unwrap();
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn basic_tracing_sends_a_call_to_all_four() {
    let (openai, datadog) = (Sink::start(&[], TAKES).await, Sink::start(&[], TAKES).await);
    let traces = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_variables(
        &example("basic-tracing.yaml"),
        &[
            ("OPENAI_API_KEY", "sk-traces"),
            ("OPENAI_PROJECT_ID", "proj_7"),
            ("OPENAI_TRACES_URL", &openai.url),
            ("DATADOG_API_KEY", "dd-hush"),
            ("DATADOG_URL", &datadog.url),
            ("TRACES", traces.path().to_str().unwrap()),
        ],
    );
    assert_eq!(call(&sandbox, "").await.status, 200);
    let file = fs::read_dir(traces.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let kept: Value =
        serde_json::from_str(fs::read_to_string(file.path()).unwrap().trim()).unwrap();
    let text = kept.to_string();
    assert!(
        !text.contains("mia@example.com") && text.contains("order 7"),
        "{text}"
    );

    let [sent] = &*openai.seen() else {
        panic!("{:?}", openai.seen());
    };
    assert_eq!(header(sent, "authorization"), "Bearer sk-traces");
    assert_eq!(header(sent, "openai-project"), "proj_7");
    let spans = reported(sent);
    let trace = format!("trace_{}", kept["trace_id"].as_str().unwrap());
    assert!(
        spans.iter().all(|span| span["trace_id"] == *trace),
        "{spans:#?}"
    );
    let seen = datadog.seen();
    assert_eq!(header(&seen[0], "dd-api-key"), "dd-hush");
    sandbox.stop().await;
}

#[tokio::test]
async fn each_trace_processor_gets_what_its_options_say() {
    let (openai, slack) = (Sink::start(&[], TAKES).await, Sink::start(&[], TAKES).await);
    let place = tempfile::tempdir().unwrap();
    let database = place.path().join("traces.db");
    let sandbox = Sandbox::with_variables(
        &example("trace-processors.yaml"),
        &[
            ("OPENAI_API_KEY", "sk-traces"),
            ("OPENAI_ORG_ID", "org-7"),
            ("OPENAI_TRACES_URL", &openai.url),
            ("DATABASE_URL", &format!("sqlite://{}", database.display())),
            (
                "SLACK_WEBHOOK_URL",
                &format!("{}/services/T/B/X", slack.url),
            ),
        ],
    );
    // The first is too short for OpenAI, and of no interest to Slack.
    assert_eq!(call(&sandbox, "").await.status, 200);
    assert_eq!(call(&sandbox, "status=500").await.status, 500);
    assert_eq!(call(&sandbox, "delay=120ms").await.status, 200);
    let kept = rows(&database);
    assert_eq!(kept.len(), 3);
    assert!(kept[2].2 >= 120.0, "{kept:?}");

    let sent = openai.seen();
    assert_eq!(header(&sent[0], "openai-organization"), "org-7");
    let traces: Vec<Value> = sent
        .iter()
        .flat_map(reported)
        .map(|span| span["trace_id"].clone())
        .collect();
    let expected = [&kept[1].0, &kept[2].0].map(|id| json!(format!("trace_{id}")));
    assert!(expected.iter().all(|id| traces.contains(id)), "{traces:?}");
    let first = json!(format!("trace_{}", kept[0].0));
    assert!(!traces.contains(&first), "{traces:?}");
    let [told] = &*slack.seen() else {
        panic!("{:?}", slack.seen());
    };
    assert_eq!(told.target, "/services/T/B/X");
    let text = String::from_utf8_lossy(&told.body);
    assert!(
        text.contains("support") && text.contains("gpt-4o"),
        "{text}"
    );
    sandbox.stop().await;
}
