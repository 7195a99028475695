//! Limits over HTTP: exhausted and busy, rates, thresholds, shadows, and a crowd at once.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::{sync::Barrier, task::JoinSet};

use super::{chat, chat_stream, priced};
use crate::support::{Answer, Sandbox, client, sandbox::until};

const PATH: &str = "/v1/chat/completions";

/// Starts a call in a task of its own.
fn start(
    sandbox: &Sandbox,
    settings: &'static str,
    tag: &'static str,
) -> tokio::task::JoinHandle<Answer> {
    let addr = sandbox.addr();
    tokio::spawn(async move {
        let headers = [("x-mock", settings), ("x-tag", tag)];
        client::post(addr, PATH, &headers, &chat()).await
    })
}

/// A budget for one call of [`chat`] at a time, and a little more.
const ONE: &str = "0.0012";

#[tokio::test]
async fn a_busy_budget_is_waited_for_in_order() {
    let sandbox = Sandbox::new(&priced(&format!(
        "budgets: {{daily: {ONE}, max_wait: 15s}}"
    )));
    let first = start(&sandbox, "delay=400ms;input=1;output=1", "0");
    sandbox.mock.until(|all| all.len() == 1).await;
    let mut waiting = Vec::new();
    for tag in ["1", "2", "3"] {
        waiting.push(start(&sandbox, "input=1;output=1", tag));
        let known = waiting.len() + 1;
        until("the call to wait", || {
            sandbox.app.holdings().in_flight == known
        })
        .await;
    }
    assert_eq!(sandbox.mock.count(), 1, "they wait");
    assert_eq!(first.await.unwrap().status, 200);
    for call in waiting {
        assert_eq!(call.await.unwrap().status, 200);
    }
    let tags: Vec<_> = sandbox
        .mock
        .requests()
        .iter()
        .map(|request| request.headers["x-tag"].to_str().unwrap().to_owned())
        .collect();
    assert_eq!(tags, ["0", "1", "2", "3"]);
    assert_eq!(sandbox.spent("daily").await, 4 * 12_500);
}

#[tokio::test]
async fn a_budget_that_stays_busy_refuses_as_a_rate_limit_does() {
    let sandbox = Sandbox::new(&priced(&format!(
        "budgets: {{daily: {ONE}, max_wait: 50ms}}"
    )));
    let first = start(&sandbox, "hang=head", "0");
    sandbox.mock.until(|all| all.len() == 1).await;
    let answer = sandbox.post(PATH, &chat()).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("x-tollgate-blocked-by"), "busy.daily");
    assert_eq!(answer.header("x-should-retry"), "");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.header("retry-after-ms"), "1000");
    let span = sandbox.span(&answer).await;
    assert_eq!(
        span.outcome(),
        "blocked complete refused absent 0.000000000"
    );
    first.abort();
    sandbox.settled().await;
    assert_eq!(sandbox.mock.count(), 1);
}

#[tokio::test]
async fn a_call_that_may_be_given_a_lower_limit_waits_for_calls_in_flight_and_gets_what_they_leave()
{
    let body = |limit: Option<u64>| {
        let mut body = chat();
        body["max_tokens"] = json!(limit);
        body
    };
    // No limit, one that is too high, and one below the least, which is not raised to that.
    let cases = [
        (None, "block", "capped", 65..600),
        (Some(5_000), "clamp", "clamped", 65..600),
        (Some(20), "clamp", "admitted", 20..21),
    ];
    for (asked, on_exhausted, decision, sent) in cases {
        let sandbox = |max_wait: &str| {
            Sandbox::new(&priced(&format!(
                "providers: {{openai: {{max_tokens_per_second: 1}}}}\nbudgets: {{max_wait: {max_wait}, \
                 rules: [{{name: small, window: total, limit: {{usd: 0.006}}, \
                 on_exhausted: {on_exhausted}}}]}}"
            )))
        };
        // Besides this there is not room for the least output.
        let first = |sandbox: &Sandbox| {
            let (addr, body) = (sandbox.addr(), body(Some(550)));
            let settings = [("x-mock", "hang=head")];
            tokio::spawn(async move { client::post(addr, PATH, &settings, &body).await })
        };

        let quick = sandbox("50ms");
        let held = first(&quick);
        quick.mock.until(|all| all.len() == 1).await;
        let answer = quick.post(PATH, &body(asked)).await;
        assert_eq!(answer.status, 429);
        assert_eq!(answer.header("x-tollgate-blocked-by"), "busy.small");
        held.abort();

        let patient = sandbox("15s");
        let held = first(&patient);
        patient.mock.until(|all| all.len() == 1).await;
        let (addr, body) = (patient.addr(), body(asked));
        let second = tokio::spawn(async move { client::post(addr, PATH, &[], &body).await });
        until("the second to wait", || {
            patient.app.holdings().in_flight == 2
        })
        .await;
        held.abort();
        let answer = second.await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let span = patient.span(&answer).await;
        assert_eq!(span.get("tollgate.decision"), decision);
        let body: Value = serde_json::from_slice(&patient.mock.requests()[1].body).unwrap();
        let limits = ["max_completion_tokens", "max_tokens"].map(|name| body[name].as_u64());
        let limit = limits.into_iter().flatten().min().unwrap();
        assert!(sent.contains(&limit), "what the first one left: {body}");
        patient.settled().await;
        let budget = patient.budget("small");
        assert!(budget.spent <= budget.limit && budget.reserved == 0);
    }
}

#[tokio::test]
async fn a_budget_that_need_not_cover_a_call_is_busy_and_not_used_up_while_others_hold_it_all() {
    let sandbox = Sandbox::new(&priced(
        "budgets: {unbounded: allow, max_wait: 50ms, rules: [{name: small, window: total, \
         limit: {usd: 0.006}}]}",
    ));
    let mut body = chat();
    body["max_tokens"] = json!(575);
    let (addr, all) = (sandbox.addr(), body.clone());
    let settings = [("x-mock", "hang=head")];
    let held = tokio::spawn(async move { client::post(addr, PATH, &settings, &all).await });
    sandbox.mock.until(|all| all.len() == 1).await;
    body["max_tokens"] = Value::Null;
    let answer = sandbox.post(PATH, &body).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("x-tollgate-blocked-by"), "busy.small");
    held.abort();
}

#[tokio::test]
async fn a_call_whose_time_ends_after_its_window_did_is_let_into_the_new_one() {
    use tollgate::{
        base::clock::{TestClock, Timestamp},
        mock::Options,
    };
    let noon = Timestamp::from_secs(1_790_000_000 / 86_400 * 86_400 + 43_200);
    let clock = Arc::new(TestClock::at(noon));
    let yaml = priced(&format!("budgets: {{daily: {ONE}, max_wait: 1s}}"));
    let sandbox = Sandbox::with(&yaml, Options::default(), Arc::<TestClock>::clone(&clock));
    let first = start(&sandbox, "hang=head", "0");
    sandbox.mock.until(|all| all.len() == 1).await;
    let second = start(&sandbox, "input=1;output=1", "1");
    until("the second to wait", || {
        sandbox.app.holdings().in_flight == 2
    })
    .await;
    clock.set(Timestamp::from_secs(noon.as_secs() + 86_400));
    let answer = second.await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    first.abort();
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_leaves_nothing_behind() {
    let sandbox = Sandbox::new(&priced(&format!(
        "budgets: {{daily: {ONE}, max_wait: 15s}}"
    )));
    let first = start(&sandbox, "hang=head", "0");
    sandbox.mock.until(|all| all.len() == 1).await;
    let second = start(&sandbox, "", "1");
    until("two calls under way", || {
        sandbox.app.holdings().in_flight == 2
    })
    .await;
    second.abort();
    until("one call under way", || {
        sandbox.app.holdings().in_flight == 1
    })
    .await;
    let span = sandbox.only_span().await;
    assert_eq!(
        span.outcome(),
        "cancelled client admitted absent 0.000000000"
    );
    first.abort();
    sandbox.settled().await;
    assert_eq!(sandbox.budget("daily").reserved, 0);
    assert_eq!(sandbox.mock.count(), 1);
}

#[tokio::test]
async fn the_status_of_an_exhausted_budget_can_be_chosen_and_amounts_shown() {
    let sandbox = Sandbox::new(&priced(
        "budgets: {daily: 0.0001, status: 402, show_amounts: true}",
    ));
    let answer = sandbox.post(PATH, &chat()).await;
    assert_eq!(answer.status, 402);
    assert!(answer.text().contains("0.0001"), "{answer:?}");
    let quiet = Sandbox::new(&priced("budgets: {daily: 0.0001}"));
    let answer = quiet.post(PATH, &chat()).await;
    assert!(!answer.text().contains("0.0001"), "{answer:?}");
}

#[tokio::test]
async fn every_dialect_words_refusals_its_own_way() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 0.0000001}"));
    let messages = json!([{"role": "user", "content": "x"}]);
    let claude = json!({"model": "claude-x", "max_tokens": 9, "messages": messages});
    let answer = sandbox.post("/v1/messages", &claude).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.json()["type"], "error");
    assert!(answer.json()["error"]["type"].is_string());
    let gemini = json!({"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"maxOutputTokens": 9}});
    let answer = sandbox
        .post("/v1beta/models/gemini-x:generateContent", &gemini)
        .await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.json()["error"]["code"], 429);
    assert_eq!(answer.json()["error"]["status"], "RESOURCE_EXHAUSTED");
}

#[tokio::test]
async fn a_shadow_rule_stops_nothing_and_says_so() {
    let sandbox = Sandbox::new(&priced(
        "budgets: {rules: [{name: dry, window: day, limit: {usd: 0.0001}, on_exhausted: shadow}]}",
    ));
    let answer = sandbox.post(PATH, &chat()).await;
    assert_eq!(answer.status, 200);
    let span = sandbox.span(&answer).await;
    assert_eq!(span.get("tollgate.decision"), "shadow");
    assert_eq!(span.get("tollgate.shadow"), &json!(["dry"]));
    assert!(sandbox.spent("dry").await > 0);
}

#[tokio::test]
async fn rates_refuse_with_the_real_wait() {
    let sandbox = Sandbox::new("rate_limits: [{name: few, per: [agent], requests_per_minute: 2}]");
    for _ in 0..2 {
        assert_eq!(sandbox.post(PATH, &chat()).await.status, 200);
    }
    let answer = sandbox.post(PATH, &chat()).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("x-tollgate-blocked-by"), "rate.few");
    assert_eq!(answer.header("x-should-retry"), "");
    let after: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&after), "{after}");
    let millis: u64 = answer.header("retry-after-ms").parse().unwrap();
    assert!(millis.div_ceil(1000) == after);
    // Others have a rate of their own.
    let other = [("x-tollgate-agent", "b")];
    assert_eq!(sandbox.post_with(PATH, &other, &chat()).await.status, 200);

    let tokens = Sandbox::new("rate_limits: [{name: tpm, tokens_per_minute: 400}]");
    tokens.mock.next_with("input=10;output=300").unwrap();
    assert_eq!(tokens.post(PATH, &chat()).await.status, 200);
    tokens.settled().await;
    let answer = tokens.post(PATH, &chat()).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("x-tollgate-blocked-by"), "rate.tpm");

    let one = Sandbox::new("rate_limits: [{name: one, concurrent: 1}]");
    let first = start(&one, "hang=head", "0");
    one.mock.until(|all| all.len() == 1).await;
    let answer = one.post(PATH, &chat()).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("x-tollgate-blocked-by"), "rate.one");
    first.abort();
    one.settled().await;
    assert_eq!(one.post(PATH, &chat()).await.status, 200);
}

#[tokio::test]
async fn each_threshold_is_crossed_once_a_window() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 0.01}"));
    let mut events = Vec::new();
    for _ in 0..9 {
        // A tenth of the budget each.
        sandbox.mock.next_with("input=0;output=100").unwrap();
        let answer = sandbox.post(PATH, &chat()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let span = sandbox.span(&answer).await;
        let names = span.field("events").as_array().cloned().unwrap_or_default();
        let names = names.iter().filter_map(|event| event["name"].as_str());
        events.push(names.map(str::to_owned).collect::<Vec<_>>());
    }
    let at = |name: &str| -> Vec<usize> {
        let found = events.iter().enumerate();
        found
            .filter(|(_, names)| names.iter().any(|known| known == name))
            .map(|(at, _)| at)
            .collect()
    };
    assert_eq!(at("budget.warning"), [7], "{events:?}");
    assert_eq!(at("budget.critical"), [8], "{events:?}");
}

/// Sixty-four clients at once, each with labels of `with`. Returns how many were let in, and how
/// many of them were held at most.
async fn crowd(sandbox: &Sandbox, body: Value) -> usize {
    let barrier = Arc::new(Barrier::new(64));
    let mut calls = JoinSet::new();
    for _ in 0..64 {
        let (barrier, addr, body) = (Arc::clone(&barrier), sandbox.addr(), body.clone());
        calls.spawn(async move {
            barrier.wait().await;
            let headers = [("x-mock", "hang=head"), ("x-tollgate-user", "u")];
            client::post(addr, PATH, &headers, &body).await
        });
    }
    let mut refused = 0;
    // Whoever is let in hangs; the others are told.
    while calls.len() as u64 > sandbox.mock.count() {
        let next = tokio::time::timeout(std::time::Duration::from_millis(50), calls.join_next());
        if let Ok(Some(answer)) = next.await {
            assert_eq!(answer.unwrap().status, 429);
            refused += 1;
        }
    }
    let admitted = usize::try_from(sandbox.mock.count()).unwrap();
    assert_eq!(admitted + refused, 64);
    calls.abort_all();
    admitted
}

#[tokio::test]
async fn sixty_four_clients_at_once_never_hold_more_than_the_budget() {
    // What one call holds.
    let sandbox = Sandbox::new(&priced("budgets: {daily: 5.00}"));
    let call = start(&sandbox, "hang=head", "0");
    sandbox.mock.until(|all| all.len() == 1).await;
    let each = sandbox.budget("daily").reserved;
    call.abort();
    sandbox.settled().await;

    for (calls, rule) in [(1, "daily"), (5, "per_user"), (9, "monthly"), (7, "run")] {
        let limit = each * calls + each / 2;
        let limit = format!("{}.{:09}", limit / 1_000_000_000, limit % 1_000_000_000);
        let budget = if rule == "run" {
            format!("rules: [{{name: run, per: [agent], window: 6h, limit: {{usd: {limit}}}}}]")
        } else {
            format!("{rule}: {limit}")
        };
        let yaml = priced(&format!("budgets: {{max_wait: 10ms, {budget}}}"));
        let sandbox = Sandbox::new(&yaml);
        let admitted = crowd(&sandbox, chat()).await;
        assert_eq!(admitted, usize::try_from(calls).unwrap(), "{rule}");
        sandbox.settled().await;
        let budget = &sandbox.app.budgets()[0];
        assert_eq!(budget.reserved, 0);
        assert!(budget.spent <= budget.limit, "{budget:?}");
    }
}

#[tokio::test]
async fn a_call_counts_for_whom_its_labels_say() {
    let sandbox = Sandbox::new(&priced("budgets: {per_user: 0.0012}"));
    sandbox.mock.next_with("input=0;output=100").unwrap();
    let alice = [("x-tollgate-user", "alice")];
    let bob = [("x-tollgate-user", "bob")];
    assert_eq!(sandbox.post_with(PATH, &alice, &chat()).await.status, 200);
    sandbox.settled().await;
    let answer = sandbox.post_with(PATH, &alice, &chat()).await;
    assert_eq!(answer.header("x-tollgate-blocked-by"), "budget.per_user");
    assert!(answer.text().contains("alice"), "{answer:?}");
    assert_eq!(sandbox.post_with(PATH, &bob, &chat()).await.status, 200);
    // The body says it too.
    let mut body = chat();
    body["user"] = "alice".into();
    let answer = sandbox.post(PATH, &body).await;
    assert_eq!(answer.header("x-tollgate-blocked-by"), "budget.per_user");
    let span = sandbox.span(&answer).await;
    assert_eq!(span.get("tollgate.user"), "alice");
}

#[tokio::test]
async fn a_clock_that_steps_back_moves_no_budget() {
    use tollgate::{
        base::clock::{TestClock, Timestamp},
        mock::Options,
    };
    let noon = Timestamp::from_secs(1_790_000_000 / 86_400 * 86_400 + 43_200);
    let clock = Arc::new(TestClock::at(noon));
    let yaml = priced("budgets: {daily: 5.00}");
    let sandbox = Sandbox::with(&yaml, Options::default(), Arc::<TestClock>::clone(&clock));
    sandbox.mock.next_with("input=0;output=100").unwrap();
    assert_eq!(sandbox.post(PATH, &chat()).await.status, 200);
    assert_eq!(sandbox.spent("daily").await, 1_000_000);
    // Five hours back, within the day: the same window, and spans do not get negative.
    clock.set(Timestamp::from_secs(noon.as_secs() - 5 * 3_600));
    sandbox.mock.next_with("input=0;output=100").unwrap();
    let answer = sandbox.post(PATH, &chat_stream()).await;
    assert_eq!(answer.status, 200);
    assert!(
        sandbox
            .span(&answer)
            .await
            .field("duration_ms")
            .as_f64()
            .unwrap()
            >= 0.0
    );
    assert_eq!(sandbox.spent("daily").await, 2_000_000);
    // The next day is a new window; back again, the old one is as it was.
    clock.set(Timestamp::from_secs(noon.as_secs() + 86_400));
    assert_eq!(sandbox.spent("daily").await, 0);
    clock.set(noon);
    assert_eq!(sandbox.spent("daily").await, 2_000_000);
}
