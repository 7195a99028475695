//! Spans on their way out, with real threads.

mod content;
mod counts;
mod database;
mod datadog;
mod exec;
mod files;
mod grpc;
mod isolation;
mod metrics;
mod openai;
mod otlp;
mod postgres;
mod sink;
mod sinks;
mod webhook;
