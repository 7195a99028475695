//! The examples of RAAF's tracing guide, each run as it is written, with receivers on loopback.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tollgate::config::{self, Sources};

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

/// Trace, span and duration of each call in the guide's table.
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
    assert_eq!(sent[0].headers.get("openai-project"), None);
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

#[tokio::test]
async fn one_dead_destination_of_three_loses_nothing() {
    let datadog = Sink::start(&[], TAKES).await;
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    let variables = [
        ("OPENAI_API_KEY", "sk-traces".to_owned()),
        ("OPENAI_TRACES_URL", "http://127.0.0.1:1/".to_owned()),
        ("DATADOG_API_KEY", "dd-hush".to_owned()),
        ("DATADOG_URL", datadog.url.clone()),
        ("DATABASE_URL", format!("sqlite://{}", at("traces.db"))),
        ("TRACE_BUFFER", at("buffer")),
    ];
    let variables = variables
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let sandbox = Sandbox::with_variables(&example("high-availability.yaml"), &variables);
    assert_eq!(call(&sandbox, "").await.status, 200);
    assert_eq!(rows(&place.path().join("traces.db")).len(), 1);
    assert_eq!(datadog.seen().len(), 1);
    let of = |outcome: &str| {
        sandbox.metric(&format!(
            "tollgate_spans_total{{outcome=\"{outcome}\",processor=\"openai\"}}"
        )) as i64
    };
    assert_eq!(of("dropped") + of("failed"), 0);
    sandbox.stop().await;
    // What OpenAI could not take waits for the next start.
    let waiting = fs::read_dir(place.path().join("buffer/openai")).unwrap();
    let bytes: u64 = waiting
        .map(|it| it.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes > 0);
}

/// The configuration within the `ConfigMap`.
fn configmap() -> String {
    let manifest: Value = serde_saphyr::from_str(&example("kubernetes-configmap.yaml")).unwrap();
    assert_eq!(manifest["apiVersion"], "v1");
    assert_eq!(manifest["kind"], "ConfigMap");
    assert_eq!(manifest["metadata"]["name"], "raaf-tracing-config");
    manifest["data"]["config.yaml"].as_str().unwrap().to_owned()
}

#[test]
fn the_configmap_is_a_configuration_as_it_stands() {
    let loaded = config::parse("config.yaml", &configmap(), &Sources::SYSTEM).unwrap();
    assert_eq!(loaded.warnings, []);
    let tracing = loaded.config.tracing;
    assert_eq!(&*tracing.service_name, "raaf-agents");
    assert_eq!(tracing.environment.as_deref(), Some("production"));
    assert_eq!(tracing.processors.len(), 3);
    // 256 MiB for three queues, the store's, and the bodies of requests.
    assert_eq!(tracing.share.unwrap().as_u64(), (256 << 20) / 5);
    assert_eq!(tracing.resource_limits.workers(8), 1);
}

#[tokio::test]
async fn the_configmap_runs_with_its_secret_in_a_file() {
    let (openai, jaeger) = (Sink::start(&[], TAKES).await, Sink::start(&[], TAKES).await);
    let gateway = Sink::start(&[], TAKES).await;
    let secrets = tempfile::tempdir().unwrap();
    fs::write(secrets.path().join("openai-api-key"), "sk-mounted\n").unwrap();
    // Other addresses, and nothing else.
    let text = configmap()
        .replace(
            "tracing:\n",
            &format!("tracing:\n  secrets_dir: '{}'\n", secrets.path().display()),
        )
        .replace(
            "batch_size: 100",
            &format!("batch_size: 100\n      endpoint: '{}'", openai.url),
        )
        .replace("http://jaeger-collector:14268", &jaeger.url)
        .replace("http://prometheus-pushgateway:9091", &gateway.url);
    let sandbox = Sandbox::with_variables(&text, &[]);
    // A failed call is kept however few traces are.
    assert_eq!(call(&sandbox, "status=500").await.status, 500);
    let [sent] = &*openai.seen() else {
        panic!("{:?}", openai.seen());
    };
    assert_eq!(header(sent, "authorization"), "Bearer sk-mounted");
    let [spans] = &*jaeger.seen() else {
        panic!("{:?}", jaeger.seen());
    };
    assert_eq!(spans.target, "/api/traces");
    assert!(header(spans, "content-type").contains("thrift"));
    sandbox.stop().await;
    let pushed = gateway.seen();
    assert_eq!(pushed[0].method, "PUT");
    assert!(
        pushed[0].target.starts_with("/metrics/job/raaf-agents"),
        "{}",
        pushed[0].target
    );
    assert!(String::from_utf8_lossy(&pushed[0].body).contains("tollgate_requests_total"));
    assert_eq!(pushed.last().unwrap().method, "DELETE");
}
