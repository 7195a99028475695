//! Metrics from what spans say, added up since the start and sent again and again: what was lost on
//! the way is in the next message.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    attribute::{Attributes, Value},
    failure::Failure,
    profile::Profile,
    resource::{Resource, schema, scope},
};
use crate::{
    base::{
        clock::Timestamp,
        protobuf::{Field, Form},
    },
    call::{outcome::Kind, span::Span, usage::UsageSource},
    pipeline::Record,
};

mod points;

use points::Points;

/// The most sets of attributes that are told apart; further ones are added up in one, which says so.
const SETS: usize = 1_000;

/// Seconds, as the conventions have them.
const SECONDS: &[f64] = &[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];

/// Tokens, as the conventions have them.
const TOKENS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// What metrics are told apart by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Key {
    overflow: bool,
    operation: Option<&'static str>,
    provider: Arc<str>,
    request_model: Option<Arc<str>>,
    response_model: Option<Arc<str>>,
    server: Arc<str>,
    error: Option<String>,
}

/// What was added up of one set of attributes.
#[derive(Clone, Debug)]
struct Sums {
    duration: Histogram,
    first_chunk: Histogram,
    input: Histogram,
    output: Histogram,
    cache_read: u64,
    cache_write: u64,
    reasoning: u64,
    /// Billionths of a dollar; none until a cost is known.
    cost: Option<i128>,
}

/// How often values were in each range.
#[derive(Clone, Debug)]
struct Histogram {
    bounds: &'static [f64],
    /// One more than there are bounds.
    counts: Vec<u64>,
    sum: f64,
    least: f64,
    most: f64,
}

/// The metrics of one destination.
#[derive(Debug)]
pub(super) struct Metrics {
    start: Timestamp,
    /// At most [`SETS`] and the overflow.
    sums: HashMap<Key, Sums>,
}

impl Metrics {
    /// With nothing counted since `start`.
    pub(super) fn new(start: Timestamp) -> Self {
        Self {
            start,
            sums: HashMap::new(),
        }
    }

    /// Counts the spans of a batch. Plain requests have no metrics.
    pub(super) fn count(&mut self, batch: &[Arc<Record>]) {
        for record in batch {
            let span = &record.span;
            // What agents report of a call of theirs is a call that we count already.
            let counts =
                span.reported.is_none() && matches!(span.kind, Kind::Llm | Kind::Embedding);
            if counts {
                self.add(span);
            }
        }
    }

    /// Whether there is anything to send.
    pub(super) fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    fn add(&mut self, span: &Span) {
        let mut key = Key::of(span);
        if self.sums.len() >= SETS && !self.sums.contains_key(&key) {
            key = Key {
                overflow: true,
                ..Key::default()
            };
        }
        let sums = self.sums.entry(key).or_insert_with(Sums::new);
        sums.duration.add(span.duration.as_secs_f64());
        if let Some(first) = span.first_chunk.filter(|_| span.stream) {
            sums.first_chunk.add(first.as_secs_f64());
        }
        if let Some(cost) = span.cost {
            let sum = sums.cost.get_or_insert_default();
            *sum = sum.saturating_add(cost.nanos().into());
        }
        // What was not reported is not known: the conventions want it left out.
        if span.usage_source != UsageSource::Reported {
            return;
        }
        let usage = &span.usage;
        for (histogram, count) in [
            (&mut sums.input, usage.input),
            (&mut sums.output, usage.output),
        ] {
            if let Some(count) = count {
                histogram.add(float(count));
            }
        }
        for (sum, count) in [
            (&mut sums.cache_read, usage.cache_read),
            (&mut sums.cache_write, usage.cache_write),
            (&mut sums.reasoning, usage.reasoning),
        ] {
            *sum = sum.saturating_add(count.unwrap_or(0));
        }
    }

    /// The request that sends them.
    pub(super) fn request<F: Form>(
        &self,
        now: Timestamp,
        resource: &Resource,
        profile: Profile,
    ) -> Vec<u8> {
        let mut points = Points::new([self.start, now]);
        for (key, sums) in &self.sums {
            points.of(&key.attributes(profile), sums, profile);
        }
        let mut form = F::default();
        form.messages(Field(1, "resourceMetrics"), [()], |form, ()| {
            resource.write(form, None);
            form.messages(Field(2, "scopeMetrics"), [()], |form, ()| {
                scope(form);
                points.write(form);
                schema(form, profile);
            });
        });
        form.finish()
    }
}

impl Key {
    fn of(span: &Span) -> Self {
        Self {
            overflow: false,
            operation: span.operation,
            provider: Arc::clone(&span.provider),
            request_model: span.request_model.clone(),
            response_model: span.response_model.clone(),
            server: Arc::clone(&span.server_address),
            error: Failure::of(span).map(|failure| failure.kind),
        }
    }

    fn attributes(&self, profile: Profile) -> Attributes {
        let mut found = Attributes::new();
        if self.overflow {
            found.insert("otel.metric.overflow".into(), Value::Bool(true));
            return found;
        }
        // No other conventions have metrics.
        let profile = match profile {
            Profile::Openinference | Profile::Langfuse => Profile::V1_41,
            profile => profile,
        };
        for (name, text) in [
            ("gen_ai.operation.name", self.operation),
            ("gen_ai.provider.name", Some(&*self.provider)),
            ("gen_ai.request.model", self.request_model.as_deref()),
            ("gen_ai.response.model", self.response_model.as_deref()),
            ("server.address", Some(&*self.server)),
            ("error.type", self.error.as_deref()),
        ] {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                profile.rename(name.to_owned(), Value::text(text), &mut found);
            }
        }
        found
    }
}

impl Sums {
    fn new() -> Self {
        Self {
            duration: Histogram::new(SECONDS),
            first_chunk: Histogram::new(SECONDS),
            input: Histogram::new(TOKENS),
            output: Histogram::new(TOKENS),
            cache_read: 0,
            cache_write: 0,
            reasoning: 0,
            cost: None,
        }
    }
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: 0.0,
            least: f64::INFINITY,
            most: f64::NEG_INFINITY,
        }
    }

    fn add(&mut self, value: f64) {
        // A range has its upper bound in it.
        let range = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(range) {
            *count += 1;
        }
        self.sum += value;
        self.least = self.least.min(value);
        self.most = self.most.max(value);
    }

    fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// A count as a fraction: exact below 2^53.
#[expect(clippy::cast_precision_loss, reason = "no call has so many tokens")]
const fn float(count: u64) -> f64 {
    count as f64
}

/// When metrics are due.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Between two messages.
    pub(super) every: Duration,
    /// When the next one is due.
    pub(super) next: crate::base::clock::Instant,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::{super::testing::call, *};
    use crate::{
        base::{id::SpanId, protobuf},
        call::outcome::Status,
    };

    fn batch(spans: impl IntoIterator<Item = Span>) -> Vec<Arc<Record>> {
        let records = spans.into_iter().map(Record::new);
        records.map(Arc::new).collect()
    }

    fn numbered(n: u64) -> Span {
        Span {
            span_id: SpanId::from_bytes(n.to_be_bytes()),
            ..call()
        }
    }

    /// The metric of that name.
    fn metric(metrics: &Metrics, profile: Profile, name: &str) -> Json {
        let resource = Resource::new("agents", None, std::collections::BTreeMap::new());
        let now = metrics.start + Duration::from_mins(1);
        let bytes = metrics.request::<protobuf::Json>(now, &resource, profile);
        let json: Json = serde_json::from_slice(&bytes).unwrap();
        let all = &json["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
        let mut found = all.as_array().unwrap().iter();
        let found = found.find(|metric| metric["name"] == name);
        found.cloned().unwrap_or(Json::Null)
    }

    fn counted(spans: Vec<Span>) -> Metrics {
        let mut metrics = Metrics::new(Timestamp::from_secs(1_795_328_000));
        metrics.count(&batch(spans));
        metrics
    }

    #[test]
    fn durations_tokens_and_cost_are_added_up() {
        let metrics = counted(vec![numbered(1), numbered(2)]);
        let duration = metric(&metrics, Profile::V1_41, "gen_ai.client.operation.duration");
        assert_eq!(duration["unit"], "s");
        let histogram = &duration["histogram"];
        assert_eq!(histogram["aggregationTemporality"], 2);
        let point = &histogram["dataPoints"][0];
        assert_eq!(point["count"], "2");
        assert_eq!(point["sum"], 1.6248);
        assert_eq!(point["min"], 0.8124);
        let counts = point["bucketCounts"].as_array().unwrap();
        assert_eq!(counts.len(), SECONDS.len() + 1);
        assert_eq!(counts[7], "2", "0.64 to 1.28: {counts:?}");
        assert_eq!(point["startTimeUnixNano"], "1795328000000000000");
        let usage = metric(&metrics, Profile::V1_41, "gen_ai.client.token.usage");
        let points = usage["histogram"]["dataPoints"].as_array().unwrap();
        let sums: Vec<_> = points.iter().map(|point| &point["sum"]).collect();
        assert_eq!(sums, [&json!(240), &json!(90)]);
        let cost = metric(&metrics, Profile::V1_41, "tollgate.cost.usd");
        assert_eq!(cost["sum"]["isMonotonic"], true);
        assert_eq!(cost["sum"]["dataPoints"][0]["asDouble"], 0.00125);
    }

    #[test]
    fn the_conventions_to_come_have_counters() {
        let metrics = counted(vec![numbered(1)]);
        let name = "gen_ai.client.inference.usage.cache_write.input_tokens";
        let written = metric(&metrics, Profile::Next, name);
        assert_eq!(written["sum"]["dataPoints"][0]["asDouble"], 5);
        let old = metric(&metrics, Profile::Next, "gen_ai.client.token.usage");
        assert_eq!(old, Json::Null);
    }

    #[test]
    fn what_is_not_known_is_not_counted() {
        let unknown = Span {
            usage_source: UsageSource::Estimated,
            cost: None,
            first_chunk: None,
            ..numbered(1)
        };
        let plain = Span {
            kind: Kind::Http,
            ..numbered(2)
        };
        let metrics = counted(vec![unknown, plain]);
        for name in [
            "gen_ai.client.token.usage",
            "tollgate.cost.usd",
            "gen_ai.client.operation.time_to_first_chunk",
        ] {
            assert_eq!(metric(&metrics, Profile::V1_41, name), Json::Null, "{name}");
        }
        let duration = metric(&metrics, Profile::V1_41, "gen_ai.client.operation.duration");
        assert_eq!(duration["histogram"]["dataPoints"][0]["count"], "1");
    }

    #[test]
    fn failures_are_told_apart_by_their_type() {
        let failed = Span {
            status: Status::Blocked,
            blocked_by: Some("rate.all".into()),
            ..numbered(2)
        };
        let metrics = counted(vec![numbered(1), failed]);
        let duration = metric(&metrics, Profile::V1_41, "gen_ai.client.operation.duration");
        let points = duration["histogram"]["dataPoints"].as_array().unwrap();
        let says = |point: &&Json| point.to_string().contains("rate_limited");
        assert_eq!((points.len(), points.iter().filter(says).count()), (2, 1));
    }

    #[test]
    fn beyond_the_bound_sets_are_one_that_says_so() {
        let spans = (0..SETS as u64 + 5).map(|n| Span {
            request_model: Some(Arc::from(format!("model-{n}"))),
            ..numbered(n)
        });
        let metrics = counted(spans.collect());
        assert_eq!(metrics.sums.len(), SETS + 1);
        let duration = metric(&metrics, Profile::V1_41, "gen_ai.client.operation.duration");
        let points = duration["histogram"]["dataPoints"].as_array().unwrap();
        let overflow = |point: &&Json| point["attributes"][0]["key"] == "otel.metric.overflow";
        let overflow = points.iter().find(overflow).unwrap();
        assert_eq!(overflow["count"], "5");
    }
}
