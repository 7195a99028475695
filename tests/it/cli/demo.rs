//! `tollgate demo`: it shows what it promises, adds up, and leaves what it recorded behind.

use std::{path::PathBuf, time::Instant};

use tollgate::{
    base::{clock::Timestamp, money::Usd},
    call::tally::Dimension,
    ledger::View,
    policy::Unit,
    store::{Filter, Reader},
};

use super::program::{Program, Ran};

/// The longest that it may take.
const MOST_SECONDS: u64 = 20;

#[test]
#[expect(clippy::disallowed_methods, reason = "how long a program took")]
fn it_shows_tools_a_hand_off_streams_costs_and_a_cutoff_and_leaves_its_store() {
    let program = Program::new();
    let began = Instant::now();
    let mut command = program.command(&["demo"]);
    command.env("TMPDIR", program.path());
    let ran = Ran::from(command.output().unwrap());
    assert!(began.elapsed().as_secs() < MOST_SECONDS);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stderr, "");
    let shown = &ran.stdout;
    for part in [
        "hands off to refunds_agent",
        "└─ calls issue_refund",
        "├─ calls search_web\n            └─ calls read_filings",
        "ok, streamed",
        " cut\n",
        " refused\n            └─ by budget.runaway",
        "openai.RateLimitError: 429",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    assert!(!shown.contains('\u{1b}'), "no colours in a pipe");
    let narrow = |line: &&str| line.contains('/') || line.chars().count() <= 80;
    assert_eq!(shown.lines().find(|line| !narrow(line)), None);

    let start = shown.lines().find_map(|line| line.strip_prefix("  cd "));
    let data = PathBuf::from(start.unwrap()).join("tollgate-data");
    let shown = sum_of_spans_shown(shown);
    let reader = Reader::open(&data.join("spans.db")).unwrap();
    let rows = reader.report(&Filter::default(), &[Dimension::Agent]);
    let stored: Usd = rows.unwrap().iter().map(|row| row.sums.cost_usd).sum();
    assert_eq!(shown, stored);
    let ledger = View::open(&data.join("journal")).unwrap();
    let standings = ledger.standings(Timestamp::default()).unwrap();
    let everything = standings.into_iter().find(|standing| {
        standing.counter.identity.starts_with("demo ") && standing.counter.unit == Unit::Usd
    });
    // The stream that was cut counts as the most that it can have cost.
    let charged = Usd::from_nanos(everything.unwrap().spent);
    let beyond = charged - stored;
    assert!(beyond > Usd::ZERO);
    assert!(
        ran.stdout.contains(&format!("plus ${beyond}")),
        "{}",
        ran.stdout
    );
    try_what_it_says(&program, &ran.stdout);
}

/// Runs the lines below "Look around", in the directory that they name.
fn try_what_it_says(program: &Program, shown: &str) {
    let lines = || shown.lines().filter_map(|line| line.strip_prefix("  "));
    let directory = lines().find_map(|line| line.strip_prefix("cd ")).unwrap();
    let commands = lines().filter_map(|line| line.strip_prefix("tollgate "));
    let mut tried = 0;
    for command in commands.filter(|command| !command.starts_with("exec")) {
        let arguments: Vec<_> = command.split(' ').collect();
        let mut command = program.command(&arguments);
        let ran = Ran::from(command.current_dir(directory).output().unwrap());
        assert_eq!(ran.code, Some(0), "{arguments:?} {}", ran.stderr);
        let expected = match arguments[0] {
            "report" => "total",
            "spans" => "transfer_to_refunds_agent",
            "budgets" => "runaway",
            _ => "refused by budget.runaway",
        };
        assert!(
            ran.stdout.contains(expected),
            "{arguments:?} {}",
            ran.stdout
        );
        tried += 1;
    }
    assert_eq!(tried, 4);
}

/// The costs in the lines of spans; the table below has fewer decimals.
fn sum_of_spans_shown(shown: &str) -> Usd {
    let spans = shown.split("What it cost").next().unwrap().lines();
    let costs = spans.filter_map(|line| line.split_once('$')?.1.split(' ').next());
    let costs = costs.filter(|cost| cost.len() == "0.000000000".len());
    costs.map(|cost| cost.parse::<Usd>().unwrap()).sum()
}
