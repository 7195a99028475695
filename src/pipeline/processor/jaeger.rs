//! Spans to Jaeger: over OTLP, or, where the endpoint is that of older collectors, as Thrift.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, header::CONTENT_TYPE};

use self::thrift::Process;
use super::{
    super::{BuildContext, Outlet, Record},
    BoxFuture, BuildError, DeliverError, Processor,
    otlp::{Plan, Profile, config},
};
use crate::net::post::{Address, Compression, Courier, Letter, headers};

mod thrift;

/// The end of an endpoint that takes Thrift.
const THRIFT: &str = "/api/traces";

config! {
    /// `{type: jaeger, …}`
    {}
}

/// Makes the processor.
pub(super) fn build(config: &Config, context: &BuildContext) -> Result<Outlet, BuildError> {
    let mut plan = config.plan("jaeger");
    let endpoint = plan.endpoint.as_ref().map(Address::parse).transpose();
    let endpoint = endpoint.map_err(|error| plan.error(format!("endpoint: {error}")))?;
    let thrift = endpoint.filter(|it| it.path().trim_end_matches('/').ends_with(THRIFT));
    let Some(address) = thrift else {
        plan.collector();
        return plan.build(context);
    };
    let jaeger = Jaeger::new(&plan, address, context)?;
    Ok(context.remote("jaeger", jaeger))
}

/// Sends Thrift over HTTP.
struct Jaeger {
    courier: Courier,
    address: Address,
    headers: HeaderMap,
    compression: Compression,
    process: Process,
    profile: Profile,
}

impl Jaeger {
    fn new(plan: &Plan, address: Address, context: &BuildContext) -> Result<Self, BuildError> {
        if plan.protocol.is_some() {
            let reason = format!("protocol: an endpoint that ends in {THRIFT} takes Thrift alone");
            return Err(plan.error(reason));
        }
        let courier = context.courier(&plan.tls, plan.proxy.as_ref());
        let headers = headers(&plan.headers);
        let mut headers = headers.map_err(|error| plan.error(error.to_string()))?;
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-thrift"),
        );
        Ok(Self {
            courier: courier.map_err(|error| plan.error(error.to_string()))?,
            address,
            headers,
            // Collectors of that age do not all take anything else.
            compression: plan.compression.unwrap_or(Compression::None),
            process: Process {
                service: context.service_name.clone(),
                environment: context.environment.clone(),
                tags: context.resource(&plan.resource),
            },
            profile: plan.profile.unwrap_or_default(),
        })
    }
}

impl Processor for Jaeger {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        let letter = Letter {
            method: Method::POST,
            headers: self.headers.clone(),
            body: thrift::batch(batch, &self.process, self.profile).into(),
            compression: self.compression,
        };
        Box::pin(async move {
            self.courier.send(&self.address, letter).await?;
            Ok(())
        })
    }

    fn host(&self) -> Option<&str> {
        self.address.host()
    }
}
