//! Storms of retries.

use std::sync::Arc;

use serde_json::{Value, json};
use tollgate::{base::clock::SystemClock, mock::Options};

use crate::support::{Answer, Sandbox};

const CHAT: &str = "/v1/chat/completions";
const STORM: &str = "guards: {retry_storm: {minimum: 4, pause: 60s}}";

fn chat(text: &str) -> Value {
    json!({"model": "gpt-4o", "messages": [{"role": "user", "content": text}]})
}

async fn ask(sandbox: &Sandbox, text: &str, settings: &str) -> Answer {
    let headers = [("x-mock", settings)];
    sandbox.post_with(CHAT, &headers, &chat(text)).await
}

fn is_held_back(answer: &Answer) -> bool {
    let held = answer.header("x-tollgate-blocked-by") == "breaker.retry-storm";
    assert!(!held || answer.status == 503, "{answer:?}");
    held
}

#[tokio::test]
async fn retries_that_outnumber_first_attempts_wait_while_first_attempts_pass() {
    let sandbox = Sandbox::new(STORM);
    // One first attempt, and its retries: the fourth is too many.
    let mut last = ask(&sandbox, "a", "status=500").await;
    for _ in 0..3 {
        assert!(!is_held_back(&last));
        last = ask(&sandbox, "a", "status=500").await;
    }
    let refused = ask(&sandbox, "a", "status=500").await;
    assert!(is_held_back(&refused));
    assert_eq!(refused.header("retry-after"), "60");
    let span = sandbox.span(&refused).await;
    let said = span.get("tollgate.guards").to_string();
    assert!(
        said.contains("breaker.retry-storm: alert: retries for provider=openai"),
        "{said}"
    );
    // Another call passes, whatever becomes of it; its retry waits, for another time.
    assert!(!is_held_back(&ask(&sandbox, "b", "status=500").await));
    let again = ask(&sandbox, "b", "").await;
    assert!(is_held_back(&again));
    let seconds: u64 = again.header("retry-after").parse().unwrap();
    assert!((58..=120).contains(&seconds), "{seconds}");
    let messages = json!({"model": "c", "max_tokens": 9,
        "messages": [{"role": "user", "content": "c"}]});
    let retry = [("x-stainless-retry-count", "1")];
    let other = sandbox.post_with("/v1/messages", &retry, &messages).await;
    assert_eq!(other.status, 200, "another provider's storm is its own");
    assert_eq!(sandbox.mock.count(), 6);
}

#[tokio::test]
async fn what_tollgate_refuses_itself_makes_no_storm_and_opens_no_breaker() {
    let sandbox = Sandbox::with(
        "guards: {retry_storm: {minimum: 4}, breakers: [{name: p, errors: 0.1, minimum: 2}]}\n\
         rate_limits: [{name: one, match: {model: gpt-4o}, requests_per_minute: 1}]",
        Options::default(),
        Arc::new(SystemClock),
    );
    let by = |answer: Answer| answer.header("x-tollgate-blocked-by").to_owned();
    assert_eq!(by(ask(&sandbox, "a", "").await), "");
    for _ in 0..8 {
        assert_eq!(by(ask(&sandbox, "b", "").await), "rate.one");
    }
    assert_eq!(sandbox.mock.count(), 1);
}

#[tokio::test]
async fn one_call_has_only_so_many_attempts() {
    let sandbox = Sandbox::new("guards: {retry_storm: {attempts: 2, pause: 3s}}");
    for (held, wait) in [
        (false, ""),
        (false, ""),
        (true, "3"),
        (true, "6"),
        (true, "12"),
    ] {
        let answer = ask(&sandbox, "a", "status=500").await;
        assert_eq!(is_held_back(&answer), held);
        if held {
            assert_eq!(answer.header("retry-after"), wait);
            assert!(answer.text().contains("of one call"), "{}", answer.text());
        }
    }
    assert!(!is_held_back(&ask(&sandbox, "b", "").await));
    assert_eq!(sandbox.mock.count(), 3);
}
