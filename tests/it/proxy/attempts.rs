//! Attempts of one logical call: how they are told, and where they are counted apart.

use serde_json::{Value, json};

use super::{chat, chat_stream, keys::Keys, priced};
use crate::support::{
    Answer, Sandbox,
    client::Line,
    sandbox::{Span, until},
};

const PATH: &str = "/v1/chat/completions";

/// Sends a chat request of these headers, which the mock answers as `settings` say.
async fn attempt(sandbox: &Sandbox, settings: &str, headers: &[(&str, &str)]) -> (String, Span) {
    attempt_of(sandbox, settings, headers, &chat()).await
}

async fn attempt_of(
    sandbox: &Sandbox,
    settings: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> (String, Span) {
    sandbox.mock.next_with(settings).unwrap();
    let answer = sandbox.post_with(PATH, headers, body).await;
    (id(&answer), sandbox.span(&answer).await)
}

fn id(answer: &Answer) -> String {
    answer.header("x-tollgate-request-id").to_owned()
}

/// The span is of a first attempt.
fn is_first(span: &Span) -> bool {
    [span.get("tollgate.attempt"), span.get("tollgate.retry_of")] == [&Value::Null; 2]
}

/// The span is of that attempt of the call that began so.
fn is_attempt(span: &Span, number: u32, first: &str) -> bool {
    span.get("tollgate.attempt") == number && span.get("tollgate.retry_of") == first
}

#[tokio::test]
async fn what_failed_and_is_sent_again_is_one_call_and_its_cost_is_told_apart() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 5.00}"));
    let (first, span) = attempt(&sandbox, "status=500", &[]).await;
    assert!(is_first(&span), "{span:?}");
    let (_, span) = attempt(&sandbox, "status=429", &[]).await;
    assert!(is_attempt(&span, 2, &first), "{span:?}");
    let (_, span) = attempt(&sandbox, "input=100;output=20", &[]).await;
    assert!(is_attempt(&span, 3, &first), "{span:?}");
    assert_eq!(span.nanos("tollgate.cost.usd"), 450_000);
    // After an answer the same is asked anew.
    let (_, span) = attempt(&sandbox, "input=100;output=20", &[]).await;
    assert!(is_first(&span), "{span:?}");
    // Budgets count an attempt as any call.
    assert_eq!(sandbox.spent("daily").await, 900_000);
    let retries = sandbox.metric("tollgate_retries_total{provider=\"openai\"}");
    let cost = sandbox.metric("tollgate_retry_cost_usd_total{provider=\"openai\"}");
    assert!((retries - 2.0).abs() < 0.1 && (cost - 0.000_45).abs() < 1e-9);
    assert_eq!(sandbox.app.holdings().attempts, 1, "the last");
}

#[tokio::test]
async fn another_body_user_or_key_is_another_call() {
    let sandbox = Sandbox::new("");
    let user = |user| [("x-tollgate-user", user), ("authorization", "Bearer a")];
    let (first, _) = attempt(&sandbox, "status=500", &user("1")).await;
    let mut changed = chat();
    changed["max_tokens"] = json!(51);
    let (_, span) = attempt_of(&sandbox, "", &user("1"), &changed).await;
    assert!(is_first(&span), "{span:?}");
    let (_, span) = attempt(&sandbox, "", &user("2")).await;
    assert!(is_first(&span), "{span:?}");
    let other = [("x-tollgate-user", "1"), ("authorization", "Bearer b")];
    let (_, span) = attempt(&sandbox, "", &other).await;
    assert!(is_first(&span), "{span:?}");
    let (_, span) = attempt(&sandbox, "", &user("1")).await;
    assert!(is_attempt(&span, 2, &first), "{span:?}");
}

#[tokio::test]
async fn an_idempotency_key_links_what_ended_well_and_what_is_not_held() {
    for yaml in ["", "limits: {peek: 10B}"] {
        let sandbox = Sandbox::new(yaml);
        let key = |key| [("idempotency-key", key)];
        let (first, span) = attempt(&sandbox, "", &key("a")).await;
        assert!(is_first(&span), "{span:?}");
        let (_, span) = attempt(&sandbox, "status=500", &key("a")).await;
        assert!(is_attempt(&span, 2, &first), "{span:?}");
        let (_, span) = attempt(&sandbox, "", &key("b")).await;
        assert!(is_first(&span), "{span:?}");
    }
}

#[tokio::test]
async fn a_count_is_believed_though_the_first_attempt_was_not_seen() {
    for yaml in ["", "limits: {peek: 10B}"] {
        let sandbox = Sandbox::new(yaml);
        let (_, span) = attempt(&sandbox, "", &[("x-stainless-retry-count", "2")]).await;
        assert_eq!(span.get("tollgate.attempt"), 3);
        assert_eq!(span.get("tollgate.retry_of"), &Value::Null);
    }
}

#[tokio::test]
async fn attempts_that_broke_off_were_left_or_refused_are_followed() {
    let yaml = "rate_limits: [{name: slow, match: {agent: a}, requests_per_minute: 1}]";
    let sandbox = Sandbox::new(yaml);
    let (first, span) = attempt_of(&sandbox, "truncate=200", &[], &chat_stream()).await;
    assert_eq!(span.field("status"), "error");
    let (_, span) = attempt_of(&sandbox, "stream-error=2", &[], &chat_stream()).await;
    assert!(is_attempt(&span, 2, &first), "{span:?}");
    assert_eq!(span.field("status"), "error");

    let body = chat_stream().to_string();
    sandbox.mock.next_with("hang=300").unwrap();
    let mut line = Line::connect(sandbox.addr()).await;
    let length = body.len();
    line.send(format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    ))
    .await;
    assert_eq!(line.head().await.status(), 200);
    drop(line);
    until("the client's leaving", || sandbox.spans_now().len() == 3).await;
    let (_, span) = attempt_of(&sandbox, "", &[], &chat_stream()).await;
    assert!(is_attempt(&span, 4, &first), "{span:?}");

    let agent = [("x-tollgate-agent", "a")];
    attempt(&sandbox, "", &agent).await;
    let refused = sandbox.post_with(PATH, &agent, &chat()).await;
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(is_first(&sandbox.span(&refused).await));
    let again = sandbox.post_with(PATH, &agent, &chat()).await;
    assert!(is_attempt(&sandbox.span(&again).await, 2, &id(&refused)));
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_asked_again() {
    let sandbox = Sandbox::new("providers: {openai: {base_url: 'http://127.0.0.1:9'}}");
    let first = sandbox.post(PATH, &chat()).await;
    assert_eq!(first.status, 502, "{first:?}");
    assert!(is_first(&sandbox.span(&first).await));
    let second = sandbox.post(PATH, &chat()).await;
    assert!(is_attempt(&sandbox.span(&second).await, 2, &id(&first)));
}

#[tokio::test]
async fn what_another_client_key_asks_is_another_call_though_it_has_the_same_labels() {
    let keys = Keys::new();
    let secrets = ["one", "other"].map(|name| keys.add(name, |_| {}));
    let sandbox = Sandbox::new(&keys.yaml("", ""));
    let [one, other] = secrets
        .each_ref()
        .map(|secret| [("x-tollgate-key", secret.expose())]);
    let (first, _) = attempt(&sandbox, "status=500", &one).await;
    let (_, span) = attempt(&sandbox, "", &other).await;
    assert!(is_first(&span), "{span:?}");
    let (_, span) = attempt(&sandbox, "", &one).await;
    assert!(is_attempt(&span, 2, &first), "{span:?}");
}
