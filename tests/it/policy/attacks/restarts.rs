//! Ends and new beginnings: spend was lost in a shutdown (litellm#34805, #38157), in a crash
//! (agentgateway flushes every five seconds), or with the process.

use super::*;
use crate::support::sandbox::until;

const DAILY: &str = "budgets: {daily: 0.0035, max_wait: 0s}";

/// Calls of a hundred tokens: how many pass.
async fn passing(sandbox: &Sandbox, calls: usize) -> usize {
    let headers = [("x-mock", "input=0;output=100")];
    let mut passed = 0;
    for _ in 0..calls {
        let answer = sandbox.post_with(CHAT, &headers, &chat()).await;
        passed += usize::from(answer.status == 200);
        sandbox.settled().await;
    }
    passed
}

#[tokio::test]
async fn neither_a_restart_nor_a_kill_gives_a_budget_anew() {
    let yaml = priced(DAILY);
    let mut sandbox = Sandbox::new(&yaml);
    let mut passed = 0;
    for round in 0..6 {
        passed += passing(&sandbox, 1).await;
        sandbox = if round % 2 == 0 {
            sandbox.restarted(&yaml).await
        } else {
            sandbox.killed(&yaml).await
        };
    }
    assert_eq!(passed, 3);
    assert_eq!(passing(&sandbox, 2).await, 0);
}

/// Killed while calls are in flight, again and again: each of those is charged what it held.
#[tokio::test]
async fn calls_that_a_kill_took_are_paid() {
    let yaml = priced("budgets: {daily: 0.0030, max_wait: 0s}");
    let mut sandbox = Sandbox::new(&yaml);
    let mut killed = 0;
    loop {
        let (addr, body) = (sandbox.addr(), chat().to_string());
        let before = sandbox.mock.count();
        let call = tokio::spawn(async move {
            let headers = [
                ("x-mock", "hang=head"),
                ("content-type", "application/json"),
            ];
            client::call(addr, Method::POST, CHAT, &headers, body).await
        });
        let mut refused = false;
        until("the call to be sent or refused", || {
            refused = call.is_finished();
            refused || sandbox.mock.count() > before
        })
        .await;
        if refused {
            assert!(is_refused(&call.await.unwrap()));
            break;
        }
        call.abort();
        killed += 1;
        assert!(killed < 10, "never refused");
        sandbox = sandbox.killed(&yaml).await;
    }
    let budget = sandbox.budget("daily");
    assert!(killed >= 2, "{killed}");
    assert!(
        budget.spent <= budget.limit && budget.spent > killed * 50 * OUTPUT,
        "{budget:?}"
    );
}

/// Reading the rules again, in another order or by another limit, forgives nothing.
#[tokio::test]
async fn other_rules_after_a_restart_forgive_nothing() {
    let mut sandbox = Sandbox::new(&priced(DAILY));
    assert_eq!(passing(&sandbox, 4).await, 3);
    for (yaml, passes) in [
        ("budgets: {max_wait: 0s, daily: 0.0035, per_user: 1}", 0),
        (
            "budgets: {max_wait: 0s, per_user: 1, daily: 0.0035, monthly: 9}",
            0,
        ),
        ("budgets: {max_wait: 0s, daily: 0.0045}", 1),
        ("budgets: {max_wait: 0s, daily: 0.0035}", 0),
    ] {
        sandbox = sandbox.restarted(&priced(yaml)).await;
        assert_eq!(passing(&sandbox, 2).await, passes, "{yaml}");
    }
}
