//! What survives what, and who waits for it.

use std::time::Duration;

use serde_json::json;
use tollgate::{
    base::clock::SystemClock,
    call::labels::{Label, Labels},
    ledger::{Config, Durability, Ledger},
    policy::Raise,
};

use super::*;
use crate::policy::{ask, charge, labels, stands, usd};

#[tokio::test(flavor = "current_thread")]
async fn a_call_can_wait_until_its_admission_survives_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        path: dir.path().join("journal"),
        durability: Durability::Machine,
        ..Config::default()
    };
    let (ledger, _) = Ledger::open(&config, Arc::new(SystemClock)).unwrap();
    let engine = engine_over(json!({"daily": 100}), ledger.journal());
    let mut holds = Vec::new();
    for _ in 0..20 {
        let hold = ask(&engine, &Labels::default(), "1", NOW).unwrap();
        hold.durable().unwrap().await.unwrap();
        holds.push(hold);
    }
    // Those who wait together share a sync.
    let together: Vec<_> = holds.iter().map(|hold| hold.durable().unwrap()).collect();
    for durable in together {
        durable.await.unwrap();
    }
    let process = Config {
        path: dir.path().join("other"),
        ..Config::default()
    };
    let (ledger, _) = Ledger::open(&process, Arc::new(SystemClock)).unwrap();
    let engine = engine_over(json!({"daily": 100}), ledger.journal());
    let hold = ask(&engine, &Labels::default(), "1", NOW).unwrap();
    assert!(hold.durable().is_none(), "nobody waits for that by default");
}

#[test]
fn raises_and_resets_survive_and_have_an_author() {
    let dir = tempfile::tempdir().unwrap();
    let rules = json!({"daily": 1, "max_wait": 0, "rules": [
        {"name": "six", "window": "6h", "limit": {"usd": 1}}]});
    let (ledger, _) = open(dir.path());
    let engine = engine_over(rules.clone(), ledger.journal());
    let nobody = Labels::default();
    let earlier = NOW - Duration::from_hours(5);
    ask(&engine, &nobody, "1", earlier)
        .unwrap()
        .settle(charge("1", 1));
    let two = Raise {
        amount: usd("2").nanos(),
        until: None,
    };
    engine.raise("daily", two, "alice", NOW).unwrap();
    engine.reset("six", "bob", NOW).unwrap();
    ask(&engine, &nobody, "0.75", NOW)
        .unwrap()
        .settle(charge("0.75", 1));
    drop(ledger);

    let (ledger, _) = open(dir.path());
    let engine = engine_over(rules, ledger.journal());
    ask(&engine, &nobody, "0.25", NOW).unwrap().release();
    assert!(ask(&engine, &nobody, "0.26", NOW).is_err());
    let kept = view(dir.path()).standings(NOW).unwrap();
    let budgets = engine.budgets(&[], &kept, NOW);
    let shown: Vec<_> = budgets
        .iter()
        .map(|budget| {
            (
                &*budget.name,
                budget.limit / 10_000_000,
                budget.spent / 10_000_000,
            )
        })
        .collect();
    assert_eq!(shown, [("daily", 300, 175), ("six", 100, 75)]);
    // When the credited hour leaves the window, its credit leaves with it.
    let later = NOW + Duration::from_hours(2);
    assert!(ask(&engine, &nobody, "0.26", later).is_err());
    view(dir.path()).verify().unwrap();
}

#[test]
fn counters_that_left_memory_are_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = open(dir.path());
    let rules = json!({"max_wait": 0, "rules": [
        {"name": "runs", "window": "total", "per": ["session"], "limit": {"usd": 2}}]});
    let engine = engine_over(rules, ledger.journal());
    for session in 0..50 {
        let call = labels(&[(Label::Session, &session.to_string())]);
        ask(&engine, &call, "1.5", NOW)
            .unwrap()
            .settle(charge("1.5", 1));
    }
    let held_call = labels(&[(Label::Session, "held")]);
    let held = ask(&engine, &held_call, "1.5", NOW).unwrap();
    let later = NOW + Duration::from_hours(2);
    let journal = ledger.journal();
    while !journal.caught_up() {
        std::thread::yield_now();
    }
    engine.tidy(later);
    assert_eq!(engine.purse().counts().counters, 1, "a call holds it");
    let call = labels(&[(Label::Session, "7")]);
    assert!(ask(&engine, &call, "1", later).is_err());
    assert_eq!(stands(&engine, "session=7", later).0, usd("1.5").nanos());
    held.settle(charge("1", 1));
    assert_eq!(
        stands(&engine, "session=held", later),
        (usd("1").nanos(), 0)
    );
}
