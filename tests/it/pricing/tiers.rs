//! Calls that were served in another tier than the usual one.

use serde_json::{Value, json};

use crate::support::{Answer, Sandbox, Upstream};

/// Who answers what of which tier, and what the call costs, in nano-dollars a token of input.
struct Served {
    path: &'static str,
    question: Value,
    answer: Value,
    tier: Option<&'static str>,
    costs: Option<i64>,
}

fn google(usage: &Value) -> Served {
    let mut counts =
        json!({"promptTokenCount": 10, "candidatesTokenCount": 0, "totalTokenCount": 10});
    counts
        .as_object_mut()
        .unwrap()
        .append(&mut usage.as_object().unwrap().clone());
    Served {
        path: "/vertex/v1/projects/p/locations/global/publishers/google/models/m-1:generateContent",
        question: json!({
            "contents": [{"role": "user", "parts": [{"text": "hello"}]}],
            "generationConfig": {"maxOutputTokens": 500},
        }),
        answer: json!({
            "candidates": [{"content": {"parts": [], "role": "model"}, "finishReason": "STOP"}],
            "usageMetadata": counts, "modelVersion": "m-1",
        }),
        tier: None,
        costs: None,
    }
}

fn anthropic(tier: &'static str, costs: Option<i64>) -> Served {
    Served {
        path: "/anthropic/v1/messages",
        question: json!({
            "model": "m-1", "max_tokens": 500, "messages": [{"role": "user", "content": "hello"}],
        }),
        answer: json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m-1", "content": [],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 10, "output_tokens": 0, "service_tier": tier},
        }),
        tier: Some(tier),
        costs,
    }
}

fn bedrock(tier: &'static str, costs: Option<i64>) -> Served {
    Served {
        path: "/bedrock/model/m-1/converse",
        question: json!({
            "messages": [{"role": "user", "content": [{"text": "hello"}]}],
            "inferenceConfig": {"maxTokens": 500},
        }),
        answer: json!({
            "output": {"message": {"role": "assistant", "content": []}}, "stopReason": "end_turn",
            "usage": {"inputTokens": 10, "outputTokens": 0, "totalTokens": 10},
            "serviceTier": {"type": tier},
        }),
        tier: Some(tier),
        costs,
    }
}

fn openai(tier: &'static str, costs: Option<i64>) -> Served {
    Served {
        path: "/openai/v1/chat/completions",
        question: json!({
            "model": "m-1", "max_tokens": 500, "messages": [{"role": "user", "content": "hello"}],
        }),
        answer: json!({
            "id": "c1", "object": "chat.completion", "model": "m-1", "choices": [],
            "usage": {"prompt_tokens": 10, "completion_tokens": 0, "total_tokens": 10},
            "service_tier": tier,
        }),
        tier: Some(tier),
        costs,
    }
}

/// A book with prices of tiers at two of four providers.
fn book() -> String {
    let title = r#"{"book":"own","version":"1","licence":"none"}"#.to_owned();
    let variants = r#"{"when":{"service_tier":"flex"},"usd":{"input":"1"}},{"when":{"service_tier":"priority"},"usd":{"input":"9"}}"#;
    let lists = [
        ("google", variants),
        ("anthropic", ""),
        ("aws", ""),
        ("openai", variants),
    ];
    let lists = lists.into_iter().flat_map(|(list, variants)| {
        let opening = format!(r#"{{"provider":"{list}"}}"#);
        let entry = format!(
            r#"{{"id":"m-1","match":{{"equals":"m-1"}},"prices":[{{"usd":{{"input":"2","output":"10"}}}}],"variants":[{variants}]}}"#
        );
        [opening, entry]
    });
    let book: Vec<String> = std::iter::once(title).chain(lists).collect();
    book.join("\n")
}

/// Has the provider answer the call so.
async fn call(sandbox: &Sandbox, provider: &Upstream, served: &Served) -> Answer {
    let answer = served.answer.to_string();
    let play = async {
        let mut line = provider.accept().await;
        let head = line.head().await;
        line.body(&head).await;
        let length = answer.len();
        line.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}"
        ))
        .await;
        line
    };
    let (got, _line) = tokio::join!(sandbox.post(served.path, &served.question), play);
    assert_eq!(got.text(), answer);
    got
}

#[tokio::test]
async fn a_call_costs_what_its_tier_as_served_costs_and_a_tier_without_a_price_is_not_free() {
    let provider = Upstream::bind().await;
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("prices.jsonl");
    std::fs::write(&path, book()).unwrap();
    let address = provider.addr();
    let providers = ["vertex", "anthropic", "bedrock", "openai"]
        .map(|name| format!("{name}: {{base_url: \"http://{address}\"}}"));
    let yaml = format!(
        "providers: {{{}}}\npricing: {{file: {}}}\nbudgets: {{daily: 1}}\n",
        providers.join(", "),
        path.display()
    );
    let sandbox = Sandbox::new(&yaml);
    let traffic = |kind: &str, tier, costs| Served {
        tier,
        costs,
        ..google(&json!({"trafficType": kind}))
    };
    let provisioned = "PROVISIONED_THROUGHPUT";
    let mut spent = 0;
    for served in [
        traffic("ON_DEMAND", None, Some(2_000)),
        traffic("ON_DEMAND_FLEX", Some("flex"), Some(1_000)),
        traffic("ON_DEMAND_PRIORITY", Some("priority"), Some(9_000)),
        traffic(provisioned, Some(provisioned), None),
        Served {
            tier: Some("flex"),
            costs: Some(1_000),
            ..google(&json!({"serviceTier": "flex"}))
        },
        anthropic("standard", Some(2_000)),
        anthropic("priority", None),
        bedrock("default", Some(2_000)),
        bedrock("flex", Some(2_000)),
        bedrock("priority", None),
        openai("default", Some(2_000)),
        openai("flex", Some(1_000)),
        openai("scale", None),
    ] {
        let got = call(&sandbox, &provider, &served).await;
        let span = sandbox.span(&got).await;
        let what = format!("{} {:?}", served.path, served.tier);
        assert_eq!(
            span.get("tollgate.service_tier"),
            &json!(served.tier),
            "{what}"
        );
        assert_eq!(span.get("gen_ai.usage.input_tokens"), 10, "{what}");
        let charged = sandbox.spent("daily").await - spent;
        spent += charged;
        if let Some(nanos) = served.costs {
            assert_eq!(span.nanos("tollgate.cost.usd"), 10 * nanos, "{what}");
            assert_eq!(charged, 10 * nanos, "{what}");
        } else {
            assert_eq!(span.get("tollgate.cost.usd"), &Value::Null, "{what}");
            // What was set aside, of which its output is the most.
            assert!(charged >= 500 * 10_000, "{what}: {charged}");
        }
    }
}
