//! What is refused, how, and with which words.

use std::time::Duration;

use serde_json::json;
use tollgate::{
    call::{
        labels::{Label, Labels},
        refusal::{Rate, Reason},
    },
    policy::{Amounts, Config, Engine, Level, Purse, Raise},
};

use super::*;

#[test]
fn a_budget_with_money_held_is_busy_and_one_with_money_spent_is_exhausted() {
    let engine = engine(json!({"daily": 1, "max_wait": "0s"}));
    let nobody = Labels::default();
    let held = ask(&engine, &nobody, "0.60", NOW).unwrap();
    let busy = ask(&engine, &nobody, "0.60", NOW).unwrap_err();
    assert_eq!(busy.refusal().reason, Reason::Busy);
    assert_eq!(busy.refusal().by, "busy.daily");
    assert_eq!(busy.refusal().retry_after, Some(Duration::from_secs(1)));

    held.settle(charge("0.60", 1));
    let exhausted = ask(&engine, &nobody, "0.60", NOW).unwrap_err();
    assert_eq!(exhausted.refusal().reason, Reason::Exhausted);
    assert_eq!(exhausted.refusal().by, "budget.daily");
    let midnight = Timestamp::from_secs(1_795_651_200);
    assert_eq!(exhausted.refusal().resets_at, Some(midnight));
    ask(&engine, &nobody, "0.40", NOW).unwrap().release();
    ask(&engine, &nobody, "0.60", midnight).unwrap().release();
}

#[test]
fn a_refusal_names_the_missing_label_and_amounts_only_if_they_may_be_shown() {
    let nobody = Labels::default();
    let text = |show: bool| {
        let engine = engine(json!({"per_user": 1, "show_amounts": show}));
        let refused = ask(&engine, &nobody, "2", NOW).unwrap_err();
        refused.refusal().message.clone()
    };
    assert!(text(false).contains("x-tollgate-user"), "{}", text(false));
    assert!(text(false).contains("`per_user`"), "{}", text(false));
    assert!(!text(false).contains('$'), "{}", text(false));
    assert!(text(true).contains("$1.00"), "{}", text(true));
}

#[test]
fn calls_without_the_label_share_a_counter_skip_the_rule_or_are_refused() {
    let nobody = Labels::default();
    let with = |missing: &str| engine(json!({"per_user": 1, "missing": missing, "max_wait": 0}));

    let share = with("share");
    let _held = ask(&share, &nobody, "0.60", NOW).unwrap();
    assert!(ask(&share, &nobody, "0.60", NOW).is_err());
    let someone = labels(&[(Label::User, "42")]);
    let _other = ask(&share, &someone, "0.60", NOW).unwrap();

    let skip = with("skip");
    let subject = subject(&nobody);
    assert!(skip.matched(&subject, NOW).unwrap().is_empty());

    let deny = with("deny");
    let refusal = deny.matched(&subject, NOW).unwrap_err();
    assert_eq!(
        (refusal.reason, &*refusal.by),
        (Reason::Denied, "budget.per_user")
    );
    assert!(refusal.message.contains("x-tollgate-user"));
}

#[test]
fn what_cannot_be_metered_is_stopped_by_a_spent_budget_and_what_is_free_by_none() {
    let engine = engine(json!({"daily": 1}));
    let nobody = Labels::default();
    let admit = |amounts| {
        let subject = subject(&nobody);
        let matched = engine.matched(&subject, NOW).unwrap();
        engine.admit(matched, amounts, &subject, NOW)
    };
    let unmetered = Amounts::of(Usd::ZERO, 0);
    admit(unmetered).unwrap().settle(charge("0", 0));
    ask(&engine, &nobody, "1", NOW)
        .unwrap()
        .settle(charge("1", 1));
    let refused = admit(unmetered).unwrap_err();
    assert_eq!(refused.refusal().reason, Reason::Exhausted);
    admit(Amounts::default()).unwrap().settle(charge("0", 0));
}

#[test]
fn labels_of_sources_that_are_not_trusted_do_not_count() {
    let purse = Purse::new(Arc::new(Memory), 10);
    let rules = config(json!({"per_user": 1, "max_wait": 0}));
    let engine = Engine::build(&rules, &[], &[Source::Static], &purse, None).unwrap();
    let _one = ask(&engine, &labels(&[(Label::User, "1")]), "0.6", NOW).unwrap();
    assert!(ask(&engine, &labels(&[(Label::User, "2")]), "0.6", NOW).is_err());
    assert_eq!(stands(&engine, "user=unknown", NOW).1, 600_000_000);
}

#[test]
fn tags_of_sources_that_are_not_trusted_do_not_count_and_match_nothing() {
    let purse = Purse::new(Arc::new(Memory), 10);
    let rules = config(json!({"max_wait": 0, "rules": [
        {"name": "each", "per": ["tags.team"], "window": "day", "limit": {"usd": 1}},
        {"name": "core", "match": {"tags": {"team": "core"}}, "window": "day", "limit": {"usd": 5}},
    ]}));
    let engine = Engine::build(&rules, &[], &[Source::Key], &purse, None).unwrap();
    let tagged = |value: &str, source| {
        let mut labels = Labels::trusting(&[Source::Key]);
        labels.tag("team", value, source);
        labels
    };
    let _one = ask(&engine, &tagged("1", Source::Header), "0.6", NOW).unwrap();
    assert!(ask(&engine, &tagged("2", Source::Path), "0.6", NOW).is_err());
    assert!(ask(&engine, &tagged("core", Source::Header), "0.6", NOW).is_err());
    assert_eq!(stands(&engine, "tags.team=unknown", NOW).1, 600_000_000);
    assert_eq!(stands(&engine, "", NOW).1, 0, "`core` counts nobody yet");
    let _two = ask(&engine, &tagged("core", Source::Key), "0.6", NOW).unwrap();
    assert_eq!(stands(&engine, "tags.team=core", NOW).1, 600_000_000);
    assert_eq!(stands(&engine, "", NOW).1, 600_000_000);
}

#[test]
fn every_named_limit_of_a_rule_must_hold() {
    let engine = engine(
        json!({"max_wait": 0, "rules": [{"name": "r", "window": "hour",
        "limit": {"usd": 100, "tokens": 5_000, "requests": 3}}]}),
    );
    let nobody = Labels::default();
    for _ in 0..3 {
        ask(&engine, &nobody, "1", NOW)
            .unwrap()
            .settle(charge("1", 1_000));
    }
    let refused = ask(&engine, &nobody, "1", NOW).unwrap_err();
    assert_eq!(refused.refusal().reason, Reason::Exhausted);
    let later = NOW + Duration::from_hours(1);
    let _held = ask(&engine, &nobody, "1", later).unwrap();
}

#[test]
fn a_shadow_rule_watches_and_stops_nothing() {
    let engine = engine(json!({"rules": [{"name": "dry-run", "window": "day",
        "limit": {"usd": 1}, "on_exhausted": "shadow"}]}));
    let nobody = Labels::default();
    let hold = ask(&engine, &nobody, "0.5", NOW).unwrap();
    assert_eq!(hold.shadowed().count(), 0);
    hold.settle(charge("0.5", 1));
    let mut hold = ask(&engine, &nobody, "3", NOW).unwrap();
    assert_eq!(hold.shadowed().collect::<Vec<_>>(), ["dry-run"]);
    hold.grow(amounts("3", 0), NOW).unwrap();
    hold.settle(charge("6", 1));
    assert_eq!(stands(&engine, "", NOW), (6_500_000_000, 0));
}

#[test]
fn room_says_what_is_left_and_whether_clamping_may_help() {
    let engine = engine(
        json!({"daily": 10, "rules": [{"name": "exec", "window": "total",
        "limit": {"usd": 1}, "on_exhausted": "clamp"}]}),
    );
    let nobody = Labels::default();
    let subject = subject(&nobody);
    let mut matched = engine.matched(&subject, NOW).unwrap();
    assert!(matched.counts_usd());
    let room = engine.room(&mut matched, amounts("3", 9), NOW).unwrap();
    assert!(!room.fits && room.may_clamp);
    assert_eq!(room.left.usd, Some(usd("1")));
    assert_eq!(room.left.tokens, None);
    let room = engine.room(&mut matched, amounts("30", 9), NOW).unwrap();
    assert!(!room.may_clamp, "daily only blocks");
    let room = engine.room(&mut matched, amounts("1", 9), NOW).unwrap();
    assert!(room.fits);
    let hold = engine
        .admit(matched, amounts("1", 9), &subject, NOW)
        .unwrap();
    assert_eq!(hold.left(NOW).usd, Some(Usd::ZERO));
    hold.release();
}

#[test]
fn each_threshold_is_reported_once_a_window() {
    let engine = engine(json!({"daily": 10}));
    let nobody = Labels::default();
    let spend = |dollars: &str, now| {
        let hold = ask(&engine, &nobody, dollars, now).unwrap();
        let crossings = hold.settle(charge(dollars, 1));
        crossings
            .iter()
            .map(|crossing| crossing.level)
            .collect::<Vec<_>>()
    };
    assert_eq!(spend("7", NOW), []);
    assert_eq!(spend("0.5", NOW), [Level::Warning]);
    assert_eq!(spend("0.5", NOW), []);
    assert_eq!(spend("2", NOW), [Level::Cutoff]);
    let tomorrow = NOW + Duration::from_hours(24);
    assert_eq!(spend("9", tomorrow), [Level::Critical]);
}

#[test]
fn a_threshold_is_reported_anew_after_a_reset_or_under_another_limit_and_not_otherwise() {
    let rules = |limit: i64| {
        json!({"max_wait": 0, "rules": [{"name": "r", "window": "day", "limit": {"usd": limit}},
        {"name": "rolling", "window": "6h", "limit": {"usd": limit}}]})
    };
    let first = engine(rules(10));
    let nobody = Labels::default();
    let spend = |engine: &Engine, dollars: &str| {
        let hold = ask(engine, &nobody, dollars, NOW).unwrap();
        let crossings = hold.settle(charge(dollars, 1));
        crossings
            .iter()
            .map(|crossing| (&*crossing.rule == "r", crossing.level))
            .collect::<Vec<_>>()
    };
    let both = |level| vec![(true, level), (false, level)];
    let raise = |engine: &Engine, amount: i64, until| {
        for name in ["r", "rolling"] {
            let amount = amount * 1_000_000_000;
            engine
                .raise(name, Raise { amount, until }, "ada", NOW)
                .unwrap();
        }
    };
    assert_eq!(spend(&first, "8"), both(Level::Warning));
    for name in ["r", "rolling"] {
        first.reset(name, "ada", NOW).unwrap();
    }
    assert_eq!(spend(&first, "7"), []);
    assert_eq!(spend(&first, "0.5"), both(Level::Warning));
    assert_eq!(spend(&first, "1.5"), both(Level::Critical));
    // Still above three quarters of it.
    raise(&first, 1, None);
    assert_eq!(spend(&first, "0.1"), []);
    assert_eq!(spend(&first, "0.8"), both(Level::Critical));
    raise(&first, 9, None);
    assert_eq!(spend(&first, "0.1"), []);
    assert_eq!(spend(&first, "5"), both(Level::Warning));
    let edited = |limit| {
        let config = config(rules(limit));
        Engine::build(&config, &[], &[], first.purse(), Some(&first)).unwrap()
    };
    assert_eq!(spend(&edited(10), "0.1"), [], "it is as it was");
    let wider = edited(30);
    assert_eq!(spend(&wider, "0.1"), []);
    assert_eq!(spend(&wider, "15"), both(Level::Warning));
}

#[test]
fn a_call_that_was_never_sent_leaves_a_crossing_to_others() {
    let engine = engine(json!({"daily": 10}));
    let nobody = Labels::default();
    drop(ask(&engine, &nobody, "8", NOW).unwrap());
    ask(&engine, &nobody, "1", NOW).unwrap().release();
    let hold = ask(&engine, &nobody, "0.1", NOW).unwrap();
    let crossings = hold.settle(charge("0.1", 1));
    assert_eq!(crossings.len(), 1);
    assert_eq!(crossings[0].level, Level::Warning);
    assert_eq!(crossings[0].limit, 10_000_000_000);
}

#[test]
fn a_crossing_that_a_dropped_call_made_is_reported_by_the_next_one() {
    let engine = engine(json!({"daily": 10}));
    let nobody = Labels::default();
    drop(ask(&engine, &nobody, "8", NOW).unwrap());
    assert_eq!(engine.purse().counts().unsettled, 1);
    assert_eq!(stands(&engine, "", NOW), (8_000_000_000, 0));
    let hold = ask(&engine, &nobody, "0.1", NOW).unwrap();
    assert_eq!(hold.settle(charge("0.1", 1)).len(), 1);
}

#[test]
fn a_cutoff_below_one_lowers_the_limit() {
    let engine = engine(json!({"daily": 10, "thresholds": {"cutoff": 0.5, "warning": 0.1}}));
    let nobody = Labels::default();
    assert!(ask(&engine, &nobody, "5.01", NOW).is_err());
    let _held = ask(&engine, &nobody, "5", NOW).unwrap();
}

#[test]
fn what_settles_above_its_reservation_is_charged_in_full_and_counted() {
    let engine = engine(json!({"daily": 1}));
    let nobody = Labels::default();
    let hold = ask(&engine, &nobody, "0.5", NOW).unwrap();
    hold.settle(charge("1.5", 1));
    assert_eq!(stands(&engine, "", NOW), (1_500_000_000, 0));
    let counts = engine.purse().counts();
    assert_eq!((counts.overruns, counts.overrun_nanos), (1, 1_000_000_000));
}

#[test]
fn rate_limits_refuse_for_as_long_as_they_need_to_clear() {
    let limits = json!([{"name": "r", "requests_per_minute": 2, "tokens_per_minute": 5_000}]);
    let engine = limited(limits);
    let nobody = Labels::default();
    ask(&engine, &nobody, "0", NOW)
        .unwrap()
        .settle(charge("0", 4_500));
    let refused = ask(&engine, &nobody, "0", NOW + Duration::from_secs(10)).unwrap_err();
    assert_eq!(
        (refused.refusal().reason, &*refused.refusal().by),
        (Reason::Rate, "rate.r")
    );
    assert_eq!(refused.refusal().retry_after, Some(Duration::from_secs(50)));
    let rate = |unit, limit, remaining| {
        Some(Rate {
            unit,
            limit,
            remaining,
        })
    };
    assert_eq!(refused.refusal().rate, rate("tokens", 5_000, 500));
    let later = NOW + Duration::from_mins(1);
    ask(&engine, &nobody, "0", later)
        .unwrap()
        .settle(charge("0", 1));
    let later = NOW + Duration::from_secs(61);
    ask(&engine, &nobody, "0", later)
        .unwrap()
        .settle(charge("0", 1));
    let refused = ask(&engine, &nobody, "0", later).unwrap_err();
    assert!(
        refused.refusal().message.contains("requests"),
        "{refused:?}"
    );
    assert_eq!(refused.refusal().rate, rate("requests", 2, 0));
    let wait = refused.refusal().retry_after.unwrap();
    assert!(
        wait > Duration::ZERO && wait <= Duration::from_secs(30),
        "{wait:?}"
    );
    // What the spacing refused was given back: tokens for one call more are there.
    let subject = subject(&nobody);
    let mut matched = engine.matched(&subject, later).unwrap();
    let room = engine
        .room(&mut matched, amounts("0", 4_998), later)
        .unwrap();
    assert!(room.fits);
}

#[test]
fn a_call_of_more_tokens_than_a_rate_limit_has_is_denied_for_good() {
    let engine = limited(json!([{"name": "r", "tokens_per_minute": 500}]));
    let refused = ask(&engine, &Labels::default(), "0", NOW).unwrap_err();
    assert_eq!(refused.refusal().reason, Reason::Denied);
    assert_eq!(refused.refusal().rate, None);
}

#[test]
fn concurrency_counts_calls_in_flight() {
    let engine = limited(json!([{"name": "c", "per": ["agent"], "concurrent": 2}]));
    let agent = labels(&[(Label::Agent, "a")]);
    let one = ask(&engine, &agent, "0", NOW).unwrap();
    let _two = ask(&engine, &agent, "0", NOW).unwrap();
    let refused = ask(&engine, &agent, "0", NOW).unwrap_err();
    assert_eq!(
        (refused.refusal().reason, &*refused.refusal().by),
        (Reason::Rate, "rate.c")
    );
    let rate = refused.refusal().rate.unwrap();
    assert_eq!(
        (rate.unit, rate.limit, rate.remaining),
        ("concurrent", 2, 0)
    );
    drop(one);
    let _three = ask(&engine, &agent, "0", NOW).unwrap();
}

#[test]
fn a_rule_without_a_limit_or_with_another_s_name_is_an_error() {
    let purse = Purse::new(Arc::new(Memory), 10);
    let build = |rules| Engine::build(&config(rules), &[], &[], &purse, None);
    let empty = build(json!({"rules": [{"name": "r", "window": "day", "limit": {}}]}));
    assert!(empty.unwrap_err().to_string().contains("no limit"));
    let twice = build(json!({"daily": 1, "rules": [
        {"name": "daily", "window": "hour", "limit": {"usd": 1}}]}));
    assert!(twice.unwrap_err().to_string().contains("two rules"));
    assert!(
        !Engine::build(&Config::default(), &[], &[], &purse, None)
            .unwrap()
            .has_budgets()
    );
}

#[test]
fn a_refused_call_eats_no_money_tokens_concurrency_or_requests() {
    let purse = Purse::new(Arc::new(Memory), 1_000);
    let budgets = config(json!({"max_wait": 0, "rules": [
        {"name": "all", "window": "total", "limit": {"usd": 100, "tokens": 100_000, "requests": 50}},
        {"name": "mine", "per": ["agent"], "window": "total", "limit": {"usd": 50}}]}));
    let limits = rates(json!([
        {"name": "wide", "requests_per_minute": 5, "tokens_per_minute": 50_000, "concurrent": 9},
        {"name": "narrow", "per": ["user"], "requests_per_minute": 1},
        {"name": "team", "per": ["project"], "requests_per_minute": 3}]));
    let engine = Engine::build(&budgets, &limits, &[], &purse, None).unwrap();
    let user = |user| {
        labels(&[
            (Label::User, user),
            (Label::Project, "p"),
            (Label::Agent, "a"),
        ])
    };
    let (one, two) = (user("1"), user("2"));
    let standings = || {
        let mut standings = engine.purse().standings(NOW);
        standings.sort_by(|a, b| a.counter.cmp(&b.counter));
        standings
    };

    ask(&engine, &one, "1", NOW)
        .unwrap()
        .settle(charge("1", 1_000));
    let before = standings();
    for _ in 0..40 {
        // `wide` grants it, `narrow` does not: neither may count it.
        let refused = ask(&engine, &one, "1", NOW).unwrap_err();
        assert_eq!(refused.refusal().by, "rate.narrow");
        // Money is asked first.
        let refused = ask(&engine, &two, "50", NOW).unwrap_err();
        assert_eq!(refused.refusal().by, "budget.mine");
        // Of a call of which no byte was sent nothing is left either.
        ask(&engine, &two, "1", NOW).unwrap().release();
    }
    assert_eq!(standings(), before);
    // All that the refused ones did not eat is there: two more of the project's three requests.
    let held = ask(&engine, &two, "1", NOW).unwrap();
    let last = ask(&engine, &user("3"), "1", NOW).unwrap();
    let refused = ask(&engine, &user("4"), "1", NOW).unwrap_err();
    assert_eq!(refused.refusal().by, "rate.team");
    let others = |user| labels(&[(Label::User, user), (Label::Agent, "b")]);
    let calls: Vec<_> = ["5", "6"]
        .map(|user| ask(&engine, &others(user), "1", NOW).unwrap())
        .into();
    let refused = ask(&engine, &others("7"), "1", NOW).unwrap_err();
    assert_eq!(refused.refusal().by, "rate.wide");
    for hold in calls.into_iter().chain([held, last]) {
        hold.settle(charge("1", 1_000));
    }
}
