//! Every way around a budget that is told of other gateways, tried on the real program. Each attack is
//! refused, or what it takes is counted in full.
//!
//! Beside each stands what it got elsewhere. That a budget which is used up stands before every way in
//! is `proxy/doors.rs`'s subject; here there is room left, and the question is what is counted.

mod answers;
mod bodies;
mod identity;
mod paths;
mod restarts;
mod time;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Sandbox, client};

const CHAT: &str = "/v1/chat/completions";

/// Prices in nano-dollars a token: 2,500 in, 10,000 out.
const INPUT: i64 = 2_500;
const OUTPUT: i64 = 10_000;

/// What the provider makes of a call, as the mock takes it, and what that costs.
const TAKEN: &str = "input=1000;output=200";
const COST: i64 = 1_000 * INPUT + 200 * OUTPUT;

/// A configuration with round prices for all models in it.
fn priced(yaml: &str) -> String {
    let models = [
        "gpt-4o",
        "claude-*",
        "gemini-*",
        "command-*",
        "mistral-*",
        "anthropic.*",
    ];
    let prices = models.map(|model| format!("'{model}': {{input: 2.50, output: 10.00}}"));
    format!("pricing: {{{}}}\n{yaml}", prices.join(", "))
}

/// A request for at most fifty tokens.
fn chat() -> Value {
    json!({
        "model": "gpt-4o",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "hello"}],
    })
}

/// The same with some members set; null takes one out.
fn chat_with(members: Value) -> Value {
    let mut body = chat();
    let object = body.as_object_mut().unwrap();
    let Value::Object(members) = members else {
        panic!("{members}")
    };
    for (name, value) in members {
        match value {
            Value::Null => drop(object.remove(&name)),
            value => drop(object.insert(name, value)),
        }
    }
    body
}

async fn send(
    sandbox: &Sandbox,
    target: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    client::call(sandbox.addr(), Method::POST, target, headers, body).await
}

/// Whether a budget or what belongs to it refused the call.
fn is_refused(answer: &Answer) -> bool {
    answer.status.is_client_error() && !answer.header("x-tollgate-blocked-by").is_empty()
}

/// A Tollgate whose only budget is used up, to the last nano-dollar.
async fn broke(more: &str) -> Sandbox {
    let sandbox = Sandbox::new(&priced(&format!(
        "budgets: {{daily: 0.0012, max_wait: 0s}}\n{more}"
    )));
    sandbox.mock.next_with("input=0;output=120").unwrap();
    let answer = sandbox.post(CHAT, &chat()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(sandbox.spent("daily").await, 1_200_000);
    sandbox
}
