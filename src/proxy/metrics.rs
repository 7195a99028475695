//! What Prometheus is told of traffic. Label values are bounded: past a cap they read `other`.

use std::{collections::HashSet, hash::BuildHasher as _, sync::Arc, time::Duration};

use dashmap::DashMap;
use foldhash::quality::RandomState;
use parking_lot::Mutex;
use prometheus::{
    Counter, CounterVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, Opts, Registry,
};

use crate::{
    call::{
        labels::Label,
        outcome::{Kind, Status},
        refusal::Refusal,
        span::Span,
    },
    ingest::Taken,
};

/// The most distinct triples of provider, model and agent; further ones are counted as `other`.
const MAX_SERIES: usize = 2_000;

/// Bounds of durations, in seconds: calls take from milliseconds to many minutes.
const DURATIONS: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
];

/// Bounds of what we add, in seconds.
const OVERHEAD: &[f64] = &[
    1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 1e-2, 0.1,
];

const TRIPLE: &[&str] = &["provider", "model", "agent_name"];

/// Counters and histograms of traffic.
#[derive(Debug)]
pub struct Metrics {
    requests: IntCounterVec,
    durations: HistogramVec,
    first_tokens: HistogramVec,
    tokens: IntCounterVec,
    cost: CounterVec,
    retries: Retries,
    errors: IntCounterVec,
    blocked: IntCounterVec,
    outputs_left_out: IntCounter,
    unmetered: IntCounterVec,
    guards: IntCounterVec,
    thresholds: IntCounterVec,
    strangers: IntCounterVec,
    reports: Reports,
    overhead: Histogram,
    in_flight: IntGauge,
    /// Values of `error_type` and `by` that are told apart.
    error_types: Names,
    blockers: Names,
    /// Handles by triple: looking up labels one metric at a time costs more than all the rest.
    series: DashMap<u64, Arc<Series>, RandomState>,
}

/// Further attempts of one logical call, by provider.
#[derive(Debug)]
struct Retries {
    count: IntCounterVec,
    cost: CounterVec,
}

impl Retries {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let count = Opts::new(
            "tollgate_retries_total",
            "Calls that were further attempts of one logical call.",
        );
        let cost = Opts::new(
            "tollgate_retry_cost_usd_total",
            "What these cost, in US dollars; a part of tollgate_cost_usd_total.",
        );
        let retries = Self {
            count: IntCounterVec::new(count, &["provider"])?,
            cost: CounterVec::new(cost, &["provider"])?,
        };
        registry.register(Box::new(retries.count.clone()))?;
        registry.register(Box::new(retries.cost.clone()))?;
        Ok(retries)
    }

    fn record(&self, span: &Span) {
        let provider = [&*span.provider];
        self.count.with_label_values(&provider).inc();
        let cost = span.cost.map_or(0.0, |cost| dollars(cost.nanos()));
        self.cost.with_label_values(&provider).inc_by(cost);
    }
}

/// Reports of agents, and the spans in them, by what became of them.
#[derive(Debug)]
struct Reports {
    requests: IntCounterVec,
    spans: IntCounterVec,
}

impl Reports {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = Opts::new(
            "tollgate_ingest_requests_total",
            "Reports of agents, by what became of them.",
        );
        let spans = Opts::new(
            "tollgate_ingest_spans_total",
            "Spans that agents reported, by what became of them.",
        );
        let reports = Self {
            requests: IntCounterVec::new(requests, &["outcome"])?,
            spans: IntCounterVec::new(spans, &["outcome"])?,
        };
        registry.register(Box::new(reports.requests.clone()))?;
        registry.register(Box::new(reports.spans.clone()))?;
        Ok(reports)
    }
}

/// The values of a label, at most [`MAX_NAMES`]; later ones are `other`.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<HashSet<Box<str>>>);

/// The most values of a label that others choose.
const MAX_NAMES: usize = 200;

impl Names {
    /// The name, or `other`.
    pub(super) fn bounded<'a>(&self, name: &'a str) -> &'a str {
        let mut known = self.0.lock();
        if known.contains(name) {
            return name;
        }
        if known.len() >= MAX_NAMES {
            return "other";
        }
        known.insert(Box::from(name));
        name
    }
}

/// The handles of one triple.
#[derive(Debug)]
struct Series {
    by_status: [IntCounter; 4],
    duration: Histogram,
    first_token: Histogram,
    /// Input, output, `cache_read`, `cache_write`, reasoning.
    tokens: [IntCounter; 5],
    cost: Counter,
}

const TOKEN_TYPES: [&str; 5] = ["input", "output", "cache_read", "cache_write", "reasoning"];
const STATUSES: [Status; 4] = [
    Status::Ok,
    Status::Error,
    Status::Blocked,
    Status::Cancelled,
];

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// A name is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            HistogramVec::new(
                HistogramOpts::new(name, help).buckets(buckets.to_vec()),
                TRIPLE,
            )
        };
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels)
        };
        let metrics = Self {
            requests: counter(
                "tollgate_requests_total",
                "Calls, by how they ended.",
                &["provider", "model", "agent_name", "status"],
            )?,
            durations: histogram(
                "tollgate_request_duration_seconds",
                "From the request's head to the last byte of the response.",
                DURATIONS,
            )?,
            first_tokens: histogram(
                "tollgate_time_to_first_token_seconds",
                "From the request's head to the first bytes of a streamed response.",
                DURATIONS,
            )?,
            tokens: counter(
                "tollgate_tokens_total",
                "Tokens; cache_read, cache_write and reasoning are parts of input and output.",
                &["provider", "model", "agent_name", "type"],
            )?,
            cost: cost()?,
            retries: Retries::new(registry)?,
            errors: counter(
                "tollgate_errors_total",
                "Calls that failed, by the provider's error type or ours.",
                &["provider", "error_type"],
            )?,
            blocked: counter(
                "tollgate_blocked_total",
                "Calls refused or cut, by what.",
                &["by"],
            )?,
            unmetered: unmetered()?,
            outputs_left_out: outputs_left_out()?,
            guards: guard_actions()?,
            thresholds: thresholds()?,
            strangers: strangers()?,
            reports: Reports::new(registry)?,
            overhead: Histogram::with_opts(
                HistogramOpts::new(
                    "tollgate_overhead_seconds",
                    "What Tollgate added before a request was sent, without waits for limits and guards.",
                )
                .buckets(OVERHEAD.to_vec()),
            )?,
            in_flight: IntGauge::new("tollgate_in_flight", "Calls under way.")?,
            error_types: Names::default(),
            blockers: Names::default(),
            series: DashMap::default(),
        };
        let collectors: [Box<dyn prometheus::core::Collector>; 14] = [
            Box::new(metrics.outputs_left_out.clone()),
            Box::new(metrics.requests.clone()),
            Box::new(metrics.durations.clone()),
            Box::new(metrics.first_tokens.clone()),
            Box::new(metrics.tokens.clone()),
            Box::new(metrics.cost.clone()),
            Box::new(metrics.errors.clone()),
            Box::new(metrics.blocked.clone()),
            Box::new(metrics.strangers.clone()),
            Box::new(metrics.unmetered.clone()),
            Box::new(metrics.guards.clone()),
            Box::new(metrics.thresholds.clone()),
            Box::new(metrics.overhead.clone()),
            Box::new(metrics.in_flight.clone()),
        ];
        collectors
            .into_iter()
            .try_for_each(|collector| registry.register(collector))?;
        Ok(metrics)
    }

    /// Counts a finished call.
    pub(super) fn record(&self, span: &Span) {
        let series = self.series(span);
        let status = STATUSES.iter().position(|status| *status == span.status);
        if let Some(count) = status.and_then(|at| series.by_status.get(at)) {
            count.inc();
        }
        series.duration.observe(span.duration.as_secs_f64());
        if let Some(first) = span.first_chunk.filter(|_| span.stream) {
            series.first_token.observe(first.as_secs_f64());
        }
        let usage = &span.usage;
        let counts = [
            usage.input,
            usage.output,
            usage.cache_read,
            usage.cache_write,
            usage.reasoning,
        ];
        for (counter, count) in series.tokens.iter().zip(counts) {
            if let Some(count) = count {
                counter.inc_by(count);
            }
        }
        if let Some(cost) = span.cost {
            series.cost.inc_by(dollars(cost.nanos()));
        }
        if span.attempt().is_some() {
            self.retries.record(span);
        }
        if span.status == Status::Error {
            let error = span.error_type.as_deref().unwrap_or("other");
            // Providers' own words; cut short, and not without end.
            let error: String = error.chars().take(64).collect();
            let error = self.error_types.bounded(&error);
            self.errors
                .with_label_values(&[&*span.provider, error])
                .inc();
        }
        if let Some(by) = &span.blocked_by {
            let by = self.blockers.bounded(by);
            self.blocked.with_label_values(&[by]).inc();
        }
    }

    /// Counts a call that was refused before it had a span: no route, or a full house.
    pub(super) fn turned_away(&self, refusal: &Refusal) {
        if !refusal.by.is_empty() {
            self.blocked.with_label_values(&[&*refusal.by]).inc();
        }
    }

    /// Counts a call that could not be metered.
    pub(super) fn unmetered(&self, reason: &str) {
        self.unmetered.with_label_values(&[reason]).inc();
    }

    /// Counts a stream whose last event does not say again what was sent.
    pub(super) fn output_left_out(&self) {
        self.outputs_left_out.inc();
    }

    /// Counts what a guard did.
    pub(super) fn guard(&self, by: &str, action: &str) {
        let by = self.blockers.bounded(by);
        self.guards.with_label_values(&[by, action]).inc();
    }

    /// Counts a threshold that a budget has reached.
    pub(super) fn threshold(&self, budget: &str, level: &str) {
        let budget = self.blockers.bounded(budget);
        self.thresholds.with_label_values(&[budget, level]).inc();
    }

    /// Counts a report that was taken, and its spans.
    pub(super) fn report(&self, taken: &Taken) {
        self.reports.requests.with_label_values(&["taken"]).inc();
        for (outcome, count) in [
            ("taken", taken.accepted),
            ("repeated", taken.repeated),
            ("refused", taken.refused),
        ] {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            let spans = self.reports.spans.with_label_values(&[outcome]);
            spans.inc_by(count);
        }
    }

    /// Counts a report that was not taken.
    pub(super) fn no_report(&self, why: &str) {
        self.reports.requests.with_label_values(&[why]).inc();
    }

    /// Counts a call without a valid client key.
    pub(super) fn stranger(&self, reason: &str) {
        self.strangers.with_label_values(&[reason]).inc();
    }

    /// Takes down what was added before a request was sent.
    pub(super) fn overhead(&self, added: Duration) {
        self.overhead.observe(added.as_secs_f64());
    }

    /// The gauge of calls under way.
    pub(super) const fn in_flight(&self) -> &IntGauge {
        &self.in_flight
    }

    fn series(&self, span: &Span) -> Arc<Series> {
        let agent = span.labels.get(Label::Agent).unwrap_or("");
        // Paths are without bound, so that only models are told apart.
        let model = if span.kind == Kind::Http {
            ""
        } else {
            span.model().unwrap_or("")
        };
        let key = self
            .series
            .hasher()
            .hash_one((&*span.provider, model, agent));
        if let Some(found) = self.series.get(&key) {
            return Arc::clone(&found);
        }
        if self.series.len() < MAX_SERIES {
            let made = Arc::new(self.make(&span.provider, model, agent));
            return Arc::clone(&self.series.entry(key).or_insert(made));
        }
        let other = self.series.hasher().hash_one(("other", "other", "other"));
        let made = || Arc::new(self.make("other", "other", "other"));
        Arc::clone(&self.series.entry(other).or_insert_with(made))
    }

    fn make(&self, provider: &str, model: &str, agent: &str) -> Series {
        let triple = [provider, model, agent];
        let with = |last| [provider, model, agent, last];
        Series {
            by_status: STATUSES.map(|status| self.requests.with_label_values(&with(status.name()))),
            duration: self.durations.with_label_values(&triple),
            first_token: self.first_tokens.with_label_values(&triple),
            tokens: TOKEN_TYPES.map(|kind| self.tokens.with_label_values(&with(kind))),
            cost: self.cost.with_label_values(&triple),
        }
    }
}

fn guard_actions() -> Result<IntCounterVec, prometheus::Error> {
    let described = Opts::new("tollgate_guard_actions_total", "What guards did to calls.");
    IntCounterVec::new(described, &["guard", "action"])
}

fn outputs_left_out() -> Result<IntCounter, prometheus::Error> {
    let help = "Streams that were cut, and whose last event does not say again what was sent.";
    IntCounter::new("tollgate_cut_outputs_left_out_total", help)
}

fn unmetered() -> Result<IntCounterVec, prometheus::Error> {
    let help = "Calls that may cost something that could not be metered.";
    IntCounterVec::new(Opts::new("tollgate_unmetered_total", help), &["reason"])
}

fn thresholds() -> Result<IntCounterVec, prometheus::Error> {
    let help = "Thresholds that budgets have reached, each once a window.";
    let name = "tollgate_budget_thresholds_total";
    IntCounterVec::new(Opts::new(name, help), &["budget", "level"])
}

fn cost() -> Result<CounterVec, prometheus::Error> {
    let described = Opts::new("tollgate_cost_usd_total", "What calls cost, in US dollars.");
    CounterVec::new(described, TRIPLE)
}

fn strangers() -> Result<IntCounterVec, prometheus::Error> {
    let help = "Calls refused for want of a valid client key, by what was wrong.";
    let name = "tollgate_client_key_failures_total";
    IntCounterVec::new(Opts::new(name, help), &["reason"])
}

/// For display only: what is charged is counted in integers elsewhere.
#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge of dollars is a float by Prometheus' format"
)]
fn dollars(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_others_choose_are_told_apart_up_to_a_bound() {
        let names = Names::default();
        for number in 0..MAX_NAMES {
            let name = number.to_string();
            assert_eq!(names.bounded(&name), name);
        }
        assert_eq!(names.bounded("one more"), "other");
        assert_eq!(names.bounded("7"), "7");
    }
}
