//! The data path: calls through the whole program, their bytes, their spans, what they are charged.

mod bodies;
mod connections;
mod heads;
mod rates;
mod routes;
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
