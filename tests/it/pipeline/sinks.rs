//! Every processor that speaks HTTP, against a destination that does all that no destination should.
//! In each case every span is accounted for. A new processor is one line in `processors!`.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;
use prometheus::{
    IntCounter, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use tollgate::{
    base::{
        clock::{SystemClock, TestClock, Timestamp},
        id::SpanId,
        secret::Secret,
    },
    call::{outcome::Kind, span::Span},
    net::post::{Address, Compression, Courier, Letter, Tls},
    pipeline::{
        BoxFuture, BuildContext, Circuit, Config, DeliverError, Outlet, Pipeline, Processor,
        Record, Stats,
    },
};

use super::sink::{Clients, Does, Seen, Sink, TAKES, TLS};
use crate::support::{conserved, sandbox::PATIENCE};

/// The spans of each case, and how many go at once where the processor does not say otherwise.
const SPANS: u64 = 6;
const BATCH: usize = 4;

/// A processor under test.
struct Subject {
    /// As it is made for a destination at this address.
    outlet: fn(&str, &BuildContext) -> Outlet,
    /// Whether a request holds the span.
    holds: fn(&Seen, &Span) -> bool,
}

/// Makes a test of each.
macro_rules! processors {
    ($($name:ident: $outlet:expr, $holds:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            every_fault(Subject { outlet: $outlet, holds: $holds }).await;
        }
    )+};
}

processors! {
    courier: bare, by_id;
    object_store: |url, context| {
        let keys = "access_key_id: k, secret_access_key: hush-hush, compression: none";
        configured(&format!("{{type: object_store, url: 's3://a/b', endpoint: '{url}', {keys}}}"), context)
    }, by_id;
    openai: |url, context| configured(&format!("{{type: openai, api_key: k, endpoint: '{url}/x'}}"), context), by_id;
    datadog: |url, context| {
        configured(&format!("{{type: datadog, api_key: k, endpoint: {url}}}"), &then(context))
    }, by_id;
    datadog_agent: |url, context| {
        configured(&format!("{{type: datadog, endpoint: {url}}}"), &then(context))
    }, by_id;
    prometheus: |url, context| {
        let yaml = format!("{{type: prometheus, push_gateway: {url}, job: raaf}}");
        configured(&yaml, &changing(context))
    }, |seen, _| seen.body.starts_with(b"# HELP asked Times.");
    webhook: |url, context| configured(&format!("{{type: webhook, url: {url}, batch_size: 3}}"), context), by_id;
    slack: |url, context| configured(&format!("{{type: slack, webhook_url: {url}, {UNLIMITED}}}"), context), by_model;
    honeycomb: |url, context| {
        let keys = "api_key: hush-hush, dataset: llm, metrics: true";
        configured(&format!("{{type: honeycomb, endpoint: '{url}', {keys}}}"), context)
    }, by_bytes;
    jaeger: |url, context| {
        configured(&format!("{{type: jaeger, endpoint: '{url}/api/traces'}}"), context)
    }, by_bytes;
    langfuse: |url, context| {
        let keys = "public_key: pk, secret_key: hush-hush";
        configured(&format!("{{type: langfuse, endpoint: '{url}', {keys}}}"), context)
    }, by_bytes;
    otlp: |url, context| {
        configured(&format!("{{type: otlp, endpoint: '{url}', protocol: http/json}}"), context)
    }, by_id;
    phoenix: |url, context| {
        configured(&format!("{{type: phoenix, endpoint: '{url}', project: p}}"), context)
    }, by_bytes;
    tempo: |url, context| {
        configured(&format!("{{type: tempo, endpoint: '{url}', compression: none}}"), context)
    }, by_bytes;
}

/// Whether the span's id, in hexadecimal, stands in the request.
fn by_id(seen: &Seen, span: &Span) -> bool {
    let id = span.span_id.to_string();
    seen.body
        .windows(id.len())
        .any(|part| part == id.as_bytes())
}

/// When the spans of these tests began.
fn then(context: &BuildContext) -> BuildContext {
    BuildContext {
        clock: Arc::new(TestClock::at(span(1).start)),
        ..context.clone()
    }
}

/// Metrics that are others each time.
fn changing(context: &BuildContext) -> BuildContext {
    let registry = Registry::new();
    let counter = IntCounter::new("asked", "Times.").unwrap();
    registry.register(Box::new(Asked(counter))).unwrap();
    BuildContext {
        registry,
        ..context.clone()
    }
}

struct Asked(IntCounter);

impl Collector for Asked {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.inc();
        self.0.collect()
    }
}

/// More messages than a test has spans.
const UNLIMITED: &str = "rate_limit: {messages: 1000, per: 1ms}";

/// Whether the request names the span's model, which is its own.
fn by_model(seen: &Seen, span: &Span) -> bool {
    let model = span.request_model.as_deref().unwrap().as_bytes();
    seen.body.windows(model.len()).any(|part| part == model)
}

/// Whether the bytes of the span's id stand in the request.
fn by_bytes(seen: &Seen, span: &Span) -> bool {
    let id = span.span_id.bytes();
    seen.body.windows(id.len()).any(|part| part == id)
}

/// The only processor of a configuration, with nothing kept on disk.
pub(super) fn configured(yaml: &str, context: &BuildContext) -> Outlet {
    with_metrics(yaml, "{rate: 1}", context).remove(0)
}

/// The same, with the processor of its metrics behind it if it has one, and with traces chosen so.
pub(super) fn with_metrics(yaml: &str, sampling: &str, context: &BuildContext) -> Vec<Outlet> {
    let yaml =
        format!("sampling: {sampling}\nbuffering: {{persist_buffer: false}}\nprocessors: [{yaml}]");
    let config: Config = serde_saphyr::from_str(&yaml).unwrap();
    config.build(context).unwrap()
}

/// Nothing but the courier: lines of JSON to one address, gzipped.
struct Bare {
    courier: Courier,
    address: Address,
}

impl Processor for Bare {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        let lines: Vec<&str> = batch.iter().map(|record| &*record.line).collect();
        let mut letter = Letter::json(lines.join("\n"));
        letter.compression = Compression::Gzip;
        let mut key = HeaderValue::from_static("hush-hush");
        key.set_sensitive(true);
        letter.headers.insert("x-key", key);
        Box::pin(async move {
            self.courier.send(&self.address, letter).await?;
            Ok(())
        })
    }
}

fn bare(url: &str, context: &BuildContext) -> Outlet {
    with_tls(url, &Tls::default(), context)
}

fn with_tls(url: &str, tls: &Tls, context: &BuildContext) -> Outlet {
    let url = Secret::new(format!("{url}/spans?token=hush-hush"));
    let bare = Bare {
        courier: context.courier(tls, None).unwrap(),
        address: Address::parse(&url).unwrap(),
    };
    context.remote("bare", bare)
}

pub(super) fn span(n: u64) -> Span {
    Span {
        span_id: SpanId::from_bytes((n << 32 | 0xabcd).to_be_bytes()),
        kind: Kind::Llm,
        operation: Some("chat"),
        duration: Duration::from_secs(10),
        provider: "openai".into(),
        request_model: Some(format!("model-{n}").into()),
        ..Span::begun(Timestamp::from_secs(1_795_328_714))
    }
}

/// How a case ends for the spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// All are delivered.
    Delivered,
    /// None is.
    Failed,
    /// As the processor takes it.
    Either,
}

/// What is done with six spans and a destination like this.
async fn run(subject: &Subject, outlet: Outlet, sink: &Sink, ends: Ends) -> Stats {
    let clock = Arc::new(SystemClock);
    let pipeline = Pipeline::start(Vec::new(), vec![outlet], clock).unwrap();
    let spans: Vec<Span> = (1..=SPANS).map(span).collect();
    for span in &spans {
        pipeline.offer(span.clone());
    }
    conserved(&pipeline.stats()[0].1);
    assert!(pipeline.flush(PATIENCE).await, "{:?}", pipeline.stats());
    let stats = pipeline.stats()[0].1;
    conserved(&stats);
    assert_eq!((stats.queued, stats.in_hand), (0, 0), "{stats:?}");
    match ends {
        Ends::Delivered => assert_eq!(stats.delivered, SPANS, "{stats:?}"),
        Ends::Failed => assert_eq!(stats.failed, SPANS, "{stats:?}"),
        Ends::Either => assert_eq!(stats.delivered + stats.failed, SPANS, "{stats:?}"),
    }
    if ends == Ends::Delivered {
        let seen = sink.seen();
        let arrived = |span: &Span| seen.iter().any(|seen| (subject.holds)(seen, span));
        assert!(spans.iter().all(arrived), "{seen:#?}");
    }
    pipeline.close(PATIENCE).await;
    conserved(&pipeline.stats()[0].1);
    stats
}

/// A case: what the destination does, and what that comes to.
async fn case(subject: &Subject, script: Vec<Does>, then: Does, ends: Ends) -> (Stats, Vec<Seen>) {
    let sink = Sink::start(&script, then).await;
    let context = BuildContext::new(Arc::new(SystemClock));
    let mut outlet = (subject.outlet)(&sink.url, &context);
    let delivery = &mut outlet.delivery;
    delivery.batch = delivery.batch.min(BATCH);
    delivery.backoff = Duration::from_millis(1);
    // A destination that asks for an hour gets no more than this.
    delivery.recovery_timeout = Duration::from_millis(5);
    let hangs = |does: &Does| matches!(does, Does::Hangs | Does::Trickles);
    let waits = hangs(&then) || script.iter().any(hangs);
    delivery.timeout = Duration::from_millis(if waits { 400 } else { 20_000 });
    // Few where it is known that none helps, many where the machine may be slow.
    delivery.attempts = if ends == Ends::Delivered { 8 } else { 2 };
    let stats = run(subject, outlet, &sink, ends).await;
    (stats, sink.seen())
}

async fn every_fault(subject: Subject) {
    use Ends::{Delivered, Either, Failed};
    const UNAVAILABLE: Does = Does::Answers(503, None);
    let subject = &subject;
    let case = |script, then, ends| case(subject, script, then, ends);
    let (stats, seen) = case(vec![], TAKES, Delivered).await;
    assert_eq!((stats.retried, stats.circuit), (0, Circuit::Closed));
    assert!(
        seen.iter()
            .all(|seen| seen.headers.contains_key("content-type"))
    );

    // What passes.
    let passing = async {
        for fault in [
            UNAVAILABLE,
            Does::Answers(500, None),
            Does::Answers(408, None),
            Does::Answers(429, Some("3600")),
            Does::Answers(429, Some("Sun, 22 Nov 2099 06:25:20 GMT")),
            Does::ResetsRequest,
            Does::ResetsAnswer,
        ] {
            let (stats, _) = case(vec![fault, fault], TAKES, Delivered).await;
            assert!(stats.retried >= 2, "{fault:?}: {stats:?}");
        }
    };
    let slow = async {
        for fault in [Does::Hangs, Does::Trickles] {
            let (stats, _) = case(vec![fault], TAKES, Delivered).await;
            assert!(stats.retried >= 1, "{fault:?}: {stats:?}");
        }
    };
    // What does not.
    let lasting = async {
        for fault in [UNAVAILABLE, Does::ResetsRequest, Does::ResetsAnswer] {
            let (stats, _) = case(vec![], fault, Failed).await;
            assert!(stats.retried > 0, "{fault:?}: {stats:?}");
        }
        for code in [301, 400, 401, 403, 404] {
            let (stats, seen) = case(vec![], Does::Answers(code, None), Failed).await;
            assert_eq!(stats.retried, 0, "{code}: {stats:?}");
            let same = |one: &Seen, other: &Seen| one.body == other.body;
            let again = seen.iter().enumerate();
            let again = again.filter(|(at, one)| seen[..*at].iter().any(|it| same(it, one)));
            assert_eq!(again.count(), 0, "{code}: sent again");
        }
    };
    let hanging = async {
        for fault in [Does::Hangs, Does::Trickles] {
            case(vec![], fault, Failed).await;
        }
    };
    let odd = async {
        case(vec![], Does::Garbage, Either).await;
        case(vec![], Does::Floods, Either).await;
        let too_large = Does::Answers(413, None);
        let (stats, _) = case(vec![], too_large, Failed).await;
        assert_eq!((stats.too_large, stats.retried), (SPANS, 0), "{stats:?}");
        let (stats, _) = case(vec![too_large], TAKES, Either).await;
        assert!(stats.halved + stats.too_large == 1, "{stats:?}");
    };
    tokio::join!(passing, slow, lasting, hanging, odd);
    untrusted(subject).await;
}

/// A destination whose certificate nobody vouches for gets nothing.
async fn untrusted(subject: &Subject) {
    let sink = Sink::with_tls(Clients::Any, &[], TAKES).await;
    let context = BuildContext::new(Arc::new(SystemClock));
    let mut outlet = (subject.outlet)(&sink.url, &context);
    outlet.delivery.backoff = Duration::from_millis(1);
    outlet.delivery.recovery_timeout = Duration::from_millis(5);
    outlet.delivery.attempts = 2;
    let stats = run(subject, outlet, &sink, Ends::Failed).await;
    assert!(stats.retried > 0, "{stats:?}");
    assert_eq!(sink.seen().len(), 0);
}

#[tokio::test]
async fn a_courier_trusts_the_given_authority_and_shows_the_given_certificate() {
    let context = BuildContext::new(Arc::new(SystemClock));
    let at = |name: &str| Some(format!("{TLS}/{name}").into());
    let known = Tls {
        ca_file: at("ca.pem"),
        client_cert: at("client.pem"),
        client_key: at("client.key"),
    };
    let unknown = Tls {
        ca_file: at("ca.pem"),
        ..Tls::default()
    };
    let subject = Subject {
        outlet: bare,
        holds: by_id,
    };
    for (tls, ends) in [(&known, Ends::Delivered), (&unknown, Ends::Failed)] {
        let sink = Sink::with_tls(Clients::Known, &[], TAKES).await;
        let mut outlet = with_tls(&sink.url, tls, &context);
        outlet.delivery.backoff = Duration::from_millis(1);
        run(&subject, outlet, &sink, ends).await;
    }
}

#[tokio::test]
async fn a_courier_keeps_its_connection_and_says_who_it_is() {
    let context = BuildContext::new(Arc::new(SystemClock));
    let sink = Sink::start(&[], TAKES).await;
    let subject = Subject {
        outlet: bare,
        holds: by_id,
    };
    let mut outlet = bare(&sink.url, &context);
    outlet.delivery.batch = 1;
    run(&subject, outlet, &sink, Ends::Delivered).await;
    assert_eq!(sink.connections(), 1);
    let seen = sink.seen();
    assert_eq!(seen.len() as u64, SPANS);
    for seen in seen {
        assert_eq!(
            (&*seen.method, &*seen.target),
            ("POST", "/spans?token=hush-hush")
        );
        let header = |name: &str| seen.headers[name].to_str().unwrap();
        assert!(header("user-agent").starts_with("tollgate/"));
        assert!(header("host").starts_with("localhost:"));
        assert_eq!(header("content-type"), "application/json");
        assert_eq!(header("content-encoding"), "gzip");
    }
}

#[tokio::test]
async fn a_couriers_errors_hold_no_secrets() {
    let context = BuildContext::new(Arc::new(SystemClock));
    let courier = context.courier(&Tls::default(), None).unwrap();
    let mut errors = Vec::new();
    for does in [
        Does::Answers(401, None),
        Does::Answers(503, None),
        Does::ResetsRequest,
    ] {
        let sink = Sink::start(&[], does).await;
        let url = Secret::new(format!("{}/hush-hush?key=hush-hush", sink.url));
        let letter = Letter::json("{}");
        let address = Address::parse(&url).unwrap();
        let error = courier.send(&address, letter).await.unwrap_err();
        errors.push(format!("{error} {error:?}"));
    }
    let nobody = Secret::new("http://127.0.0.1:9/hush-hush");
    let address = Address::parse(&nobody).unwrap();
    let error = courier
        .send(&address, Letter::json("{}"))
        .await
        .unwrap_err();
    errors.push(format!("{error} {error:?}"));
    assert!(
        errors.iter().all(|error| !error.contains("hush")),
        "{errors:#?}"
    );
    assert!(errors[0].contains("status 401: ok"), "{errors:#?}");
}
