//! `tollgate doctor`: what it says of destinations that are well and that are not, and of limits.

use std::fs;

use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::program::{Program, Ran};
use crate::{
    pipeline::sink::{Clients, Does, Sink, TAKES},
    support::Sandbox,
};

/// Runs it beside the sinks of a test.
async fn examine(program: &Program, arguments: &[&str]) -> Ran {
    let mut command = program.command(&[&["doctor"], arguments].concat());
    let output = spawn_blocking(move || command.output().unwrap());
    Ran::from(output.await.unwrap())
}

/// The same, as JSON: the exit code, and what was found by name.
async fn found(program: &Program, arguments: &[&str]) -> (i32, Vec<Value>) {
    let ran = examine(program, &[&["--json"], arguments].concat()).await;
    let said: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| {
        panic!("{error}\n{}\n{}", ran.stdout, ran.stderr);
    });
    let code = ran.code.unwrap();
    assert_eq!(said["ok"], code == 0, "{said:#}");
    (code, said["checks"].as_array().unwrap().clone())
}

/// What was found of one of them: the verdict, what is said, and what to do.
fn of<'a>(checks: &'a [Value], part: &str, name: &str) -> (&'a str, &'a str, &'a str) {
    let is = |check: &&Value| check["part"] == part && check["name"] == name;
    let check = checks.iter().find(is);
    let check = check.unwrap_or_else(|| panic!("no {part} {name}: {checks:#?}"));
    let text = |key: &str| check[key].as_str().unwrap_or_default();
    (text("verdict"), text("says"), text("advice"))
}

#[tokio::test]
async fn what_is_well_fits_a_screen_and_leaves_a_marked_span_everywhere() {
    let sink = Sink::start(&[], TAKES).await;
    let program = Program::new().with(
        "tollgate.yaml",
        &format!(
            "budgets: {{daily: 2.50}}\nrate_limits: [{{name: slow, requests_per_minute: 3}}]\ntracing:\n  \
             processors:\n    - {{type: console}}\n    - {{type: file, directory: traces}}\n    - {{type: \
             webhook, url: '{}/hook', name: ours}}\n",
            sink.url
        ),
    );
    let ran = examine(&program, &[]).await;
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    for part in [
        "Here  configuration",
        "✓ configuration   tollgate.yaml",
        "✓ data            ./tollgate-data can be made",
        "✓ ours            delivered",
        "✓ file            written below traces",
        "✓ daily           $2.50 a day: counted, a stream cut at it, then refused with 429",
        "✓ slow            3 calls a minute: 3 passed, then refused with 429",
        " ok\n",
    ] {
        assert!(ran.stdout.contains(part), "{part}\n{}", ran.stdout);
    }
    assert!(ran.stdout.lines().count() <= 24, "{}", ran.stdout);
    assert!(!ran.stdout.contains('\x1b'), "colours are for terminals");
    assert_eq!(ran.stderr, "");

    let [seen] = &*sink.seen() else {
        panic!("{:?}", sink.seen());
    };
    let sent = String::from_utf8_lossy(&seen.body);
    assert_eq!(
        sent.matches("\"tollgate.doctor\":true").count(),
        1,
        "{sent}"
    );
    let file = fs::read_dir(program.path().join("traces")).unwrap();
    let file = file.map(|it| it.unwrap().path()).next().unwrap();
    let kept = fs::read_to_string(file).unwrap();
    assert_eq!(
        kept.matches("\"tollgate.doctor\":true").count(),
        1,
        "{kept}"
    );
    // Limits were moved elsewhere.
    assert!(!program.path().join("tollgate-data").exists());
    assert!(!program.path().join("trace_buffer").exists());
}

#[tokio::test]
async fn each_trouble_is_told_in_the_destination_s_words_with_what_to_do() {
    let refuses = Sink::start(&[], Does::Answers(401, None)).await;
    let hangs = Sink::start(&[], Does::Hangs).await;
    let strange = Sink::with_tls(Clients::Any, &[], TAKES).await;
    let large = Sink::start(&[], Does::Answers(413, None)).await;
    let hook = |name: &str, url: &str| {
        format!(
            "    - {{type: webhook, name: {name}, url: '{url}', headers: {{x-key: hush-hush}}}}\n"
        )
    };
    let text = [
        "tracing:\n  processors:\n".to_owned(),
        hook("refuses", &refuses.url),
        hook("hangs", &hangs.url),
        hook("strange", &strange.url),
        hook("large", &large.url),
        hook("nobody", "http://127.0.0.1:1"),
        "    - {type: openai, api_key_secret: hush-key}\n".to_owned(),
        "    - {type: prometheus}\n".to_owned(),
        "    - {type: file, directory: tollgate.yaml/below, name: store}\n".to_owned(),
        format!(
            "    - {{type: webhook, name: hurried, url: '{}', timeout: 500ms}}\n",
            hangs.url
        ),
    ]
    .concat();
    let program = Program::new().with("tollgate.yaml", &text);
    let (code, checks) = found(&program, &["--timeout", "1s"]).await;
    assert_eq!(code, 1);
    for (name, says, advice) in [
        ("refuses", "status 401", "api_key"),
        ("hangs", "no answer within 1s", "--timeout"),
        ("strange", "certificate", "tls.ca_file"),
        ("large", "too large", "batch_size"),
        ("nobody", "refused", "nobody listens"),
        ("openai", "gets no spans", "api_key"),
        ("prometheus", "push_gateway is missing", ""),
        ("store-2", "tollgate.yaml/below", "path"),
        ("hurried", "no answer within 500ms", "its `timeout`"),
    ] {
        let (verdict, said, help) = of(&checks, "destinations", name);
        assert_eq!(verdict, "failed", "{name}: {said}");
        assert!(said.contains(says), "{name}: {said}");
        assert!(help.contains(advice), "{name}: {said} → {help}");
    }
    assert!(!format!("{checks:?}").contains("hush-hush"));
}

#[tokio::test]
async fn every_kind_of_limit_is_moved_and_held() {
    let program = Program::new().with(
        "tollgate.yaml",
        "budgets:
  per_user: 0.01
  unbounded: allow
  thresholds: {warning: 0.5, critical: 0.8, cutoff: 0.9}
  rules:
    - {name: claude, match: {model: 'claude-*'}, per: [session], window: total, limit: {usd: 5}}
    - {name: lower, match: {agent: 'a-*'}, window: day, limit: {usd: 1}, on_exhausted: clamp}
    - {name: watched, window: month, limit: {usd: 1}, on_exhausted: shadow}
    - {name: unseen, match: {model: o3}, window: day, limit: {tokens: 30000}}
    - {name: tokens, match: {tags: {team: 'core, web'}}, window: 6h, limit: {tokens: 100000}}
    - {name: input, window: hour, limit: {input_tokens: 5000}}
    - {name: output, window: hour, limit: {output_tokens: 5000}}
    - {name: calls, window: week, limit: {requests: 4}}
    - {name: nothing, window: day, limit: {usd: 0}}
    - {name: pods, per: [pod], missing: skip, window: day, limit: {requests: 10}}
    - {name: spaces, per: [namespace], missing: deny, window: day, limit: {requests: 2}}
    - {name: ours, match: {model: my-gpt}, window: day, limit: {usd: 2}}
    - {name: many, window: day, limit: {requests: 100000}}
    - {name: keys, match: {key: ci}, window: day, limit: {usd: 1}}
rate_limits:
  - {name: a-minute, tokens_per_minute: 20000, max_wait: 1m}
  - {name: at-once, concurrent: 3}
guards: {call: {max_output_tokens: 4000}, session: {max_calls: 7}}
providers: {openai: {models: {my-gpt: gpt-4o}}}
tracing: {processors: []}
",
    );
    let (code, checks) = found(&program, &[]).await;
    assert_eq!(code, 0, "{checks:#?}");
    for (name, verdict, says) in [
        ("per_user", "ok", "$0.01 a day: counted, "),
        ("claude", "ok", "$5.00 in total: counted, "),
        ("lower", "ok", "then refused with 429"),
        ("watched", "ok", "only watched"),
        ("tokens", "ok", "100,000 tokens in any 6h: counted, "),
        ("unseen", "ok", "30,000 tokens a day: counted, "),
        (
            "input",
            "ok",
            "5,000 input tokens an hour: counted, then refused",
        ),
        ("output", "ok", "5,000 output tokens an hour: counted, "),
        ("calls", "ok", "4 passed, then refused with 429"),
        ("nothing", "ok", "refused at once"),
        ("pods", "ok", "10 passed, then refused with 429"),
        ("spaces", "ok", "2 passed, then refused with 429"),
        ("ours", "ok", "$2.00 a day: counted, "),
        ("many", "unsure", "not reached"),
        ("keys", "unsure", "some keys alone"),
        ("a-minute", "ok", "counted, then refused with 429"),
        ("at-once", "ok", "3 at once, one more refused with 429"),
        (
            "guards.call",
            "ok",
            "4,000 output tokens a call: a call that asks for more is refused with 403",
        ),
        ("guards.session", "ok", "7 passed, then refused with 429"),
    ] {
        let (found, said, _) = of(&checks, "limits", name);
        assert_eq!(found, verdict, "{name}: {said}");
        assert!(said.contains(says), "{name}: {said}");
    }
}

#[test]
fn what_cannot_be_tried_is_told_and_does_not_end_the_rest() {
    let yaml = "budgets: {daily: 1, monthly: 9}\ntracing: {processors: []}\n";
    let program = Program::new().with("tollgate.yaml", yaml);
    let mut command = program.command(&["doctor", "--json"]);
    let ran = Ran::from(command.env("TMPDIR", "tollgate.yaml").output().unwrap());
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let said: Value = serde_json::from_str(&ran.stdout).unwrap();
    for name in ["daily", "monthly"] {
        let (verdict, says, advice) = of(said["checks"].as_array().unwrap(), "limits", name);
        assert_eq!(verdict, "failed");
        assert!(
            says.contains("could not be tried: cannot make tollgate.yaml/")
                && says.contains("Not a directory"),
            "{says}"
        );
        assert!(advice.contains("try again"), "{advice}");
    }
}

#[tokio::test]
async fn a_running_sidecar_is_seen_and_left_alone() {
    let yaml = "budgets: {daily: 1.00}";
    let sandbox = Sandbox::new(yaml);
    let body = json!({"model": "gpt-4o", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]});
    let answer = sandbox.post("/v1/chat/completions", &body).await;
    assert_eq!(answer.status, 200);
    let spent = sandbox.spent("daily").await;
    let at = |name: &str| sandbox.path(name).display().to_string();
    let (data, journal) = (at("data"), at("data/journal"));
    let text = format!(
        "{yaml}\nstore: {{path: '{data}'}}\nledger: {{path: '{journal}'}}\ntracing: {{processors: []}}\n"
    );
    let program = Program::new().with("tollgate.yaml", &text);
    let (code, checks) = found(&program, &[]).await;
    assert_eq!(code, 0, "{checks:#?}");
    let (verdict, said, _) = of(&checks, "here", "data");
    let pid = format!("pid {}", std::process::id());
    assert!(
        verdict == "ok" && said.contains(&pid) && said.contains("ready"),
        "{said}"
    );
    assert_eq!(of(&checks, "here", "ledger").0, "ok");
    assert_eq!(of(&checks, "limits", "daily").0, "ok");
    assert_eq!(sandbox.spent("daily").await, spent);
    assert_eq!(sandbox.mock.count(), 1);

    // Nobody runs there any more, and the ledger is damaged.
    let directory = sandbox.stop().await;
    let books = directory.path().join("data/journal/books.sqlite");
    assert!(books.exists());
    fs::write(books, "no database").unwrap();
    let (code, checks) = found(&program, &[]).await;
    assert_eq!(code, 1);
    let (verdict, said, advice) = of(&checks, "here", "ledger");
    assert!(verdict == "failed" && advice.contains("ledger"), "{said}");
    assert!(of(&checks, "here", "data").1.ends_with("can be written"));
}

#[test]
fn a_wrong_configuration_is_told_as_check_tells_it() {
    let program = Program::new().with("tollgate.yaml", "budgets: {dayly: 1}");
    let ran = program.run(&["doctor"]);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains("did you mean `daily`"),
        "{}",
        ran.stderr
    );
}
