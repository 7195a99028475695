//! Where spans go: one marked span to each, by the processor that a sidecar would make, on a thread of
//! its own.

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use prometheus::{IntGauge, Registry};
use tokio::time::timeout_at;

use super::{
    advice,
    finding::{Finding, Part},
};
use crate::{
    app,
    base::{
        clock::{Clock, Instant, SystemClock, Timestamp},
        units::show_duration,
    },
    call::{
        labels::{Label, Source},
        outcome::Kind,
        span::{Span, Value},
    },
    config::Config,
    pipeline::{
        self, BuildContext, DeliverError, Delivery, Destination, Due, Outlet, ProcessorConfig,
        Record,
    },
};

/// What the span is marked with.
const MARK: &str = "tollgate.doctor";

/// How long processors may take beyond the time that all have, before they are given up.
const GRACE: Duration = Duration::from_secs(1);

const DESTINATIONS: Part = Part::Destinations;

/// Sends a span to each destination, to all at once, which have `patience` together.
pub(super) fn visit(config: &Config, patience: Duration) -> Vec<Finding> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let registry = Registry::new();
    // What is pushed elsewhere is not empty.
    if let Ok(gauge) = IntGauge::new("tollgate_doctor", "1: tollgate doctor was here") {
        gauge.set(1);
        let _known = registry.register(Box::new(gauge)).is_ok();
    }
    let context = app::surroundings(config, &[config.listen.proxy], &registry, &clock);
    let names = config.tracing.names().into_iter();
    // One that never comes back costs the others no time.
    let by = clock.mono() + patience.saturating_add(GRACE);
    let visits: Vec<_> = names
        .zip(&config.tracing.processors)
        .map(|(name, destination)| {
            let only = pipeline::Config {
                processors: vec![beside(destination, &context)],
                ..config.tracing.clone()
            };
            let (context, told) = (context.clone(), mpsc::sync_channel(1));
            let (tell, told) = told;
            let begun = clock.mono();
            let visitor = Arc::clone(&name);
            let at = Arc::new(Mutex::new(None));
            let turned = Arc::clone(&at);
            let started = thread::Builder::new()
                .name(format!("visit-{name}"))
                .spawn(move || {
                    let found = deliver((&visitor, &turned), &only, &context, patience);
                    // Nobody listens if it came too late.
                    let _late = tell.send(found.after(context.clock.mono().duration_since(begun)));
                });
            Visit {
                name,
                at,
                started,
                told,
            }
        })
        .collect();
    gather(visits, patience, by)
}

/// The host that a visit has turned to last, to be shown; none: it is on this machine, or not known.
type At = Mutex<Option<Box<str>>>;

/// A visit under way.
struct Visit {
    /// Of the destination, as the user knows it.
    name: Arc<str>,
    at: Arc<At>,
    started: io::Result<thread::JoinHandle<()>>,
    told: mpsc::Receiver<Finding>,
}

/// What visits that have `patience` have found until then.
fn gather(visits: Vec<Visit>, patience: Duration, by: Instant) -> Vec<Finding> {
    let answers = visits.into_iter().map(|visit| {
        let left = by.saturating_duration_since(SystemClock.mono());
        answer(visit, patience, left)
    });
    answers.collect()
}

/// What a visit has found by the end of the time that is `left`.
fn answer(visit: Visit, patience: Duration, left: Duration) -> Finding {
    let name = &*visit.name;
    if let Err(error) = visit.started {
        return Finding::failed(
            DESTINATIONS,
            name,
            format!("the system gives no thread: {error}"),
        );
    }
    match visit.told.recv_timeout(left) {
        Ok(found) => found,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            let host = visit.at.lock().clone();
            late((name, host.as_deref()), patience, advice::LATE)
        },
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            Finding::failed(DESTINATIONS, name, "it panicked: please report this")
        },
    }
}

/// The destination, so that it does not replace what a running sidecar has there.
fn beside(destination: &Destination, context: &BuildContext) -> Destination {
    let mut beside = destination.clone();
    if let ProcessorConfig::Prometheus(prometheus) = &mut beside.config {
        let instance = prometheus.named(context).unwrap_or_default();
        prometheus.instance = Some(format!("{instance}-doctor").into());
    }
    beside
}

/// Makes the only processor of `tracing` and hands it a span.
fn deliver(
    (name, at): (&str, &At),
    tracing: &pipeline::Config,
    context: &BuildContext,
    patience: Duration,
) -> Finding {
    let failed = |why: String| Finding::failed(DESTINATIONS, name, why);
    let kind = tracing.processors.first().map(|it| &it.config);
    if let Some(ProcessorConfig::Console(_)) = kind {
        return Finding::ok(DESTINATIONS, name, "prints where the sidecar runs");
    }
    // It, and its metrics if it has some.
    let outlets = match tracing.build(context) {
        Ok(outlets) => outlets,
        Err(error) => return failed(error.reason),
    };
    if outlets.is_empty() {
        return failed("it was not made".to_owned());
    }
    if outlets.iter().any(|outlet| outlet.filter.is_shut()) {
        return failed(
            "it gets no spans: it has no key, or its options leave all of them out".to_owned(),
        )
        .with_advice(Some(
            "set `api_key` or `api_key_secret`, or the variable that it names",
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let sent = match runtime {
        Ok(runtime) => {
            let now = (context.clock.wall(), context.clock.mono());
            let visit_one = |outlet: Outlet| {
                *at.lock() = outlet.processor.host().map(Box::from);
                runtime.block_on(send(outlet, now, patience))
            };
            let sent = outlets.into_iter().try_for_each(visit_one);
            // A name that is still looked up keeps nobody waiting.
            runtime.shutdown_background();
            sent
        },
        Err(error) => return failed(error.to_string()),
    };
    let host = at.lock().take();
    match (sent, kind) {
        (Ok(()), Some(ProcessorConfig::File(file))) => {
            let says = format!("written below {}", file.directory.display());
            Finding::ok(DESTINATIONS, name, says)
        },
        (Ok(()), Some(ProcessorConfig::Statsd(_))) => Finding::ok(
            DESTINATIONS,
            name,
            "sent in datagrams, which nobody confirms",
        ),
        (Ok(()), _) => Finding::ok(DESTINATIONS, name, "delivered"),
        (Err(Unsent::Late(within, advice)), _) => late((name, host.as_deref()), within, advice),
        (Err(Unsent::Refused(error)), _) => {
            let says = host.map_or_else(|| error.to_string(), |host| format!("{host}: {error}"));
            failed(says).with_advice(advice::on(&error))
        },
    }
}

fn late((name, host): (&str, Option<&str>), within: Duration, advice: &str) -> Finding {
    let from = host.map_or_else(String::new, |host| format!("{host}: "));
    let says = format!("{from}no answer within {}", show_duration(within));
    Finding::failed(DESTINATIONS, name, says).with_advice(Some(advice))
}

/// Why a span was not delivered.
enum Unsent {
    /// No answer within that time, and what to do about that.
    Late(Duration, &'static str),
    Refused(DeliverError),
}

/// Delivers a span and what goes besides spans, each within the destination's own `timeout`, and all of
/// it within `patience` from `begun` on.
async fn send(
    outlet: Outlet,
    (now, begun): (Timestamp, Instant),
    patience: Duration,
) -> Result<(), Unsent> {
    let Outlet {
        mut processor,
        delivery: Delivery { timeout: own, .. },
        ..
    } = outlet;
    let batch = [Arc::new(Record::new(marked(now)))];
    let delivered = in_time(processor.deliver(&batch), own, (begun, patience)).await?;
    delivered.map_err(Unsent::Refused)?;
    // Takes away again what would stay, like metrics at a gateway.
    if let Some(sending) = processor.send_besides(Due::End) {
        let sent = in_time(sending, own, (begun, patience)).await?;
        sent.map_err(|error| Unsent::Refused(DeliverError::retry(error)))?;
    }
    Ok(())
}

/// What comes of `sending` within its `own` time, and before all of the time is up.
async fn in_time<T>(
    sending: impl Future<Output = T>,
    own: Duration,
    (begun, patience): (Instant, Duration),
) -> Result<T, Unsent> {
    let (own_end, end) = (SystemClock.mono() + own, begun + patience);
    let sent = timeout_at(end.min(own_end), sending).await;
    sent.map_err(|_elapsed| {
        if own_end < end {
            Unsent::Late(own, advice::LATE_BY_ITS_OWN)
        } else {
            Unsent::Late(patience, advice::LATE)
        }
    })
}

/// A span of no call.
fn marked(now: Timestamp) -> Span {
    let mut span = Span {
        kind: Kind::Llm,
        operation: Some("chat"),
        duration: Duration::from_millis(1),
        provider: Arc::from("tollgate"),
        request_model: Some(Arc::from("doctor")),
        http_status: Some(200),
        method: Box::from("POST"),
        path: Box::from("/doctor"),
        server_address: Arc::from("localhost"),
        ..Span::begun(now)
    };
    span.labels
        .set(Label::Agent, "tollgate-doctor", Source::Static);
    span.attributes.push((MARK, Value::Bool(true)));
    span
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use super::*;
    use crate::pipeline::Variables;

    fn read(yaml: &str) -> Vec<Destination> {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn metrics_at_a_gateway_are_of_another_instance() {
        let all = read("[{type: prometheus, push_gateway: 'http://g:1', instance: pod-7}]");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let context = app::surroundings(&Config::default(), &[], &Registry::new(), &clock);
        let ProcessorConfig::Prometheus(config) = beside(&all[0], &context).config else {
            panic!("another type");
        };
        assert_eq!(config.instance.as_deref(), Some("pod-7-doctor"));
    }

    /// With a `/` in its password.
    const TORN: &str = "http://hu/sh@127.0.0.1:9/x";

    /// The hosts of a destination's outlets: of its spans, and of its metrics if it has some.
    fn hosts(yaml: &str, variable: Variables) -> Vec<Option<String>> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let context = app::surroundings(&Config::default(), &[], &Registry::new(), &clock);
        let context = BuildContext {
            variable,
            ..context
        };
        let tracing = pipeline::Config {
            processors: read(&format!("[{yaml}]")),
            ..pipeline::Config::default()
        };
        let outlets = tracing.build(&context).unwrap();
        let hosts = outlets.iter().map(|outlet| outlet.processor.host());
        hosts.map(|host| host.map(str::to_owned)).collect()
    }

    #[test]
    fn each_host_is_named_whether_an_option_a_variable_or_the_default_says_it() {
        let (none, set): (Variables, Variables) = (&|_| None, &|name| match name {
            "DD_AGENT_HOST" => Some("h.example".to_owned()),
            "OTEL_EXPORTER_OTLP_ENDPOINT"
            | "LANGFUSE_HOST"
            | "AWS_ENDPOINT_URL_S3"
            | "SLACK_WEBHOOK_URL" => Some("http://h.example:1".to_owned()),
            _ => None,
        });
        let bucket = "{type: object_store, url: 's3://b', region: r, access_key_id: a, \
                      secret_access_key: b}";
        let langfuse = "{type: langfuse, public_key: a, secret_key: b}";
        for (yaml, variable, expected) in [
            ("{type: tempo, protocol: grpc}", none, &["localhost"][..]),
            ("{type: otlp}", none, &["localhost"]),
            ("{type: otlp}", set, &["h.example"]),
            (
                "{type: otlp, metrics: true, endpoint: 'http://[::1]:4318'}",
                none,
                &["[::1]", "[::1]"],
            ),
            (langfuse, none, &["cloud.langfuse.com"]),
            (langfuse, set, &["h.example"]),
            ("{type: honeycomb, api_key: a}", none, &["api.honeycomb.io"]),
            ("{type: slack}", set, &["h.example"]),
            ("{type: openai, api_key: a}", none, &["api.openai.com"]),
            (
                "{type: jaeger, endpoint: 'http://j:1/api/traces'}",
                none,
                &["j"],
            ),
            (
                "{type: prometheus, push_gateway: 'http://g:1', job: a/b}",
                none,
                &["g"],
            ),
            (
                "{type: database, url: 'postgres://u:hush@db/x'}",
                none,
                &["db"],
            ),
            (
                "{type: datadog, api_key: a, site: datadoghq.eu}",
                none,
                &["api.datadoghq.eu"],
            ),
            ("{type: datadog}", none, &["localhost"]),
            (
                "{type: datadog, endpoint: 'http://a:1', metrics: true, dogstatsd: 'm:8125'}",
                none,
                &["a", "m"],
            ),
            (
                "{type: datadog, mode: [], metrics: true}",
                set,
                &["h.example"],
            ),
            ("{type: statsd}", none, &["127.0.0.1"]),
            (bucket, none, &["b.s3.r.amazonaws.com"]),
            (bucket, set, &["h.example"]),
        ] {
            let hosts: Vec<_> = hosts(yaml, variable).into_iter().flatten().collect();
            assert_eq!(hosts, expected, "{yaml}");
        }
    }

    #[test]
    fn what_may_be_a_piece_of_a_password_is_no_host() {
        let set: Variables = &|name| (name == "LANGFUSE_HOST").then(|| TORN.to_owned());
        for kind in [
            format!("otlp, metrics: true, endpoint: '{TORN}'"),
            format!("otlp, protocol: grpc, endpoint: '{TORN}'"),
            "otlp, endpoint: 'http://hu#sh@127.0.0.1:9'".to_owned(),
            "otlp, endpoint: 'http://hu?sh@127.0.0.1:9'".to_owned(),
            "langfuse, public_key: a, secret_key: b".to_owned(),
            format!("honeycomb, api_key: a, endpoint: '{TORN}'"),
            format!("jaeger, endpoint: '{TORN}/api/traces'"),
            format!("openai, api_key: a, endpoint: '{TORN}'"),
            format!("datadog, api_key: a, endpoint: '{TORN}'"),
            "datadog, agent_host: 'hu/sh@127.0.0.1'".to_owned(),
            "datadog, api_key: a, site: 'hu/sh@x', metrics: true, dogstatsd: 'hu#sh@x:1'"
                .to_owned(),
            format!(
                "object_store, url: 's3://b', region: r, access_key_id: a, \
                 secret_access_key: b, endpoint: '{TORN}'"
            ),
            format!(
                "object_store, url: 's3://b', region: r, access_key_id: a, path_style: false, \
                 secret_access_key: b, endpoint: '{TORN}'"
            ),
            format!("prometheus, push_gateway: '{TORN}'"),
            format!("slack, webhook_url: '{TORN}'"),
            format!("webhook, url: '{TORN}'"),
            "database, url: 'postgres://u:hu/sh@db/x'".to_owned(),
            "statsd, address: 'hu?sh@x:1'".to_owned(),
            "statsd, address: /run/statsd.sock".to_owned(),
        ] {
            for host in hosts(&format!("{{type: {kind}}}"), set) {
                assert_eq!(host, None, "{kind}");
            }
        }
    }

    #[test]
    fn what_is_told_of_metrics_has_their_host_and_not_that_of_the_spans() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", server.local_addr().unwrap());
        let answers = thread::spawn(move || {
            let (mut spans, _from) = server.accept().unwrap();
            let mut request = vec![0; 1 << 16];
            let _some = spans.read(&mut request).unwrap();
            let accepted = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
            spans.write_all(accepted).unwrap();
            let _until_it_leaves = io::copy(&mut spans, &mut io::sink());
        });
        let yaml = format!(
            "[{{type: datadog, endpoint: '{endpoint}', api_key: k, metrics: true, \
             dogstatsd: /no/such.sock}}]"
        );
        let config = Config {
            tracing: pipeline::Config {
                processors: read(&yaml),
                ..pipeline::Config::default()
            },
            ..Config::default()
        };
        let found = visit(&config, Duration::from_secs(30));
        answers.join().unwrap();
        let says = &found[0].says;
        assert!(
            says.starts_with("not delivered now: No such file"),
            "{says}"
        );
    }

    #[test]
    fn those_that_never_come_back_are_given_up_together_and_named_by_their_host() {
        let visit = || {
            let (tell, told) = mpsc::sync_channel(1);
            let visit = Visit {
                name: Arc::from("slow"),
                at: Arc::new(Mutex::new(Some(Box::from("h.example")))),
                started: thread::Builder::new().spawn(|| ()),
                told,
            };
            (tell, visit)
        };
        let (tells, mut visits): (Vec<_>, Vec<_>) = (0..100).map(|_| visit()).unzip();
        let (tell, last) = visit();
        let quick = Finding::ok(DESTINATIONS, "quick", "delivered");
        tell.send(quick.clone()).unwrap();
        visits.push(last);
        let begun = SystemClock.mono();
        let by = begun + Duration::from_millis(300);
        let found = gather(visits, Duration::from_hours(1), by);
        // One after another they would have half a minute.
        assert!(SystemClock.mono().duration_since(begun) < Duration::from_secs(10));
        let (last, slow) = found.split_last().unwrap();
        assert_eq!((last, slow.len()), (&quick, tells.len()));
        for found in slow {
            assert_eq!(found.says, "h.example: no answer within 1h");
            assert!(found.advice.as_ref().unwrap().contains("DNS"));
        }
    }

    #[test]
    fn the_span_is_marked_and_costs_nothing() {
        let line = marked(Timestamp::from_secs(1)).to_json();
        assert!(line.contains(r#""tollgate.doctor":true"#), "{line}");
        assert!(!line.contains("cost"), "{line}");
    }
}
