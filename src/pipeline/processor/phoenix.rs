//! Spans to Arize Phoenix, over OTLP.

use super::{
    super::{BuildContext, Outlet},
    BuildError,
    otlp::{Profile, Protocol, config, variable},
};
use crate::base::secret::Secret;

config! {
    /// `{type: phoenix, …}`
    {
        /// The key, where Phoenix asks for one; else the variable `PHOENIX_API_KEY`.
        api_key: Option<Secret>,
        /// The name of the secret that is the key.
        api_key_secret: Option<String>,
        /// The project; `default` by default, as Phoenix has it.
        project: Option<String>,
    }
}

/// Makes the processor.
pub(super) fn build(config: &Config, context: &BuildContext) -> Result<Outlet, BuildError> {
    let mut plan = config.plan("phoenix");
    if plan.protocol == Some(Protocol::Json) {
        return Err(plan.error("protocol: Phoenix takes http/protobuf and grpc"));
    }
    let named = config.api_key_secret.as_deref();
    let named = named.map(|name| context.secret(name)).transpose();
    let named = named.map_err(BuildError::of("phoenix"))?;
    let key = config.api_key.clone().or(named);
    if let Some(key) = key.or_else(|| variable(context, &["PHOENIX_API_KEY"])) {
        let bearer = Secret::new(format!("Bearer {}", key.expose()));
        plan.header("authorization", bearer);
    }
    if let Some(project) = &config.project {
        let name = "openinference.project.name".to_owned();
        plan.resource.entry(name).or_insert_with(|| project.clone());
    }
    plan.endpoint_or(context, &["PHOENIX_COLLECTOR_ENDPOINT"]);
    let local = match plan.protocol {
        Some(Protocol::Grpc) => "http://localhost:4317",
        _ => "http://localhost:6006",
    };
    plan.endpoint.get_or_insert_with(|| Secret::new(local));
    plan.profile.get_or_insert(Profile::Openinference);
    plan.build(context)
}
