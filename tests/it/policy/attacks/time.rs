//! Clocks and windows: counters that were cleared early or late (litellm#29576, #36941), and what
//! is spent at the edge of two windows.

use std::{sync::Arc, time::Duration};

use tollgate::{
    base::clock::{TestClock, Timestamp},
    mock::Options,
};

use super::*;

/// 2026-11-26T00:00:00Z.
const MIDNIGHT: Timestamp = Timestamp::from_secs(1_795_651_200);

fn at(yaml: &str, now: Timestamp) -> (Sandbox, Arc<TestClock>) {
    let clock = Arc::new(TestClock::at(now));
    let sandbox = Sandbox::with(
        &priced(yaml),
        Options::default(),
        Arc::<TestClock>::clone(&clock),
    );
    (sandbox, clock)
}

/// Calls of a hundred tokens until one is refused: what they spent.
async fn drain(sandbox: &Sandbox) -> i64 {
    let headers = [("x-mock", "input=0;output=100")];
    let mut calls = 0;
    while !is_refused(&sandbox.post_with(CHAT, &headers, &chat()).await) {
        sandbox.settled().await;
        calls += 1;
        assert!(calls < 30, "never refused");
    }
    calls * 100 * OUTPUT
}

const DAILY: &str = "budgets: {daily: 0.0035, max_wait: 0s}";

#[tokio::test]
async fn a_clock_that_steps_gives_no_second_budget_for_one_day() {
    let (sandbox, clock) = at(DAILY, MIDNIGHT - Duration::from_hours(1));
    assert_eq!(drain(&sandbox).await, 3_000_000);
    clock.set(MIDNIGHT + Duration::from_hours(1));
    assert_eq!(drain(&sandbox).await, 3_000_000, "another day");
    for hours in [1, 23, 2, 12] {
        clock.set(MIDNIGHT - Duration::from_hours(hours));
        assert_eq!(drain(&sandbox).await, 0, "{hours} hours before midnight");
        clock.set(MIDNIGHT + Duration::from_hours(hours));
        assert_eq!(drain(&sandbox).await, 0, "{hours} hours after midnight");
    }
}

#[tokio::test]
async fn a_call_over_midnight_belongs_to_the_day_before_and_the_new_one_is_not_touched() {
    let (sandbox, clock) = at(DAILY, MIDNIGHT - Duration::from_millis(1));
    sandbox
        .mock
        .next_with("input=0;output=100;delay=150ms")
        .unwrap();
    let addr = sandbox.addr();
    let call = tokio::spawn(async move {
        let headers = [("content-type", "application/json")];
        client::call(addr, Method::POST, CHAT, &headers, chat().to_string()).await
    });
    sandbox.mock.until(|all| all.len() == 1).await;
    clock.set(MIDNIGHT);
    assert_eq!(call.await.unwrap().status, 200);
    assert_eq!(sandbox.spent("daily").await, 0, "nothing of the new day");
    assert_eq!(drain(&sandbox).await, 3_000_000);
    clock.set(MIDNIGHT - Duration::from_millis(1));
    assert_eq!(
        drain(&sandbox).await,
        2_000_000,
        "what was left of the old one"
    );
}

/// A fixed window lets twice its limit pass around its edge; a rolling one never does.
#[tokio::test]
async fn around_no_instant_does_a_rolling_window_let_twice_its_limit_pass() {
    let rolling = "budgets: {max_wait: 0s, rules: [\
                   {name: hour, window: 1h, limit: {usd: 0.0035}}]}";
    let (sandbox, clock) = at(rolling, MIDNIGHT - Duration::from_secs(1));
    assert_eq!(drain(&sandbox).await, 3_000_000);
    for minutes in [0, 1, 30, 58] {
        clock.set(MIDNIGHT + Duration::from_mins(minutes));
        assert_eq!(drain(&sandbox).await, 0, "after {minutes} minutes");
    }
    clock.set(MIDNIGHT + Duration::from_mins(61));
    assert_eq!(drain(&sandbox).await, 3_000_000);
}

/// Money first: who is refused by one limit has used nothing of another (litellm#39309).
#[tokio::test]
async fn calls_that_are_refused_use_up_nothing() {
    let sandbox = Sandbox::new(&priced(
        "budgets: {max_wait: 0s, rules: [\
         {name: all, window: day, limit: {usd: 5, requests: 3, tokens: 100000}},\
         {name: big, match: {agent: big}, window: day, limit: {usd: 0.000001}}]}",
    ));
    let headers = [("x-tollgate-agent", "big")];
    for _ in 0..20 {
        let answer = sandbox.post_with(CHAT, &headers, &chat()).await;
        assert_eq!(answer.header("x-tollgate-blocked-by"), "budget.big");
    }
    sandbox.settled().await;
    for budget in sandbox.app.budgets() {
        assert_eq!((budget.spent, budget.reserved), (0, 0), "{budget:?}");
    }
    for _ in 0..3 {
        assert_eq!(sandbox.post(CHAT, &chat()).await.status, 200);
        sandbox.settled().await;
    }
    assert!(is_refused(&sandbox.post(CHAT, &chat()).await));
}
