//! Spans in OpenTelemetry's own protocol, and metrics from them: to collectors and to all that speak
//! it. The files beside this one that are named after products fill in what those want.

use std::{collections::BTreeMap, future::ready, sync::Arc, time::Duration};

use tokio::sync::Mutex;

use self::{
    channel::{Channel, Encoding, Message, Refused, Signal, Way},
    metrics::{Metrics, Schedule},
    resource::Resource,
};
use super::{
    super::{BuildContext, Content, Delivery, Outlet, Record, Unit},
    BoxError, BoxFuture, BuildError, DeliverError, Due, Processor,
};
use crate::{
    base::{clock::Clock, protobuf::Form, secret::Secret},
    net::{
        config::Egress,
        post::{Address, Compression, Tls, headers, shown_host},
    },
};

pub(super) mod attribute;
mod channel;
pub(super) mod failure;
mod langfuse;
mod metrics;
mod openinference;
mod profile;
mod resource;
#[cfg(test)]
pub(super) mod testing;
mod trace;

pub use channel::Protocol;
pub use profile::Profile;

/// How long sending metrics may take. Spans are counted meanwhile.
const METRICS: Duration = Duration::from_secs(10);

/// The path at the end of an endpoint that is for traces alone.
const TRACES: &str = "/v1/traces";

/// Makes the `Config` of a destination that takes OTLP: the keys that all of them have, and its own.
macro_rules! config {
    ($(#[$doc:meta])* { $($(#[$about:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Config {
            /// Where it is: the address before `/v1/traces`, or with it.
            pub endpoint: Option<$crate::base::secret::Secret>,
            /// What is spoken.
            pub protocol: Option<$crate::pipeline::processor::otlp::Protocol>,
            /// How messages are compressed; gzip by default.
            pub compression: Option<$crate::net::post::Compression>,
            /// Headers that are sent along.
            pub headers: std::collections::BTreeMap<Box<str>, $crate::base::secret::Secret>,
            /// Whose names attributes have.
            pub profile: Option<$crate::pipeline::processor::otlp::Profile>,
            /// Attributes of the resource, besides `service.name` and the environment or instead.
            pub resource: std::collections::BTreeMap<String, String>,
            /// Certificates.
            pub tls: $crate::net::post::Tls,
            /// The egress proxy; none: that of `upstream.proxy`.
            pub proxy: Option<$crate::net::config::Egress>,
            $($(#[$about])* pub $field: $type,)*
        }

        impl Config {
            /// What all of them have, for a destination of that type.
            fn plan(&self, processor: &'static str) -> $crate::pipeline::processor::otlp::Plan {
                $crate::pipeline::processor::otlp::Plan {
                    processor,
                    endpoint: self.endpoint.clone(),
                    base: "",
                    protocol: self.protocol,
                    compression: self.compression,
                    headers: self.headers.clone(),
                    profile: self.profile,
                    resource: self.resource.clone(),
                    tls: self.tls.clone(),
                    proxy: self.proxy.clone(),
                    metrics: None,
                }
            }
        }
    };
}

pub(super) use config;

config! {
    /// `{type: otlp, …}`
    {
        /// Whether metrics are sent besides.
        metrics: bool,
        /// Between two messages with metrics; a minute by default.
        metrics_interval: Option<super::super::options::Lasting>,
    }
}

/// Makes the processor. Without an endpoint it is the one that OpenTelemetry's variables name, else a
/// collector on this machine.
pub(super) fn build(config: &Config, context: &BuildContext) -> Result<Outlet, BuildError> {
    let mut plan = config.plan("otlp");
    plan.endpoint_or(context, &["OTEL_EXPORTER_OTLP_ENDPOINT"]);
    plan.collector();
    plan.metrics = interval(config.metrics, config.metrics_interval);
    plan.build(context)
}

/// How often metrics are sent, if they are.
pub(super) fn interval(
    metrics: bool,
    every: Option<super::super::options::Lasting>,
) -> Option<Duration> {
    let every = every.map_or(Duration::from_mins(1), |every| every.0);
    metrics.then_some(every.max(Duration::from_secs(1)))
}

/// What is to be made, on the way from what was configured.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) processor: &'static str,
    pub(super) endpoint: Option<Secret>,
    /// The path between an endpoint's host and `/v1/traces`.
    pub(super) base: &'static str,
    pub(super) protocol: Option<Protocol>,
    pub(super) compression: Option<Compression>,
    pub(super) headers: BTreeMap<Box<str>, Secret>,
    pub(super) profile: Option<Profile>,
    pub(super) resource: BTreeMap<String, String>,
    pub(super) tls: Tls,
    pub(super) proxy: Option<Egress>,
    /// Between two messages with metrics; none: there are none.
    pub(super) metrics: Option<Duration>,
}

impl Plan {
    /// Takes the endpoint from the first of these variables that is set, if it is not configured.
    pub(super) fn endpoint_or(&mut self, context: &BuildContext, variables: &[&str]) {
        if self.endpoint.is_none() {
            self.endpoint = variable(context, variables);
        }
    }

    /// The endpoint is on this machine, if it is nowhere else.
    pub(super) fn collector(&mut self) {
        let address = match self.protocol {
            Some(Protocol::Grpc) => "http://localhost:4317",
            _ => "http://localhost:4318",
        };
        self.endpoint.get_or_insert_with(|| Secret::new(address));
    }

    /// Sends a header, unless it is configured.
    pub(super) fn header(&mut self, name: &str, value: Secret) {
        self.headers.entry(name.into()).or_insert(value);
    }

    /// An error of this destination.
    pub(super) fn error(&self, reason: impl Into<String>) -> BuildError {
        BuildError {
            processor: self.processor,
            reason: reason.into(),
        }
    }

    /// Makes it.
    pub(super) fn build(self, context: &BuildContext) -> Result<Outlet, BuildError> {
        let profile = self.profile.unwrap_or_default();
        let resource = Resource::new(
            &context.service_name,
            context.environment.as_deref(),
            context.resource(&self.resource),
        );
        let meter = |channel: Channel, every| Meter {
            host: channel.host.clone(),
            encoding: channel.encoding(),
            channel: Arc::new(Mutex::new(channel)),
            profile,
            resource: resource.clone(),
            metrics: Metrics::new(context.clock.wall()),
            schedule: Schedule {
                every,
                next: context.clock.mono() + every,
            },
            clock: Arc::clone(&context.clock),
        };
        let meter = self
            .metrics
            .map(|every| Ok(meter(self.channel(context)?, every)))
            .transpose()?;
        let otlp = Otlp {
            channel: self.channel(context)?,
            profile,
            resource,
        };
        let mut outlet = context.remote(self.processor, otlp);
        outlet.metrics = meter.map(|meter| {
            let counting = context.local(self.processor, meter);
            Box::new(Outlet {
                unit: Unit::All,
                delivery: Delivery {
                    timeout: counting.delivery.timeout.min(METRICS),
                    content: Some(Content::None),
                    ..counting.delivery
                },
                ..counting
            })
        });
        Ok(outlet)
    }

    fn channel(&self, context: &BuildContext) -> Result<Channel, BuildError> {
        let address = |url: &Secret| {
            let address = Address::parse(url);
            address.map_err(|error| self.error(format!("endpoint: {error}")))
        };
        let none = Secret::new("");
        let endpoint = self.endpoint.as_ref().unwrap_or(&none);
        let protocol = self.protocol.unwrap_or_default();
        let (tls, proxy) = (&self.tls, self.proxy.as_ref());
        let way = match protocol {
            Protocol::Grpc => {
                let client = context.grpc(&address(endpoint)?, tls, proxy);
                Way::Grpc(client.map_err(|error| self.error(error.to_string()))?)
            },
            Protocol::Protobuf | Protocol::Json => Way::Http {
                courier: context
                    .courier(tls, proxy)
                    .map_err(|error| self.error(error.to_string()))?,
                traces: address(&signal(endpoint, self.base, TRACES))?,
                metrics: address(&signal(endpoint, self.base, "/v1/metrics"))?,
                encoding: match protocol {
                    Protocol::Json => Encoding::Json,
                    _ => Encoding::Protobuf,
                },
            },
        };
        Ok(Channel {
            host: shown_host(endpoint.expose()),
            way,
            headers: headers(&self.headers).map_err(|error| self.error(error.to_string()))?,
            compression: self.compression.unwrap_or(Compression::Gzip),
        })
    }
}

/// The value of the first of these variables that is set.
pub(super) fn variable(context: &BuildContext, names: &[&str]) -> Option<Secret> {
    let mut values = names.iter().filter_map(|name| (context.variable)(name));
    values
        .find(|value| !value.trim().is_empty())
        .map(|value| Secret::new(value.trim()))
}

/// Where messages of one kind go: the endpoint without `/v1/traces`, with `base` unless it is there
/// already, and with `path`; its query stays behind.
fn signal(endpoint: &Secret, base: &str, path: &str) -> Secret {
    let (address, query) = match endpoint.expose().split_once('?') {
        Some((address, query)) => (address, format!("?{query}")),
        None => (endpoint.expose(), String::new()),
    };
    let address = address.trim_end_matches('/');
    let whole = address.strip_suffix(TRACES);
    let address = whole.unwrap_or(address);
    let base = if whole.is_some() || address.ends_with(base) {
        ""
    } else {
        base
    };
    Secret::new(format!("{address}{base}{path}{query}"))
}

struct Otlp {
    channel: Channel,
    profile: Profile,
    resource: Resource,
}

/// Adds spans up, and sends the totals at intervals.
struct Meter {
    /// Whoever sends has it.
    channel: Arc<Mutex<Channel>>,
    host: Option<Box<str>>,
    encoding: Encoding,
    profile: Profile,
    resource: Resource,
    metrics: Metrics,
    schedule: Schedule,
    clock: Arc<dyn Clock>,
}

/// A batch of spans as a message.
struct Spans<'a>(&'a [Arc<Record>], &'a Resource, Profile);

impl Message for Spans<'_> {
    fn write<F: Form>(&self) -> Vec<u8> {
        trace::request::<F>(self.0, self.1, self.2)
    }
}

/// What was measured, as a message.
struct Measured<'a>(&'a Metrics, &'a Resource, Profile, &'a dyn Clock);

impl Message for Measured<'_> {
    fn write<F: Form>(&self) -> Vec<u8> {
        self.0.request::<F>(self.3.wall(), self.1, self.2)
    }
}

impl Processor for Otlp {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        Box::pin(async move {
            let spans = Spans(batch, &self.resource, self.profile);
            let message = self.channel.encoding().written(&spans);
            match self.channel.send(Signal::Traces, message).await? {
                None => Ok(()),
                Some(refused) => Err(DeliverError::Partly {
                    refused: usize::try_from(refused.count)
                        .unwrap_or(usize::MAX)
                        .min(batch.len()),
                    source: format!("the destination refused them{}", refused.words).into(),
                }),
            }
        })
    }

    fn host(&self) -> Option<&str> {
        self.channel.host.as_deref()
    }
}

impl Processor for Meter {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        self.metrics.count(batch);
        Box::pin(ready(Ok(())))
    }

    fn send_besides(&mut self, due: Due) -> Option<BoxFuture<'static, Result<(), BoxError>>> {
        let now = self.clock.mono();
        if self.metrics.is_empty() || due == Due::Tick && now < self.schedule.next {
            return None;
        }
        self.schedule.next = now + self.schedule.every;
        let message = Measured(&self.metrics, &self.resource, self.profile, &*self.clock);
        let message = self.encoding.written(&message);
        let channel = Arc::clone(&self.channel);
        Some(Box::pin(async move {
            let sent = channel.lock().await.send(Signal::Metrics, message).await;
            match sent? {
                None => Ok(()),
                Some(Refused { count, words }) => {
                    Err(format!("{count} points of metrics were refused{words}").into())
                },
            }
        }))
    }

    fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_may_be_whole_or_only_its_beginning() {
        for (endpoint, base, expected) in [
            ("http://c:4318", "", "http://c:4318/v1/traces"),
            ("http://c:4318/", "", "http://c:4318/v1/traces"),
            ("http://c/otlp/v1/traces", "", "http://c/otlp/v1/traces"),
            ("http://c/v1/traces?k=1", "", "http://c/v1/traces?k=1"),
            (
                "https://l",
                "/api/public/otel",
                "https://l/api/public/otel/v1/traces",
            ),
            (
                "https://l/api/public/otel",
                "/api/public/otel",
                "https://l/api/public/otel/v1/traces",
            ),
            (
                "https://l/x/v1/traces/",
                "/api/public/otel",
                "https://l/x/v1/traces",
            ),
        ] {
            let found = signal(&Secret::new(endpoint), base, TRACES);
            assert_eq!(found.expose(), expected);
        }
        let metrics = signal(&Secret::new("http://c/v1/traces"), "", "/v1/metrics");
        assert_eq!(metrics.expose(), "http://c/v1/metrics");
    }
}
