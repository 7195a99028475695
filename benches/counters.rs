//! A million live counters: what they take of memory and time, and how long a start with them is.
//!
//! `cargo bench --bench counters -- [COUNTERS]` prints one line a figure, and fails if one is
//! beyond what it has to be.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench may")]

use std::{path::Path, process::Command, sync::Arc};

use tollgate::{
    base::{
        clock::{Clock as _, SystemClock},
        id::{RequestId, SpanId, TraceId},
        money::Usd,
    },
    call::{
        labels::{Label, Labels, Source},
        outcome::Kind,
        usage::UsageSource,
    },
    ledger::{Config, Ledger, View},
    policy::{self, Amounts, Charge, Engine, Purse, Subject},
};

/// Of resident memory, in MB: what live counters may take, and the process.
const MOST_MEGABYTES: u64 = 250;
/// How long a start may take, in milliseconds.
const MOST_MILLIS: u128 = 2_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut words = arguments.iter().filter(|word| !word.starts_with("--"));
    let count = words.next();
    let count = count.map_or(1_000_000, |count| count.parse().unwrap());
    match (words.next().map(String::as_str), words.next()) {
        (Some("spend"), Some(dir)) => spend(Path::new(dir), count),
        (Some("start"), Some(dir)) => start(Path::new(dir), count),
        _ => {
            // A process each, so that none has what another left in its memory.
            let dir = tempfile::tempdir().unwrap();
            for phase in ["spend", "start"] {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.args([&count.to_string(), phase]).arg(dir.path());
                assert!(command.status().unwrap().success(), "{phase}");
            }
        },
    }
}

fn ledger(dir: &Path) -> Ledger {
    let config = Config {
        path: dir.to_owned(),
        ..Config::default()
    };
    Ledger::open(&config, Arc::new(SystemClock)).unwrap().0
}

fn engine(ledger: &Ledger, count: u32) -> Engine {
    let rules: policy::Config = serde_json::from_str(r#"{"per_user": 1000000}"#).unwrap();
    let most = usize::try_from(count).unwrap() + 1;
    Engine::build(&rules, &[], &[], &Purse::new(ledger.journal(), most), None).unwrap()
}

/// One call of every user, and what is then in memory.
fn spend(dir: &Path, count: u32) {
    let ledger = ledger(dir);
    let engine = engine(&ledger, count);
    let before = megabytes();
    let began = SystemClock.mono();
    for user in 0..count {
        call(&engine, user);
    }
    let took = began.elapsed();
    println!("calls: {count} by as many users, {:?} each", took / count);
    assert_eq!(
        engine.purse().counts().counters,
        usize::try_from(count).unwrap()
    );
    // The ledger moves what it has into its books.
    drop(ledger);
    let megabytes = megabytes();
    println!("memory: {megabytes} MB with {count} live counters, {before} MB without");
    assert!(megabytes <= MOST_MEGABYTES, "more than {MOST_MEGABYTES} MB");
}

/// A start over what they have spent.
fn start(dir: &Path, count: u32) {
    let before = megabytes();
    let began = SystemClock.mono();
    let ledger = ledger(dir);
    let took = began.elapsed();
    let megabytes = megabytes();
    println!("start: {took:?} with {count} counters, {megabytes} MB, {before} MB without");
    assert_eq!(ledger.counts().known, usize::try_from(count).unwrap());
    let standings = View::open(dir).unwrap().standings(SystemClock.wall());
    assert_eq!(standings.unwrap().len(), usize::try_from(count).unwrap());
    assert!(
        took.as_millis() <= MOST_MILLIS,
        "longer than {MOST_MILLIS} ms"
    );
}

fn call(engine: &Engine, user: u32) {
    let now = SystemClock.wall();
    let mut labels = Labels::default();
    labels.set(Label::User, &user.to_string(), Source::Header);
    let subject = Subject {
        request_id: RequestId::new(now),
        span_id: SpanId::random(),
        trace_id: TraceId::random(),
        parent_span_id: None,
        start: now,
        kind: Kind::Llm,
        operation: Some("chat"),
        provider: "openai",
        model: Some("gpt-4o"),
        known_as: None,
        hides_model: false,
        route: "chat",
        key: None,
        workload: None,
        labels: &labels,
    };
    let mut matched = engine.matched(&subject, now).unwrap();
    assert!(engine.recalling(&mut matched, now).is_none());
    let amounts = Amounts::of(Usd::from_nanos(20_000_000), 2_000);
    let hold = engine.admit(matched, amounts, &subject, now).unwrap();
    let cost = Some(Usd::from_nanos(10_000_000));
    // As before the first byte is sent: the admission is written.
    hold.keep().unwrap();
    hold.settle(Charge::of(cost, 900, 100, UsageSource::Reported));
}

/// Resident memory, from `/proc`.
fn megabytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
    kilobytes.trim().parse::<u64>().unwrap() / 1_024
}
