//! Slow and failed calls as messages in Slack, or in what understands the same: a webhook with a
//! template and limits of its own.

use std::time::Duration;

use serde::Deserialize;

use super::{
    super::{BuildContext, Outlet, Unit, options::Lasting},
    BuildError,
    webhook::{self, RateLimit},
};
use crate::{
    base::secret::Secret,
    net::{config::Egress, post::Tls},
};

/// The message. Slack takes some thousand characters a field, and escaping makes more of them.
const MESSAGE: &str = r#"{
  "text": {{
    ("AI operation failed" if failed else "Slow AI operation detected")
    ~ (" (and " ~ suppressed ~ " more)" if suppressed else "")
  }},
  "attachments": [{
    "color": {{ "danger" if failed else "warning" }},
    "fields": [
      {"title": "Operation", "value": {{ span.operation_name | cut(300) | slack }}, "short": true},
      {"title": "Duration", "value": {{ span.duration_ms ~ "ms" }}, "short": true},
      {"title": "Agent", "value": {{ agent | default("unknown", true) | cut(300) | slack }}, "short": true},
      {"title": "Model", "value": {{ model | default("unknown", true) | cut(300) | slack }}, "short": true}
    ]
  }]
}"#;

/// `{type: slack, …}`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The secret address of an incoming webhook; none: the variable `SLACK_WEBHOOK_URL`.
    pub webhook_url: Option<Secret>,
    /// Calls that took longer are told, in milliseconds; those that failed or were refused always are.
    pub alert_threshold: u64,
    /// How many messages may be sent; the next one says how many were not.
    pub rate_limit: RateLimit,
    /// Certificates of its own.
    pub tls: Tls,
    /// The proxy on the way there; none: that of `upstream`.
    pub proxy: Option<Egress>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            webhook_url: None,
            alert_threshold: 5_000,
            rate_limit: RateLimit {
                messages: 5,
                per: Lasting(Duration::from_mins(1)),
            },
            tls: Tls::default(),
            proxy: None,
        }
    }
}

/// Makes the processor.
pub(super) fn build(config: &Config, context: &BuildContext) -> Result<Outlet, BuildError> {
    let from_environment = || (context.variable)("SLACK_WEBHOOK_URL").map(Secret::new);
    let url = config.webhook_url.clone().or_else(from_environment);
    let url = url.ok_or_else(|| BuildError {
        processor: "slack",
        reason: "webhook_url is missing, and so is the variable SLACK_WEBHOOK_URL".to_owned(),
    })?;
    let hook = webhook::Config {
        url: Some(url),
        template: Some(Box::from(MESSAGE)),
        rate_limit: Some(config.rate_limit),
        tls: config.tls.clone(),
        proxy: config.proxy.clone(),
        ..webhook::Config::default()
    };
    let mut outlet = webhook::named("slack", &hook, context)?;
    // Longer than the threshold, not as long.
    let threshold = Duration::from_millis(config.alert_threshold);
    outlet.filter.min_duration = threshold.saturating_add(Duration::from_nanos(1));
    outlet.unit = Unit::All;
    Ok(outlet)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{super::super::testing::span, *};
    use crate::{
        base::clock::SystemClock,
        call::{outcome::Status, span::Span},
        pipeline::Record,
    };

    #[test]
    fn only_slow_and_failed_calls_are_told() {
        let config: Config = serde_saphyr::from_str("{webhook_url: 'http://slack/x'}").unwrap();
        let context = BuildContext::new(Arc::new(SystemClock));
        let filter = build(&config, &context).unwrap().filter;
        for (status, millis, told) in [
            (Status::Ok, 4_999, false),
            (Status::Ok, 5_000, false),
            (Status::Ok, 5_001, true),
            (Status::Error, 1, true),
            (Status::Blocked, 1, true),
            (Status::Cancelled, 1, false),
            (Status::Cancelled, 5_001, true),
        ] {
            let record = Record::new(Span {
                status,
                duration: Duration::from_millis(millis),
                ..span(1)
            });
            assert_eq!(filter.passes(&record), told, "{status:?} {millis}");
        }
    }

    #[test]
    fn the_address_may_come_from_the_environment() {
        let mut context = BuildContext::new(Arc::new(SystemClock));
        let error = build(&Config::default(), &context).unwrap_err();
        assert!(error.to_string().contains("SLACK_WEBHOOK_URL"), "{error}");
        context.variable =
            &|name| (name == "SLACK_WEBHOOK_URL").then(|| "http://slack/x".to_owned());
        assert!(build(&Config::default(), &context).is_ok());
    }
}
