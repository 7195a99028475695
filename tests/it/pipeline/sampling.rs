//! Traces of a running Tollgate that are left out, and those that are not.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::sink::{Sink, TAKES};
use crate::support::{
    Sandbox,
    sandbox::{configuration, until},
};

const PATH: &str = "/v1/chat/completions";

/// A trace whose id has this as its random part's first byte: `80` is where the chosen half begins.
fn trace(byte: u8, n: u32) -> String {
    format!(
        "{:032x}",
        (u128::from(n) << 64) | (u128::from(byte) << 48) | 1
    )
}

fn body(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}]})
}

/// Destinations elsewhere: a webhook, and a collector.
struct Bench {
    sandbox: Sandbox,
    hook: Sink,
    collector: Sink,
    files: TempDir,
}

const ELSEWHERE: [&str; 2] = ["webhook", "otlp"];

impl Bench {
    async fn new(sampling: &str) -> Self {
        let (hook, collector) = (Sink::start(&[], TAKES).await, Sink::start(&[], TAKES).await);
        let files = tempfile::tempdir().unwrap();
        let yaml = yaml(sampling, &hook, &collector, &files);
        let bench = Self {
            sandbox: Sandbox::new(&yaml),
            hook,
            collector,
            files,
        };
        // The first call of a model is kept whatever is sampled.
        bench.call(&trace(0, 1_000_000), None).await;
        bench
    }

    /// A call of the trace, with the sampled flag if the client is to say so.
    async fn call(&self, trace: &str, flag: Option<u8>) -> u16 {
        self.call_model(trace, flag, "gpt-4o").await
    }

    /// B3 may leave the choice to others, `traceparent` may not.
    async fn call_model(&self, trace: &str, flag: Option<u8>, model: &str) -> u16 {
        let (name, value) = match flag {
            Some(flag) => (
                "traceparent",
                format!("00-{trace}-b7ad6b7169203331-{flag:02x}"),
            ),
            None => ("b3", format!("{trace}-b7ad6b7169203331")),
        };
        let headers = [(name, &*value)];
        let answer = self.sandbox.post_with(PATH, &headers, &body(model)).await;
        answer.status.as_u16()
    }

    async fn failing_call(&self, trace: &str) {
        self.sandbox.mock.next_with("status=500").unwrap();
        assert_eq!(self.call(trace, None).await, 500);
    }

    fn outcome(&self, processor: &str, outcome: &str) -> i64 {
        let labels = format!("outcome=\"{outcome}\",processor=\"{processor}\"");
        let count = self
            .sandbox
            .metric(&format!("tollgate_spans_total{{{labels}}}"));
        count as i64
    }

    fn gauge(&self, name: &str, processor: &str) -> i64 {
        let name = format!("tollgate_spans_{name}{{processor=\"{processor}\"}}");
        self.sandbox.metric(&name) as i64
    }

    /// Waits until every call is told of or left out, and says so of each processor.
    async fn settle(&self, calls: i64) {
        until("all spans to be offered", || {
            self.gauge("offered_total", "store") == calls
        })
        .await;
        assert!(self.sandbox.app.flush().await);
        for processor in ["store", "file", "webhook", "otlp"] {
            let outcomes = ["delivered", "failed", "dropped", "filtered", "sampled_out"];
            let ended: i64 = outcomes.iter().map(|it| self.outcome(processor, it)).sum();
            let waiting: i64 = ["queued", "buffered", "held"]
                .iter()
                .map(|it| self.gauge(it, processor))
                .sum();
            assert_eq!(ended + waiting, calls, "{processor}");
        }
        for everything in ["store", "file"] {
            assert_eq!(self.outcome(everything, "delivered"), calls, "{everything}");
        }
    }

    /// The traces of which each destination got spans, with how many and with what rates; but for
    /// the first call.
    fn told(&self) -> [BTreeSet<(String, String)>; 2] {
        let seen = self.hook.seen();
        let bodies = seen
            .iter()
            .map(|it| serde_json::from_slice::<Value>(&it.body));
        let spans = bodies.flat_map(|it| it.unwrap()["spans"].as_array().unwrap().clone());
        let hook = spans.map(|span| {
            let rate = rate(&span["attributes"]["tollgate.sampling.rate"]);
            (text(&span["trace_id"]), rate)
        });
        let seen = self.collector.seen();
        let bodies = seen
            .iter()
            .map(|it| serde_json::from_slice::<Value>(&it.body));
        let spans = bodies.flat_map(|it| {
            let all = &it.unwrap()["resourceSpans"][0]["scopeSpans"][0]["spans"];
            all.as_array().unwrap().clone()
        });
        let collector = spans.map(|span| {
            let attributes = span["attributes"].as_array().unwrap();
            let told = attributes
                .iter()
                .find(|it| it["key"] == "tollgate.sampling.rate");
            let rate = told.map_or_else(
                || rate(&Value::Null),
                |it| rate(&it["value"]["doubleValue"]),
            );
            (text(&span["traceId"]), rate)
        });
        let first = trace(0, 1_000_000);
        let told = |spans: Vec<(String, String)>| {
            let spans = spans.into_iter().filter(|(trace, _)| *trace != first);
            let mut counted = BTreeMap::new();
            for (trace, rate) in spans {
                *counted.entry((trace, rate)).or_insert(0) += 1;
            }
            let told = counted.into_iter();
            told.map(|((trace, rate), count)| (trace, format!("{count} at {rate}")))
                .collect()
        };
        [told(hook.collect()), told(collector.collect())]
    }

    fn are_told(&self, expected: &[(&str, &str)]) {
        let told = |(trace, how): &(&str, &str)| ((*trace).to_owned(), (*how).to_owned());
        let expected: BTreeSet<_> = expected.iter().map(told).collect();
        let told = self.told();
        assert_eq!(told[0], expected, "webhook");
        assert_eq!(told[1], expected, "otlp");
    }
}

/// The share that a span says that it is of, in words.
fn rate(value: &Value) -> String {
    value
        .as_f64()
        .map_or_else(|| "none".to_owned(), |share| share.to_string())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn yaml(sampling: &str, hook: &Sink, collector: &Sink, files: &TempDir) -> String {
    let (hook, collector, files) = (&hook.url, &collector.url, files.path().display());
    format!(
        "
tracing:
  sampling: {sampling}
  processors:
    - {{type: webhook, url: '{hook}/hook', sampling: {sampling}}}
    - {{type: otlp, endpoint: '{collector}', protocol: http/json, compression: none, flush_interval: 100ms}}
    - {{type: file, directory: '{files}'}}
"
    )
}

#[tokio::test]
async fn each_destination_elsewhere_gets_the_same_traces_and_the_others_get_all() {
    let bench = Bench::new("{strategy: probabilistic, rate: 0.5}").await;
    let out: Vec<_> = (0..8).map(|n| trace(0x7f, n)).collect();
    let kept: Vec<_> = (0..5).map(|n| trace(0x80, n)).collect();
    for trace in out.iter().chain(&kept) {
        bench.call(trace, None).await;
        bench.call(trace, None).await;
    }
    bench.settle(1 + 2 * 13).await;
    let expected: Vec<_> = kept.iter().map(|trace| (&**trace, "2 at 0.5")).collect();
    bench.are_told(&expected);
    for processor in ELSEWHERE {
        assert_eq!(bench.gauge("held", processor), 16, "{processor}");
    }
    bench.sandbox.stop().await;
}

#[tokio::test]
async fn a_failure_takes_what_its_agent_did_before_along() {
    let bench = Bench::new("{rate: 0}").await;
    let (agent, other) = (trace(0xff, 1), trace(0xff, 2));
    for trace in [&agent, &other, &agent] {
        bench.call(trace, None).await;
    }
    bench.settle(4).await;
    bench.are_told(&[]);
    bench.failing_call(&agent).await;
    bench.call(&agent, None).await;
    bench.settle(6).await;
    bench.are_told(&[(&agent, "4 at 1")]);
    for processor in ELSEWHERE {
        assert_eq!(bench.gauge("held", processor), 1, "{processor}");
    }
    bench.sandbox.stop().await;
}

#[tokio::test]
async fn what_the_client_says_of_its_trace_is_done_but_failures_are_kept() {
    let bench = Bench::new("{rate: 0.5}").await;
    let traces = [0x10, 0x20, 0xa0, 0xb0, 0xc0].map(|byte| trace(byte, 1));
    bench.call(&traces[0], Some(1)).await;
    bench.call(&traces[1], Some(0)).await;
    bench.call(&traces[2], Some(0)).await;
    bench.call(&traces[3], Some(1)).await;
    bench.sandbox.mock.next_with("status=500").unwrap();
    bench.call(&traces[4], Some(0)).await;
    bench.settle(6).await;
    let kept = [0, 3, 4].map(|at| (&*traces[at], "1 at 1"));
    bench.are_told(&kept);
    bench.sandbox.stop().await;
}

#[tokio::test]
async fn refused_slow_costly_and_first_calls_are_kept_of_many() {
    let sampling = "{strategy: adaptive, target_rate: 0.001, min_sample_rate: 0, \
                    max_sample_rate: 0, costly_usd: 0.00001}";
    let bench = Bench::new(sampling).await;
    let costly = trace(1, 1);
    let first = trace(1, 2);
    let second = trace(1, 3);
    // The mock's answers are billed at what the price book says, or at nothing that is known.
    bench.call(&costly, None).await;
    bench.call_model(&first, None, "my-own-model").await;
    bench.call_model(&second, None, "my-own-model").await;
    bench.settle(4).await;
    bench.are_told(&[(&costly, "1 at 1"), (&first, "1 at 1")]);
    bench.sandbox.stop().await;
}

#[tokio::test]
async fn a_reload_and_the_end_count_what_still_waits() {
    let mut bench = Bench::new("{rate: 0}").await;
    bench.call(&trace(1, 1), None).await;
    bench.settle(2).await;
    let place = bench.sandbox.directory.path().to_owned();
    let yaml = yaml("{rate: 1}", &bench.hook, &bench.collector, &bench.files);
    let after = configuration(&yaml, &place, &bench.sandbox.mock.url());
    bench.sandbox.app.reload(after).await.unwrap();
    let kept = trace(1, 2);
    bench.call(&kept, None).await;
    let told = || bench.told().iter().all(|told| told.len() == 1);
    until("the call to be told of", told).await;
    bench.are_told(&[(&kept, "1 at none")]);
    bench.sandbox.stop().await;
}
