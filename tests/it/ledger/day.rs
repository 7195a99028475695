//! A day of mixed traffic: every dialect, endings of every kind, refusals, raises, resets, restarts and a
//! kill. Afterwards the ledger proves itself, its export, the budgets and the spans tell one sum, and
//! every request can be explained.

use std::collections::{BTreeMap, HashMap};

use http::Method;
use serde_json::{Value, json};
use tollgate::{
    admin::Archive,
    base::clock::{Clock as _, SystemClock, Timestamp},
    ledger,
    policy::{CounterName, Unit},
    store,
};

use crate::support::{Answer, Line, Sandbox, client, sandbox::until};

const YAML: &str = "pricing: {gpt-4o: {input: 2.50, output: 10.00}, 'claude-*': {input: 2.50, \
    output: 10.00}, 'gemini-*': {input: 2.50, output: 10.00}, command-a: {input: 2.50, output: \
    10.00}, text-embedding-3-small: {input: 2.50, output: 0}}\n\
    budgets: {max_wait: 0s, rules: [\
    {name: all, window: total, limit: {usd: 5, tokens: 5000000, requests: 5000}},\
    {name: small, match: {agent: small}, window: total, limit: {usd: 0.004}},\
    {name: users, per: [user], window: total, limit: {usd: 2}}]}\n";

/// A call of each dialect: where to, and what.
fn dialects() -> Vec<(&'static str, Value)> {
    let messages = json!([{"role": "user", "content": "hello"}]);
    let contents = json!([{"role": "user", "parts": [{"text": "hello"}]}]);
    let bounded = json!({"contents": contents, "generationConfig": {"maxOutputTokens": 90}});
    vec![
        (
            "/v1/chat/completions",
            json!({"model": "gpt-4o", "max_tokens": 90, "messages": messages}),
        ),
        (
            "/v1/chat/completions",
            json!({"model": "gpt-4o", "stream": true, "messages": messages}),
        ),
        (
            "/v1/responses",
            json!({"model": "gpt-4o", "max_output_tokens": 90, "input": "hello"}),
        ),
        (
            "/v1/messages",
            json!({"model": "claude-x", "max_tokens": 90, "messages": messages}),
        ),
        (
            "/v1/messages",
            json!({"model": "claude-x", "max_tokens": 90, "stream": true, "messages": messages}),
        ),
        ("/v1beta/models/gemini-x:generateContent", bounded.clone()),
        (
            "/v1beta/models/gemini-x:streamGenerateContent?alt=sse",
            bounded,
        ),
        (
            "/cohere/v2/chat",
            json!({"model": "command-a", "max_tokens": 90, "messages": messages}),
        ),
        (
            "/v1/embeddings",
            json!({"model": "text-embedding-3-small", "input": "hello"}),
        ),
    ]
}

/// What the mock is told of an answer.
const ENDINGS: [&str; 7] = [
    "input=100;output=20",
    "usage=none",
    "status=500",
    "status=429;retry-after=1",
    "truncate=40",
    "stream-error=1",
    "reset=head",
];

/// The ids of all requests so far that got an answer.
#[derive(Default)]
struct Day {
    requests: Vec<String>,
}

impl Day {
    fn note(&mut self, answer: &Answer) {
        self.requests
            .push(answer.header("x-tollgate-request-id").to_owned());
    }

    /// Some hours: each dialect with each ending, of several users.
    async fn hours(&mut self, sandbox: &Sandbox) {
        for (number, ending) in ENDINGS.iter().enumerate() {
            for (path, body) in dialects() {
                let user = format!("u{}", number % 3);
                let headers = [("x-mock", *ending), ("x-tollgate-user", &*user)];
                self.note(&sandbox.post_with(path, &headers, &body).await);
            }
        }
        sandbox.settled().await;
    }

    /// Calls of an agent with a small budget, until it is refused a few times.
    async fn refusals(&mut self, sandbox: &Sandbox) {
        let (path, body) = dialects().remove(0);
        let mut refused = 0;
        while refused < 3 {
            let headers = [
                ("x-tollgate-agent", "small"),
                ("x-mock", "input=0;output=90"),
            ];
            let answer = sandbox.post_with(path, &headers, &body).await;
            refused += usize::from(answer.status == 429);
            self.note(&answer);
            sandbox.settled().await;
            assert!(self.requests.len() < 500, "never refused");
        }
    }
}

/// A client that leaves once the answer has begun.
async fn leave(sandbox: &Sandbox) {
    let body = json!({"model": "gpt-4o", "stream": true,
        "messages": [{"role": "user", "content": "hello"}]})
    .to_string();
    let mut line = Line::connect(sandbox.addr()).await;
    let length = body.len();
    line.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-mock: events=500;gap=5ms\r\n\
         content-length: {length}\r\n\r\n{body}"
    ))
    .await;
    line.head().await;
    line.more().await;
}

/// A call that will be in flight when Tollgate is killed.
async fn begin(sandbox: &Sandbox) -> tokio::task::JoinHandle<Answer> {
    let (path, body) = dialects().remove(0);
    let (addr, before) = (sandbox.addr(), sandbox.mock.count());
    let call = tokio::spawn(async move {
        let headers = [
            ("x-mock", "hang=head"),
            ("content-type", "application/json"),
        ];
        client::call(addr, Method::POST, path, &headers, body.to_string()).await
    });
    until("it to be sent", || sandbox.mock.count() > before).await;
    call
}

async fn change(sandbox: &Sandbox, what: &str, body: Value) {
    let path = format!("/api/v1/budgets/small/{what}");
    let answer = crate::admin::post(sandbox, &path, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_day_of_mixed_traffic_adds_up_and_every_call_of_it_is_explained() {
    let mut day = Day::default();
    let sandbox = Sandbox::new(YAML);
    day.hours(&sandbox).await;
    day.refusals(&sandbox).await;
    change(&sandbox, "raise", json!({"usd": "0.004"})).await;
    day.refusals(&sandbox).await;
    let sandbox = sandbox.restarted(YAML).await;
    leave(&sandbox).await;
    sandbox.settled().await;
    change(&sandbox, "reset", json!({})).await;
    day.refusals(&sandbox).await;
    assert!(sandbox.app.flush().await);
    let directory = sandbox.path("data");
    let spans = sandbox.spans_now();

    let archive = Archive::new(
        &store::Config {
            path: directory.clone(),
            ..store::Config::default()
        },
        &ledger::Config {
            path: directory.join("journal"),
            ..ledger::Config::default()
        },
    );
    until("all of it to be in the store", || {
        day.requests.iter().all(|id| {
            let id = archive.request_id(id);
            id.is_ok_and(|id| archive.why(id).is_ok_and(|why| why.span.is_some()))
        })
    })
    .await;

    // The export and the budgets, counter by counter.
    let mut exported: HashMap<(String, String, &str), i64> = HashMap::new();
    let mut by_call: BTreeMap<String, i64> = BTreeMap::new();
    let end = Timestamp::from_nanos(u64::MAX);
    archive
        .entries(Timestamp::default(), end, |posted| {
            let values = posted.values.clone().unwrap_or_default();
            let key = (posted.budget.clone(), values, posted.unit);
            *exported.entry(key).or_default() += posted.amount.count;
            if let (Some(id), "all", "usd") = (posted.request_id, &*posted.budget, posted.unit) {
                *by_call.entry(id.to_string()).or_default() += posted.amount.count;
            }
            true
        })
        .unwrap();
    for budget in sandbox.app.budgets() {
        assert_eq!(budget.reserved, 0, "{budget:?}");
        let key = (
            budget.name.to_string(),
            budget.values.to_string(),
            budget.unit.name(),
        );
        assert_eq!(exported.get(&key), Some(&budget.spent), "{budget:?}");
    }
    // The spans: each says what its call was charged.
    let mut charged = 0;
    for span in &spans {
        let attributes = &span["attributes"];
        let id = attributes["tollgate.request_id"].as_str().unwrap();
        let told = attributes["tollgate.budget.charged.usd"].as_str();
        let told = told.or_else(|| attributes["tollgate.cost.usd"].as_str());
        let told: tollgate::base::money::Usd = told.unwrap_or("0").parse().unwrap();
        let entered = by_call.get(id).copied().unwrap_or(0);
        assert_eq!(told.nanos(), entered, "{span:#}");
        charged += entered;
    }
    assert_eq!(charged, sandbox.budget("all").spent);
    assert_eq!(charged, by_call.values().sum::<i64>());

    explained(&archive, &day.requests);
    assert!(archive.verify().unwrap().entries > 0);
    Box::pin(paid_when_killed(sandbox, charged)).await;
}

/// Why: each call has a decision, and what it was charged or what refused it.
fn explained(archive: &Archive, requests: &[String]) {
    for id in requests {
        let why = archive.why(archive.request_id(id).unwrap()).unwrap();
        assert!(!why.decisions.is_empty(), "{id}");
        for decision in &why.decisions {
            assert!(!decision.counters.is_empty(), "{decision:?}");
            assert_eq!(
                decision.admitted,
                decision.charged.is_some(),
                "{decision:?}"
            );
            assert_eq!(
                decision.admitted,
                decision.refused_by.is_none(),
                "{decision:?}"
            );
        }
    }
}

/// Killed with a call in flight: that is paid too, and all of it can still be proved.
async fn paid_when_killed(sandbox: Sandbox, charged: i64) {
    let call = begin(&sandbox).await;
    let held = sandbox.budget("all").reserved;
    assert!(held > 0);
    call.abort(); // noticed only after the kill
    let sandbox = sandbox.killed(YAML).await;
    let directory = sandbox.stop().await;
    let journal = directory.path().join("data/journal");
    let view = ledger::View::open(&journal).unwrap();
    let standings = view.standings(SystemClock.wall()).unwrap();
    let all = |counter: &CounterName| counter.rule() == "all" && counter.unit == Unit::Usd;
    let mut all = standings.iter().filter(|standing| all(&standing.counter));
    let all = all.next().unwrap();
    assert_eq!((all.spent, all.reserved), (charged + held, 0));
    assert!(view.verify().unwrap().entries > 0);
}
