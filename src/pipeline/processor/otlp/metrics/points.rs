//! What was measured, as OTLP's metrics.

use std::collections::BTreeMap;

use super::{
    super::{
        attribute::{Attributes, Value},
        profile::Profile,
        resource::attributes,
    },
    Histogram, Sums, float,
};
use crate::base::{
    clock::Timestamp,
    protobuf::{Field, Form},
};

/// Billionths of a dollar in dollars.
#[expect(
    clippy::cast_precision_loss,
    reason = "what is told to a tenth of a millionth of the sum; the ledger has it exactly"
)]
fn dollars(nanos: i128) -> f64 {
    nanos as f64 / 1e9
}

/// What a metric is called and measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name(&'static str, &'static str);

/// One value of one set of attributes.
enum Point<'a> {
    Ranges(&'a Histogram),
    Sum(f64),
}

/// Every metric with its points.
pub(super) struct Points<'a> {
    /// Since when, and until when.
    times: [Timestamp; 2],
    metrics: BTreeMap<Name, Vec<(Attributes, Point<'a>)>>,
}

impl<'a> Points<'a> {
    pub(super) const fn new(times: [Timestamp; 2]) -> Self {
        Self {
            times,
            metrics: BTreeMap::new(),
        }
    }

    pub(super) fn of(&mut self, attributes: &Attributes, sums: &'a Sums, profile: Profile) {
        let durations = match profile {
            Profile::Next => [
                "gen_ai.client.inference.duration",
                "gen_ai.client.inference.time_to_first_chunk",
            ],
            _ => [
                "gen_ai.client.operation.duration",
                "gen_ai.client.operation.time_to_first_chunk",
            ],
        };
        for (name, histogram) in durations
            .into_iter()
            .zip([&sums.duration, &sums.first_chunk])
        {
            self.ranges(Name(name, "s"), attributes.clone(), histogram);
        }
        if profile == Profile::Next {
            self.counters(attributes, sums);
        } else {
            for (kind, histogram) in [("input", &sums.input), ("output", &sums.output)] {
                let mut attributes = attributes.clone();
                attributes.insert("gen_ai.token.type".into(), Value::text(kind));
                let name = Name("gen_ai.client.token.usage", "{token}");
                self.ranges(name, attributes, histogram);
            }
        }
        if let Some(cost) = sums.cost {
            let name = Name("tollgate.cost.usd", "{USD}");
            self.sum(name, attributes.clone(), dollars(cost));
        }
    }

    /// Tokens, as the conventions to come have them.
    fn counters(&mut self, attributes: &Attributes, sums: &'a Sums) {
        for (name, histogram) in [
            (
                "gen_ai.client.inference.operation.input_tokens",
                &sums.input,
            ),
            (
                "gen_ai.client.inference.operation.output_tokens",
                &sums.output,
            ),
        ] {
            self.ranges(Name(name, "{token}"), attributes.clone(), histogram);
        }
        if sums.input.count() + sums.output.count() == 0 {
            return;
        }
        for (name, sum) in [
            ("gen_ai.client.inference.usage.input_tokens", sums.input.sum),
            (
                "gen_ai.client.inference.usage.output_tokens",
                sums.output.sum,
            ),
            (
                "gen_ai.client.inference.usage.cache_read.input_tokens",
                float(sums.cache_read),
            ),
            (
                "gen_ai.client.inference.usage.cache_write.input_tokens",
                float(sums.cache_write),
            ),
            (
                "gen_ai.client.inference.usage.reasoning.output_tokens",
                float(sums.reasoning),
            ),
        ] {
            let mut attributes = attributes.clone();
            attributes.insert("gen_ai.token.modality".into(), Value::text("unknown"));
            self.sum(Name(name, "{token}"), attributes, sum);
        }
    }

    fn ranges(&mut self, name: Name, attributes: Attributes, histogram: &'a Histogram) {
        if histogram.count() > 0 {
            let points = self.metrics.entry(name).or_default();
            points.push((attributes, Point::Ranges(histogram)));
        }
    }

    fn sum(&mut self, name: Name, attributes: Attributes, sum: f64) {
        let points = self.metrics.entry(name).or_default();
        points.push((attributes, Point::Sum(sum)));
    }

    pub(super) fn write<F: Form>(&self, form: &mut F) {
        /// Since the start, whatever was sent before.
        const CUMULATIVE: u32 = 2;
        let temporality = Field(2, "aggregationTemporality");
        form.messages(
            Field(2, "metrics"),
            &self.metrics,
            |form, (name, points)| {
                form.text(Field(1, "name"), name.0);
                form.text(Field(3, "unit"), name.1);
                let ranges = matches!(points.first(), Some((_, Point::Ranges(_))));
                let kind = if ranges {
                    Field(9, "histogram")
                } else {
                    Field(7, "sum")
                };
                form.message(kind, |form| {
                    form.messages(Field(1, "dataPoints"), points, |form, point| {
                        self.point(form, point);
                    });
                    form.number(temporality, CUMULATIVE);
                    if !ranges {
                        form.flag(Field(3, "isMonotonic"), true);
                    }
                });
            },
        );
    }

    fn point<F: Form>(&self, form: &mut F, (set, point): &(Attributes, Point<'_>)) {
        let [start, now] = self.times;
        form.fixed(Field(2, "startTimeUnixNano"), start.as_nanos());
        form.fixed(Field(3, "timeUnixNano"), now.as_nanos());
        match point {
            Point::Sum(sum) => {
                form.double(Field(4, "asDouble"), *sum);
                attributes(form, 7, set);
            },
            Point::Ranges(histogram) => {
                form.fixed(Field(4, "count"), histogram.count());
                form.double(Field(5, "sum"), histogram.sum);
                form.fixeds(Field(6, "bucketCounts"), &histogram.counts);
                form.doubles(Field(7, "explicitBounds"), histogram.bounds);
                attributes(form, 9, set);
                form.double(Field(11, "min"), histogram.least);
                form.double(Field(12, "max"), histogram.most);
            },
        }
    }
}
