//! What an edit of the rules keeps.

use serde_json::json;
use tollgate::{call::labels::Labels, policy::Raise};

use super::*;

fn raise(dollars: &str, until: Option<Timestamp>) -> Raise {
    Raise {
        amount: usd(dollars).nanos(),
        until,
    }
}

#[test]
fn editing_limit_or_match_keeps_what_was_spent_and_editing_the_rest_starts_afresh() {
    let purse = Purse::new(Arc::new(Memory), 100);
    let build = |rule: serde_json::Value, zone: &str, before: Option<&Engine>| {
        let rules = config(json!({"rules": [rule], "timezone": zone, "max_wait": 0}));
        Engine::build(&rules, &[], &[], &purse, before).unwrap()
    };
    let nobody = Labels::default();
    let rule = |limit: u32| json!({"name": "r", "window": "day", "limit": {"usd": limit}});
    let before = build(rule(10), "UTC", None);
    let hold = ask(&before, &nobody, "4", NOW).unwrap();

    let mut edited = rule(5);
    edited["match"] = json!({"model": "gpt-*"});
    let after = build(edited, "UTC", Some(&before));
    assert_eq!(after.afresh(&before).count(), 0);
    assert!(ask(&after, &nobody, "2", NOW).is_err(), "4 of 5 are held");
    hold.settle(charge("4", 1));
    assert_eq!(stands(&after, "", NOW), (4_000_000_000, 0));
    assert!(ask(&after, &nobody, "2", NOW).is_err());

    for (edited, zone) in [
        (
            json!({"name": "r", "window": "hour", "limit": {"usd": 5}}),
            "UTC",
        ),
        (
            json!({"name": "r", "window": "day", "per": ["user"], "limit": {"usd": 5}}),
            "UTC",
        ),
        (rule(5), "Europe/Berlin"),
    ] {
        let afresh = build(edited, zone, Some(&after));
        assert_eq!(afresh.afresh(&after).collect::<Vec<_>>(), ["r"]);
        ask(&afresh, &nobody, "5", NOW).unwrap().release();
    }
}

#[test]
fn a_request_rate_goes_on_over_an_edit_that_leaves_it_alone() {
    let purse = Purse::new(Arc::new(Memory), 100);
    let build = |rate: u32, tokens: u32, before: Option<&Engine>| {
        let limits =
            json!([{"name": "r", "requests_per_minute": rate, "tokens_per_minute": tokens}]);
        let budgets = config(json!({}));
        Engine::build(&budgets, &rates(limits), &[], &purse, before).unwrap()
    };
    let nobody = Labels::default();
    let before = build(1, 10_000, None);
    ask(&before, &nobody, "0", NOW)
        .unwrap()
        .settle(charge("0", 0));
    let same = build(1, 20_000, Some(&before));
    assert!(ask(&same, &nobody, "0", NOW).is_err());
    let other = build(2, 20_000, Some(&same));
    ask(&other, &nobody, "0", NOW).unwrap().release();
}

#[test]
fn raises_and_resets_change_the_present_window_only() {
    let engine = engine(json!({"daily": 1, "per_user": 1, "max_wait": 0}));
    let nobody = labels(&[(Label::User, "42")]);
    ask(&engine, &nobody, "1", NOW)
        .unwrap()
        .settle(charge("1", 1));
    let error = engine
        .raise("dayly", raise("1", None), "me", NOW)
        .unwrap_err();
    assert!(error.to_string().contains("daily, per_user"), "{error}");
    let error = engine
        .raise("per_user", raise("1", None), "me", NOW)
        .unwrap_err();
    assert!(error.to_string().contains("per_user/user=VALUE"), "{error}");

    let soon = NOW + std::time::Duration::from_mins(1);
    engine
        .raise("daily", raise("1", Some(soon)), "me", NOW)
        .unwrap();
    engine
        .raise("per_user/user=42", raise("1", None), "me", NOW)
        .unwrap();
    ask(&engine, &nobody, "1", NOW).unwrap().release();
    assert!(
        ask(&engine, &nobody, "1", soon).is_err(),
        "the raise has ended"
    );
    engine.reset("daily", "me", soon).unwrap();
    ask(&engine, &nobody, "1", soon)
        .unwrap()
        .settle(charge("1", 1));
    assert!(ask(&engine, &nobody, "0.1", soon).is_err());
    let budgets = engine.budgets(&engine.purse().standings(soon), &[], soon);
    let shown: Vec<_> = budgets
        .iter()
        .map(|budget| {
            (
                &*budget.name,
                &*budget.values,
                budget.limit,
                budget.remaining,
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("daily", "", 1_000_000_000, 0),
            ("per_user", "user=42", 2_000_000_000, 0)
        ]
    );
}

#[test]
fn a_raise_to_more_than_can_be_counted_is_refused() {
    let engine = engine(json!({"daily": 5_000_000_000_u64}));
    let error = engine
        .raise("daily", raise("5000000000", None), "me", NOW)
        .unwrap_err();
    assert!(error.to_string().contains("can be counted"), "{error}");
    engine
        .raise("daily", raise("4000000000", None), "me", NOW)
        .unwrap();
    engine
        .raise("daily", raise("4000000000", None), "me", NOW)
        .unwrap_err();
    let budgets = engine.budgets(&engine.purse().standings(NOW), &[], NOW);
    assert_eq!(budgets[0].limit, usd("9000000000").nanos());
}

#[test]
fn a_call_that_came_before_an_edit_is_judged_by_the_limit_that_holds_now() {
    let purse = Purse::new(Arc::new(Memory), 100);
    let build = |limit: u32, before: Option<&Engine>| {
        let rules = config(json!({"max_wait": 0, "rules": [
            {"name": "r", "window": "day", "limit": {"usd": limit}}]}));
        Engine::build(&rules, &[], &[], &purse, before).unwrap()
    };
    let nobody = Labels::default();
    let before = build(10, None);
    ask(&before, &nobody, "9.5", NOW)
        .unwrap()
        .settle(charge("9.5", 1));
    let raised = build(20, Some(&before));
    ask(&raised, &nobody, "1", NOW).unwrap().release();
    // As one that waited meanwhile does.
    ask(&before, &nobody, "5", NOW).unwrap().release();
    let lowered = build(10, Some(&raised));
    assert!(ask(&lowered, &nobody, "1", NOW).is_err());
    assert!(ask(&raised, &nobody, "1", NOW).is_err());
}
