//! Gemini's generateContent.

use serde_json::{Value, json};
use tollgate::mock::{Mock, Options};

use super::client::{call, get, post};

const WHOLE: &str = "/v1beta/models/gemini-2.5-flash:generateContent";
const STREAM: &str = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse";

fn mock() -> Mock {
    Mock::start(Options::default()).unwrap()
}

fn hello() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]})
}

#[tokio::test]
async fn a_plain_answer_counts_thoughts_apart() {
    let body = post(&mock(), WHOLE, "reasoning=7;cached=1", &hello())
        .await
        .json();
    assert_eq!(body["modelVersion"], "gemini-2.5-flash");
    let candidate = &body["candidates"][0];
    assert_eq!(candidate["content"]["parts"][0]["text"], "You said: hello");
    assert_eq!(candidate["finishReason"], "STOP");
    let usage = &body["usageMetadata"];
    assert_eq!(usage["promptTokenCount"], 2);
    assert_eq!(usage["candidatesTokenCount"], 4);
    assert_eq!(usage["thoughtsTokenCount"], 7);
    assert_eq!(usage["cachedContentTokenCount"], 1);
    assert_eq!(usage["totalTokenCount"], 13);
}

#[tokio::test]
async fn a_stream_has_crlf_and_growing_counts_and_the_reason_last() {
    let mock = mock();
    let answer = post(&mock, STREAM, "", &hello()).await;
    let text = answer.text();
    assert!(text.ends_with("\r\n\r\n") && !text.replace("\r\n", "").contains('\n'));
    let chunks = answer.data();
    let counts: Vec<_> = chunks
        .iter()
        .map(|chunk| &chunk["usageMetadata"]["candidatesTokenCount"])
        .collect();
    assert_eq!(counts, [1, 3, 4]);
    assert_eq!(chunks[0]["candidates"][0].get("finishReason"), None);
    assert_eq!(chunks[2]["candidates"][0]["finishReason"], "STOP");
    let array = post(
        &mock,
        STREAM.strip_suffix("?alt=sse").unwrap(),
        "",
        &hello(),
    )
    .await
    .json();
    assert_eq!(array.as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_function_is_called_without_an_id_and_its_response_answered() {
    let mock = mock();
    let mut body = hello();
    let schema = json!({"type": "OBJECT", "properties": {"city": {"type": "STRING"}}});
    body["tools"] = json!([{"functionDeclarations": [{"name": "weather", "parameters": schema}]}]);
    body["toolConfig"] = json!({"functionCallingConfig": {"mode": "ANY"}});
    let answer = post(&mock, WHOLE, "", &body).await.json();
    let mut snake = hello();
    snake["tools"] =
        json!([{"function_declarations": [{"name": "weather", "parameters_json_schema": schema}]}]);
    snake["tool_config"] = json!({"function_calling_config": {"mode": "ANY"}});
    let same = post(&mock, WHOLE, "", &snake).await.json();
    assert_eq!(answer["candidates"], same["candidates"]);
    let part = answer["candidates"][0]["content"]["parts"][0].clone();
    assert_eq!(
        part,
        json!({"functionCall": {"name": "weather", "args": {"city": "mock"}}})
    );
    assert_eq!(answer["candidates"][0]["finishReason"], "STOP");
    let response = json!({"name": "weather", "response": {"result": "sunny"}});
    body["contents"].as_array_mut().unwrap().extend([
        json!({"role": "model", "parts": [part]}),
        json!({"role": "user", "parts": [{"functionResponse": response}]}),
    ]);
    let answer = post(&mock, WHOLE, "", &body).await.json();
    let text = &answer["candidates"][0]["content"]["parts"][0]["text"];
    assert_eq!(text, "The tool says: sunny");
}

#[tokio::test]
async fn settings_stand_in_the_paths_model_and_errors_have_googles_form() {
    let mock = mock();
    let path = "/v1beta/models/gemini-2.5-flash;status=429:generateContent";
    let answer = post(&mock, path, "", &hello()).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.json()["error"]["status"], "RESOURCE_EXHAUSTED");
    let answer = post(&mock, WHOLE, "", &json!({})).await;
    assert_eq!(answer.json()["error"]["status"], "INVALID_ARGUMENT");
    let chunks = post(&mock, STREAM, "stream-error=1", &hello()).await.data();
    assert_eq!(chunks[1]["error"]["code"], 500);
}

#[tokio::test]
async fn tokens_are_counted_and_models_listed() {
    let mock = mock();
    let path = "/v1beta/models/gemini-2.5-flash:countTokens";
    assert_eq!(
        post(&mock, path, "", &hello()).await.json()["totalTokens"],
        2
    );
    let by_path = get(&mock, "/v1beta/models").await.json();
    let key = [("x-goog-api-key", "k")];
    let by_key = call(&mock, http::Method::GET, "/v1/models", &key, "")
        .await
        .json();
    assert_eq!(by_path["models"][0]["name"], "models/gemini-2.5-flash");
    assert_eq!(by_path, by_key);
}
