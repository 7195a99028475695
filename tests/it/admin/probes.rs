//! Probes and metrics, and the end.

use std::{net::SocketAddr, time::Duration};

use http::Method;
use tokio::time::timeout;
use tollgate::app::Dismissed;

use super::{LIMITED, admin, chat, get, stored};
use crate::support::{
    Line, Sandbox, client,
    sandbox::{PATIENCE, until},
};

const HEALTH: &str = "listen: {proxy: 127.0.0.1:0, admin: 127.0.0.1:0, health: 127.0.0.1:0}";

#[tokio::test]
async fn the_health_listener_answers_probes_to_anybody_and_nothing_else() {
    let sandbox = Sandbox::new(HEALTH);
    let addr = sandbox.app.health_address.unwrap();
    let headers = [("host", "10.0.0.7:4101")];
    for path in ["/healthz", "/readyz", "/metrics"] {
        let answer = client::call(addr, Method::GET, path, &headers, "").await;
        assert_eq!(answer.status, 200, "{path}");
    }
    for path in ["/", "/api/v1/spans", "/api/v1/budgets"] {
        let answer = client::call(addr, Method::GET, path, &headers, "").await;
        assert_eq!(answer.status, 404, "{path}");
    }
    let raise = "/api/v1/budgets/daily/raise";
    let answer = client::post(addr, raise, &headers, &serde_json::json!({"usd": "1"})).await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn while_it_leaves_it_is_up_and_not_ready() {
    let sandbox = Sandbox::new("shutdown: {delay: 400ms}");
    let addr = sandbox.app.admin_address();
    assert_eq!(get(&sandbox, "/readyz").await.status, 200);
    let Sandbox { app, .. } = sandbox;
    let watch = async {
        loop {
            let answer = client::call(addr, Method::GET, "/readyz", &[], "").await;
            if answer.status != 200 {
                break answer;
            }
        }
    };
    let watch = async { timeout(PATIENCE, watch).await.unwrap() };
    let after = async {
        let unready = watch.await;
        (
            unready,
            client::call(addr, Method::GET, "/healthz", &[], "").await,
        )
    };
    let ((), (unready, healthy)) = tokio::join!(app.stop(), after);
    assert_eq!(unready.status, 503);
    assert!(unready.text().contains("leaving"), "{unready:?}");
    assert_eq!(healthy.status, 200);
}

#[tokio::test]
async fn metrics_tell_of_budgets_spans_and_bounds() {
    let sandbox = Sandbox::new(LIMITED);
    chat(&sandbox, "a", "42", 10).await;
    assert_eq!(chat(&sandbox, "a", "42", 4_000).await.status, 429);
    sandbox.settled().await;
    stored(&sandbox, 2).await;
    let answer = get(&sandbox, "/metrics").await;
    assert!(
        answer
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    let value = |name: &str| {
        let line = answer
            .text()
            .lines()
            .find_map(|line| line.strip_prefix(name));
        let value = line.unwrap_or_else(|| panic!("no {name} in {}", answer.text()));
        value.trim().parse::<f64>().unwrap()
    };
    let spent = value("tollgate_budget_spent_usd{budget=\"daily\"}");
    assert!(spent > 0.0);
    let same = |one: f64, other: f64| (one - other).abs() < 1e-12;
    assert!(same(
        value("tollgate_budget_spent_usd{budget=\"per_user/user=42\"}"),
        spent
    ));
    assert!(same(
        value("tollgate_budget_limit_usd{budget=\"daily\"}"),
        1.0
    ));
    assert!(same(
        value("tollgate_budget_reserved_usd{budget=\"daily\"}"),
        0.0
    ));
    assert!(same(
        value("tollgate_budget_remaining_usd{budget=\"daily\"}"),
        1.0 - spent
    ));
    assert!(same(value("tollgate_budget_overrun_usd"), 0.0));
    assert!(same(
        value("tollgate_spans_total{outcome=\"delivered\",processor=\"store\"}"),
        2.0
    ));
    assert!(same(
        value("tollgate_blocked_total{by=\"budget.per_user\"}"),
        1.0
    ));
    assert!(same(value("tollgate_held{what=\"counters\"}"), 2.0));
    assert!(same(value("tollgate_bound{what=\"calls\"}"), 4_096.0));
    assert!(same(value("tollgate_ready"), 1.0));
    for (what, bound) in [("awaited_responses", 10_000.0), ("waiting_calls", 4_096.0)] {
        let bounded = value(&format!("tollgate_bound{{what=\"{what}\"}}"));
        assert!(same(bounded, bound), "{what} {bounded}");
        let over = value(&format!("tollgate_over_bound_total{{what=\"{what}\"}}"));
        assert!(same(over, 0.0), "{what} {over}");
    }
    // It may happen, and there is a bound to it.
    let unnoted = value("tollgate_over_bound_total{what=\"noted_refusals\"}");
    assert!(same(unnoted, 0.0));
    assert!(!answer.text().contains("refusal_not_noted"));
}

#[tokio::test]
async fn budgets_of_many_users_become_one_series_past_the_cap() {
    let sandbox = Sandbox::new(LIMITED);
    for user in 0..205 {
        chat(&sandbox, "a", &user.to_string(), 1).await;
    }
    sandbox.settled().await;
    let text = get(&sandbox, "/metrics").await;
    let text = text.text();
    let series = text
        .lines()
        .filter(|line| line.starts_with("tollgate_budget_spent_usd{"));
    // The whole, 199 users, and the rest together.
    assert_eq!(series.count(), 201);
    assert!(
        text.contains("tollgate_budget_limit_usd{budget=\"other\"} 0.06"),
        "{text}"
    );
}

/// The status of `POST /quit`.
async fn quit(addr: SocketAddr, headers: &[(&str, &str)]) -> u16 {
    let answer = client::call(addr, Method::POST, "/quit", headers, "").await;
    answer.status.as_u16()
}

#[tokio::test]
async fn who_is_here_ends_it_if_that_is_allowed_and_no_page_in_a_browser_does() {
    let forbidden = Sandbox::new(HEALTH);
    let health = |sandbox: &Sandbox| sandbox.app.health_address.unwrap();
    assert_eq!(quit(health(&forbidden), &[]).await, 403);
    let sandbox = Sandbox::new(&HEALTH.replace('}', ", quit: true}"));
    let addr = health(&sandbox);
    let page = [("origin", "http://localhost:8000")];
    assert_eq!(quit(addr, &page).await, 403);
    assert_eq!(
        quit(admin(&sandbox), &[]).await,
        415,
        "the admin listener has it not"
    );
    let json = [("content-type", "application/json")];
    assert_eq!(quit(admin(&sandbox), &json).await, 404);
    let get = client::call(addr, Method::GET, "/quit", &[], "").await;
    assert_eq!(get.status, 405);
    let dismissed = async { timeout(PATIENCE, sandbox.app.dismissed()).await };
    let (dismissed, status) = tokio::join!(dismissed, quit(addr, &[]));
    assert_eq!(status, 202);
    assert_eq!(dismissed, Ok(Dismissed::Asked));
    // As a job that ends does, it does not wait for those who may still come.
    sandbox.app.stop_at_once().await;
}

#[tokio::test]
async fn it_leaves_by_itself_once_no_client_was_connected_for_a_while() {
    let sandbox = Sandbox::new("shutdown: {idle: 200ms}");
    let mut client = Line::connect(sandbox.addr()).await;
    client
        .send("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n")
        .await;
    until("the call", || sandbox.app.holdings().in_flight == 1).await;
    let mut dismissed = std::pin::pin!(sandbox.app.dismissed());
    let early = timeout(Duration::from_millis(600), &mut dismissed).await;
    assert!(early.is_err(), "a client is connected");
    drop(client);
    let dismissed = timeout(PATIENCE, dismissed).await;
    assert_eq!(dismissed, Ok(Dismissed::Idle));
}
