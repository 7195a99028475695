//! Which models may be called.

use serde_json::{Value, json};

use crate::support::{Answer, Line, Sandbox, Upstream, client, socket::Socket};

const CHAT: &str = "/v1/chat/completions";

fn ask(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello"}]})
}

fn is_denied(answer: &Answer) -> bool {
    let denied = answer.header("x-tollgate-blocked-by") == "model.denied";
    assert_eq!(denied, answer.status == 403, "{answer:?}");
    if denied {
        assert_eq!(answer.header("x-should-retry"), "false");
    }
    denied
}

#[tokio::test]
async fn a_model_that_is_not_allowed_is_refused_in_the_dialect_s_form_and_never_sent() {
    let sandbox = Sandbox::new("guards: {models: {allow: [gpt-4o*], deny: ['openai/*-mini']}}");
    for (model, denied) in [
        ("gpt-4o", false),
        ("GPT-4o", false),
        ("gpt-4o-mini", true),
        ("gpt-4O-Mini", true),
        ("o3", true),
    ] {
        let answer = sandbox.post(CHAT, &ask(model)).await;
        assert_eq!(is_denied(&answer), denied, "{model}");
    }
    let body = json!({"model": "claude-x", "max_tokens": 9,
        "messages": [{"role": "user", "content": "hello"}]});
    let answer = sandbox.post("/v1/messages", &body).await;
    assert!(is_denied(&answer));
    assert_eq!(answer.json()["type"], "error");
    let message = answer.json()["error"]["message"].to_string();
    assert!(message.contains("claude-x"), "{message}");
    let span = sandbox.span(&answer).await;
    assert_eq!(
        span.outcome(),
        "blocked complete refused absent 0.000000000"
    );
    let said = span.get("tollgate.guards")[0].as_str().unwrap();
    assert!(said.starts_with("model.denied: refuse: "), "{said}");
    assert_eq!(sandbox.mock.count(), 2);
    let refused = "tollgate_guard_actions_total{action=\"refuse\",guard=\"model.denied\"}";
    assert_eq!(sandbox.metric(refused).to_string(), "4");
}

#[tokio::test]
async fn what_names_no_model_that_can_be_seen_is_on_no_list_of_what_is_allowed() {
    let sandbox = Sandbox::new("guards: {models: {allow: gpt-4o}}");
    // A body in a coding that nobody knows, and one that is no JSON.
    let unknown = [("content-encoding", "rot13")];
    let answer = sandbox.post_with(CHAT, &unknown, &ask("gpt-4o")).await;
    assert!(is_denied(&answer));
    let post = http::Method::POST;
    let answer = client::call(sandbox.addr(), post.clone(), CHAT, &[], "{\"model\":").await;
    assert!(is_denied(&answer));
    // A path that may cost something, and one that is only read.
    let path = "/v1/no/such/thing";
    let answer = client::call(sandbox.addr(), post, path, &[], "{}").await;
    assert!(is_denied(&answer));
    assert_eq!(sandbox.mock.count(), 0);
    assert!(!is_denied(&sandbox.get("/v1/models").await));
}

#[tokio::test]
async fn a_model_that_is_hidden_gets_around_no_list_of_what_is_not_allowed() {
    let sandbox = Sandbox::new("guards: {models: {deny: gpt-4o}}");
    let said = ("content-encoding", "gzip");
    for headers in [
        &[said][..],
        &[("content-encoding", "rot13")],
        &[said, ("connection", "content-encoding")],
        // It is passed over by servers that know none such, and the call is made.
        &[("upgrade", "other/1"), ("connection", "upgrade")],
    ] {
        let answer = sandbox.post_with(CHAT, headers, &ask("gpt-4o")).await;
        assert!(is_denied(&answer), "{headers:?}");
    }
    let post = async |path, body| {
        let post = http::Method::POST;
        is_denied(&client::call(sandbox.addr(), post, path, &[], body).await)
    };
    assert!(post(CHAT, r#"{"model":"o3","n":NaN,"model":"gpt-4o"}"#).await);
    for path in ["/v1/batches", "/v1/messages/batches"] {
        assert!(post(path, "{}").await, "{path}");
    }
    assert_eq!(sandbox.mock.count(), 0);
    // What names another model where everybody sees it passes, and so does what names none.
    let gemini = "/v1beta/models/gemini-x:generateContent";
    let answer = sandbox.post_with(gemini, &[said], &json!({})).await;
    assert!(!is_denied(&answer));
    assert!(!post("/v1/no/such/thing", "{}").await);
    assert_eq!(sandbox.mock.count(), 2);
}

#[tokio::test]
async fn a_model_in_the_path_is_denied_whatever_the_body_says_and_however_it_is_written() {
    let sandbox =
        Sandbox::new("providers: {azure: {base_url: '{mock}'}}\nguards: {models: {deny: gpt-4o}}");
    for path in [
        "/openai/deployments/gpt-4o",
        "/openai/Deployments/GPT-4o",
        "/openai/deployments//gpt-4o",
        "/openai/deployments/o3/../gpt-4o",
        "/openai/deployments/%2e/gpt%2D4o",
        "/azure/openai%2F%64eployments/gpt-4o",
        "/azure/openai/deployments;a=b/gpt-4o",
    ] {
        let target = format!("{path}/chat/completions?api-version=2024-10-21");
        assert!(
            is_denied(&sandbox.post(&target, &ask("o3")).await),
            "{path}"
        );
    }
    for path in ["/v1/%63hat/completions", "/v1//chat/completions"] {
        assert!(
            is_denied(&sandbox.post(path, &ask("gpt-4o")).await),
            "{path}"
        );
    }
    assert_eq!(sandbox.mock.count(), 0);
    let target = "/openai/deployments/o3/chat/completions?api-version=2024-10-21";
    let answer = sandbox.post(target, &ask("gpt-4o")).await;
    assert!(!is_denied(&answer));
    // The span says what the request does.
    assert_eq!(
        sandbox.span(&answer).await.get("gen_ai.request.model"),
        "gpt-4o"
    );
}

#[tokio::test]
async fn a_job_that_is_cancelled_is_no_model_that_must_be_on_a_list() {
    let sandbox = Sandbox::new("guards: {models: {allow: gemini-x, deny: j1}}");
    let jobs = "/v1/projects/p/locations/us-east5/batchPredictionJobs/j1:cancel";
    for path in [jobs, "/v1beta/batches/j1:cancel"] {
        let answer = sandbox.post(path, &json!({})).await;
        assert!(!is_denied(&answer), "{path}");
        let span = sandbox.span(&answer).await;
        assert_eq!(span.get("gen_ai.request.model"), &Value::Null, "{path}");
    }
    let path = "/v1beta/models/j1:countTokens";
    assert!(is_denied(&sandbox.post(path, &json!({})).await));
}

#[tokio::test]
async fn lists_for_some_calls_hold_besides_those_for_all() {
    let sandbox = Sandbox::new(
        "guards: {models: {deny: o1, rules: [{match: {agent: 'support-*'}, allow: gpt-4o-mini}]}}",
    );
    let agent = [("x-tollgate-agent", "support-eu")];
    for (headers, model, denied) in [
        (&agent[..], "gpt-4o-mini", false),
        (&agent, "gpt-4o", true),
        (&[], "gpt-4o", false),
        (&[], "o1", true),
    ] {
        let answer = sandbox.post_with(CHAT, headers, &ask(model)).await;
        assert_eq!(is_denied(&answer), denied, "{model}");
    }
}

#[tokio::test]
async fn a_socket_that_cannot_be_read_is_closed_where_models_are_listed() {
    for (guards, status) in [
        ("guards: {models: {allow: gpt-4o}}", 403),
        ("guards: {models: {deny: o1}}", 403),
        ("guards: {}", 101),
    ] {
        let upstream = Upstream::bind().await;
        let sandbox = Sandbox::new(&format!("{}\n{guards}", upstream.as_provider("openai")));
        let mut client = Line::connect(sandbox.addr()).await;
        let asks = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-extensions: x-other";
        client
            .send(format!(
                "GET /v1/responses HTTP/1.1\r\nhost: x\r\n{asks}\r\n\r\n"
            ))
            .await;
        let mut provider = upstream.accept().await;
        provider.head().await;
        provider
            .send(format!(
                "HTTP/1.1 101 Switching Protocols\r\n{asks}\r\n\r\n"
            ))
            .await;
        assert_eq!(client.head().await.status(), status, "{guards}");
    }
}

#[tokio::test]
async fn a_socket_that_names_two_models_is_for_any_of_them() {
    let azure = "providers: {azure: {base_url: '{mock}'}}";
    let spent = "budgets: {rules: [{name: spent, match: {model: o1}, window: total, \
         limit: {requests: 1}}]}";
    let kill = json!({"match": {"model": "o1"}}).to_string();
    for (limit, by) in [
        ("guards: {models: {allow: gpt-realtime}}", "model.denied"),
        ("guards: {models: {deny: o1}}", "model.denied"),
        (spent, "budget.spent"),
        ("", "kill"),
    ] {
        let sandbox = Sandbox::new(&format!("{azure}\n{limit}"));
        if by == "budget.spent" {
            assert_eq!(sandbox.post(CHAT, &ask("o1")).await.status, 200);
        } else if by == "kill" {
            let headers = [("content-type", "application/json")];
            let (admin, path) = (sandbox.app.admin_address(), "/api/v1/kills");
            let answer =
                client::call(admin, http::Method::POST, path, &headers, kill.clone()).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        for (target, is_open) in [
            ("/v1/realtime?model=gpt-realtime", true),
            ("/v1/realtime?model=gpt-realtime&model=o1", false),
            ("/v1/realtime?model=gpt-realtime&depl%6fyment=o1", false),
            (
                "/openai/realtime?api-version=1&deployment=gpt-realtime",
                true,
            ),
            (
                "/openai/realtime?api-version=1&deployment=gpt-realtime&model=o1",
                false,
            ),
        ] {
            let asked = Socket::ask(sandbox.addr(), target, &[]).await;
            let blocked = asked.err().map(|head| {
                assert!([403, 429].contains(&head.status()), "{head:?}");
                head.header("x-tollgate-blocked-by").unwrap().to_owned()
            });
            let expected = (!is_open).then(|| by.to_owned());
            assert_eq!(blocked, expected, "{target} {limit}");
        }
        // The same names for what is no socket: nothing of it can be read.
        let before = sandbox.mock.count();
        let answer = sandbox
            .post("/v1/realtime?model=gpt-realtime&model=o1", &json!({}))
            .await;
        assert_eq!(answer.header("x-tollgate-blocked-by"), by, "{limit}");
        assert_eq!(sandbox.mock.count(), before);
    }
}
