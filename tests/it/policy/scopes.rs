//! What a rule counts: by whom, to what, from where, and which tokens.

use serde_json::{Value, json};
use tollgate::{
    call::{labels::Labels, refusal::Reason, workload::Workload},
    policy::{Classes, Matched},
};

use super::*;

/// A call by which everything is said that a rule can count per.
fn called<'a>(labels: &'a Labels, workload: &'a Workload) -> Subject<'a> {
    Subject {
        key: Some("ci"),
        route: "responses",
        workload: Some(workload),
        ..subject(labels)
    }
}

fn workload() -> Workload {
    Workload {
        pod: Some("agents-0".into()),
        namespace: Some("research".into()),
        service_account: Some("runner".into()),
        ..Workload::default()
    }
}

fn tagged() -> Labels {
    let mut labels = Labels::default();
    labels.tag("team", "core", Source::Header);
    labels
}

#[test]
fn a_rule_matches_and_counts_per_key_route_place_and_tag() {
    let (labels, workload) = (tagged(), workload());
    let call = called(&labels, &workload);
    for (matches, other, per, values) in [
        (
            json!({"key": "c*"}),
            json!({"key": "sha256:*"}),
            "key",
            "key=ci",
        ),
        (
            json!({"route": ["chat", "responses"]}),
            json!({"route": "embeddings"}),
            "route",
            "route=responses",
        ),
        (
            json!({"pod": "agents-*"}),
            json!({"pod": "web-*"}),
            "pod",
            "pod=agents-0",
        ),
        (
            json!({"namespace": "research"}),
            json!({"namespace": "prod"}),
            "namespace",
            "namespace=research",
        ),
        (
            json!({"service_account": "runner"}),
            json!({"service_account": "default"}),
            "service_account",
            "service_account=runner",
        ),
        (
            json!({"tags": {"team": "core"}}),
            json!({"tags": {"team": "web"}}),
            "tags.team",
            "tags.team=core",
        ),
    ] {
        let with = |matches: &Value| {
            engine(
                json!({"rules": [{"name": "r", "match": matches, "per": [per],
                "window": "day", "limit": {"usd": 1}}]}),
            )
        };
        let other = with(&other);
        assert!(other.matched(&call, NOW).unwrap().is_empty(), "{per}");
        let engine = with(&matches);
        let matched: Matched = engine.matched(&call, NOW).unwrap();
        let hold = engine
            .admit(matched, amounts("0.5", 1), &call, NOW)
            .unwrap();
        assert_eq!(stands(&engine, values, NOW), (0, 500_000_000), "{per}");
        hold.settle(charge("0.5", 1));
        // Raised by the name that listings show.
        let raise = tollgate::policy::Raise {
            amount: 1,
            until: None,
        };
        engine
            .raise(&format!("r/{values}"), raise, "test", NOW)
            .unwrap();
    }
}

#[test]
fn a_refusal_says_how_to_name_what_is_missing() {
    let nobody = Labels::default();
    let bare = subject(&nobody);
    for (per, says) in [
        ("key", "API key"),
        ("pod", "identity.pod"),
        ("tags.team", "x-tollgate-tags: team="),
        ("workflow", "x-tollgate-workflow"),
    ] {
        let engine = engine(
            json!({"missing": "deny", "rules": [{"name": "r", "per": [per],
            "window": "day", "limit": {"usd": 1}}]}),
        );
        let refusal = engine.matched(&bare, NOW).unwrap_err();
        assert_eq!(refusal.reason, Reason::Denied);
        assert!(refusal.message.contains(says), "{}", refusal.message);
    }
}

/// Holds `input` and `output` tokens, if they fit.
fn ask_tokens(engine: &Engine, input: u64, output: u64) -> Option<Hold> {
    let nobody = Labels::default();
    let subject = subject(&nobody);
    let matched = engine.matched(&subject, NOW).unwrap();
    let amounts = Amounts {
        usd: None,
        tokens: Some(input + output),
        input: Some(input),
        output: Some(output),
    };
    engine.admit(matched, amounts, &subject, NOW).ok()
}

fn bill(input: u64, output: u64) -> Charge {
    Charge::of(None, input, output, UsageSource::Reported)
}

#[test]
fn input_and_output_tokens_are_counted_each_by_itself() {
    let budget = engine(
        json!({"max_wait": 0, "rules": [{"name": "r", "window": "day",
        "limit": {"input_tokens": 100, "output_tokens": 10}}]}),
    );
    let rate = limited(json!([{"name": "r", "input_tokens_per_minute": 100,
        "output_tokens_per_minute": 10}]));
    for engine in [budget, rate] {
        assert!(ask_tokens(&engine, 101, 1).is_none());
        assert!(ask_tokens(&engine, 1, 11).is_none());
        let first = ask_tokens(&engine, 60, 10).unwrap();
        assert!(ask_tokens(&engine, 1, 1).is_none(), "the output is held");
        // The bill is less output and more input than was thought.
        first.settle(bill(90, 2));
        assert!(ask_tokens(&engine, 11, 1).is_none());
        assert!(ask_tokens(&engine, 1, 9).is_none());
        ask_tokens(&engine, 10, 8).unwrap().release();
    }
}

#[test]
fn classes_that_do_not_count_are_given_back_when_the_bill_tells_of_them() {
    let bill = Charge {
        classes: Classes {
            cache_read: 40,
            cache_write: 10,
            reasoning: 20,
        },
        ..bill(80, 30)
    };
    for (count, tokens, input, output) in [
        (json!({}), 110, 80, 30),
        (json!({"cache_read": false}), 70, 40, 30),
        (
            json!({"cache_read": false, "cache_write": false}),
            60,
            30,
            30,
        ),
        (json!({"reasoning": false}), 90, 80, 10),
    ] {
        let engine = engine(
            json!({"max_wait": 0, "rules": [{"name": "r", "window": "day",
            "limit": {"tokens": 200, "input_tokens": 200, "output_tokens": 200},
            "count": count}]}),
        );
        ask_tokens(&engine, 100, 100).unwrap().settle(bill);
        let budgets = engine.budgets(&engine.purse().standings(NOW), &[], NOW);
        let spent: Vec<i64> = budgets.iter().map(|budget| budget.spent).collect();
        assert_eq!(spent, [tokens, input, output], "{count}");
    }
}

#[test]
fn what_a_rate_thought_is_corrected_in_the_minute_that_admitted_it_and_in_no_other() {
    let engine = limited(json!([{"name": "r", "tokens_per_minute": 100}]));
    let nobody = Labels::default();
    let call = |tokens: u64, now: Timestamp| {
        let subject = subject(&nobody);
        let matched = engine.matched(&subject, now).unwrap();
        engine
            .admit(matched, Amounts::of_tokens(tokens), &subject, now)
            .ok()
    };
    let after = |seconds| NOW + std::time::Duration::from_secs(seconds);
    let first = call(90, NOW).unwrap();
    assert!(call(20, after(1)).is_none());
    first.settle(bill(30, 0));
    let second = call(20, after(1)).unwrap();
    // It took more than was thought: others find less.
    second.settle(bill(60, 0));
    assert!(call(11, after(2)).is_none());
    call(10, after(2)).unwrap().release();
    // One that outlives its minute changes nothing in the next.
    let third = call(10, after(3)).unwrap();
    let fourth = call(100, after(70)).unwrap();
    third.settle(bill(100, 0));
    fourth.settle(bill(0, 0));
    call(100, after(70)).unwrap().release();
}
