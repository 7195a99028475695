//! Cohere's and Ollama's own APIs.

use serde_json::{Value, json};
use tollgate::mock::{Mock, Options};

use super::client::post;

fn mock() -> Mock {
    Mock::start(Options::default()).unwrap()
}

fn asked(body: &Value) -> Value {
    let mut body = body.clone();
    body["model"] = json!("m");
    body
}

fn hello() -> Value {
    asked(&json!({"messages": [{"role": "user", "content": "hello"}], "stream": true}))
}

/// The objects of a stream that has one a line.
fn lines(text: &str) -> Vec<Value> {
    assert!(text.ends_with('\n'));
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn cohere_bills_less_than_its_model_sees_and_names_its_events() {
    let answer = post(&mock(), "/v2/chat", "", &hello()).await;
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
    let events = answer.events();
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    let wanted = ["message-start", "content-start", "content-delta"];
    assert!(names.starts_with(&wanted), "{names:?}");
    assert!(names.ends_with(&["content-delta", "content-end", "message-end"]));
    let delta = &events.last().unwrap().1["delta"];
    assert_eq!(delta["finish_reason"], "COMPLETE");
    let usage = &delta["usage"];
    assert_eq!(
        usage["billed_units"],
        json!({"input_tokens": 2, "output_tokens": 4})
    );
    assert_eq!(
        usage["tokens"],
        json!({"input_tokens": 68, "output_tokens": 4})
    );
}

#[tokio::test]
async fn cohere_s_first_version_sends_lines_whose_last_has_the_whole_answer() {
    let body = asked(&json!({"message": "hello", "stream": true}));
    let answer = post(&mock(), "/v1/chat", "", &body).await;
    assert_eq!(answer.headers["content-type"], "application/stream+json");
    let lines = lines(&answer.text());
    assert_eq!(lines[0]["event_type"], "stream-start");
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["event_type"], &last["is_finished"]),
        (&json!("stream-end"), &json!(true))
    );
    assert_eq!(last["response"]["text"], "You said: hello");
}

#[tokio::test]
async fn cohere_bills_rankings_by_the_hundred_documents() {
    let documents = vec!["a"; 101];
    let body = asked(&json!({"query": "who", "documents": documents}));
    let answer = post(&mock(), "/v2/rerank", "", &body).await.json();
    assert_eq!(answer["results"].as_array().unwrap().len(), 101);
    assert_eq!(answer["meta"]["billed_units"], json!({"search_units": 2}));
}

#[tokio::test]
async fn ollama_streams_unless_it_is_told_not_to() {
    let mock = mock();
    let mut body = hello();
    body.as_object_mut().unwrap().remove("stream");
    let answer = post(&mock, "/api/chat", "", &body).await;
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    let lines = lines(&answer.text());
    let last = lines.last().unwrap();
    let (rest, end) = (&lines[..lines.len() - 1], json!(true));
    let text = rest
        .iter()
        .map(|line| line["message"]["content"].as_str().unwrap());
    assert_eq!(text.collect::<String>(), "You said: hello");
    assert_eq!(
        (&last["done"], &last["done_reason"]),
        (&end, &json!("stop"))
    );
    assert_eq!(
        (&last["prompt_eval_count"], &last["eval_count"]),
        (&json!(2), &json!(4))
    );
    body["stream"] = json!(false);
    let whole = post(&mock, "/api/chat", "", &body).await.json();
    assert_eq!(whole["message"]["content"], "You said: hello");
}

#[tokio::test]
async fn each_has_its_own_errors_whole_and_in_streams() {
    let mock = mock();
    let body = hello();
    let cohere = post(&mock, "/v2/chat", "status=500", &body).await.json();
    assert!(cohere["message"].is_string(), "{cohere}");
    let ollama = post(&mock, "/api/chat", "status=500", &body).await.json();
    assert!(ollama["error"].is_string(), "{ollama}");
    let broken = "stream-error=1";
    let events = post(&mock, "/v2/chat", broken, &body).await.events();
    assert_eq!(events.last().unwrap().1["delta"]["finish_reason"], "ERROR");
    let told = lines(&post(&mock, "/api/chat", broken, &body).await.text());
    assert!(told.last().unwrap()["error"].is_string(), "{told:?}");
}
