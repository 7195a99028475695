//! Spans on their way out, with real threads.

mod files;
mod isolation;
