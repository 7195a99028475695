//! A budget that is used up, and every way in: no path, form, key, header or address is exempt.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    chat, chat_stream,
    keys::{FLASH, HAIKU, Keys, OURS, claude, gemini},
};
use crate::support::{Answer, Line, Sandbox, client};

/// A way in: what it is, the request, and what meets it.
struct Door {
    what: &'static str,
    method: Method,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Value,
    met_by: &'static str,
}

/// What refuses, by `x-tollgate-blocked-by`.
const SPENT: &str = "budget.all";

fn door(what: &'static str, target: &str, body: Value) -> Door {
    Door {
        what,
        method: Method::POST,
        target: target.to_owned(),
        headers: Vec::new(),
        body,
        met_by: SPENT,
    }
}

impl Door {
    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn met_by(mut self, what: &'static str) -> Self {
        self.met_by = what;
        self
    }

    fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }
}

fn asks(change: impl FnOnce(&mut Value)) -> Value {
    let mut body = chat();
    change(&mut body);
    body
}

/// The usual ways in.
fn usual_doors() -> Vec<Door> {
    let chat_path = "/v1/chat/completions";
    vec![
        door("chat", chat_path, chat()),
        door("a stream", chat_path, chat_stream()),
        door("many choices", chat_path, asks(|body| body["n"] = json!(8))),
        door(
            "a response for later",
            "/v1/responses",
            json!({"model": "gpt-4o", "input": "hi", "background": true}),
        ),
        door(
            "embeddings",
            "/v1/embeddings",
            json!({"model": "text-embedding-3-small", "input": "hi"}),
        ),
        door("another provider", "/v1/messages", claude()),
        door(
            "a provider by name",
            "/groq/openai/v1/chat/completions",
            asks(|body| body["model"] = json!("llama-3.3-70b-versatile")),
        ),
        door("Gemini", FLASH, gemini()),
        door(
            "Bedrock",
            HAIKU,
            json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}),
        ),
    ]
}

/// The odd ones: around the usual path, past what can be read, and for nothing.
fn odd_doors() -> Vec<Door> {
    let chat_path = "/v1/chat/completions";
    let batch =
        json!({"input_file_id": "file-1", "endpoint": chat_path, "completion_window": "24h"});
    let claudes = json!({"requests": [{"custom_id": "1", "params": claude()}]});
    vec![
        door(
            "as to a forward proxy",
            "http://127.0.0.1/v1/chat/completions",
            chat(),
        ),
        door(
            "with labels in the path",
            "/~agent=a;user=root/v1/chat/completions",
            chat(),
        ),
        door("with labels in headers", chat_path, chat())
            .with("x-tollgate-user", "root")
            .with("x-tollgate-agent", "admin"),
        door("with words to the proxy", chat_path, chat())
            .with("x-tollgate-budget", "off")
            .with("x-tollgate-bypass", "1"),
        door("from elsewhere, it says", chat_path, chat())
            .with("x-forwarded-for", "127.0.0.1")
            .with("via", "tollgate"),
        door(
            "a path with its slashes doubled",
            "/v1//chat/completions",
            chat(),
        ),
        door("a path with dots", "/v1/x/../chat/completions", chat()),
        door("a path in escapes", "/v1/chat%2Fcompletions", chat()),
        door("an unknown path", "/v1/something/new", json!({"a": 1})),
        door(
            "an unknown path of a named provider",
            "/anthropic/v9/anything",
            json!({"a": 1}),
        ),
        door(
            "an unknown path with another method",
            "/v1/something",
            json!({}),
        )
        .method(Method::PUT),
        door("a batch", "/v1/batches", batch),
        door("another provider's batch", "/v1/messages/batches", claudes),
        door("a free model", "/free/v1/chat/completions", chat()),
        door(
            "a model without a price",
            chat_path,
            asks(|body| body["model"] = json!("nobody-knows-1")),
        )
        .met_by("model.unknown_price"),
        door("a body that is no JSON", chat_path, json!("not an object"))
            .met_by("model.unknown_price"),
        door("a body in a coding of its own", chat_path, chat())
            .with("content-encoding", "x-own")
            .met_by("model.unknown_price"),
    ]
}

/// A Tollgate with one budget that is used up, and callers known by key and by address.
async fn spent(keys: &Keys) -> Sandbox {
    let providers = OURS.replace("}}\n", "}, free: {base_url: '{mock}', price: free}}\n");
    let budgets = "pricing: {anthropic.claude-3-haiku-20240307-v1:0: {input: 1, output: 1}, \
         gemini-2.0-flash: {input: 1, output: 1}}\n\
         budgets: {rules: [{name: all, window: total, limit: {usd: 0.001}}], unmetered: allow}\n";
    let yaml = keys.yaml(
        ", trusted: [key, 127.0.0.0/8]",
        &format!("{providers}{budgets}"),
    );
    let sandbox = Sandbox::new(&yaml);
    // The provider delivers more than it was asked for: all of it is charged.
    sandbox.mock.next_with("input=10;output=5000").unwrap();
    let answer = sandbox.post("/v1/chat/completions", &chat()).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert!(sandbox.spent("all").await > 1_000_000);
    sandbox
}

fn assert_met(answer: &Answer, door: &Door) {
    let what = door.what;
    assert!(answer.status.is_client_error(), "{what}: {answer:?}");
    assert_eq!(
        answer.header("x-tollgate-blocked-by"),
        door.met_by,
        "{what}: {answer:?}"
    );
}

#[tokio::test]
async fn a_used_up_budget_stands_before_every_way_in() {
    let keys = Keys::new();
    let secret = keys.add("ci", |_| {});
    let sandbox = spent(&keys).await;
    for shown in [None, Some(("x-tollgate-key", secret.expose()))] {
        for door in usual_doors().into_iter().chain(odd_doors()) {
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(
                door.headers
                    .iter()
                    .map(|(name, value)| (*name, value.as_str())),
            );
            headers.extend(shown);
            let (method, body) = (door.method.clone(), door.body.to_string());
            let answer = client::call(sandbox.addr(), method, &door.target, &headers, body).await;
            assert_met(&answer, &door);
            let span = sandbox.span(&answer).await;
            assert_eq!(span.field("status"), "blocked", "{}", door.what);
        }
    }
    assert_eq!(
        sandbox.mock.count(),
        1,
        "only the call that spent it went on"
    );
}

#[tokio::test]
async fn it_stands_before_http_2_and_sockets_as_well() {
    let keys = Keys::new();
    let secret = keys.add("ci", |_| {});
    let sandbox = spent(&keys).await;
    let json = ("content-type", "application/json");
    let (path, body) = ("/v1/chat/completions", chat().to_string());
    let answer = client::call_h2(sandbox.addr(), Method::POST, path, &[json], body).await;
    assert_eq!(answer.header("x-tollgate-blocked-by"), SPENT, "{answer:?}");
    for target in [
        "/v1/realtime?model=gpt-realtime",
        "/v1/responses",
        "/v1/some/socket",
        "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
    ] {
        let mut line = Line::connect(sandbox.addr()).await;
        let key = secret.expose();
        line.send(format!(
            "GET {target} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-protocol: realtime, openai-insecure-api-key.{key}\r\n\r\n"
        ))
        .await;
        let head = line.head().await;
        assert_eq!(head.status(), 429, "{target}: {head:?}");
        assert_eq!(
            head.header("x-tollgate-blocked-by"),
            Some(SPENT),
            "{target}"
        );
    }
    assert_eq!(sandbox.mock.count(), 1);
}

/// What costs nothing passes, and changes nothing.
#[tokio::test]
async fn what_cannot_cost_anything_passes() {
    let keys = Keys::new();
    let sandbox = spent(&keys).await;
    let before = sandbox.spent("all").await;
    for target in ["/v1/models", "/v1beta/models"] {
        let answer = sandbox.get(target).await;
        assert_eq!(
            answer.header("x-tollgate-blocked-by"),
            "",
            "{target}: {answer:?}"
        );
    }
    assert_eq!(sandbox.mock.count(), 3);
    assert_eq!(sandbox.spent("all").await, before);
}

/// With room left, what cannot be metered passes, and is counted.
#[tokio::test]
async fn what_cannot_be_metered_is_counted_or_denied() {
    let rule = |unmetered| {
        format!(
            "budgets: {{unmetered: {unmetered}, rules: [{{name: all, window: total, limit: {{usd: 1}}}}]}}"
        )
    };
    let sandbox = Sandbox::new(&rule("allow"));
    let answer = sandbox.post("/v1/something/new", &json!({})).await;
    assert_eq!(answer.header("x-tollgate-blocked-by"), "", "{answer:?}");
    let counted = sandbox.metric("tollgate_unmetered_total");
    assert!((counted - 1.0).abs() < 0.1, "{counted}");
    let sandbox = Sandbox::new(&rule("deny"));
    let answer = sandbox.post("/v1/something/new", &json!({})).await;
    assert_eq!(
        answer.header("x-tollgate-blocked-by"),
        "unmetered",
        "{answer:?}"
    );
    assert_eq!(sandbox.mock.count(), 0);
}
