//! Hosts that speak an API of their own, or another's in their own way.

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

#[tokio::test]
async fn cohere_s_oldest_endpoint_writes_texts() {
    let body = asked(&json!({"prompt": "hello", "num_generations": 2}));
    let whole = post(&mock(), "/v1/generate", "", &body).await.json();
    assert_eq!(whole["generations"][1]["text"], "You said: hello");
    assert_eq!(whole["meta"]["billed_units"]["output_tokens"], 8);
    let body = asked(&json!({"prompt": "hello", "stream": true}));
    let lines = lines(&post(&mock(), "/v1/generate", "", &body).await.text());
    let last = lines.last().unwrap();
    assert_eq!(last["event_type"], "stream-end");
    assert_eq!(
        last["response"]["generations"][0]["text"],
        "You said: hello"
    );
}

#[tokio::test]
async fn watsonx_counts_input_in_the_first_event_and_output_up_to_each() {
    let body = json!({"model_id": "m", "input": "hello"});
    let answer = post(&mock(), "/ml/v1/text/generation_stream", "", &body).await;
    let events = answer.events();
    let counts = |place: usize| {
        let result = &events[place].1["results"][0];
        let count = |name: &str| result[name].as_u64().unwrap();
        (
            count("input_token_count"),
            count("generated_token_count"),
            result["stop_reason"].as_str().unwrap(),
        )
    };
    assert_eq!(counts(0), (2, 0, "not_finished"));
    assert_eq!(counts(events.len() - 1), (0, 4, "eos_token"));
    let chat = json!({"model_id": "m", "messages": [{"role": "user", "content": "hello"}]});
    let stream = post(&mock(), "/ml/v1/text/chat_stream", "", &chat).await;
    assert!(stream.text().contains("\"usage\":{\"prompt_tokens\":2"));
    let failed = post(&mock(), "/ml/v1/text/generation", "status=500", &body).await;
    assert!(failed.json()["errors"][0]["message"].is_string());
}

#[tokio::test]
async fn aleph_alpha_sums_up_each_text_of_a_stream_and_then_all() {
    let prompt = json!([{"type": "text", "data": "hello"}]);
    let body = asked(&json!({"prompt": prompt, "maximum_tokens": 2, "stream": true}));
    let answer = post(&mock(), "/complete", "", &body).await;
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
    let events = answer.events();
    let [.., (_, summary), (_, all)] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(summary["finish_reason"], "maximum_tokens");
    assert_eq!(all["num_tokens_generated"], 2);
}

#[tokio::test]
async fn writer_s_and_voyage_s_models_are_answered_in_their_ways() {
    let mock = mock();
    let writer = |mut body: Value| {
        body["model"] = json!("palmyra-x4");
        body["stream"] = json!(true);
        body
    };
    let body = writer(json!({"prompt": "hello"}));
    let texts = post(&mock, "/v1/completions", "", &body).await.text();
    assert!(texts.starts_with("data: {\"value\":"), "{texts}");
    let body = writer(hello());
    let chat = post(&mock, "/v1/chat", "", &body).await.text();
    assert!(!chat.contains("[DONE]") && chat.contains("\"message\":"));
    let voyage = |mut body: Value, model: &str| {
        body["model"] = json!(model);
        body
    };
    let body = voyage(json!({"input": ["hello"]}), "voyage-3.5");
    let embedded = post(&mock, "/v1/embeddings", "", &body).await.json();
    assert_eq!(embedded["usage"], json!({"total_tokens": 2}));
    let body = json!({"query": "hello", "documents": ["a", "b"]});
    let ranked = post(&mock, "/v1/rerank", "", &voyage(body, "rerank-2-lite")).await;
    assert_eq!(ranked.json()["usage"], json!({"total_tokens": 4}));
}

#[tokio::test]
async fn a_served_model_s_name_can_be_in_the_path() {
    let path = "/serving-endpoints/llama/invocations";
    let body = json!({"messages": [{"role": "user", "content": "hello"}]});
    let answer = post(&mock(), path, "", &body).await.json();
    assert_eq!(answer["model"], "llama");
}
