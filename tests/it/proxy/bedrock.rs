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
        let sandbox = Sandbox::new(&yaml(&format!(
            "providers: {{bedrock: {{abandoned: until_then}}}}\n\
             budgets: {{daily: 0.022, cut: {style}}}"
        )));
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

mod signatures {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Method, header::HOST, uri::PathAndQuery};
    use tollgate::{
        base::{clock::Timestamp, secret::Secret},
        mock::SIGNING_ID,
        net::aws::{Keys, Scope, hash, sign},
    };

    use super::*;
    use crate::support::client;

    /// Signs as a client does, for the host that it thinks it talks to.
    fn signed(host: &str, path: &str, body: &str, region: &str) -> Vec<(String, String)> {
        let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_str(host).unwrap())]);
        let keys = Keys {
            id: "AKIACLIENT".to_owned(),
            secret: Secret::new("of the client"),
            token: Some(Secret::new("its token")),
        };
        let scope = Scope {
            region: region.to_owned(),
            service: "bedrock".to_owned(),
        };
        let target: PathAndQuery = path.parse().unwrap();
        let head = (&Method::POST, &target);
        let now = Timestamp::from_secs(1_795_000_000);
        sign(
            head,
            &mut headers,
            &hash(body.as_bytes()),
            (&keys, &scope),
            now,
        );
        let text = |(name, value): (&http::HeaderName, &HeaderValue)| {
            (name.to_string(), value.to_str().unwrap().to_owned())
        };
        headers.iter().map(text).collect()
    }

    async fn call(sandbox: &Sandbox, path: &str, body: &str, region: &str) -> Answer {
        let headers = signed(&sandbox.addr().to_string(), path, body, region);
        let mut headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        headers.retain(|(name, _)| *name != "host");
        headers.push(("content-type", "application/json"));
        let body = Bytes::copy_from_slice(body.as_bytes());
        client::call(sandbox.addr(), Method::POST, path, &headers, body).await
    }

    /// A sandbox that signs with the keys which the mock knows.
    fn signing(budgets: &str) -> (Sandbox, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("credentials");
        let text = format!(
            "[work]\naws_access_key_id = {SIGNING_ID}\naws_secret_access_key = mock-secret\n"
        );
        std::fs::write(&file, text).unwrap();
        let yaml = yaml(&format!(
            "{budgets}\nproviders: {{bedrock: {{base_url: '{{mock}}', sign: {{profile: work, file: '{}'}}}}}}",
            file.display()
        ));
        (Sandbox::new(&yaml), directory)
    }

    #[tokio::test]
    async fn a_signed_request_is_signed_again_for_the_host_it_goes_to() {
        let (sandbox, _files) = signing("budgets: {daily: 1}");
        let endpoints = endpoints();
        for (path, body) in &endpoints {
            let body = body.to_string();
            let answer = call(&sandbox, path, &body, "eu-west-1").await;
            assert_eq!(answer.status, 200, "{path} {answer:?}");
            let span = sandbox.span(&answer).await;
            assert_eq!(
                *span.get("tollgate.edits"),
                json!(["request.signature"]),
                "{path}"
            );
        }
        for sent in sandbox.mock.requests() {
            let value = sent.headers["authorization"].to_str().unwrap();
            assert!(value.contains("/eu-west-1/bedrock/aws4_request"), "{value}");
            assert!(value.contains(SIGNING_ID), "{value}");
            assert!(!sent.headers.contains_key("x-amz-security-token"));
        }
        let count = json!({"input": {"converse": hello()}}).to_string();
        let path = format!("/model/{HAIKU}/count-tokens");
        assert_eq!(call(&sandbox, &path, &count, "eu-west-1").await.status, 200);
    }

    #[tokio::test]
    async fn a_request_that_was_edited_is_signed_as_it_is_sent() {
        let (sandbox, _files) = signing(
            "budgets: {rules: [{name: tight, window: total, limit: {usd: 0.0022}, on_exhausted: clamp}]}",
        );
        let (path, body) = endpoints().remove(0);
        let answer = call(&sandbox, &path, &body.to_string(), "us-east-1").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let sent: Value = serde_json::from_slice(&sandbox.mock.requests()[0].body).unwrap();
        let limit = sent
            .pointer("/inferenceConfig/maxTokens")
            .and_then(Value::as_u64);
        assert!(limit.is_some_and(|limit| limit < 400), "{sent}");
    }

    #[tokio::test]
    async fn a_body_that_is_not_held_as_a_rule_is_held_to_be_signed() {
        let (sandbox, _files) = signing("limits: {peek: 1kB}");
        let (path, mut body) = endpoints().remove(0);
        body["messages"][0]["content"][0]["text"] = "x".repeat(100_000).into();
        let answer = call(&sandbox, &path, &body.to_string(), "us-east-1").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let (sandbox, _files) = signing("limits: {peek: 1kB, peek_total: 2kB}");
        let answer = call(&sandbox, &path, &body.to_string(), "us-east-1").await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.text().contains("peek_total"), "{}", answer.text());
        assert_eq!(sandbox.mock.count(), 0);
    }

    #[tokio::test]
    async fn what_cannot_be_signed_again_is_refused_at_once_and_told_the_ways() {
        let aws =
            "providers: {bedrock: {base_url: 'https://bedrock-runtime.us-east-1.amazonaws.com'}}";
        let sandbox = Sandbox::new(aws);
        let (path, body) = endpoints().remove(0);
        let answer = call(&sandbox, &path, &body.to_string(), "us-east-1").await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.header("x-amzn-errortype"), "ValidationException");
        for way in [
            "AWS_BEARER_TOKEN_BEDROCK",
            "providers.bedrock.sign",
            "forward proxy",
        ] {
            assert!(answer.text().contains(way), "{}", answer.text());
        }
        let span = sandbox.span(&answer).await;
        assert_eq!(span.field("status"), "error");
    }

    #[tokio::test]
    async fn a_bearer_key_passes_as_it_is_and_a_foreign_signature_is_no_good() {
        let (sandbox, _files) = signing("");
        let (path, body) = endpoints().remove(0);
        let bearer = [("authorization", "Bearer bedrock-api-key-x")];
        assert_eq!(sandbox.post_with(&path, &bearer, &body).await.status, 200);
        let sent = sandbox.mock.requests().remove(0);
        assert_eq!(sent.headers["authorization"], "Bearer bedrock-api-key-x");
        // Without our own credentials, and no AWS host: the provider says it.
        let sandbox = Sandbox::new(&yaml(""));
        let answer = call(&sandbox, &path, &body.to_string(), "us-east-1").await;
        assert_eq!(answer.status, 403);
        assert_eq!(
            answer.header("x-amzn-errortype"),
            "UnrecognizedClientException"
        );
    }

    #[tokio::test]
    async fn keys_for_a_web_identity_are_fetched_off_the_calls_way() {
        let directory = tempfile::tempdir().unwrap();
        let token = directory.path().join("token");
        std::fs::write(&token, "header.payload.signature\n").unwrap();
        let sandbox = Sandbox::new(&yaml(&format!(
            "providers: {{bedrock: {{base_url: '{{mock}}', sign: {{web_identity: true, sts: '{{mock}}', \
             role: 'arn:aws:iam::1:role/r', token_file: '{}'}}}}}}",
            token.display()
        )));
        let (path, body) = endpoints().remove(0);
        let early = call(&sandbox, &path, &body.to_string(), "us-east-1").await;
        assert_eq!(early.status, 503, "{early:?}");
        assert_eq!(
            early.header("x-amzn-errortype"),
            "ServiceUnavailableException"
        );
        sandbox.app.renew_keys().await;
        let answer = call(&sandbox, &path, &body.to_string(), "us-east-1").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        sandbox.app.renew_keys().await;
        let asked = sandbox.mock.requests();
        let exchanges = asked.iter().filter(|asked| asked.target == "/");
        assert_eq!(exchanges.count(), 1, "they hold for an hour");
    }

    #[tokio::test]
    async fn where_no_address_is_configured_a_signed_call_goes_to_its_own_region() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("credentials");
        std::fs::write(
            &file,
            "[default]\naws_access_key_id=a\naws_secret_access_key=b\n",
        )
        .unwrap();
        let said = format!("sign: {{profile: default, file: '{}'}}", file.display());
        let path = format!("/model/{HAIKU}/converse");
        for (region, host) in [
            ("eu-west-1", "bedrock-runtime.eu-west-1.amazonaws.com"),
            ("us-east-1", "bedrock-runtime.us-east-1.amazonaws.com"),
        ] {
            let said = serde_saphyr::from_str(&said).unwrap();
            let sign = |at: std::net::SocketAddr| {
                let mut headers = signed(&at.to_string(), &path, "{}", region);
                headers.retain(|(name, _)| *name != "host");
                headers
            };
            let asked = super::super::clouds::reached_at("bedrock", Some(said), &path, sign).await;
            assert_eq!(asked, format!("CONNECT {host}:443 HTTP/1.1"));
        }
        let path = "http://bedrock-runtime.ap-south-1.amazonaws.com/model/m/converse";
        let asked = super::super::clouds::reached_at("bedrock", None, path, |_| Vec::new()).await;
        assert_eq!(
            asked,
            "CONNECT bedrock-runtime.ap-south-1.amazonaws.com:443 HTTP/1.1"
        );
    }

    #[tokio::test]
    async fn a_region_that_is_not_the_configured_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("credentials");
        std::fs::write(
            &file,
            "[default]\naws_access_key_id=a\naws_secret_access_key=b\n",
        )
        .unwrap();
        let sandbox = Sandbox::new(&format!(
            "providers: {{bedrock: {{base_url: 'https://bedrock-runtime.us-east-1.amazonaws.com', \
             sign: {{profile: default, file: '{}'}}}}}}",
            file.display()
        ));
        let (path, body) = endpoints().remove(0);
        let answer = call(&sandbox, &path, &body.to_string(), "eu-west-1").await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.text().contains("eu-west-1"), "{}", answer.text());
    }

    #[test]
    fn credentials_that_are_not_there_stop_the_start() {
        let error =
            Sandbox::refused("providers: {bedrock: {sign: {profile: none, file: /no/such/file}}}");
        let error = error.to_string();
        assert!(
            error.contains("providers.bedrock.sign") && error.contains("/no/such/file"),
            "{error}"
        );
    }
}
