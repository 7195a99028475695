//! `tracing.resource_limits` in force: what waits for a dead destination stays within its share.

use serde_json::json;

use crate::{
    pipeline::sink::{Does, Sink},
    support::{Sandbox, sandbox::configuration},
};

#[tokio::test]
async fn a_flood_for_a_dead_destination_stays_within_its_share() {
    const SHARE: i64 = 1 << 20;
    let dead = Sink::start(&[], Does::Hangs).await;
    // Shares for the store, the destination, and the bodies of requests.
    let sandbox = Sandbox::new(&format!(
        "limits: {{peek: 1MiB}}\ntracing:\n  resource_limits: {{max_memory: 3Mi, max_cpu: 100m}}\n  \
         buffering: {{persist_buffer: false}}\n  processors:\n    - {{type: webhook, url: '{}', \
         rate_limit: null}}\n",
        dead.url
    ));
    let bound = |what: &str| sandbox.metric(&format!("tollgate_bound{{what=\"{what}\"}}")) as i64;
    let of = |name: &str| sandbox.metric(&format!("{name}{{processor=\"webhook\"}}")) as i64;
    let body = json!({"model": "gpt-4o", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]});
    let mut calls = 0;
    while of("tollgate_spans_queued_bytes") < SHARE / 10 * 9 && calls < 2_000 {
        sandbox.post("/v1/chat/completions", &body).await;
        calls += 1;
    }
    for _ in 0..100 {
        let answer = sandbox.post("/v1/chat/completions", &body).await;
        assert_eq!(answer.status, 200);
    }
    sandbox.settled().await;
    let waiting = of("tollgate_spans_queued_bytes");
    assert!(
        waiting > SHARE / 2 && waiting <= SHARE,
        "{waiting} after {calls}"
    );
    let dropped = "tollgate_spans_total{outcome=\"dropped\",processor=\"webhook\"}";
    assert!(sandbox.metric(dropped) > 0.0);
    assert_eq!(bound("peeked_bytes"), SHARE);
}

#[tokio::test]
async fn an_edit_divides_anew_what_the_store_and_bodies_may_hold() {
    const MIB: i64 = 1 << 20;
    let files = tempfile::tempdir().unwrap();
    let yaml = |count: usize| {
        let file = format!("{{type: file, directory: '{}'}}", files.path().display());
        let processors = vec![file; count].join(", ");
        format!(
            "limits: {{peek: 1MiB}}\ntracing: {{resource_limits: {{max_memory: 4Mi}}, processors: \
             [{processors}]}}"
        )
    };
    let mut sandbox = Sandbox::new(&yaml(0));
    let bound = |sandbox: &Sandbox| sandbox.metric("tollgate_bound{what=\"peeked_bytes\"}") as i64;
    let waiting = |sandbox: &Sandbox| {
        sandbox.metric("tollgate_spans_queued_bytes{processor=\"store\"}") as i64
    };
    assert_eq!(bound(&sandbox), 2 * MIB);
    // Somebody else has the store to himself.
    let store = rusqlite::Connection::open(sandbox.path("data/spans.db")).unwrap();
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    let body = json!({"model": "gpt-4o", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]});
    for _ in 0..4_000 {
        if waiting(&sandbox) > MIB / 2 * 3 {
            break;
        }
        sandbox.post("/v1/chat/completions", &body).await;
    }
    let before = waiting(&sandbox);
    assert!(before > MIB && before <= 2 * MIB, "{before}");
    let place = sandbox.directory.path().to_owned();
    let config = configuration(&yaml(2), &place, &sandbox.mock.url());
    sandbox.app.reload(config).await.unwrap();
    let after = waiting(&sandbox);
    assert!(after > MIB / 2 && after <= MIB, "{after} of {before}");
    assert_eq!(bound(&sandbox), MIB);
    let dropped = "tollgate_spans_total{outcome=\"dropped\",processor=\"store\"}";
    assert!(sandbox.metric(dropped) > 0.0);
    store.execute_batch("ROLLBACK").unwrap();
}
