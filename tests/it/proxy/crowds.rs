//! Many callers at once of a budget that has room for a few of them, where places come free at every
//! moment.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::{sync::Barrier, task::JoinSet};

use super::{chat, chat_stream, priced};
use crate::support::{Answer, Sandbox, client};

const PATH: &str = "/v1/chat/completions";
const CALLERS: usize = 32;

/// All of them ask at once, each as `call` says by its number: a body, and settings of the mock.
/// The budget `room` is never above its limit.
async fn crowd(sandbox: &Sandbox, call: impl Fn(usize) -> (Value, String)) -> Vec<(usize, Answer)> {
    let barrier = Arc::new(Barrier::new(CALLERS));
    let mut calls = JoinSet::new();
    for number in 0..CALLERS {
        let (body, settings) = call(number);
        let (addr, barrier) = (sandbox.addr(), Arc::clone(&barrier));
        calls.spawn(async move {
            barrier.wait().await;
            let headers = [("x-mock", &*settings)];
            (number, client::post(addr, PATH, &headers, &body).await)
        });
    }
    let mut answers = Vec::new();
    while let Some(answer) = calls.join_next().await {
        answers.push(answer.unwrap());
        let budget = sandbox.budget("room");
        let used = budget.spent + budget.reserved;
        assert!(used <= budget.limit, "{used} of {}", budget.limit);
    }
    sandbox.settled().await;
    assert_eq!(sandbox.budget("room").reserved, 0);
    answers
}

fn room(usd: &str, on_exhausted: &str) -> Sandbox {
    Sandbox::new(&priced(&format!(
        "budgets: {{max_wait: 60s, rules: [{{name: room, window: total, limit: {{usd: {usd}}}, \
         on_exhausted: {on_exhausted}}}]}}"
    )))
}

#[tokio::test]
async fn everybody_gets_a_turn_where_all_of_them_cost_less_than_there_is() {
    for on_exhausted in ["block", "clamp"] {
        // A call is let in with the least output where just that is left, which is one of two hundred
        // amounts that may be: not in three crowds one after another. No place that comes free while a
        // call is sized makes it smaller than it need be.
        let mut crowds = 0;
        while gives_a_turn_to_everybody_and_the_least_to_some(on_exhausted).await {
            crowds += 1;
            assert!(crowds < 3, "{on_exhausted}: calls had the least output");
        }
    }
}

/// Whether some of the crowd were let in with the least output.
async fn gives_a_turn_to_everybody_and_the_least_to_some(on_exhausted: &str) -> bool {
    let sandbox = room("0.0026", on_exhausted);
    let answers = crowd(&sandbox, |number| {
        let mut body = if number % 4 == 3 {
            chat_stream()
        } else {
            chat()
        };
        body["max_tokens"] = match number % 4 {
            0 => json!(50),
            // What is left decides.
            1 | 3 => Value::Null,
            _ if on_exhausted == "clamp" => json!(5_000),
            _ => json!(100),
        };
        let delay = number % 7;
        let ending = if number % 5 == 0 {
            "status=400"
        } else {
            "input=1;output=1;events=1"
        };
        (body, format!("delay={delay}ms;{ending}"))
    })
    .await;
    for (number, answer) in &answers {
        let expected = if number % 5 == 0 { 400 } else { 200 };
        assert_eq!(answer.status, expected, "{number}: {answer:?}");
    }
    let requests = sandbox.mock.requests();
    assert_eq!(requests.len(), CALLERS);
    let limits = requests.iter().filter_map(|request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let limits = ["max_completion_tokens", "max_tokens"].map(|name| body[name].as_u64());
        limits.into_iter().flatten().min()
    });
    let sized: Vec<_> = limits.filter(|limit| *limit != 50).collect();
    assert!(sized.iter().all(|limit| *limit >= 64), "{sized:?}");
    sized.contains(&64)
}

#[tokio::test]
async fn as_many_get_a_turn_as_there_is_room_for_and_the_others_hear_that_it_is_used_up() {
    let sandbox = room("0.0060", "block");
    // Each may cost 50 tokens and its input, and costs 40 and 1.
    let answers = crowd(&sandbox, |number| {
        let settings = format!("input=1;output=40;delay={}ms", number % 5);
        (chat(), settings)
    })
    .await;
    let let_in = answers.iter().filter(|(_, answer)| answer.status == 200);
    let spent = 402_500 * i64::try_from(let_in.count()).unwrap();
    let budget = sandbox.budget("room");
    assert_eq!(budget.spent, spent);
    for (_, answer) in answers.iter().filter(|(_, answer)| answer.status != 200) {
        assert_eq!(answer.header("x-tollgate-blocked-by"), "budget.room");
    }
    // Less is left than one more of them may cost.
    let answer = sandbox.post(PATH, &chat()).await;
    assert_eq!(answer.header("x-tollgate-blocked-by"), "budget.room");
    assert!(budget.limit - spent < 700_000, "{budget:?}");
}

/// One call of [`chat`] holds less than this, and more than half of it, in dollars.
const ONE: &str = "0.0012";

#[tokio::test]
async fn in_every_scope_a_crowd_of_one_value_has_room_for_one() {
    let scopes = [
        "agent",
        "user",
        "project",
        "environment",
        "session",
        "workflow",
        "tags.team",
        "model",
        "provider",
        "key",
        "route",
        "pod",
        "namespace",
        "service_account",
    ];
    for scope in scopes {
        let sandbox = Sandbox::new(&priced(&format!(
            "identity: {{pod: agents-0, namespace: research, service_account: runner}}\n\
             budgets: {{max_wait: 0s, missing: deny, rules: [{{name: room, per: [{scope}], \
             window: day, limit: {{usd: {ONE}}}}}]}}"
        )));
        let barrier = Arc::new(Barrier::new(CALLERS));
        let mut calls = JoinSet::new();
        for _ in 0..CALLERS {
            let (addr, barrier) = (sandbox.addr(), Arc::clone(&barrier));
            calls.spawn(async move {
                let headers = [
                    ("x-mock", "hang=head"),
                    ("authorization", "Bearer sk-of-all"),
                    ("x-tollgate-agent", "a"),
                    ("x-tollgate-user", "u"),
                    ("x-tollgate-project", "p"),
                    ("x-tollgate-environment", "e"),
                    ("x-tollgate-session", "s"),
                    ("x-tollgate-workflow", "w"),
                    ("x-tollgate-tags", "team=t"),
                ];
                barrier.wait().await;
                client::post(addr, PATH, &headers, &chat()).await
            });
        }
        // All but the one that is let in, and hangs.
        for _ in 1..CALLERS {
            let answer = calls.join_next().await.unwrap().unwrap();
            let by = answer.header("x-tollgate-blocked-by");
            assert_eq!(by, "busy.room", "{scope}: {answer:?}");
        }
        sandbox.mock.until(|all| all.len() == 1).await;
        let budget = sandbox.budget("room");
        assert!(budget.values.contains(scope), "{scope}: {budget:?}");
        assert!(budget.reserved <= budget.limit && budget.reserved * 2 > budget.limit);
        assert_eq!(sandbox.app.budgets().len(), 1, "{scope}");
        calls.abort_all();
    }
}
