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
        for request in requests {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            let limits = ["max_completion_tokens", "max_tokens"].map(|name| body[name].as_u64());
            let limit = limits.into_iter().flatten().min();
            // No place that comes free while a call is sized makes it smaller than it need be.
            assert!(
                limit.is_none_or(|limit| limit == 50 || limit > 64),
                "{body}"
            );
        }
    }
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
