//! What Tollgate adds to a call: not what the call is made to wait.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tollgate::mock::Options;

use super::{breakers::Ahead, loops};
use crate::support::{Sandbox, client, sandbox::until};

const CHAT: &str = "/v1/chat/completions";

fn chat() -> Value {
    json!({"model": "gpt-4o", "max_tokens": 50,
        "messages": [{"role": "user", "content": "hello"}]})
}

/// The time added to all calls that were sent, in seconds, and how many they were.
fn overhead(sandbox: &Sandbox) -> (f64, f64) {
    let told = |what: &str| sandbox.metric(&format!("tollgate_overhead_seconds_{what}"));
    (told("sum"), told("count"))
}

#[tokio::test]
async fn waiting_in_line_is_no_overhead() {
    let clock = Ahead::new();
    let yaml = "rate_limits: [{name: one, concurrent: 1, max_wait: 60s}]";
    let sandbox = Sandbox::with(yaml, Options::default(), Arc::<Ahead>::clone(&clock));
    let addr = sandbox.addr();
    let first =
        tokio::spawn(
            async move { client::post(addr, CHAT, &[("x-mock", "hang=head")], &chat()).await },
        );
    until("the first to be sent", || sandbox.mock.count() == 1).await;
    let second = tokio::spawn(async move { client::post(addr, CHAT, &[], &chat()).await });
    until("the second to wait", || {
        sandbox.metric("tollgate_held{what=\"waiting_calls\"}") > 0.5
    })
    .await;
    clock.by(Duration::from_secs(30));
    first.abort();
    assert_eq!(second.await.unwrap().status, 200);
    let (sum, count) = overhead(&sandbox);
    assert!(sum < 1.0 && count > 1.5, "{sum} seconds of {count} calls");
}

#[tokio::test]
async fn what_a_guard_keeps_a_call_waiting_is_no_overhead() {
    let clock = Ahead::new();
    let yaml = "guards: {loops: [{name: tools, slow_by: 2s}]}";
    let sandbox = Sandbox::with(yaml, Options::default(), Arc::<Ahead>::clone(&clock));
    let addr = sandbox.addr();
    let call = tokio::spawn(async move { client::post(addr, CHAT, &[], &loops::again(5)).await });
    until("the call to be slowed", || {
        sandbox.metric("tollgate_guard_actions_total{action=\"slow\"") > 0.5
    })
    .await;
    clock.by(Duration::from_secs(30));
    assert_eq!(call.await.unwrap().status, 200);
    let (sum, count) = overhead(&sandbox);
    assert!(sum < 1.0 && count > 0.5, "{sum} seconds of {count} calls");
}
