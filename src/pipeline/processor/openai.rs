//! The traces dashboard of OpenAI: spans in the format of the OpenAI Agents SDK, sent to where its
//! exporter sends them.

mod encode;
mod sanitize;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{BoxFuture, BuildContext, BuildError, DeliverError, Outlet, Processor, Record};
use crate::{
    base::{id::TraceId, recent::Recent, secret::Secret},
    net::{
        config::Egress,
        post::{Address, Compression, Courier, Letter, Tls},
    },
    pipeline::Filter,
};

/// Where the SDK sends spans, whatever is configured there.
const OFFICIAL: &str = "https://api.openai.com/v1/traces/ingest";

/// What a trace is called if nothing says it.
const WORKFLOW: &str = "Agent workflow";

/// The bytes of waiting spans, where the configuration does not say otherwise.
const MEMORY: usize = 10_000_000;

/// How many traces are remembered as announced; an older one is announced again.
const TRACES: usize = 16_384;

const BETA: HeaderName = HeaderName::from_static("openai-beta");
const ORGANIZATION: HeaderName = HeaderName::from_static("openai-organization");
const PROJECT: HeaderName = HeaderName::from_static("openai-project");

/// `type: openai`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The key to send with; else `api_key_secret`, else the variable `OPENAI_API_KEY`.
    pub api_key: Option<Secret>,
    /// The name of the secret that holds the key.
    pub api_key_secret: Option<Box<str>>,
    /// `OpenAI-Organization`; else the variable `OPENAI_ORG_ID`.
    pub organization: Option<Box<str>>,
    /// `OpenAI-Project`; else the variable `OPENAI_PROJECT_ID`.
    #[serde(alias = "project_id")]
    pub project: Option<Box<str>>,
    /// Where spans are sent.
    pub endpoint: Secret,
    /// What a trace is called whose spans name no workflow.
    pub workflow_name: Option<Box<str>>,
    /// Whether spans are made fit for OpenAI's own server; by default if that is the endpoint.
    pub sanitize: Option<bool>,
    /// Certificates of the way there.
    pub tls: Tls,
    /// The egress proxy, if it is not that of `upstream`.
    pub proxy: Option<Egress>,
    /// Of the body.
    pub compression: Compression,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            api_key: None,
            api_key_secret: None,
            organization: None,
            project: None,
            endpoint: Secret::new(OFFICIAL),
            workflow_name: None,
            sanitize: None,
            tls: Tls::default(),
            proxy: None,
            compression: Compression::None,
        }
    }
}

/// Makes the processor. Without a key it says so and gets no spans.
///
/// # Errors
/// The endpoint is no address, or a header or certificate cannot be used.
pub(super) fn build(config: &Config, context: &BuildContext) -> Result<Outlet, BuildError> {
    let wrong = |key: &str, why: &dyn std::fmt::Display| BuildError {
        processor: "openai",
        reason: format!("{key}: {why}"),
    };
    let address = Address::parse(&config.endpoint).map_err(|why| wrong("endpoint", &why))?;
    let variable = |name| (context.variable)(name).filter(|value| !value.trim().is_empty());
    let given = |value: &Option<Box<str>>, name| {
        let given = value.as_deref().filter(|value| !value.trim().is_empty());
        given.map(str::to_owned).or_else(|| variable(name))
    };
    let key = key(config, context);
    let mut headers = HeaderMap::new();
    headers.insert(BETA, HeaderValue::from_static("traces=v1"));
    for (name, key, value) in [
        (
            ORGANIZATION,
            "organization",
            given(&config.organization, "OPENAI_ORG_ID"),
        ),
        (
            PROJECT,
            "project",
            given(&config.project, "OPENAI_PROJECT_ID"),
        ),
    ] {
        if let Some(value) = value {
            let value = HeaderValue::try_from(value.trim()).map_err(|why| wrong(key, &why))?;
            headers.insert(name, value);
        }
    }
    if let Some(key) = &key {
        let bearer = HeaderValue::try_from(format!("Bearer {}", key.expose().trim()));
        let mut bearer = bearer.map_err(|why| wrong("api_key", &why))?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    let is_official = config.endpoint.expose().trim_end_matches('/') == OFFICIAL;
    let dashboard = Dashboard {
        courier: context
            .courier(&config.tls, config.proxy.as_ref())
            .map_err(BuildError::of("openai"))?,
        address,
        headers,
        compression: config.compression,
        workflow: config.workflow_name.as_deref().unwrap_or(WORKFLOW).into(),
        sanitize: config.sanitize.unwrap_or(is_official),
        announced: Recent::new(TRACES),
    };
    let mut outlet = context.remote("openai", dashboard);
    outlet.delivery.memory = MEMORY;
    if key.is_none() {
        outlet.filter = Filter {
            successful: false,
            failed: false,
            ..Filter::default()
        };
    }
    Ok(outlet)
}

/// The key to send with. If there is none, that is told once, and nobody else is troubled.
fn key(config: &Config, context: &BuildContext) -> Option<Secret> {
    let given = config.api_key.clone();
    let given = given.filter(|key| !key.expose().trim().is_empty());
    if given.is_some() {
        return given;
    }
    let name = config.api_key_secret.as_deref();
    match context.secret(name.unwrap_or("OPENAI_API_KEY")) {
        Ok(key) => Some(key),
        Err(why) => {
            tracing::warn!(
                processor = "openai",
                "No spans go to OpenAI: {why}. Set OPENAI_API_KEY, or the processor's `api_key`"
            );
            None
        },
    }
}

/// The dashboard.
struct Dashboard {
    courier: Courier,
    address: Address,
    headers: HeaderMap,
    compression: Compression,
    workflow: Box<str>,
    sanitize: bool,
    /// Traces whose own item was taken.
    announced: Recent<TraceId>,
}

impl Dashboard {
    /// The items of a batch: spans, and before the first of a trace the trace.
    fn items(&self, batch: &[Arc<Record>]) -> (Vec<Value>, Vec<TraceId>) {
        let mut fresh = Vec::new();
        let mut items = Vec::with_capacity(batch.len());
        for record in batch {
            let trace = record.span.trace_id;
            if !self.announced.contains(&trace) && !fresh.contains(&trace) {
                fresh.push(trace);
                items.push(encode::trace(&record.span, &self.workflow));
            }
            let mut span = encode::span(record);
            if self.sanitize {
                sanitize::span(&mut span);
            }
            items.push(span);
        }
        (items, fresh)
    }
}

impl Processor for Dashboard {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        Box::pin(async move {
            let (items, fresh) = self.items(batch);
            let mut letter = Letter::json(json!({"data": items}).to_string());
            letter.compression = self.compression;
            letter.headers.extend(self.headers.clone());
            self.courier.send(&self.address, letter).await?;
            for trace in fresh {
                self.announced.insert(trace, ());
            }
            Ok(())
        })
    }

    fn host(&self) -> Option<&str> {
        self.address.host()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::clock::SystemClock, pipeline::Destination};

    fn built(yaml: &str, context: &BuildContext) -> Result<Outlet, BuildError> {
        let read: Destination = serde_saphyr::from_str(yaml).unwrap();
        read.config.build(context)
    }

    fn context() -> BuildContext {
        BuildContext::new(Arc::new(SystemClock))
    }

    #[test]
    fn without_a_key_nothing_is_for_it_and_nothing_fails() {
        let outlet = built("{type: openai}", &context()).unwrap();
        assert!(!outlet.filter.successful && !outlet.filter.failed);
        let context = BuildContext {
            variable: &|name| (name == "OPENAI_API_KEY").then(|| "sk-1".to_owned()),
            ..context()
        };
        let outlet = built("{type: openai}", &context).unwrap();
        assert_eq!(outlet.filter, Filter::default());
        assert_eq!(
            (outlet.delivery.memory, outlet.delivery.batch),
            (MEMORY, 100)
        );
    }

    #[test]
    fn both_names_of_the_project_are_known_and_what_cannot_be_is_named() {
        for key in ["project", "project_id"] {
            let yaml = format!("{{type: openai, api_key: sk-1, {key}: \"a\\nb\"}}");
            let error = built(&yaml, &context()).unwrap_err().to_string();
            assert!(error.contains("openai: project"), "{error}");
        }
        let error = built("{type: openai, api_key: k, endpoint: nowhere}", &context());
        assert!(error.unwrap_err().to_string().contains("endpoint"));
    }
}
