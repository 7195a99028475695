//! What becomes of spans as metrics: datagrams of statsd's dialects, and pushes to a gateway.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus::{IntCounter, Registry};
use tokio::net::{UdpSocket, UnixDatagram};
use tollgate::{
    base::{
        clock::{Clock, Instant, SystemClock, Timestamp},
        money::Usd,
    },
    call::{
        labels::{Label, Source},
        span::Span,
        usage::Usage,
    },
    pipeline::{BuildContext, Outlet, Pipeline, Stats},
};

use super::{
    sink::{Sink, TAKES},
    sinks::{configured, span},
};
use crate::support::{
    conserved,
    sandbox::{PATIENCE, until},
};

const SPANS: u64 = 40;

fn call(number: u64) -> Span {
    let mut span = Span {
        usage: Usage::text(120, 45),
        cost: Some(Usd::from_nanos(625_000)),
        first_chunk: Some(Duration::from_millis(210)),
        ..span(number)
    };
    let agent = format!("a:{number}|c\n#\u{e4},=;[x]");
    span.labels.set(Label::Agent, &agent, Source::Header);
    span
}

fn context() -> BuildContext {
    BuildContext::new(Arc::new(SystemClock))
}

/// What is counted after some spans.
async fn told(mut outlet: Outlet, count: u64) -> Stats {
    outlet.delivery.backoff = Duration::from_millis(1);
    let pipeline = Pipeline::start(Vec::new(), vec![outlet], Arc::new(SystemClock)).unwrap();
    (1..=count).for_each(|number| pipeline.offer(call(number)));
    assert!(pipeline.flush(PATIENCE).await);
    let stats = pipeline.stats()[0].1;
    conserved(&stats);
    pipeline.close(PATIENCE).await;
    stats
}

/// Name, tags, value and type of a line; a panic if it is none of the dialect.
fn read(dialect: &str, line: &str) -> (String, Vec<(String, String)>, f64, String) {
    let word = |text: &str| {
        let plain = |letter: char| letter.is_alphanumeric() || "._-/".contains(letter);
        assert!(!text.is_empty() && text.chars().all(plain), "{line}");
        text.to_owned()
    };
    let (head, rest) = match dialect {
        "signalfx" => line.rsplit_once("]:").unwrap(),
        _ => line.split_once(':').unwrap(),
    };
    let mut rest = rest.splitn(3, '|');
    let value: f64 = rest.next().unwrap().parse().unwrap();
    let code = word(rest.next().unwrap());
    let (name, tags, between, is) = match dialect {
        "etsy" => (head, "", ",", '='),
        "dogstatsd" => (
            head,
            rest.next().unwrap().strip_prefix('#').unwrap(),
            ",",
            ':',
        ),
        "influx" => (
            head.split_once(',').unwrap().0,
            head.split_once(',').unwrap().1,
            ",",
            '=',
        ),
        "graphite" => (
            head.split_once(';').unwrap().0,
            head.split_once(';').unwrap().1,
            ";",
            '=',
        ),
        "signalfx" => (
            head.split_once('[').unwrap().0,
            head.split_once('[').unwrap().1,
            ",",
            '=',
        ),
        other => panic!("{other}"),
    };
    assert_eq!(rest.next(), None, "{line}");
    let tags = tags.split(between).filter(|tag| !tag.is_empty());
    let tags = tags.map(|tag| tag.split_once(is).unwrap());
    let tags = tags.map(|(key, value)| (word(key), word(value))).collect();
    (word(name), tags, value, code)
}

#[tokio::test]
async fn every_dialect_keeps_its_grammar_and_loses_nothing() {
    for dialect in ["etsy", "dogstatsd", "influx", "graphite", "signalfx"] {
        let listener = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let yaml = format!("{{type: statsd, address: '{address}', dialect: {dialect}}}");
        let stats = told(configured(&yaml, &context()), SPANS).await;
        assert_eq!((stats.delivered, stats.retried), (SPANS, 0));
        let mut lines = Vec::new();
        let mut packet = [0; 16_384];
        while let Ok(length) = listener.try_recv(&mut packet) {
            assert!(length <= 1_432, "{length}");
            let text = std::str::from_utf8(&packet[..length]).unwrap();
            lines.extend(text.split('\n').map(|line| read(dialect, line)));
        }
        assert_eq!(lines.len() as u64, SPANS * 7, "{dialect}");
        let sum = |name: &str| {
            let named = lines.iter().filter(|line| line.0.starts_with(name));
            named.map(|line| line.2).sum::<f64>()
        };
        assert!((sum("ai_agents.spans") - 40.0).abs() < 1e-9, "{dialect}");
        assert!((sum("ai_agents.tokens.total") - 40.0 * 165.0).abs() < 1e-9);
        assert!((sum("ai_agents.cost.usd") - 0.025).abs() < 1e-9);
        assert!((sum("ai_agents.span.duration") - 400_000.0).abs() < 1e-6);
        for (_, tags, _, _) in &lines {
            let has = |key: &str, value: &str| tags.contains(&(key.to_owned(), value.to_owned()));
            assert!(dialect == "etsy" || has("service", "raaf-agents") && has("status", "ok"));
        }
    }
}

#[tokio::test]
async fn a_socket_in_the_file_system_gets_larger_packets_and_is_waited_for() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("statsd.sock");
    let yaml = format!("{{type: statsd, address: 'unix://{}'}}", path.display());
    let stats = told(configured(&yaml, &context()), SPANS).await;
    assert_eq!(stats.failed, SPANS, "{stats:?}");
    assert!(stats.retried > 0, "{stats:?}");
    let listener = UnixDatagram::bind(&path).unwrap();
    let stats = told(configured(&yaml, &context()), SPANS).await;
    assert_eq!((stats.delivered, stats.retried), (SPANS, 0));
    let mut packet = [0; 16_384];
    let mut sizes = Vec::new();
    while let Ok(length) = listener.try_recv(&mut packet) {
        sizes.push(length);
    }
    assert!(sizes.len() > 1 && sizes[0] > 1_432, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= 8_192), "{sizes:?}");
}

/// Stands still until it is moved.
struct Still(Instant, AtomicU64);

impl Clock for Still {
    fn wall(&self) -> Timestamp {
        SystemClock.wall()
    }

    fn mono(&self) -> Instant {
        self.0 + Duration::from_secs(self.1.load(Relaxed))
    }
}

#[tokio::test]
async fn a_gateway_has_what_metrics_says_now_and_nothing_once_we_left() {
    let sink = Sink::start(&[], TAKES).await;
    let clock = Arc::new(Still(SystemClock.mono(), AtomicU64::new(0)));
    let registry = Registry::new();
    let counter = IntCounter::new("tollgate_things_total", "Things.").unwrap();
    registry.register(Box::new(counter.clone())).unwrap();
    let told: Arc<dyn Clock> = Arc::<Still>::clone(&clock);
    let context = BuildContext {
        registry,
        ..BuildContext::new(Arc::clone(&told))
    };
    let yaml = format!(
        "{{type: prometheus, push_gateway: '{}/push/', job: raaf, instance: a/b, interval: 15s, \
         headers: {{authorization: hush}}}}",
        sink.url
    );
    let pipeline = Pipeline::start(Vec::new(), vec![configured(&yaml, &context)], told).unwrap();
    let pushed = |count: usize, text: &str| {
        let seen = sink.seen();
        let line = format!("tollgate_things_total {text}\n");
        seen.len() == count && seen[count - 1].body.ends_with(line.as_bytes())
    };
    // For spans, and at intervals without any.
    counter.inc();
    (1..=3).for_each(|number| pipeline.offer(span(number)));
    clock.1.store(14, Relaxed);
    assert_eq!(sink.seen().len(), 0);
    assert!(pipeline.flush(PATIENCE).await);
    assert!(pushed(1, "1"), "{:#?}", sink.seen());
    counter.inc();
    clock.1.store(14 + 15, Relaxed);
    until("the push of an interval", || pushed(2, "2")).await;
    pipeline.close(PATIENCE).await;
    let stats = pipeline.stats()[0].1;
    assert_eq!((stats.delivered, stats.accounted()), (3, 3));
    let seen = sink.seen();
    let methods: Vec<&str> = seen.iter().map(|seen| &*seen.method).collect();
    assert_eq!(methods, ["PUT", "PUT", "DELETE"]);
    for seen in &seen {
        assert_eq!(seen.target, "/push/metrics/job/raaf/instance@base64/YS9i");
        assert_eq!(seen.headers["authorization"], "hush");
    }
    let content_type = &seen[0].headers["content-type"];
    assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
}
