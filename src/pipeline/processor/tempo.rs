//! Spans to Grafana Tempo, over OTLP.

use super::{
    super::{BuildContext, Outlet},
    BuildError,
    otlp::config,
};
use crate::base::secret::Secret;

config! {
    /// `{type: tempo, …}`
    {
        /// The tenant, where Tempo has several.
        tenant: Option<Secret>,
    }
}

/// Makes the processor.
pub(super) fn build(config: &Config, context: &BuildContext) -> Result<Outlet, BuildError> {
    let mut plan = config.plan("tempo");
    if let Some(tenant) = &config.tenant {
        plan.header("x-scope-orgid", tenant.clone());
    }
    plan.collector();
    plan.build(context)
}
