//! Messages of webhooks and of Slack, as they arrive.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ring::hmac;
use serde_json::{Value, json};
use tollgate::{
    base::{
        clock::{Clock, Instant, SystemClock, Timestamp},
        id::SpanId,
        money::Usd,
    },
    call::{
        labels::{Label, Source},
        outcome::{Kind, Status},
        span::Span,
    },
    pipeline::{BuildContext, Config, Pipeline, Stats},
};

use super::sink::{Does, Sink, TAKES};
use crate::support::{
    Sandbox, conserved,
    sandbox::{PATIENCE, until},
};

const NOW: Timestamp = Timestamp::from_secs(1_795_328_714);

/// Stands still until it is moved.
struct Still(Instant, AtomicU64);

impl Clock for Still {
    fn wall(&self) -> Timestamp {
        NOW
    }

    fn mono(&self) -> Instant {
        self.0 + Duration::from_secs(self.1.load(Relaxed))
    }
}

/// A pipeline of one processor, which has a clock that stands still.
struct Bench {
    pipeline: Pipeline,
    clock: Arc<Still>,
}

impl Bench {
    fn new(processor: &str) -> Self {
        let clock = Arc::new(Still(SystemClock.mono(), AtomicU64::new(0)));
        let config = format!(
            "{{service_name: agents, buffering: {{persist_buffer: false}}, processors: [{processor}]}}"
        );
        let config: Config = serde_saphyr::from_str(&config).unwrap();
        let told: Arc<dyn Clock> = Arc::<Still>::clone(&clock);
        let outlets = config.build(&BuildContext::new(told)).unwrap();
        Self {
            pipeline: Pipeline::start(Vec::new(), outlets, Arc::new(SystemClock)).unwrap(),
            clock,
        }
    }

    async fn tell(&self, spans: impl IntoIterator<Item = Span>) -> Stats {
        for span in spans {
            self.pipeline.offer(span);
        }
        assert!(self.pipeline.flush(PATIENCE).await);
        let stats = self.pipeline.stats()[0].1;
        conserved(&stats);
        stats
    }
}

fn span(status: Status, millis: u64) -> Span {
    let mut span = Span {
        span_id: SpanId::from_bytes(millis.to_be_bytes()),
        kind: Kind::Llm,
        operation: Some("chat"),
        status,
        duration: Duration::from_millis(millis),
        request_model: Some("gpt-<4o>".into()),
        response_model: Some("gpt-4o-2024-08-06".into()),
        ..Span::begun(NOW)
    };
    span.labels.set(Label::Agent, "a & b", Source::Header);
    span
}

fn bodies(sink: &Sink) -> Vec<Value> {
    let seen = sink.seen();
    seen.iter()
        .map(|seen| serde_json::from_slice(&seen.body).unwrap())
        .collect()
}

#[tokio::test]
async fn slack_is_told_of_slow_and_failed_calls_in_the_guides_words() {
    let sink = Sink::start(&[], TAKES).await;
    let url = &sink.url;
    let bench = Bench::new(&format!(
        "{{type: slack, webhook_url: '{url}/services/T/B/x', alert_threshold: 5000}}"
    ));
    let stats = bench
        .tell([
            span(Status::Ok, 4_999),
            span(Status::Ok, 5_001),
            span(Status::Error, 10),
        ])
        .await;
    assert_eq!((stats.delivered, stats.filtered), (2, 1));
    let message = |text: &str, color: &str, duration: &str| {
        let field =
            |title: &str, value: &str| json!({"title": title, "value": value, "short": true});
        json!({"text": text, "attachments": [{"color": color, "fields": [
            field("Operation", "chat gpt-&lt;4o&gt;"),
            field("Duration", duration),
            field("Agent", "a &amp; b"),
            field("Model", "gpt-4o-2024-08-06"),
        ]}]})
    };
    let expected = [
        message("Slow AI operation detected", "warning", "5001ms"),
        message("AI operation failed", "danger", "10ms"),
    ];
    assert_eq!(bodies(&sink), expected);
    for seen in sink.seen() {
        assert_eq!(seen.headers["content-type"], "application/json");
        assert_eq!(seen.target, "/services/T/B/x");
    }
}

#[tokio::test]
async fn a_hundred_slow_calls_are_a_few_messages_and_the_next_one_counts_the_rest() {
    let sink = Sink::start(&[], TAKES).await;
    let url = &sink.url;
    let bench = Bench::new(&format!(
        "{{type: slack, webhook_url: {url}, rate_limit: {{messages: 3, per: 1m}}}}"
    ));
    let slow = (0..100).map(|n| span(Status::Ok, 6_000 + n));
    let stats = bench.tell(slow).await;
    assert_eq!((stats.delivered, sink.seen().len()), (100, 3));
    bench.clock.1.store(60, Relaxed);
    bench
        .tell([span(Status::Ok, 7_000), span(Status::Error, 7_001)])
        .await;
    let bodies = bodies(&sink);
    assert_eq!(
        bodies[3]["text"],
        "Slow AI operation detected (and 97 more)"
    );
    assert_eq!(bodies[4]["text"], "AI operation failed");
    // Upkeep comes after the batches.
    until("what was suppressed to be counted", || {
        bench.pipeline.stats()[0].1.suppressed == 97
    })
    .await;
}

#[tokio::test]
async fn a_slack_message_is_small_whatever_the_names_are() {
    let sink = Sink::start(&[], TAKES).await;
    let bench = Bench::new(&format!("{{type: slack, webhook_url: {}}}", sink.url));
    let mut long = span(Status::Error, 1);
    long.request_model = Some("&".repeat(100_000).into());
    long.response_model = None;
    bench.tell([long]).await;
    let bodies = bodies(&sink);
    let fields = bodies[0]["attachments"][0]["fields"].as_array().unwrap();
    assert!(fields.len() <= 10);
    for field in fields {
        let text = field["value"].as_str().unwrap();
        assert!(text.chars().count() <= 2_000, "{text}");
    }
}

#[tokio::test]
async fn a_message_is_signed_with_its_time() {
    let sink = Sink::start(&[], TAKES).await;
    let bench = Bench::new(&format!(
        "{{type: webhook, url: {}, signing_secret: hush, compression: gzip, headers: {{x-a: b}}}}",
        sink.url
    ));
    bench.tell([span(Status::Ok, 1)]).await;
    let seen = &sink.seen()[0];
    assert_eq!(seen.headers["x-a"], "b");
    let signature = seen.headers["x-tollgate-signature"].to_str().unwrap();
    let (time, hex) = signature.split_once(",v1=").unwrap();
    assert_eq!(time, "t=1795328714");
    let tag: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"hush");
    let signed = [b"1795328714.", &*seen.body].concat();
    assert!(hmac::verify(&key, &signed, &tag).is_ok());
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!(body["spans"][0]["duration_ms"], 1);
}

#[tokio::test]
async fn a_template_that_fails_costs_its_span_and_no_other() {
    let sink = Sink::start(&[], TAKES).await;
    let template = "{{ service_name }} {{ 10 // (span.duration_ms - 2) }}";
    let bench = Bench::new(&format!(
        "{{type: webhook, url: {}, content_type: text/plain, template: '{template}'}}",
        sink.url
    ));
    let spans = [1, 2, 12].map(|millis| span(Status::Ok, millis));
    let stats = bench.tell(spans).await;
    assert_eq!((stats.delivered, stats.failed, stats.retried), (2, 1, 0));
    let seen = sink.seen();
    let texts: Vec<&str> = seen
        .iter()
        .map(|seen| std::str::from_utf8(&seen.body).unwrap())
        .collect();
    assert_eq!(texts, ["agents -10", "agents 1"]);
    assert_eq!(seen[0].headers["content-type"], "text/plain");
}

#[tokio::test]
async fn only_what_meets_the_conditions_is_told() {
    let sink = Sink::start(&[], TAKES).await;
    let bench = Bench::new(&format!(
        "{{type: webhook, url: {}, min_cost_usd: 0.50, match: {{agent: 'a *', status: ok}}}}",
        sink.url
    ));
    let costing = |nanos, status| Span {
        cost: Some(Usd::from_nanos(nanos)),
        ..span(status, 1)
    };
    let stats = bench
        .tell([
            costing(499_999_999, Status::Ok),
            costing(500_000_000, Status::Ok),
            costing(500_000_000, Status::Error),
            span(Status::Ok, 1),
        ])
        .await;
    assert_eq!((stats.delivered, stats.filtered), (1, 3));
}

/// The guide's `SlackProcessor`, in configuration alone.
#[tokio::test]
async fn a_failed_call_is_told_by_a_running_tollgate_though_slack_fails_at_first() {
    let sink = Sink::start(&[Does::Answers(500, None)], TAKES).await;
    let yaml = format!(
        "tracing: {{processors: [{{type: slack, webhook_url: {}, alert_threshold: 5000}}]}}",
        sink.url
    );
    let sandbox = Sandbox::new(&yaml);
    sandbox.mock.next_with("status=500").unwrap();
    let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]});
    let answer = sandbox.post("/v1/chat/completions", &body).await;
    assert_eq!(answer.status, 500);
    until("Slack to be told", || sink.seen().len() == 2).await;
    let bodies = bodies(&sink);
    assert_eq!(bodies[1]["text"], "AI operation failed");
    assert_eq!(bodies[0], bodies[1]);
    sandbox.stop().await;
}
