//! The limits on a call's way: matching, reserving and settling counters, and the journal.
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, criterion_group};
use tollgate::{
    base::{
        clock::{SystemClock, Timestamp},
        id::{RequestId, SpanId, TraceId},
        money::Usd,
    },
    call::{
        labels::{Label, Labels, Source},
        outcome::Kind,
        usage::UsageSource,
    },
    ledger::{Config, Ledger, Memory},
    policy::{self, Amounts, Charge, Engine, Journal, Purse, Subject},
};

const NOW: Timestamp = Timestamp::from_secs(1_795_618_800);

const THREE: &str = r#"{"daily": 1000000, "monthly": 1000000, "per_user": 1000000}"#;

/// A hundred rules, of which five match the call: three of its agent, two of anybody.
fn hundred() -> String {
    let rules = (0..100).map(|number| {
        let whose = match number {
            0 | 50 => "{}",
            1..=3 => r#"{"agent": "support"}"#,
            _ => &format!(r#"{{"agent": "agent-{number}"}}"#),
        };
        format!(
            r#"{{"name": "rule-{number}", "match": {whose}, "per": ["user"], "window": "day",
                "limit": {{"usd": 1000000}}}}"#
        )
    });
    format!(r#"{{"rules": [{}]}}"#, rules.collect::<Vec<_>>().join(","))
}

fn engine(rules: &str, journal: Arc<dyn Journal>) -> Engine {
    let rules: policy::Config = serde_json::from_str(rules).unwrap();
    Engine::build(&rules, &[], &[], &Purse::new(journal, 1_000), None).unwrap()
}

fn limits(criterion: &mut Criterion) {
    let mut labels = Labels::default();
    labels.set(Label::User, "42", Source::Header);
    labels.set(Label::Agent, "support", Source::Header);
    let subject = Subject {
        request_id: RequestId::new(NOW),
        span_id: SpanId::random(),
        trace_id: TraceId::random(),
        parent_span_id: None,
        start: NOW,
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
    let amounts = Amounts::of(Usd::from_nanos(20_000_000), 2_000);
    let cost = Some(Usd::from_nanos(10_000_000));
    let charge = Charge::of(cost, 900, 100, UsageSource::Reported);
    let call = |engine: &Engine| {
        let mut matched = engine.matched(&subject, NOW).unwrap();
        assert!(engine.recalling(&mut matched, NOW).is_none());
        let hold = engine.admit(matched, amounts, &subject, NOW).unwrap();
        // As before the first byte is sent: the admission is written.
        hold.keep().unwrap();
        black_box(hold.settle(charge));
    };

    let memory = engine(THREE, Arc::new(Memory));
    criterion.bench_function("policy: match three rules", |bencher| {
        bencher.iter(|| black_box(memory.matched(&subject, NOW).unwrap()));
    });
    criterion.bench_function(
        "policy: match, admit and settle three counters",
        |bencher| {
            bencher.iter(|| call(&memory));
        },
    );

    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        path: dir.path().join("journal"),
        ..Config::default()
    };
    let (ledger, _) = Ledger::open(&config, Arc::new(SystemClock)).unwrap();
    let kept = engine(THREE, ledger.journal());
    criterion.bench_function("policy: the same, journalled", |bencher| {
        bencher.iter(|| call(&kept));
    });
    let many = engine(&hundred(), Arc::new(Memory));
    let matched = many.matched(&subject, NOW).unwrap();
    assert_eq!(format!("{matched:?}").matches("Claim {").count(), 5);
    criterion.bench_function("policy: 5 of 100 rules", |bencher| {
        bencher.iter(|| call(&many));
    });
    let many = engine(&hundred(), ledger.journal());
    criterion.bench_function("policy: 5 of 100 rules, journalled", |bencher| {
        bencher.iter(|| call(&many));
    });
}

criterion_group!(benches, limits);
