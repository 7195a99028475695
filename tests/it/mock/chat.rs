//! OpenAI's chat completions and embeddings.

use serde_json::{Value, json};
use tollgate::mock::{Mock, Options, Rule, Script, When};

use super::client::{Answer, get, post};

const CHAT: &str = "/v1/chat/completions";

fn hello(more: &Value) -> Value {
    let mut body = json!({
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "hello"}],
    });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn text(answer: &Answer) -> String {
    let data = answer.data();
    let pieces = data
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    pieces.collect()
}

#[tokio::test]
async fn a_plain_answer_has_the_dated_model_and_usage_by_the_rule() {
    let mock = Mock::start(Options::default()).unwrap();
    let answer = post(&mock, CHAT, "", &hello(&json!({}))).await;
    let body = answer.json();
    assert_eq!(answer.status, 200);
    assert!(
        answer.headers["x-request-id"]
            .to_str()
            .unwrap()
            .starts_with("req_")
    );
    assert_eq!(body["model"], "gpt-4o-2024-08-06");
    assert_eq!(body["choices"][0]["message"]["content"], "You said: hello");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["usage"]["prompt_tokens"], 2);
    assert_eq!(body["usage"]["completion_tokens"], 4);
    assert_eq!(body["usage"]["total_tokens"], 6);
    let id = answer.text().find("\"id\"").unwrap();
    assert!(
        id < answer.text().find("\"choices\"").unwrap(),
        "keys in the provider's order"
    );
}

#[tokio::test]
async fn a_stream_without_the_flag_has_no_usage_at_all() {
    let mock = Mock::start(Options::default()).unwrap();
    let answer = post(&mock, CHAT, "", &hello(&json!({"stream": true}))).await;
    assert_eq!(
        answer.headers["content-type"],
        "text/event-stream; charset=utf-8"
    );
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
    assert!(
        answer
            .data()
            .iter()
            .all(|chunk| chunk.get("usage").is_none())
    );
    assert_eq!(text(&answer), "You said: hello");
}

#[tokio::test]
async fn a_stream_with_the_flag_has_null_usage_and_one_last_chunk_without_choices() {
    let mock = Mock::start(Options::default()).unwrap();
    let flag = json!({"stream": true, "stream_options": {"include_usage": true}});
    let answer = post(&mock, CHAT, "", &hello(&flag)).await;
    let data = answer.data();
    let (last, others) = data.split_last().unwrap();
    assert!(
        others
            .iter()
            .all(|chunk| chunk.get("usage") == Some(&Value::Null))
    );
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 4);
    assert_eq!(
        others.last().unwrap()["choices"][0]["finish_reason"],
        "stop"
    );
}

#[tokio::test]
async fn a_named_tool_is_called_and_its_result_answered() {
    let mock = Mock::start(Options::default()).unwrap();
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let function = json!({"name": "weather", "parameters": parameters});
    let mut body = json!({
        "model": "gpt-4o",
        "tools": [{"type": "function", "function": function}],
        "messages": [{"role": "user", "content": "Ask weather"}],
    });
    let answer = post(&mock, CHAT, "", &body).await.json();
    let message = answer["choices"][0]["message"].clone();
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(message["content"], Value::Null);
    assert_eq!(
        message["tool_calls"][0]["function"]["arguments"],
        "{\"city\":\"mock\"}"
    );

    body["stream"] = true.into();
    let data = post(&mock, CHAT, "", &body).await.data();
    let deltas = data.iter().flat_map(|chunk| {
        chunk["choices"][0]["delta"]["tool_calls"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    });
    let deltas: Vec<_> = deltas.collect();
    let ids = deltas
        .iter()
        .filter(|delta| delta.get("id").is_some())
        .count();
    let arguments: String = deltas
        .iter()
        .filter_map(|delta| delta["function"]["arguments"].as_str())
        .collect();
    assert_eq!((ids, arguments.as_str()), (1, "{\"city\":\"mock\"}"));

    let id = message["tool_calls"][0]["id"].clone();
    let result = json!({"role": "tool", "tool_call_id": id, "content": "sunny"});
    let messages = body["messages"].as_array_mut().unwrap();
    messages.extend([message, result]);
    let answer = post(&mock, CHAT, "", &body).await;
    assert_eq!(text(&answer), "The tool says: sunny");
}

#[tokio::test]
async fn a_script_leads_a_conversation_from_hand_off_to_answer() {
    let system = |text: &str| When {
        system: Some(text.into()),
        ..When::default()
    };
    let script = Script {
        rules: vec![
            Rule::call(system("triage"), "transfer_to_refunds", json!({})),
            Rule::say(system("refunds"), "Refunded, {user}.").with("finish=length"),
        ],
    };
    let mock = Mock::start(Options {
        script,
        ..Options::default()
    })
    .unwrap();
    let ask = |agent: &str| {
        json!({"model": "gpt-4o", "messages": [
            {"role": "system", "content": format!("You are {agent}.")},
            {"role": "user", "content": "Ann"},
        ]})
    };
    let answer = post(&mock, CHAT, "", &ask("triage")).await.json();
    let call = &answer["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(call["function"]["name"], "transfer_to_refunds");
    let answer = post(&mock, CHAT, "", &ask("refunds")).await.json();
    assert_eq!(answer["choices"][0]["message"]["content"], "Refunded, Ann.");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn limits_choices_and_asked_for_counts_are_kept() {
    let mock = Mock::start(Options::default()).unwrap();
    let answer = post(&mock, CHAT, "", &hello(&json!({"max_tokens": 2, "n": 3})))
        .await
        .json();
    assert_eq!(answer["choices"].as_array().unwrap().len(), 3);
    assert_eq!(answer["choices"][2]["message"]["content"], "You said");
    assert_eq!(answer["choices"][2]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 6);
    let settings = "input=120;output=45;cached=100;reasoning=20";
    let usage = post(&mock, CHAT, settings, &hello(&json!({}))).await.json()["usage"].clone();
    assert_eq!(usage["prompt_tokens"], 120);
    assert_eq!(usage["completion_tokens"], 45);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 100);
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 20);
    let answer = post(&mock, CHAT, "usage=none", &hello(&json!({})))
        .await
        .json();
    assert_eq!(answer.get("usage"), None);
}

#[tokio::test]
async fn wrong_requests_get_openais_errors() {
    let mock = Mock::start(Options::default()).unwrap();
    let answer = post(&mock, CHAT, "", &json!({"messages": []})).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    let answer = post(&mock, CHAT, "", &json!({"model": "gpt-4o"})).await;
    assert_eq!(answer.json()["error"]["param"], "messages");
    let answer = post(&mock, CHAT, "", &json!("{")).await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn embeddings_are_numbers_or_base64_and_count_their_input() {
    let mock = Mock::start(Options::default()).unwrap();
    let mut body = json!({
        "model": "text-embedding-3-small",
        "input": ["hello", [1, 2, 3]],
        "dimensions": 3,
    });
    let answer = post(&mock, "/v1/embeddings", "", &body).await.json();
    assert_eq!(answer["data"][1]["embedding"].as_array().unwrap().len(), 3);
    assert_eq!(answer["usage"]["prompt_tokens"], 2 + 3);
    body["encoding_format"] = "base64".into();
    let answer = post(&mock, "/v1/embeddings", "", &body).await.json();
    assert_eq!(
        answer["data"][0]["embedding"].as_str().unwrap().len(),
        16,
        "12 bytes"
    );
}

#[tokio::test]
async fn models_are_listed() {
    let mock = Mock::start(Options::default()).unwrap();
    assert_eq!(get(&mock, "/v1/models").await.json()["object"], "list");
}
