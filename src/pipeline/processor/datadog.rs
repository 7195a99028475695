//! Spans to Datadog: as traces (APM), as LLM Observability's events, and as metrics, which are a
//! processor by themselves. Through the Agent if there is one, else straight to Datadog.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use http::{HeaderName, HeaderValue, Method, header::CONTENT_TYPE};
use serde::Deserialize;

use self::{about::About, llmobs::Form};
use super::{
    super::{BuildContext, Outlet, Record},
    BoxError, BoxFuture, BuildError, DeliverError, Processor,
    statsd::{Config as StatsdConfig, Dialect, Statsd},
};
use crate::{
    base::{clock::Clock, id::SpanId, secret::Secret},
    net::{
        config::Egress,
        post::{Address, Courier, Letter, Tls},
    },
};

mod about;
mod apm;
mod llmobs;
mod msgpack;

/// LLM Observability takes no older spans.
const OLDEST: Duration = Duration::from_hours(24);

/// The most ids that are remembered of spans that one product has and another has not.
const MOST_TAKEN: usize = 10_000;

/// `{type: datadog, …}`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The Agent's address, `http://localhost:8126`; with a key, the address that takes the place of
    /// `https://api.{site}`.
    pub endpoint: Option<Secret>,
    /// The Agent's host, instead; none: the variable `DD_AGENT_HOST`, else `localhost`.
    pub agent_host: Option<Box<str>>,
    /// Its port.
    pub agent_port: u16,
    /// A key, for going without an Agent; none: the variable `DATADOG_API_KEY` or `DD_API_KEY`, if no
    /// Agent is named.
    pub api_key: Option<Secret>,
    /// The name of a secret that is the key, instead.
    pub api_key_secret: Option<Box<str>>,
    /// Datadog's site; none: the variable `DD_SITE`, else `datadoghq.com`.
    pub site: Option<Box<str>>,
    /// The service; none: `tracing.service_name`.
    #[serde(alias = "service_name")]
    pub service: Option<Box<str>>,
    /// The environment of spans that do not say theirs; none: `tracing.environment`.
    pub env: Option<Box<str>>,
    /// The version of the service.
    pub version: Option<Box<str>>,
    /// Tags of all spans and metrics.
    pub tags: BTreeMap<Box<str>, Box<str>>,
    /// The application in LLM Observability; none: the service.
    pub ml_app: Option<Box<str>>,
    /// Which products get spans; none: both through the Agent, else LLM Observability.
    pub mode: Option<Vec<Product>>,
    /// Whether metrics go to `DogStatsD`.
    pub metrics: bool,
    /// Its address, as `statsd` has it; none: the Agent's host, port 8125.
    pub dogstatsd: Option<Box<str>>,
    /// Certificates of its own.
    pub tls: Tls,
    /// The proxy on the way there; none: that of `upstream`.
    pub proxy: Option<Egress>,
}

/// What of Datadog gets spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Product {
    /// Traces. They need an Agent.
    Apm,
    /// LLM Observability.
    Llmobs,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: None,
            agent_host: None,
            agent_port: 8126,
            api_key: None,
            api_key_secret: None,
            site: None,
            service: None,
            env: None,
            version: None,
            tags: BTreeMap::new(),
            ml_app: None,
            mode: None,
            metrics: false,
            dogstatsd: None,
            tls: Tls::default(),
            proxy: None,
        }
    }
}

/// Makes the processor.
pub(super) fn build(config: &Config, context: &BuildContext) -> Result<Outlet, BuildError> {
    let wrong = |reason: &str| BuildError {
        processor: "datadog",
        reason: reason.to_owned(),
    };
    let way = Way::of(config, context).map_err(BuildError::of("datadog"))?;
    let default = match way {
        Way::Agent(_) => vec![Product::Apm, Product::Llmobs],
        Way::Intake(..) => vec![Product::Llmobs],
    };
    let mode = config.mode.clone().unwrap_or(default);
    if mode.is_empty() && !config.metrics {
        return Err(wrong(
            "mode: expected apm, llmobs or both, or metrics: true",
        ));
    }
    if matches!(way, Way::Intake(..)) && mode.contains(&Product::Apm) {
        return Err(wrong(
            "mode: apm needs an Agent (agent_host); without one use type otlp and Datadog's OTLP intake",
        ));
    }
    let service = config.service.as_ref().unwrap_or(&context.service_name);
    let about = About {
        service: service.clone(),
        environment: config.env.clone().or_else(|| context.environment.clone()),
        version: config.version.clone(),
        tags: config.tags.clone().into_iter().collect(),
        ml_app: config.ml_app.as_ref().unwrap_or(service).clone(),
    };
    let statsd = config
        .metrics
        .then(|| statsd(config, &way, &about, context))
        .transpose()?;
    let mut metrics = statsd.map(|statsd| statsd.outlet("datadog", context));
    if let Some(metrics) = metrics.take_if(|_| mode.is_empty()) {
        return Ok(metrics);
    }
    let at = |product: Product, path: &str| {
        let wanted = mode.contains(&product);
        let address = wanted.then(|| Address::parse(&Secret::new(format!("{}{path}", way.base()))));
        address
            .transpose()
            .map_err(|error| wrong(&format!("endpoint: {error}")))
    };
    let (path, form) = match way {
        Way::Agent(_) => ("/evp_proxy/v2/api/v2/llmobs", Form::Tracer),
        Way::Intake(..) => ("/api/intake/llm-obs/v1/trace/spans", Form::Api),
    };
    let datadog = Datadog {
        courier: context
            .courier(&config.tls, config.proxy.as_ref())
            .map_err(BuildError::of("datadog"))?,
        apm: at(Product::Apm, "/v0.4/traces")?,
        llmobs: at(Product::Llmobs, path)?,
        form,
        event: way.letter().map_err(BuildError::of("datadog"))?,
        about,
        taken: HashSet::new(),
        clock: Arc::clone(&context.clock),
    };
    let mut outlet = context.remote("datadog", datadog);
    // Events take more than the spans that they are made of, and 5 MB at once are the most.
    outlet.delivery.batch_bytes = 2 << 20;
    outlet.delivery.max_age = outlet.delivery.max_age.min(FLUSH);
    outlet.metrics = metrics.map(Box::new);
    Ok(outlet)
}

/// How long spans wait for a full batch. The Agent drops what comes late for its statistics.
const FLUSH: Duration = Duration::from_secs(5);

/// How Datadog is reached.
enum Way {
    /// Through the Agent at this address.
    Agent(String),
    /// Straight there, with this key.
    Intake(String, Secret),
}

impl Way {
    fn of(config: &Config, context: &BuildContext) -> Result<Self, BoxError> {
        let variable = |name: &str| (context.variable)(name).filter(|value| !value.is_empty());
        let endpoint = config.endpoint.as_ref();
        let endpoint = endpoint.map(|it| it.expose().trim_end_matches('/').to_owned());
        let mut host = config.agent_host.as_deref().map(str::to_owned);
        let mut key = match &config.api_key_secret {
            Some(name) if config.api_key.is_none() => Some(context.secret(name)?),
            _ => config.api_key.clone(),
        };
        if host.is_none() && key.is_none() && endpoint.is_none() {
            host = variable("DD_AGENT_HOST");
            let found = variable("DATADOG_API_KEY").or_else(|| variable("DD_API_KEY"));
            key = found.filter(|_| host.is_none()).map(Secret::new);
        }
        if let (None, Some(key)) = (&host, key) {
            let site = config.site.as_deref().map(str::to_owned);
            let site = site.or_else(|| variable("DD_SITE"));
            let site = site.unwrap_or_else(|| "datadoghq.com".to_owned());
            let base = endpoint.unwrap_or_else(|| format!("https://api.{site}"));
            return Ok(Self::Intake(base, key));
        }
        let host = host.unwrap_or_else(|| "localhost".to_owned());
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host
        };
        let named = || format!("http://{host}:{}", config.agent_port);
        Ok(Self::Agent(endpoint.unwrap_or_else(named)))
    }

    fn base(&self) -> &str {
        match self {
            Self::Agent(base) | Self::Intake(base, _) => base,
        }
    }

    /// A message to LLM Observability, but for its body.
    fn letter(&self) -> Result<Letter, BoxError> {
        let mut letter = Letter::json("");
        match self {
            Self::Agent(_) => {
                let subdomain = HeaderName::from_static("x-datadog-evp-subdomain");
                let intake = HeaderValue::from_static("llmobs-intake");
                letter.headers.insert(subdomain, intake);
            },
            Self::Intake(_, key) => {
                let key = HeaderValue::from_str(key.expose());
                let mut key =
                    key.map_err(|_secret| "api_key: it has characters that no key has")?;
                key.set_sensitive(true);
                letter
                    .headers
                    .insert(HeaderName::from_static("dd-api-key"), key);
            },
        }
        Ok(letter)
    }
}

fn statsd(
    config: &Config,
    way: &Way,
    about: &About,
    context: &BuildContext,
) -> Result<Statsd, BuildError> {
    let failed = |reason: String| BuildError {
        processor: "datadog",
        reason,
    };
    let address = match (&config.dogstatsd, way) {
        (Some(address), _) => address.clone(),
        (None, Way::Agent(base)) => {
            let agent = Address::parse(&Secret::new(base.clone()));
            let agent = agent.map_err(|error| failed(format!("endpoint: {error}")))?;
            let host = agent.host().ok_or_else(|| {
                failed(
                    "endpoint: a `@` behind the host may end a password: say in dogstatsd where \
                     metrics go"
                        .to_owned(),
                )
            })?;
            format!("{host}:8125").into()
        },
        (None, Way::Intake(..)) => {
            return Err(failed(
                "metrics need an Agent: say where in dogstatsd".to_owned(),
            ));
        },
    };
    let mut tags = config.tags.clone();
    if let Some(version) = &about.version {
        tags.insert(Box::from("version"), version.clone());
    }
    let config = StatsdConfig {
        address,
        dialect: Dialect::Dogstatsd,
        tags,
        ..StatsdConfig::default()
    };
    let context = BuildContext {
        service_name: about.service.clone(),
        environment: about.environment.clone(),
        ..context.clone()
    };
    Statsd::new(&config, &context).map_err(|error| failed(format!("dogstatsd: {error}")))
}

struct Datadog {
    courier: Courier,
    /// Where traces go.
    apm: Option<Address>,
    /// Where events go, and how.
    llmobs: Option<Address>,
    form: Form,
    event: Letter,
    about: About,
    /// Spans that APM has, of batches that LLM Observability has not.
    taken: HashSet<SpanId>,
    clock: Arc<dyn Clock>,
}

impl Datadog {
    /// One product after the other; a batch that comes again goes only to those that do not have it.
    async fn send(&mut self, batch: &[Arc<Record>]) -> Result<(), DeliverError> {
        let traces = refusal(self.send_traces(batch).await)?;
        let events = refusal(self.send_events(batch).await)?;
        for record in batch {
            self.taken.remove(&record.span.span_id);
        }
        traces.or(events).map_or(Ok(()), Err)
    }

    async fn send_traces(&mut self, batch: &[Arc<Record>]) -> Result<(), DeliverError> {
        let Some(address) = &self.apm else {
            return Ok(());
        };
        let fresh = batch.iter().map(|record| &**record);
        let fresh = fresh.filter(|record| !self.taken.contains(&record.span.span_id));
        let fresh: Vec<&Record> = fresh.collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let (body, count) = apm::traces(&fresh, &self.about);
        self.courier.send(address, traces(body, count)).await?;
        if self.taken.len() + fresh.len() > MOST_TAKEN {
            self.taken.clear();
        }
        if self.llmobs.is_some() {
            self.taken
                .extend(fresh.iter().map(|record| record.span.span_id));
        }
        Ok(())
    }

    async fn send_events(&self, batch: &[Arc<Record>]) -> Result<(), DeliverError> {
        let Some(address) = &self.llmobs else {
            return Ok(());
        };
        let now = self.clock.wall();
        let records = batch.iter().map(|record| &**record);
        let is_recent = |record: &&Record| now.since(record.span.start) <= OLDEST;
        let recent: Vec<&Record> = records.filter(is_recent).collect();
        if !recent.is_empty() {
            let body = llmobs::events(&recent, &self.about, self.form);
            let letter = Letter {
                body: body.into(),
                ..self.event.clone()
            };
            self.courier.send(address, letter).await?;
        }
        match batch.len() - recent.len() {
            0 => Ok(()),
            refused => Err(DeliverError::Partly {
                refused,
                source: "LLM Observability takes no spans that began more than 24 h ago".into(),
            }),
        }
    }
}

/// An error that is final, which keeps other products from nothing; any other one ends the attempt.
fn refusal(result: Result<(), DeliverError>) -> Result<Option<DeliverError>, DeliverError> {
    match result {
        Ok(()) => Ok(None),
        Err(error @ (DeliverError::Reject(_) | DeliverError::Partly { .. })) => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

/// A message to the Agent with some traces.
fn traces(body: Vec<u8>, count: usize) -> Letter {
    let mut letter = Letter {
        method: Method::PUT,
        ..Letter::json(body)
    };
    let version = HeaderValue::from_static(env!("CARGO_PKG_VERSION"));
    for (name, value) in [
        (
            CONTENT_TYPE,
            HeaderValue::from_static("application/msgpack"),
        ),
        (
            HeaderName::from_static("x-datadog-trace-count"),
            count.into(),
        ),
        (
            HeaderName::from_static("datadog-meta-lang"),
            HeaderValue::from_static("rust"),
        ),
        (
            HeaderName::from_static("datadog-meta-tracer-version"),
            version,
        ),
        (
            HeaderName::from_static("datadog-client-computed-top-level"),
            HeaderValue::from_static("yes"),
        ),
    ] {
        letter.headers.insert(name, value);
    }
    letter
}

impl Processor for Datadog {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        Box::pin(self.send(batch))
    }

    fn host(&self) -> Option<&str> {
        self.apm.as_ref().or(self.llmobs.as_ref())?.host()
    }
}

#[cfg(test)]
#[path = "datadog/tests.rs"]
mod tests;
