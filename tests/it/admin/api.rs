//! Spans, traces, reports and requests.

use serde_json::Value;

use super::{LIMITED, chat, get, id, stored};
use crate::support::Sandbox;

fn attribute<'a>(span: &'a Value, name: &str) -> &'a Value {
    &span["attributes"][name]
}

#[tokio::test]
async fn spans_are_found_by_every_filter_and_followed() {
    let sandbox = Sandbox::new(LIMITED);
    for (agent, user) in [("a", "1"), ("b", "1"), ("b", "2")] {
        chat(&sandbox, agent, user, 10).await;
    }
    assert_eq!(chat(&sandbox, "b", "2", 4_000).await.status, 429);
    stored(&sandbox, 4).await;
    let found = async |query: &str| {
        let answer = get(&sandbox, &format!("/api/v1/spans{query}")).await.json();
        (answer["spans"].as_array().unwrap().len(), answer)
    };
    for (query, count) in [
        ("", 4),
        ("?agent=b", 3),
        ("?agent=b&user=1", 1),
        ("?status=blocked", 1),
        ("?model=gpt-4o", 4),
        ("?model=gpt-4o-2024-08-06", 3),
        ("?provider=openai", 4),
        ("?provider=anthropic", 0),
        ("?since=1h", 4),
        ("?until=1h", 0),
        ("?since=2020-01-01&until=2099-01-01T00:00:00Z", 4),
        ("?limit=2", 2),
        ("?agent=a%20b", 0),
    ] {
        assert_eq!(found(query).await.0, count, "{query}");
    }
    let (_, first) = found("?after=0&limit=3").await;
    let (count, second) = found(&format!("?after={}", first["next"])).await;
    assert_eq!(count, 1);
    let (count, third) = found(&format!("?after={}", second["next"])).await;
    assert_eq!((count, &third["next"]), (0, &second["next"]));
    for (query, says) in [
        ("?colour=red", "colour"),
        ("?since=yesterday", "since"),
        ("?limit=many", "limit"),
        ("?trace=12", "trace"),
        ("?agent=a&agent=b", "twice"),
    ] {
        let answer = get(&sandbox, &format!("/api/v1/spans{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.text().contains(says), "{answer:?}");
    }
}

#[tokio::test]
async fn a_call_is_found_with_its_trace_its_cost_and_the_reason() {
    let sandbox = Sandbox::new(LIMITED);
    let passed = id(&chat(&sandbox, "a", "42", 10).await);
    let refused = id(&chat(&sandbox, "a", "42", 4_000).await);
    stored(&sandbox, 2).await;
    let span = get(&sandbox, &format!("/api/v1/requests/{passed}"))
        .await
        .json();
    let cost = attribute(&span, "tollgate.cost.usd").clone();
    assert!(cost.as_str().unwrap().starts_with("0.0000"), "{cost}");
    let trace = span["trace_id"].as_str().unwrap();
    let traced = get(&sandbox, &format!("/api/v1/traces/{trace}"))
        .await
        .json();
    assert_eq!(traced["spans"][0], span);

    let why = get(&sandbox, &format!("/api/v1/requests/{passed}/why"))
        .await
        .json();
    let decision = &why["decisions"][0];
    assert_eq!(decision["admitted"], true);
    assert_eq!(decision["labels"]["agent"], "a");
    assert_eq!(decision["charged"]["usd"], cost);
    assert_eq!(decision["charged"]["source"], "reported");
    let counters = decision["counters"].as_array().unwrap();
    let names: Vec<_> = counters.iter().map(|counter| &counter["budget"]).collect();
    assert_eq!(names, ["daily", "per_user"]);
    assert_eq!(counters[1]["for"], "user=42");
    assert_eq!(counters[1]["limit"], "0.010000000");
    assert_eq!(counters[1]["verdict"], "fits");
    assert_eq!(counters[1]["charged"], cost);

    let why = get(&sandbox, &format!("/api/v1/requests/{refused}/why"))
        .await
        .json();
    let decision = &why["decisions"][0];
    assert_eq!(decision["refused_by"], "budget.per_user");
    assert_eq!(decision["counters"][0]["verdict"], "fits");
    assert_eq!(decision["counters"][1]["verdict"], "exhausted");
    assert_eq!(decision["counters"][1]["spent"], cost);
    assert_eq!(why["span"]["status"], "blocked");

    for (path, status) in [
        ("requests/0123", 400),
        ("requests/00000000000000000000000000000001", 404),
        ("requests/00000000000000000000000000000001/why", 404),
        ("traces/00000000000000000000000000000001", 404),
        ("traces/xyz", 400),
        ("nothing", 404),
    ] {
        let answer = get(&sandbox, &format!("/api/v1/{path}")).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.json()["error"]["status"], status);
    }
}

#[tokio::test]
async fn a_report_adds_up_to_the_budget() {
    let sandbox = Sandbox::new(LIMITED);
    for (agent, user) in [("a", "1"), ("b", "1"), ("b", "2")] {
        chat(&sandbox, agent, user, 10).await;
    }
    stored(&sandbox, 3).await;
    let rows = get(&sandbox, "/api/v1/report?by=agent&since=1h")
        .await
        .json();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (&rows[0]["agent"], &rows[0]["calls"]),
        (&"b".into(), &2.into())
    );
    let costs = rows.iter().map(|row| row["cost_usd"].as_str().unwrap());
    let sum: tollgate::base::money::Usd = costs.map(|cost| cost.parse().unwrap()).sum();
    assert_eq!(sum.nanos(), sandbox.spent("daily").await);
    let by = get(&sandbox, "/api/v1/report").await.json();
    assert_eq!(by[0]["model"], "gpt-4o");
    let answer = get(&sandbox, "/api/v1/report?by=agnet").await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("agent, model"), "{answer:?}");
}
