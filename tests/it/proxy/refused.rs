//! What the log says of refused calls.

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate::mock::{Mock, Options};

use super::process::{Process, upstream};
use crate::support::client;

#[tokio::test]
async fn a_storm_of_refusals_is_one_line_with_who_and_why_and_then_a_count() {
    const CALLS: usize = 50;
    let mock = Mock::start(Options::default()).unwrap();
    let directory = TempDir::new().unwrap();
    let rules = "rate_limits: [{name: slow, requests_per_minute: 1}]\n\
         guards: {models: {deny: o1}}\n";
    let mut program = Process::start(
        directory.path(),
        &format!("{}{rules}", upstream(&mock.url())),
    );
    let ask = async |model: &str| {
        let body = json!({"model": model, "max_tokens": 5,
            "messages": [{"role": "user", "content": "my-prompt"}]});
        let headers = [
            ("authorization", "Bearer sk-secret"),
            ("x-tollgate-agent", "crawler"),
            ("x-tollgate-session", "s-1"),
        ];
        let target = "/v1/chat/completions?key=sk-secret";
        client::post(program.addr, target, &headers, &body).await
    };
    assert_eq!(ask("gpt-4o").await.status, 200);
    let first = ask("gpt-4o").await;
    for _ in 1..CALLS {
        assert_eq!(ask("gpt-4o").await.status, 429);
    }
    assert_eq!(ask("o1").await.status, 403);
    program.signal("TERM");
    assert_eq!(program.ended().await, Some(0));

    let log = std::fs::read_to_string(directory.path().join("log")).unwrap();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines: Vec<Value> = lines.filter(|line| line["by"].is_string()).collect();
    let told = |by: &str| -> Vec<&Value> { lines.iter().filter(|line| line["by"] == by).collect() };
    let [line, count] = told("rate.slow")[..] else {
        panic!("{log}");
    };
    assert_eq!(line["message"], "A call was refused");
    assert_eq!(line["request_id"], first.header("x-tollgate-request-id"));
    assert_eq!(
        (&line["agent"], &line["session"]),
        (&json!("crawler"), &json!("s-1"))
    );
    assert_eq!(count["count"], CALLS - 1, "{log}");
    assert_eq!(told("model.denied").len(), 1, "{log}");
    for hidden in ["sk-secret", "my-prompt"] {
        assert!(!log.contains(hidden), "{log}");
    }
}
