//! What the webhook counts.

use std::time::Duration;

use prometheus::{Gauge, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

/// What the webhook counts.
pub(super) struct Metrics {
    pub(super) registry: Registry,
    reviews: IntCounterVec,
    took: Histogram,
    asked: IntCounterVec,
    kept: IntCounterVec,
    checks: IntCounterVec,
    ends: Gauge,
    connections: IntGauge,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Values of one label.
macro_rules! values {
    ($($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $value:ident = $text:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum $name {
            $($(#[$of])* $value,)*
        }

        impl $name {
            /// All of them.
            fn texts() -> Vec<&'static str> {
                [$(Self::$value),*].map(Self::text).to_vec()
            }

            const fn text(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)*
                }
            }
        }
    )*};
}

values! {
    /// What became of a review.
    Outcome {
        /// The pod gets the sidecar.
        Injected = "injected",
        /// The pod stays as it is.
        Unwanted = "unwanted",
        /// The pod is refused.
        Refused = "refused",
        /// The API server did not tell what has to be known: `failurePolicy` decides.
        Unavailable = "unavailable",
        /// It was no review.
        Malformed = "malformed",
    }
    /// What became of a question to the API server.
    Asked {
        Ok = "ok",
        Missing = "missing",
        Conflict = "conflict",
        Denied = "denied",
        Failed = "failed",
    }
    /// What became of a look at what is kept of the API server's answers.
    Kept {
        /// It was there.
        Found = "found",
        /// It was asked for.
        Fetched = "fetched",
        /// It was there, and old, and the server does not answer.
        Stale = "stale",
        /// Another had to go.
        Evicted = "evicted",
    }
    /// What became of a look at the certificate.
    Check {
        Ok = "ok",
        Failed = "failed",
    }
}

/// Upper bounds of the time that a review takes, in seconds.
const BUCKETS: [f64; 11] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0,
];

impl Metrics {
    pub(super) fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, label: &str, values: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            for value in values {
                counters.with_label_values(&[value]);
            }
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let reviews = counters(
            "tollgate_webhook_reviews_total",
            "Reviews of pods, by what became of them",
            "outcome",
            &Outcome::texts(),
        )?;
        let asked = counters(
            "tollgate_webhook_api_requests_total",
            "Questions to the API server, by what became of them",
            "result",
            &Asked::texts(),
        )?;
        let kept = counters(
            "tollgate_webhook_kept_total",
            "Looks at namespaces and ConfigMaps that are kept, by what became of them",
            "what",
            &Kept::texts(),
        )?;
        let checks = counters(
            "tollgate_webhook_certificate_checks_total",
            "Looks at the certificate and at who vouches for it, by what became of them",
            "result",
            &Check::texts(),
        )?;
        let took = HistogramOpts::new(
            "tollgate_webhook_review_seconds",
            "Time from the end of a review to its answer",
        );
        let took = Histogram::with_opts(took.buckets(BUCKETS.to_vec()))?;
        let ends = Gauge::new(
            "tollgate_webhook_certificate_end_seconds",
            "When the certificate that is shown ends, in seconds since the epoch; 0: there is none",
        )?;
        let connections = IntGauge::new(
            "tollgate_webhook_connections",
            "Connections that are open now",
        )?;
        registry.register(Box::new(took.clone()))?;
        registry.register(Box::new(ends.clone()))?;
        registry.register(Box::new(connections.clone()))?;
        Ok(Self {
            registry,
            reviews,
            took,
            asked,
            kept,
            checks,
            ends,
            connections,
        })
    }

    pub(super) fn reviewed(&self, outcome: Outcome, took: Duration) {
        self.reviews.with_label_values(&[outcome.text()]).inc();
        self.took.observe(took.as_secs_f64());
    }

    pub(super) fn asked(&self, asked: Asked) {
        self.asked.with_label_values(&[asked.text()]).inc();
    }

    pub(super) fn kept(&self, kept: Kept) {
        self.kept.with_label_values(&[kept.text()]).inc();
    }

    pub(super) fn checked(&self, check: Check) {
        self.checks.with_label_values(&[check.text()]).inc();
    }

    /// When the certificate that is shown ends.
    pub(super) fn shown(&self, ends: crate::base::clock::Timestamp) {
        self.ends
            .set(Duration::from_nanos(ends.as_nanos()).as_secs_f64());
    }

    pub(super) fn connected(&self, count: usize) {
        self.connections
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
