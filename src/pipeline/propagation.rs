//! `tracing.propagation`: in which formats trace context comes, and whether it is sent on.

use serde::Deserialize;

/// `tracing.propagation` — trace context on its way to providers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Propagation {
    /// The formats that are read from a call, the preferred one first.
    pub formats: Vec<TraceFormat>,
    /// When a call to a provider carries it.
    pub send: Send,
}

/// A format of trace context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TraceFormat {
    /// `traceparent` and `tracestate`.
    W3c,
    /// `b3`, or `x-b3-…`.
    B3,
    /// `uber-trace-id`.
    Jaeger,
    /// `x-datadog-…`.
    Datadog,
}

/// When trace context is sent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Send {
    /// If the client sent it, in the format it used.
    #[default]
    IfPresent,
    /// With every call.
    Always,
    /// With none.
    Never,
}

impl Default for Propagation {
    fn default() -> Self {
        Self {
            formats: vec![
                TraceFormat::W3c,
                TraceFormat::B3,
                TraceFormat::Jaeger,
                TraceFormat::Datadog,
            ],
            send: Send::IfPresent,
        }
    }
}
