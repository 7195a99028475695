//! Limits by who pays and by what is asked for, over HTTP.

use super::{
    chat,
    keys::{FLASH, gemini},
    priced,
};
use crate::support::{Sandbox, client};

const PATH: &str = "/v1/chat/completions";

#[tokio::test]
async fn each_credential_has_a_budget_of_its_own_and_is_named_by_a_hash_alone() {
    let sandbox = Sandbox::new(&priced(
        "budgets: {rules: [{name: r, per: [key], window: day, limit: {requests: 1}}]}",
    ));
    let call = async |credential: &str| {
        let headers = [("authorization", credential)];
        client::post(sandbox.addr(), PATH, &headers, &chat()).await
    };
    assert_eq!(call("Bearer sk-one-secret").await.status, 200);
    let refused = call("Bearer sk-one-secret").await;
    assert_eq!(refused.status, 429);
    let text = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(text.contains("key=sha256:"), "{text}");
    assert!(!text.contains("sk-one-secret"), "{text}");
    assert_eq!(call("Bearer sk-another").await.status, 200);
}

#[tokio::test]
async fn who_spends_with_a_key_of_tollgate_s_cannot_choose_what_it_counts_for() {
    let sandbox = Sandbox::new(&priced(
        "identity: {trusted: [127.0.0.0/8]}\nproviders: {openai: {api_key: sk-ours}}\n\
         budgets: {rules: [{name: r, per: [key], window: day, limit: {requests: 1}}]}",
    ));
    for (header, value, status) in [
        ("authorization", "Bearer sk-made-up", 200),
        ("authorization", "Bearer sk-made-up-too", 429),
        ("x-api-key", "sk-made-up", 429),
        ("accept", "*/*", 429),
    ] {
        let answer = client::post(sandbox.addr(), PATH, &[(header, value)], &chat()).await;
        assert_eq!(answer.status, status, "{header}: {value}");
    }
}

#[tokio::test]
async fn only_what_the_provider_takes_for_a_key_tells_callers_apart() {
    let rule = "budgets: {rules: [{name: r, per: [key], window: day, limit: {requests: 1}}]}";
    for (target, body, real) in [
        (PATH, chat(), ("authorization", "Bearer sk-real")),
        (FLASH, gemini(), ("x-goog-api-key", "AIza-real")),
    ] {
        let sandbox = Sandbox::new(&priced(rule));
        for (made_up, status) in [("1", 200), ("2", 429)] {
            let headers = [("x-api-key", made_up), ("api-key", made_up), real];
            let answer = client::post(sandbox.addr(), target, &headers, &body).await;
            assert_eq!(answer.status, status, "{target} {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_rule_counts_one_route_and_leaves_the_others_alone() {
    let sandbox = Sandbox::new(&priced(
        "budgets: {rules: [{name: r, match: {route: chat}, window: day, limit: {requests: 1}}]}",
    ));
    assert_eq!(sandbox.post(PATH, &chat()).await.status, 200);
    assert_eq!(sandbox.post(PATH, &chat()).await.status, 429);
    let other = serde_json::json!({"model": "gpt-4o", "input": "hi", "max_output_tokens": 10});
    let answer = sandbox.post("/v1/responses", &other).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_model_s_name_is_cut_and_a_counter_s_is_short_however_long_the_path_is() {
    let sandbox = Sandbox::new(
        "budgets: {rules: [{name: r, per: [model], window: day, limit: {requests: 1}}]}",
    );
    let body = serde_json::json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]});
    let call = async |length: usize| {
        let model = "m".repeat(length);
        let path = format!("/gemini/v1beta/models/{model}:generateContent");
        sandbox.post(&path, &body).await
    };
    for length in [200, 400, 8_000] {
        let answer = call(length).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let span = sandbox.span(&answer).await;
        let model = span.get("gen_ai.request.model").as_str().unwrap();
        assert_eq!(model.len(), length.min(512));
        let refused = call(length).await;
        assert_eq!(refused.status, 429, "{refused:?}");
        let text = refused.text();
        assert!(text.contains("model=sha256:"), "{text}");
        assert!(!text.contains("mmm"), "{text}");
    }
}

#[tokio::test]
async fn tokens_from_the_cache_cost_no_rate_that_leaves_them_out() {
    let sandbox = Sandbox::new(
        "rate_limits: [{name: r, input_tokens_per_minute: 1945, count: {cache_read: false}}]",
    );
    let call = async |usage: &str| {
        let headers = [("x-mock", usage)];
        client::post(sandbox.addr(), PATH, &headers, &chat()).await
    };
    // Without its cached part each leaves 10 behind.
    for _ in 0..3 {
        assert_eq!(call("input=1910;cached=1900;output=1").await.status, 200);
    }
    assert_eq!(call("input=1910;output=1").await.status, 200);
    let refused = call("input=1910;output=1").await;
    assert_eq!(refused.status, 429, "{refused:?}");
}
