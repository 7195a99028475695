//! The data path: calls through the whole program, their bytes, their spans, what they are charged.

mod aborts;
mod attempts;
mod bad_input;
mod bedrock;
mod bodies;
mod clouds;
mod connections;
mod corpus;
mod crowds;
mod cuts;
mod departures;
mod doors;
mod endings;
mod endpoints;
mod estimates;
mod heads;
mod hosts;
mod intercept;
mod keys;
mod kills;
mod large_events;
mod later;
mod limits;
mod process;
mod processors;
mod rates;
mod refused;
mod restarts;
mod routes;
mod scopes;
mod slow_clients;
mod sockets;
mod streams;

use serde_json::{Value, json};

/// A chat request of a model that cannot think unseen, with an output limit.
fn chat() -> Value {
    json!({
        "model": "gpt-4o",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "hello"}],
    })
}

/// The same for a stream, without an output limit.
fn chat_stream() -> Value {
    json!({
        "model": "gpt-4o",
        "stream": true,
        "messages": [{"role": "user", "content": "hello"}],
    })
}

/// With round prices for the models that tests use: 2,500 and 10,000 nano-dollars a token.
fn priced(yaml: &str) -> String {
    let prices = ["gpt-4o", "claude-*", "gemini-*"]
        .map(|model| format!("{model}: {{input: 2.50, output: 10.00}}"));
    format!("pricing: {{{}}}\n{yaml}", prices.join(", "))
}

/// Whether tests may take minutes: `tests/nightly/run` says so.
fn has_time() -> bool {
    std::env::var_os("TOLLGATE_LONG").is_some()
}
