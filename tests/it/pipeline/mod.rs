//! Spans on their way out, with real threads.

mod content;
mod counts;
mod datadog;
mod files;
mod grpc;
mod isolation;
mod metrics;
mod openai;
mod otlp;
mod sink;
mod sinks;
mod webhook;
