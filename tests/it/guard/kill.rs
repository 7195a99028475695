//! The kill switch: new calls are refused, those under way end within a second, and an order holds
//! over a restart until it is lifted or over.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};
use tollgate::{
    app::App,
    base::clock::SystemClock,
    provider::wire::websocket::{Opcode, frame},
};

use crate::{
    admin::{admin, get, post},
    support::{
        Answer, Line, Sandbox, Upstream, client,
        sandbox::{configuration, until},
    },
};

const CHAT: &str = "/v1/chat/completions";
const KILLS: &str = "/api/v1/kills";

fn chat() -> Value {
    json!({"model": "gpt-4o", "max_tokens": 50,
        "messages": [{"role": "user", "content": "hello"}]})
}

/// Orders a kill, which must be taken. Returns its name.
async fn kill(sandbox: &Sandbox, body: Value) -> String {
    let answer = post(sandbox, KILLS, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn lift(sandbox: &Sandbox, id: &str) -> StatusCode {
    let path = format!("{KILLS}/{id}");
    let headers = [("content-type", "application/json")];
    let body = r#"{"who": "ada"}"#;
    let lifted = client::call(admin(sandbox), Method::DELETE, &path, &headers, body).await;
    lifted.status
}

/// A call of an agent.
async fn ask(sandbox: &Sandbox, agent: &str) -> Answer {
    let headers = [("x-tollgate-agent", agent)];
    sandbox.post_with(CHAT, &headers, &chat()).await
}

fn is_killed(answer: &Answer) -> bool {
    let killed = answer.header("x-tollgate-blocked-by") == "kill";
    assert_eq!(killed, answer.status == 403, "{answer:?}");
    killed
}

/// Begins a stream and reads its head.
async fn stream(sandbox: &Sandbox, path: &str, body: &Value, headers: &str) -> Line {
    let body = body.to_string();
    let mut line = Line::connect(sandbox.addr()).await;
    line.send(format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    assert_eq!(line.head().await.status(), 200);
    line
}

/// A stream that is silent after its first events, of an agent.
async fn silent(sandbox: &Sandbox, agent: &str) -> Line {
    let mut body = chat();
    body["stream"] = true.into();
    let headers =
        format!("x-mock: events=8;event-size=40;hang=600\r\nx-tollgate-agent: {agent}\r\n");
    stream(sandbox, CHAT, &body, &headers).await
}

/// Starts a call in a task of its own.
fn start(sandbox: &Sandbox, settings: &'static str, agent: &'static str) -> JoinHandle<Answer> {
    let addr = sandbox.addr();
    tokio::spawn(async move {
        let headers = [("x-mock", settings), ("x-tollgate-agent", agent)];
        client::post(addr, CHAT, &headers, &chat()).await
    })
}

#[tokio::test]
async fn new_calls_are_refused_until_it_is_lifted() {
    let sandbox = Sandbox::new("");
    let order = json!({"match": {"agent": "support-*", "model": ["gpt-4o", "o3"]},
        "reason": "it loops", "who": "bob"});
    let id = kill(&sandbox, order).await;
    assert!(!is_killed(&ask(&sandbox, "research").await));
    let answer = ask(&sandbox, "support-eu").await;
    assert!(is_killed(&answer));
    assert_eq!(answer.header("x-should-retry"), "false");
    let message = answer.json()["error"]["message"].to_string();
    assert!(
        message.contains("it loops") && message.contains(&id),
        "{message}"
    );
    let span = sandbox.span(&answer).await;
    assert_eq!(span.get("tollgate.blocked_by"), "kill");
    let listed = get(&sandbox, KILLS).await.json();
    assert_eq!(listed[0]["who"], "bob");
    assert_eq!(listed[0]["match"]["agent"], "support-*");
    assert_eq!(sandbox.mock.count(), 1);
    assert_eq!(lift(&sandbox, &id).await, 200);
    assert_eq!(lift(&sandbox, &id).await, 404);
    assert!(!is_killed(&ask(&sandbox, "support-eu").await));
}

#[tokio::test]
async fn a_model_is_stopped_by_each_of_its_names_and_wherever_it_is_hidden() {
    let azure = "providers: {azure: {base_url: '{mock}', models: {my-gpt: gpt-4o}}}";
    let sandbox = Sandbox::new(azure);
    let deployment = "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21";
    let hidden = [("content-encoding", "gzip")];
    for (model, stops) in [("GPT-4o", true), ("azure/gpt-*", true), ("o3", false)] {
        let id = kill(&sandbox, json!({"match": {"model": model}})).await;
        let answer = sandbox.post(deployment, &chat()).await;
        assert_eq!(is_killed(&answer), stops, "{model}");
        // It may be for any.
        assert!(is_killed(&sandbox.post_with(CHAT, &hidden, &chat()).await));
        assert!(is_killed(&sandbox.post("/v1/batches", &json!({})).await));
        assert_eq!(lift(&sandbox, &id).await, 200);
    }
    assert_eq!(sandbox.mock.count(), 1);
}

#[tokio::test]
async fn what_does_not_say_which_calls_is_refused_with_what_there_is_to_say() {
    let sandbox = Sandbox::new("");
    for (body, says) in [
        (json!({"match": {}}), "say which calls"),
        (json!({}), "match"),
        (json!({"match": {"agnet": "a"}}), "agnet"),
        (json!({"match": {"request": "12"}}), "not a request id"),
        (json!({"match": {"agent": "a"}, "until": "soon"}), "`until`"),
        (
            json!({"match": {"agent": "a"}, "until": "2020-01-01"}),
            "past",
        ),
        (json!({"match": {"agent": "a"}, "why": "x"}), "why"),
    ] {
        let answer = post(&sandbox, KILLS, &body).await;
        assert_eq!(answer.status, 400, "{body}");
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains(says), "{message}");
    }
    let body = r#"{"match": {"agent": "*"}}"#;
    let foreign = [
        ("content-type", "application/json"),
        ("origin", "https://evil.example"),
    ];
    for (headers, status) in [(&foreign[..], 403), (&[], 415)] {
        let answer = client::call(admin(&sandbox), Method::POST, KILLS, headers, body).await;
        assert_eq!(answer.status, status);
    }
    assert_eq!(get(&sandbox, KILLS).await.json(), json!([]));
}

#[tokio::test]
async fn open_streams_end_in_their_dialect_s_way_and_others_go_on() {
    let messages = json!([{"role": "user", "content": "hello"}]);
    let streams = [
        (
            CHAT,
            json!({"model": "gpt-4o", "stream": true, "messages": messages}),
            "\"finish_reason\":\"length\"",
        ),
        (
            "/v1/responses",
            json!({"model": "gpt-4o", "stream": true, "input": "hello"}),
            "response.incomplete",
        ),
        (
            "/v1/messages",
            json!({"model": "claude-x", "max_tokens": 50, "stream": true, "messages": messages}),
            "event: message_stop",
        ),
        (
            "/v1beta/models/gemini-2.0-flash:streamGenerateContent?alt=sse",
            json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}),
            "MAX_TOKENS",
        ),
    ];
    let sandbox =
        Sandbox::new("budgets: {daily: 5.00}\npricing: {claude-x: {input: 2.50, output: 10.00}}");
    let mut open = Vec::new();
    for (path, body, _) in &streams {
        let settings = "x-mock: events=100000;gap=20ms\r\nx-tollgate-agent: loops\r\n";
        open.push(stream(&sandbox, path, body, settings).await);
    }
    let mut other = silent(&sandbox, "calm").await;
    kill(&sandbox, json!({"match": {"agent": "loops"}})).await;
    for (mut line, (path, _, last)) in open.into_iter().zip(&streams) {
        let text = loop {
            let text = String::from_utf8(line.peeked().to_vec()).unwrap();
            if text.ends_with("\r\n0\r\n\r\n") {
                break text;
            }
            assert!(line.more().await, "{path}: broken off: {text}");
        };
        assert!(text.contains(last), "{path}: {text}");
    }
    let spans = sandbox.spans(4).await;
    for span in spans {
        assert_eq!(span["status"], "blocked", "{span:#}");
        let attributes = &span["attributes"];
        assert_eq!(attributes["tollgate.blocked_by"], "kill");
        assert_eq!(attributes["tollgate.decision"], "cut");
        assert_eq!(attributes["tollgate.end"], "cut");
        assert_eq!(attributes["tollgate.usage.source"], "estimated");
    }
    let all = sandbox.mock.until(|all| {
        let left = all
            .iter()
            .filter(|one| one.end == tollgate::mock::End::Left);
        left.count() == 4
    });
    all.await;
    assert_eq!(sandbox.app.holdings().in_flight, 1, "the other goes on");
    kill(&sandbox, json!({"match": {"provider": "*"}})).await;
    while other.more().await {
        if other.peeked().ends_with(b"\r\n0\r\n\r\n") {
            break;
        }
    }
    sandbox.settled().await;
    let cut = "tollgate_guard_actions_total{action=\"cut\",guard=\"kill\"}";
    assert_eq!(sandbox.metric(cut).to_string(), "5");
}

#[tokio::test]
async fn calls_that_wait_for_an_answer_or_in_a_line_end_at_once() {
    let sandbox = Sandbox::new(
        "pricing: {gpt-4o: {input: 2.50, output: 10.00}}\nbudgets: {daily: 0.0012, max_wait: 60s}",
    );
    let first = start(&sandbox, "hang=head", "a");
    sandbox.mock.until(|all| all.len() == 1).await;
    let second = start(&sandbox, "", "b");
    until("the second to wait", || {
        sandbox.app.holdings().in_flight == 2
    })
    .await;
    kill(&sandbox, json!({"match": {"agent": "b"}})).await;
    assert!(is_killed(&second.await.unwrap()));
    assert_eq!(sandbox.app.holdings().in_flight, 1);
    kill(&sandbox, json!({"match": {"agent": "a"}})).await;
    assert!(is_killed(&first.await.unwrap()));
    sandbox.settled().await;
    let spans = sandbox.spans(2).await;
    assert_eq!(spans[0]["attributes"]["tollgate.cost.usd"], "0.000000000");
    // The provider was at work: it is charged for what it can have made, as always.
    let charged = spans[1]["attributes"]["tollgate.usage.source"].as_str();
    assert_eq!(charged, Some("ceiling"));
    assert_eq!(spans[1]["attributes"]["tollgate.end"], "cut");
    assert_eq!(sandbox.budget("daily").reserved, 0);
    assert_eq!(sandbox.mock.count(), 1);
}

#[tokio::test]
async fn a_single_request_is_ended_by_its_id_and_that_order_is_soon_over() {
    let sandbox = Sandbox::new("");
    let body = chat();
    let mut stream = body.clone();
    stream["stream"] = true.into();
    let text = stream.to_string();
    let mut line = Line::connect(sandbox.addr()).await;
    line.send(format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nx-mock: hang=600;events=40\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    ))
    .await;
    let head = line.head().await;
    let id = head.header("x-tollgate-request-id").unwrap().to_owned();
    kill(&sandbox, json!({"match": {"request": id}})).await;
    let span = sandbox.only_span().await;
    assert_eq!(span.get("tollgate.request_id"), &*id);
    assert_eq!(span.get("tollgate.blocked_by"), "kill");
    let listed = get(&sandbox, KILLS).await.json();
    assert!(listed[0]["until"].is_string(), "{listed}");
    assert!(!is_killed(&sandbox.post(CHAT, &body).await));
}

#[tokio::test]
async fn sockets_are_closed_those_that_cannot_be_read_as_well() {
    let upstream = Upstream::bind().await;
    let sandbox = Sandbox::new(&upstream.as_provider("openai"));
    let open = async |path: &str, protocol: &str| {
        let mut client = Line::connect(sandbox.addr()).await;
        client
            .send(format!(
                "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: {protocol}\r\n\
                 x-tollgate-agent: voice\r\n\r\n"
            ))
            .await;
        let mut provider = upstream.accept().await;
        provider.head().await;
        provider
            .send(format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\
                 upgrade: {protocol}\r\n\r\n"
            ))
            .await;
        assert_eq!(client.head().await.status(), 101);
        (client, provider)
    };
    let (mut client, mut provider) = open("/v1/realtime?model=gpt-realtime", "websocket").await;
    let (mut other, mut other_provider) = open("/v1/tunnel", "other").await;
    // A response is under way in it.
    let begun = json!({"type": "response.created", "response": {"id": "r", "usage": null}});
    let begun = frame(Opcode::Text, begun.to_string().as_bytes(), None);
    provider.send(&begun).await;
    assert_eq!(client.take(begun.len()).await, begun);
    other_provider.send("x").await;
    assert_eq!(other.take(1).await, b"x");
    kill(&sandbox, json!({"match": {"agent": "voice"}})).await;
    let message = client.take(2).await;
    assert_eq!(message[0], 0x81, "the dialect's error");
    let rest = client.rest().await;
    let close = rest.windows(2).any(|pair| pair == 1008_u16.to_be_bytes());
    assert!(close, "{}", String::from_utf8_lossy(&rest));
    assert_eq!(other.rest().await, b"");
    let rest = provider.rest().await;
    assert_eq!(rest[0], 0x88, "the provider is told");
    assert_eq!(other_provider.rest().await, b"");
    let spans = sandbox.spans(3).await;
    for span in spans {
        assert_eq!(
            span["attributes"]["tollgate.blocked_by"], "kill",
            "{span:#}"
        );
        assert_eq!(span["status"], "blocked");
    }
}

#[tokio::test]
async fn an_order_holds_over_a_restart_and_a_kill_of_the_process_until_it_is_lifted() {
    let sandbox = Sandbox::new("");
    let gone = kill(&sandbox, json!({"match": {"agent": "gone"}})).await;
    let kept = json!({"match": {"agent": "kept"}, "reason": "r", "who": "bob"});
    let kept = kill(&sandbox, kept).await;
    assert_eq!(lift(&sandbox, &gone).await, 200);
    let sandbox = sandbox.restarted("").await;
    assert!(is_killed(&ask(&sandbox, "kept").await));
    assert!(!is_killed(&ask(&sandbox, "gone").await));
    kill(&sandbox, json!({"match": {"agent": "late"}})).await;
    let sandbox = sandbox.killed("").await;
    assert!(is_killed(&ask(&sandbox, "kept").await));
    assert!(is_killed(&ask(&sandbox, "late").await));
    let listed = get(&sandbox, KILLS).await.json();
    assert_eq!(listed[0]["id"], kept);
    assert_eq!(
        (&listed[0]["who"], &listed[0]["reason"]),
        (&json!("bob"), &json!("r"))
    );
    assert_eq!(lift(&sandbox, &kept).await, 200);
    let sandbox = sandbox.restarted("").await;
    assert!(!is_killed(&ask(&sandbox, "kept").await));
    assert!(is_killed(&ask(&sandbox, "late").await));
}

/// A ledger of which a part does not come, however long it is waited for.
#[tokio::test]
async fn an_order_waits_for_nobody_s_questions() {
    let sandbox = Sandbox::new("budgets: {daily: 5.00}");
    let part = sandbox.path("data/journal/999999999999.log");
    let made = Command::new("mkfifo").arg(&part).status().unwrap();
    assert!(made.success());
    let mut asking = JoinSet::new();
    for _ in 0..4 {
        let mut line = Line::connect(admin(&sandbox)).await;
        line.send("GET /api/v1/budgets HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await;
        asking.spawn(async move { line.head().await.status() });
    }
    // By the time that this is answered, they were heard.
    assert_eq!(get(&sandbox, KILLS).await.json(), json!([]));
    let id = kill(&sandbox, json!({"match": {"agent": "loops"}})).await;
    assert!(is_killed(&ask(&sandbox, "loops").await));
    assert_eq!(get(&sandbox, KILLS).await.json()[0]["id"], *id);
    assert_eq!(lift(&sandbox, &id).await, 200);
    assert!(!is_killed(&ask(&sandbox, "loops").await));
    assert!(asking.try_join_next().is_none(), "they still wait");
    drop(fs::File::options().write(true).open(&part).unwrap());
    fs::remove_file(&part).unwrap();
    assert_eq!(asking.join_all().await.len(), 4);
}

#[tokio::test]
async fn where_orders_may_be_kept_and_cannot_be_read_it_does_not_start() {
    let sandbox = Sandbox::new("");
    kill(&sandbox, json!({"match": {"agent": "a"}})).await;
    let directory = sandbox.stop().await;
    let start = |path: &Path| {
        let config = configuration("", path, "http://127.0.0.1:9");
        App::start(config, Arc::new(SystemClock))
    };
    let books = directory.path().join("data/journal/books.sqlite");
    let length = fs::read(&books).unwrap().len();
    fs::write(&books, vec![0x55; length]).unwrap();
    let Err(refused) = start(directory.path()) else {
        panic!("it starts without the kill");
    };
    let refused = refused.to_string();
    assert!(refused.contains("stopped by hand"), "{refused}");
    // Where there never was one, nothing is missed.
    let nowhere = tempfile::tempdir().unwrap();
    fs::write(nowhere.path().join("data"), "").unwrap();
    let app = start(nowhere.path()).unwrap_or_else(|error| panic!("{error}"));
    assert!(app.keeping().starts_with("none"));
    app.stop().await;
}

/// How many streams this process may have open at once: each takes four files.
fn affordable() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let files = files.and_then(|line| line.split_whitespace().nth(3)?.parse::<usize>().ok());
    (files.unwrap_or(1_024).saturating_sub(400) / 4).min(1_000)
}

#[tokio::test]
async fn a_thousand_open_streams_end_as_soon_as_it_is_ordered() {
    let sandbox = Sandbox::new("budgets: {daily: 1000.00}");
    let count = affordable();
    let (mut opening, mut lines) = (JoinSet::new(), Vec::new());
    for number in 0..count {
        // Not all at once: a backlog of connections is another matter.
        if opening.len() >= 32 {
            lines.extend(opening.join_next().await.map(Result::unwrap));
        }
        let addr = sandbox.addr();
        opening.spawn(async move {
            // Some are silent, some speak all the time.
            let settings = if number % 2 == 0 {
                "events=8;event-size=40;hang=600"
            } else {
                "events=100000;gap=200ms"
            };
            let mut body = chat();
            body["stream"] = true.into();
            let body = body.to_string();
            let mut line = Line::connect(addr).await;
            let length = body.len();
            line.send(format!(
                "POST {CHAT} HTTP/1.1\r\nhost: x\r\nx-mock: {settings}\r\n\
                 x-tollgate-session: s{number}\r\ncontent-length: {length}\r\n\r\n{body}"
            ))
            .await;
            assert_eq!(line.head().await.status(), 200);
            line
        });
    }
    lines.extend(opening.join_all().await);
    assert_eq!(sandbox.app.holdings().in_flight, count);
    let mut reading = JoinSet::new();
    for mut line in lines {
        reading.spawn(async move {
            while !line.peeked().ends_with(b"\r\n0\r\n\r\n") {
                assert!(line.more().await, "broken off");
            }
            Instant::now()
        });
    }
    let began = Instant::now();
    kill(&sandbox, json!({"match": {"session": "s*"}})).await;
    let ended = reading.join_all().await;
    let last = ended.into_iter().max().unwrap();
    let took = last.duration_since(began);
    println!("{count} open streams were ended in {took:?}");
    // As it is built for tests, and beside others, it may take longer than it does.
    let most = if cfg!(debug_assertions) { 10 } else { 1 };
    assert!(took < Duration::from_secs(most), "{took:?}");
    sandbox.settled().await;
}
