//! Spans as messages to a web address: JSON, or a text of the user's own; signed, and not too many
//! at once.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    sync::Arc,
    time::Duration,
};

use http::{HeaderName, HeaderValue, header::CONTENT_TYPE};
use ring::hmac;
use serde::Deserialize;

use self::template::{Shown, Template, TemplateError};
use super::{
    super::{BuildContext, Outlet, Record, Sampling, Unit, options::Lasting},
    BoxFuture, BuildError, DeliverError, Processor, Upkeep,
};
use crate::{
    base::{
        clock::{Clock, Instant, Timestamp},
        money::Usd,
        secret::Secret,
    },
    call::{labels::Label, outcome::Status},
    net::{
        config::Egress,
        post::{Address, Compression, Courier, Letter, Tls, headers},
    },
};

mod template;

/// Where the signature stands.
const SIGNATURE: HeaderName = HeaderName::from_static("x-tollgate-signature");

/// `{type: webhook, …}`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where messages are posted.
    pub url: Option<Secret>,
    /// Headers of each message.
    pub headers: BTreeMap<Box<str>, Secret>,
    /// What each message is.
    pub content_type: Box<str>,
    /// Its text, as a template; none: `{"spans": [...], "suppressed": 0}`.
    pub template: Option<Box<str>>,
    /// What messages are signed with; none: they are not.
    pub signing_secret: Option<Secret>,
    /// How many may be sent; none: any number.
    pub rate_limit: Option<RateLimit>,
    /// Calls that did not fail and cost less, or nobody knows what, are not for it.
    pub min_cost_usd: Option<Usd>,
    /// How messages are compressed.
    pub compression: Compression,
    /// Certificates of its own.
    pub tls: Tls,
    /// The proxy on the way there; none: that of `upstream`.
    pub proxy: Option<Egress>,
}

/// `rate_limit: {messages: 20, per: 1m}`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// The most messages, up to 1000 …
    pub messages: u16,
    /// … in any such time.
    pub per: Lasting,
}

impl RateLimit {
    /// The most messages that are remembered.
    const MOST: u16 = 1_000;
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: None,
            headers: BTreeMap::new(),
            content_type: Box::from("application/json"),
            template: None,
            signing_secret: None,
            rate_limit: None,
            min_cost_usd: None,
            compression: Compression::None,
            tls: Tls::default(),
            proxy: None,
        }
    }
}

/// Makes the processor. A message is sent for each span, at once, unless the options say otherwise.
pub(super) fn build(config: &Config, context: &BuildContext) -> Result<Outlet, BuildError> {
    named("webhook", config, context)
}

/// The same, for a type that is a webhook with settings of its own.
pub(super) fn named(
    name: &'static str,
    config: &Config,
    context: &BuildContext,
) -> Result<Outlet, BuildError> {
    let wrong = |reason: String| BuildError {
        processor: name,
        reason,
    };
    let url = config.url.as_ref();
    let url = url.ok_or_else(|| wrong("url is missing: where are messages posted?".to_owned()))?;
    let address = Address::parse(url).map_err(|error| wrong(format!("url: {error}")))?;
    if let Some(limit) = config.rate_limit
        && !(1..=RateLimit::MOST).contains(&limit.messages)
    {
        let most = RateLimit::MOST;
        return Err(wrong(format!("rate_limit.messages: expected 1 to {most}")));
    }
    let mut headers = headers(&config.headers).map_err(BuildError::of(name))?;
    let content_type = HeaderValue::from_str(&config.content_type);
    let content_type = content_type.map_err(|error| wrong(format!("content_type: {error}")))?;
    headers.insert(CONTENT_TYPE, content_type);
    let template = config.template.as_deref();
    let template = template.map(|text| Template::new(text, &config.content_type));
    let hook = Webhook {
        courier: context
            .courier(&config.tls, config.proxy.as_ref())
            .map_err(BuildError::of(name))?,
        address,
        letter: Letter {
            headers,
            compression: config.compression,
            ..Letter::json("")
        },
        template: template.transpose().map_err(BuildError::of(name))?,
        key: config
            .signing_secret
            .as_ref()
            .map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes())),
        limit: config.rate_limit.map(Limit::new),
        unsaid: 0,
        suppressed: 0,
        clock: Arc::clone(&context.clock),
        service_name: context.service_name.clone(),
        environment: context.environment.clone(),
    };
    let mut outlet = context.remote(name, hook);
    outlet.delivery.batch = 1;
    outlet.delivery.max_age = Duration::ZERO;
    outlet.filter.min_cost = config.min_cost_usd;
    outlet.unit = Unit::Span;
    // It may warn: it is sampled only if that is said of itself.
    outlet.sampling = Some(Sampling::default());
    Ok(outlet)
}

struct Webhook {
    courier: Courier,
    address: Address,
    /// Every message but for its body.
    letter: Letter,
    template: Option<Template>,
    key: Option<hmac::Key>,
    limit: Option<Limit>,
    /// Spans that no message was sent for since the last one.
    unsaid: u64,
    /// The same since the last upkeep.
    suppressed: u64,
    clock: Arc<dyn Clock>,
    service_name: Box<str>,
    environment: Option<Box<str>>,
}

impl Webhook {
    fn body(&self, batch: &[Arc<Record>]) -> Result<Vec<u8>, TemplateError> {
        let Some(template) = &self.template else {
            let lines: Vec<&str> = batch.iter().map(|record| &*record.line).collect();
            let (spans, unsaid) = (lines.join(","), self.unsaid);
            return Ok(format!("{{\"spans\":[{spans}],\"suppressed\":{unsaid}}}").into_bytes());
        };
        let spans = batch.iter();
        let spans = spans.filter_map(|record| serde_json::from_str(&record.line).ok());
        let first = batch.first().map(|record| &record.span);
        let failed = |status| matches!(status, Status::Error | Status::Blocked);
        template.render(Shown {
            spans: spans.collect(),
            agent: first.and_then(|span| span.labels.get(Label::Agent)),
            model: first.and_then(|span| span.model()),
            failed: first.is_some_and(|span| failed(span.status)),
            suppressed: self.unsaid,
            service_name: &self.service_name,
            environment: self.environment.as_deref(),
        })
    }

    async fn send(&mut self, batch: &[Arc<Record>]) -> Result<(), DeliverError> {
        let now = self.clock.mono();
        if self.limit.as_mut().is_some_and(|limit| limit.is_met(now)) {
            let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
            self.unsaid += count;
            self.suppressed += count;
            return Ok(());
        }
        let body = self
            .body(batch)
            .map_err(|error| DeliverError::Reject(error.into()))?;
        let mut letter = self.letter.clone();
        if let Some(key) = &self.key {
            let signature = signature(key, self.clock.wall(), &body);
            // Digits and letters always make a value.
            if let Ok(value) = HeaderValue::from_str(&signature) {
                letter.headers.insert(SIGNATURE, value);
            }
        }
        letter.body = body.into();
        self.courier.send(&self.address, letter).await?;
        self.unsaid = 0;
        if let Some(limit) = &mut self.limit {
            limit.book(now);
        }
        Ok(())
    }
}

impl Processor for Webhook {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        Box::pin(self.send(batch))
    }

    fn upkeep(&mut self) -> Upkeep {
        Upkeep {
            suppressed: std::mem::take(&mut self.suppressed),
            ..Upkeep::default()
        }
    }

    fn host(&self) -> Option<&str> {
        self.address.host()
    }
}

/// `t=1795328714,v1=<hex>`: the time in seconds, and the HMAC-SHA256 of that, a dot and the body as it
/// is before compression. Whoever checks the time too cannot be shown an old message again.
fn signature(key: &hmac::Key, now: Timestamp, body: &[u8]) -> String {
    let seconds = now.as_secs();
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{seconds}.").as_bytes());
    context.update(body);
    let mut text = format!("t={seconds},v1=");
    for byte in context.sign().as_ref() {
        // Writing to a String cannot fail.
        let _ok = write!(text, "{byte:02x}");
    }
    text
}

/// The times of the last messages: at most as many as may be sent.
struct Limit {
    rate: RateLimit,
    sent: VecDeque<Instant>,
}

impl Limit {
    const fn new(rate: RateLimit) -> Self {
        Self {
            rate,
            sent: VecDeque::new(),
        }
    }

    /// Whether no further message may be sent now.
    fn is_met(&mut self, now: Instant) -> bool {
        let over = |at: &Instant| now.saturating_duration_since(*at) >= self.rate.per.0;
        while self.sent.front().is_some_and(over) {
            self.sent.pop_front();
        }
        self.sent.len() >= usize::from(self.rate.messages)
    }

    /// Books a message that arrived. One that did not can be tried again.
    fn book(&mut self, now: Instant) {
        self.sent.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SystemClock;

    #[test]
    fn a_signature_is_the_one_that_others_compute() {
        // printf '1795328714.{"a":1}' | openssl dgst -sha256 -hmac hush
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"hush");
        let now = Timestamp::from_secs(1_795_328_714);
        assert_eq!(
            signature(&key, now, b"{\"a\":1}"),
            "t=1795328714,v1=35750c806aea56ed7f9dc69f116eae988188df6b1c6b05b7ffe239f6abc8489c"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_counts_what_arrived_in_any_such_time() {
        let mut limit = Limit::new(RateLimit {
            messages: 2,
            per: Lasting(Duration::from_mins(1)),
        });
        let start = SystemClock.mono();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!limit.is_met(at(0)));
        limit.book(at(0));
        limit.book(at(30));
        assert!(limit.is_met(at(59)));
        assert!(!limit.is_met(at(60)));
        limit.book(at(60));
        assert!(limit.is_met(at(89)) && !limit.is_met(at(90)));
    }

    #[test]
    fn what_cannot_be_is_said_with_its_key() {
        let context = BuildContext::new(Arc::new(SystemClock));
        for (yaml, word) in [
            ("{}", "url is missing"),
            ("{url: 'ftp://x/hush'}", "url: it is no http"),
            ("{url: 'http://x', template: '{{ a'}", "template"),
            ("{url: 'http://x', headers: {'a b': c}}", "a b"),
            (
                "{url: 'http://x', rate_limit: {messages: 0, per: 1s}}",
                "1 to 1000",
            ),
            (
                "{url: 'http://x', tls: {client_cert: a.pem}}",
                "tls.client_key",
            ),
        ] {
            let config: Config = serde_saphyr::from_str(yaml).unwrap();
            let error = build(&config, &context).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("hush"), "{error}");
        }
    }
}
