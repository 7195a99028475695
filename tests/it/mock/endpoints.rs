//! The mock's endpoints beside conversations: images, audio, files, batches, runs, completions.

use http::Method;
use serde_json::{Value, json};
use tollgate::mock::{Mock, Options};

use super::client::{Answer, call, post};

fn mock() -> Mock {
    Mock::start(Options::default()).unwrap()
}

async fn get(mock: &Mock, path: &str) -> Answer {
    call(mock, Method::GET, path, &[], "").await
}

async fn form(mock: &Mock, path: &str, fields: &[(&str, &str)], file: &str) -> Answer {
    let part = |head: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n")
    };
    let fields = fields.iter();
    let fields = fields.map(|(name, value)| part(&format!("name=\"{name}\""), value));
    let file = part("name=\"file\"; filename=\"f\"", file);
    let body: String = fields.chain([file, "--b--\r\n".to_owned()]).collect();
    let headers = [("content-type", "multipart/form-data; boundary=b")];
    call(mock, Method::POST, path, &headers, body).await
}

fn lines(answer: &Answer) -> Vec<Value> {
    let text = answer.text();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn images_count_tokens_or_come_by_the_piece() {
    let mock = mock();
    let path = "/v1/images/generations";
    let request = json!({"model": "gpt-image-1", "prompt": "12345678", "n": 2});
    let body = post(&mock, path, "", &request).await.json();
    assert_eq!(body["data"].as_array().unwrap().len(), 2);
    assert_eq!(body["usage"]["input_tokens"], 2);
    assert_eq!(body["usage"]["output_tokens"], 2 * 1056);
    let request = json!({"model": "dall-e-3", "prompt": "x"});
    let body = post(&mock, path, "", &request).await.json();
    assert!(body["data"][0]["url"].is_string() && body.get("usage").is_none());
    let request = json!({"model": "gpt-image-1", "prompt": "x", "stream": true,
        "partial_images": 1});
    let events = post(&mock, path, "output=9", &request).await.events();
    let kinds: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "image_generation.partial_image",
            "image_generation.completed"
        ]
    );
    assert_eq!(events[1].1["usage"]["output_tokens"], 9);
    let problem = post(&mock, path, "", &json!({"model": "gpt-image-1"})).await;
    assert_eq!(problem.json()["error"]["param"], "prompt");
}

#[tokio::test]
async fn audio_is_made_and_heard() {
    let mock = mock();
    let request = json!({"model": "gpt-4o-mini-tts", "voice": "coral", "input": "hello, world"});
    let sound = post(&mock, "/v1/audio/speech", "", &request).await;
    assert_eq!(sound.headers["content-type"], "audio/mpeg");
    assert_eq!(sound.body().len(), 2 * 16_000);
    let mut request = request;
    request["stream_format"] = json!("sse");
    let events = post(&mock, "/v1/audio/speech", "", &request).await.data();
    assert_eq!(events.last().unwrap()["usage"]["output_tokens"], 20);

    let path = "/v1/audio/transcriptions";
    let file = "x".repeat(20_000);
    let body = form(&mock, path, &[("model", "whisper-1")], &file).await;
    assert_eq!(
        body.json()["usage"],
        json!({"type": "duration", "seconds": 2})
    );
    let fields = [("model", "gpt-4o-transcribe"), ("stream", "true")];
    let events = form(&mock, path, &fields, &file).await.data();
    let last = events.last().unwrap();
    assert_eq!(last["usage"]["input_token_details"]["audio_tokens"], 20);
    let said: String = events
        .iter()
        .filter_map(|event| event["delta"].as_str())
        .collect();
    assert_eq!(last["text"], said);
    let fields = [("model", "whisper-1"), ("response_format", "srt")];
    let text = form(&mock, path, &fields, &file).await.text();
    assert!(text.contains("--> 00:00:02,000"), "{text}");
}

#[tokio::test]
async fn a_batch_answers_every_line_of_its_file() {
    let mock = mock();
    let line = |url: &str, body: &Value| json!({"custom_id": url, "url": url, "body": body});
    let chat = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]});
    let input = [
        line("/v1/chat/completions", &chat),
        line("/v1/chat/completions", &json!({"model": "gpt-4o"})),
        line("/v1/batches", &json!({})),
    ];
    let input = input.map(|line| line.to_string()).join("\n");
    let file = form(&mock, "/v1/files", &[("purpose", "batch")], &input).await;
    let request = json!({"input_file_id": file.json()["id"], "endpoint": "/v1/chat/completions",
        "completion_window": "24h"});
    let batch = post(&mock, "/v1/batches", "input=7", &request).await.json();
    let path = format!("/v1/batches/{}", batch["id"].as_str().unwrap());
    assert_eq!(get(&mock, &path).await.json()["status"], "in_progress");
    let done = get(&mock, &path).await.json();
    assert_eq!(done["status"], "completed");
    let output = done["output_file_id"].as_str().unwrap();
    let results = lines(&get(&mock, &format!("/v1/files/{output}/content")).await);
    let answer = &results[0]["response"];
    assert_eq!(answer["status_code"], 200);
    assert_eq!(answer["body"]["usage"]["prompt_tokens"], 7);
    for failed in &results[1..] {
        assert_eq!(failed["response"]["status_code"], 400, "{failed}");
    }
    let missing = get(&mock, "/v1/files/file-none/content").await;
    assert_eq!(missing.status, 404);
}

#[tokio::test]
async fn a_message_batch_answers_every_request() {
    let mock = mock();
    let params = json!({"model": "claude-haiku-4-5", "max_tokens": 9,
        "messages": [{"role": "user", "content": "hello"}]});
    let requests = json!({"requests": [
        {"custom_id": "a", "params": params},
        {"custom_id": "b", "params": {"model": "claude-haiku-4-5"}},
    ]});
    let path = "/v1/messages/batches";
    let batch = post(&mock, path, "polls=0", &requests).await.json();
    let path = format!("{path}/{}", batch["id"].as_str().unwrap());
    let done = get(&mock, &path).await.json();
    assert_eq!(done["processing_status"], "ended");
    let url = done["results_url"].as_str().unwrap();
    assert!(url.ends_with(&format!("{path}/results")), "{url}");
    let results = lines(&get(&mock, &format!("{path}/results")).await);
    assert_eq!(results[0]["result"]["message"]["usage"]["output_tokens"], 4);
    assert_eq!(results[1]["result"]["type"], "errored");
}

#[tokio::test]
async fn a_run_is_polled_followed_and_cancelled() {
    let mock = mock();
    let request = json!({"assistant_id": "a", "model": "gpt-4o-mini",
        "additional_messages": [{"role": "user", "content": "hello"}]});
    let path = "/v1/threads/t/runs";
    let run = post(&mock, path, "polls=1", &request).await.json();
    assert_eq!(
        (&run["status"], &run["usage"]),
        (&json!("queued"), &json!(null))
    );
    let one = format!("{path}/{}", run["id"].as_str().unwrap());
    assert_eq!(get(&mock, &one).await.json()["status"], "in_progress");
    let done = get(&mock, &one).await.json();
    assert_eq!(done["status"], "completed");
    assert_eq!(done["usage"]["completion_tokens"], 4);

    let mut stream = request.clone();
    stream["stream"] = json!(true);
    let events = post(&mock, path, "", &stream).await.events();
    let (name, last) = events.last().unwrap();
    assert_eq!(name, "thread.run.completed");
    assert_eq!(last["usage"]["prompt_tokens"], 2);

    let run = post(&mock, path, "polls=1", &request).await.json();
    let one = format!("{path}/{}", run["id"].as_str().unwrap());
    let cancelled = call(&mock, Method::POST, &format!("{one}/cancel"), &[], "").await;
    assert_eq!(cancelled.json()["status"], "cancelled");
}

#[tokio::test]
async fn legacy_completions_go_on_with_a_prompt() {
    let mock = mock();
    let request = json!({"model": "gpt-3.5-turbo-instruct", "prompt": "hello", "max_tokens": 2});
    let body = post(&mock, "/v1/completions", "", &request).await.json();
    assert_eq!(body["choices"][0]["text"], "You said");
    assert_eq!(body["choices"][0]["finish_reason"], "length");
    assert_eq!(body["usage"]["completion_tokens"], 2);
    let request = json!({"model": "claude-2.1", "prompt": "hello", "max_tokens_to_sample": 9,
        "stream": true});
    let events = post(&mock, "/v1/complete", "", &request).await.data();
    let text: String = events
        .iter()
        .map(|event| event["completion"].as_str().unwrap())
        .collect();
    assert_eq!(text, "You said: hello");
    assert_eq!(events.last().unwrap()["stop_reason"], "stop_sequence");
}

#[tokio::test]
async fn moderations_and_compaction_have_their_forms() {
    let mock = mock();
    let request = json!({"input": ["a", "b"]});
    let body = post(&mock, "/v1/moderations", "", &request).await.json();
    assert_eq!(body["results"][1]["flagged"], false);
    let request = json!({"model": "gpt-5", "input": "hello"});
    let body = post(&mock, "/v1/responses/compact", "", &request).await;
    assert_eq!(body.json()["object"], "response.compaction");
    assert_eq!(body.json()["usage"]["input_tokens"], 2);
}
