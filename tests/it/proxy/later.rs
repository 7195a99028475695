//! Responses that are made later and read by id: billed once, however often they are read.

use http::Method;
use serde_json::json;

use super::{has_time, priced};
use crate::support::{Answer, Sandbox, client};

async fn get(sandbox: &Sandbox, id: &str) -> Answer {
    let target = format!("/v1/responses/{id}");
    client::call(sandbox.addr(), Method::GET, &target, &[], "").await
}

#[tokio::test]
async fn a_background_response_stays_reserved_until_a_poll_shows_its_end() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 5.00}"));
    sandbox
        .mock
        .next_with("polls=2;input=100;output=20")
        .unwrap();
    let body = json!({
        "model": "gpt-4o",
        "input": "hello",
        "background": true,
        "max_output_tokens": 50,
    });
    let answer = sandbox.post("/v1/responses", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let span = sandbox.span(&answer).await;
    assert_eq!(span.outcome(), "ok complete admitted absent -");
    sandbox.settled().await;
    let reserved = sandbox.budget("daily").reserved;
    assert!(reserved > 0, "it is awaited");
    assert_eq!(sandbox.app.holdings().awaited_responses, 1);
    for _ in 0..2 {
        let poll = get(&sandbox, &id).await;
        assert_ne!(poll.json()["status"], "completed");
        sandbox.settled().await;
        assert_eq!(sandbox.budget("daily").reserved, reserved);
        assert_eq!(sandbox.budget("daily").spent, 0);
    }
    let done = get(&sandbox, &id).await;
    assert_eq!(done.json()["status"], "completed");
    let span = sandbox.span(&done).await;
    assert_eq!(span.outcome(), "ok complete admitted reported 0.000450000");
    assert_eq!(sandbox.spent("daily").await, 450_000);
    for _ in 0..3 {
        let again = get(&sandbox, &id).await;
        let span = sandbox.span(&again).await;
        assert_eq!(span.get("tollgate.cost.usd"), "0.000000000");
    }
    assert_eq!(sandbox.spent("daily").await, 450_000);
    assert_eq!(sandbox.app.holdings().awaited_responses, 0);
}

#[tokio::test]
async fn polls_that_cross_each_other_bill_once() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 5.00}"));
    sandbox
        .mock
        .next_with("polls=0;input=100;output=20")
        .unwrap();
    let body = json!({"model": "gpt-4o", "input": "hello", "background": true,
        "max_output_tokens": 50});
    let answer = sandbox.post("/v1/responses", &body).await;
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    sandbox.settled().await;
    let target = format!("/v1/responses/{id}");
    let mut polls = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (addr, target) = (sandbox.addr(), target.clone());
        polls.spawn(async move { client::call(addr, Method::GET, &target, &[], "").await });
    }
    for answer in polls.join_all().await {
        assert_eq!(answer.status, 200);
    }
    assert_eq!(sandbox.spent("daily").await, 450_000);
}

#[tokio::test]
async fn a_stored_response_that_was_billed_is_read_for_nothing() {
    for stream in [false, true] {
        let sandbox = Sandbox::new(&priced("budgets: {daily: 5.00}"));
        sandbox.mock.next_with("input=100;output=20").unwrap();
        let body = json!({"model": "gpt-4o", "input": "hello", "stream": stream,
            "max_output_tokens": 50});
        let answer = sandbox.post("/v1/responses", &body).await;
        let id = if stream {
            answer.data()[0]["response"]["id"].clone()
        } else {
            answer.json()["id"].clone()
        };
        assert_eq!(sandbox.spent("daily").await, 450_000);
        for _ in 0..2 {
            let read = get(&sandbox, id.as_str().unwrap()).await;
            assert_eq!(read.status, 200);
            let span = sandbox.span(&read).await;
            assert_eq!(span.get("tollgate.cost.usd"), "0.000000000");
        }
        assert_eq!(sandbox.spent("daily").await, 450_000);
    }
}

#[tokio::test]
async fn a_response_is_read_even_when_the_budget_is_used_up() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 0.002}"));
    sandbox
        .mock
        .next_with("polls=0;input=100;output=400")
        .unwrap();
    let body = json!({"model": "gpt-4o", "input": "hello", "background": true,
        "max_output_tokens": 50});
    let answer = sandbox.post("/v1/responses", &body).await;
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    sandbox.settled().await;
    // It costs more than was held: charged in full.
    assert_eq!(get(&sandbox, &id).await.status, 200);
    assert_eq!(sandbox.spent("daily").await, 4_250_000);
    assert_eq!(get(&sandbox, &id).await.status, 200);
}

#[tokio::test]
async fn what_finds_no_room_to_be_awaited_is_charged_at_once_and_counted() {
    if !has_time() {
        return;
    }
    let sandbox = Sandbox::new(&priced("budgets: {daily: 50.00}"));
    let body = json!({"model": "gpt-4o", "input": "hello", "background": true,
        "max_output_tokens": 50});
    let over = "tollgate_over_bound_total{what=\"awaited_responses\"}";
    let mut awaited = 0;
    while sandbox.budget("daily").spent == 0 {
        sandbox.mock.next_with("polls=2").unwrap();
        assert_eq!(sandbox.post("/v1/responses", &body).await.status, 200);
        sandbox.settled().await;
        awaited += 1;
    }
    assert_eq!(sandbox.app.holdings().awaited_responses, awaited - 1);
    assert!((sandbox.metric(over) - 1.0).abs() < 0.1);
}
