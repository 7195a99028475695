//! Calls and the edges of windows.

use std::time::Duration;

use serde_json::json;
use tollgate::call::labels::Labels;

use super::*;

const MIDNIGHT: Timestamp = Timestamp::from_secs(1_795_651_200);

#[test]
fn a_call_belongs_to_the_window_in_which_it_was_admitted() {
    let engine = engine(json!({"daily": 10}));
    let nobody = Labels::default();
    let before = MIDNIGHT - Duration::from_nanos(1);
    let mut hold = ask(&engine, &nobody, "4", before).unwrap();
    assert_eq!(stands(&engine, "", MIDNIGHT), (0, 0));
    hold.grow(amounts("1", 0), MIDNIGHT).unwrap();
    assert!(
        hold.grow(amounts("6", 0), MIDNIGHT).is_err(),
        "its own day has 5 left"
    );
    hold.settle(charge("5", 1));
    assert_eq!(stands(&engine, "", MIDNIGHT), (0, 0));
    assert_eq!(stands(&engine, "", before), (5_000_000_000, 0));
}

#[test]
fn a_clock_that_steps_back_finds_the_old_window_as_it_was() {
    let engine = engine(json!({"daily": 10}));
    let nobody = Labels::default();
    ask(&engine, &nobody, "6", NOW)
        .unwrap()
        .settle(charge("6", 1));
    ask(&engine, &nobody, "7", MIDNIGHT)
        .unwrap()
        .settle(charge("7", 1));
    assert!(ask(&engine, &nobody, "5", NOW).is_err());
    assert!(ask(&engine, &nobody, "5", MIDNIGHT).is_err());
    assert_eq!(stands(&engine, "", NOW), (6_000_000_000, 0));
}

#[test]
fn a_growth_is_all_or_none() {
    let engine = engine(
        json!({"daily": 10, "rules": [{"name": "r", "window": "total",
        "limit": {"usd": 3}}]}),
    );
    let nobody = Labels::default();
    let mut hold = ask(&engine, &nobody, "2", NOW).unwrap();
    let refusal = hold.grow(amounts("2", 0), NOW).unwrap_err();
    assert_eq!(
        refusal.by, "budget.r",
        "what it holds itself is not others' in flight"
    );
    assert_eq!(hold.held().usd, Some(usd("2")));
    let other = ask(&engine, &nobody, "0.50", NOW).unwrap();
    let refusal = hold.grow(amounts("1", 0), NOW).unwrap_err();
    assert_eq!(refusal.by, "busy.r");
    other.release();
    hold.grow(amounts("1", 0), NOW).unwrap();
    assert_eq!(hold.held().usd, Some(usd("3")));
    let budgets = engine.budgets(&engine.purse().standings(), &[], NOW);
    assert!(
        budgets
            .iter()
            .all(|budget| budget.reserved == 3_000_000_000)
    );
    hold.settle(charge("3", 1));
}

#[test]
fn idle_counters_leave_memory_only_when_the_ledger_knows_them() {
    let engine = engine(json!({"daily": 10}));
    let nobody = Labels::default();
    ask(&engine, &nobody, "6", NOW)
        .unwrap()
        .settle(charge("6", 1));
    engine.tidy(NOW + Duration::from_hours(2));
    assert_eq!(
        stands(&engine, "", NOW),
        (6_000_000_000, 0),
        "memory alone forgets nothing"
    );
}
