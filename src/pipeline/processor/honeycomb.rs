//! Spans and metrics to Honeycomb, over OTLP.

use super::{
    super::{BuildContext, Outlet, options::Lasting},
    BuildError,
    otlp::{config, interval, variable},
};
use crate::base::secret::Secret;

config! {
    /// `{type: honeycomb, …}`
    {
        /// The key of the environment; else the variable `HONEYCOMB_API_KEY`.
        api_key: Option<Secret>,
        /// The name of the secret that is the key.
        api_key_secret: Option<String>,
        /// The dataset of metrics; with Honeycomb Classic, of spans too, which else are in the one of
        /// their `service.name`.
        dataset: Option<Secret>,
        /// Whether metrics are sent besides.
        metrics: bool,
        /// Between two messages with metrics; a minute by default.
        metrics_interval: Option<Lasting>,
    }
}

/// Makes the processor.
pub(super) fn build(config: &Config, context: &BuildContext) -> Result<Outlet, BuildError> {
    let mut plan = config.plan("honeycomb");
    let named = config.api_key_secret.as_deref();
    let named = named.map(|name| context.secret(name)).transpose();
    let named = named.map_err(BuildError::of("honeycomb"))?;
    let key = config.api_key.clone().or(named);
    let Some(key) = key.or_else(|| variable(context, &["HONEYCOMB_API_KEY"])) else {
        return Err(plan.error(
            "the key is missing: give api_key or api_key_secret, or set HONEYCOMB_API_KEY",
        ));
    };
    plan.header("x-honeycomb-team", key);
    if let Some(dataset) = &config.dataset {
        plan.header("x-honeycomb-dataset", dataset.clone());
    } else if config.metrics {
        return Err(plan.error("dataset: metrics need one"));
    }
    plan.endpoint_or(context, &["HONEYCOMB_API_ENDPOINT"]);
    let cloud = || Secret::new("https://api.honeycomb.io");
    plan.endpoint.get_or_insert_with(cloud);
    plan.metrics = interval(config.metrics, config.metrics_interval);
    plan.build(context)
}
