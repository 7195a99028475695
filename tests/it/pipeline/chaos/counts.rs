//! What `/metrics` says of processors.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{PROCESSORS, Way};
use crate::support::{Sandbox, sandbox::PATIENCE};

/// What `/metrics` says of one processor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts(BTreeMap<String, i64>);

impl Counts {
    pub(super) fn of(&self, what: &str) -> i64 {
        self.0.get(what).copied().unwrap_or_default()
    }

    fn ended(&self) -> i64 {
        let outcomes = ["delivered", "failed", "dropped", "filtered", "sampled_out"];
        outcomes.iter().map(|outcome| self.of(outcome)).sum()
    }

    /// Nothing is on its way; what is on disk stays there for now.
    pub(super) fn rests(&self) -> bool {
        self.of("offered_total") + self.of("found_total") > 0 && self.of("queued") == 0
    }
}

/// What `/metrics` says of all processors, each span of which is in one place or has ended in one way.
fn counts(sandbox: &Sandbox) -> BTreeMap<String, Counts> {
    let families = sandbox.app.registry().gather();
    let mut all: BTreeMap<String, Counts> = BTreeMap::new();
    for family in families {
        let Some(name) = family.name().strip_prefix("tollgate_") else {
            continue;
        };
        let name = name.strip_prefix("spans_").unwrap_or(name);
        for metric in family.get_metric() {
            let label = |name: &str| {
                let found = metric.get_label().iter().find(|label| label.name() == name);
                found.map(|label| label.value().to_owned())
            };
            let Some(processor) = label("processor") else {
                continue;
            };
            let key = label("outcome")
                .or_else(|| label("event"))
                .unwrap_or_else(|| name.to_owned());
            let value = metric.get_counter().get_value() + metric.get_gauge().get_value();
            let counts = all.entry(processor).or_default();
            counts.0.insert(key, value as i64);
        }
    }
    for (processor, counts) in &all {
        let came = counts.of("offered_total") + counts.of("found_total");
        let known = counts.ended()
            + ["queued", "held", "buffered"]
                .iter()
                .map(|it| counts.of(it))
                .sum::<i64>();
        assert_eq!(came, known, "{processor}: {counts:?}");
    }
    all
}

/// Waits until it holds of each of these processors, and returns their counts.
pub(super) async fn all(
    sandbox: &Sandbox,
    what: &str,
    holds: impl Fn(Way, &Counts) -> bool,
) -> Vec<(&'static str, Way, Counts)> {
    let began = Instant::now();
    loop {
        let counts = counts(sandbox);
        let of = |(name, way, _): &(&'static str, Way, &str)| {
            counts
                .get(*name)
                .map(|counts| (*name, *way, counts.clone()))
        };
        let known: Vec<_> = PROCESSORS.iter().filter_map(of).collect();
        let lacking = known.iter().find(|(_, way, counts)| !holds(*way, counts));
        match lacking {
            None => return known,
            Some(lacking) => assert!(began.elapsed() < PATIENCE, "{what}: {lacking:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
