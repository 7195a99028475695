//! Which host a destination is on, as far as its own options say: there may be keys in the rest of an
//! address, so the host is all that is ever shown of it.

use http::Uri;

use crate::{base::secret::Secret, pipeline::ProcessorConfig};

/// The host's name or address; none: it is on this machine, or not configured here.
pub(super) fn of(config: &ProcessorConfig) -> Option<Box<str>> {
    let secret = match config {
        ProcessorConfig::Statsd(statsd) => return named(&statsd.address),
        ProcessorConfig::ObjectStore(store) => return named(store.endpoint.as_deref()?),
        ProcessorConfig::Openai(openai) => Some(&openai.endpoint),
        ProcessorConfig::Database(database) => {
            let url = database.url.as_ref();
            url.filter(|url| !url.expose().starts_with("sqlite:"))
        },
        ProcessorConfig::Datadog(datadog) => datadog.endpoint.as_ref(),
        ProcessorConfig::Honeycomb(honeycomb) => honeycomb.endpoint.as_ref(),
        ProcessorConfig::Jaeger(jaeger) => jaeger.endpoint.as_ref(),
        ProcessorConfig::Langfuse(langfuse) => langfuse.endpoint.as_ref(),
        ProcessorConfig::Otlp(otlp) => otlp.endpoint.as_ref(),
        ProcessorConfig::Phoenix(phoenix) => phoenix.endpoint.as_ref(),
        ProcessorConfig::Prometheus(prometheus) => prometheus.push_gateway.as_ref(),
        ProcessorConfig::Slack(slack) => slack.webhook_url.as_ref(),
        ProcessorConfig::Tempo(tempo) => tempo.endpoint.as_ref(),
        ProcessorConfig::Webhook(webhook) => webhook.url.as_ref(),
        ProcessorConfig::Console(_) | ProcessorConfig::Exec(_) | ProcessorConfig::File(_) => None,
    };
    named(secret.map(Secret::expose)?)
}

/// The host in an address. A `@` behind it may be the end of a password with a `/` in it: then nothing
/// is sure to be the host.
fn named(address: &str) -> Option<Box<str>> {
    let uri: Uri = address.parse().ok()?;
    let rest = uri.path_and_query().map_or("", |rest| rest.as_str());
    let host = uri.host().filter(|host| !host.is_empty());
    host.filter(|_| !rest.contains('@')).map(Box::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Destination;

    #[test]
    fn the_host_is_told_and_nothing_else_of_an_address() {
        for (yaml, host) in [
            (
                "{type: webhook, url: 'https://h.example:1/key?k=v'}",
                Some("h.example"),
            ),
            ("{type: otlp, endpoint: 'http://[::1]:4318'}", Some("[::1]")),
            ("{type: statsd, address: 'stats:8125'}", Some("stats")),
            ("{type: statsd, address: /run/statsd.sock}", None),
            ("{type: statsd, address: 'unix:///run/statsd.sock'}", None),
            (
                "{type: database, url: 'postgres://u:hush@db:5432/x'}",
                Some("db"),
            ),
            (
                "{type: database, url: 'postgres://u:hu/sh@db:5432/x'}",
                None,
            ),
            ("{type: database, url: 'sqlite:///var/x.db'}", None),
            ("{type: database, url: 'sqlite:x.db'}", None),
            ("{type: console}", None),
        ] {
            let all: Vec<Destination> = serde_saphyr::from_str(&format!("[{yaml}]")).unwrap();
            assert_eq!(of(&all[0].config).as_deref(), host, "{yaml}");
        }
    }
}
