//! Never more than k, for every scope, whatever the threads do.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use serde_json::json;
use tollgate::{
    call::{labels::Label, workload::Workload},
    policy::Engine,
};

use super::*;

const THREADS: usize = 64;

/// Lets 64 clients ask at once for what fits `fits` times; how many got it.
fn admitted(engine: &Engine, user: impl Fn(usize) -> String + Sync) -> usize {
    let barrier = Barrier::new(THREADS);
    let done = Barrier::new(THREADS);
    let admitted = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (barrier, done, admitted, user) = (&barrier, &done, &admitted, &user);
            scope.spawn(move || {
                let mut labels = labels(&[
                    (Label::User, &user(number)),
                    (Label::Agent, "a"),
                    (Label::Session, "s"),
                    (Label::Project, "p"),
                    (Label::Environment, "e"),
                    (Label::Workflow, "w"),
                ]);
                labels.tag("team", "core", Source::Header);
                let workload = Workload {
                    pod: Some("agents-0".into()),
                    namespace: Some("research".into()),
                    service_account: Some("runner".into()),
                    ..Workload::default()
                };
                let call = Subject {
                    key: Some("ci"),
                    route: "responses",
                    workload: Some(&workload),
                    ..subject(&labels)
                };
                barrier.wait();
                let matched = engine.matched(&call, NOW).unwrap();
                let hold = engine.admit(matched, amounts("1", 1_000), &call, NOW);
                admitted.fetch_add(usize::from(hold.is_ok()), Relaxed);
                done.wait();
                hold.ok().map(|hold| hold.settle(charge("1", 1_000)));
            });
        }
    });
    admitted.into_inner()
}

#[test]
fn sixty_four_clients_at_a_barrier_never_get_more_than_there_is_in_any_scope() {
    let scopes = [
        "[]",
        r#"["user"]"#,
        r#"["agent"]"#,
        r#"["session"]"#,
        r#"["project"]"#,
        r#"["environment"]"#,
        r#"["workflow"]"#,
        r#"["model"]"#,
        r#"["provider"]"#,
        r#"["key"]"#,
        r#"["route"]"#,
        r#"["pod"]"#,
        r#"["namespace"]"#,
        r#"["service_account"]"#,
        r#"["tags.team"]"#,
        r#"["user", "model"]"#,
        r#"["key", "pod", "tags.team", "session"]"#,
    ];
    for window in ["minute", "day", "month", "total", "6h"] {
        for scope in scopes {
            for limit in [
                json!({"usd": 7}),
                json!({"tokens": 7_000}),
                json!({"requests": 7}),
            ] {
                let per: serde_json::Value = serde_json::from_str(scope).unwrap();
                let engine = engine(json!({"max_wait": 0, "missing": "deny", "rules": [
                    {"name": "k", "per": per, "window": window, "limit": limit}]}));
                assert_eq!(admitted(&engine, |_| "u".to_owned()), 7, "{window} {scope}");
                assert_eq!(admitted(&engine, |_| "u".to_owned()), 0, "{window} {scope}");
            }
        }
    }
}

#[test]
fn each_value_has_its_own_budget_and_all_share_the_wider_one() {
    let engine = engine(json!({"max_wait": 0, "daily": 20, "per_user": 3}));
    assert_eq!(admitted(&engine, |number| format!("u{}", number % 16)), 20);
    let spent: i64 = (0..16)
        .map(|user| stands(&engine, &format!("user=u{user}"), NOW).0)
        .inspect(|spent| assert!(*spent <= 3_000_000_000))
        .sum();
    assert_eq!(spent, 20_000_000_000);
}

#[test]
fn beyond_the_bound_new_values_share_one_counter() {
    let purse = Purse::new(Arc::new(Memory), 5);
    let rules = config(json!({"daily": 1_000, "per_user": 1, "max_wait": 0}));
    let engine = Engine::build(&rules, &[], &[], &purse, None).unwrap();
    let admitted = admitted(&engine, |number| format!("u{number}"));
    assert_eq!(
        admitted, 5,
        "four users of their own and one for all others"
    );
    let counts = purse.counts();
    assert!(counts.counters <= 6, "{counts:?}");
    assert_eq!(counts.overflowed, 60);
    assert_eq!(
        stands(&engine, "", NOW).0,
        5_000_000_000,
        "daily counts all the same"
    );
}

#[test]
fn rate_limits_hold_under_concurrency_too() {
    let engine = limited(json!([{"name": "r", "concurrent": 9, "requests_per_minute": 100}]));
    assert_eq!(admitted(&engine, |_| "u".to_owned()), 9);
    let engine = limited(json!([{"name": "r", "requests_per_minute": 11}]));
    assert_eq!(admitted(&engine, |_| "u".to_owned()), 11);
    let engine = limited(json!([{"name": "r", "tokens_per_minute": 13_999}]));
    assert_eq!(admitted(&engine, |_| "u".to_owned()), 13);
}
