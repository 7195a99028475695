//! Rate limits: what is waited for, in order; what refusals cost; how a limit is told to stand.

use std::time::Duration;

use serde_json::json;
use tollgate::{
    call::{
        labels::Labels,
        refusal::{Rate, Reason},
    },
    policy::Matched,
};

use super::*;

fn after(seconds: u64) -> Timestamp {
    NOW + Duration::from_secs(seconds)
}

/// Asks for so many tokens and a dollar.
fn call(engine: &Engine, tokens: u64, now: Timestamp) -> Result<Hold, Box<Refused>> {
    let nobody = Labels::default();
    let subject = subject(&nobody);
    let matched = engine.matched(&subject, now).unwrap();
    engine.admit(matched, amounts("1", tokens), &subject, now)
}

/// One that was refused asks again.
fn again(
    engine: &Engine,
    refused: Box<Refused>,
    tokens: u64,
    now: Timestamp,
) -> Result<Hold, Box<Refused>> {
    let nobody = Labels::default();
    let matched: Matched = refused.again().unwrap();
    engine.admit(matched, amounts("1", tokens), &subject(&nobody), now)
}

/// In how many seconds it is to ask again by itself (0: only when it is woken), if it may wait at all.
fn waits(refused: &mut Refused) -> Option<u64> {
    let again = refused.wait()?.again;
    Some(again.map_or(0, |again| again.as_secs()))
}

#[test]
fn tokens_a_minute_are_waited_for_in_order() {
    let engine = limited(json!([{"name": "r", "tokens_per_minute": 100, "max_wait": "2m"}]));
    call(&engine, 90, NOW).unwrap().settle(charge("1", 90));
    let mut second = call(&engine, 20, after(10)).unwrap_err();
    assert_eq!(waits(&mut second), Some(50));
    // There would be room for this one, but another waits in front.
    let mut third = call(&engine, 5, after(11)).unwrap_err();
    assert_eq!(waits(&mut third), Some(0));
    let mut third = again(&engine, third, 5, after(12)).unwrap_err();
    assert_eq!(waits(&mut third), Some(0));
    let second = again(&engine, second, 20, after(60)).unwrap();
    let third = again(&engine, third, 5, after(60)).unwrap();
    assert_eq!(engine.purse().counts().waiting, 0);
    second.release();
    third.release();
}

#[test]
fn nobody_waits_longer_than_the_rule_lets_or_for_what_never_fits() {
    let with = |max_wait: &str| {
        let engine =
            limited(json!([{"name": "r", "tokens_per_minute": 100, "max_wait": max_wait}]));
        call(&engine, 90, NOW).unwrap().settle(charge("1", 90));
        engine
    };
    let engine = with("30s");
    let mut refused = call(&engine, 20, after(10)).unwrap_err();
    assert_eq!(waits(&mut refused), None);
    assert_eq!(refused.refusal().retry_after, Some(Duration::from_secs(50)));
    let mut refused = call(&with("2m"), 101, after(10)).unwrap_err();
    assert_eq!(waits(&mut refused), None);
    assert_eq!(refused.refusal().reason, Reason::Denied);
    assert_eq!(engine.purse().counts().waiting, 0);
}

#[test]
fn requests_a_minute_are_waited_for_in_order() {
    let engine = limited(json!([{"name": "r", "requests_per_minute": 60, "max_wait": "5s"}]));
    for _ in 0..60 {
        call(&engine, 1, NOW).unwrap().settle(charge("1", 1));
    }
    let second = Some(1);
    let mut one = call(&engine, 1, NOW).unwrap_err();
    assert_eq!(waits(&mut one), second);
    assert_eq!(one.refusal().by, "rate.r");
    let mut two = call(&engine, 1, NOW).unwrap_err();
    assert_eq!(waits(&mut two), Some(0), "another waits in front");
    // There is a request to take, and it is not for a newcomer.
    let newcomer = call(&engine, 1, after(1)).unwrap_err();
    drop(newcomer);
    let one = again(&engine, one, 1, after(1)).unwrap();
    two = again(&engine, two, 1, after(1)).unwrap_err();
    assert_eq!(waits(&mut two), second, "now it is the first");
    let two = again(&engine, two, 1, after(2)).unwrap();
    one.release();
    two.release();
    assert_eq!(engine.purse().counts().waiting, 0);
}

#[test]
fn one_who_comes_too_fast_does_not_wake_itself() {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };
    let engine = limited(json!([{"name": "r", "requests_per_minute": 1, "max_wait": "1m"}]));
    call(&engine, 1, NOW).unwrap().settle(charge("1", 1));
    let mut waiting = call(&engine, 1, NOW).unwrap_err();
    for seconds in 1..5 {
        let place = waiting.wait().unwrap().place;
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(place).poll(&mut context).is_pending());
        waiting = again(&engine, waiting, 1, after(seconds)).unwrap_err();
    }
}

#[test]
fn what_is_refused_eats_no_money_no_tokens_no_requests_and_no_place() {
    for (name, rate, reason) in [
        ("places", json!({"concurrent": 1}), Reason::Rate),
        ("tokens", json!({"tokens_per_minute": 1_500}), Reason::Rate),
        ("requests", json!({"requests_per_minute": 1}), Reason::Rate),
        ("money", json!({}), Reason::Busy),
    ] {
        let mut all = vec![
            json!({"name": "wide", "concurrent": 2, "tokens_per_minute": 2_000,
            "requests_per_minute": 2}),
        ];
        let mut rate = rate;
        if name != "money" {
            rate["name"] = json!(name);
            all.push(rate);
        }
        let limit = if name == "money" { 1 } else { 2 };
        let purse = Purse::new(Arc::new(Memory), 100);
        let engine = |rates: serde_json::Value, limit: i64, before: Option<&Engine>| {
            let budgets = config(json!({"daily": limit, "max_wait": 0}));
            Engine::build(&budgets, &super::rates(rates), &[], &purse, before).unwrap()
        };
        let strict = engine(json!(all), limit, None);
        let first = call(&strict, 1_000, NOW).unwrap();
        for _ in 0..5 {
            let refused = call(&strict, 1_000, NOW).unwrap_err();
            assert_eq!(refused.refusal().reason, reason, "{name}");
        }
        assert_eq!(stands(&strict, "", NOW), (0, 1_000_000_000), "{name}");
        // Without the rule that refused there is room for one more, and for one only.
        let wide = engine(json!([all.remove(0)]), 2, Some(&strict));
        let second = call(&wide, 1_000, NOW);
        assert!(second.is_ok(), "{name}");
        assert!(call(&wide, 1_000, NOW).is_err(), "{name}");
        first.settle(charge("1", 1_000));
    }
}

#[test]
fn a_call_that_passes_is_told_the_least_that_is_left_of_each_unit() {
    let engine = limited(json!([
        {"name": "a", "requests_per_minute": 60, "tokens_per_minute": 5_000, "max_wait": "1s"},
        {"name": "b", "requests_per_minute": 30, "input_tokens_per_minute": 9_000},
    ]));
    call(&engine, 1_000, NOW).unwrap().settle(charge("1", 400));
    let hold = call(&engine, 1_000, NOW).unwrap();
    let rate = |unit, limit, remaining| Rate {
        unit,
        limit,
        remaining,
    };
    let told = hold.standing_rates();
    let rates: Vec<Rate> = told.iter().map(|(rate, _)| *rate).collect();
    assert_eq!(
        rates,
        [
            rate("input-tokens", 9_000, 7_600),
            rate("requests", 30, 28),
            rate("tokens", 5_000, 3_600),
        ]
    );
    assert_eq!(told[1].1, Duration::from_secs(4), "two at two seconds each");
    assert!(hold.rates().iter().all(|text| !text.contains("9,223")));
    hold.release();
}

#[test]
fn a_rate_of_nothing_is_refused_when_it_is_put_in_force() {
    let purse = Purse::new(Arc::new(Memory), 10);
    let none = rates(json!([{"name": "r", "requests_per_minute": 0, "concurrent": 1}]));
    let error = Engine::build(&Config::default(), &none, &[], &purse, None).unwrap_err();
    assert!(error.to_string().contains("lets no request pass"));
}
