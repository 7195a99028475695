//! Amazon Bedrock through the whole program: the counter moves, the limit holds, streams are cut.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tollgate::{
    mock::End,
    provider::wire::framing::{Found, Framing},
};

use crate::support::{Answer, Sandbox};

const HAIKU: &str = "anthropic.claude-3-haiku-20240307-v1%3A0";
const PRICES: &str = "pricing: {'anthropic.claude-3-haiku-20240307-v1:0': {input: 2.50, output: 10.00}, \
    amazon.titan-text-express-v1: {input: 2.50, output: 10.00}, \
    cohere.embed-english-v3: {input: 2.50, output: 0}}\n";

fn yaml(rest: &str) -> String {
    format!("{PRICES}{rest}")
}

fn hello() -> Value {
    json!({"messages": [{"role": "user", "content": [{"text": "hello"}]}]})
}

fn claude() -> Value {
    json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 400,
        "messages": [{"role": "user", "content": "hello"}]})
}

fn titan() -> Value {
    json!({"inputText": "hello", "textGenerationConfig": {"maxTokenCount": 400}})
}

/// Every endpoint that spends: path and request.
fn endpoints() -> Vec<(String, Value)> {
    let mut bounded = hello();
    bounded["inferenceConfig"] = json!({"maxTokens": 400});
    vec![
        (format!("/model/{HAIKU}/converse"), bounded.clone()),
        (format!("/bedrock/model/{HAIKU}/converse-stream"), bounded),
        (format!("/model/{HAIKU}/invoke"), claude()),
        (
            format!("/model/{HAIKU}/invoke-with-response-stream"),
            claude(),
        ),
        (
            "/model/amazon.titan-text-express-v1/invoke".to_owned(),
            titan(),
        ),
        (
            "/model/amazon.titan-text-express-v1/invoke-with-response-stream".to_owned(),
            titan(),
        ),
        (
            "/model/cohere.embed-english-v3/invoke".to_owned(),
            json!({"inputText": "hello"}),
        ),
    ]
}

/// The events of a stream: names, and data with what is in a chunk decoded.
fn events(answer: &Answer) -> Vec<(String, Value)> {
    let framing = Framing::EventStream;
    let (mut splitter, mut rest, mut found) = (framing.splitter(), &*answer.body, Vec::new());
    while let Some(end) = splitter.next(rest) {
        let Found::End(end) = end else {
            panic!("a frame is damaged");
        };
        let event = framing.parse(&rest[..end]).unwrap().unwrap();
        let mut data: Value = serde_json::from_slice(&event.data).unwrap();
        if let Some(bytes) = data["bytes"].as_str() {
            let bytes: Cow<'_, [u8]> = STANDARD.decode(bytes).unwrap().into();
            data = serde_json::from_slice(&bytes).unwrap();
        }
        found.push((event.name.unwrap_or_default().to_owned(), data));
        rest = &rest[end..];
    }
    assert!(rest.is_empty(), "the stream ends within a frame");
    found
}

#[tokio::test]
async fn every_endpoint_is_metered_priced_and_counted() {
    for (path, body) in endpoints() {
        let sandbox = Sandbox::new(&yaml("budgets: {daily: 1}"));
        sandbox.mock.next_with("input=1000;output=200").unwrap();
        let answer = sandbox.post(&path, &body).await;
        assert_eq!(answer.status, 200, "{path} {answer:?}");
        let span = sandbox.span(&answer).await;
        let embeds = path.contains("embed");
        let (output, cost) = if embeds {
            (0, 2_500_000)
        } else {
            (200, 4_500_000)
        };
        assert_eq!(*span.get("gen_ai.usage.input_tokens"), 1000, "{path}");
        assert_eq!(*span.get("gen_ai.usage.output_tokens"), output, "{path}");
        assert_eq!(span.get("tollgate.usage.source"), "reported", "{path}");
        assert_eq!(span.get("gen_ai.provider.name"), "bedrock", "{path}");
        assert_eq!(span.nanos("tollgate.cost.usd"), cost, "{path}");
        assert_eq!(sandbox.spent("daily").await, cost, "{path}");
        let sent = sandbox.mock.requests().remove(0);
        assert_eq!(
            sent.body,
            serde_json::to_vec(&body).unwrap(),
            "{path}: untouched"
        );
    }
}

#[tokio::test]
async fn a_spent_budget_is_refused_as_access_that_no_sdk_retries() {
    for (path, body) in endpoints() {
        let sandbox = Sandbox::new(&yaml("budgets: {daily: 0.0000001}"));
        let answer = sandbox.post(&path, &body).await;
        assert_eq!(answer.status, 403, "{path} {answer:?}");
        assert_eq!(answer.header("x-amzn-errortype"), "AccessDeniedException");
        assert_eq!(answer.header("x-tollgate-blocked-by"), "budget.daily");
        let error = answer.json();
        assert_eq!(error["__type"], "AccessDeniedException");
        assert!(
            error["message"].as_str().unwrap().contains("daily"),
            "{error}"
        );
        assert_eq!(sandbox.mock.count(), 0, "{path}");
    }
}

#[tokio::test]
async fn a_rate_limit_is_throttling() {
    let sandbox = Sandbox::new(&yaml(
        "rate_limits: [{name: slow, match: {}, requests_per_minute: 1}]",
    ));
    let (path, body) = endpoints().remove(0);
    assert_eq!(sandbox.post(&path, &body).await.status, 200);
    let answer = sandbox.post(&path, &body).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("x-amzn-errortype"), "ThrottlingException");
    assert!(!answer.header("retry-after").is_empty());
}

#[tokio::test]
async fn a_stream_without_a_limit_is_cut_by_a_legal_end() {
    const LIMIT: i64 = 22_000_000;
    for style in ["graceful", "error"] {
        let sandbox = Sandbox::new(&yaml(&format!("budgets: {{daily: 0.022, cut: {style}}}")));
        let settings = "events=300;event-size=100;gap=1ms";
        sandbox.mock.next_with(settings).unwrap();
        let path = format!("/model/{HAIKU}/converse-stream");
        let answer = sandbox.post(&path, &hello()).await;
        assert_eq!((answer.status.as_u16(), &answer.error), (200, &None));
        let span = sandbox.span(&answer).await;
        assert_eq!(span.get("tollgate.end"), "cut");
        let spent = sandbox.spent("daily").await;
        assert!(spent > 0 && spent <= LIMIT, "{spent}");
        let found = events(&answer);
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        let (_, last) = found.last().unwrap();
        if style == "graceful" {
            assert!(
                names.ends_with(&[
                    "contentBlockDelta",
                    "contentBlockStop",
                    "messageStop",
                    "metadata"
                ]),
                "{names:?}"
            );
            assert_eq!(found[found.len() - 2].1["stopReason"], "max_tokens");
            let output = &last["usage"]["outputTokens"];
            assert_eq!(output, span.get("gen_ai.usage.output_tokens"));
        } else {
            assert!(
                names.ends_with(&["contentBlockDelta", "throttlingException"]),
                "{names:?}"
            );
            assert!(
                last["message"].as_str().unwrap().contains("daily"),
                "{last}"
            );
        }
        let requests = sandbox.mock.until(|all| all[0].end != End::Open).await;
        assert_eq!(requests[0].end, End::Left, "the provider is told");
    }
}

#[tokio::test]
async fn a_limit_is_lowered_in_the_vendors_own_field() {
    for (path, body) in endpoints() {
        let sandbox = Sandbox::new(&yaml(
            "budgets: {rules: [{name: tight, window: total, limit: {usd: 0.0022}, on_exhausted: clamp}]}",
        ));
        let answer = sandbox.post(&path, &body).await;
        assert_eq!(answer.status, 200, "{path} {answer:?}");
        let sent = sandbox.mock.requests().remove(0);
        let sent: Value = serde_json::from_slice(&sent.body).unwrap();
        let limit = sent
            .pointer("/inferenceConfig/maxTokens")
            .or_else(|| sent.pointer("/textGenerationConfig/maxTokenCount"))
            .or_else(|| sent.get("max_tokens"));
        let lowered = limit
            .and_then(Value::as_u64)
            .is_some_and(|limit| limit < 400);
        assert_eq!(lowered, !path.contains("embed"), "{path} {sent}");
    }
}

#[tokio::test]
async fn an_exception_in_a_stream_is_an_error_and_what_was_read_is_charged() {
    let sandbox = Sandbox::new(&yaml("budgets: {daily: 1}"));
    sandbox
        .mock
        .next_with("events=5;stream-error=3;code=modelStreamErrorException")
        .unwrap();
    let path = format!("/model/{HAIKU}/converse-stream");
    let answer = sandbox.post(&path, &hello()).await;
    let (name, _) = events(&answer).pop().unwrap();
    assert_eq!(name, "modelStreamErrorException");
    let span = sandbox.span(&answer).await;
    assert_eq!(span.field("status"), "error");
    assert_eq!(span.get("error.type"), "modelStreamErrorException");
    assert!(sandbox.spent("daily").await > 0);
}

#[tokio::test]
async fn counting_is_free_and_an_unknown_profile_is_not_priced() {
    let sandbox = Sandbox::new(
        "budgets: {daily: 1}\npricing: {unknown_model: ceiling, unknown_price: {input: 1, output: 1}}",
    );
    let body = json!({"input": {"converse": hello()}});
    let answer = sandbox
        .post(&format!("/model/{HAIKU}/count-tokens"), &body)
        .await;
    assert_eq!(answer.json()["inputTokens"], 2);
    assert_eq!(sandbox.spent("daily").await, 0);
    let profile =
        "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fx1";
    let answer = sandbox
        .post(&format!("/model/{profile}/converse"), &hello())
        .await;
    let span = sandbox.span(&answer).await;
    let model = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/x1";
    assert_eq!(span.get("gen_ai.request.model"), model);
    assert!(span.get("tollgate.cost.usd").is_null());
}
