//! Streams that cross their limit, and requests that set none.

use serde_json::{Value, json};
use tollgate::mock::{End, Exact};

use super::{chat, chat_stream, priced};
use crate::support::{
    Answer, Sandbox, client,
    sandbox::{Span, until},
};

/// The same stream in each dialect in which a request need not set a limit: path and request.
fn streams() -> Vec<(&'static str, Value)> {
    let contents = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]});
    vec![
        ("/v1/chat/completions", chat_stream()),
        (
            "/v1/responses",
            json!({"model": "gpt-4o", "stream": true, "input": "hello"}),
        ),
        (
            "/v1beta/models/gemini-2.0-flash:streamGenerateContent?alt=sse",
            contents.clone(),
        ),
        (
            "/v1beta/models/gemini-2.0-flash:streamGenerateContent",
            contents,
        ),
    ]
}

/// Two thousand tokens or so can be had.
const LIMIT: i64 = 22_000_000;

async fn cut(sandbox: &Sandbox, path: &str, body: &Value) -> (Answer, Span) {
    sandbox
        .mock
        .next_with("events=300;event-size=100;gap=1ms")
        .unwrap();
    let answer = sandbox.post(path, body).await;
    let span = sandbox.span(&answer).await;
    assert_eq!(span.field("status"), "blocked", "{path} {answer:?}");
    assert_eq!(span.get("tollgate.end"), "cut", "{path}");
    assert_eq!(span.get("tollgate.decision"), "cut", "{path}");
    assert_eq!(span.get("tollgate.usage.source"), "estimated", "{path}");
    let spent = sandbox.spent("daily").await;
    assert!(spent > 0 && spent <= LIMIT, "{path} {spent}");
    let charged = span.nanos("tollgate.budget.charged.usd");
    assert_eq!(charged, spent, "{path}");
    assert!(span.nanos("tollgate.cost.usd") < spent, "{path}");
    let requests = sandbox.mock.until(|all| all[0].end != End::Open).await;
    assert_eq!(requests[0].end, End::Left, "{path}: the provider is told");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.error, None, "{path}: a legal end");
    (answer, span)
}

#[tokio::test]
async fn a_stream_that_crosses_its_limit_ends_as_if_it_were_out_of_tokens() {
    for (path, body) in streams() {
        // Where a stream that is left were billed in full, it would not be cut.
        let yaml = "providers: {gemini: {abandoned: until_then}}\nbudgets: {daily: 0.022}";
        let sandbox = Sandbox::new(&priced(yaml));
        let (answer, _) = cut(&sandbox, path, &body).await;
        let text = answer.text();
        let data = if path.ends_with("Content") {
            serde_json::from_str(text).unwrap()
        } else {
            answer.data()
        };
        let last = data.last().unwrap();
        if path.contains("chat") {
            assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
            assert_eq!(last["choices"][0]["finish_reason"], "length", "{last}");
        } else if path.contains("responses") {
            assert_eq!(last["type"], "response.incomplete", "{last}");
            let reason = &last["response"]["incomplete_details"]["reason"];
            assert_eq!(reason, "max_output_tokens");
            let number = |event: &Value| event["sequence_number"].as_u64().unwrap();
            assert!(data.iter().map(number).is_sorted_by(|a, b| a < b), "{text}");
        } else {
            assert_eq!(
                last["candidates"][0]["finishReason"], "MAX_TOKENS",
                "{last}"
            );
        }
        // What passed is nearly all that the limit pays for.
        assert!(data.len() > 15, "{text}");
    }
}

/// The text in all events of this type.
fn deltas(events: &[Value], kind: &str) -> String {
    let of_kind = events.iter().filter(|event| event["type"] == kind);
    of_kind
        .map(|event| event["delta"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn the_last_event_of_a_response_says_again_what_was_sent_of_it() {
    let (path, mut body) = streams().remove(1);
    // As a client sees it that is told of each token's chances as well: every event is another.
    for top_logprobs in [Value::Null, json!(2)] {
        body["top_logprobs"] = top_logprobs;
        let sandbox = Sandbox::new(&priced("budgets: {daily: 0.022}"));
        let (answer, span) = cut(&sandbox, path, &body).await;
        let data = answer.data();
        let said = deltas(&data, "response.output_text.delta");
        assert!(said.len() > 1_000, "{said}");
        let last = &data.last().unwrap()["response"];
        let message = &last["output"][0];
        assert_eq!(message["content"][0]["type"], "output_text", "{last}");
        assert_eq!(message["content"][0]["text"], said);
        let closed = &data[data.len() - 2];
        assert_eq!(closed["type"], "response.output_item.done");
        assert_eq!(&closed["item"], message);
        assert_eq!(span.get("tollgate.cut.output"), &Value::Null);
    }
}

#[tokio::test]
async fn what_is_too_much_to_say_again_is_left_out_and_counted() {
    let (path, body) = streams().remove(1);
    let sandbox = Sandbox::new(&priced("budgets: {daily: 9}"));
    let settings = "events=400;event-size=4000";
    sandbox.mock.next_with(settings).unwrap();
    let answer = sandbox.post(path, &body).await;
    assert_eq!(answer.error, None);
    let data = answer.data();
    assert!(deltas(&data, "response.output_text.delta").len() > 300_000);
    let last = &data.last().unwrap()["response"];
    assert_eq!(last["status"], "incomplete", "{last}");
    assert_eq!(last["output"][0]["content"], json!([]));
    let span = sandbox.span(&answer).await;
    assert_eq!(span.get("tollgate.cut.output"), "left out");
    assert!(sandbox.metric("tollgate_cut_outputs_left_out_total") > 0.5);
}

/// A stream whose first event is too large to be read whole and brings no output; what follows costs
/// more than [`LIMIT`].
fn large_at_first(mut first: Value, second: &Value, delta: &Value) -> Exact {
    first["obfuscation"] = json!("x".repeat(1_000_000));
    let deltas = std::iter::repeat_n(delta, 300);
    let events = [&first, second].into_iter().chain(deltas);
    let framed: Vec<_> = events.map(|event| format!("data: {event}\n\n")).collect();
    Exact::new(200, "text/event-stream", framed.concat())
}

#[tokio::test]
async fn what_was_sent_is_said_again_after_an_event_too_large_to_read_that_brought_none_of_it() {
    let (path, body) = streams().remove(1);
    let item = json!({"id": "msg_1", "type": "message", "content": []});
    let added = json!({"type": "response.output_item.added", "output_index": 0, "item": item});
    let delta = json!({
        "type": "response.output_text.delta",
        "output_index": 0,
        "content_index": 0,
        "delta": "word ".repeat(20),
    });
    for (kind, is_left_out) in [
        ("response.created", false),
        ("response.image_generation_call.partial_image", false),
        ("response.output_item.done", true),
    ] {
        let sandbox = Sandbox::new(&priced("budgets: {daily: 0.022}"));
        let first = json!({"type": kind, "output_index": 1});
        let exact = large_at_first(first, &added, &delta);
        sandbox.mock.next_exact(exact);
        let answer = sandbox.post(path, &body).await;
        let span = sandbox.span(&answer).await;
        assert_eq!(span.get("tollgate.end"), "cut", "{kind}");
        let data = answer.data();
        let said = deltas(&data, "response.output_text.delta");
        assert!(said.len() > 1_000, "{kind}");
        let content = &data.last().unwrap()["response"]["output"][0]["content"];
        let left_out = span.get("tollgate.cut.output");
        if is_left_out {
            assert_eq!((content, left_out), (&json!([]), &json!("left out")));
        } else {
            assert_eq!(content[0]["text"], said, "{kind}");
            assert_eq!(left_out, &Value::Null, "{kind}");
        }
    }
}

#[tokio::test]
async fn a_dialect_that_never_says_it_again_leaves_nothing_out() {
    let (path, body) = streams().remove(0);
    let sandbox = Sandbox::new(&priced("budgets: {daily: 0.022}"));
    let chunk = |text: &str| json!({"choices": [{"index": 0, "delta": {"content": text}}]});
    let said = chunk(&"word ".repeat(20));
    let exact = large_at_first(chunk(""), &said, &said);
    sandbox.mock.next_exact(exact);
    let answer = sandbox.post(path, &body).await;
    let span = sandbox.span(&answer).await;
    assert_eq!(span.get("tollgate.end"), "cut");
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
    assert_eq!(span.get("tollgate.cut.output"), &Value::Null);
    assert!(sandbox.metric("tollgate_cut_outputs_left_out_total") < 0.5);
}

#[tokio::test]
async fn what_all_streams_keep_to_say_again_has_a_bound_and_leaves_room_for_bodies() {
    const OVER: &str = "tollgate_over_bound_total{what=\"output_bytes\"}";
    let (path, body) = streams().remove(1);
    let yaml = "limits: {peek: 4kB, peek_total: 8kB}\nbudgets: {daily: 0.022}";
    let sandbox = Sandbox::new(&priced(yaml));
    let (answer, span) = cut(&sandbox, path, &body).await;
    let data = answer.data();
    let last = &data.last().unwrap()["response"];
    assert_eq!(last["output"][0]["content"], json!([]), "{last}");
    assert_eq!(span.get("tollgate.cut.output"), "left out");
    assert!((sandbox.metric(OVER) - 1.0).abs() < 0.1);
    assert_eq!(sandbox.app.holdings().peeked_bytes, 0);
}

#[tokio::test]
async fn what_a_stream_keeps_to_say_again_is_told_of_and_let_go_with_it() {
    let held = |sandbox: &Sandbox| sandbox.metric("tollgate_held{what=\"output_bytes\"}");
    let (path, body) = streams().remove(1);
    let sandbox = Sandbox::new(&priced(""));
    let settings = "events=300;event-size=100;hang=40000";
    sandbox.mock.next_with(settings).unwrap();
    let addr = sandbox.addr();
    let calling = tokio::spawn(async move { client::post(addr, path, &[], &body).await });
    until("it keeps some", || held(&sandbox) > 0.0).await;
    assert!(held(&sandbox) <= sandbox.metric("tollgate_bound{what=\"output_bytes\"}"));
    calling.abort();
    until("it is let go", || held(&sandbox) < 0.5).await;
    assert_eq!(sandbox.app.holdings().peeked_bytes, 0);
}

#[tokio::test]
async fn a_stream_that_is_billed_in_full_anyway_is_bounded_before_and_not_cut() {
    let (path, body) = streams().remove(2);
    let sandbox = Sandbox::new(&priced("budgets: {daily: 0.05}"));
    let answer = sandbox.post(path, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let span = sandbox.span(&answer).await;
    assert_eq!(span.get("tollgate.decision"), "capped");
    let sent: Value = serde_json::from_slice(&sandbox.mock.requests()[0].body).unwrap();
    let bound = sent["generationConfig"]["maxOutputTokens"].as_i64();
    let bound = bound.unwrap_or_else(|| panic!("{sent}"));
    assert!(bound > 4_000 && bound * 10_000 < 50_000_000, "{bound}");

    // Where there is room, the model's maximum is set aside from the beginning.
    let sandbox = Sandbox::new(&priced("budgets: {daily: 5.00}"));
    sandbox.mock.next_with("hang=head").unwrap();
    let addr = sandbox.addr();
    let calling = tokio::spawn(async move { client::post(addr, path, &[], &body).await });
    sandbox.mock.until(|all| all.len() == 1).await;
    assert!(sandbox.budget("daily").reserved >= 8_192 * 10_000);
    calling.abort();
}

#[tokio::test]
async fn a_client_that_asked_for_usage_gets_it_at_a_cut() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 0.022}"));
    let mut body = chat_stream();
    body["stream_options"] = json!({"include_usage": true});
    let (answer, span) = cut(&sandbox, "/v1/chat/completions", &body).await;
    let data = answer.data();
    let usage = &data.last().unwrap()["usage"];
    assert_eq!(
        usage["completion_tokens"],
        *span.get("gen_ai.usage.output_tokens")
    );
}

#[tokio::test]
async fn a_cut_may_be_an_error_instead() {
    for (path, body) in streams().into_iter().take(2) {
        let sandbox = Sandbox::new(&priced("budgets: {daily: 0.022, cut: error}"));
        let (answer, _) = cut(&sandbox, path, &body).await;
        let data = answer.data();
        let last = data.last().unwrap().to_string();
        assert!(last.contains("error") && last.contains("daily"), "{last}");
    }
}

#[tokio::test]
async fn a_tool_call_that_is_cut_is_closed_as_incomplete() {
    use tollgate::mock::{Options, Rule, Script, When};
    let long = json!({"text": "x".repeat(3_000)});
    let script = Script {
        rules: vec![Rule::call(When::default(), "write", long)],
    };
    for (path, body) in streams().into_iter().take(2) {
        let options = Options {
            script: script.clone(),
            ..Options::default()
        };
        let clock = std::sync::Arc::new(tollgate::base::clock::SystemClock);
        let yaml = priced("budgets: {daily: 0.022}");
        let sandbox = Sandbox::with(&yaml, options, clock);
        let (answer, _) = cut(&sandbox, path, &body).await;
        let data = answer.data();
        let last = data.last().unwrap();
        if path.contains("chat") {
            assert_eq!(last["choices"][0]["finish_reason"], "length", "{last}");
        } else {
            assert_eq!(last["type"], "response.incomplete");
            let item = &last["response"]["output"][0];
            assert_eq!(item["type"], "function_call", "{last}");
            assert_eq!(item["status"], "incomplete");
            let pieces = deltas(&data, "response.function_call_arguments.delta");
            assert!(pieces.len() > 1_000, "{last}");
            assert_eq!(item["arguments"], pieces, "as far as they came");
        }
    }
}

#[tokio::test]
async fn a_compressed_stream_is_cut_by_an_abort() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 0.022}"));
    sandbox
        .mock
        .next_with("events=300;event-size=100;encoding=gzip")
        .unwrap();
    let answer = sandbox.post("/v1/chat/completions", &chat_stream()).await;
    assert!(answer.error.is_some());
    let span = sandbox.span(&answer).await;
    assert_eq!(span.get("tollgate.end"), "cut");
    assert_eq!(span.field("status"), "blocked");
    assert!(sandbox.spent("daily").await <= LIMIT);
}

#[tokio::test]
async fn a_stream_within_its_limit_takes_steps_and_is_not_cut() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 1.00}"));
    sandbox
        .mock
        .next_with("events=300;event-size=100;output=7500")
        .unwrap();
    let answer = sandbox.post("/v1/chat/completions", &chat_stream()).await;
    let span = sandbox.span(&answer).await;
    assert_eq!(span.field("status"), "ok");
    assert_eq!(span.get("tollgate.end"), "complete");
    assert_eq!(
        span.nanos("tollgate.cost.usd"),
        sandbox.spent("daily").await
    );
}

#[tokio::test]
async fn a_stream_that_turns_out_dearer_at_its_very_end_is_charged_and_not_cut() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 0.022}"));
    sandbox
        .mock
        .next_with("text=hi;input=10;output=5000")
        .unwrap();
    let mut body = chat_stream();
    body["stream_options"] = json!({"include_usage": true});
    let answer = sandbox.post("/v1/chat/completions", &body).await;
    let span = sandbox.span(&answer).await;
    assert_eq!(span.outcome(), "ok complete admitted reported 0.050025000");
    assert_eq!(sandbox.spent("daily").await, 50_025_000);
    let finishes = answer.text().matches("\"finish_reason\":\"").count();
    assert_eq!(finishes, 1, "{answer:?}");
}

/// A request without an output limit that is no stream.
fn unbounded() -> Value {
    let mut body = chat();
    body.as_object_mut().unwrap().remove("max_tokens");
    body
}

#[tokio::test]
async fn a_request_without_a_limit_is_capped_to_what_is_left() {
    for (path, body, limit) in [
        (
            "/v1/chat/completions",
            unbounded(),
            "/max_completion_tokens",
        ),
        (
            "/v1/responses",
            json!({"model": "gpt-4o", "input": "hello"}),
            "/max_output_tokens",
        ),
        (
            "/v1beta/models/gemini-x:generateContent",
            json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}),
            "/generationConfig/maxOutputTokens",
        ),
    ] {
        let sandbox = Sandbox::new(&priced("budgets: {daily: 0.05}"));
        let answer = sandbox.post(path, &body).await;
        assert_eq!(answer.status, 200, "{path} {answer:?}");
        let received = &sandbox.mock.requests()[0];
        let sent: Value = serde_json::from_slice(&received.body).unwrap();
        let bound = sent.pointer(limit).and_then(Value::as_i64);
        let bound = bound.unwrap_or_else(|| panic!("{path} {sent}"));
        assert!(bound > 4_000 && bound * 10_000 < 50_000_000, "{bound}");
        let span = sandbox.span(&answer).await;
        assert_eq!(span.get("tollgate.decision"), "capped");
        assert_eq!(span.get("tollgate.edits"), &json!(["request.output_limit"]));
        assert!(sandbox.spent("daily").await > 0);
    }
}

#[tokio::test]
async fn a_request_without_a_limit_may_be_refused_or_let_go() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 0.05, unbounded: refuse}"));
    let answer = sandbox.post("/v1/chat/completions", &unbounded()).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("x-tollgate-blocked-by"), "budget.daily");

    let sandbox = Sandbox::new(&priced("budgets: {daily: 0.05, unbounded: allow}"));
    sandbox.mock.next_with("input=10;output=10000").unwrap();
    let answer = sandbox.post("/v1/chat/completions", &unbounded()).await;
    assert_eq!(answer.status, 200);
    let received = &sandbox.mock.requests()[0];
    assert_eq!(received.body, unbounded().to_string());
    let span = sandbox.span(&answer).await;
    assert_eq!(span.get("tollgate.bound"), "soft");
    // Charged in full: an overrun is never forgiven.
    assert_eq!(sandbox.spent("daily").await, 10 * 2_500 + 10_000 * 10_000);
    let next = sandbox.post("/v1/chat/completions", &chat()).await;
    assert_eq!(next.header("x-tollgate-blocked-by"), "budget.daily");
}

#[tokio::test]
async fn a_rule_that_clamps_lowers_the_client_s_own_limit() {
    let sandbox = Sandbox::new(&priced(
        "budgets: {rules: [{name: run, window: total, limit: {usd: 0.01}, on_exhausted: clamp}]}",
    ));
    let mut body = chat();
    body["max_tokens"] = 5_000.into();
    let answer = sandbox.post("/v1/chat/completions", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let received = &sandbox.mock.requests()[0];
    let sent: Value = serde_json::from_slice(&received.body).unwrap();
    let bound = sent["max_tokens"].as_i64().unwrap();
    assert!(bound > 500 && bound * 10_000 < 10_000_000, "{bound}");
    let span = sandbox.span(&answer).await;
    assert_eq!(span.get("tollgate.decision"), "clamped");
    assert_eq!(span.get("tollgate.output_limit"), bound);
    assert_eq!(answer.header("x-tollgate-clamped"), bound.to_string());

    // What fits is left alone.
    let answer = sandbox.post("/v1/chat/completions", &chat()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-tollgate-clamped"), "");
    assert_eq!(sandbox.mock.requests()[1].body, chat().to_string());
}
