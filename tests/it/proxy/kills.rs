//! The real program is killed, and its store must tell the same as its ledger afterwards.

use std::{path::Path, time::Duration};

use tempfile::TempDir;
use tollgate::{
    base::clock::{Clock as _, SystemClock},
    call::{
        span::Span,
        tally::{Dimension, Sums, Tally},
    },
    ledger::View,
    mock::{Mock, Options},
    policy::Unit,
    store::{self, Filter, ROWS_BEFORE_A_CRASH, Reader, Writer},
};

use super::{
    chat, priced,
    process::{Process, upstream},
};
use crate::support::{Line, client, sandbox::until};

/// Calls of each run.
const CALLS: usize = 12;

fn configuration(mock: &Mock) -> String {
    let budgets = "budgets: {rules: [{name: all, window: total, limit: {usd: 1000, tokens: 1000000, \
                   requests: 1000000}}]}\n";
    priced(&format!("{}{budgets}", upstream(&mock.url())))
}

/// What the ledger has of a unit: (spent, reserved).
fn ledger(directory: &Path, unit: Unit) -> (i64, i64) {
    let view = View::open(&directory.join("tollgate-data/journal")).unwrap();
    let standings = view.standings(SystemClock.wall()).unwrap();
    let of = standings
        .iter()
        .filter(|standing| standing.counter.unit == unit);
    of.fold((0, 0), |(spent, reserved), standing| {
        (spent + standing.spent, reserved + standing.reserved)
    })
}

fn report(directory: &Path, by: &[Dimension]) -> Vec<Tally> {
    let store = Reader::open(&directory.join("tollgate-data/spans.db")).unwrap();
    store.report(&Filter::default(), by).unwrap()
}

fn sums(directory: &Path) -> Sums {
    let mut all = report(directory, &[]);
    all.pop().map(|tally| tally.sums).unwrap_or_default()
}

/// Calls until `count` calls in all are settled in the journal.
async fn call(program: &Process, directory: &Path, count: usize) {
    for number in 0..CALLS {
        let agent = format!("agent-{}", number % 3);
        let headers = [("x-tollgate-agent", &*agent)];
        let answer = client::post(program.addr, "/v1/chat/completions", &headers, &chat()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let count = i64::try_from(count).unwrap();
    until("the calls to be settled", || {
        ledger(directory, Unit::Requests) == (count, 0)
    })
    .await;
}

async fn kill(mut program: Process) {
    program.signal("KILL");
    program.ended().await;
}

#[tokio::test]
async fn spans_that_a_kill_took_are_written_again_from_the_ledger() {
    let mock = Mock::start(Options::default()).unwrap();
    let directory = TempDir::new().unwrap();
    let yaml = configuration(&mock);
    let mut lost = 0;
    for run in 1..=4 {
        let program = Process::start(directory.path(), &yaml);
        assert_eq!(
            sums(directory.path()).calls,
            u64::try_from((run - 1) * CALLS).unwrap(),
            "what the last run lost is there before the first call",
        );
        call(&program, directory.path(), run * CALLS).await;
        kill(program).await;
        let stored = usize::try_from(sums(directory.path()).calls).unwrap();
        lost += run * CALLS - stored;
    }
    assert!(lost > 0, "no kill took any");

    let program = Process::start(directory.path(), &yaml);
    let sums = sums(directory.path());
    let calls = u64::try_from(4 * CALLS).unwrap();
    assert_eq!((sums.calls, sums.unknown_cost_calls), (calls, 0));
    let (spent, _) = ledger(directory.path(), Unit::Usd);
    assert_eq!(sums.cost_usd.nanos(), spent);
    let (tokens, _) = ledger(directory.path(), Unit::Tokens);
    let all = sums.input_tokens + sums.output_tokens;
    assert_eq!(i64::try_from(all).unwrap(), tokens);
    let agents = report(directory.path(), &[Dimension::Agent, Dimension::Model]);
    assert_eq!(agents.len(), 3, "{agents:?}");
    assert!(agents.iter().all(|agent| agent.sums.calls == calls / 3));
    kill(program).await;
}

#[tokio::test]
async fn calls_in_flight_and_calls_that_ended_make_one_sum_after_a_kill() {
    let mock = Mock::start(Options::default()).unwrap();
    let directory = TempDir::new().unwrap();
    let yaml = configuration(&mock);
    let program = Process::start(directory.path(), &yaml);
    call(&program, directory.path(), CALLS).await;
    let mut line = Line::connect(program.addr).await;
    let body = chat().to_string();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-mock: hang=head\r\n";
    let length = body.len();
    line.send(format!("{head}content-length: {length}\r\n\r\n{body}"))
        .await;
    until("a call to be in flight", || {
        ledger(directory.path(), Unit::Requests).1 == 1
    })
    .await;
    kill(program).await;

    let program = Process::start(directory.path(), &yaml);
    let calls = u64::try_from(CALLS).unwrap() + 1;
    until("its span", || sums(directory.path()).calls == calls).await;
    let (spent, reserved) = ledger(directory.path(), Unit::Usd);
    assert_eq!(
        (sums(directory.path()).cost_usd.nanos(), 0),
        (spent, reserved)
    );
    kill(program).await;
}

#[tokio::test]
async fn a_threshold_is_told_once_though_the_program_is_killed_before_it_could_be() {
    let mock = Mock::start(Options::default()).unwrap();
    let directory = TempDir::new().unwrap();
    let rules = "budgets: {rules: [{name: four, window: total, limit: {requests: 4}}]}\n";
    let yaml = format!("{}{rules}", upstream(&mock.url()));
    // Each run has a log of its own.
    let told = || -> Vec<String> {
        let log = std::fs::read_to_string(directory.path().join("log")).unwrap();
        let lines = log
            .lines()
            .filter(|line| line.contains("crossed a threshold"));
        let line = |line| serde_json::from_str::<serde_json::Value>(line).unwrap();
        lines
            .map(|text| line(text)["level"].as_str().unwrap().to_owned())
            .collect()
    };
    let ask = async |program: &Process| {
        let answer = client::post(program.addr, "/v1/chat/completions", &[], &chat()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let program = Process::start(directory.path(), &yaml);
    ask(&program).await;
    ask(&program).await;
    let mut line = Line::connect(program.addr).await;
    let body = chat().to_string();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-mock: hang=head\r\n";
    let length = body.len();
    line.send(format!("{head}content-length: {length}\r\n\r\n{body}"))
        .await;
    until("a call to be in flight", || {
        ledger(directory.path(), Unit::Requests) == (2, 1)
    })
    .await;
    assert_eq!(told(), [""; 0]);
    kill(program).await;

    // The start charges what was in flight, and that is the third of four: nine tenths, rounded
    // down.
    let program = Process::start(directory.path(), &yaml);
    assert_eq!(told(), ["critical"]);
    kill(program).await;
    let program = Process::start(directory.path(), &yaml);
    ask(&program).await;
    until("the last to be told", || !told().is_empty()).await;
    assert_eq!(told(), ["cutoff"]);
    kill(program).await;
    let program = Process::start(directory.path(), &yaml);
    let answer = client::post(program.addr, "/v1/chat/completions", &[], &chat()).await;
    assert_eq!(answer.status, 429, "{answer:?}");
    assert_eq!(told(), [""; 0]);
    kill(program).await;
}

/// Refused calls, and calls that no budget counts, are in the store and not among what the ledger
/// settled: however many they are, what was stored before them is not missing.
#[tokio::test]
async fn a_call_is_not_written_again_because_many_came_after_it() {
    let mock = Mock::start(Options::default()).unwrap();
    let directory = TempDir::new().unwrap();
    let yaml = configuration(&mock);
    let program = Process::start(directory.path(), &yaml);
    call(&program, directory.path(), CALLS).await;
    let calls = u64::try_from(CALLS).unwrap();
    until("their spans", || sums(directory.path()).calls == calls).await;
    kill(program).await;

    let config = store::Config {
        path: directory.path().join("tollgate-data"),
        ..store::Config::default()
    };
    let mut writer = Writer::open(&config).unwrap();
    let later = Span::begun(SystemClock.wall() + Duration::from_mins(1));
    let more = ROWS_BEFORE_A_CRASH + 1;
    let later = vec![later; usize::try_from(more).unwrap()];
    writer
        .append(later.iter().map(|span| (span, "{}")))
        .unwrap();
    drop(writer);
    let before = sums(directory.path());

    let program = Process::start(directory.path(), &yaml);
    let after = sums(directory.path());
    assert_eq!(
        (after.calls, after.cost_usd),
        (before.calls, before.cost_usd)
    );
    kill(program).await;
}
