//! The admin listener over the real program.

mod api;
mod budgets;
mod door;
mod page;
mod probes;

use std::net::SocketAddr;

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Sandbox, client, sandbox::until};

/// Two budgets; calls of the mock's answers cost far less than they reserve.
pub(super) const LIMITED: &str = "budgets: {daily: 1.00, per_user: 0.01}";

/// A call of an agent for a user; what it reserves grows with `most`.
pub(super) async fn chat(sandbox: &Sandbox, agent: &str, user: &str, most: u32) -> Answer {
    let body = json!({
        "model": "gpt-4o", "max_tokens": most,
        "messages": [{"role": "user", "content": "hello"}],
    });
    let headers = [
        ("authorization", "Bearer k"),
        ("x-tollgate-agent", agent),
        ("x-tollgate-user", user),
    ];
    sandbox
        .post_with("/v1/chat/completions", &headers, &body)
        .await
}

/// The id of the call that got this answer.
pub(super) fn id(answer: &Answer) -> String {
    answer.header("x-tollgate-request-id").to_owned()
}

pub(crate) fn admin(sandbox: &Sandbox) -> SocketAddr {
    sandbox.app.admin_address()
}

pub(crate) async fn get(sandbox: &Sandbox, path: &str) -> Answer {
    client::call(admin(sandbox), Method::GET, path, &[], "").await
}

pub(crate) async fn post(sandbox: &Sandbox, path: &str, body: &Value) -> Answer {
    client::post(admin(sandbox), path, &[], body).await
}

/// Waits until the store has `count` spans.
pub(super) async fn stored(sandbox: &Sandbox, count: i64) {
    let store = sandbox.path("data/spans.db");
    until("spans in the store", || {
        let reader = tollgate::store::Reader::open(&store);
        reader.is_ok_and(|reader| reader.last_id().is_ok_and(|id| id >= count))
    })
    .await;
}
