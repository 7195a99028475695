//! The `tracing:` section of the configuration, under the names of the RAAF tracing guide.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    BuildContext, Delivery, Outlet, Place, Sampling, Shelf, Unit,
    options::{CircuitBreaker, Destination, Options},
    processor::{BuildError, ConsoleConfig, ExecConfig, ProcessorConfig},
    propagation::Propagation,
    redact::Redaction,
    resources::ResourceLimits,
};
use crate::base::units::{self, ByteSize};

/// `tracing:` — what spans say, and where they go.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The name of the service that spans are reported for.
    pub service_name: Box<str>,
    /// The environment of calls that do not say theirs; none by default.
    pub environment: Option<Box<str>>,
    /// Whether spans hold prompts and answers.
    pub content: Content,
    /// What redacted content is without, besides what is built in.
    pub redaction: Redaction,
    /// Trace context on its way to providers.
    pub propagation: Propagation,
    /// Where `api_key_secret: NAME` is read.
    pub secrets_dir: PathBuf,
    /// The destinations; the store is one besides.
    #[serde(deserialize_with = "processors")]
    pub processors: Vec<Destination>,
    /// Whether a reload may start commands that were not there at the start; taken at the start.
    pub allow_exec_reload: bool,
    /// When a processor that keeps failing is left alone, where it does not say so itself.
    pub circuit_breaker: CircuitBreaker,
    /// Which traces go to destinations elsewhere.
    pub sampling: Sampling,
    /// What waits for destinations elsewhere.
    pub buffering: Buffering,
    /// How much of the machine is taken.
    pub resource_limits: ResourceLimits,
    /// The most bytes that wait for a processor that does not say so itself, where `resource_limits` has
    /// been divided.
    #[serde(skip)]
    pub share: Option<ByteSize>,
}

/// `tracing.content` — whether spans hold prompts and answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// Never.
    #[default]
    None,
    /// Without keys, tokens and what is personal.
    Redacted,
    /// Without keys and tokens.
    Full,
}

impl Content {
    /// Its name in the configuration and on spans.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Redacted => "redacted",
            Self::Full => "full",
        }
    }
}

/// `tracing.buffering` — what waits for each processor.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Buffering {
    /// The most spans that wait for one processor; the oldest is dropped for a new one.
    pub max_buffer_size: usize,
    /// The longest that a span waits for its batch, for destinations elsewhere.
    #[serde(with = "units::duration")]
    pub flush_interval: Duration,
    /// Whether spans for destinations elsewhere are kept on disk while those are down.
    pub persist_buffer: bool,
    /// Where they are kept, each processor's in a directory of its name.
    pub buffer_directory: PathBuf,
    /// The most that those of one processor take there; the oldest give way. Zero: none are kept.
    pub max_disk: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            service_name: Box::from("raaf-agents"),
            environment: None,
            content: Content::None,
            redaction: Redaction::default(),
            propagation: Propagation::default(),
            secrets_dir: PathBuf::from("/run/secrets"),
            processors: vec![ProcessorConfig::Console(ConsoleConfig::default()).into()],
            allow_exec_reload: false,
            circuit_breaker: CircuitBreaker::default(),
            sampling: Sampling::default(),
            buffering: Buffering::default(),
            resource_limits: ResourceLimits::default(),
            share: None,
        }
    }
}

impl Default for Buffering {
    fn default() -> Self {
        Self {
            max_buffer_size: Delivery::LOCAL.queue,
            flush_interval: Delivery::REMOTE.max_age,
            persist_buffer: true,
            buffer_directory: PathBuf::from("./trace_buffer"),
            max_disk: ByteSize::mib(256),
        }
    }
}

impl Buffering {
    /// Where spans of the outlet wait while it is down.
    fn shelf(&self, outlet: &Outlet) -> Option<Shelf> {
        let quota = self.max_disk.as_u64();
        let wanted = self.persist_buffer && quota > 0 && outlet.place == Place::Elsewhere;
        // A name may be `..`, which would lead elsewhere.
        let mark = if outlet.name.starts_with('.') {
            "_"
        } else {
            ""
        };
        wanted.then(|| Shelf {
            directory: self.buffer_directory.join(format!("{mark}{}", outlet.name)),
            quota,
        })
    }
}

impl Config {
    /// What the processors are called in metrics and logs: by their own name or their type, and
    /// `file-2` if that occurs again.
    pub fn names(&self) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = Vec::with_capacity(self.processors.len());
        for Destination { config, options } in &self.processors {
            let own = options.name.as_ref();
            let name = own.map_or_else(|| config.name(), |it| it.as_str());
            let name = unique(name, |it| names.iter().any(|name| **name == *it));
            names.push(name);
        }
        names
    }

    /// Makes the processors, under their [`names`](Self::names). `surroundings`: what is not said here.
    /// The metrics of `otlp` are `otlp-metrics`.
    ///
    /// # Errors
    /// The first processor that cannot be made as it is configured.
    pub fn build(&self, surroundings: &BuildContext) -> Result<Vec<Outlet>, BuildError> {
        let context = self.context(surroundings);
        let mut outlets: Vec<Outlet> = Vec::with_capacity(self.processors.len());
        let names = self.names();
        for (destination, name) in self.processors.iter().zip(&names) {
            let Destination { config, options } = destination;
            let mut outlet = config.build(&context)?;
            outlet.delivery = self.shared(outlet.delivery);
            options.apply(&mut outlet.delivery);
            // What waits may have been read when it was more.
            let most = outlet.delivery.content.unwrap_or(self.content);
            outlet.delivery.content = Some(most.min(self.content));
            outlet.filter = outlet.filter.narrowed(options);
            outlet.sampling = self
                .sampling(&outlet, options)
                .map_err(|reason| BuildError {
                    processor: config.name(),
                    reason: reason.to_owned(),
                })?;
            outlet.name = Arc::clone(name);
            outlet.shelf = self.buffering.shelf(&outlet);
            let metrics = outlet.metrics.take().map(|mut metrics| {
                // Together they take what the destination may.
                metrics.delivery.memory = outlet.delivery.memory / 4;
                outlet.delivery.memory -= metrics.delivery.memory;
                metrics.filter = metrics.filter.narrowed(options);
                metrics.name = unique(&format!("{name}-metrics"), |it| {
                    names
                        .iter()
                        .chain(outlets.iter().map(|it| &it.name))
                        .any(|name| **name == *it)
                });
                metrics.shelf = self.buffering.shelf(&metrics);
                metrics.origin = Some(Box::new(self.of(destination, &metrics.delivery)));
                *metrics
            });
            outlet.origin = Some(Box::new(self.of(destination, &outlet.delivery)));
            outlets.push(outlet);
            outlets.extend(metrics);
        }
        Ok(outlets)
    }

    /// Which traces are for the outlet: what it is told itself, else what is told of all destinations
    /// elsewhere.
    fn sampling(
        &self,
        outlet: &Outlet,
        options: &Options,
    ) -> Result<Option<Sampling>, &'static str> {
        let own = match (options.sampling, options.sampling_rate) {
            (Some(_), Some(_)) => return Err("give sampling or sampling_rate, but not both"),
            (own, share) => own.or_else(|| Some(Sampling::share(share?, &self.sampling))),
        };
        match (own, outlet.unit, outlet.place) {
            (Some(_), Unit::All, _) => Err(
                "sampling: it gets every span that its filters let through, else its figures and \
                 warnings would be wrong",
            ),
            (Some(own), ..) => Ok(Some(own)),
            (None, Unit::All, _) | (None, _, Place::Here) => Ok(None),
            (None, _, Place::Elsewhere) => Ok(outlet.sampling.or(Some(self.sampling))),
        }
    }

    /// What of this section can matter to the processor.
    fn of(&self, destination: &Destination, delivery: &Delivery) -> Self {
        Self {
            processors: vec![destination.clone()],
            content: delivery.content.unwrap_or(self.content),
            redaction: Redaction::default(),
            propagation: Propagation::default(),
            allow_exec_reload: false,
            ..self.clone()
        }
    }

    /// The commands that a reload may start, if this is the configuration of the start; none: any.
    pub fn commands(&self) -> Option<Arc<[ExecConfig]>> {
        let command = |it: &Destination| match &it.config {
            ProcessorConfig::Exec(config) => Some(config.clone()),
            _ => None,
        };
        let commands = || self.processors.iter().filter_map(command).collect();
        (!self.allow_exec_reload).then(commands)
    }

    /// With no more memory than there is for one that does not say how much it takes.
    pub(super) fn shared(&self, mut delivery: Delivery) -> Delivery {
        let share = self.share.map_or(usize::MAX, ByteSize::as_usize);
        delivery.memory = delivery.memory.min(share);
        delivery
    }

    /// With what the section says of all processors.
    fn context(&self, surroundings: &BuildContext) -> BuildContext {
        let told = |mut delivery: Delivery| {
            delivery.queue = self.buffering.max_buffer_size;
            self.circuit_breaker.apply(&mut delivery);
            delivery
        };
        let mut remote = told(Delivery::REMOTE);
        remote.max_age = self.buffering.flush_interval;
        BuildContext {
            service_name: self.service_name.clone(),
            environment: self.environment.clone(),
            secrets_dir: self.secrets_dir.clone(),
            local: told(Delivery::LOCAL),
            remote,
            ..surroundings.clone()
        }
    }
}

/// The name, or with a number after it if it is taken.
fn unique(name: &str, is_taken: impl Fn(&str) -> bool) -> Arc<str> {
    let mut further = (2..).map(|number| format!("{name}-{number}"));
    let mut unique = name.to_owned();
    // The store has its name already.
    while unique == "store" || is_taken(&unique) {
        unique = further.next().unwrap_or(unique);
    }
    unique.into()
}

/// At most 64: each has a thread.
fn processors<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Destination>, D::Error> {
    let processors = Vec::deserialize(deserializer)?;
    if processors.len() > 64 {
        return Err(D::Error::custom("at most 64 processors"));
    }
    Ok(processors)
}

#[cfg(test)]
mod tests {
    use super::{super::Pipeline, *};
    use crate::base::clock::{Clock, SystemClock};

    fn read(yaml: &str) -> Result<Config, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn the_documented_section_reads_as_the_defaults() {
        let config = read(
            "service_name: raaf-agents
environment: null
content: none
redaction: {patterns: [], paths: []}
propagation: {formats: [w3c, b3, jaeger, datadog], send: if_present}
secrets_dir: /run/secrets
processors:
  - {type: console, format: compact}
sampling: {strategy: probabilistic, rate: 1.0}
buffering: {max_buffer_size: 10000, flush_interval: 30s, persist_buffer: true, buffer_directory: ./trace_buffer}
",
        );
        assert_eq!(config, Ok(Config::default()));
        assert_eq!(read("{}"), Ok(Config::default()));
    }

    #[test]
    fn what_all_processors_are_told_is_told_each_unless_it_knows_better() {
        let config = read(
            "circuit_breaker: {failure_threshold: 9, recovery_timeout: 1m}
buffering: {max_buffer_size: 77}
processors:
  - {type: console}
  - {type: console, name: loud, max_buffer_size: 5, circuit_breaker: {recovery_timeout: 2m}}
  - {type: console}
  - {type: console, name: loud, min_duration_ms: 100}
",
        )
        .unwrap();
        let outlets = config.build(&BuildContext::new(Arc::new(SystemClock)));
        let outlets = outlets.unwrap();
        let names: Vec<&str> = outlets.iter().map(|outlet| &*outlet.name).collect();
        assert_eq!(names, ["console", "loud", "console-2", "loud-2"]);
        let of = |at: usize| {
            let told = outlets[at].delivery;
            (told.queue, told.failure_threshold, told.recovery_timeout)
        };
        assert_eq!(of(0), (77, 9, Duration::from_mins(1)));
        assert_eq!(of(1), (5, 9, Duration::from_mins(2)));
        assert_eq!(outlets[0].delivery.batch, Delivery::LOCAL.batch);
        assert_eq!(outlets[3].filter.min_duration, Duration::from_millis(100));
    }

    #[test]
    fn a_processor_stays_over_an_edit_that_leaves_it_alone() {
        let before =
            "processors: [{type: console}, {type: console, batch_size: 5, include_payloads: true}]";
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let outlets = |yaml: &str| {
            let context = BuildContext::new(Arc::clone(&clock));
            read(yaml).unwrap().build(&context).unwrap()
        };
        let pipeline = Pipeline::start(Vec::new(), outlets(before), Arc::clone(&clock)).unwrap();
        for (edit, stays) in [
            (before.to_owned(), vec![true, true]),
            (before.replace('5', "6"), vec![true, false]),
            (
                format!("redaction: {{paths: ['$.a']}}\n{before}"),
                vec![true, true],
            ),
            // One that gets no content has as much as before.
            (format!("content: full\n{before}"), vec![true, false]),
            (format!("environment: prod\n{before}"), vec![false, false]),
            (
                format!("buffering: {{max_buffer_size: 9}}\n{before}"),
                vec![false, false],
            ),
            (
                "processors: [{type: console, name: a}]".to_owned(),
                vec![false],
            ),
        ] {
            let successors = pipeline.prepare(outlets(&edit)).unwrap();
            let present = pipeline.lines.load();
            let found = successors.0.iter().map(|(line, start)| {
                let is_present = present.iter().any(|old| Arc::ptr_eq(line, old));
                assert_eq!(is_present, start.is_none(), "{edit}");
                is_present
            });
            assert_eq!(found.collect::<Vec<_>>(), stays, "{edit}");
        }
    }

    #[test]
    fn a_webhook_gets_every_span_unless_it_is_sampled_itself() {
        let yaml = "
sampling: {rate: 0.1, slow_ms: 7}
processors:
  - {type: webhook, url: 'http://a/x', min_cost_usd: 5}
  - {type: webhook, url: 'http://a/x', sampling_rate: 0.5}
  - {type: otlp}";
        let context = BuildContext::new(Arc::new(SystemClock));
        let outlets = read(yaml).unwrap().build(&context).unwrap();
        let sampling: Vec<_> = outlets.iter().filter_map(|it| it.sampling).collect();
        assert!(!sampling[0].leaves_out());
        let choices = [sampling[1].choice, sampling[2].choice];
        assert_eq!(choices, [0.5, 0.1].map(super::super::Choice::Share));
    }

    #[test]
    fn no_name_is_there_twice() {
        let config = read(
            "processors: [{type: console, name: store}, {type: otlp, endpoint: 'http://c:1', metrics: \
             true}, {type: console}, {type: console, name: otlp-metrics}]",
        );
        let config = config.unwrap();
        let named = config.names();
        let named: Vec<&str> = named.iter().map(|name| &**name).collect();
        assert_eq!(named, ["store-2", "otlp", "console", "otlp-metrics"]);
        let outlets = config.build(&BuildContext::new(Arc::new(SystemClock)));
        let outlets = outlets.unwrap();
        let made: Vec<&str> = outlets.iter().map(|outlet| &*outlet.name).collect();
        let all = [
            "store-2",
            "otlp",
            "otlp-metrics-2",
            "console",
            "otlp-metrics",
        ];
        assert_eq!(made, all);
    }

    #[test]
    fn wrong_names_are_answered_with_the_right_ones() {
        let error = read("processors: [{type: consol}]").unwrap_err();
        assert!(
            error.contains("console") && error.contains("file"),
            "{error}"
        );
        let error = read("processors: [{type: console, formt: json}]").unwrap_err();
        assert!(
            error.contains("formt") && error.contains("format"),
            "{error}"
        );
        let error = read("content: everything").unwrap_err();
        assert!(error.contains("redacted"), "{error}");
    }
}
