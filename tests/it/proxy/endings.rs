//! What each ending of a call charges, and what its span says of it.

use serde_json::json;
use tollgate::mock::{End, Exact};

use super::{chat, chat_stream, priced};
use crate::support::{Answer, Sandbox, client, sandbox::Span};

const PATH: &str = "/v1/chat/completions";
const JSON: &str = "application/json";

/// Calls, and returns the span.
async fn call(sandbox: &Sandbox, settings: &str) -> (Answer, Span) {
    sandbox.mock.next_with(settings).unwrap();
    let answer = sandbox.post(PATH, &chat()).await;
    let span = sandbox.span(&answer).await;
    (answer, span)
}

#[tokio::test]
async fn a_complete_answer_is_charged_as_reported() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 5.00}"));
    let (answer, span) = call(&sandbox, "input=100;output=20;cached=40;reasoning=5").await;
    assert_eq!(answer.status, 200);
    assert_eq!(span.outcome(), "ok complete admitted reported 0.000450000");
    assert_eq!(span.get("gen_ai.usage.input_tokens"), 100);
    assert_eq!(span.get("gen_ai.usage.output_tokens"), 20);
    assert_eq!(span.get("gen_ai.usage.cache_read.input_tokens"), 40);
    assert_eq!(span.get("gen_ai.usage.reasoning.output_tokens"), 5);
    assert_eq!(span.get("tollgate.budget.remaining.usd"), "4.999550000");
    assert_eq!(sandbox.spent("daily").await, 450_000);
}

#[tokio::test]
async fn a_complete_stream_is_charged_as_reported() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 5.00}"));
    sandbox.mock.next_with("input=100;output=20").unwrap();
    let answer = sandbox.post(PATH, &chat_stream()).await;
    let span = sandbox.span(&answer).await;
    assert_eq!(span.outcome(), "ok complete admitted reported 0.000450000");
    assert!(span.get("gen_ai.response.time_to_first_chunk").is_number());
    assert_eq!(sandbox.spent("daily").await, 450_000);
}

#[tokio::test]
async fn a_complete_answer_without_usage_is_estimated_and_its_upper_bound_charged() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 5.00}"));
    let (_, span) = call(&sandbox, "usage=none;text=0123456789").await;
    assert_eq!(span.get("tollgate.usage.source"), "estimated");
    let cost = span.nanos("tollgate.cost.usd");
    let spent = sandbox.spent("daily").await;
    assert!(0 < cost && cost < spent, "{cost} {spent}");
    // A token a byte: no answer can have more.
    let input = spent - 10 * 10_000;
    assert_eq!(input % 2_500, 0, "{spent}");
    let bytes = i64::try_from(chat().to_string().len()).unwrap();
    assert!(input / 2_500 < bytes + 64, "{spent}");
}

#[tokio::test]
async fn a_refused_call_is_charged_nothing_and_never_sent() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 0.0001}"));
    let answer = sandbox.post(PATH, &chat()).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("x-tollgate-blocked-by"), "budget.daily");
    assert_eq!(answer.header("x-should-retry"), "false");
    let after: u64 = answer.header("retry-after").parse().unwrap();
    assert!((121..=3600).contains(&after), "{after}");
    assert!(
        answer
            .header("x-tollgate-reset")
            .ends_with("T00:00:00.000000Z")
    );
    let error = &answer.json()["error"];
    assert!(error["message"].as_str().unwrap().contains("daily"));
    assert!(error["type"].is_string() && error["code"].is_string());
    let span = sandbox.span(&answer).await;
    assert_eq!(
        span.outcome(),
        "blocked complete refused absent 0.000000000"
    );
    assert_eq!(span.get("tollgate.blocked_by"), "budget.daily");
    assert_eq!(sandbox.spent("daily").await, 0);
    assert_eq!(sandbox.mock.count(), 0);
}

#[tokio::test]
async fn a_call_that_cannot_connect_is_charged_nothing() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = gone.local_addr().unwrap();
    drop(gone);
    for (limits, body) in [
        ("", chat().to_string()),
        ("limits: {peek: 1kB}", long_chat()),
    ] {
        let yaml = format!(
            "budgets: {{daily: 5.00}}\nproviders: {{openai: {{base_url: \"http://{addr}\"}}}}\n{limits}"
        );
        let sandbox = Sandbox::new(&priced(&yaml));
        let headers = [("content-type", JSON)];
        let post = http::Method::POST;
        let answer = client::call(sandbox.addr(), post, PATH, &headers, body).await;
        assert_eq!(answer.status, 502);
        assert!(
            answer.json()["error"]["message"]
                .to_string()
                .contains("openai")
        );
        let span = sandbox.span(&answer).await;
        assert_eq!(span.outcome(), "error complete admitted absent 0.000000000");
        assert_eq!(span.get("error.type"), "upstream_unreachable");
        assert_eq!(sandbox.spent("daily").await, 0);
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_there_is_a_connection_is_charged_nothing() {
    // It accepts, and never shakes hands.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = silent.local_addr().unwrap();
    let yaml = format!(
        "budgets: {{daily: 5.00}}\nproviders: {{openai: {{base_url: \"https://{addr}\"}}}}"
    );
    let sandbox = Sandbox::new(&priced(&yaml));
    let mut line = client::Line::connect(sandbox.addr()).await;
    let body = chat().to_string();
    let length = body.len();
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: t\r\ncontent-length: {length}\r\n\r\n");
    line.send(format!("{head}{body}")).await;
    let (_connecting, _) = silent.accept().await.unwrap();
    drop(line);
    let span = sandbox.only_span().await;
    assert_eq!(
        span.outcome(),
        "cancelled client admitted absent 0.000000000"
    );
    assert_eq!(sandbox.spent("daily").await, 0);
}

/// Longer than a peek of 1 kB.
fn long_chat() -> String {
    let mut body = chat();
    body["messages"][0]["content"] = "x".repeat(5_000).into();
    body.to_string()
}

#[tokio::test]
async fn an_error_of_the_provider_is_charged_what_it_reports_else_nothing() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 5.00}"));
    for status in [400, 401, 404, 408, 409, 422, 429, 500, 503, 529] {
        let (answer, span) = call(&sandbox, &format!("status={status};retry-after=7")).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("retry-after"), "7");
        assert_eq!(answer.header("x-tollgate-blocked-by"), "");
        assert_eq!(span.outcome(), "error complete admitted absent 0.000000000");
        assert_eq!(span.get("http.response.status_code"), status);
    }
    assert_eq!(sandbox.spent("daily").await, 0);
    let body = r#"{"error":{"message":"m","type":"t"},"model":"gpt-4o",
        "usage":{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120}}"#;
    sandbox.mock.next_exact(Exact::new(400, JSON, body));
    let answer = sandbox.post(PATH, &chat()).await;
    let span = sandbox.span(&answer).await;
    assert_eq!(
        span.outcome(),
        "error complete admitted reported 0.000450000"
    );
    assert_eq!(span.get("error.type"), "t");
    assert_eq!(sandbox.spent("daily").await, 450_000);
}

#[tokio::test]
async fn an_error_in_a_stream_is_charged_what_was_made_until_then() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 5.00}"));
    sandbox.mock.next_with("stream-error=3").unwrap();
    let answer = sandbox.post(PATH, &chat_stream()).await;
    assert_eq!(answer.status, 200);
    let span = sandbox.span(&answer).await;
    assert_eq!(span.field("status"), "error");
    assert_eq!(span.get("tollgate.usage.source"), "estimated");
    let spent = sandbox.spent("daily").await;
    assert!(spent > span.nanos("tollgate.cost.usd"));
    assert_eq!(span.nanos("tollgate.budget.charged.usd"), spent);
}

#[tokio::test]
async fn no_answer_in_time_is_charged_input_and_what_can_have_been_made() {
    let sandbox = Sandbox::new(&priced(
        "upstream: {proxy: none, first_byte_timeout: 200ms}\nbudgets: {daily: 5.00}",
    ));
    let (answer, span) = call(&sandbox, "hang=head").await;
    assert_eq!(answer.status, 504);
    assert_eq!(answer.header("x-tollgate-blocked-by"), "");
    // 200 ms are 100 tokens: more than the request allows.
    let spent = sandbox.spent("daily").await;
    let input = spent - 50 * 10_000;
    assert!(input > 0 && input % 2_500 == 0, "{spent}");
    assert_eq!(span.field("status"), "error");
    assert_eq!(span.get("error.type"), "timeout");
    assert_eq!(span.get("tollgate.end"), "upstream");
    assert_eq!(span.get("tollgate.usage.source"), "ceiling");
    assert_eq!(span.nanos("tollgate.cost.usd"), spent);
    let requests = sandbox.mock.until(|all| all[0].end != End::Open).await;
    assert_eq!(requests[0].end, End::Left, "the provider is told");
}

#[tokio::test]
async fn a_lost_connection_is_charged_input_and_what_can_have_been_made() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 5.00}"));
    for how in ["reset=head", "truncate=head"] {
        let before = sandbox.budget("daily").spent;
        let (answer, span) = call(&sandbox, how).await;
        assert_eq!(answer.status, 502);
        assert_eq!(span.get("tollgate.usage.source"), "ceiling");
        let spent = sandbox.spent("daily").await - before;
        assert_eq!(span.nanos("tollgate.cost.usd"), spent);
        assert!(spent > 0 && spent <= 1_500_000, "{spent}");
    }
}

#[tokio::test]
async fn an_unanswered_call_costs_something_even_if_no_budget_counts_it() {
    let sandbox = Sandbox::new(&priced(
        "upstream: {proxy: none, first_byte_timeout: 200ms}",
    ));
    let (_, span) = call(&sandbox, "hang=head").await;
    assert_eq!(span.get("tollgate.usage.source"), "ceiling");
    assert!(span.get("gen_ai.usage.input_tokens").as_u64().unwrap() > 0);
    assert_eq!(span.get("gen_ai.usage.output_tokens"), 50);
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_is_charged_the_same() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 5.00}"));
    let addr = sandbox.addr();
    let calling =
        tokio::spawn(
            async move { client::post(addr, PATH, &[("x-mock", "hang=head")], &chat()).await },
        );
    sandbox
        .mock
        .until(|all| all.len() == 1 && all[0].whole)
        .await;
    assert_eq!(sandbox.budget("daily").spent, 0);
    assert!(sandbox.budget("daily").reserved > 0);
    calling.abort();
    let span = sandbox.only_span().await;
    let spent = sandbox.spent("daily").await;
    assert!(spent > 0);
    assert_eq!(span.field("status"), "cancelled");
    assert_eq!(span.get("tollgate.end"), "client");
    assert_eq!(span.get("tollgate.usage.source"), "ceiling");
    assert_eq!(span.nanos("tollgate.cost.usd"), spent);
    let requests = sandbox.mock.until(|all| all[0].end != End::Open).await;
    assert_eq!(requests[0].end, End::Left, "the provider is told");
}

#[tokio::test]
async fn a_silent_stream_is_ended_and_charged_what_came() {
    let sandbox = Sandbox::new(&priced(
        "upstream: {proxy: none, idle_timeout: 200ms}\nbudgets: {daily: 5.00}",
    ));
    sandbox.mock.next_with("hang=700").unwrap();
    let answer = sandbox.post(PATH, &chat_stream()).await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.error.is_some(),
        "the client must see that it broke off"
    );
    let span = sandbox.span(&answer).await;
    assert_eq!(span.field("status"), "error");
    assert_eq!(span.get("error.type"), "timeout");
    assert_eq!(span.get("tollgate.end"), "upstream");
    assert_eq!(
        span.nanos("tollgate.budget.charged.usd"),
        sandbox.spent("daily").await
    );
}

#[tokio::test]
async fn an_embedding_is_charged_its_input() {
    let sandbox = Sandbox::new(
        "pricing: {text-embedding-3-small: {input: 0.02, output: 0}}\nbudgets: {daily: 5.00}",
    );
    sandbox.mock.next_with("input=1000").unwrap();
    let body = json!({"model": "text-embedding-3-small", "input": "hello"});
    let answer = sandbox.post("/v1/embeddings", &body).await;
    let span = sandbox.span(&answer).await;
    assert_eq!(span.field("kind"), "embedding");
    assert_eq!(span.outcome(), "ok complete admitted reported 0.000020000");
    assert_eq!(sandbox.spent("daily").await, 20_000);
}

#[tokio::test]
async fn what_cannot_be_metered_passes_counted_unless_that_is_denied() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 5.00}"));
    let answer = sandbox.post("/v1/images/edits/x", &json!({})).await;
    assert_eq!(answer.status, 200);
    let span = sandbox.span(&answer).await;
    assert_eq!(span.field("kind"), "http");
    assert_eq!(span.outcome(), "ok complete admitted absent -");
    assert!(sandbox.metric("tollgate_unmetered_total") > 0.0);

    let strict = Sandbox::new(&priced("budgets: {daily: 5.00, unmetered: deny}"));
    let answer = strict.post("/v1/images/edits/x", &json!({})).await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.header("x-tollgate-blocked-by"), "unmetered");
    assert_eq!(strict.mock.count(), 0);

    let spent = Sandbox::new(&priced("budgets: {daily: 0.0005}"));
    spent.mock.next_with("input=1000").unwrap();
    let mut small = chat();
    small["max_tokens"] = 1.into();
    assert_eq!(spent.post(PATH, &small).await.status, 200);
    spent.settled().await;
    let answer = spent.post("/v1/images/edits/x", &json!({})).await;
    assert_eq!(answer.header("x-tollgate-blocked-by"), "budget.daily");
}

#[tokio::test]
async fn an_unknown_price_is_refused_only_under_a_budget_in_dollars_that_stops_calls() {
    let mut body = chat();
    body["model"] = "nobody-knows-me".into();
    let free = Sandbox::new("");
    let answer = free.post(PATH, &body).await;
    assert_eq!(answer.status, 200);
    let span = free.span(&answer).await;
    assert_eq!(span.outcome(), "ok complete admitted reported -");

    let budget = Sandbox::new("budgets: {daily: 5.00}");
    let answer = budget.post(PATH, &body).await;
    assert_eq!(answer.status, 403);
    assert_eq!(
        answer.header("x-tollgate-blocked-by"),
        "model.unknown_price"
    );

    // A rule that only watches counts what it can, and refuses nothing.
    let shadow = Sandbox::new(
        "budgets: {rules: [{name: watch, window: day, limit: {usd: 5, requests: 5},\n\
           missing: deny, per: [user], on_exhausted: shadow}]}",
    );
    let answer = shadow.post(PATH, &body).await;
    assert_eq!(answer.status, 200);
    let span = shadow.span(&answer).await;
    assert_eq!(span.outcome(), "ok complete admitted reported -");

    let ceiling = Sandbox::new(
        "pricing: {unknown_model: ceiling, unknown_price: {input: 10.00, output: 50.00}}\n\
         budgets: {daily: 5.00}",
    );
    ceiling.mock.next_with("input=100;output=20").unwrap();
    let answer = ceiling.post(PATH, &body).await;
    let span = ceiling.span(&answer).await;
    assert_eq!(span.outcome(), "ok complete admitted reported -");
    assert_eq!(ceiling.spent("daily").await, 100 * 10_000 + 20 * 50_000);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_charged_what_can_have_been_made() {
    // So fast that time bounds nothing: the request's own limit does.
    let sandbox = Sandbox::new(&priced(
        "providers: {openai: {max_tokens_per_second: 1000000000}}\nbudgets: {daily: 5.00}",
    ));
    let mut limited = chat_stream();
    limited["max_tokens"] = 50.into();
    for (settings, body) in [
        ("header=content-encoding:compress;output=40", chat()),
        (
            "header=content-encoding:compress;output=40",
            limited.clone(),
        ),
    ] {
        let before = sandbox.budget("daily").spent;
        sandbox.mock.next_with(settings).unwrap();
        let answer = sandbox.post(PATH, &body).await;
        assert_eq!(answer.status, 200);
        let span = sandbox.span(&answer).await;
        assert_eq!(span.get("tollgate.usage.source"), "ceiling");
        let spent = sandbox.spent("daily").await - before;
        assert!(spent > 50 * 10_000, "{spent}");
        assert_eq!(span.nanos("tollgate.cost.usd"), spent);
    }
    for (content_type, body) in [(JSON, chat()), ("text/event-stream", limited)] {
        let before = sandbox.budget("daily").spent;
        let mut exact = Exact::new(200, content_type, "\u{1b}no pack200");
        let header = ("content-encoding".to_owned(), "pack200-gzip".into());
        exact.headers.push(header);
        sandbox.mock.next_exact(exact);
        let answer = sandbox.post(PATH, &body).await;
        let span = sandbox.span(&answer).await;
        assert_eq!(span.get("tollgate.usage.source"), "ceiling");
        let spent = sandbox.spent("daily").await - before;
        assert!(spent > 50 * 10_000, "{content_type} {spent}");
    }
}

#[tokio::test]
async fn a_stream_that_cannot_be_read_passes_only_while_budgets_cover_all_of_it() {
    // gpt-4o makes 16,384 tokens at most, at $10 a million here.
    let sandbox = Sandbox::new(&priced("budgets: {daily: 0.10}"));
    sandbox
        .mock
        .next_with("header=content-encoding:compress;output=40")
        .unwrap();
    let answer = sandbox.post(PATH, &chat_stream()).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("x-tollgate-blocked-by"), "budget.daily");
    let span = sandbox.span(&answer).await;
    assert_eq!(span.get("tollgate.usage.source"), "ceiling");
    // The provider was at work: the input, and what it can have made until we left.
    let spent = sandbox.spent("daily").await;
    assert_eq!(span.nanos("tollgate.cost.usd"), spent);
    assert!((1..=100_000_000).contains(&spent), "{spent}");
}

#[tokio::test]
async fn a_stream_that_cannot_be_read_is_charged_beyond_the_step_that_was_set_aside() {
    let sandbox = Sandbox::new(&priced(
        "providers: {openai: {max_tokens_per_second: 1000000000}}\nbudgets: {daily: 5.00}",
    ));
    sandbox
        .mock
        .next_with("header=content-encoding:compress;output=9000")
        .unwrap();
    let answer = sandbox.post(PATH, &chat_stream()).await;
    let span = sandbox.span(&answer).await;
    assert_eq!(span.get("tollgate.usage.source"), "ceiling");
    let spent = sandbox.spent("daily").await;
    assert!(spent > 9_000 * 10_000, "{spent}");
    assert_eq!(span.nanos("tollgate.cost.usd"), spent);
}
