//! Spans on their way out, with real threads.

mod content;
mod counts;
mod files;
mod grpc;
mod isolation;
mod openai;
mod otlp;
mod sink;
mod sinks;
mod webhook;
