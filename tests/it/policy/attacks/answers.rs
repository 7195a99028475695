//! What comes back: usage that is missing, negative, absurd or changes its mind; a client that leaves.
//! Elsewhere a hang-up was a free call (litellm#14457, #13245), a stream without usage cost nothing
//! (envoyproxy/ai-gateway), an unpriced model voided every cap (litellm#36561).

use tollgate::mock::Exact;

use super::*;
use crate::support::{Line, sandbox::until};

fn with_usage(usage: &str) -> Exact {
    let body = format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4o","choices":[{{"index":0,
            "finish_reason":"stop","message":{{"role":"assistant","content":"{}"}}}}]{usage}}}"#,
        "word ".repeat(40)
    );
    Exact::new(200, "application/json", body)
}

/// Two hundred bytes of text: at the very least the tokens that they are.
const LEAST: i64 = 20 * OUTPUT;

#[tokio::test]
async fn usage_that_is_missing_or_absurd_gives_nothing_back_and_costs_something() {
    for usage in [
        "",
        r#","usage":null"#,
        r#","usage":{}"#,
        r#","usage":[]"#,
        r#","usage":"none""#,
        r#","usage":{"prompt_tokens":-1000000,"completion_tokens":-1000000}"#,
        r#","usage":{"prompt_tokens":"0","completion_tokens":"0"}"#,
        r#","usage":{"prompt_tokens":null,"completion_tokens":null}"#,
        r#","usage":{"prompt_tokens":0.5,"completion_tokens":-0.5}"#,
        r#","usage":{"completion_tokens":1e400}"#,
    ] {
        let sandbox = Sandbox::new(&priced("budgets: {daily: 5.00}"));
        sandbox.mock.next_exact(with_usage(usage));
        let answer = sandbox.post(CHAT, &chat()).await;
        assert_eq!(answer.status, 200, "{usage}");
        let spent = sandbox.spent("daily").await;
        assert!(spent >= LEAST, "{usage}: {spent}");
    }
}

#[tokio::test]
async fn usage_beyond_all_bounds_ends_the_budget_and_nothing_else() {
    for usage in [
        r#","usage":{"prompt_tokens":18446744073709551615,"completion_tokens":18446744073709551615}"#,
        r#","usage":{"prompt_tokens":10,"completion_tokens":999999999999999}"#,
        r#","usage":{"prompt_tokens":10,"completion_tokens":10,
            "prompt_tokens_details":{"cached_tokens":18446744073709551615}}"#,
    ] {
        let sandbox = Sandbox::new(&priced("budgets: {daily: 0.10, max_wait: 0s}"));
        sandbox.mock.next_exact(with_usage(usage));
        assert_eq!(sandbox.post(CHAT, &chat()).await.status, 200, "{usage}");
        let spent = sandbox.spent("daily").await;
        assert!(spent > 0, "{usage}: {spent}");
        let again = sandbox.post(CHAT, &chat()).await;
        let is_absurd = usage.contains("999") || usage.contains("prompt_tokens\":18");
        assert_eq!(is_refused(&again), is_absurd, "{usage}: {again:?}");
    }
}

#[tokio::test]
async fn a_stream_that_never_tells_its_usage_is_counted_by_what_was_read() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 0.05, max_wait: 0s}"));
    let headers = [("x-mock", "usage=none;events=50;event-size=40")];
    let body = chat_with(json!({"stream": true, "max_tokens": 600}));
    let mut calls = 0;
    while !is_refused(&sandbox.post_with(CHAT, &headers, &body).await) {
        sandbox.settled().await;
        calls += 1;
        assert!(calls < 40, "never refused");
    }
    let spent = sandbox.spent("daily").await;
    // Each of them had two thousand bytes: five hundred tokens at the mock.
    assert!(
        spent >= calls * 500 * OUTPUT && spent <= 50_000_000,
        "{calls}: {spent}"
    );
}

#[tokio::test]
async fn clients_that_leave_at_the_first_byte_run_out_of_money_as_well() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 0.01, max_wait: 0s}"));
    let body = chat_with(json!({"stream": true, "max_tokens": 500})).to_string();
    let (length, mut calls) = (body.len(), 0);
    loop {
        let mut line = Line::connect(sandbox.addr()).await;
        line.send(format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\nx-mock: events=200;event-size=40;gap=2ms\r\n\
             content-length: {length}\r\n\r\n{body}"
        ))
        .await;
        let head = line.head().await;
        if head.status() == 429 {
            break;
        }
        line.more().await;
        drop(line);
        sandbox.settled().await;
        calls += 1;
        assert!(calls < 60, "never refused: {:?}", sandbox.budget("daily"));
    }
    let spent = sandbox.spent("daily").await;
    assert!(
        calls > 0 && spent > 0 && spent <= 10_000_000,
        "{calls}: {spent}"
    );
}

#[tokio::test]
async fn each_attempt_of_a_client_that_tries_again_is_counted() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 5.00}"));
    for attempt in 0..4 {
        let count = attempt.to_string();
        let headers = [
            ("x-mock", TAKEN),
            ("idempotency-key", "one"),
            ("x-stainless-retry-count", count.as_str()),
        ];
        assert_eq!(sandbox.post_with(CHAT, &headers, &chat()).await.status, 200);
    }
    assert_eq!(sandbox.spent("daily").await, 4 * COST);
}

#[tokio::test]
async fn what_is_never_fetched_stays_reserved_until_there_is_no_room() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 0.05, max_wait: 0s}"));
    let body = json!({"model": "gpt-4o", "input": "hello", "background": true,
        "max_output_tokens": 1000});
    let mut calls = 0;
    while !is_refused(&sandbox.post("/v1/responses", &body).await) {
        calls += 1;
        assert!(calls < 10, "never refused");
    }
    assert_eq!(calls, 4, "each may cost a cent and its input");
    until("nothing under way", || {
        sandbox.app.holdings().in_flight == 0
    })
    .await;
    let budget = sandbox.budget("daily");
    assert!(
        budget.reserved > 4 * 10_000_000 && budget.reserved <= budget.limit,
        "{budget:?}"
    );
}

/// Unknown is not free; and what is known to be free is still a request.
#[tokio::test]
async fn a_model_without_a_price_is_refused_and_a_free_one_counts_as_a_request() {
    let sandbox = Sandbox::new(&priced(
        "budgets: {max_wait: 0s, daily: 5.00, rules: [\
         {name: few, window: day, limit: {requests: 3}}]}",
    ));
    for model in [
        "no-such-model",
        "",
        "gpt-4o ",
        "ft:unknown:org",
        "../gpt-4o",
        "*",
    ] {
        let answer = sandbox
            .post(CHAT, &chat_with(json!({"model": model})))
            .await;
        assert_eq!(
            answer.header("x-tollgate-blocked-by"),
            "model.unknown_price",
            "{model}"
        );
    }
    assert_eq!(sandbox.mock.count(), 0);
    let free = json!({"model": "llama3.2", "stream": false,
        "messages": [{"role": "user", "content": "hello"}]});
    for _ in 0..3 {
        assert_eq!(sandbox.post("/ollama/api/chat", &free).await.status, 200);
        sandbox.settled().await;
    }
    let answer = sandbox.post("/ollama/api/chat", &free).await;
    assert_eq!(answer.header("x-tollgate-blocked-by"), "budget.few");
    assert_eq!(sandbox.spent("daily").await, 0);
}

/// An alias, a router, a fallback: the answer names the model that was used, and that one is paid.
#[tokio::test]
async fn an_answer_of_a_dearer_model_is_billed_as_that() {
    let yaml = "pricing: {cheap: {input: 0.01, output: 0.01}, gpt-4o: {input: 2.50, output: 10.00}}\n\
                budgets: {daily: 5.00}";
    let sandbox = Sandbox::new(yaml);
    let usage = r#","usage":{"prompt_tokens":1000,"completion_tokens":200}"#;
    sandbox.mock.next_exact(with_usage(usage));
    let answer = sandbox
        .post(CHAT, &chat_with(json!({"model": "cheap"})))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(sandbox.spent("daily").await, COST);
}
