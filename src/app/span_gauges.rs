//! What Prometheus is told of spans on their way out: what became of each, what waits, and how their
//! processors do. Of each processor, what was offered, and what was found on disk at the start, is
//! the sum of all outcomes, of what waits and of what is on disk.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, core::Collector};

use crate::pipeline::{Circuit, Pipeline};

/// The metrics, which are emptied and filled each time.
pub(super) struct SpanMetrics {
    offered: IntCounterVec,
    found: IntCounterVec,
    outcomes: IntCounterVec,
    queued: IntGaugeVec,
    held: IntGaugeVec,
    queued_bytes: IntGaugeVec,
    buffered: IntGaugeVec,
    circuits: IntGaugeVec,
    events: IntCounterVec,
}

impl SpanMetrics {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let gauge =
            |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["processor"]);
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels)
        };
        Ok(Self {
            offered: counter(
                "tollgate_spans_offered_total",
                "Spans that came. With those found on disk: those of every outcome, those that wait, \
                 and those on disk.",
                &["processor"],
            )?,
            found: counter(
                "tollgate_spans_found_total",
                "Spans that an earlier process had left on disk.",
                &["processor"],
            )?,
            outcomes: counter(
                "tollgate_spans_total",
                "Spans, by what became of them.",
                &["processor", "outcome"],
            )?,
            queued: gauge("tollgate_spans_queued", "Spans that wait.")?,
            held: gauge(
                "tollgate_spans_held",
                "Spans that were left out, and go all the same if another span of their trace does.",
            )?,
            queued_bytes: gauge(
                "tollgate_spans_queued_bytes",
                "What the spans that wait, in whatever way, take in memory, about.",
            )?,
            buffered: gauge("tollgate_spans_buffered", "Spans that wait on disk.")?,
            circuits: gauge(
                "tollgate_processor_breaker",
                "Whether the processor is tried: 0 yes, 1 no, 2 once, to see.",
            )?,
            events: counter(
                "tollgate_processor_events_total",
                "What happened to processors.",
                &["processor", "event"],
            )?,
        })
    }

    /// Everything, in the order in which it is told.
    pub(super) fn all(&self) -> [&dyn Collector; 9] {
        [
            &self.offered,
            &self.found,
            &self.outcomes,
            &self.queued,
            &self.held,
            &self.queued_bytes,
            &self.buffered,
            &self.circuits,
            &self.events,
        ]
    }

    /// Forgets the last scrape, and asks anew.
    pub(super) fn fill(&self, pipeline: &Pipeline) {
        let counters = [&self.offered, &self.found, &self.outcomes, &self.events];
        counters.into_iter().for_each(IntCounterVec::reset);
        let gauges = [
            &self.queued,
            &self.held,
            &self.queued_bytes,
            &self.buffered,
            &self.circuits,
        ];
        gauges.into_iter().for_each(IntGaugeVec::reset);
        for (name, stats) in pipeline.stats() {
            let offered = self.offered.with_label_values(&[&*name]);
            offered.inc_by(stats.offered);
            let found = self.found.with_label_values(&[&*name]);
            found.inc_by(stats.found);
            let outcomes = [
                ("delivered", stats.delivered),
                ("failed", stats.failed),
                ("dropped", stats.dropped),
                ("filtered", stats.filtered),
                ("sampled_out", stats.sampled_out),
            ];
            for (outcome, count) in outcomes {
                let counter = self.outcomes.with_label_values(&[&*name, outcome]);
                counter.inc_by(count);
            }
            let states = [
                (&self.queued, stats.queued.saturating_add(stats.in_hand)),
                (&self.held, stats.held),
                (&self.queued_bytes, stats.queued_bytes),
                (&self.buffered, stats.buffered),
                (&self.circuits, number(stats.circuit)),
            ];
            for (gauge, value) in states {
                let value = i64::try_from(value).unwrap_or(i64::MAX);
                gauge.with_label_values(&[&*name]).add(value);
            }
            let events = [
                ("retried", stats.retried),
                ("halved", stats.halved),
                ("too_large", stats.too_large),
                ("cut_text", stats.cut_texts),
                ("held_too_many", stats.held_too_many),
                ("held_too_large", stats.held_too_large),
                ("forgotten_trace", stats.forgotten),
                ("suppressed", stats.suppressed),
                ("restarted", stats.restarted),
                ("cut_output", stats.cut_output),
                ("panicked", stats.panicked),
                ("torn_line", stats.torn),
                ("damaged_file", stats.damaged),
                ("left_out_attribute", stats.nameless),
                ("disk_error", stats.disk_errors),
                ("expired", stats.expired),
            ];
            for (event, count) in events {
                let counter = self.events.with_label_values(&[&*name, event]);
                counter.inc_by(count);
            }
        }
    }
}

const fn number(circuit: Circuit) -> u64 {
    match circuit {
        Circuit::Closed => 0,
        Circuit::Open => 1,
        Circuit::HalfOpen => 2,
    }
}
