//! What Prometheus is told of the program itself, collected when it asks: budgets, spans, the
//! ledger, and everything that has a bound. Traffic is in `proxy/metrics.rs`.

use std::{cmp::Reverse, io, sync::Arc};

use parking_lot::Mutex;
use prometheus::{
    Gauge, GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{clients::Clients, control::Control, span_gauges::SpanMetrics};
use crate::{
    admin::Program as _,
    guard::{Kills, MAX_CONVERSATION_BYTES, MAX_REPEATS, MAX_STORMS},
    net::upstream::Upstream,
    pipeline::Pipeline,
    policy::{Budget, Unit},
    pricing::Estimator,
    proxy::{Proxy, config::Limits},
};

/// Budgets that are told one by one, the most used first; the rest is summed up as `other`.
const MOST_BUDGETS: usize = 200;

/// What is asked when Prometheus asks.
pub(super) struct Gauges {
    pub(super) proxy: Arc<Proxy>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) control: Arc<Control>,
    pub(super) upstreams: Vec<Arc<Upstream>>,
    pub(super) clients: Arc<Clients>,
    /// As they were at the start.
    pub(super) limits: Limits,
}

/// The metrics, which are emptied and filled each time.
struct Metrics {
    /// Limit, spent, reserved, remaining.
    budgets: [GaugeVec; 4],
    overrun: Gauge,
    spans: SpanMetrics,
    ledger: IntCounterVec,
    held: IntGaugeVec,
    bound: IntGaugeVec,
    over: IntCounterVec,
    tripped: IntGaugeVec,
    upstream: IntCounterVec,
    prices: IntCounterVec,
    keys: IntCounterVec,
    certificates: IntCounterVec,
    ready: IntGauge,
    started: IntGauge,
    configured: IntGauge,
    refused: IntGauge,
}

/// Both, as Prometheus' registry wants them.
struct Collected {
    gauges: Gauges,
    metrics: Metrics,
    /// Held while the metrics are filled: they are asked for once at a time.
    asking: Mutex<()>,
}

impl Gauges {
    /// Has `registry` ask from now on.
    ///
    /// # Errors
    /// A name is registered already.
    pub(super) fn register(self, registry: &Registry) -> io::Result<()> {
        let collected = |metrics| {
            registry.register(Box::new(Collected {
                gauges: self,
                metrics,
                asking: Mutex::new(()),
            }))
        };
        Metrics::new().and_then(collected).map_err(io::Error::other)
    }

    fn budgets(&self, metrics: &Metrics) {
        let mut budgets = self.control.live_budgets();
        budgets.retain(|budget| budget.unit == Unit::Usd);
        budgets.sort_by_key(|budget| Reverse(budget.spent.saturating_add(budget.reserved)));
        for (place, budget) in budgets.iter().enumerate() {
            let name = if place < MOST_BUDGETS {
                label(budget)
            } else {
                "other".to_owned()
            };
            let amounts = [
                budget.limit,
                budget.spent,
                budget.reserved,
                budget.remaining,
            ];
            for (gauge, amount) in metrics.budgets.iter().zip(amounts) {
                gauge.with_label_values(&[&*name]).add(dollars(amount));
            }
        }
        let overrun = self.control.purse().counts().overrun_nanos;
        let overrun = i64::try_from(overrun).unwrap_or(i64::MAX);
        metrics.overrun.set(dollars(overrun));
    }

    fn ledger(&self, metrics: &Metrics) {
        let purse = self.control.purse().counts();
        let ledger = self.control.ledger_counts().unwrap_or_default();
        let events = [
            ("write_failed", ledger.down),
            ("record_lost", ledger.lost),
            ("books_failed", ledger.books_down),
            ("journal_damaged_bytes", ledger.damaged),
            ("span_recovered", ledger.spans_recovered),
            ("hold_unsettled", purse.unsettled),
            ("overrun", purse.overruns),
        ];
        for (event, count) in events {
            metrics.ledger.with_label_values(&[event]).inc_by(count);
        }
    }

    /// Everything that has a bound: what is held, the bound where it is one number, and how often
    /// it was met where that is not told elsewhere.
    fn bounded(&self, metrics: &Metrics) {
        let ledger = self.control.ledger_counts().unwrap_or_default();
        let holdings = self.proxy.holdings();
        let purse = self.control.purse().counts();
        let upstreams: Vec<_> = self.upstreams.iter().map(|one| one.counts()).collect();
        let idle: usize = upstreams.iter().map(|counts| counts.idle).sum();
        let overflow: u64 = upstreams.iter().map(|counts| counts.overflow).sum();
        let emptied = self.proxy.live().pricing().cache_emptied();
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let held = [
            ("connections", self.clients.there()),
            (
                "calls",
                holdings.in_flight.saturating_sub(holdings.unfinished),
            ),
            ("unfinished_requests", holdings.unfinished),
            ("peeked_bytes", size(holdings.peeked_bytes)),
            ("output_bytes", size(holdings.output_bytes)),
            ("content_bytes", size(holdings.content_bytes)),
            ("awaited_responses", holdings.awaited_responses),
            ("attempts", holdings.attempts),
            ("guarded_requests", holdings.requests),
            ("guarded_conversation_bytes", holdings.conversation_bytes),
            ("known_counters", ledger.known),
            ("estimated_models", holdings.estimated_models),
            ("counters", purse.counters),
            ("waiting_calls", purse.waiting),
            ("idle_upstream_connections", idle),
        ];
        for (what, count) in held {
            metrics.held.with_label_values(&[what]).set(whole(count));
        }
        let bounds = [
            ("connections", self.limits.connections),
            ("calls", holdings.most_in_flight),
            ("unfinished_requests", self.limits.connections),
            ("peeked_bytes", size(holdings.most_bytes)),
            ("output_bytes", size(holdings.most_output_bytes)),
            ("content_bytes", size(holdings.most_bytes)),
            ("awaited_responses", holdings.most_awaited),
            ("attempts", holdings.most_attempts),
            ("guarded_requests", MAX_REPEATS),
            ("guarded_conversation_bytes", MAX_CONVERSATION_BYTES),
            ("counters", self.limits.counters),
            ("known_counters", ledger.most_known),
            ("estimated_models", Estimator::MAX_MODELS),
            ("waiting_calls", purse.most_waiting),
        ];
        for (what, bound) in bounds {
            metrics.bound.with_label_values(&[what]).set(whole(bound));
        }
        let over = [
            ("peeked_bytes", holdings.peek_turned_away),
            ("output_bytes", holdings.outputs_turned_away),
            ("content_bytes", holdings.content_turned_away),
            ("awaited_responses", holdings.awaited_turned_away),
            ("attempts", holdings.attempts_forgotten),
            ("guarded_requests", holdings.requests_forgotten),
            (
                "guarded_conversation_bytes",
                holdings.conversations_forgotten,
            ),
            ("counters", purse.overflowed),
            ("known_counters", ledger.rules_unknown),
            ("waiting_calls", purse.turned_away),
            ("idle_upstream_connections", overflow),
            ("prices", emptied),
            ("estimated_models", holdings.estimated_left_out),
            ("estimates", holdings.estimates_missed),
            ("noted_refusals", ledger.refused_unnoted),
        ];
        for (what, count) in over {
            metrics.over.with_label_values(&[what]).inc_by(count);
        }
    }

    fn guards(&self, metrics: &Metrics) {
        let live = self.proxy.live();
        for one in live.guards().tripped(self.control.mono()) {
            let state = one.open_for.map_or("half_open", |_| "open");
            let labels = [&*one.name, state];
            metrics.tripped.with_label_values(&labels).inc();
        }
        let counts = live.guards().breaker_counts();
        let kills = live.guards().kills().list(self.control.wall()).len();
        let (storms, unwatched) = live.guards().storms();
        for (what, count) in [
            ("circuits", counts.circuits),
            ("retry_storms", storms),
            ("kills", kills),
        ] {
            metrics.held.with_label_values(&[what]).set(whole(count));
        }
        for (what, most) in [
            ("circuits", counts.most),
            ("retry_storms", MAX_STORMS),
            ("kills", Kills::MOST),
        ] {
            metrics.bound.with_label_values(&[what]).set(whole(most));
        }
        for (what, count) in [("circuits", counts.unwatched), ("retry_storms", unwatched)] {
            metrics.over.with_label_values(&[what]).inc_by(count);
        }
    }

    fn keys(&self, metrics: &Metrics) {
        let live = self.proxy.live();
        let Some(file) = live.keys_file() else {
            return;
        };
        let valid = file.keys().valid(self.control.wall());
        let held = metrics.held.with_label_values(&["client_keys"]);
        held.set(whole(valid));
        let (used, refused) = file.counts();
        for (event, count) in [("used", used), ("refused", refused)] {
            metrics.keys.with_label_values(&[event]).inc_by(count);
        }
    }

    fn intercepted(&self, metrics: &Metrics) {
        let Some(intercept) = self.proxy.intercept() else {
            return;
        };
        for held in intercept.held() {
            let what = [held.what];
            metrics.held.with_label_values(&what).set(whole(held.now));
            metrics.bound.with_label_values(&what).set(whole(held.most));
            metrics.over.with_label_values(&what).inc_by(held.over);
        }
        for (event, count) in intercept.certificates() {
            let counter = metrics.certificates.with_label_values(&[event]);
            counter.inc_by(count);
        }
    }

    fn process(&self, metrics: &Metrics) {
        let is_ready = self.control.troubles().is_empty();
        metrics.ready.set(i64::from(is_ready));
        let started = self.control.started().as_secs();
        metrics.started.set(whole(started));
        let (since, refused) = self.control.configuration();
        metrics.configured.set(whole(since.as_secs()));
        metrics.refused.set(i64::from(refused));
        let prices = self.control.prices().counts();
        for (event, count) in [
            ("used", prices.used),
            ("unchanged", prices.unchanged),
            ("refused", prices.refused),
            ("failed", prices.failed),
        ] {
            metrics.prices.with_label_values(&[event]).inc_by(count);
        }
        for upstream in &self.upstreams {
            let counts = upstream.counts();
            for (event, count) in [("opened", counts.opened), ("resent", counts.resent)] {
                let counter = metrics.upstream.with_label_values(&[event]);
                counter.inc_by(count);
            }
        }
    }
}

impl Metrics {
    fn new() -> Result<Self, prometheus::Error> {
        let gauge =
            |name: &str, help: &str, label: &str| IntGaugeVec::new(Opts::new(name, help), &[label]);
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels)
        };
        let budget = |name: &str, help: &str| {
            let name = format!("tollgate_budget_{name}_usd");
            GaugeVec::new(Opts::new(name, help), &["budget"])
        };
        Ok(Self {
            budgets: [
                budget("limit", "The limit that holds, raises included.")?,
                budget("spent", "What was spent in the present window.")?,
                budget("reserved", "What calls in flight hold.")?,
                budget("remaining", "What is left.")?,
            ],
            overrun: Gauge::new(
                "tollgate_budget_overrun_usd",
                "What calls cost above what was set aside for them, since the start.",
            )?,
            spans: SpanMetrics::new()?,
            ledger: counter(
                "tollgate_ledger_events_total",
                "What should not happen to the ledger, and does.",
                &["event"],
            )?,
            held: gauge("tollgate_held", "What is held now.", "what")?,
            bound: gauge("tollgate_bound", "The most that may be held.", "what")?,
            over: counter(
                "tollgate_over_bound_total",
                "Times that there was no room for more.",
                &["what"],
            )?,
            tripped: IntGaugeVec::new(
                Opts::new(
                    "tollgate_breakers_tripped",
                    "Circuits that keep calls back, or that some calls try.",
                ),
                &["breaker", "state"],
            )?,
            upstream: counter(
                "tollgate_upstream_events_total",
                "Connections opened to providers, and requests sent again on a new one.",
                &["event"],
            )?,
            prices: counter(
                "tollgate_price_books_total",
                "Price books that were put in force, were still the latest, were refused, or could not be fetched.",
                &["event"],
            )?,
            keys: key_files()?,
            certificates: counter(
                "tollgate_certificates_total",
                "Certificates for hosts that were made, or could not be.",
                &["event"],
            )?,
            ready: IntGauge::new("tollgate_ready", "Whether calls should be sent here.")?,
            started: IntGauge::new(
                "tollgate_start_time_seconds",
                "When the process was started, since the Unix epoch.",
            )?,
            configured: IntGauge::new(
                "tollgate_config_in_force_since_seconds",
                "When the configuration was put in force, since the Unix epoch.",
            )?,
            refused: IntGauge::new(
                "tollgate_config_refused",
                "Whether the configuration was edited since and could not be put in force.",
            )?,
        })
    }

    /// Everything, in the order in which it is told.
    fn all(&self) -> Vec<&dyn Collector> {
        let budgets = self.budgets.iter().map(|gauge| -> &dyn Collector { gauge });
        let spans = self.spans.all();
        let others: [&dyn Collector; 14] = [
            &self.overrun,
            &self.ledger,
            &self.held,
            &self.bound,
            &self.over,
            &self.tripped,
            &self.upstream,
            &self.prices,
            &self.keys,
            &self.certificates,
            &self.ready,
            &self.started,
            &self.configured,
            &self.refused,
        ];
        budgets.chain(spans).chain(others).collect()
    }

    /// Forgets the last scrape: what is gone is not told any more.
    fn empty(&self) {
        self.budgets.iter().for_each(GaugeVec::reset);
        let gauges = [&self.held, &self.bound, &self.tripped];
        gauges.into_iter().for_each(IntGaugeVec::reset);
        let counters = [
            &self.ledger,
            &self.over,
            &self.upstream,
            &self.prices,
            &self.keys,
            &self.certificates,
        ];
        counters.into_iter().for_each(IntCounterVec::reset);
    }
}

fn key_files() -> Result<IntCounterVec, prometheus::Error> {
    let (name, help) = (
        "tollgate_client_key_files_total",
        "Files of client keys that were put in force, or were edited and refused.",
    );
    IntCounterVec::new(Opts::new(name, help), &["event"])
}

impl Collector for Collected {
    fn desc(&self) -> Vec<&Desc> {
        let all = self.metrics.all().into_iter();
        all.flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Self {
            gauges,
            metrics,
            asking,
        } = self;
        let asked = asking.lock();
        metrics.empty();
        gauges.budgets(metrics);
        metrics.spans.fill(&gauges.pipeline);
        gauges.ledger(metrics);
        gauges.bounded(metrics);
        gauges.guards(metrics);
        gauges.keys(metrics);
        gauges.intercepted(metrics);
        gauges.process(metrics);
        let told = metrics.all().into_iter().flat_map(Collector::collect);
        let told = told.collect();
        drop(asked);
        told
    }
}

/// `daily`, or `per_user/user=42`.
fn label(budget: &Budget) -> String {
    if budget.values.is_empty() {
        budget.name.to_string()
    } else {
        format!("{}/{}", budget.name, budget.values)
    }
}

fn whole(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// For display only: what is charged is counted in integers elsewhere.
#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge of dollars is a float by Prometheus' format"
)]
fn dollars(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}
