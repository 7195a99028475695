//! OpenAI's Responses.

use http::Method;
use serde_json::{Value, json};
use tollgate::mock::{Mock, Options};

use super::client::{call, get, post};

const RESPONSES: &str = "/v1/responses";

fn mock() -> Mock {
    Mock::start(Options::default()).unwrap()
}

fn hello() -> Value {
    json!({"model": "gpt-4o", "input": "hello"})
}

#[tokio::test]
async fn a_plain_answer_has_its_text_and_usage() {
    let body = post(&mock(), RESPONSES, "cached=1;reasoning=3", &hello())
        .await
        .json();
    assert_eq!(body["status"], "completed");
    assert_eq!(body["model"], "gpt-4o-2024-08-06");
    assert_eq!(body["output"][0]["content"][0]["text"], "You said: hello");
    assert_eq!(body["usage"]["input_tokens"], 2);
    assert_eq!(body["usage"]["input_tokens_details"]["cached_tokens"], 1);
    assert_eq!(body["usage"]["output_tokens"], 7);
    assert_eq!(
        body["usage"]["output_tokens_details"]["reasoning_tokens"],
        3
    );
}

#[tokio::test]
async fn a_stream_numbers_its_events_and_ends_with_the_whole_response() {
    let mut body = hello();
    body["stream"] = true.into();
    let answer = post(&mock(), RESPONSES, "", &body).await;
    assert!(!answer.text().contains("[DONE]"));
    let events = answer.events();
    for (number, (name, data)) in events.iter().enumerate() {
        assert_eq!(
            (&data["sequence_number"], &data["type"]),
            (&json!(number), &json!(name))
        );
    }
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    let deltas = names
        .iter()
        .filter(|name| **name == "response.output_text.delta")
        .count();
    assert_eq!(
        names[..4],
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added"
        ]
    );
    assert_eq!((deltas, names.len()), (3, 4 + 3 + 4));
    assert_eq!(events[0].1["response"]["usage"], Value::Null);
    let last = &events.last().unwrap().1["response"];
    assert_eq!(last["output"][0]["content"][0]["text"], "You said: hello");
    assert_eq!(last["usage"]["total_tokens"], 6);
}

#[tokio::test]
async fn an_output_limit_makes_it_incomplete() {
    let mut body = hello();
    body["max_output_tokens"] = 2.into();
    let mock = mock();
    let answer = post(&mock, RESPONSES, "", &body).await.json();
    assert_eq!(answer["status"], "incomplete");
    assert_eq!(answer["incomplete_details"]["reason"], "max_output_tokens");
    body["stream"] = true.into();
    let events = post(&mock, RESPONSES, "", &body).await.events();
    assert_eq!(events.last().unwrap().0, "response.incomplete");
}

#[tokio::test]
async fn a_background_response_is_found_queued_running_and_done() {
    let mock = mock();
    let mut body = hello();
    body["background"] = true.into();
    let queued = post(&mock, RESPONSES, "polls=2", &body).await.json();
    assert_eq!(
        (&queued["status"], &queued["usage"]),
        (&json!("queued"), &Value::Null)
    );
    let path = format!("{RESPONSES}/{}", queued["id"].as_str().unwrap());
    for status in ["in_progress", "in_progress", "completed", "completed"] {
        assert_eq!(get(&mock, &path).await.json()["status"], status);
    }
    assert_eq!(get(&mock, &path).await.json()["usage"]["output_tokens"], 4);
    let rest = get(&mock, &format!("{path}?stream=true&starting_after=3"))
        .await
        .events();
    assert_eq!(rest[0].1["sequence_number"], 4);
    call(&mock, Method::DELETE, &path, &[], "").await;
    assert_eq!(get(&mock, &path).await.status, 404);
}

#[tokio::test]
async fn a_cancelled_response_stays_cancelled_and_only_a_background_one_can_be() {
    let mock = mock();
    let mut body = hello();
    let cancel = |id: &Value| format!("{RESPONSES}/{}/cancel", id.as_str().unwrap());
    let done = post(&mock, RESPONSES, "", &body).await.json();
    assert_eq!(
        post(&mock, &cancel(&done["id"]), "", &json!({}))
            .await
            .status,
        400
    );
    body["background"] = true.into();
    let queued = post(&mock, RESPONSES, "", &body).await.json();
    let cancelled = post(&mock, &cancel(&queued["id"]), "", &json!({}))
        .await
        .json();
    assert_eq!(cancelled["status"], "cancelled");
    let path = format!("{RESPONSES}/{}", queued["id"].as_str().unwrap());
    let found = get(&mock, &path).await.json();
    assert_eq!(
        (&found["status"], &found["usage"]),
        (&json!("cancelled"), &Value::Null)
    );
}

#[tokio::test]
async fn a_continuation_counts_what_was_said_before_and_joins_results_by_call_id() {
    let mock = mock();
    let first = json!({
        "model": "gpt-4o",
        "input": "Ask weather",
        "tools": [{"type": "function", "name": "weather", "parameters": {"type": "object"}}],
    });
    let answer = post(&mock, RESPONSES, "", &first).await.json();
    let call = &answer["output"][0];
    assert_eq!(
        (&call["type"], &call["name"]),
        (&json!("function_call"), &json!("weather"))
    );
    let mut second = json!({
        "model": "gpt-4o",
        "previous_response_id": answer["id"],
        "input": [{
            "type": "function_call_output",
            "call_id": call["call_id"],
            "output": "sunny",
        }],
    });
    let answer = post(&mock, RESPONSES, "", &second).await.json();
    assert_eq!(
        answer["output"][0]["content"][0]["text"],
        "The tool says: sunny"
    );
    let bytes = "Ask weather".len() + "weather{}".len() + "sunny".len();
    assert_eq!(
        answer["usage"]["input_tokens"],
        tollgate::mock::tokens(bytes)
    );
    second["previous_response_id"] = "resp_none".into();
    let answer = post(&mock, RESPONSES, "", &second).await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.json()["error"]["code"],
        "previous_response_not_found"
    );
}

#[tokio::test]
async fn a_streamed_call_and_a_failure_have_their_events() {
    let mock = mock();
    let body = json!({
        "model": "gpt-4o",
        "input": "hello",
        "stream": true,
        "tools": [{"type": "function", "name": "weather", "parameters": {"type": "object"}}],
        "tool_choice": "required",
    });
    let events = post(&mock, RESPONSES, "", &body).await.events();
    let arguments: String = events
        .iter()
        .filter(|(name, _)| name == "response.function_call_arguments.delta")
        .filter_map(|(_, data)| data["delta"].as_str())
        .collect();
    assert_eq!(arguments, "{}");
    let events = post(&mock, RESPONSES, "stream-error=3", &body)
        .await
        .events();
    let (name, data) = events.last().unwrap();
    assert_eq!(
        (name.as_str(), &data["sequence_number"]),
        ("error", &json!(3))
    );
}
