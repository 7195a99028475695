//! Our own metrics, pushed to a Prometheus Pushgateway: for processes that nobody scrapes, because they
//! are short or cannot be reached. Spans are what tells that there is something new to push.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderValue, Method, header::CONTENT_TYPE};
use prometheus::{Registry, TextEncoder};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{
    super::{BuildContext, Content, Outlet, Record, Unit},
    BoxError, BoxFuture, BuildError, DeliverError, Due, Processor,
};
use crate::{
    base::{
        clock::{Clock, Instant},
        secret::Secret,
        units,
    },
    net::{
        config::Egress,
        post::{Address, Courier, Letter, Tls, headers, shown_host},
    },
};

/// `{type: prometheus, …}`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The gateway: `http://pushgateway:9091`, with the path before `/metrics` if it has one.
    pub push_gateway: Option<Secret>,
    /// The job; none: `tracing.service_name`.
    pub job: Option<Box<str>>,
    /// The instance, which must not be that of another process; none: the variable `HOSTNAME`, else the
    /// machine's name.
    pub instance: Option<Box<str>>,
    /// How often metrics are pushed, at most and at least.
    #[serde(with = "units::duration")]
    pub interval: Duration,
    /// Headers of each push.
    pub headers: BTreeMap<Box<str>, Secret>,
    /// Certificates of its own.
    pub tls: Tls,
    /// The proxy on the way there; none: that of `upstream`.
    pub proxy: Option<Egress>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            push_gateway: None,
            job: None,
            instance: None,
            interval: Duration::from_secs(15),
            headers: BTreeMap::new(),
            tls: Tls::default(),
            proxy: None,
        }
    }
}

/// Makes the processor.
pub(super) fn build(config: &Config, context: &BuildContext) -> Result<Outlet, BuildError> {
    let wrong = |reason: &str| BuildError {
        processor: "prometheus",
        reason: reason.to_owned(),
    };
    let gateway = config.push_gateway.as_ref().ok_or_else(|| {
        wrong("push_gateway is missing: where are metrics pushed? What scrapes needs no processor")
    })?;
    if config.interval < Duration::from_secs(1) {
        return Err(wrong("interval: expected at least 1s"));
    }
    let job = config.job.as_ref().unwrap_or(&context.service_name);
    if job.is_empty() {
        return Err(wrong("job: a gateway takes no metrics without one"));
    }
    let instance = config.named(context);
    let path = group(job, instance.as_deref());
    let url = format!("{}{path}", gateway.expose().trim_end_matches('/'));
    let address = Address::parse(&Secret::new(url));
    let address = address.map_err(|error| wrong(&format!("push_gateway: {error}")))?;
    let mut headers = headers(&config.headers).map_err(BuildError::of("prometheus"))?;
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    headers.insert(CONTENT_TYPE, text);
    let courier = context.courier(&config.tls, config.proxy.as_ref());
    let courier = courier.map_err(BuildError::of("prometheus"))?;
    let letter = Letter {
        method: Method::PUT,
        headers,
        ..Letter::json("")
    };
    let pusher = Pusher {
        way: Arc::new(Way {
            courier: Mutex::new(courier),
            address,
            letter,
        }),
        host: shown_host(gateway.expose()),
        registry: context.registry.clone(),
        interval: config.interval,
        pushed: context.clock.mono(),
        clock: Arc::clone(&context.clock),
    };
    let mut outlet = context.remote("prometheus", pusher);
    // One push tells of all spans that wait.
    outlet.delivery.batch = outlet.delivery.queue;
    outlet.delivery.batch_bytes = outlet.delivery.memory;
    outlet.delivery.max_age = config.interval;
    outlet.unit = Unit::All;
    outlet.delivery.content = Some(Content::None);
    Ok(outlet)
}

impl Config {
    /// The instance whose metrics are pushed: as configured, else this machine's name.
    pub fn named(&self, context: &BuildContext) -> Option<Box<str>> {
        self.instance.clone().or_else(|| instance(context))
    }
}

/// What this machine is called.
fn instance(context: &BuildContext) -> Option<Box<str>> {
    let named = (context.variable)("HOSTNAME").filter(|name| !name.is_empty());
    let named = named.or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
    named.map(|name| Box::from(name.trim()))
}

/// The path of a group of metrics.
fn group(job: &str, instance: Option<&str>) -> String {
    let mut path = format!("/metrics/{}", label("job", job));
    if let Some(instance) = instance.filter(|instance| !instance.is_empty()) {
        path.push('/');
        path.push_str(&label("instance", instance));
    }
    path
}

/// A label in a path: as it is written if that is plain, else in base64.
fn label(name: &str, value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    // `.` and `..` would lead out of the path.
    if value.bytes().all(plain) && !value.starts_with('.') {
        format!("{name}/{value}")
    } else {
        format!("{name}@base64/{}", URL_SAFE_NO_PAD.encode(value))
    }
}

struct Pusher {
    way: Arc<Way>,
    /// To be shown. The gateway's alone says it: a path of ours may have a `@` in it.
    host: Option<Box<str>>,
    registry: Registry,
    interval: Duration,
    /// When metrics were last pushed; or the start.
    pushed: Instant,
    clock: Arc<dyn Clock>,
}

/// The way to the gateway.
struct Way {
    /// One push after another: an older one must not come last.
    courier: Mutex<Courier>,
    address: Address,
    /// Every push but for its body.
    letter: Letter,
}

impl Pusher {
    /// Puts our metrics in the place of those that the gateway has of us.
    fn push(&mut self) -> impl Future<Output = Result<(), DeliverError>> + Send + use<> {
        self.pushed = self.clock.mono();
        let (way, registry) = (Arc::clone(&self.way), self.registry.clone());
        async move {
            let courier = way.courier.lock().await;
            let text = TextEncoder::new().encode_to_string(&registry.gather());
            let mut text = text.map_err(|error| DeliverError::Reject(error.into()))?;
            if !text.ends_with('\n') {
                text.push('\n');
            }
            let mut letter = way.letter.clone();
            letter.body = text.into();
            courier.send(&way.address, letter).await?;
            drop(courier);
            Ok(())
        }
    }

    /// Takes our metrics away: a gateway keeps what it has for ever.
    fn leave(&self) -> impl Future<Output = Result<(), BoxError>> + Send + use<> {
        let way = Arc::clone(&self.way);
        async move {
            let letter = Letter {
                method: Method::DELETE,
                ..way.letter.clone()
            };
            way.courier.lock().await.send(&way.address, letter).await?;
            Ok(())
        }
    }
}

impl Processor for Pusher {
    fn deliver<'a>(
        &'a mut self,
        _batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        Box::pin(self.push())
    }

    fn send_besides(&mut self, due: Due) -> Option<BoxFuture<'static, Result<(), BoxError>>> {
        match due {
            Due::End => Some(Box::pin(self.leave())),
            // Without traffic there are still budgets that begin anew.
            Due::Tick if self.clock.mono() >= self.pushed + self.interval => {
                let push = self.push();
                Some(Box::pin(async { Ok(push.await?) }))
            },
            Due::Tick | Due::Now => None,
        }
    }

    fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SystemClock;

    #[test]
    fn a_label_that_is_no_plain_word_goes_in_base64() {
        assert_eq!(
            group("raaf", Some("pod-1")),
            "/metrics/job/raaf/instance/pod-1"
        );
        assert_eq!(group("raaf", None), "/metrics/job/raaf");
        assert_eq!(group("raaf", Some("")), "/metrics/job/raaf");
        let group = group("a/b", Some("10.0.0.1:4100"));
        assert_eq!(
            group,
            "/metrics/job@base64/YS9i/instance@base64/MTAuMC4wLjE6NDEwMA"
        );
        assert_eq!(label("job", ".."), "job@base64/Li4");
        assert_eq!(label("job", "größe"), "job@base64/Z3LDtsOfZQ");
    }

    #[test]
    fn what_cannot_be_is_said_with_its_key() {
        let context = BuildContext::new(Arc::new(SystemClock));
        for (yaml, word) in [
            ("{}", "push_gateway is missing"),
            ("{push_gateway: 'http://x'}", "job:"),
            ("{push_gateway: x, job: a}", "push_gateway: it is no http"),
            (
                "{push_gateway: 'http://x', job: a, interval: 0s}",
                "interval",
            ),
        ] {
            let config: Config = serde_saphyr::from_str(yaml).unwrap();
            let error = build(&config, &context).unwrap_err().to_string();
            assert!(error.contains(word), "{yaml}: {error}");
        }
    }
}
