//! Cohere, Ollama and Mistral through the whole program: the counter moves, the limit holds, a
//! stream without an end is cut by one that is legal there.

use serde_json::{Value, json};
use tollgate::mock::End;

use crate::support::{Answer, Sandbox};

const PRICES: &str = "pricing: {command-*: {input: 2.50, output: 10.00}, \
    llama3.2: {input: 2.50, output: 10.00}, mistral-large-*: {input: 2.50, output: 10.00}, \
    embed-v4.0: {input: 2.50, output: 0}, mistral-embed: {input: 2.50, output: 0}, \
    rerank-v3.5: {search_units: 2.00}}\n";

fn yaml(rest: &str) -> String {
    format!("{PRICES}{rest}")
}

fn asked(model: &str, more: &Value) -> Value {
    let mut body = json!({"model": model});
    let (body_members, more) = (body.as_object_mut().unwrap(), more.as_object().unwrap());
    body_members.extend(more.clone());
    body
}

/// A path of text, its provider, and a request without an output limit.
fn texts() -> Vec<(&'static str, &'static str, Value)> {
    const COMMAND: &str = "command-a-03-2025";
    let messages = json!({"messages": [{"role": "user", "content": "hello"}]});
    let message = json!({"message": "hello"});
    let prompt = json!({"prompt": "hello"});
    vec![
        ("/cohere/v2/chat", "cohere", asked(COMMAND, &messages)),
        ("/cohere/v1/chat", "cohere", asked(COMMAND, &message)),
        ("/ollama/api/chat", "ollama", asked("llama3.2", &messages)),
        ("/ollama/api/generate", "ollama", asked("llama3.2", &prompt)),
        (
            "/mistral/v1/chat/completions",
            "mistral",
            asked("mistral-large-2411", &messages),
        ),
    ]
}

/// The same request for an answer in this form.
fn formed(body: &Value, stream: bool) -> Value {
    let mut body = body.clone();
    body["stream"] = json!(stream);
    body
}

/// The same request with an output limit, where its provider has it.
fn bounded(provider: &str, body: &Value) -> Value {
    let mut body = body.clone();
    match provider {
        "ollama" => body["options"] = json!({"num_predict": 400}),
        _ => body["max_tokens"] = json!(400),
    }
    body
}

/// Every endpoint that spends: path, provider, request, and what 1,000 tokens in and 200 out cost
/// there in nano-dollars. A ranking costs a search.
fn endpoints() -> Vec<(&'static str, &'static str, Value, i64)> {
    let mut endpoints = Vec::new();
    for (path, provider, body) in texts() {
        for stream in [false, true] {
            let body = formed(&bounded(provider, &body), stream);
            endpoints.push((path, provider, body, 1000 * 2_500 + 200 * 10_000));
        }
    }
    let embed = json!({"texts": ["hello", "you"], "input_type": "search_query"});
    let rank = json!({"query": "who", "documents": ["hello", "you"]});
    let input = json!({"input": ["hello", "you"]});
    endpoints.extend([
        (
            "/cohere/v2/embed",
            "cohere",
            asked("embed-v4.0", &embed),
            2_500_000,
        ),
        (
            "/cohere/v2/rerank",
            "cohere",
            asked("rerank-v3.5", &rank),
            2_000_000,
        ),
        (
            "/ollama/api/embed",
            "ollama",
            asked("llama3.2", &input),
            2_500_000,
        ),
        (
            "/mistral/v1/embeddings",
            "mistral",
            asked("mistral-embed", &input),
            2_500_000,
        ),
    ]);
    endpoints
}

#[tokio::test]
async fn every_endpoint_is_metered_priced_and_counted() {
    for (path, provider, body, cost) in endpoints() {
        let sandbox = Sandbox::new(&yaml("budgets: {daily: 1}"));
        sandbox
            .mock
            .next_with("usage=unasked;input=1000;output=200")
            .unwrap();
        let answer = sandbox.post(path, &body).await;
        assert_eq!(answer.status, 200, "{path} {answer:?}");
        let span = sandbox.span(&answer).await;
        assert_eq!(span.get("gen_ai.provider.name"), provider, "{path}");
        assert_eq!(*span.get("gen_ai.request.model"), body["model"], "{path}");
        assert_eq!(span.get("tollgate.usage.source"), "reported", "{path}");
        assert_eq!(span.nanos("tollgate.cost.usd"), cost, "{path}");
        assert_eq!(sandbox.spent("daily").await, cost, "{path}");
        let sent = sandbox.mock.requests().remove(0);
        let untouched = serde_json::to_vec(&body).unwrap();
        assert_eq!(sent.body, untouched, "{path}: untouched");
    }
}

#[tokio::test]
async fn a_ranking_too_large_to_hold_reserves_the_searches_that_it_can_be() {
    let rank = json!({"query": "who", "documents": ["x".repeat(9_000_000)]});
    for (limit, status) in [(1, 403), (10, 200)] {
        let sandbox = Sandbox::new(&yaml(&format!("budgets: {{daily: {limit}}}")));
        let body = asked("rerank-v3.5", &rank);
        let answer = sandbox.post("/cohere/v2/rerank", &body).await;
        assert_eq!(answer.status, status, "{limit}");
    }
}

#[tokio::test]
async fn a_spent_budget_is_refused_in_the_providers_words_before_the_provider_hears_of_it() {
    for (path, provider, body, _) in endpoints() {
        let sandbox = Sandbox::new(&yaml("budgets: {daily: 0.0000001}"));
        let answer = sandbox.post(path, &body).await;
        let status = if provider == "cohere" { 403 } else { 429 };
        assert_eq!(answer.status, status, "{path} {answer:?}");
        assert_eq!(answer.header("x-tollgate-blocked-by"), "budget.daily");
        let error = answer.json();
        let message = match provider {
            "cohere" => &error["message"],
            "ollama" => &error["error"],
            _ => &error["error"]["message"],
        };
        assert!(message.as_str().unwrap().contains("daily"), "{error}");
        assert_eq!(sandbox.mock.count(), 0, "{path}");
    }
}

#[tokio::test]
async fn calls_spend_a_budget_until_it_is_refused() {
    for (path, _, body, cost) in endpoints() {
        let sandbox = Sandbox::new(&yaml("budgets: {daily: 0.02}"));
        let settings = [("x-mock", "usage=unasked;input=1000;output=200")];
        let mut allowed = 0;
        while sandbox.post_with(path, &settings, &body).await.status == 200 {
            allowed += 1;
            assert!(allowed < 20, "{path}: never refused");
        }
        assert!(allowed > 0, "{path}");
        let spent = sandbox.spent("daily").await;
        assert_eq!(spent, allowed * cost, "{path}");
        assert!(spent <= 20_000_000, "{path}: {spent}");
    }
}

/// The data of a stream's events: of server-sent ones, or a JSON object a line.
fn events(answer: &Answer) -> Vec<Value> {
    let text = answer.text();
    let data = text.lines().filter_map(|line| match line {
        "" | "data: [DONE]" => None,
        line if line.starts_with("event:") => None,
        line => Some(line.strip_prefix("data: ").unwrap_or(line)),
    });
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}")))
        .collect()
}

#[tokio::test]
async fn a_stream_without_a_limit_is_cut_by_a_legal_end() {
    const LIMIT: i64 = 22_000_000;
    for (path, _, body) in texts() {
        for style in ["graceful", "error"] {
            // Mistral bills a stream to its end: there it is cut only if told that it does not.
            let sandbox = Sandbox::new(&yaml(&format!(
                "providers: {{mistral: {{abandoned: until_then}}}}\n\
                 budgets: {{daily: 0.022, cut: {style}}}"
            )));
            let settings = "events=300;event-size=100;gap=1ms";
            sandbox.mock.next_with(settings).unwrap();
            let answer = sandbox.post(path, &formed(&body, true)).await;
            let ended = (answer.status.as_u16(), &answer.error);
            assert_eq!(ended, (200, &None), "{path}");
            let span = sandbox.span(&answer).await;
            assert_eq!(span.get("tollgate.end"), "cut", "{path}");
            let spent = sandbox.spent("daily").await;
            assert!(spent > 0 && spent <= LIMIT, "{path}: {spent}");
            let events = events(&answer);
            let last = events.last().unwrap();
            if style == "graceful" {
                legally_ended(path, &events, span.get("gen_ai.usage.output_tokens"));
            } else {
                assert!(last.to_string().contains("daily"), "{path}: {last}");
            }
            let requests = sandbox.mock.until(|all| all[0].end != End::Open).await;
            assert_eq!(requests[0].end, End::Left, "{path}: the provider is told");
        }
    }
}

/// The end is what the provider would have sent had the answer's limit been reached.
fn legally_ended(path: &str, events: &[Value], output: &Value) {
    let last = events.last().unwrap();
    match path {
        "/cohere/v2/chat" => {
            let kinds = events.iter().map(|event| event["type"].as_str().unwrap());
            let kinds: Vec<_> = kinds.collect();
            let end = ["content-delta", "content-end", "message-end"];
            assert!(kinds.ends_with(&end), "{kinds:?}");
            assert_eq!(last["delta"]["finish_reason"], "MAX_TOKENS");
            assert_eq!(
                last["delta"]["usage"]["billed_units"]["output_tokens"],
                *output
            );
        },
        "/cohere/v1/chat" => {
            assert_eq!(last["event_type"], "stream-end");
            assert_eq!(last["finish_reason"], "MAX_TOKENS");
            assert_eq!(
                last["response"]["meta"]["billed_units"]["output_tokens"],
                *output
            );
        },
        "/mistral/v1/chat/completions" => {
            let reasons = events
                .iter()
                .map(|event| &event["choices"][0]["finish_reason"]);
            assert!(
                reasons.into_iter().any(|reason| reason == "length"),
                "{last}"
            );
        },
        _ => {
            assert_eq!(
                (&last["done"], &last["done_reason"]),
                (&json!(true), &json!("length"))
            );
            assert_eq!(last["eval_count"], *output);
        },
    }
}

#[tokio::test]
async fn a_limit_is_lowered_in_the_providers_own_field() {
    for (path, provider, body) in texts() {
        let sandbox = Sandbox::new(&yaml(
            "budgets: {rules: [{name: tight, window: total, limit: {usd: 0.0022}, on_exhausted: clamp}]}",
        ));
        let answer = sandbox.post(path, &bounded(provider, &body)).await;
        assert_eq!(answer.status, 200, "{path} {answer:?}");
        let sent = sandbox.mock.requests().remove(0);
        let sent: Value = serde_json::from_slice(&sent.body).unwrap();
        let limit = sent
            .pointer("/options/num_predict")
            .or_else(|| sent.get("max_tokens"));
        let limit = limit.and_then(Value::as_u64).unwrap();
        assert!((1..400).contains(&limit), "{path} {sent}");
    }
}

#[tokio::test]
async fn ollama_costs_nothing_unless_a_price_is_set() {
    let sandbox = Sandbox::new("budgets: {daily: 0.0000001}");
    for (path, provider, body, _) in endpoints() {
        if provider != "ollama" {
            continue;
        }
        let answer = sandbox.post(path, &body).await;
        assert_eq!(answer.status, 200, "{path} {answer:?}");
        let span = sandbox.span(&answer).await;
        assert_eq!(span.nanos("tollgate.cost.usd"), 0, "{path}");
    }
    assert_eq!(sandbox.spent("daily").await, 0);
}
