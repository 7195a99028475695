//! What OTLP and its presets send where, through real sockets.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tollgate::{
    base::{clock::SystemClock, money::Usd},
    call::{
        span::Span,
        usage::{Usage, UsageSource},
    },
    pipeline::{BuildContext, Config, Outlet, Pipeline},
};

use super::{
    sink::{Does, Seen, Sink, TAKES},
    sinks::{span, with_metrics},
};
use crate::support::{conserved, sandbox::PATIENCE};

/// The context of a service with a name, and variables that hold keys.
fn context() -> BuildContext {
    BuildContext {
        service_name: "agents".into(),
        environment: Some("prod".into()),
        variable: &|name| name.ends_with("_KEY").then(|| format!("from {name}")),
        ..BuildContext::new(Arc::new(SystemClock))
    }
}

/// What arrives of two spans, at the processor that `yaml` makes with an endpoint.
async fn sent(yaml: &str) -> Vec<Seen> {
    let sink = Sink::start(&[], TAKES).await;
    let yaml = yaml.replace("URL", &sink.url);
    deliver(with_metrics(&yaml, "{rate: 1}", &context())).await;
    sink.seen()
}

async fn deliver(outlets: Vec<Outlet>) {
    let clock = Arc::new(SystemClock);
    let pipeline = Pipeline::start(Vec::new(), outlets, clock).unwrap();
    for n in [1, 2] {
        pipeline.offer(Span {
            request_model: Some("gpt-4o".into()),
            usage: Usage::text(120, 45),
            usage_source: UsageSource::Reported,
            cost: Some(Usd::from_nanos(1_500_000)),
            ..span(n)
        });
    }
    assert!(pipeline.flush(PATIENCE).await, "{:?}", pipeline.stats());
    let stats = pipeline.stats()[0].1;
    assert_eq!(stats.delivered, 2, "{stats:?}");
    conserved(&stats);
    pipeline.close(PATIENCE).await;
}

fn header<'a>(seen: &'a Seen, name: &str) -> &'a str {
    let value = seen.headers.get(name);
    value.map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn each_preset_has_its_own_path_and_headers() {
    for (yaml, target, name, value) in [
        (
            "{type: otlp, endpoint: URL}",
            "/v1/traces",
            "content-type",
            "application/x-protobuf",
        ),
        (
            "{type: otlp, endpoint: URL}",
            "/v1/traces",
            "content-encoding",
            "gzip",
        ),
        (
            "{type: otlp, endpoint: 'URL/otlp/v1/traces', protocol: http/json, headers: {x-key: k}}",
            "/otlp/v1/traces",
            "x-key",
            "k",
        ),
        (
            "{type: langfuse, endpoint: URL, public_key: pk, secret_key: sk}",
            "/api/public/otel/v1/traces",
            "authorization",
            "Basic cGs6c2s=",
        ),
        (
            "{type: langfuse, endpoint: URL}",
            "/api/public/otel/v1/traces",
            "x-langfuse-ingestion-version",
            "4",
        ),
        (
            "{type: phoenix, endpoint: URL}",
            "/v1/traces",
            "authorization",
            "Bearer from PHOENIX_API_KEY",
        ),
        (
            "{type: honeycomb, endpoint: URL, api_key: team}",
            "/v1/traces",
            "x-honeycomb-team",
            "team",
        ),
        (
            "{type: tempo, endpoint: URL, tenant: a}",
            "/v1/traces",
            "x-scope-orgid",
            "a",
        ),
        (
            "{type: jaeger, endpoint: URL}",
            "/v1/traces",
            "content-type",
            "application/x-protobuf",
        ),
        (
            "{type: jaeger, endpoint: 'URL/api/traces'}",
            "/api/traces",
            "content-type",
            "application/x-thrift",
        ),
    ] {
        let seen = sent(yaml).await;
        assert_eq!(seen.len(), 1, "{yaml}");
        assert_eq!(seen[0].target, target, "{yaml}");
        assert_eq!(header(&seen[0], name), value, "{yaml}");
    }
}

#[tokio::test]
async fn a_project_of_phoenix_and_its_names_are_on_the_message() {
    let seen = sent("{type: phoenix, endpoint: URL, project: travel}").await;
    let holds = |text: &str| {
        let text = text.as_bytes();
        seen[0].body.windows(text.len()).any(|part| part == text)
    };
    for text in [
        "openinference.project.name",
        "travel",
        "openinference.span.kind",
        "LLM",
    ] {
        assert!(holds(text), "{text}");
    }
    assert!(!holds("gen_ai."));
}

#[tokio::test]
async fn metrics_are_sent_besides_with_totals_since_the_start() {
    let yaml = "{type: otlp, endpoint: URL, protocol: http/json, metrics: true}";
    let seen = sent(yaml).await;
    let of = |target: &'static str| seen.iter().filter(move |seen| seen.target == target);
    // The flush sends them, and so does the end.
    let counts = (of("/v1/traces").count(), of("/v1/metrics").count());
    assert_eq!(counts, (1, 2));
    let metrics = of("/v1/metrics").next().unwrap();
    let json: Value = serde_json::from_slice(&metrics.body).unwrap();
    let resource = &json["resourceMetrics"][0];
    let metrics = &resource["scopeMetrics"][0]["metrics"];
    let names: Vec<_> = metrics
        .as_array()
        .unwrap()
        .iter()
        .map(|metric| metric["name"].as_str().unwrap())
        .collect();
    let expected = [
        "gen_ai.client.operation.duration",
        "gen_ai.client.token.usage",
        "tollgate.cost.usd",
    ];
    assert_eq!(names, expected);
    let cost = &metrics[2]["sum"]["dataPoints"][0];
    assert_eq!(cost["asDouble"], 0.003);
}

#[tokio::test]
async fn metrics_count_what_is_not_chosen_but_not_what_is_filtered_though_no_trace_arrives() {
    let sink = Sink::start(&[], Does::Answers(404, None)).await;
    let yaml = format!(
        "{{type: otlp, endpoint: '{}', protocol: http/json, metrics: true, match: {{model: 'a-*'}}}}",
        sink.url
    );
    let outlets = with_metrics(&yaml, "{rate: 0}", &context());
    let pipeline = Pipeline::start(Vec::new(), outlets, Arc::new(SystemClock)).unwrap();
    for n in 1..=20 {
        let model = if n % 2 == 0 { "a-1" } else { "b-1" };
        pipeline.offer(Span {
            request_model: Some(model.into()),
            ..span(n)
        });
    }
    assert!(pipeline.flush(PATIENCE).await);
    let stats = pipeline.stats();
    for (_, stats) in &stats {
        conserved(stats);
    }
    let (traces, metrics) = (&stats[0], &stats[1]);
    assert_eq!((&*traces.0, &*metrics.0), ("otlp", "otlp-metrics"));
    let (traces, metrics) = (traces.1, metrics.1);
    // The first of the model was chosen, and refused.
    assert_eq!((traces.failed, traces.held, traces.filtered), (1, 9, 10));
    assert_eq!((metrics.delivered, metrics.filtered), (10, 10));
    let seen = sink.seen();
    let last = seen.iter().rfind(|seen| seen.target == "/v1/metrics");
    let json: Value = serde_json::from_slice(&last.unwrap().body).unwrap();
    let duration = &json["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0];
    assert_eq!(duration["histogram"]["dataPoints"][0]["count"], "10");
    pipeline.close(PATIENCE).await;
}

#[tokio::test]
async fn metrics_are_sent_at_intervals_though_no_span_comes() {
    let sink = Sink::start(&[], TAKES).await;
    let yaml = format!(
        "{{type: otlp, endpoint: '{}', metrics: true, metrics_interval: 1s, batch_size: 1}}",
        sink.url
    );
    let outlets = with_metrics(&yaml, "{rate: 1}", &context());
    let clock = Arc::new(SystemClock);
    let pipeline = Pipeline::start(Vec::new(), outlets, clock).unwrap();
    pipeline.offer(span(1));
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let twice = async {
        loop {
            tick.tick().await;
            let seen = sink.seen();
            let metrics = seen.iter().filter(|seen| seen.target == "/v1/metrics");
            if metrics.count() >= 2 {
                break;
            }
        }
    };
    assert!(tokio::time::timeout(PATIENCE, twice).await.is_ok());
    pipeline.close(PATIENCE).await;
}

#[test]
fn what_cannot_be_is_refused_with_what_to_do() {
    let without_keys = BuildContext::new(Arc::new(SystemClock));
    for (yaml, word) in [
        ("{type: langfuse}", "LANGFUSE_PUBLIC_KEY"),
        (
            "{type: langfuse, public_key: a, secret_key: b, protocol: grpc}",
            "http/protobuf",
        ),
        ("{type: phoenix, protocol: http/json}", "grpc"),
        ("{type: honeycomb}", "HONEYCOMB_API_KEY"),
        ("{type: honeycomb, api_key: k, metrics: true}", "dataset"),
        (
            "{type: jaeger, endpoint: 'http://j:14268/api/traces', protocol: grpc}",
            "Thrift",
        ),
        ("{type: otlp, endpoint: 'collector:4317'}", "http://"),
        ("{type: otlp, headers: {'a b': c}}", "a b"),
    ] {
        let config: Config = serde_saphyr::from_str(&format!("processors: [{yaml}]")).unwrap();
        let error = config.build(&without_keys).unwrap_err().to_string();
        assert!(error.contains(word), "{yaml}: {error}");
    }
}
