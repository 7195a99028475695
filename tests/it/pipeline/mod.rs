//! Spans on their way out, with real threads.

mod counts;
mod files;
mod isolation;
mod sink;
mod sinks;
mod webhook;
