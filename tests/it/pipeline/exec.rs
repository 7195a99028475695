//! Commands that take spans: good ones, and such as hang, flood, die or leave children behind.

use std::{path::Path, sync::Arc, time::Duration};

use serde_json::Value as Json;
use tollgate::{
    base::{
        clock::{SystemClock, Timestamp},
        id::SpanId,
        money::Usd,
    },
    call::{
        labels::{Label, Source},
        outcome::{Kind, Status},
        span::{Span, Value},
    },
    pipeline::{BuildContext, Config, Pipeline, Stats},
};

use super::offer;
use crate::support::{
    Sandbox,
    sandbox::{PATIENCE, configuration, until},
};

/// Answers each batch; what it does before that is put in for `DO`.
const SHELL: &str = r#"while IFS= read -r line; do n="${line#*:}"; n="${n%%,*}"; DO; echo "{\"ack\":$n}"; done; END"#;

fn span(n: u64) -> Span {
    let mut span = Span {
        span_id: SpanId::from_bytes(n.to_be_bytes()),
        kind: Kind::Llm,
        operation: Some("chat"),
        request_model: Some("gpt-4o".into()),
        cost: Some(Usd::from_nanos(10_000_000)),
        ..Span::begun(Timestamp::from_secs(1_795_328_714))
    };
    span.labels.set(Label::Agent, "support", Source::Header);
    span
}

fn shell(before: &str, at_end: &str) -> String {
    let script = SHELL.replace("DO", before).replace("END", at_end);
    let script = serde_json::to_string(&script).unwrap();
    format!("command: [/bin/sh, -c, {script}]")
}

fn start(keys: &str) -> Pipeline {
    let config = format!("processors: [{{type: exec, {keys}}}]");
    let config: Config = serde_saphyr::from_str(&config).unwrap();
    let context = BuildContext {
        variable: &|name| std::env::var(name).ok(),
        ..BuildContext::new(Arc::new(SystemClock))
    };
    let mut outlets = config.build(&context).unwrap();
    outlets[0].delivery.backoff = Duration::from_millis(1);
    Pipeline::start(Vec::new(), outlets, Arc::new(SystemClock)).unwrap()
}

/// Delivers spans, one a batch, and says what became of them.
async fn deliver(keys: &str, spans: u64) -> Stats {
    let pipeline = start(&format!("{keys}, batch_size: 1"));
    let stats = offer(&pipeline, (1..=spans).map(span)).await;
    pipeline.close(PATIENCE).await;
    stats
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[tokio::test]
async fn a_command_gets_spans_one_process_for_all_and_no_environment() {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log");
    let before = format!("echo \"$$ $TOLD $HOME $line\" >> {}", log.display());
    let bye = format!("echo bye >> {}", log.display());
    let keys = format!("{}, env: {{TOLD: said}}", shell(&before, &bye));
    assert_eq!(deliver(&keys, 3).await.delivered, 3);
    let log = read(&log);
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 4, "{log}");
    let process = lines[0].split(' ').next().unwrap();
    for (at, line) in lines[..3].iter().enumerate() {
        let json = line.strip_prefix(&format!("{process} said  ")).unwrap();
        let json: Json = serde_json::from_str(json).unwrap();
        assert_eq!(
            json["spans"][0]["span_id"],
            span(at as u64 + 1).span_id.to_string()
        );
    }
    assert_eq!(lines[3], "bye");
}

#[tokio::test]
async fn a_large_span_arrives_whole() {
    let place = tempfile::tempdir().unwrap();
    let copy = place.path().join("copy");
    let script = format!("head -n 1 > {}; echo '{{\"ack\":1}}'; cat", copy.display());
    let script = serde_json::to_string(&script).unwrap();
    let keys = format!("command: [/bin/sh, -c, {script}], env: {{PATH: '/usr/bin:/bin'}}");
    let pipeline = start(&keys);
    let text = "é\0\n".repeat(1_250_000);
    let large = Span {
        attributes: vec![("test.large", Value::Text(text.clone().into()))],
        ..span(1)
    };
    assert_eq!(offer(&pipeline, [large]).await.delivered, 1);
    pipeline.close(PATIENCE).await;
    let line: Json = serde_json::from_str(&read(&copy)).unwrap();
    assert!(line["spans"][0]["attributes"]["test.large"] == *text);
}

#[tokio::test]
async fn a_command_that_ends_is_started_again() {
    let place = tempfile::tempdir().unwrap();
    let flag = place.path().join("flag");
    // Once it ends without an answer, and after each answer it would end.
    let before = format!("[ -e {0} ] || {{ : > {0}; exit 3; }}", flag.display());
    let stats = deliver(&shell(&before, ""), 2).await;
    assert_eq!((stats.delivered, stats.retried, stats.restarted), (2, 1, 1));
    let stats = deliver("command: [/bin/sh, -c, 'exit 1'], max_retries: 3", 1).await;
    assert_eq!((stats.failed, stats.restarted), (1, 2));
    let stats = deliver("command: [/no/such/program], max_retries: 2", 1).await;
    assert_eq!((stats.failed, stats.retried), (1, 1));
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_all_that_it_started() {
    let place = tempfile::tempdir().unwrap();
    let pids = place.path().join("pids");
    let script = format!(
        "trap '' TERM INT; sleep 1000 & echo $$ $! > {}; wait; wait",
        pids.display()
    );
    let script = serde_json::to_string(&script).unwrap();
    let keys = format!(
        "command: [/bin/sh, -c, {script}], env: {{PATH: '/usr/bin:/bin'}}, timeout: 2s, max_retries: 1"
    );
    let stats = deliver(&keys, 1).await;
    assert_eq!((stats.failed, stats.restarted), (1, 0));
    let pids = read(&pids);
    assert_eq!(pids.split_whitespace().count(), 2);
    // A zombie that nobody has fetched yet is as good as gone.
    let gone = |process: &str| {
        let line = read(Path::new(&format!("/proc/{process}/stat")));
        line.is_empty() || line.contains(") Z ")
    };
    until("both to be gone", || pids.split_whitespace().all(gone)).await;
}

#[tokio::test]
async fn a_command_that_does_not_end_with_its_input_is_killed() {
    let pipeline = start(&shell(":", "while :; do :; done"));
    assert_eq!(offer(&pipeline, [span(1)]).await.delivered, 1);
    // It would never end by itself, nor would this.
    pipeline.close(PATIENCE).await;
}

#[tokio::test]
async fn output_is_bounded() {
    let flood = "while :; do echo flooooooooooooooooooooooooooooooooooooooooooooood; done";
    for flood in [flood.to_owned(), format!("{{ {flood}; }} >&2")] {
        let stats = deliver(&format!("{}, max_retries: 2", shell(&flood, "")), 1).await;
        assert_eq!((stats.failed, stats.retried, stats.restarted), (1, 1, 1));
    }
    // Some noise is none of our business.
    let noise =
        "i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo noise; echo trouble >&2; done; echo '{}'";
    let stats = deliver(&shell(noise, ""), 2).await;
    assert_eq!((stats.delivered, stats.retried, stats.restarted), (2, 0, 0));
}

#[tokio::test]
async fn what_a_command_says_of_a_batch_holds() {
    let answers = |answer: &str| {
        let script = SHELL
            .replace("DO", ":")
            .replace("END", "")
            .replace("\\\"ack\\\":$n", answer);
        let script = serde_json::to_string(&script).unwrap();
        format!("command: [/bin/sh, -c, {script}], max_retries: 3")
    };
    let stats = deliver(&answers(r#"\"reject\":$n,\"error\":\"no\""#), 1).await;
    assert_eq!((stats.failed, stats.retried), (1, 0));
    let stats = deliver(&answers(r#"\"retry\":$n,\"after_ms\":1"#), 1).await;
    assert_eq!((stats.failed, stats.retried, stats.restarted), (1, 2, 0));
    let pipeline = start(&answers(r#"\"ack\":$n,\"refused\":2"#));
    let stats = offer(&pipeline, (1..=5).map(span)).await;
    assert_eq!((stats.delivered, stats.failed), (3, 2));
    pipeline.close(PATIENCE).await;
}

#[tokio::test]
async fn the_python_example_adds_up_what_agents_cost() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("costs.json");
    let keys = format!(
        "command: [python3, config/examples/costs.py, {}]",
        file.display()
    );
    let unknown = Span {
        cost: None,
        ..span(4)
    };
    let pipeline = start(&keys);
    offer(&pipeline, [span(1), span(2)]).await;
    let stats = offer(&pipeline, [span(2), span(3), unknown]).await;
    assert_eq!((stats.delivered, stats.retried), (5, 0));
    pipeline.close(PATIENCE).await;
    let found: Json = serde_json::from_str(&read(&file)).unwrap();
    assert_eq!(found["2026-11-22"]["support"]["usd"], "0.030000000");
    assert_eq!(found["2026-11-22"]["support"]["unknown"], 1);
}

#[tokio::test]
async fn the_node_example_lists_failures() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("failures.tsv");
    let keys = format!(
        "command: [node, config/examples/failures.mjs, {}]",
        file.display()
    );
    let failed = Span {
        status: Status::Error,
        error_type: Some("rate_limit\tx".into()),
        ..span(2)
    };
    let pipeline = start(&keys);
    let stats = offer(&pipeline, [span(1), failed]).await;
    assert_eq!((stats.delivered, stats.retried), (2, 0));
    pipeline.close(PATIENCE).await;
    let line = "2026-11-22T06:25:14.000000Z\tsupport\tgpt-4o\trate_limit x\n";
    assert_eq!(read(&file), line);
}

#[tokio::test]
async fn a_reload_starts_no_command_that_was_not_there_at_the_start() {
    let yaml = |program: &str, allow: bool| {
        let exec = format!("{{type: exec, command: [/bin/{program}]}}");
        format!("tracing: {{allow_exec_reload: {allow}, processors: [{exec}]}}")
    };
    for allow in [false, true] {
        let mut sandbox = Sandbox::new(&yaml("cat", allow));
        let (place, mock) = (sandbox.directory.path().to_owned(), sandbox.mock.url());
        // What the edited file says of it does not matter.
        let other = configuration(&yaml("sh", true), &place, &mock);
        let edited = sandbox.app.reload(other).await;
        assert_eq!(edited.is_ok(), allow);
        if let Err(error) = edited {
            let error = error.to_string();
            assert!(error.contains("allow_exec_reload"), "{error}");
        }
        let none = configuration("tracing: {processors: []}", &place, &mock);
        sandbox.app.reload(none).await.unwrap();
        let same = configuration(&yaml("cat", allow), &place, &mock);
        sandbox.app.reload(same).await.unwrap();
        sandbox.stop().await;
    }
}
