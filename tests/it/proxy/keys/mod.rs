//! Client keys through the whole program: who is let in, what is sent on in their place, and that no
//! key is ever seen anywhere else.

use std::fs;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate::{
    base::{
        clock::{Clock as _, SystemClock, Timestamp},
        secret::Secret,
    },
    call::labels::Label,
    identity::{self, ClientKey, Digest, mint},
    mock::Mock,
};

use super::chat;
use crate::support::{Answer, Sandbox, client};

mod following;
mod places;

/// A file with client keys.
pub(super) struct Keys(TempDir);

impl Keys {
    pub(super) fn new() -> Self {
        let keys = Self(tempfile::tempdir().unwrap());
        fs::write(keys.path(), "").unwrap();
        keys
    }

    pub(super) fn path(&self) -> std::path::PathBuf {
        self.0.path().join("keys.jsonl")
    }

    /// Adds a key of this name; `change` says more of it.
    pub(super) fn add(&self, name: &str, change: impl FnOnce(&mut ClientKey)) -> Secret {
        let secret = mint().unwrap();
        let mut key = ClientKey {
            name: name.parse().unwrap(),
            sha256: Digest::of(secret.expose()),
            created: now(),
            expires: None,
            revoked: None,
            labels: [(Label::User, "42".to_owned())].into(),
            tags: [("team".to_owned(), "core".to_owned())].into(),
        };
        change(&mut key);
        identity::create(&self.path(), &key).unwrap();
        secret
    }

    /// The configuration with this file, and `rest`.
    pub(super) fn yaml(&self, identity: &str, rest: &str) -> String {
        let path = self.path().display().to_string();
        format!("identity: {{keys_file: '{path}'{identity}}}\n{rest}")
    }
}

pub(super) fn now() -> Timestamp {
    SystemClock.wall()
}

/// Tollgate's own keys for the providers of the tests.
pub(super) const OURS: &str = "providers: {openai: {api_key: sk-ours}, anthropic: {api_key: sk-ours}, \
     gemini: {api_key: sk-ours}, azure: {api_key: sk-ours, base_url: '{mock}'}, bedrock: {api_key: sk-ours}}\n";

pub(super) fn claude() -> Value {
    json!({"model": "claude-3-5-haiku-latest", "max_tokens": 50,
        "messages": [{"role": "user", "content": "hello"}]})
}

pub(super) fn gemini() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}],
        "generationConfig": {"maxOutputTokens": 50}})
}

const CHAT: &str = "/v1/chat/completions";
pub(super) const FLASH: &str = "/v1beta/models/gemini-2.0-flash:generateContent";
const AZURE: &str = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
pub(super) const HAIKU: &str = "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse";

/// Every byte of the last request that the mock got.
fn seen(mock: &Mock) -> String {
    let last = mock.requests().pop().unwrap();
    let body = String::from_utf8_lossy(&last.body).into_owned();
    format!("{}{body}", String::from_utf8_lossy(&last.head))
}

/// The refusal of a call that shows no good key: nothing of it went on.
fn refused(answer: &Answer, sandbox: &Sandbox, says: &str) {
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(answer.header("x-tollgate-blocked-by"), "identity");
    assert_eq!(answer.header("x-should-retry"), "false");
    assert!(answer.text().contains(says), "{says}: {}", answer.text());
    assert!(!answer.text().contains("tg_1") && sandbox.mock.requests().is_empty());
}

#[tokio::test]
async fn a_client_may_bring_the_provider_s_key_besides_ours() {
    let keys = Keys::new();
    let secret = keys.add("ci", |_| {});
    let proxy = format!(
        "Basic {}",
        STANDARD.encode(format!("user:{}", secret.expose()))
    );
    for shown in [
        ("x-tollgate-key", secret.expose()),
        ("proxy-authorization", &proxy),
    ] {
        let sandbox = Sandbox::new(&keys.yaml("", ""));
        let headers = [shown, ("authorization", "Bearer sk-mine")];
        let answer = sandbox
            .post_with("/v1/chat/completions", &headers, &chat())
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let sent = seen(&sandbox.mock);
        assert!(
            sent.contains("Bearer sk-mine") && !sent.contains("tg_"),
            "{sent}"
        );
        assert!(!sent.contains("Basic"), "{sent}");
        assert_eq!(
            *sandbox.span(&answer).await.get("tollgate.edits"),
            Value::Null
        );
    }
}

#[tokio::test]
async fn what_is_no_valid_key_is_told_apart_and_lets_nobody_in() {
    let keys = Keys::new();
    let at = now();
    let good = keys.add("ci", |_| {});
    let expired = keys.add("old", |key| key.expires = Some(at));
    let revoked = keys.add("gone", |key| key.revoked = Some(at));
    let unknown = mint().unwrap();
    let cut = &good.expose()[..51];
    let cases = [
        (None, "missing", "without a client key"),
        (
            Some("Bearer sk-mine".to_owned()),
            "missing",
            "without a client key",
        ),
        (
            Some(format!("Bearer {cut}")),
            "mistyped",
            "mistyped or cut short",
        ),
        (
            Some(format!("Bearer {}", unknown.expose())),
            "unknown",
            "does not know",
        ),
        (
            Some(format!("Bearer {}", expired.expose())),
            "expired",
            "has expired at 20",
        ),
        (
            Some(format!("Bearer {}", revoked.expose())),
            "revoked",
            "was revoked at 20",
        ),
    ];
    let sandbox = Sandbox::new(&keys.yaml("", OURS));
    let mut spans = 0;
    for (shown, reason, says) in cases {
        let headers: Vec<_> = shown
            .iter()
            .map(|value| ("authorization", value.as_str()))
            .collect();
        let before = sandbox.metric(&format!(
            "tollgate_client_key_failures_total{{reason=\"{reason}\""
        ));
        let mut same = 0.0;
        for (target, body) in [
            ("/v1/chat/completions", chat()),
            ("/v1/messages", claude()),
            (FLASH, gemini()),
            (HAIKU, gemini()),
            ("/v1/files", json!({})),
            ("/groq/anything/else", json!({})),
        ] {
            let answer = sandbox.post_with(target, &headers, &body).await;
            refused(&answer, &sandbox, says);
            assert_eq!(
                sandbox.span(&answer).await.outcome(),
                "blocked complete refused absent 0.000000000"
            );
            (spans, same) = (spans + 1, same + 1.0);
        }
        // Where there is no route there is no span, and no word of routes.
        let answer = sandbox.post_with("/nowhere", &headers, &json!({})).await;
        refused(&answer, &sandbox, says);
        let after = sandbox.metric(&format!(
            "tollgate_client_key_failures_total{{reason=\"{reason}\""
        ));
        assert!((after - before - same - 1.0).abs() < 0.1, "{reason}");
    }
    let spans = sandbox.spans(spans).await;
    let text = serde_json::to_string(&spans).unwrap();
    assert!(!text.contains("tg_"), "{text}");
}

#[tokio::test]
async fn a_refusal_has_each_provider_s_form() {
    let keys = Keys::new();
    let sandbox = Sandbox::new(&keys.yaml("", ""));
    for (target, pointer, word) in [
        ("/v1/chat/completions", "/error/code", "invalid_api_key"),
        ("/v1/messages", "/error/type", "authentication_error"),
        (FLASH, "/error/status", "UNAUTHENTICATED"),
        (HAIKU, "/__type", "UnrecognizedClientException"),
        ("/v2/chat", "/type", "unauthorized"),
        ("/api/chat", "/type", "unauthorized"),
    ] {
        let answer = sandbox.post(target, &json!({})).await;
        refused(&answer, &sandbox, "without a client key");
        assert_eq!(answer.json().pointer(pointer).unwrap(), word, "{target}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
}

#[tokio::test]
async fn trusted_addresses_need_no_key_but_may_not_show_a_bad_one() {
    let keys = Keys::new();
    let yaml = |range: &str| keys.yaml(&format!(", trusted: [header, '{range}']"), OURS);
    let sandbox = Sandbox::new(&yaml("127.0.0.0/8"));
    let answer = sandbox.post("/v1/chat/completions", &chat()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(seen(&sandbox.mock).contains("Bearer sk-ours"));
    let headers = [("x-tollgate-key", "tg_1")];
    let answer = sandbox
        .post_with("/v1/chat/completions", &headers, &chat())
        .await;
    assert_eq!(answer.status, 401);
    // What a caller says of itself is no address.
    let sandbox = Sandbox::new(&yaml("10.0.0.0/8"));
    let headers = [
        ("x-forwarded-for", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
    ];
    let answer = sandbox
        .post_with("/v1/chat/completions", &headers, &chat())
        .await;
    refused(&answer, &sandbox, "without a client key");
}

#[tokio::test]
async fn keys_of_ours_are_for_known_callers_and_a_client_key_is_never_sent_on_instead() {
    let secret = mint().unwrap();
    let bearer = format!("Bearer {}", secret.expose());
    let headers = [("authorization", bearer.as_str())];
    let path = "/v1/chat/completions";

    let sandbox = Sandbox::new("");
    let answer = sandbox.post_with(path, &headers, &chat()).await;
    refused(&answer, &sandbox, "Set providers.openai.api_key");
    let target = format!("{FLASH}?key={}", secret.expose());
    let answer = sandbox.post(&target, &gemini()).await;
    refused(&answer, &sandbox, "Set providers.gemini.api_key");

    let sandbox = Sandbox::new(&format!("{OURS}identity: {{trusted: [10.0.0.0/8]}}"));
    for headers in [&headers[..], &[("authorization", "Bearer sk-mine")], &[]] {
        let answer = sandbox.post_with(path, headers, &chat()).await;
        refused(&answer, &sandbox, "providers.openai.api_key");
    }
    // Others are asked for nothing.
    let answer = sandbox
        .post("/groq/openai/v1/chat/completions", &chat())
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");

    let keys = Keys::new();
    let secret = keys.add("ci", |_| {});
    let sandbox = Sandbox::new(&keys.yaml("", ""));
    let lost = format!("session={}", secret.expose());
    let headers = [("x-tollgate-key", secret.expose()), ("baggage", &lost)];
    let answer = sandbox.post_with(path, &headers, &chat()).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.text().contains("the header baggage"), "{answer:?}");
    assert!(sandbox.mock.requests().is_empty());
}

#[tokio::test]
async fn labels_of_a_key_bound_a_limit_whatever_the_caller_says() {
    let keys = Keys::new();
    let secret = keys.add("ci", |_| {});
    let yaml = keys.yaml(
        ", trusted: [key]",
        "budgets: {rules: [{name: each, per: [user], window: total, limit: {requests: 2}}]}\n",
    );
    let sandbox = Sandbox::new(&yaml);
    let mut statuses = Vec::new();
    for user in ["1", "2", "3"] {
        let headers = [
            ("x-tollgate-key", secret.expose()),
            ("x-tollgate-user", user),
            ("x-tollgate-agent", "mine"),
            ("x-tollgate-tags", "team=other,more=1"),
        ];
        let answer = sandbox
            .post_with("/v1/chat/completions", &headers, &chat())
            .await;
        statuses.push(answer.status.as_u16());
        let span = sandbox.span(&answer).await;
        assert_eq!(span.get("tollgate.user"), "42");
        assert_eq!(span.get("tollgate.agent"), "mine");
        assert_eq!(span.get("tollgate.tags")["team"], "core", "{:#}", span.0);
    }
    assert_eq!(statuses, [200, 200, 429]);
}

/// A budget per key counts by the key's name, whatever credential stands beside it; so that whoever
/// changes a key goes on with the same counter.
#[tokio::test]
async fn the_name_of_a_key_is_what_budgets_count_it_by() {
    let keys = Keys::new();
    let [one, again, other] = ["one", "one", "other"].map(|name| keys.add(name, |_| {}));
    let yaml = keys.yaml(
        "",
        "budgets: {rules: [{name: each, per: [key], window: total, limit: {requests: 2}}, \
         {name: none, match: {key: 'oth*'}, window: total, limit: {requests: 1}}]}\n",
    );
    let sandbox = Sandbox::new(&yaml);
    let mut met = Vec::new();
    for (secret, theirs) in [
        (&one, "1"),
        (&again, "2"),
        (&one, "3"),
        (&other, "4"),
        (&other, "5"),
    ] {
        let theirs = format!("Bearer sk-{theirs}");
        let headers = [
            ("x-tollgate-key", secret.expose()),
            ("authorization", &theirs),
        ];
        let answer = sandbox.post_with(CHAT, &headers, &chat()).await;
        met.push(answer.header("x-tollgate-blocked-by").to_owned());
    }
    assert_eq!(met, ["", "", "budget.each", "", "budget.none"]);
    let counters = sandbox.app.budgets();
    let whose: Vec<_> = counters.iter().map(|budget| &*budget.values).collect();
    assert!(whose.contains(&"key=one"), "{whose:?}");
}

#[tokio::test]
async fn a_caller_s_own_tag_divides_no_limit_where_keys_alone_are_trusted() {
    let keys = Keys::new();
    let secret = keys.add("ci", |key| key.tags.clear());
    let yaml = keys.yaml(
        ", trusted: [key]",
        "budgets: {rules: [{name: each, per: [tags.team], window: total, limit: {requests: 2}}]}\n",
    );
    let sandbox = Sandbox::new(&yaml);
    let mut statuses = Vec::new();
    for (path, tags) in [("", "team=1"), ("/~team=2", ""), ("/~team=3", "team=4")] {
        let headers = [
            ("x-tollgate-key", secret.expose()),
            ("x-tollgate-tags", tags),
        ];
        let path = format!("{path}/v1/chat/completions");
        let answer = sandbox.post_with(&path, &headers, &chat()).await;
        statuses.push(answer.status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 429]);
}

/// A stranger's request is answered at once: its body is not waited for.
#[tokio::test]
async fn a_stranger_is_refused_by_the_head_alone() {
    let keys = Keys::new();
    let sandbox = Sandbox::new(&keys.yaml("", ""));
    let mut line = crate::support::Line::connect(sandbox.addr()).await;
    line.send(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\
         expect: 100-continue\r\n\r\n",
    )
    .await;
    assert_eq!(line.head().await.status(), 401);
    let answer = client::call(sandbox.addr(), Method::GET, "/v1/models", &[], "").await;
    refused(&answer, &sandbox, "without a client key");
}
