//! A stream that ends at any of its bytes, by the client's will or the provider's failure: permits,
//! reservations and spans settle once.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tollgate::mock::End;

use super::{chat_stream, has_time, priced};
use crate::support::{Line, Sandbox, client};

const YAML: &str = "budgets: {daily: 1000, unbounded: allow}\n\
    rate_limits: [{name: few, concurrent: 100000}]";

/// Streams whose bytes pass as they come, and such that may be cut.
fn streams() -> Vec<(&'static str, Value)> {
    let messages = json!([{"role": "user", "content": "hello"}]);
    let mut plain = chat_stream();
    plain["max_tokens"] = 50.into();
    plain["stream_options"] = json!({"include_usage": true});
    vec![
        ("/v1/chat/completions", plain),
        ("/v1/chat/completions", chat_stream()),
        (
            "/v1/messages",
            json!({"model": "claude-x", "max_tokens": 50, "stream": true, "messages": messages}),
        ),
        (
            "/v1/responses",
            json!({"model": "gpt-4o", "stream": true, "input": "hello"}),
        ),
    ]
}

/// How many calls are made at once.
const AT_ONCE: usize = 32;

/// Makes one call for each length of `0..=length`, several at once; of a long stream every seventh,
/// unless there is time. Returns how many.
async fn at_every_byte<F, Fut>(length: usize, one: F) -> usize
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let step = if length > 1_500 && !has_time() { 7 } else { 1 };
    let places = (0..=length).step_by(step);
    let count = places.clone().count();
    let mut calls = JoinSet::new();
    for at in places {
        if calls.len() >= AT_ONCE {
            calls.join_next().await.unwrap().unwrap();
        }
        calls.spawn(one(at));
    }
    while let Some(done) = calls.join_next().await {
        done.unwrap();
    }
    count
}

/// Everything was given back, and each call has one span; budgets were charged what spans say.
async fn check(sandbox: &Sandbox, calls: usize) -> Vec<Value> {
    let spent = sandbox.spent("daily").await;
    let spans = sandbox.spans(calls).await;
    let ids: std::collections::HashSet<_> = spans
        .iter()
        .map(|span| span["span_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), calls);
    let charges = spans.iter().map(|span| {
        let amount = |name: &str| {
            let amount = span["attributes"][name].as_str()?;
            Some(amount.replace('.', "").parse::<i64>().unwrap())
        };
        let cost = amount("tollgate.cost.usd").unwrap();
        let charged = amount("tollgate.budget.charged.usd").unwrap_or(cost);
        assert!(charged >= cost, "{span:#}");
        charged
    });
    assert_eq!(charges.sum::<i64>(), spent);
    let holdings = sandbox.app.holdings();
    assert_eq!((holdings.in_flight, holdings.peeked_bytes), (0, 0));
    assert!(sandbox.metric("tollgate_in_flight").abs() < 0.5);
    spans
}

#[tokio::test]
async fn a_client_may_leave_at_every_byte_of_a_stream() {
    for (path, body) in streams() {
        let sandbox = Sandbox::new(&priced(YAML));
        let whole = sandbox
            .post_with(path, &[("x-mock", "text=ab")], &body)
            .await;
        let length = whole.body.len();
        let addr = sandbox.addr();
        let body: Arc<str> = body.to_string().into();
        let count = at_every_byte(length, |at| {
            let body = Arc::clone(&body);
            async move {
                let mut line = Line::connect(addr).await;
                line.send(format!(
                    "POST {path} HTTP/1.1\r\nhost: x\r\nx-mock: text=ab;hang={at};chunk=19\r\n\
                     content-length: {}\r\n\r\n{body}",
                    body.len()
                ))
                .await;
                let head = line.head().await;
                assert_eq!(head.status(), 200);
            }
        })
        .await;
        let spans = check(&sandbox, count + 1).await;
        for span in &spans {
            let status = span["status"].as_str().unwrap();
            assert!(["ok", "cancelled"].contains(&status), "{span:#}");
        }
        let told = sandbox
            .mock
            .until(|all| all.iter().all(|request| request.end != End::Open))
            .await;
        assert_eq!(told.len(), count + 1);
    }
}

#[tokio::test]
async fn a_provider_may_break_off_at_every_byte_of_a_stream() {
    for ((path, body), how) in streams().into_iter().zip(["truncate", "reset"].repeat(2)) {
        let sandbox = Sandbox::new(&priced(YAML));
        let whole = sandbox
            .post_with(path, &[("x-mock", "text=ab")], &body)
            .await;
        let length = whole.body.len();
        let addr = sandbox.addr();
        let count = at_every_byte(length, |at| {
            let body = body.clone();
            async move {
                let settings = format!("text=ab;{how}={at}");
                let headers = [("x-mock", settings.as_str())];
                let answer = client::post(addr, path, &headers, &body).await;
                assert_eq!(answer.status, 200);
                assert!(answer.error.is_some(), "{how} at {at} must be seen");
                // All that came has passed.
                assert_eq!(answer.body.len(), at, "{path} {how} {at}");
            }
        })
        .await;
        let spans = check(&sandbox, count + 1).await;
        for span in &spans[1..] {
            assert_eq!(span["status"], "error", "{how} {span:#}");
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_charged_input_what_it_got_and_a_margin() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 5.00, cut_margin: 100}"));
    let mut body = chat_stream();
    body["max_tokens"] = 500.into();
    body["stream_options"] = json!({"include_usage": true});
    let body = body.to_string();
    let mut line = Line::connect(sandbox.addr()).await;
    line.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-mock: events=5;event-size=80;hang=1800\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    line.head().await;
    line.take(1_800).await;
    drop(line);
    let span = sandbox.only_span().await;
    let output = span.get("gen_ai.usage.output_tokens").as_i64().unwrap();
    let input = span.get("gen_ai.usage.input_tokens").as_i64().unwrap();
    assert!(output > 100 && input > 0, "{output} {input}");
    assert_eq!(
        span.nanos("tollgate.cost.usd"),
        input * 2_500 + output * 10_000
    );
    // Budgets are charged the most that it can have had: of a model of which nothing is known, a
    // token for each byte that was read, and the margin.
    let spent = sandbox.spent("daily").await;
    assert_eq!(span.nanos("tollgate.budget.charged.usd"), spent);
    let error = span.get("tollgate.usage.error_bound").as_i64().unwrap();
    let read = output - 100;
    assert!(error >= 3 * read, "{error} {read}");
    assert!(spent > (output + 3 * read) * 10_000, "{spent}");
}

#[tokio::test]
async fn a_provider_that_bills_in_full_what_a_client_left_is_charged_the_reservation() {
    let mut spent = Vec::new();
    for provider in ["bedrock", "other"] {
        let yaml = format!(
            "providers: {{{provider}: {{base_url: '{{mock}}', dialect: openai}}}}\n\
             budgets: {{daily: 5.00}}"
        );
        let sandbox = Sandbox::new(&priced(&yaml));
        let mut body = chat_stream();
        body["max_tokens"] = 5_000.into();
        let body = body.to_string();
        let mut line = Line::connect(sandbox.addr()).await;
        line.send(format!(
            "POST /{provider}/v1/chat/completions HTTP/1.1\r\nhost: x\r\n\
             x-mock: events=5;event-size=80;hang=1200\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
        line.head().await;
        line.take(600).await;
        drop(line);
        let span = sandbox.only_span().await;
        assert_eq!(span.get("tollgate.end"), "client");
        spent.push(sandbox.spent("daily").await);
        assert_eq!(
            span.nanos("tollgate.budget.charged.usd"),
            spent[spent.len() - 1]
        );
    }
    assert!(spent[0] > 5_000 * 10_000, "{spent:?}");
    assert!(spent[1] < 1_000 * 10_000, "{spent:?}");
}

#[tokio::test]
async fn a_call_billed_in_full_that_is_left_before_its_answer_is_charged_the_reservation() {
    for stream in [true, false] {
        let sandbox = Sandbox::new(&priced(
            "providers: {other: {base_url: '{mock}', abandoned: in_full}}\nbudgets: {daily: 5.00}",
        ));
        let mut body = chat_stream();
        body["max_tokens"] = 5_000.into();
        body["stream"] = stream.into();
        let addr = sandbox.addr();
        let path = "/other/v1/chat/completions";
        let headers = [("x-mock", "hang=head")];
        let calling = tokio::spawn(async move { client::post(addr, path, &headers, &body).await });
        sandbox
            .mock
            .until(|all| all.len() == 1 && all[0].whole)
            .await;
        let reserved = sandbox.budget("daily").reserved;
        calling.abort();
        let span = sandbox.only_span().await;
        assert_eq!(span.get("tollgate.usage.source"), "ceiling");
        assert!(reserved > 5_000 * 10_000);
        assert_eq!(sandbox.spent("daily").await, reserved);
    }
}

#[tokio::test]
async fn a_client_that_leaves_after_the_last_event_has_had_all_of_it() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 5.00}"));
    let mut body = chat_stream();
    body["max_tokens"] = 50.into();
    body["stream_options"] = json!({"include_usage": true});
    let whole = sandbox
        .post_with(
            "/v1/chat/completions",
            &[("x-mock", "text=ab;input=100;output=20")],
            &body,
        )
        .await;
    let length = whole.body.len();
    let body = body.to_string();
    let mut line = Line::connect(sandbox.addr()).await;
    line.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\
         x-mock: text=ab;input=100;output=20;hang={length}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    line.head().await;
    let mut got = Vec::new();
    while client::find(&got, b"data: [DONE]\n\n").is_none() {
        got.extend(line.take(1).await);
    }
    drop(line);
    let spans = sandbox.spans(2).await;
    assert_eq!(spans[1]["status"], "ok");
    assert_eq!(spans[1]["attributes"]["tollgate.cost.usd"], "0.000450000");
}

#[tokio::test]
async fn an_answer_that_is_no_stream_and_breaks_off_is_charged_what_it_can_have_cost() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 5.00}"));
    let answer = sandbox
        .post_with(
            "/v1/chat/completions",
            &[("x-mock", "truncate=50")],
            &super::chat(),
        )
        .await;
    assert_eq!(answer.status, 200);
    assert!(answer.error.is_some());
    let span = sandbox.span(&answer).await;
    assert_eq!(span.get("tollgate.usage.source"), "ceiling");
    assert_eq!(span.get("tollgate.end"), "upstream");
    let spent = sandbox.spent("daily").await;
    assert!(spent > 0);
    assert_eq!(span.nanos("tollgate.cost.usd"), spent);
}
