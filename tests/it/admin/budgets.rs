//! Budgets as the API lists and changes them.

use serde_json::json;

use super::{LIMITED, chat, get, post};
use crate::support::Sandbox;

#[tokio::test]
async fn a_raise_lets_calls_pass_again_and_a_reset_credits_what_was_spent() {
    let sandbox = Sandbox::new(LIMITED);
    chat(&sandbox, "a", "42", 10).await;
    assert_eq!(chat(&sandbox, "a", "42", 4_000).await.status, 429);
    let path = "/api/v1/budgets/per_user%2Fuser=42/raise";
    let raised = post(
        &sandbox,
        path,
        &json!({"usd": "1.5", "until": "2h", "who": "ada"}),
    )
    .await;
    assert_eq!(raised.status, 200, "{raised:?}");
    assert_eq!(raised.json()[0]["limit"], "1.510000000");
    assert_eq!(raised.json()[0]["for"], "user=42");
    assert_eq!(chat(&sandbox, "a", "42", 4_000).await.status, 200);
    sandbox.settled().await;
    let listed = get(&sandbox, "/api/v1/budgets").await.json();
    let daily = &listed[0];
    assert_eq!(daily["name"], "daily");
    assert_eq!(daily["limit"], "1.000000000");
    assert_ne!(daily["spent"], "0.000000000");
    let reset = post(&sandbox, "/api/v1/budgets/daily/reset", &json!({})).await;
    assert_eq!(reset.json()[0]["spent"], "0.000000000");
    assert_eq!(reset.json()[0]["remaining"], "1.000000000");
}

#[tokio::test]
async fn what_cannot_be_changed_says_why() {
    let sandbox = Sandbox::new(
        "budgets: {daily: 1, rules: [{name: t, window: day, limit: {tokens: 100}}, {name: s, per: \
         [session], window: day, limit: {usd: 1}}]}",
    );
    let cases = [
        ("nope", json!({"usd": "1"}), 404, "daily, t, s"),
        ("s", json!({"usd": "1"}), 400, "s/session=VALUE"),
        ("t", json!({"usd": "1"}), 400, "no limit in US dollars"),
        ("daily", json!({"usd": "0"}), 400, "above zero"),
        ("daily", json!({"usd": "-1"}), 400, "above zero"),
        ("daily", json!({"usd": "much"}), 400, "decimal"),
        ("daily", json!({}), 400, "usd"),
        (
            "daily",
            json!({"usd": "1", "until": "2020-01-01"}),
            400,
            "past",
        ),
        (
            "daily",
            json!({"usd": "1", "until": "soon"}),
            400,
            "`until`",
        ),
        ("daily", json!({"usd": "1", "by": "me"}), 400, "by"),
    ];
    for (name, body, status, says) in cases {
        let answer = post(&sandbox, &format!("/api/v1/budgets/{name}/raise"), &body).await;
        assert_eq!(answer.status, status, "{name} {body}");
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains(says), "{message}");
    }
    assert_eq!(sandbox.budget("daily").limit, 1_000_000_000);
}

#[tokio::test]
async fn how_far_they_reach_is_said_by_who_made_the_volume() {
    for (scope, reach, meaning) in [
        ("volume", "this volume", "as long as the ledger's directory"),
        ("pod", "this pod", "the next pod begins anew"),
    ] {
        let overrides = format!("{{ledger: {{scope: {scope}}}}}");
        let sandbox = Sandbox::with_variables(LIMITED, &[("TOLLGATE_OVERRIDES", &overrides)]);
        let listed = get(&sandbox, "/api/v1/budgets").await.json();
        let said = listed[0]["reach"].as_str().unwrap();
        // Where temporary files are in memory, so is this one.
        assert!(said.starts_with(reach), "{listed}");
        let page = get(&sandbox, "/").await;
        let meaning = meaning.replace('\'', "&#39;");
        assert!(
            said != reach || page.text().contains(&meaning),
            "{}",
            page.text()
        );
    }
}
