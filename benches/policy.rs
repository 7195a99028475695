//! The limits on a call's way: matching, reserving and settling three counters, and the journal.
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

fn engine(journal: Arc<dyn Journal>) -> Engine {
    let rules: policy::Config =
        serde_json::from_str(r#"{"daily": 1000000, "monthly": 1000000, "per_user": 1000000}"#)
            .unwrap();
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
        labels: &labels,
    };
    let amounts = Amounts::of(Usd::from_nanos(20_000_000), 2_000);
    let charge = Charge {
        usd: Some(Usd::from_nanos(10_000_000)),
        tokens: Some(1_000),
        source: UsageSource::Reported,
    };
    let call = |engine: &Engine| {
        let matched = engine.matched(&subject, NOW).unwrap();
        let hold = engine.admit(matched, amounts, &subject, NOW).unwrap();
        black_box(hold.settle(charge));
    };

    let memory = engine(Arc::new(Memory));
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
    let kept = engine(ledger.journal());
    criterion.bench_function("policy: the same, journalled", |bencher| {
        bencher.iter(|| call(&kept));
    });
}

criterion_group!(benches, limits);
