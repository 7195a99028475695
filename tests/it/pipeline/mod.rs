//! Spans on their way out, with real threads.

mod content;
mod counts;
mod files;
mod isolation;
mod openai;
mod sink;
mod sinks;
mod webhook;
