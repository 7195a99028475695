//! Work that is accepted now and fetched later, over ends of Tollgate, good and bad.

use serde_json::{Value, json};

use super::priced;
use crate::support::{Answer, Sandbox};

fn budgets() -> String {
    priced("budgets: {daily: 5.00, per_user: 5.00}")
}

/// A background response of at most fifty output tokens.
fn background() -> Value {
    json!({"model": "gpt-4o", "input": "hello", "max_output_tokens": 50, "background": true})
}

/// Posts it. Returns where its answer will be, once what it holds is all that its budgets hold.
async fn accept(sandbox: &Sandbox) -> String {
    let user = [("x-tollgate-user", "42")];
    let accepted = sandbox
        .post_with("/v1/responses", &user, &background())
        .await;
    assert_eq!(accepted.status, 200, "{accepted:?}");
    sandbox.settled().await;
    let id = accepted.json()["id"].as_str().unwrap().to_owned();
    format!("/v1/responses/{id}")
}

/// (spent, reserved) in nano-dollars of both budgets, which must agree.
async fn stands(sandbox: &Sandbox) -> (i64, i64) {
    sandbox.settled().await;
    let daily = sandbox.budget("daily");
    let user = sandbox.budget("per_user");
    let stands = (daily.spent, daily.reserved);
    assert_eq!((user.spent, user.reserved), stands);
    stands
}

fn status(answer: &Answer) -> String {
    answer.json()["status"].as_str().unwrap().to_owned()
}

/// What the answer costs.
fn bill(answer: &Answer) -> i64 {
    let usage = &answer.json()["usage"];
    let tokens = |name| usage[name].as_i64().unwrap();
    tokens("input_tokens") * 2_500 + tokens("output_tokens") * 10_000
}

#[tokio::test]
async fn what_is_accepted_for_later_stays_reserved_over_a_stop_and_is_billed_once() {
    let sandbox = Sandbox::new(&budgets());
    let path = accept(&sandbox).await;
    let (spent, held) = stands(&sandbox).await;
    assert!(spent == 0 && held > 0, "{spent} {held}");

    let sandbox = sandbox.restarted(&budgets()).await;
    assert_eq!(stands(&sandbox).await, (0, held));
    assert_eq!(status(&sandbox.get(&path).await), "in_progress");
    assert_eq!(stands(&sandbox).await, (0, held));

    let sandbox = sandbox.restarted(&budgets()).await;
    assert_eq!(stands(&sandbox).await, (0, held));
    let done = sandbox.get(&path).await;
    assert_eq!(status(&done), "completed");
    let bill = bill(&done);
    assert!(0 < bill && bill < held, "{bill} of {held}");
    assert_eq!(stands(&sandbox).await, (bill, 0));
    sandbox.get(&path).await;
    assert_eq!(stands(&sandbox).await, (bill, 0));

    let sandbox = sandbox.restarted(&budgets()).await;
    let again = sandbox.get(&path).await;
    assert_eq!(status(&again), "completed");
    assert_eq!(
        sandbox.span(&again).await.get("tollgate.cost.usd"),
        "0.000000000"
    );
    assert_eq!(sandbox.spent("daily").await, bill);
}

#[tokio::test]
async fn what_is_accepted_for_later_stays_reserved_when_tollgate_is_killed() {
    let sandbox = Sandbox::new(&budgets());
    let path = accept(&sandbox).await;
    let (_, held) = stands(&sandbox).await;

    let sandbox = sandbox.killed(&budgets()).await;
    assert_eq!(stands(&sandbox).await, (0, held));
    assert_eq!(status(&sandbox.get(&path).await), "in_progress");
    let sandbox = sandbox.killed(&budgets()).await;
    assert_eq!(stands(&sandbox).await, (0, held));
    let done = sandbox.get(&path).await;
    let bill = bill(&done);
    assert_eq!(stands(&sandbox).await, (bill, 0));

    // It is in the journal with the next call that is admitted.
    let next = accept(&sandbox).await;
    let sandbox = sandbox.killed(&budgets()).await;
    assert_eq!(stands(&sandbox).await, (bill, held));
    sandbox.get(&path).await;
    assert_eq!(stands(&sandbox).await, (bill, held));
    sandbox.get(&next).await;
    sandbox.get(&next).await;
    assert_eq!(stands(&sandbox).await, (2 * bill, 0));
}

#[tokio::test]
async fn an_answer_that_came_at_once_is_not_billed_again_when_it_is_fetched_after_a_restart() {
    let sandbox = Sandbox::new(&budgets());
    let body = json!({"model": "gpt-4o", "input": "hello", "max_output_tokens": 50});
    let answer = sandbox.post("/v1/responses", &body).await;
    let bill = bill(&answer);
    assert_eq!(sandbox.spent("daily").await, bill);
    let path = format!("/v1/responses/{}", answer.json()["id"].as_str().unwrap());
    let sandbox = sandbox.restarted(&budgets()).await;
    assert_eq!(status(&sandbox.get(&path).await), "completed");
    assert_eq!(sandbox.spent("daily").await, bill);
}

#[tokio::test]
async fn a_bill_whose_rule_is_gone_by_then_is_entered_all_the_same() {
    let sandbox = Sandbox::new(&budgets());
    let path = accept(&sandbox).await;
    let sandbox = sandbox.restarted(&priced("budgets: {monthly: 5.00}")).await;
    assert_eq!(status(&sandbox.get(&path).await), "in_progress");
    let done = sandbox.get(&path).await;
    assert_eq!(status(&done), "completed");
    // The rule that did not admit it is not billed for it.
    assert_eq!(sandbox.spent("monthly").await, 0);
    let sandbox = sandbox.restarted(&budgets()).await;
    sandbox.get(&path).await;
    assert_eq!(sandbox.spent("daily").await, bill(&done));
}
