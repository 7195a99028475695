//! Spans to Langfuse, over OTLP.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    super::{BuildContext, Outlet},
    BuildError,
    otlp::{Profile, Protocol, config, variable},
};
use crate::base::secret::Secret;

config! {
    /// `{type: langfuse, …}`
    {
        /// The public key of the project; else the variable `LANGFUSE_PUBLIC_KEY`.
        public_key: Option<Secret>,
        /// The secret key of the project; else the variable `LANGFUSE_SECRET_KEY`.
        secret_key: Option<Secret>,
    }
}

/// Makes the processor.
pub(super) fn build(config: &Config, context: &BuildContext) -> Result<Outlet, BuildError> {
    let mut plan = config.plan("langfuse");
    if plan.protocol == Some(Protocol::Grpc) {
        return Err(plan.error("protocol: Langfuse takes http/protobuf and http/json"));
    }
    let key = |own: &Option<Secret>, name| own.clone().or_else(|| variable(context, &[name]));
    let public = key(&config.public_key, "LANGFUSE_PUBLIC_KEY");
    let secret = key(&config.secret_key, "LANGFUSE_SECRET_KEY");
    let (Some(public), Some(secret)) = (public, secret) else {
        return Err(plan.error(
            "a key is missing: give public_key and secret_key, or set LANGFUSE_PUBLIC_KEY and \
             LANGFUSE_SECRET_KEY",
        ));
    };
    let both = STANDARD.encode(format!("{}:{}", public.expose(), secret.expose()));
    plan.header("authorization", Secret::new(format!("Basic {both}")));
    plan.header("x-langfuse-ingestion-version", Secret::new("4"));
    plan.endpoint_or(context, &["LANGFUSE_BASE_URL", "LANGFUSE_HOST"]);
    let cloud = || Secret::new("https://cloud.langfuse.com");
    plan.endpoint.get_or_insert_with(cloud);
    plan.base = "/api/public/otel";
    plan.profile.get_or_insert(Profile::Langfuse);
    plan.build(context)
}
