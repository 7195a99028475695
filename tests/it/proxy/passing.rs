//! What passes, passes as it came.

use serde_json::json;

use crate::support::Sandbox;

#[tokio::test]
async fn a_chat_call_is_answered_billed_and_traced() {
    let sandbox = Sandbox::new("budgets: {daily: 5.00}");
    let body = json!({
        "model": "gpt-4o",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "hello"}],
    });
    let answer = sandbox.post("/v1/chat/completions", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let span = sandbox.span(&answer).await;
    assert_eq!(span.field("status"), "ok");
    let spent = sandbox.spent("daily").await;
    let cost = span.get("tollgate.cost.usd").as_str().unwrap();
    assert_eq!(cost, format!("0.{spent:09}"));
    let directory = sandbox.stop().await;
    assert!(directory.path().join("data").is_dir());
}
