//! The commands that read what a run has kept, and the two that change a budget.

use std::fs;

use serde_json::Value;

use super::program::{Program, Ran};
use crate::{
    admin::{LIMITED, chat, id, stored},
    support::Sandbox,
};

/// What is left of a run: a program beside its store, and the ids of its calls.
struct Kept {
    program: Program,
    passed: String,
    refused: String,
}

/// The configuration that means the sandbox's directory.
fn beside(sandbox: &Sandbox) -> Program {
    let at = |name: &str| sandbox.path(name).display().to_string();
    let (data, journal) = (at("data"), at("data/journal"));
    let text = format!("{LIMITED}\nstore: {{path: '{data}'}}\nledger: {{path: '{journal}'}}\n");
    Program::new().with("tollgate.yaml", &text)
}

/// A run of three calls, of which one was refused.
async fn calls(sandbox: &Sandbox) -> Kept {
    let passed = id(&chat(sandbox, "support", "42", 10).await);
    chat(sandbox, "research", "7", 10).await;
    let refused = id(&chat(sandbox, "support", "42", 4_000).await);
    stored(sandbox, 3).await;
    sandbox.settled().await;
    Kept {
        program: beside(sandbox),
        passed,
        refused,
    }
}

fn done(ran: Ran) -> String {
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran.stdout
}

#[tokio::test]
async fn retries_are_told_apart_from_the_calls_that_they_are_part_of() {
    let sandbox = Sandbox::new(LIMITED);
    sandbox.mock.next_with("status=500").unwrap();
    let first = id(&chat(&sandbox, "support", "42", 10).await);
    sandbox.mock.next_with("input=100;output=20").unwrap();
    let second = id(&chat(&sandbox, "support", "42", 10).await);
    chat(&sandbox, "support", "42", 10).await;
    stored(&sandbox, 3).await;
    let program = beside(&sandbox);
    let _directory = sandbox.stop().await;
    let run = |arguments: &[&str]| done(program.run(arguments));

    let report = run(&["report", "--format=json"]);
    let rows: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(
        (&rows[0]["calls"], &rows[0]["retries"]),
        (&3.into(), &1.into())
    );
    let span = run(&["spans", "--format=json", "--limit=2"]);
    let span: Value = serde_json::from_str(span.lines().next().unwrap()).unwrap();
    let cost = &span["attributes"]["tollgate.cost.usd"];
    assert_eq!(&rows[0]["retry_cost_usd"], cost);
    let table = run(&["report"]);
    assert!(table.contains("Of these were retries: 1 call, "), "{table}");
    assert_eq!(run(&["spans"]).matches("  attempt 2").count(), 1);
    let why = run(&["why", &second]);
    assert!(why.contains(&format!("2; the first was {first}")), "{why}");
}

#[tokio::test]
async fn what_a_run_has_kept_is_read_when_it_is_over() {
    let sandbox = Sandbox::new(LIMITED);
    let Kept {
        program,
        passed,
        refused,
    } = calls(&sandbox).await;
    let _directory = sandbox.stop().await;
    let run = |arguments: &[&str]| done(program.run(arguments));

    let spans = run(&["spans"]);
    assert_eq!(spans.lines().count(), 3, "{spans}");
    assert!(spans.contains("blocked by budget.per_user"), "{spans}");
    assert!(spans.contains(&passed[..16]), "{spans}");
    let spans = run(&["spans", "--agent=support", "--status=ok", "--format=json"]);
    let span: Value = serde_json::from_str(spans.trim()).unwrap();
    assert_eq!(span["attributes"]["tollgate.request_id"], *passed);
    let tree = run(&["spans", "--trace", span["trace_id"].as_str().unwrap()]);
    assert!(
        tree.contains("chat gpt-4o") && tree.contains("1 span"),
        "{tree}"
    );
    assert_eq!(run(&["spans", "--until=1h"]), "No calls.\n");

    let report = run(&["report", "--by=agent", "--format=json"]);
    let rows: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 2);
    assert!(run(&["report"]).contains("total"));
    assert!(run(&["report", "--format=csv", "--by=user,day"]).starts_with("user,day,calls"));

    let listed: Value = serde_json::from_str(&run(&["budgets", "--format=json"])).unwrap();
    let cost = span["attributes"]["tollgate.cost.usd"].as_str().unwrap();
    assert_eq!(listed[1]["for"], "user=42");
    assert_eq!(listed[1]["spent"], cost);
    let table = run(&["budgets"]);
    assert!(
        table.contains("per_user/user=7") && table.contains("this volume"),
        "{table}"
    );

    let why = run(&["why", &passed]);
    for part in [
        "admitted",
        "per_user/user=42",
        "fits",
        "agent=support",
        "(reported)",
    ] {
        assert!(why.contains(part), "no {part} in {why}");
    }
    let why = run(&["why", &refused[..24]]);
    for part in ["refused by budget.per_user", "exhausted", &refused] {
        assert!(why.contains(part), "no {part} in {why}");
    }
    let why: Value = serde_json::from_str(&run(&["why", &refused, "--format=json"])).unwrap();
    assert_eq!(why["decisions"][0]["refused_by"], "budget.per_user");

    let verified = run(&["ledger", "verify"]);
    assert!(verified.starts_with("ok: 3 entries"), "{verified}");
    let head = run(&["ledger", "verify", "--head"]);
    assert!(
        head.trim().len() == 64 && verified.contains(head.trim()),
        "{head}"
    );
}

#[tokio::test]
async fn calls_are_priced_again_and_keep_what_they_cost_before() {
    let sandbox = Sandbox::new(LIMITED);
    let Kept {
        program, passed, ..
    } = calls(&sandbox).await;
    let _directory = sandbox.stop().await;
    let usual = fs::read_to_string(program.path().join("tollgate.yaml")).unwrap();
    let program = program.with(
        "dear.yaml",
        &format!("{usual}pricing: {{gpt-4o: {{input: 1000, output: 1000}}}}\n"),
    );
    let span = || -> Value {
        let spans =
            done(program.run(&["spans", "--agent=support", "--status=ok", "--format=json"]));
        serde_json::from_str(spans.trim()).unwrap()
    };
    let reprice = |arguments: &[&str]| {
        let all: Vec<_> = ["reprice", "--since=1h"]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        done(program.run(&all))
    };
    let first = span();
    let version = &first["attributes"]["tollgate.pricing.version"];
    assert!(
        version.as_str().unwrap().starts_with("genai-prices "),
        "{version}"
    );
    let same = reprice(&[]);
    assert!(
        same.contains("0 calls cost something else now and 2 the same"),
        "{same}"
    );

    let dry = reprice(&["-c", "dear.yaml"]);
    assert!(
        dry.contains(&passed) && dry.contains("2 calls cost something else"),
        "{dry}"
    );
    assert_eq!(span(), first);
    let wrote = reprice(&["-c", "dear.yaml", "--write"]);
    assert!(
        wrote.contains("each span keeps the cost that it had"),
        "{wrote}"
    );
    let (now, before) = (span(), &first["attributes"]["tollgate.cost.usd"]);
    let attributes = &now["attributes"];
    assert_ne!(&attributes["tollgate.cost.usd"], before);
    assert_eq!(&attributes["tollgate.cost.amended"][0]["usd"], before);
    assert_eq!(attributes["tollgate.pricing.version"], "configuration");
    let report = done(program.run(&["report", "--agent=support", "--format=json"]));
    let cost = attributes["tollgate.cost.usd"].as_str().unwrap();
    assert!(report.contains(cost), "{report}");
    let again = reprice(&["-c", "dear.yaml"]);
    assert!(again.contains("0 calls cost something else"), "{again}");
    let undated = program.run(&["reprice"]);
    assert_eq!(undated.code, Some(2), "{}", undated.stdout);
}

#[tokio::test]
async fn what_is_shown_fits_the_terminal_and_is_whole_in_a_pipe() {
    let sandbox = Sandbox::new(LIMITED);
    let Kept { program, .. } = calls(&sandbox).await;
    let _directory = sandbox.stop().await;
    let widest = |columns: Option<&str>, arguments: &[&str]| {
        let mut command = program.command(arguments);
        if let Some(columns) = columns {
            command.env("COLUMNS", columns);
        }
        let shown = done(Ran::from(command.output().unwrap()));
        assert!(!shown.contains('\u{1b}'), "no colours in a pipe");
        let widths = shown.lines().map(|line| line.chars().count());
        (widths.max().unwrap(), shown)
    };
    for arguments in [
        &["spans"][..],
        &["budgets"],
        &["report", "--by=agent,user,model,session"],
    ] {
        let (piped, whole) = widest(None, arguments);
        for columns in ["80", "100"] {
            let (width, shown) = widest(Some(columns), arguments);
            assert!(width <= columns.parse().unwrap(), "{columns}: {shown}");
            assert!(width <= piped, "{whole}");
        }
        assert!(whole.contains('$') && !whole.contains('…'), "{whole}");
    }
}

#[tokio::test]
async fn a_running_sidecar_is_asked_to_change_its_budgets() {
    let sandbox = Sandbox::new(LIMITED);
    let Kept { program, .. } = calls(&sandbox).await;
    let run = async |arguments: &[&str]| {
        let mut command = program.command(arguments);
        let ran = tokio::task::spawn_blocking(move || command.output().unwrap());
        Ran::from(ran.await.unwrap())
    };
    let raised = run(&["budgets", "raise", "per_user/user=42", "2.50", "--until=1h"]).await;
    assert!(done(raised).contains("$2.51"));
    assert_eq!(chat(&sandbox, "support", "42", 4_000).await.status, 200);
    sandbox.settled().await;
    done(run(&["budgets", "reset", "daily", "--who=ada"]).await);
    assert_eq!(sandbox.budget("daily").spent, 0);

    let unknown = run(&["budgets", "raise", "nope", "1"]).await;
    assert_eq!(unknown.code, Some(2));
    assert!(
        unknown.stderr.contains("daily, per_user"),
        "{}",
        unknown.stderr
    );
    let whose = run(&["budgets", "reset", "per_user"]).await;
    assert_eq!(whose.code, Some(2));
    assert!(
        whose.stderr.contains("per_user/user=VALUE"),
        "{}",
        whose.stderr
    );

    let _directory = sandbox.stop().await;
    let nobody = run(&["budgets", "raise", "daily", "1"]).await;
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.stderr.contains("tollgate run"), "{}", nobody.stderr);
}

#[tokio::test]
async fn what_was_spent_is_exported_with_its_prices() {
    let sandbox = Sandbox::new(LIMITED);
    let Kept {
        program, passed, ..
    } = calls(&sandbox).await;
    let _directory = sandbox.stop().await;
    let run = |arguments: &[&str]| done(program.run(arguments));
    let spans = run(&["spans", "--agent=support", "--status=ok", "--format=json"]);
    let span: Value = serde_json::from_str(spans.trim()).unwrap();
    let cost = span["attributes"]["tollgate.cost.usd"].as_str().unwrap();
    let exported = run(&["ledger", "export"]);
    let lines: Vec<_> = exported.lines().collect();
    assert_eq!(
        lines.len(),
        1 + 2 * 2,
        "two calls in two budgets: {exported}"
    );
    assert!(lines[0].starts_with("time,kind,request_id"), "{exported}");
    let exported = run(&["ledger", "export", "--format=json", "--since=1h"]);
    let lines = exported.lines();
    let lines: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of_call = lines.iter().find(|line| line["for"] == "user=42").unwrap();
    assert_eq!(of_call["request_id"], *passed);
    assert_eq!(of_call["budget"], "per_user");
    assert_eq!(of_call["amount"], cost);
    assert_eq!(
        of_call["model"],
        span["attributes"]["gen_ai.response.model"]
    );
    let version = &span["attributes"]["tollgate.pricing.version"];
    assert!(version.is_string());
    assert_eq!(of_call["pricing_version"], *version);
    assert_eq!(
        run(&["ledger", "export", "--format=json", "--until=1h"]),
        ""
    );
}

#[tokio::test]
async fn why_shows_the_rate_limits_that_were_looked_at_too() {
    let limits = format!(
        "{LIMITED}\nrate_limits:\n  - {{name: slow, per: [user], requests_per_minute: 1, \
         tokens_per_minute: 100000, concurrent: 4}}"
    );
    let sandbox = Sandbox::new(&limits);
    let passed = id(&chat(&sandbox, "support", "42", 10).await);
    let refused = id(&chat(&sandbox, "support", "42", 10).await);
    stored(&sandbox, 2).await;
    let program = beside(&sandbox);
    let _directory = sandbox.stop().await;
    let why = done(program.run(&["why", &passed]));
    for part in [
        "per_user/user=42",
        "rate.slow/user=42: limit 100,000 tokens, spent 0 tokens, held 0 tokens, asked ",
        "rate.slow/user=42: limit 1 requests a minute: fits",
        "limit 4",
    ] {
        assert!(why.contains(part), "no {part} in {why}");
    }
    let why = done(program.run(&["why", &refused]));
    let part = "rate.slow/user=42: limit 1 requests a minute: exhausted";
    assert!(why.contains(part), "{why}");
}

#[tokio::test]
async fn a_damaged_ledger_is_not_called_whole() {
    let sandbox = Sandbox::new(LIMITED);
    let Kept { program, .. } = calls(&sandbox).await;
    let books = sandbox.path("data/journal/books.sqlite");
    let _directory = sandbox.stop().await;
    let db = rusqlite::Connection::open(books).unwrap();
    db.execute("UPDATE totals SET spent = spent + 1 WHERE spent > 0", ())
        .unwrap();
    drop(db);
    let ran = program.run(&["ledger", "verify"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("total"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_damaged_journal_is_repaired_by_the_command_that_its_error_names() {
    let sandbox = Sandbox::new(LIMITED);
    let Kept { program, .. } = calls(&sandbox).await;
    let journal = sandbox.path("data/journal");
    let _directory = sandbox.stop().await;
    // What cannot be read is no torn end, since it is not the newest file's.
    fs::write(journal.join("000000000900.log"), "damaged").unwrap();
    fs::write(journal.join("000000000901.log"), "").unwrap();
    for arguments in [&["run"][..], &["ledger", "verify"]] {
        let ran = program.run(arguments);
        assert_ne!(ran.code, Some(0), "{arguments:?}");
        let message = &ran.stderr;
        assert!(
            message.contains("900.log") && message.contains("byte 0"),
            "{message}"
        );
        let command = message.rsplit('`').nth(1).unwrap();
        assert_eq!(command, "tollgate ledger repair");
    }
    let said = done(program.run(&["ledger", "repair"]));
    assert!(said.contains("7 bytes from byte 0"), "{said}");
    let aside = fs::read_to_string(journal.join("000000000900.log.damaged"));
    assert_eq!(aside.unwrap(), "damaged");
    done(program.run(&["ledger", "verify"]));
    let again = done(program.run(&["ledger", "repair"]));
    assert!(again.contains("nothing was changed"), "{again}");
}

#[test]
fn without_a_store_and_with_wrong_arguments_it_says_what_to_do() {
    let program = Program::new();
    for (arguments, code, says) in [
        (&["spans"][..], 1, "there is no store yet"),
        (&["report"], 1, "there is no store yet"),
        (&["why", "01"], 1, "there is no store yet"),
        (&["why", "not-an-id"], 2, "x-tollgate-request-id"),
        (
            &["why", "01a21390a31b7ef69d9f28c41d026818"],
            1,
            "no call has the id",
        ),
        (&["report", "--by=agnet"], 2, "agent, model"),
        (&["report", "--format=xml"], 2, "table, json or csv"),
        (&["spans", "--since=yesterday"], 2, "24h"),
        (&["spans", "--status=fine"], 2, "blocked"),
        (&["spans", "--trace=12"], 2, "not a valid identifier"),
        (&["budgets", "raise", "daily", "much"], 2, "amount"),
        (&["prices", "no-such-model"], 1, "pricing: {no-such-model:"),
    ] {
        let ran = program.run(arguments);
        assert_eq!(ran.code, Some(code), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(says), "{arguments:?}: {}", ran.stderr);
    }
    assert!(done(program.run(&["budgets"])).contains("No budgets"));
    assert!(
        fs::read_dir(program.path()).unwrap().next().is_none(),
        "reading makes nothing"
    );
}

#[test]
fn a_price_says_where_it_comes_from() {
    let program = Program::new().with(
        "tollgate.yaml",
        "pricing: {house-model: {input: 1.25, output: 2}, azure/gpt-4o: {input: 4, output: 9}}",
    );
    let prices = |arguments: &[&str]| {
        let all: Vec<_> = ["prices"].iter().chain(arguments).copied().collect();
        done(program.run(&all))
    };
    let several = prices(&["gpt-4o"]);
    assert!(
        several.contains("openai") && several.contains("genai-prices"),
        "{several}"
    );
    assert!(
        several.contains("pricing.azure/gpt-4o in the configuration"),
        "{several}"
    );
    let served = [
        "claude-sonnet-4-6",
        "--provider=anthropic",
        "--region=us",
        "--batch",
        "--at=2026-11-15T12:00:00Z",
    ];
    let served = prices(&served);
    assert!(
        served.contains("with     processing=batch") && served.contains("with     1.1 times in us"),
        "{served}"
    );
    let tiered = prices(&["gemini-2.5-pro", "--provider=gemini"]);
    assert!(tiered.contains("$2.50 above 200,000"), "{tiered}");
    let own: Value = serde_json::from_str(&prices(&["house-model", "--format=json"])).unwrap();
    assert_eq!(own[0]["prices"]["input"]["per_million"], "1.250000000");
    assert!(prices(&[]).contains("genai-prices"));
}
