//! Anthropic's messages.

use serde_json::{Value, json};
use tollgate::mock::{Mock, Options};

use super::client::{call, post};

const MESSAGES: &str = "/v1/messages";

fn mock() -> Mock {
    Mock::start(Options::default()).unwrap()
}

fn hello(more: &Value) -> Value {
    let mut body = json!({
        "model": "claude-sonnet-4-5",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "hello"}],
    });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn tools(more: &Value) -> Value {
    let mut body = hello(more);
    body["tools"] = json!([{"name": "weather", "input_schema": {"type": "object"}}]);
    body
}

#[tokio::test]
async fn a_plain_answer_counts_cached_tokens_apart() {
    let settings = "input=100;cached=60;cache-write=30;output=5";
    let answer = post(&mock(), MESSAGES, settings, &hello(&json!({}))).await;
    assert!(
        answer.headers["request-id"]
            .to_str()
            .unwrap()
            .starts_with("req_")
    );
    let body = answer.json();
    assert_eq!(body["model"], "claude-sonnet-4-5-20250929");
    assert_eq!(body["content"][0]["text"], "You said: hello");
    assert_eq!(body["stop_reason"], "end_turn");
    let usage = &body["usage"];
    assert_eq!(usage["input_tokens"], 10);
    assert_eq!(usage["cache_read_input_tokens"], 60);
    assert_eq!(usage["cache_creation_input_tokens"], 30);
    assert_eq!(usage["output_tokens"], 5);
}

#[tokio::test]
async fn a_stream_has_its_events_in_order_and_final_usage_near_the_end() {
    let answer = post(&mock(), MESSAGES, "", &hello(&json!({"stream": true}))).await;
    let events = answer.events();
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "message_start",
            "content_block_start",
            "ping",
            "content_block_delta",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    assert!(events.iter().all(|(name, data)| data["type"] == **name));
    assert_eq!(events[0].1["message"]["usage"]["input_tokens"], 2);
    assert_eq!(events[0].1["message"]["usage"]["output_tokens"], 1);
    assert_eq!(events[7].1["usage"]["output_tokens"], 4);
    assert_eq!(events[7].1["delta"]["stop_reason"], "end_turn");
}

#[tokio::test]
async fn a_tool_is_used_and_its_result_answered() {
    let mock = mock();
    let forced = tools(&json!({"tool_choice": {"type": "any"}, "stream": true}));
    let events = post(&mock, MESSAGES, "", &forced).await.events();
    assert_eq!(events[1].1["content_block"]["name"], "weather");
    let json: String = events
        .iter()
        .filter_map(|(_, data)| data["delta"]["partial_json"].as_str())
        .collect();
    assert_eq!(json, "{}");
    assert_eq!(
        events[events.len() - 2].1["delta"]["stop_reason"],
        "tool_use"
    );

    let messages = json!([
        {"role": "user", "content": [{"type": "text", "text": "weather?"}]},
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"},
        ]},
    ]);
    let answer = post(&mock, MESSAGES, "", &tools(&json!({"messages": messages})))
        .await
        .json();
    assert_eq!(answer["content"][0]["text"], "The tool says: sunny");
}

#[tokio::test]
async fn errors_have_anthropics_form_in_answers_and_in_streams() {
    let mock = mock();
    let answer = post(
        &mock,
        MESSAGES,
        "",
        &json!({"max_tokens": 1, "messages": []}),
    )
    .await;
    assert_eq!(answer.status, 400);
    let body = answer.json();
    assert_eq!(body["error"]["type"], "invalid_request_error");
    assert_eq!(body["error"]["message"], "model: Field required");
    assert_eq!(
        body["request_id"],
        answer.headers["request-id"].to_str().unwrap()
    );
    let answer = post(&mock, MESSAGES, "status=529", &hello(&json!({}))).await;
    assert_eq!(answer.status, 529);
    assert_eq!(answer.json()["error"]["type"], "overloaded_error");
    let settings = "stream-error=4;code=overloaded_error";
    let events = post(&mock, MESSAGES, settings, &hello(&json!({"stream": true})))
        .await
        .events();
    let (name, data) = events.last().unwrap();
    assert_eq!(
        (name.as_str(), &data["error"]["type"]),
        ("error", &json!("overloaded_error"))
    );
}

#[tokio::test]
async fn tokens_are_counted_and_models_listed() {
    let mock = mock();
    let mut body = hello(&json!({"system": "Be kind."}));
    body.as_object_mut().unwrap().remove("max_tokens");
    let answer = post(&mock, "/v1/messages/count_tokens", "", &body)
        .await
        .json();
    assert_eq!(answer, json!({"input_tokens": 4}));
    let version = [("anthropic-version", "2023-06-01")];
    let answer = call(&mock, http::Method::GET, "/v1/models", &version, "")
        .await
        .json();
    assert_eq!(answer["data"][0]["type"], "model");
}
