//! Circuit breakers: by errors, by slowness, and what does not count.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tollgate::{
    base::clock::{Clock, Instant, SystemClock, Timestamp},
    mock::Options,
};

use crate::support::{Answer, Sandbox, client, sandbox::until};

const CHAT: &str = "/v1/chat/completions";

/// A clock that can be moved forwards.
pub(super) struct Ahead {
    began: Instant,
    millis: AtomicU64,
}

impl Ahead {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: SystemClock.mono(),
            millis: AtomicU64::new(0),
        })
    }

    pub(super) fn by(&self, length: Duration) {
        let millis = u64::try_from(length.as_millis()).unwrap();
        self.millis.fetch_add(millis, SeqCst);
    }
}

impl Clock for Ahead {
    fn wall(&self) -> Timestamp {
        SystemClock.wall()
    }

    /// Stands still but where it is moved.
    fn mono(&self) -> Instant {
        self.began + Duration::from_millis(self.millis.load(SeqCst))
    }
}

fn chat() -> Value {
    json!({"model": "gpt-4o", "max_tokens": 50,
        "messages": [{"role": "user", "content": "hello"}]})
}

async fn ask(sandbox: &Sandbox, settings: &str) -> Answer {
    sandbox
        .post_with(CHAT, &[("x-mock", settings)], &chat())
        .await
}

fn by(answer: &Answer) -> &str {
    answer.header("x-tollgate-blocked-by")
}

const PROVIDERS: &str = "guards: {breakers: [{name: p, per: [provider], errors: 0.5, minimum: 4, \
                         window: 60s, open: 30s, half_open: 2}]}";

#[tokio::test]
async fn a_provider_that_fails_is_left_alone_until_some_calls_find_it_well() {
    let clock = Ahead::new();
    let sandbox = Sandbox::with(PROVIDERS, Options::default(), Arc::<Ahead>::clone(&clock));
    // What the caller did wrong says nothing of the provider.
    for settings in ["status=400", "status=401"] {
        ask(&sandbox, settings).await;
    }
    let mut last = None;
    for settings in ["status=503", "status=429"] {
        last = Some(ask(&sandbox, settings).await);
    }
    let opening = sandbox.span(&last.unwrap()).await;
    assert_eq!(opening.field("events")[0]["name"], "guard.breaker.p");
    let said = opening.get("tollgate.guards")[0].as_str().unwrap();
    assert_eq!(
        said,
        "breaker.p: alert: opened of provider=openai: of the last 4 calls 2 failed and 0 were slow"
    );

    clock.by(Duration::from_millis(10_500));
    let refused = ask(&sandbox, "").await;
    assert_eq!((refused.status.as_u16(), by(&refused)), (503, "breaker.p"));
    assert_eq!(refused.header("retry-after"), "20");
    assert_eq!(refused.header("x-should-retry"), "");
    assert!(refused.text().contains("`p`"), "{}", refused.text());
    let span = sandbox.span(&refused).await;
    assert_eq!(
        span.outcome(),
        "blocked complete refused absent 0.000000000"
    );
    let open = "tollgate_breakers_tripped{breaker=\"p\",state=\"open\"}";
    assert_eq!(sandbox.metric(open).to_string(), "1");
    // Others are not kept back.
    let body = json!({"model": "claude-x", "max_tokens": 9,
        "messages": [{"role": "user", "content": "hello"}]});
    let other = sandbox.post("/v1/messages", &body).await;
    assert_eq!(other.status, 200);
    assert_eq!(sandbox.mock.count(), 5);

    // One that tries it and fails opens it again.
    clock.by(Duration::from_millis(19_500));
    assert_eq!(ask(&sandbox, "status=500").await.status, 500);
    assert_eq!(by(&ask(&sandbox, "").await), "breaker.p");
    clock.by(Duration::from_secs(30));
    for _ in 0..2 {
        assert_eq!(ask(&sandbox, "").await.status, 200);
    }
    sandbox.settled().await;
    assert_eq!(
        sandbox
            .metric("tollgate_breakers_tripped")
            .abs()
            .to_string(),
        "0"
    );
    assert_eq!(ask(&sandbox, "status=503").await.status, 503);
    assert_eq!(ask(&sandbox, "").await.status, 200);
}

#[tokio::test]
async fn while_some_calls_try_it_others_wait_and_one_that_leaves_gives_its_place_back() {
    let clock = Ahead::new();
    let yaml = "guards: {breakers: [{name: p, errors: 1, minimum: 1, half_open: 1, open: 5s}]}";
    let sandbox = Sandbox::with(yaml, Options::default(), Arc::<Ahead>::clone(&clock));
    ask(&sandbox, "status=500").await;
    clock.by(Duration::from_secs(5));
    let addr = sandbox.addr();
    let trying =
        tokio::spawn(
            async move { client::post(addr, CHAT, &[("x-mock", "hang=head")], &chat()).await },
        );
    sandbox.mock.until(|all| all.len() == 2).await;
    let other = ask(&sandbox, "").await;
    assert_eq!(
        (by(&other), other.header("retry-after")),
        ("breaker.p", "1")
    );
    trying.abort();
    sandbox.settled().await;
    // A stream that begins well has found it well, however long it goes on.
    let mut body = chat();
    body["stream"] = true.into();
    let endless = tokio::spawn(async move {
        let settings = [("x-mock", "events=100000;gap=20ms")];
        client::post(addr, CHAT, &settings, &body).await
    });
    until("the circuit to close", || {
        sandbox
            .metric("tollgate_breakers_tripped")
            .abs()
            .to_string()
            == "0"
            && sandbox.mock.count() == 3
    })
    .await;
    assert_eq!(ask(&sandbox, "").await.status, 200);
    endless.abort();
}

#[tokio::test]
async fn one_that_tries_it_and_hangs_keeps_others_back_no_longer_than_it_was_open() {
    let clock = Ahead::new();
    let yaml = "guards: {breakers: [{name: p, errors: 1, minimum: 1, half_open: 1, open: 5s}]}";
    let sandbox = Sandbox::with(yaml, Options::default(), Arc::<Ahead>::clone(&clock));
    ask(&sandbox, "status=500").await;
    clock.by(Duration::from_secs(5));
    let addr = sandbox.addr();
    let hanging =
        tokio::spawn(
            async move { client::post(addr, CHAT, &[("x-mock", "hang=head")], &chat()).await },
        );
    sandbox.mock.until(|all| all.len() == 2).await;
    assert_eq!(by(&ask(&sandbox, "").await), "breaker.p");
    clock.by(Duration::from_secs(5));
    for _ in 0..2 {
        assert_eq!(ask(&sandbox, "").await.status, 200);
    }
    hanging.abort();
}

#[tokio::test]
async fn answers_that_begin_late_open_it_and_so_do_those_that_nobody_waits_for() {
    let clock = Ahead::new();
    let yaml = "guards: {breakers: [{name: slow, per: [agent], slow: {over: 20s, part: 0.5}, \
                minimum: 2}]}";
    let sandbox = Sandbox::with(yaml, Options::default(), Arc::<Ahead>::clone(&clock));
    let addr = sandbox.addr();
    for _ in 0..2 {
        let before = sandbox.mock.count();
        let waiting = tokio::spawn(async move {
            client::post(addr, CHAT, &[("x-mock", "hang=head")], &chat()).await
        });
        until("the call to be sent", || sandbox.mock.count() > before).await;
        clock.by(Duration::from_secs(21));
        waiting.abort();
        sandbox.settled().await;
    }
    assert_eq!(by(&ask(&sandbox, "").await), "breaker.slow");
    let headers = [("x-tollgate-agent", "other")];
    assert_eq!(sandbox.post_with(CHAT, &headers, &chat()).await.status, 200);
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_trips_it_and_refusals_of_ours_do_not() {
    let sandbox = Sandbox::new(
        "providers: {groq: {base_url: 'http://127.0.0.1:1'}}\n\
         guards: {breakers: [{name: p, errors: 0.5, minimum: 2}], models: {deny: o3}}\n\
         budgets: {rules: [{name: none, match: {model: gpt-4o}, window: total, limit: {usd: 0}}]}",
    );
    for model in ["o3", "gpt-4o", "o3", "gpt-4o"] {
        let mut body = chat();
        body["model"] = model.into();
        let answer = sandbox.post(CHAT, &body).await;
        assert!(!by(&answer).starts_with("breaker"), "{answer:?}");
    }
    let mut body = chat();
    body["model"] = "llama".into();
    for expected in ["", "", "breaker.p"] {
        let path = "/groq/openai/v1/chat/completions";
        assert_eq!(by(&sandbox.post(path, &body).await), expected);
    }
}
