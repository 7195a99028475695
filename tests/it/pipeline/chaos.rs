//! Every trouble times every processor, through the real program: calls are answered as without, every
//! span is accounted for by the counters of `/metrics`, processors that are well get all, and what waits
//! arrives once its destination is well again. A processor is a line of [`PROCESSORS`], a trouble one of
//! `troubles!`.

use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tollgate::{
    base::clock::{Clock as _, SystemClock},
    pipeline::processor::ProcessorConfig,
};

use self::{
    counts::all,
    world::{Raw, World},
};
use super::{
    grpc,
    sink::{Does, Sink, TAKES},
};
use crate::support::{
    Answer, Sandbox, client,
    sandbox::{PATIENCE, configuration},
};

mod counts;
mod world;

/// How a processor reaches its destination, which decides what can befall it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Http,
    Grpc,
    Postgres,
    /// Nobody answers, in good days as in bad ones.
    Udp,
    /// A child process. What it cannot take waits for no better times.
    Command,
    /// Files. The same holds.
    Disk,
}

/// Name, way, and keys: HERE is the destination, PLACE a directory. The console is left out: it would
/// write between the lines of the tests.
const PROCESSORS: &[(&str, Way, &str)] = &[
    (
        "object_store",
        Way::Http,
        "type: object_store, url: 's3://a/b', endpoint: 'HERE', access_key_id: k, secret_access_key: k",
    ),
    (
        "openai",
        Way::Http,
        "type: openai, api_key: k, endpoint: 'HERE/x'",
    ),
    (
        "datadog",
        Way::Http,
        "type: datadog, api_key: k, endpoint: 'HERE'",
    ),
    (
        "prometheus",
        Way::Http,
        "type: prometheus, push_gateway: 'HERE', job: raaf",
    ),
    ("webhook", Way::Http, "type: webhook, url: 'HERE/x'"),
    (
        "slack",
        Way::Http,
        "type: slack, webhook_url: 'HERE/x', alert_threshold: 0, rate_limit: {messages: 1000, per: 1ms}",
    ),
    (
        "honeycomb",
        Way::Http,
        "type: honeycomb, endpoint: 'HERE', api_key: k, dataset: llm, metrics: true",
    ),
    (
        "jaeger",
        Way::Http,
        "type: jaeger, endpoint: 'HERE/api/traces'",
    ),
    (
        "langfuse",
        Way::Http,
        "type: langfuse, endpoint: 'HERE', public_key: k, secret_key: k",
    ),
    (
        "otlp",
        Way::Http,
        "type: otlp, endpoint: 'HERE', protocol: http/json",
    ),
    (
        "phoenix",
        Way::Http,
        "type: phoenix, endpoint: 'HERE', project: p",
    ),
    (
        "tempo",
        Way::Grpc,
        "type: tempo, endpoint: 'HERE', protocol: grpc",
    ),
    (
        "postgres",
        Way::Postgres,
        "type: database, url: 'postgres://u:p@HERE/d'",
    ),
    ("statsd", Way::Udp, "type: statsd, address: 'HERE'"),
    (
        "exec",
        Way::Command,
        "type: exec, command: [/bin/sh, -c, HERE], env: {PATH: '/usr/bin:/bin'}",
    ),
    ("file", Way::Disk, "type: file, directory: 'PLACE/file'"),
    (
        "sqlite",
        Way::Disk,
        "type: database, url: 'sqlite://PLACE/sqlite/spans.db'",
    ),
];

/// For processors in trouble: little patience.
const HASTY: &str = "flush_interval: 0s, timeout: 400ms, max_retries: 2, circuit_breaker: {recovery_timeout: 200ms}";

/// For those that are well.
const PROMPT: &str = "flush_interval: 0s";

/// The calls of each case.
const CALLS: i64 = 3;

/// What befalls all processors at once, each in its way.
struct Trouble {
    http: Does,
    grpc: Grpc,
    tcp: Raw,
    /// What a command does with a line; `$n` is the number of the batch.
    command: &'static str,
    /// Whether that may pass: no span is given up for it.
    may_pass: bool,
    /// Nobody vouches for the certificate of HTTP and gRPC.
    untrusted: bool,
    /// There is room on no disk.
    disk_full: bool,
}

#[derive(Clone, Copy, Debug)]
enum Grpc {
    Raw,
    Says(grpc::Does),
}

const PLAIN: Trouble = Trouble {
    http: Does::Answers(503, None),
    grpc: Grpc::Says(grpc::Does::IsNoGrpc(503)),
    tcp: Raw::Resets,
    command: "exit 1",
    may_pass: true,
    untrusted: false,
    disk_full: false,
};

/// Makes a test of each.
macro_rules! troubles {
    ($($name:ident: { $($field:ident: $value:expr,)* };)+) => {$(
        #[tokio::test]
        async fn $name() {
            befalls(&Trouble { $($field: $value,)* ..PLAIN }).await;
        }
    )+};
}

troubles! {
    a_destination_that_is_down: {};
    a_destination_that_accepts_and_never_answers: {
        http: Does::Hangs, grpc: Grpc::Raw, tcp: Raw::Hangs, command: ":",
    };
    a_destination_that_answers_with_garbage: {
        http: Does::Garbage, grpc: Grpc::Raw, tcp: Raw::Garbage, command: r"printf '\377\0{[\033\n'",
        may_pass: false,
    };
    a_destination_that_resets_in_the_request: { http: Does::ResetsRequest, grpc: Grpc::Raw, };
    a_destination_that_resets_in_its_answer: {
        http: Does::ResetsAnswer, grpc: Grpc::Raw, command: "printf '{\"ack\":'; exit 1",
    };
    a_destination_that_is_slow_by_a_byte: {
        http: Does::Trickles, grpc: Grpc::Raw, tcp: Raw::Trickles,
        command: "while :; do printf x; sleep 0.05; done",
    };
    a_destination_that_floods: {
        http: Does::Floods, grpc: Grpc::Raw, tcp: Raw::Floods,
        command: "while :; do echo floooooooooooooooooooooooooooooooood; done",
        may_pass: false,
    };
    a_destination_that_finds_all_too_large: {
        http: Does::Answers(413, None), grpc: Grpc::Says(grpc::Does::IsNoGrpc(413)),
        command: "echo \"{\\\"reject\\\":$n}\"", may_pass: false,
    };
    a_destination_that_asks_for_an_hour: {
        http: Does::Answers(429, Some("3600")), grpc: Grpc::Says(grpc::Does::IsNoGrpc(429)),
        command: "echo \"{\\\"retry\\\":$n,\\\"after_ms\\\":3600000}\"",
    };
    a_destination_that_nobody_vouches_for: { untrusted: true, };
    disks_that_are_full: { disk_full: true, };
}

/// What a client sees of an answer, but for ids and times.
fn seen(answer: &Answer) -> (StatusCode, Value) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    (answer.status, body["choices"].clone())
}

async fn call(sandbox: &Sandbox, body: &[u8]) -> (StatusCode, Value) {
    let headers = [("content-type", "application/json")];
    let body = body.to_vec();
    let path = "/v1/chat/completions";
    seen(&client::call(sandbox.addr(), Method::POST, path, &headers, body).await)
}

/// Makes these calls with and without processors: nobody sees a difference.
async fn unnoticed(sandbox: &Sandbox, bodies: &[Vec<u8>]) {
    let plain = Sandbox::new("tracing: {processors: []}");
    for body in bodies {
        let expected = call(&plain, body).await;
        assert_eq!(call(sandbox, body).await, expected);
    }
    plain.stop().await;
    sandbox.settled().await;
}

fn usual() -> Vec<Vec<u8>> {
    let message = json!([{"role": "user", "content": "What is up?"}]);
    let body = json!({"model": "gpt-4o", "messages": message}).to_string();
    (0..CALLS).map(|_| body.clone().into_bytes()).collect()
}

async fn befalls(trouble: &Trouble) {
    let place = tempfile::tempdir().unwrap();
    let bad = World::in_trouble(trouble).await;
    let waits = |way| matches!(way, Way::Http | Way::Grpc | Way::Postgres);
    let buffering = if trouble.disk_full {
        fill(place.path());
        "buffering: {buffer_directory: PLACE/blocked/buffer}"
    } else {
        ""
    };
    let yaml = bad.yaml(place.path(), buffering, |_, way| {
        let is_well = way == Way::Disk && !trouble.disk_full;
        Some(if is_well {
            PROMPT.to_owned()
        } else {
            HASTY.to_owned()
        })
    });
    let mut sandbox = Sandbox::new(&yaml);
    unnoticed(&sandbox, &usual()).await;
    sandbox.app.flush().await;
    let rested = all(&sandbox, "nothing on its way", |_, counts| counts.rests()).await;
    assert_eq!(rested.len(), PROCESSORS.len());
    for (name, way, counts) in &rested {
        let on_disk = waits(*way) && trouble.may_pass && !trouble.disk_full;
        let what = format!("{name}: {counts:?}");
        assert_eq!(counts.of("offered_total"), CALLS, "{what}");
        match way {
            Way::Disk if !trouble.disk_full => assert_eq!(counts.of("delivered"), CALLS, "{what}"),
            Way::Disk => assert_eq!(counts.of("failed"), CALLS, "{what}"),
            _ if on_disk => assert_eq!(counts.of("buffered"), CALLS, "{what}"),
            _ if waits(*way) && trouble.may_pass => {
                assert_eq!(counts.of("failed"), CALLS, "{what}");
            },
            Way::Command => assert_eq!(counts.of("failed"), CALLS, "{what}"),
            Way::Http | Way::Grpc | Way::Postgres | Way::Udp => {},
        }
    }
    // Better times.
    let good = World::well(Some(&bad)).await;
    let yaml = good.yaml(place.path(), buffering, |_, way| {
        Some(if way == Way::Postgres {
            HASTY.to_owned()
        } else {
            PROMPT.to_owned()
        })
    });
    let config = configuration(&yaml, sandbox.directory.path(), &sandbox.mock.url());
    sandbox.app.reload(config).await.unwrap();
    let arrived = all(&sandbox, "all to arrive", |way, counts| {
        way == Way::Postgres || counts.rests() && counts.of("buffered") == 0
    });
    let arrived = arrived.await;
    for ((name, way, before), (_, _, after)) in rested.iter().zip(&arrived) {
        if *way != Way::Postgres {
            let taken = before.of("delivered") + before.of("buffered");
            assert_eq!(after.of("delivered"), taken, "{name}: {before:?} {after:?}");
        }
        assert_eq!(after.of("found_total"), 0, "{name}: {after:?}");
    }
    sandbox.stop().await;
}

/// Leaves no room where spans are to be written.
fn fill(place: &Path) {
    fs::write(place.join("blocked"), "in the way").unwrap();
    fs::create_dir(place.join("file")).unwrap();
    fs::create_dir(place.join("sqlite")).unwrap();
    let now = SystemClock.wall();
    for at in [now, now + Duration::from_hours(24)] {
        let day: String = at.to_string().chars().take(10).collect();
        let name = format!("file/spans-{day}.0001.jsonl");
        symlink("/dev/full", place.join(name)).unwrap();
    }
    symlink("/dev/full", place.join("sqlite/spans.db")).unwrap();
}

#[test]
fn no_processor_is_left_out() {
    for name in ProcessorConfig::TYPES {
        let row = format!("type: {name},");
        let is_there = PROCESSORS.iter().any(|(_, _, keys)| keys.contains(&row));
        assert!(
            is_there || *name == "console",
            "{name} has no line in PROCESSORS"
        );
    }
}

#[tokio::test]
async fn whatever_is_said_in_a_call_arrives_everywhere() {
    let place = tempfile::tempdir().unwrap();
    let world = World::well(None).await;
    let yaml = world.yaml(place.path(), "content: full", |_, way| {
        (way != Way::Postgres).then(|| PROMPT.to_owned())
    });
    let sandbox = Sandbox::new(&yaml);
    let says = |text: &str| {
        let body = format!(
            r#"{{"model": "gpt-4o", "messages": [{{"role": "user", "content": "{text}"}}]}}"#
        );
        body.into_bytes()
    };
    let mut invalid = says("MARK");
    let at = invalid.windows(4).position(|it| it == b"MARK").unwrap();
    invalid.splice(at..at + 4, *b"\xff\xfe\xc3(\0");
    let bodies = [
        says(r"\u0000\u0001\u001b[31m\u202e\u2028 \ud800 \ud83d\ude00 </script> {{ x }} %s"),
        invalid,
        says(&"A long story. ".repeat(360_000)),
    ];
    unnoticed(&sandbox, &bodies).await;
    sandbox.app.flush().await;
    let count = i64::try_from(bodies.len()).unwrap();
    let ended = all(&sandbox, "all to arrive", |_, counts| {
        counts.rests() && counts.of("buffered") == 0
    });
    for (name, _, counts) in ended.await {
        assert_eq!(counts.of("delivered"), count, "{name}: {counts:?}");
    }
    let seen = world.http.seen();
    let json = seen.iter().filter(|seen| {
        let kind = seen.headers.get("content-type");
        kind.is_some_and(|kind| kind == "application/json")
    });
    let unread: Vec<_> = json
        .filter(|seen| serde_json::from_slice::<Value>(&seen.body).is_err())
        .map(|seen| &seen.target)
        .collect();
    assert!(unread.is_empty(), "{unread:?}");
    sandbox.stop().await;
}

#[tokio::test]
async fn a_template_that_fails_costs_its_own_messages_alone() {
    let sink = Sink::start(&[], TAKES).await;
    let hook = |name: &str, template: &str| {
        format!(
            "{{type: webhook, name: {name}, url: '{}/{name}', template: '{template}'}}",
            sink.url
        )
    };
    let hooks = [
        hook("webhook", "{{ span.a.b.c }}"),
        hook("otlp", "no JSON"),
        hook("slack", "{{ model }}"),
    ];
    let sandbox = Sandbox::new(&format!("tracing: {{processors: [{}]}}", hooks.join(", ")));
    unnoticed(&sandbox, &usual()).await;
    let ended = all(&sandbox, "all to end", |_, counts| {
        counts.rests() && counts.of("offered_total") == CALLS
    })
    .await;
    let failed = ended
        .iter()
        .map(|(name, _, counts)| (*name, counts.of("failed")));
    let failed: Vec<_> = failed.collect();
    assert_eq!(failed, [("webhook", CALLS), ("slack", 0), ("otlp", CALLS)]);
    assert!(sink.seen().iter().all(|seen| seen.target == "/slack"));
    sandbox.stop().await;
}

#[tokio::test]
async fn a_spool_that_was_tampered_with_gives_what_can_be_read() {
    let place = tempfile::tempdir().unwrap();
    let bad = World::in_trouble(&PLAIN).await;
    let good = World::well(Some(&bad)).await;
    let [bad, good] = [&bad, &good].map(|world| {
        world.yaml(place.path(), "", |_, way| {
            let has_spool = matches!(way, Way::Http | Way::Grpc);
            has_spool.then(|| HASTY.to_owned())
        })
    });
    let sandbox = Sandbox::new(&bad);
    unnoticed(&sandbox, &usual()).await;
    sandbox.app.flush().await;
    all(&sandbox, "all to be on disk", |_, counts| {
        counts.of("buffered") == CALLS
    })
    .await;
    let Sandbox {
        app,
        mock,
        directory,
    } = sandbox;
    tokio::time::timeout(PATIENCE, app.stop()).await.unwrap();
    tamper(&directory.path().join("buffer"));
    let sandbox = Sandbox::again(&good, mock, directory);
    let arrived = all(&sandbox, "what can be read to arrive", |_, counts| {
        counts.rests() && counts.of("buffered") == 0
    });
    for (name, _, counts) in arrived.await {
        let what = format!("{name}: {counts:?}");
        assert_eq!(counts.of("found_total"), CALLS - 1, "{what}");
        assert_eq!(counts.of("delivered"), CALLS - 1, "{what}");
        assert_eq!(
            (counts.of("damaged_file"), counts.of("torn_line")),
            (1, 1),
            "{what}"
        );
    }
    sandbox.stop().await;
}

/// Changes the first line of each spool, and leaves half a line behind the last.
fn tamper(buffer: &Path) {
    let mut tampered = 0;
    for spool in fs::read_dir(buffer).unwrap() {
        for file in fs::read_dir(spool.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|kind| kind == "seg") {
                let mut bytes = fs::read(&path).unwrap();
                bytes[50] ^= 1;
                bytes.extend_from_slice(b"0badc0de {\"trace_id\":");
                fs::write(&path, bytes).unwrap();
                tampered += 1;
            }
        }
    }
    assert!(tampered > 5, "{tampered}");
}
