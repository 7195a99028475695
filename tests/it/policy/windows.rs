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
    let budgets = engine.budgets(&engine.purse().standings(NOW), &[], NOW);
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

#[test]
fn a_day_ends_at_its_zone_s_midnight_also_when_the_clocks_are_turned() {
    // The last instant of a day, in three zones, and over both changes of clocks.
    for (zone, midnight) in [
        ("Asia/Kolkata", "2026-11-25T18:30:00Z"),
        ("America/New_York", "2026-11-26T05:00:00Z"),
        ("Pacific/Auckland", "2026-11-25T11:00:00Z"),
        ("Europe/Berlin", "2026-03-28T23:00:00Z"),
        ("Europe/Berlin", "2026-03-29T22:00:00Z"),
        ("Europe/Berlin", "2026-10-24T22:00:00Z"),
        ("Europe/Berlin", "2026-10-25T23:00:00Z"),
    ] {
        let midnight: jiff::Timestamp = midnight.parse().unwrap();
        let midnight = Timestamp::from_secs(midnight.as_second().unsigned_abs());
        let engine = engine(json!({"daily": 1, "timezone": zone, "max_wait": 0}));
        let nobody = Labels::default();
        let before = midnight - Duration::from_nanos(1);
        let spend = |now| ask(&engine, &nobody, "1", now).map(|hold| hold.settle(charge("1", 1)));
        assert!(spend(before).is_ok(), "{zone} before {midnight}");
        assert!(spend(before).is_err(), "{zone} before {midnight}");
        assert!(spend(midnight).is_ok(), "{zone} at {midnight}");
        assert!(
            spend(midnight + Duration::from_hours(22)).is_err(),
            "{zone}"
        );
    }
}

#[test]
fn what_has_left_a_rolling_window_is_not_shown_though_nobody_calls() {
    let engine = engine(json!({"rules": [{"name": "r", "window": "1h", "limit": {"usd": 10}}]}));
    let nobody = Labels::default();
    ask(&engine, &nobody, "6", NOW)
        .unwrap()
        .settle(charge("6", 1));
    assert_eq!(
        stands(&engine, "", NOW + Duration::from_mins(58)).0,
        6_000_000_000
    );
    assert_eq!(stands(&engine, "", NOW + Duration::from_hours(1)), (0, 0));
}

#[test]
fn every_window_ends_where_its_calendar_says() {
    // In Berlin the clocks were put back on 25 October, so that its hour from two came twice.
    for (window, last) in [
        ("minute", "2026-10-25T00:59:59.999999999Z"),
        ("hour", "2026-10-25T00:59:59.999999999Z"),
        ("hour", "2026-10-25T01:59:59.999999999Z"),
        ("day", "2026-10-25T22:59:59.999999999Z"),
        ("week", "2026-10-25T22:59:59.999999999Z"),
        ("month", "2026-10-31T22:59:59.999999999Z"),
    ] {
        let last: jiff::Timestamp = last.parse().unwrap();
        let last = u64::try_from(last.as_nanosecond()).unwrap();
        let (last, first) = (Timestamp::from_nanos(last), Timestamp::from_nanos(last + 1));
        let engine = engine(
            json!({"timezone": "Europe/Berlin", "max_wait": 0, "rules": [
            {"name": "w", "window": window, "limit": {"usd": 1}},
            {"name": "all", "window": "total", "limit": {"usd": 2}}]}),
        );
        let nobody = Labels::default();
        let spend = |now| ask(&engine, &nobody, "1", now).map(|hold| hold.settle(charge("1", 1)));
        assert!(spend(last).is_ok(), "{window}");
        let refused = spend(last).unwrap_err();
        assert_eq!(refused.refusal().resets_at, Some(first), "{window}");
        assert!(spend(first).is_ok(), "{window}");
        let refused = spend(first + Duration::from_hours(24 * 62)).unwrap_err();
        assert_eq!(refused.refusal().by, "budget.all", "{window}");
    }
}
