//! Endpoints beside chat, through the real app: what each is billed, and that a limit stops it.

use serde_json::json;
use tollgate::mock::Exact;

use crate::support::{Answer, Line, Sandbox, client, sandbox::Span};

/// Calls with the answer that the provider shall give.
async fn call(
    sandbox: &Sandbox,
    (method, target): (http::Method, &str),
    kind: &str,
    body: impl Into<bytes::Bytes>,
    (content_type, answer): (&'static str, String),
) -> Answer {
    sandbox.mock.forget();
    sandbox
        .mock
        .next_exact(Exact::new(200, content_type, answer));
    let headers = [("content-type", kind)];
    client::call(sandbox.addr(), method, target, &headers, body).await
}

const BUDGET: &str = "budgets: {daily: 10}";
const JSON: &str = "application/json";

fn line(id: &str) -> String {
    let usage = json!({"prompt_tokens": 1000, "completion_tokens": 100});
    let body = json!({"id": id, "object": "chat.completion", "model": "gpt-4.1", "choices": [],
        "usage": usage});
    let response = json!({"status_code": 200, "body": body});
    json!({"custom_id": id, "response": response, "error": null}).to_string()
}

#[tokio::test]
async fn results_of_a_batch_are_billed_once_at_the_batch_rate() {
    let sandbox = Sandbox::new(BUDGET);
    let file = format!("{}\n{}\n", line("a"), line("b"));
    let read = (http::Method::GET, "/v1/files/file-1/content");
    for billed in [2, 0] {
        let answer = call(
            &sandbox,
            read.clone(),
            JSON,
            "",
            ("application/octet-stream", file.clone()),
        )
        .await;
        assert_eq!(answer.text(), file);
        let span = sandbox.span(&answer).await;
        // 1,000 tokens at $1 and 100 at $4, half of the usual prices.
        assert_eq!(span.nanos("tollgate.cost.usd"), billed * 1_400_000);
        assert_eq!(sandbox.spent("daily").await, 2 * 1_400_000);
    }
}

#[tokio::test]
async fn results_that_were_read_in_part_have_no_known_cost_and_the_rest_is_billed_when_it_is_read()
{
    let sandbox = Sandbox::new(BUDGET);
    let large = json!({"custom_id": "x".repeat(9 << 20)});
    let file = |name: &str| format!("/v1/files/{name}/content");
    let lines = format!("{}\n{large}\n{}\n", line("a"), line("b"));
    let answers = [
        // What cannot be decoded, and then can.
        (file("1"), Some("sdch"), line("a"), (0, false)),
        (file("1"), None, line("a"), (1, true)),
        (file("1"), None, line("a"), (0, true)),
        // A line that is too large to read.
        (file("2"), None, lines.clone(), (2, false)),
        (file("2"), None, lines, (0, false)),
    ];
    let mut spent = 0;
    for (target, coding, body, (billed, is_known)) in answers {
        let mut exact = Exact::new(200, "application/jsonl", body);
        let coding = coding.map(|coding| ("content-encoding".to_owned(), coding.into()));
        exact.headers.extend(coding.clone());
        sandbox.mock.next_exact(exact);
        let answer = sandbox.get(&target).await;
        assert_eq!(answer.status, 200);
        let span = sandbox.span(&answer).await;
        let cost = span.get("tollgate.cost.usd");
        assert_eq!(cost.is_null(), !is_known, "{target} {coding:?} {cost}");
        assert_eq!(span.get("tollgate.partial").is_null(), is_known);
        spent += billed * 1_400_000;
        assert_eq!(sandbox.spent("daily").await, spent, "{target}");
    }
}

#[tokio::test]
async fn results_are_read_to_their_end_however_much_is_unpacked_before_it() {
    use std::io::Write as _;
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let sandbox = Sandbox::new(BUDGET);
    // A mebibyte of lines that are no answers, and no bomb.
    let mut filler = String::new();
    for n in 1_u64..=64 {
        for m in 1..=12 {
            let noise = (n * m).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            filler.push_str(&noise.to_string());
        }
        filler.push_str(&" ".repeat(16_000));
        filler.push('\n');
    }
    let mut body = gzip(&filler).repeat(65);
    body.extend(gzip(&line("a")));
    let mut exact = Exact::new(200, "application/jsonl", body.clone());
    exact
        .headers
        .push(("content-encoding".to_owned(), "gzip".into()));
    sandbox.mock.next_exact(exact);
    let answer = sandbox.get("/v1/files/file-1/content").await;
    assert!(answer.body == body, "the bytes pass as they are");
    let span = sandbox.span(&answer).await;
    assert!(span.get("tollgate.partial").is_null(), "{span:?}");
    assert_eq!(span.nanos("tollgate.cost.usd"), 1_400_000);
}

#[tokio::test]
async fn results_of_message_batches_are_billed_once_at_the_batch_rate() {
    let sandbox = Sandbox::new(BUDGET);
    let message = json!({"id": "msg_1", "model": "claude-sonnet-4-5", "content": [],
        "usage": {"input_tokens": 1000, "output_tokens": 100}});
    let file = json!({"custom_id": "a", "result": {"type": "succeeded", "message": message}});
    let read = (http::Method::GET, "/v1/messages/batches/b1/results");
    let mut costs = Vec::new();
    for _ in 0..2 {
        let text = ("application/x-jsonl", file.to_string());
        let answer = call(&sandbox, read.clone(), JSON, "", text).await;
        let span = sandbox.span(&answer).await;
        costs.push(span.nanos("tollgate.cost.usd"));
    }
    // Half of 1,000 tokens at $3 and 100 at $15.
    assert_eq!(costs, [1_500_000 + 750_000, 0]);
}

/// Where Google's results are: a document that says them twice, or a file.
#[tokio::test]
async fn results_of_google_s_batches_are_billed_once_at_the_batch_rate() {
    let answer = json!({"modelVersion": "gemini-2.0-flash", "candidates": [],
        "usageMetadata": {"promptTokenCount": 1000, "candidatesTokenCount": 100}});
    let list = json!([{"response": answer}, {"error": {"code": 3}}, {"response": answer}]);
    let output = json!({"inlinedResponses": {"inlinedResponses": list}});
    let running = json!({"name": "batches/b1", "metadata": {"state": "BATCH_STATE_RUNNING"}});
    let done = json!({"name": "batches/b1", "done": true, "response": output,
        "metadata": {"state": "BATCH_STATE_SUCCEEDED", "output": output}});
    let pretty = |value| serde_json::to_string_pretty(value).unwrap();
    let lines = format!("{0}\n{0}\n", json!({"key": "a", "response": answer}));
    // Half of 1,000 tokens at $0.10 and 100 at $0.40, twice.
    let bill = 2 * (50_000 + 20_000);
    for (path, answers) in [
        (
            "/gemini/v1beta/batches/b1",
            vec![
                (pretty(&running), 0),
                (pretty(&done), bill),
                (pretty(&done), 0),
            ],
        ),
        (
            "/gemini/download/v1beta/files/batch-b1:download?alt=media",
            vec![(lines.clone(), bill), (lines, 0)],
        ),
    ] {
        let sandbox = Sandbox::new(BUDGET);
        for (text, cost) in answers {
            let answer = (JSON, text.clone());
            let answer = call(&sandbox, (http::Method::GET, path), JSON, "", answer).await;
            assert_eq!(answer.text(), text);
            let span = sandbox.span(&answer).await;
            assert_eq!(span.nanos("tollgate.cost.usd"), cost, "{path} {:#}", span.0);
        }
        assert_eq!(sandbox.spent("daily").await, bill);
    }
}

/// Whoever asks for some fields only (`?fields=`) does not get the others for nothing.
#[tokio::test]
async fn answers_without_their_usage_have_no_known_cost_and_are_billed_when_it_is_read() {
    let list = |one: serde_json::Value| {
        let list = json!([one, {"error": {"code": 3}}]);
        json!({"response": {"inlinedResponses": {"inlinedResponses": list}}}).to_string()
    };
    let candidates = json!([{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}]);
    let usage = json!({"promptTokenCount": 1000, "candidatesTokenCount": 100});
    let whole = json!({"modelVersion": "gemini-2.0-flash", "candidates": candidates,
        "usageMetadata": usage});
    let bill = 50_000 + 20_000;
    for part in [
        json!({"candidates": candidates}),
        json!({"candidates": [{"content": {"parts": [{"text": "hi"}]}}]}),
        json!({"candidates": [{"finishReason": "STOP"}]}),
        json!({"modelVersion": "gemini-2.0-flash"}),
        json!({"responseId": "r1"}),
        json!({"candidates": candidates, "usageMetadata": {"promptTokenCount": 1000}}),
    ] {
        let sandbox = Sandbox::new(BUDGET);
        let answers = [
            // Nothing of an answer: it costs nothing to see that there is one.
            (list(json!({"metadata": {"key": "a"}})), Some(0)),
            (list(json!({"response": part})), None),
            (list(json!({"response": whole})), Some(bill)),
            (list(json!({"response": part})), None),
            (list(json!({"response": whole})), Some(0)),
        ];
        for (text, cost) in answers {
            let to = (http::Method::GET, "/gemini/v1beta/batches/b1");
            let answer = call(&sandbox, to, JSON, "", (JSON, text.clone())).await;
            let span = sandbox.span(&answer).await;
            let known = span.get("tollgate.cost.usd");
            let is_known = !known.is_null();
            let found = is_known.then(|| span.nanos("tollgate.cost.usd"));
            assert_eq!(found, cost, "{text} {:#}", span.0);
        }
        assert_eq!(sandbox.spent("daily").await, bill, "{part}");
    }
}

fn form(model: &str, file: &str) -> String {
    format!(
        "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--b\r\n\
         Content-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\n{file}\r\n--b--\r\n"
    )
}

const FORM: &str = "multipart/form-data; boundary=b";

#[tokio::test]
async fn a_transcript_is_billed_by_its_length_and_its_form_passes_as_it_was() {
    let sandbox = Sandbox::new(BUDGET);
    let usage = json!({"type": "duration", "seconds": 9});
    let answer = json!({"text": "Six by nine", "usage": usage}).to_string();
    let to = (http::Method::POST, "/v1/audio/transcriptions");
    // The second is too large to hold, and streams.
    for size in [1_000, 9_000_000] {
        let body = form("whisper-1", &"x".repeat(size));
        let text = (JSON, answer.clone());
        let answer = call(&sandbox, to.clone(), FORM, body.clone(), text).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(sandbox.mock.requests()[0].body, body);
        let span = sandbox.span(&answer).await;
        assert_eq!(span.get("gen_ai.request.model"), "whisper-1");
        assert_eq!(span.nanos("tollgate.cost.usd"), 900_000);
    }
    assert_eq!(sandbox.spent("daily").await, 2 * 900_000);
}

#[tokio::test]
async fn speech_and_images_are_billed_by_what_the_request_or_the_answer_says() {
    let sandbox = Sandbox::new(&format!("{BUDGET}\npricing: {{dall-e-3: {{images: 40}}}}"));
    let post = |target| (http::Method::POST, target);
    let speech = json!({"model": "tts-1", "input": "x".repeat(1000), "voice": "coral"});
    let sound = ("audio/mpeg", "ID3".to_owned());
    let answer = call(
        &sandbox,
        post("/v1/audio/speech"),
        JSON,
        speech.to_string(),
        sound,
    )
    .await;
    let span = sandbox.span(&answer).await;
    assert_eq!(span.nanos("tollgate.cost.usd"), 15_000_000);
    assert_eq!(span.get("tollgate.usage.source"), "estimated");

    let url = json!({"created": 1, "data": [{"url": "u"}]}).to_string();
    let piece = json!({"model": "dall-e-3", "prompt": "An otter", "n": 2}).to_string();
    let to = post("/v1/images/generations");
    let answer = call(&sandbox, to.clone(), JSON, piece, (JSON, url)).await;
    let span = sandbox.span(&answer).await;
    assert_eq!(span.nanos("tollgate.cost.usd"), 80_000_000);

    let usage = json!({"input_tokens": 50, "output_tokens": 1000});
    let drawn = json!({"created": 1, "data": [], "usage": usage}).to_string();
    let image = json!({"model": "gpt-image-1.5", "prompt": "An otter"}).to_string();
    let answer = call(&sandbox, to, JSON, image, (JSON, drawn)).await;
    let span = sandbox.span(&answer).await;
    assert_eq!(span.nanos("tollgate.cost.usd"), 50 * 5_000 + 1000 * 32_000);
}

/// Leaves a stream once its first event has come.
async fn leave_early(sandbox: &Sandbox, target: &str, kind: &str, body: &str) -> Span {
    let to = (http::Method::POST, target);
    let headers = [("content-type", kind)];
    let whole = client::call(sandbox.addr(), to.0, to.1, &headers, body.to_owned()).await;
    let first = whole.text().find("\n\n").unwrap() + 2;
    let length = body.len();
    let mut line = Line::connect(sandbox.addr()).await;
    line.send(format!(
        "POST {target} HTTP/1.1\r\nhost: x\r\nx-mock: hang={first}\r\ncontent-type: {kind}\r\n\
         content-length: {length}\r\n\r\n{body}"
    ))
    .await;
    assert_eq!(line.head().await.status(), 200);
    line.take(first).await;
    drop(line);
    let spans = sandbox.spans(2).await;
    Span(spans.into_iter().nth(1).unwrap())
}

#[tokio::test]
async fn a_transcript_that_is_left_is_billed_by_the_tokens_that_were_heard_and_read() {
    let sandbox = Sandbox::new(BUDGET);
    let stream = "--b\r\nContent-Disposition: form-data; name=\"stream\"\r\n\r\ntrue\r\n";
    let form = form("gpt-4o-transcribe", &"x".repeat(64_000));
    let body = format!("{stream}{form}");
    let span = leave_early(&sandbox, "/v1/audio/transcriptions", FORM, &body).await;
    assert_eq!(span.get("tollgate.end"), "client");
    assert_eq!(span.get("tollgate.usage.source"), "estimated");
    let count = |name: &str| span.get(name).as_u64().unwrap_or(0);
    assert!(count("gen_ai.usage.input_tokens") > 100, "{span:#?}");
    assert!(count("gen_ai.usage.output_tokens") > 0, "{span:#?}");
    assert!(span.nanos("tollgate.cost.usd") > 0);
}

#[tokio::test]
async fn a_stream_of_images_is_over_with_the_last_of_them() {
    for (n, end, source) in [(1, "complete", "reported"), (2, "client", "estimated")] {
        let sandbox = Sandbox::new(BUDGET);
        let image = json!({"model": "gpt-image-1.5", "prompt": "An otter", "n": n, "stream": true});
        let target = "/v1/images/generations";
        let span = leave_early(&sandbox, target, JSON, &image.to_string()).await;
        assert_eq!(span.get("tollgate.end"), end, "{n}");
        assert_eq!(span.get("tollgate.usage.source"), source, "{n}");
    }
}

#[tokio::test]
async fn images_that_were_filtered_out_are_not_billed() {
    let sandbox = Sandbox::new(&format!("{BUDGET}\npricing: {{imagen-*: {{images: 40}}}}"));
    let image = json!({"bytesBase64Encoded": "AA", "mimeType": "image/png"});
    let made = json!({"predictions": [image, {"raiFilteredReason": "no"}, image]});
    let to = (
        http::Method::POST,
        "/v1beta/models/imagen-4.0-generate-001:predict",
    );
    let asked = json!({"instances": [{"prompt": "An otter"}], "parameters": {"sampleCount": 3}});
    let answer = call(
        &sandbox,
        to,
        JSON,
        asked.to_string(),
        (JSON, made.to_string()),
    )
    .await;
    let span = sandbox.span(&answer).await;
    assert_eq!(span.get("tollgate.usage.source"), "reported");
    assert_eq!(span.nanos("tollgate.cost.usd"), 80_000_000);
}

#[tokio::test]
async fn a_run_is_billed_once_when_its_end_is_seen() {
    let sandbox = Sandbox::new("budgets: {daily: 10, unbounded: allow}");
    let run = |status: &str, usage: serde_json::Value| {
        json!({"id": "run_1", "object": "thread.run", "model": "gpt-4o-mini", "status": status,
            "usage": usage})
        .to_string()
    };
    let made = (http::Method::POST, "/v1/threads/t/runs");
    let body = json!({"assistant_id": "a", "model": "gpt-4o-mini", "max_completion_tokens": 100});
    let queued = (JSON, run("queued", json!(null)));
    call(&sandbox, made, JSON, body.to_string(), queued).await;
    assert_eq!(sandbox.app.holdings().awaited_responses, 1);
    let done = run(
        "completed",
        json!({"prompt_tokens": 1000, "completion_tokens": 100}),
    );
    for _ in 0..2 {
        let poll = (http::Method::GET, "/v1/threads/t/runs/run_1");
        call(&sandbox, poll, JSON, "", (JSON, done.clone())).await;
    }
    assert_eq!(sandbox.spent("daily").await, 150_000 + 60_000);
    assert_eq!(sandbox.budget("daily").reserved, 0);
}

#[tokio::test]
async fn each_is_refused_when_the_budget_cannot_pay_for_it() {
    let sandbox = Sandbox::new("budgets: {daily: 0.000001}");
    let post = |target: &'static str| (http::Method::POST, target);
    let image = json!({"model": "gpt-image-1.5", "prompt": "An otter"}).to_string();
    let speech = json!({"model": "tts-1", "input": "Good morning", "voice": "coral"}).to_string();
    let run = json!({"assistant_id": "a", "model": "gpt-4o-mini", "stream": true}).to_string();
    for (to, kind, body) in [
        (post("/v1/images/generations"), JSON, image),
        (post("/v1/audio/speech"), JSON, speech),
        (
            post("/v1/audio/transcriptions"),
            FORM,
            form("whisper-1", "xxxxxxxxxx"),
        ),
        (post("/v1/threads/t/runs"), JSON, run),
    ] {
        let target = to.1;
        let answer = call(&sandbox, to, kind, body, (JSON, "{}".to_owned())).await;
        assert_eq!(answer.status, 429, "{target}: {}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "insufficient_quota");
        assert_eq!(sandbox.mock.count(), 0, "{target}");
    }
}
