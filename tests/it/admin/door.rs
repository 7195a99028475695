//! Who may come in.

use http::Method;

use super::{LIMITED, admin, get};
use crate::support::{Line, Sandbox, client};

const PATHS: [&str; 5] = [
    "/",
    "/healthz",
    "/metrics",
    "/api/v1/spans",
    "/api/v1/budgets",
];
const RAISE: &str = "/api/v1/budgets/daily/raise";

#[tokio::test]
async fn a_name_that_was_made_to_mean_this_machine_reads_nothing() {
    let sandbox =
        Sandbox::new("listen: {proxy: 127.0.0.1:0, admin: 127.0.0.1:0, hosts: [ops.example]}");
    let status = async |path, host| {
        let headers = [("host", host)];
        let answer = client::call(admin(&sandbox), Method::GET, path, &headers, "").await;
        answer.status.as_u16()
    };
    for path in PATHS {
        assert_eq!(status(path, "rebound.example").await, 421, "{path}");
        assert_eq!(status(path, "ops.example:3001").await, 200, "{path}");
        assert_eq!(status(path, "[::1]:3001").await, 200, "{path}");
    }
}

#[tokio::test]
async fn a_request_without_a_host_is_not_answered() {
    let sandbox = Sandbox::new("");
    let mut line = Line::connect(admin(&sandbox)).await;
    line.send("GET /metrics HTTP/1.1\r\n\r\n").await;
    assert_eq!(line.head().await.status(), 400);
}

#[tokio::test]
async fn a_foreign_page_changes_nothing() {
    let sandbox = Sandbox::new(LIMITED);
    let json = ("content-type", "application/json");
    let body = r#"{"usd": "5"}"#;
    let cases = [
        (&[][..], 415),
        (&[("content-type", "text/plain")], 415),
        (
            &[("content-type", "application/x-www-form-urlencoded")],
            415,
        ),
        (&[json, ("origin", "https://evil.example")], 403),
        (&[json, ("origin", "null")], 403),
        (&[json, ("host", "evil.example")], 421),
    ];
    for (headers, expected) in cases {
        let answer = client::call(admin(&sandbox), Method::POST, RAISE, headers, body).await;
        assert_eq!(answer.status, expected, "{headers:?}");
    }
    assert_eq!(sandbox.budget("daily").limit, 1_000_000_000);
    let own = [json, ("origin", "http://localhost")];
    let answer = client::call(admin(&sandbox), Method::POST, RAISE, &own, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(sandbox.budget("daily").limit, 6_000_000_000);
}

#[tokio::test]
async fn beyond_loopback_every_path_asks_for_the_token() {
    let sandbox = Sandbox::new(
        "listen: {proxy: 127.0.0.1:0, admin: 0.0.0.0:0, token: open-sesame}\nbudgets: {daily: 1}",
    );
    let addr = ([127, 0, 0, 1], admin(&sandbox).port()).into();
    for path in PATHS {
        let with = async |token: Option<&str>| {
            let headers: Vec<_> = token
                .map(|token| ("authorization", token))
                .into_iter()
                .collect();
            let answer = client::call(addr, Method::GET, path, &headers, "").await;
            answer.status.as_u16()
        };
        assert_eq!(with(None).await, 401, "{path}");
        assert_eq!(with(Some("Bearer open-sesam")).await, 401, "{path}");
        assert_eq!(with(Some("Basic open-sesame")).await, 401, "{path}");
        assert_eq!(with(Some("Bearer open-sesame")).await, 200, "{path}");
    }
    let unknown = client::call(addr, Method::GET, "/nope", &[], "").await;
    assert_eq!(unknown.status, 401, "what there is, is not told either");
}

#[tokio::test]
async fn bodies_heads_and_methods_have_their_bounds() {
    let sandbox = Sandbox::new(LIMITED);
    let json = [("content-type", "application/json")];
    let long = "x".repeat(20_000);
    let answer = client::call(admin(&sandbox), Method::POST, RAISE, &json, long.clone()).await;
    assert_eq!(answer.status, 413, "{answer:?}");
    let head = [("x-long", long.as_str())];
    let answer = client::call(admin(&sandbox), Method::GET, "/healthz", &head, "").await;
    assert_eq!(answer.status, 431);
    let answer = client::call(admin(&sandbox), Method::DELETE, "/healthz", &json, "").await;
    assert_eq!(answer.status, 405);
    let answer = get(&sandbox, RAISE).await;
    assert_eq!(answer.status, 405);
    assert!(answer.text().contains("POST"), "{answer:?}");
}
