//! What Prometheus is told of spans: of each processor, every one is accounted for.

use serde_json::json;

use crate::support::{Sandbox, sandbox::until};

const YAML: &str = "
tracing:
  processors:
    - {type: file, directory: HERE/all}
    - {type: file, name: trouble, directory: HERE/trouble, include_successful_traces: false}
    - {type: file, directory: HERE/support, match: {agent: 'support-*'}}
    - {type: file, directory: HERE/none, max_memory_usage: 1kB}
";

#[tokio::test]
async fn of_each_processor_every_span_is_accounted_for() {
    let place = tempfile::tempdir().unwrap();
    let yaml = YAML.replace("HERE", &place.path().display().to_string());
    let sandbox = Sandbox::new(&yaml);
    let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]});
    for agent in ["support-eu", "research", "support-us"] {
        let headers = [("x-tollgate-agent", agent)];
        sandbox
            .post_with("/v1/chat/completions", &headers, &body)
            .await;
    }
    let failed = sandbox.get("/nowhere").await;
    assert_eq!(failed.status, 404);
    let of = |name: &str, processor: &str| {
        sandbox.metric(&format!("{name}{{processor=\"{processor}\"}}")) as i64
    };
    let outcome = |outcome: &str, processor: &str| {
        let labels = format!("outcome=\"{outcome}\",processor=\"{processor}\"");
        sandbox.metric(&format!("tollgate_spans_total{{{labels}}}")) as i64
    };
    until("all spans to be delivered", || {
        outcome("delivered", "store") == of("tollgate_spans_offered_total", "store")
            && of("tollgate_spans_offered_total", "store") >= 3
    })
    .await;
    assert!(sandbox.app.flush().await);
    for processor in ["store", "file", "trouble", "file-2", "file-3"] {
        let outcomes = ["delivered", "failed", "dropped", "filtered", "sampled_out"];
        let ended: i64 = outcomes.iter().map(|it| outcome(it, processor)).sum();
        let waiting = of("tollgate_spans_queued", processor);
        let buffered =
            of("tollgate_spans_buffered", processor) + of("tollgate_spans_held", processor);
        let offered = of("tollgate_spans_offered_total", processor);
        assert_eq!(offered, ended + waiting + buffered, "{processor}");
        assert_eq!(of("tollgate_processor_breaker", processor), 0);
    }
    let offered = of("tollgate_spans_offered_total", "file");
    assert_eq!(outcome("delivered", "file"), offered);
    assert_eq!(of("tollgate_spans_held", "trouble"), 3);
    assert_eq!(outcome("delivered", "file-2"), 2);
    assert_eq!(outcome("dropped", "file-3"), offered);
    sandbox.stop().await;
}
