//! The limits, through the module's public face.

mod attacks;
mod concurrency;
mod entered;
mod rates;
mod refusals;
mod reload;
mod schedule;
mod scopes;
mod turns;
mod waiting;
mod windows;

use std::sync::Arc;

use tollgate::{
    base::{
        clock::Timestamp,
        id::{RequestId, SpanId, TraceId},
        money::Usd,
    },
    call::{
        labels::{Label, Labels, Source},
        outcome::Kind,
        usage::UsageSource,
    },
    ledger::Memory,
    policy::{Amounts, Charge, Config, Engine, Hold, Journal, Purse, RateLimit, Refused, Subject},
};

/// 2026-11-25T15:00:00Z, a Wednesday.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_795_618_800);

pub(crate) fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

pub(crate) fn config(json: serde_json::Value) -> Config {
    serde_json::from_value(json).unwrap()
}

pub(crate) fn rates(json: serde_json::Value) -> Vec<RateLimit> {
    serde_json::from_value(json).unwrap()
}

pub(crate) fn engine(json: serde_json::Value) -> Engine {
    let purse = Purse::new(Arc::new(Memory), 1_000);
    Engine::build(&config(json), &[], &[], &purse, None).unwrap()
}

pub(crate) fn limited(json: serde_json::Value) -> Engine {
    let purse = Purse::new(Arc::new(Memory), 1_000);
    Engine::build(&Config::default(), &rates(json), &[], &purse, None).unwrap()
}

/// A rebuilt engine over the same journal, as after a restart.
pub(crate) fn engine_over(json: serde_json::Value, journal: Arc<dyn Journal>) -> Engine {
    let purse = Purse::new(journal, 1_000);
    Engine::build(&config(json), &[], &[], &purse, None).unwrap()
}

pub(crate) fn labels(pairs: &[(Label, &str)]) -> Labels {
    let mut labels = Labels::default();
    for (label, value) in pairs {
        labels.set(*label, value, Source::Header);
    }
    labels
}

pub(crate) fn subject(labels: &Labels) -> Subject<'_> {
    Subject {
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
        labels,
    }
}

pub(crate) fn amounts(dollars: &str, tokens: u64) -> Amounts {
    Amounts::of(usd(dollars), tokens)
}

pub(crate) fn charge(dollars: &str, tokens: u64) -> Charge {
    Charge::of(Some(usd(dollars)), tokens, 0, UsageSource::Reported)
}

/// Asks for `dollars` and a thousand tokens.
pub(crate) fn ask(
    engine: &Engine,
    labels: &Labels,
    dollars: &str,
    now: Timestamp,
) -> Result<Hold, Box<Refused>> {
    let subject = subject(labels);
    let matched = engine.matched(&subject, now).unwrap();
    let hold = engine.admit(matched, amounts(dollars, 1_000), &subject, now)?;
    assert_eq!(hold.keep(), Ok(()));
    Ok(hold)
}

/// (spent, reserved) of the only budget, or of the one of `values`.
pub(crate) fn stands(engine: &Engine, values: &str, now: Timestamp) -> (i64, i64) {
    let budgets = engine.budgets(&engine.purse().standings(now), &[], now);
    let found = budgets.iter().find(|budget| *budget.values == *values);
    found.map_or((0, 0), |budget| (budget.spent, budget.reserved))
}
