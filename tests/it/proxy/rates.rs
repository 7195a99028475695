//! What a client is told of a rate limit that refused it, in the words of its provider.

use std::time::Duration;

use tollgate::base::clock::{Clock as _, SystemClock};

use crate::support::Sandbox;

#[tokio::test]
async fn a_rate_refusal_tells_how_the_limit_stands_and_when_to_come_back() {
    let sandbox = Sandbox::new("rate_limits: [{name: slow, requests_per_minute: 1}]");
    let body = super::chat();
    let answer = sandbox.post("/v1/chat/completions", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");

    let refused = sandbox.post("/v1/chat/completions", &body).await;
    assert_eq!(refused.status, 429, "{refused:?}");
    assert_eq!(refused.header("x-tollgate-blocked-by"), "rate.slow");
    assert_eq!(refused.header("x-should-retry"), "");
    assert_eq!(refused.header("x-ratelimit-limit-requests"), "1");
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), "0");
    let millis: u64 = refused.header("retry-after-ms").parse().unwrap();
    assert!((45_000..=60_000).contains(&millis), "{millis}");
    let reset = refused.header("x-ratelimit-reset-requests");
    let seconds = reset.strip_suffix('s').unwrap().replace("1m0", "60");
    let told: f64 = seconds.parse().unwrap();
    assert_eq!(
        Duration::from_secs_f64(told).as_millis(),
        u128::from(millis)
    );

    let refused = sandbox.post("/v1/messages", &body).await;
    assert_eq!(refused.status, 429, "{refused:?}");
    assert_eq!(refused.header("anthropic-ratelimit-requests-limit"), "1");
    assert_eq!(
        refused.header("anthropic-ratelimit-requests-remaining"),
        "0"
    );
    let reset = refused.header("anthropic-ratelimit-requests-reset");
    // Times in one format sort as texts do.
    let seconds = |seconds| (SystemClock.wall() + Duration::from_secs(seconds)).to_string();
    assert!(*seconds(45) < *reset && *reset <= *seconds(60), "{reset}");
    assert_eq!(refused.header("x-ratelimit-limit-requests"), "");
}

#[tokio::test]
async fn a_call_that_passes_is_told_how_the_limits_stand_unless_its_provider_tells() {
    let sandbox = Sandbox::new(
        "rate_limits: [{name: r, match: {model: 'g*'}, requests_per_minute: 10, \
         input_tokens_per_minute: 90000}]",
    );
    let body = super::chat();
    let answer = sandbox.post("/v1/chat/completions", &body).await;
    assert_eq!(answer.status, 200);
    let left = answer.header("x-ratelimit-remaining-input-tokens");
    let left: u64 = left.parse().unwrap();
    assert!((80_000..90_000).contains(&left), "{left}");
    // The provider's own are as they came.
    assert_eq!(answer.header("x-ratelimit-limit-requests"), "10000");
    assert_eq!(answer.header("x-ratelimit-reset-requests"), "6ms");
    let answer = sandbox.post("/v1/messages", &body).await;
    assert_eq!(answer.header("anthropic-ratelimit-requests-limit"), "4000");
    let limit = answer.header("anthropic-ratelimit-input-tokens-limit");
    assert_eq!(limit, "90000");

    // One that says nothing of its limits.
    let path = |model| format!("/v1beta/models/{model}:generateContent");
    let body = serde_json::json!({"contents": [{"parts": [{"text": "hello"}]}]});
    let answer = sandbox.post(&path("gemini-2.5-flash"), &body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-ratelimit-limit-requests"), "10");
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), "7");
    let reset = answer.header("x-ratelimit-reset-requests");
    let seconds: f64 = reset.trim_end_matches('s').parse().unwrap();
    assert!(12.0 < seconds && seconds <= 18.0, "{reset}");
    // No rule of ours, no word of ours.
    let answer = sandbox.post(&path("other"), &body).await;
    assert_eq!(answer.header("x-ratelimit-limit-requests"), "");
}
