//! Where spans go: one marked span to each, by the processor that a sidecar would make, on a thread of
//! its own.

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use prometheus::{IntGauge, Registry};
use tokio::time::timeout;

use super::{
    advice,
    finding::{Finding, Part},
};
use crate::{
    app,
    base::{
        clock::{Clock, SystemClock, Timestamp},
        units::show_duration,
    },
    call::{
        labels::{Label, Source},
        outcome::Kind,
        span::{Span, Value},
    },
    config::Config,
    pipeline::{
        self, BuildContext, DeliverError, Destination, Due, Outlet, ProcessorConfig, Record,
    },
};

/// What the span is marked with.
const MARK: &str = "tollgate.doctor";

/// How long a processor may take beyond the time that it has, before it is given up.
const GRACE: Duration = Duration::from_secs(1);

const DESTINATIONS: Part = Part::Destinations;

/// Sends a span to each destination, to all at once; each has `patience` at most.
pub(super) fn visit(config: &Config, patience: Duration) -> Vec<Finding> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let registry = Registry::new();
    // What is pushed elsewhere is not empty.
    if let Ok(gauge) = IntGauge::new("tollgate_doctor", "1: tollgate doctor was here") {
        gauge.set(1);
        let _known = registry.register(Box::new(gauge)).is_ok();
    }
    let context = app::surroundings(config, &[config.listen.proxy], &registry, &clock);
    let visits: Vec<_> = names(&config.tracing.processors)
        .into_iter()
        .zip(&config.tracing.processors)
        .map(|(name, destination)| {
            let only = pipeline::Config {
                processors: vec![beside(destination, &config.tracing.service_name)],
                ..config.tracing.clone()
            };
            let (context, told) = (context.clone(), mpsc::sync_channel(1));
            let (tell, told) = told;
            let begun = clock.mono();
            let visitor = name.clone();
            let started = thread::Builder::new()
                .name(format!("visit-{name}"))
                .spawn(move || {
                    let found = deliver(&visitor, &only, &context, patience);
                    // Nobody listens if it came too late.
                    let _late = tell.send(found.after(context.clock.mono().duration_since(begun)));
                });
            (name, started, told)
        })
        .collect();
    let answers = visits.into_iter();
    let answers = answers.map(|(name, started, told)| answer(&name, started, &told, patience));
    answers.collect()
}

/// What a visit has found.
fn answer(
    name: &str,
    started: io::Result<thread::JoinHandle<()>>,
    told: &mpsc::Receiver<Finding>,
    patience: Duration,
) -> Finding {
    if let Err(error) = started {
        return Finding::failed(
            DESTINATIONS,
            name,
            format!("the system gives no thread: {error}"),
        );
    }
    match told.recv_timeout(patience.saturating_add(GRACE)) {
        Ok(found) => found,
        Err(mpsc::RecvTimeoutError::Timeout) => late(name, patience),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            Finding::failed(DESTINATIONS, name, "it panicked: please report this")
        },
    }
}

/// What they are called in metrics and logs.
fn names(destinations: &[Destination]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for Destination { config, options } in destinations {
        let own = options.name.as_ref();
        let name = own
            .map_or_else(|| config.name(), |it| it.as_str())
            .to_owned();
        let again = (2..).map(|number| format!("{name}-{number}"));
        let mut candidates = [name.clone()].into_iter().chain(again);
        let unique = candidates.find(|it| !names.contains(it));
        names.push(unique.unwrap_or(name));
    }
    names
}

/// The destination, so that it does not replace what a running sidecar has there.
fn beside(destination: &Destination, service: &str) -> Destination {
    let mut beside = destination.clone();
    if let ProcessorConfig::Prometheus(prometheus) = &mut beside.config {
        let instance = prometheus.instance.as_deref().unwrap_or(service);
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
            let send = |outlet| runtime.block_on(send(outlet, context.clock.wall(), patience));
            outlets.into_iter().try_for_each(send)
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
        (Err(None), _) => late(name, patience),
        (Err(Some(error)), _) => failed(error.to_string()).with_advice(advice::on(&error)),
    }
}

fn late(name: &str, patience: Duration) -> Finding {
    let says = format!("no answer within {}", show_duration(patience));
    Finding::failed(DESTINATIONS, name, says).with_advice(Some(advice::LATE))
}

/// Delivers a span and what goes besides spans. The error is none if time was up.
async fn send(
    outlet: Outlet,
    now: Timestamp,
    patience: Duration,
) -> Result<(), Option<DeliverError>> {
    let Outlet {
        mut processor,
        delivery,
        ..
    } = outlet;
    let patience = patience.min(delivery.timeout);
    let batch = [Arc::new(Record::new(marked(now)))];
    let delivered = timeout(patience, processor.deliver(&batch)).await;
    delivered.map_err(|_elapsed| None)?.map_err(Some)?;
    // Takes away again what would stay, like metrics at a gateway.
    if let Some(sending) = processor.send_besides(Due::End) {
        let sent = timeout(patience, sending).await.map_err(|_elapsed| None)?;
        sent.map_err(|error| Some(DeliverError::retry(error)))?;
    }
    Ok(())
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

    fn read(yaml: &str) -> Vec<Destination> {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn destinations_are_called_what_metrics_call_them() {
        let all = read("[{type: file}, {type: console}, {type: file}, {type: file, name: audit}]");
        assert_eq!(names(&all), ["file", "console", "file-2", "audit"]);
    }

    #[test]
    fn metrics_at_a_gateway_are_of_another_instance() {
        let all = read("[{type: prometheus, push_gateway: 'http://g:1', instance: pod-7}]");
        let ProcessorConfig::Prometheus(config) = beside(&all[0], "agents").config else {
            panic!("another type");
        };
        assert_eq!(config.instance.as_deref(), Some("pod-7-doctor"));
    }

    #[test]
    fn the_span_is_marked_and_costs_nothing() {
        let line = marked(Timestamp::from_secs(1)).to_json();
        assert!(line.contains(r#""tollgate.doctor":true"#), "{line}");
        assert!(!line.contains("cost"), "{line}");
    }
}
