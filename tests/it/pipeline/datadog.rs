//! Datadog's products, each with what it must get and nothing twice.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::net::UdpSocket;
use tollgate::{
    base::clock::{Clock, Instant, SystemClock, Timestamp},
    call::span::Span,
    pipeline::{BuildContext, Pipeline, Stats},
};

use super::{
    sink::{Does, Seen, Sink, TAKES},
    sinks::{span, with_metrics},
};
use crate::support::{conserved, sandbox::PATIENCE};

const UNAVAILABLE: Does = Does::Answers(503, None);

const TRACES: &str = "/v0.4/traces";
const EVENTS: &str = "/evp_proxy/v2/api/v2/llmobs";

/// A minute after the spans of these tests began.
struct Then;

impl Clock for Then {
    fn wall(&self) -> Timestamp {
        span(1).start + Duration::from_mins(1)
    }

    fn mono(&self) -> Instant {
        SystemClock.mono()
    }
}

async fn told(yaml: &str, spans: Vec<Span>) -> Stats {
    sampled(yaml, "{rate: 1}", spans).await
}

async fn sampled(yaml: &str, sampling: &str, spans: Vec<Span>) -> Stats {
    let mut outlets = with_metrics(yaml, sampling, &BuildContext::new(Arc::new(Then)));
    outlets[0].delivery.backoff = Duration::from_millis(1);
    let pipeline = Pipeline::start(Vec::new(), outlets, Arc::new(SystemClock)).unwrap();
    for span in spans {
        pipeline.offer(span);
    }
    assert!(pipeline.flush(PATIENCE).await);
    let stats = pipeline.stats()[0].1;
    conserved(&stats);
    pipeline.close(PATIENCE).await;
    stats
}

fn targets(sink: &Sink) -> Vec<String> {
    sink.seen().into_iter().map(|seen| seen.target).collect()
}

fn header<'a>(seen: &'a Seen, name: &str) -> &'a str {
    seen.headers[name].to_str().unwrap()
}

#[tokio::test]
async fn what_one_product_has_is_not_sent_again_for_the_other() {
    let sink = Sink::start(&[UNAVAILABLE, TAKES, UNAVAILABLE, UNAVAILABLE], TAKES).await;
    let yaml = format!(
        "{{type: datadog, max_retries: 9, endpoint: '{}'}}",
        sink.url
    );
    let stats = told(&yaml, (1..=3).map(span).collect()).await;
    assert_eq!((stats.delivered, stats.retried), (3, 3), "{stats:?}");
    assert_eq!(targets(&sink), [TRACES, TRACES, EVENTS, EVENTS, EVENTS]);
    let seen = sink.seen();
    assert_eq!((&*seen[1].method, &*seen[2].method), ("PUT", "POST"));
    assert_eq!(header(&seen[1], "content-type"), "application/msgpack");
    assert_eq!(header(&seen[1], "x-datadog-trace-count"), "3");
    assert_eq!(header(&seen[2], "x-datadog-evp-subdomain"), "llmobs-intake");
    assert_eq!(seen[2].body, seen[4].body);
}

#[tokio::test]
async fn a_product_that_refuses_keeps_the_other_from_nothing() {
    let sink = Sink::start(&[Does::Answers(404, None)], TAKES).await;
    let yaml = format!("{{type: datadog, endpoint: '{}'}}", sink.url);
    let stats = told(&yaml, (1..=3).map(span).collect()).await;
    assert_eq!((stats.failed, stats.retried), (3, 0), "{stats:?}");
    assert_eq!(targets(&sink), [TRACES, EVENTS]);
}

#[tokio::test]
async fn a_batch_that_one_product_wants_in_halves_is_not_sent_again_to_the_other() {
    let sink = Sink::start(&[TAKES, Does::Answers(413, None)], TAKES).await;
    let yaml = format!("{{type: datadog, endpoint: '{}'}}", sink.url);
    let stats = told(&yaml, (1..=4).map(span).collect()).await;
    assert_eq!((stats.delivered, stats.halved), (4, 1), "{stats:?}");
    assert_eq!(targets(&sink), [TRACES, EVENTS, EVENTS, EVENTS]);
}

#[tokio::test]
async fn without_an_agent_events_go_with_the_key_and_old_spans_are_counted() {
    let sink = Sink::start(&[], TAKES).await;
    let yaml = format!(
        "{{type: datadog, api_key: hush-hush, endpoint: '{}', ml_app: bot}}",
        sink.url
    );
    let old = Span {
        start: span(1).start - Duration::from_hours(24),
        ..span(2)
    };
    let stats = told(&yaml, vec![span(1), old, span(3)]).await;
    assert_eq!((stats.delivered, stats.failed), (2, 1), "{stats:?}");
    let seen = sink.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].target, "/api/intake/llm-obs/v1/trace/spans");
    assert_eq!(header(&seen[0], "dd-api-key"), "hush-hush");
    let body: Value = serde_json::from_slice(&seen[0].body).unwrap();
    let told = body["data"]["attributes"]["spans"].as_array().unwrap();
    assert_eq!(told.len(), 2);
}

#[tokio::test]
async fn metrics_go_to_dogstatsd_once_however_often_spans_are_sent() {
    let listener = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let statsd = listener.local_addr().unwrap();
    let sink = Sink::start(&[UNAVAILABLE, TAKES, UNAVAILABLE], TAKES).await;
    let yaml = format!(
        "{{type: datadog, endpoint: '{}', max_retries: 9, metrics: true, dogstatsd: '{statsd}', \
         service: bot, version: \"1.2\", tags: {{team: a}}}}",
        sink.url
    );
    let stats = told(&yaml, vec![span(1)]).await;
    assert_eq!((stats.delivered, stats.retried), (1, 2), "{stats:?}");
    let mut packet = [0; 2_048];
    let length = listener.try_recv(&mut packet).unwrap();
    let text = std::str::from_utf8(&packet[..length]).unwrap();
    let first = "ai_agents.spans:1|c|#service:bot,span_type:llm,status:ok,provider:openai,\
                 model:model-1,team:a,version:1.2\n";
    assert!(text.starts_with(first), "{text}");
    assert!(
        text.contains("ai_agents.span.duration:10000.000|d|#"),
        "{text}"
    );
    assert!(listener.try_recv(&mut packet).is_err(), "sent again");
}

#[tokio::test]
async fn of_spans_that_are_not_chosen_there_are_metrics() {
    let listener = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let statsd = listener.local_addr().unwrap();
    let sink = Sink::start(&[], TAKES).await;
    let yaml = format!(
        "{{type: datadog, endpoint: '{}', metrics: true, dogstatsd: '{statsd}'}}",
        sink.url
    );
    let same = (1..=5).map(|n| Span {
        request_model: Some("gpt-4o".into()),
        ..span(n)
    });
    let stats = sampled(&yaml, "{rate: 0}", same.collect()).await;
    assert_eq!((stats.delivered, stats.held), (1, 4), "{stats:?}");
    let mut packets = String::new();
    let mut packet = [0; 2_048];
    while let Ok(length) = listener.try_recv(&mut packet) {
        packets.push_str(std::str::from_utf8(&packet[..length]).unwrap());
    }
    assert_eq!(packets.matches("ai_agents.spans:1|c|").count(), 5);
}
