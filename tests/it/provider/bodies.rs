//! The bodies of the requests in `drives.rs`.

use serde_json::{Value, json};

pub(super) fn said() -> Value {
    json!([{"role": "user", "content": "hello"}])
}

pub(super) fn chat_with(model: &str) -> Value {
    json!({"model": model, "messages": said()})
}

pub(super) fn prompt(model: &str) -> Value {
    json!({"model": model, "prompt": "hello"})
}

pub(super) fn ranking(model: &str) -> Value {
    json!({"model": model, "query": "hello", "documents": ["hello", "you"]})
}

pub(super) fn chat() -> Value {
    chat_with("gpt-4o")
}

pub(super) fn completion(model: &str) -> Value {
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18});
    let message = json!({"role": "assistant", "content": "hi"});
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    json!({"id": "c", "object": "chat.completion", "model": model, "choices": [choice],
        "usage": usage})
}

pub(super) fn embedded() -> Value {
    json!({"content": {"parts": [{"text": "hello"}]}})
}

pub(super) fn batch() -> Value {
    json!({"input_file_id": "{}", "endpoint": "/v1/chat/completions",
        "completion_window": "24h"})
}

pub(super) fn message() -> Value {
    let messages = json!([{"role": "user", "content": "hello"}]);
    json!({"model": "claude-sonnet-4-5", "max_tokens": 50, "messages": messages})
}

pub(super) fn converse() -> Value {
    json!({"messages": [{"role": "user", "content": [{"text": "hello"}]}]})
}

pub(super) fn invoke() -> Value {
    let messages = json!([{"role": "user", "content": "hello"}]);
    json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50, "messages": messages})
}

pub(super) fn google_batch() -> Value {
    let requests = json!({"requests": [{"request": contents(), "metadata": {"key": "a"}}]});
    json!({"batch": {"displayName": "b", "inputConfig": {"requests": requests}}})
}

pub(super) fn contents() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]})
}
