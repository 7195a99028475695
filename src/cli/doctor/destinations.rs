//! Where spans go: one marked span to each, by the processor that a sidecar would make, on a thread of
//! its own.

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use prometheus::{IntGauge, Registry};
use tokio::time::timeout_at;

use super::{
    advice,
    finding::{Finding, Part},
    host,
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
            let started = thread::Builder::new()
                .name(format!("visit-{name}"))
                .spawn(move || {
                    let found = deliver(&visitor, &only, &context, patience);
                    // Nobody listens if it came too late.
                    let _late = tell.send(found.after(context.clock.mono().duration_since(begun)));
                });
            Visit {
                name,
                host: host::of(&destination.config),
                started,
                told,
            }
        })
        .collect();
    gather(visits, patience, by)
}

/// A visit under way.
struct Visit {
    /// Of the destination, as the user knows it.
    name: Arc<str>,
    host: Option<Box<str>>,
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
    let (name, host) = (&*visit.name, visit.host.as_deref());
    if let Err(error) = visit.started {
        return Finding::failed(
            DESTINATIONS,
            name,
            format!("the system gives no thread: {error}"),
        );
    }
    match visit.told.recv_timeout(left) {
        Ok(found) => found,
        Err(mpsc::RecvTimeoutError::Timeout) => late((name, host), patience, advice::LATE),
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
    name: &str,
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
    let host = resolved(&outlets).or_else(|| kind.and_then(host::of));
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
            let visit_one = |outlet| runtime.block_on(send(outlet, now, patience));
            let sent = outlets.into_iter().try_for_each(visit_one);
            // A name that is still looked up keeps nobody waiting.
            runtime.shutdown_background();
            sent
        },
        Err(error) => return failed(error.to_string()),
    };
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

/// The host that a destination was found to be on: its own options may not say.
fn resolved(outlets: &[Outlet]) -> Option<Box<str>> {
    outlets.iter().find_map(|outlet| outlet.processor.host())
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

    #[test]
    fn a_host_that_comes_from_a_variable_or_by_default_is_named() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (none, set): (Variables, Variables) = (&|_| None, &|name| {
            let names = [
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                "LANGFUSE_HOST",
                "AWS_ENDPOINT_URL_S3",
            ];
            names
                .contains(&name)
                .then(|| "http://h.example:1".to_owned())
        });
        let bucket = "{type: object_store, url: 's3://b', region: r, access_key_id: a, \
                      secret_access_key: b}";
        let langfuse = "{type: langfuse, public_key: a, secret_key: b}";
        for (yaml, variable, host) in [
            ("{type: tempo, protocol: grpc}", none, "localhost"),
            ("{type: otlp}", none, "localhost"),
            ("{type: otlp}", set, "h.example"),
            (langfuse, none, "cloud.langfuse.com"),
            (langfuse, set, "h.example"),
            ("{type: honeycomb, api_key: a}", none, "api.honeycomb.io"),
            (
                "{type: datadog, api_key: a, site: datadoghq.eu}",
                none,
                "api.datadoghq.eu",
            ),
            ("{type: datadog}", none, "localhost"),
            (bucket, none, "b.s3.r.amazonaws.com"),
            (bucket, set, "h.example"),
        ] {
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
            assert_eq!(resolved(&outlets).as_deref(), Some(host), "{yaml}");
        }
    }

    #[test]
    fn those_that_never_come_back_are_given_up_together_and_named_by_their_host() {
        let visit = || {
            let (tell, told) = mpsc::sync_channel(1);
            let visit = Visit {
                name: Arc::from("slow"),
                host: Some(Box::from("h.example")),
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
